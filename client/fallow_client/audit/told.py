"""What the ledger told people of its books: monthly statements, daily reports, restores; against the journal.

Each names the entries that it was made from, so it is computed from those and no later ones.
"""

from __future__ import annotations

import json
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

from fallow_wire.errors import PeerError
from fallow_wire.journal import GENESIS
from fallow_wire.jws import Kind, verify
from fallow_wire.keys import PublicKey
from fallow_wire.statements import ServiceLine, Statement, StatementLine, month_span

from .books import DAY_S
from .report import Report

_KIND = "substr(account, 1, instr(account, ':') - 1)"
"""Of an account, in SQL."""
MINT = "mint"


def check_told(database: sqlite3.Connection, report: Report, keys: Mapping[str, PublicKey]) -> None:
    """:param keys: the ledger's, by ``kid``."""
    for row in database.execute("SELECT * FROM statements"):
        _check_statement(database, report, row, keys)
    _check_reports(database, report)
    for row in database.execute("SELECT * FROM restores"):
        report.differ("restores", row["at"], "hash", row["hash"], _hash_at(database, row["entries"]))


def _check_statement(
    database: sqlite3.Connection, report: Report, row: sqlite3.Row, keys: Mapping[str, PublicKey]
) -> None:
    where = f"{row['account']} {row['month']}"
    try:
        statement = verify(row["token"], Kind.STATEMENT, Statement, keys.get).value
        span = month_span(statement.month)
    except PeerError as error:
        report.differ("statements", where, "signed statement", row["token"], error.detail)
        return
    report.signatures += 1
    named = (statement.account, statement.month, statement.complete, (statement.from_at, statement.until_at))
    report.differ("statements", where, "what it is of", named, (row["account"], row["month"], True, span))
    report.differ("statements", where, "head", statement.head.hash, _hash_at(database, statement.head.entries))
    opening: Counter[str] = Counter()
    closing: Counter[str] = Counter()
    for kind, before, amount in database.execute(
        f"SELECT {_KIND}, at < ?, sum(micro_points) FROM entries "
        "WHERE holder = ? AND at < ? AND seq <= ? GROUP BY 1, 2",
        (span[0], statement.account, span[1], statement.head.entries),
    ):
        if kind != MINT:
            closing[kind] += amount
            opening[kind] += amount if before else 0
    report.differ("statements", where, "opening balances", _some(statement.opening), _some(opening))
    report.differ("statements", where, "closing balances", _some(statement.closing), _some(closing))
    within = (statement.account, *span, statement.head.entries)
    lines = database.execute(
        f"SELECT {_KIND}, kind, iif(micro_points > 0, 'in', 'out'), count(*), sum(abs(micro_points)) FROM entries "
        f"WHERE holder = ? AND at >= ? AND at < ? AND seq <= ? AND {_KIND} <> '{MINT}' "
        "GROUP BY 1, 2, 3 ORDER BY 1, 2, 3",
        within,
    )
    report.differ("statements", where, "movements", statement.lines, tuple(StatementLine(*line) for line in lines))
    services = database.execute(
        "SELECT service, tier, count(*), sum(paid_bytes), sum(micro_points) FROM settlements "
        "WHERE (owner = ?1 OR publisher = ?1) AND booked_at >= ?2 AND booked_at < ?3 "
        "AND (entry_seq IS NULL OR entry_seq <= ?4) GROUP BY 1, 2 ORDER BY 1, 2",
        within,
    )
    report.differ("statements", where, "deliveries", statement.services, tuple(ServiceLine(*line) for line in services))


def _check_reports(database: sqlite3.Connection, report: Report) -> None:
    """In the order of their entries, so that the journal is summed once for all of them."""
    places: Counter[str] = Counter()
    moved: dict[int, Counter[str]] = defaultdict(Counter)
    done = 0
    for row, told in sorted(_read_reports(database, report), key=lambda one: one[1]["entries"]):
        entries = told["entries"]
        for account, day, kind, amount, moving in database.execute(
            f"SELECT {_KIND}, at / {DAY_S}, kind, sum(micro_points), sum(max(micro_points, 0)) FROM entries "
            "WHERE seq > ? AND seq <= ? GROUP BY 1, 2, 3",
            (done, entries),
        ):
            places[account] += amount
            moved[day][kind] += moving
        done = max(done, entries)
        day = row["day"]
        report.differ("reports", day, "day, time and soundness", tuple(row)[:3], _head_of(told))
        report.differ("reports", day, "supply", told.get("supply"), -places[MINT])
        report.differ("reports", day, "places", _some(told.get("places")), _some({**places, MINT: 0}))
        report.differ("reports", day, "movements", told.get("moved"), _some(moved[day]))
    (entries,) = database.execute("SELECT count(*) FROM entries").fetchone()
    if done > entries:
        report.differ("reports", "the newest", "entries", done, entries)


def _read_reports(database: sqlite3.Connection, report: Report) -> Iterator[tuple[sqlite3.Row, dict[str, Any]]]:
    for row in database.execute("SELECT day, at, sound, report FROM reports ORDER BY day"):
        try:
            told = json.loads(row["report"])
            whole = type(told["entries"]) is int
        except (ValueError, KeyError, TypeError):
            whole = False
        if whole:
            yield row, told
        else:
            report.differ("reports", row["day"], "form", row["report"], "a report")


def _head_of(told: Mapping[str, Any]) -> tuple[Any, Any, int]:
    return told.get("day"), told.get("at"), int(told.get("sound") is True)


def _hash_at(database: sqlite3.Connection, entries: int) -> str | None:
    """The hash of the chain after so many entries."""
    if entries == 0:
        return GENESIS
    found = database.execute("SELECT hash FROM entries WHERE seq = ?", (entries,)).fetchone()
    return found["hash"] if found else None


def _some(amounts: object) -> object:
    """Balances that are not zero."""
    return {name: left for name, left in amounts.items() if left} if isinstance(amounts, Mapping) else amounts
