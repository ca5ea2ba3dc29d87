"""Accounts of owners, publishers and operators; their tokens; and the claims that bind devices to owners."""
