"""Migrations of the scheduler's database."""
