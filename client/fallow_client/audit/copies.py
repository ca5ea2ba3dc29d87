"""Rows that follow from nothing else (accounts, devices' owners, rewards, …) against the copies that triggers keep.

A ledger's SQLite file has them; an export does not, for there are secrets among them.
"""

from __future__ import annotations

import re
import sqlite3

from .report import Report

_ADD = re.compile(r"INSERT INTO copies VALUES \('(\w+)', (json_array\(.*?\)), (json_array\(.*?\))\);")


def check_copies(database: sqlite3.Connection, report: Report) -> None:
    """What is copied, and how, stands in the triggers themselves."""
    query = "SELECT sql FROM sqlite_master WHERE type = 'trigger' AND name LIKE '%_copy_insert'"
    copied = set()
    for (sql,) in database.execute(query).fetchall():
        found = _ADD.search(sql)
        if found is None:
            report.differ("sqlite_master", "trigger", "form", sql, "a trigger that copies rows")
            continue
        copied.add(found[1])
        table, key, content = found[1], found[2].replace("NEW.", ""), found[3].replace("NEW.", "")
        rows = {row[0]: row[1] for row in database.execute(f"SELECT {key}, {content} FROM {table}")}
        kept = {
            row["key"]: row["content"] for row in database.execute("SELECT * FROM copies WHERE origin = ?", (table,))
        }
        for name in rows.keys() | kept.keys():
            report.differ(table, name, "copy", rows.get(name), kept.get(name))
    if database.execute("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'copies'").fetchone():
        for (origin,) in database.execute("SELECT DISTINCT origin FROM copies").fetchall():
            report.differ("copies", origin, "trigger that copies", origin in copied, True)
