"""Limits that more than one concern of the server keeps, with their reasons."""

from __future__ import annotations

TOKENS_PER_ACCOUNT_MAX = 16
"""Of one account at a time; both databases keep a row for each, and one message to the ledger carries all."""
