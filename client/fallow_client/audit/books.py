"""The journal and what follows from it: chain, postings, balances, roots, held points, redemptions."""

from __future__ import annotations

import hashlib
import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Mapping

from fallow_wire.batches import Head
from fallow_wire.errors import PeerError
from fallow_wire.journal import GENESIS, MOVES, Entry, held_parts
from fallow_wire.jws import Kind, verify
from fallow_wire.keys import PublicKey

from .report import Report

DAY_S = 86_400
OUTCOME = {"fulfilled": "fulfilment", "voided": "voiding"}
"""The posting that resolves a redemption, by its state."""


def check_books(database: sqlite3.Connection, report: Report, keys: Mapping[str, PublicKey]) -> None:
    """Everything that needs no proof of service."""
    sums = _check_entries(database, report)
    _check_balances(database, report, sums)
    _check_roots(database, report, keys)
    _check_holds(database, report)
    _check_redemptions(database, report)


def _check_entries(database: sqlite3.Connection, report: Report) -> dict[str, int]:
    """Chain and postings.

    :return: the sum of each account's entries.
    """
    sums: dict[str, int] = defaultdict(int)
    previous, expected = GENESIS, 1
    posting: list[sqlite3.Row] = []
    for row in database.execute("SELECT * FROM entries ORDER BY seq"):
        report.differ("entries", row["seq"], "seq", row["seq"], expected)
        previous = _check_entry(report, row, previous)
        expected = row["seq"] + 1 if type(row["seq"]) is int else expected + 1
        if type(row["micro_points"]) is int:
            sums[row["account"]] += row["micro_points"]
        if posting and row["posting"] != posting[0]["posting"]:
            _check_posting(report, posting)
            posting = []
        posting.append(row)
        report.entries += 1
    if posting:
        _check_posting(report, posting)
    report.head = previous
    report.sum = sum(sums.values())
    report.accounts = len(sums)
    report.differ("entries", "all", "sum", report.sum, 0)
    stored = [tuple(row) for row in database.execute("SELECT entries, hash FROM chain_head")]
    report.differ("chain_head", 1, "head", stored, [(report.entries, previous)])
    return sums


def _check_entry(report: Report, row: sqlite3.Row, previous: str) -> str:
    """:return: the hash to go on from: the stored one where it can be one, so that one change is one finding."""
    values = [row[name] for name in ("seq", "at", "kind", "account", "micro_points", "posting", "ref")]
    kinds = (int, int, str, str, int, str, str)
    if [type(value) for value in values] != list(kinds):
        report.differ("entries", row["seq"], "form", values, [kind.__name__ for kind in kinds])
        computed = ""
    else:
        computed = Entry(*values).hash_after(previous)
    report.differ("entries", row["seq"], "hash", row["hash"], computed)
    report.differ("entries", row["seq"], "holder", row["holder"], _parts_of(row["account"])[1])
    stored: str = row["hash"]
    return stored if _is_hash(stored) else hashlib.sha256(str(stored).encode()).hexdigest()


def _check_posting(report: Report, posting: list[sqlite3.Row]) -> None:
    """Two entries, of one kind, between the accounts of that kind, that sum to zero."""
    first = posting[0]
    moved = [row["micro_points"] for row in posting if type(row["micro_points"]) is int]
    report.differ("entries", first["seq"], "sum of the posting", sum(moved), 0)
    kinds = tuple(_parts_of(row["account"])[0] for row in posting)
    report.differ("entries", first["seq"], "accounts of the posting", kinds, MOVES.get(first["kind"]))
    once = {(row["kind"], row["ref"], row["at"]) for row in posting}
    report.differ("entries", first["seq"], "kind, ref and time of the posting", len(once), 1)


def _check_balances(database: sqlite3.Connection, report: Report, sums: Mapping[str, int]) -> None:
    seen = set()
    for row in database.execute("SELECT * FROM balances"):
        account = row["account"]
        seen.add(account)
        report.differ("balances", account, "micro_points", row["micro_points"], sums.get(account, 0))
        parts = (row["kind"], row["holder"], row["hour"])
        report.differ("balances", account, "kind, holder and hour", parts, _parts_of(account))
        if not account.startswith("mint:") and sums.get(account, 0) < 0:
            report.differ("balances", account, "below zero", sums[account], 0)
    for account, total in sums.items():
        if account not in seen and total:  # hours that are released stand at zero for good and have no row
            report.differ("balances", account, "missing", None, total)


def _check_roots(database: sqlite3.Connection, report: Report, keys: Mapping[str, PublicKey]) -> None:
    before = None
    for row in database.execute("SELECT * FROM roots ORDER BY day"):
        day = row["day"]
        if before is not None:
            report.differ("roots", day, "the day before", before, day - 1)
        before = day
        at = (row["entries"],)
        found = database.execute("SELECT hash FROM entries WHERE seq = ?", at).fetchone()
        report.differ("roots", day, "hash", row["hash"], found["hash"] if found else GENESIS)
        report.differ("roots", day, "root", *_signed_head(row, keys))
        end = (day + 1) * DAY_S
        later = database.execute("SELECT min(seq) FROM entries WHERE seq > ? AND at < ?", (*at, end)).fetchone()[0]
        report.differ("roots", day, "entry of the day that it leaves out", later, None)
        report.signatures += 1


def _signed_head(row: sqlite3.Row, keys: Mapping[str, PublicKey]) -> tuple[object, object]:
    try:
        signed: object = verify(row["token"], Kind.HEAD, Head, keys.get).value
    except PeerError as error:
        signed = error.detail
    return signed, Head(row["entries"], row["hash"], (row["day"] + 1) * DAY_S)


def _check_holds(database: sqlite3.Connection, report: Report) -> None:
    """Held points by when they mature, from the settlements; and when each owner began to earn."""
    query = "SELECT owner, min(booked_at) FROM settlements WHERE micro_points > 0 GROUP BY owner"
    since = dict(_pairs(database.execute(query)))
    stored = dict(_pairs(database.execute("SELECT owner, since FROM earners")))
    for owner in since.keys() | stored.keys():
        report.differ("earners", owner, "since", stored.get(owner), since.get(owner))

    expected = _maturing(database, report)
    vested_until = dict(
        _pairs(database.execute("SELECT holder, max(at) FROM entries WHERE kind = 'vesting' GROUP BY holder"))
    )
    waiting: dict[str, int] = defaultdict(int)
    rows = {(row["owner"], row["matures_at"]): row["micro_points"] for row in database.execute("SELECT * FROM holds")}
    for (owner, at), amount in rows.items():
        waiting[owner] += amount if type(amount) is int else 0
        # In the second of a vesting more may have been booked after it.
        if at != vested_until.get(owner):
            report.differ("holds", f"{owner} {at}", "micro_points", amount, expected.get((owner, at), 0))
    for (owner, at), amount in expected.items():
        if amount and at > vested_until.get(owner, 0) and (owner, at) not in rows:
            report.differ("holds", f"{owner} {at}", "missing", None, amount)
    query = "SELECT holder, micro_points FROM balances WHERE kind = 'held'"
    held = dict(_pairs(database.execute(query)))
    for owner in held.keys() | waiting.keys():
        report.differ("holds", owner, "sum", waiting.get(owner, 0), held.get(owner, 0))


def _maturing(database: sqlite3.Connection, report: Report) -> dict[tuple[str, int], int]:
    """µp of all settlements by owner and time of maturing, less what was clawed back."""
    found: dict[tuple[str, int], int] = defaultdict(int)
    late = "CASE WHEN late_at IS NULL THEN 0 ELSE micro_points / 2 END"
    for owner, at, amount in database.execute(
        f"SELECT owner, matures_at, sum(micro_points - {late}) FROM settlements GROUP BY 1, 2 UNION ALL "
        f"SELECT owner, late_at, sum({late}) FROM settlements WHERE late_at IS NOT NULL GROUP BY 1, 2"
    ):
        found[owner, at] += amount
    taken: dict[str, int] = defaultdict(int)
    query = (
        "SELECT settlements.jti, owner, settlements.micro_points, matures_at, late_at, clawbacks.at AS clawed_at "
        "FROM settlements JOIN clawbacks USING (jti)"
    )
    for row in database.execute(query):
        for at, amount in held_parts(row["micro_points"], row["matures_at"], row["late_at"]):
            if at > row["clawed_at"]:
                found[row["owner"], at] -= amount
                taken[row["jti"]] += amount
    _check_clawbacks(database, report, taken)
    return found


def _check_clawbacks(database: sqlite3.Connection, report: Report, taken: Mapping[str, int]) -> None:
    posted = {
        row["ref"]: (row["seq"] - 1, row["at"], row["micro_points"])
        for row in database.execute("SELECT * FROM entries WHERE kind = 'clawback' AND micro_points > 0")
    }
    seen = set()
    for row in database.execute("SELECT * FROM clawbacks"):
        seen.add(row["jti"])
        stored = (row["entry_seq"], row["at"], row["micro_points"])
        report.differ("clawbacks", row["jti"], "posting", stored, posted.get(row["jti"]))
        report.differ("clawbacks", row["jti"], "micro_points", row["micro_points"], taken.get(row["jti"], 0))
    for jti in posted.keys() - seen:
        report.differ("clawbacks", jti, "missing", None, posted[jti])


def _check_redemptions(database: sqlite3.Connection, report: Report) -> None:
    posted: dict[tuple[str, str], tuple[str, int, int]] = {}
    for row in database.execute(
        "SELECT * FROM entries WHERE kind IN ('redemption', 'fulfilment', 'voiding') AND micro_points > 0"
    ):
        posted[row["kind"], row["ref"]] = (row["holder"], row["micro_points"], row["at"])
    seen = set()
    for row in database.execute("SELECT * FROM redemptions"):
        seen.add(row["id"])
        stored = (row["owner"], row["micro_points"], row["created_at"])
        report.differ("redemptions", row["id"], "posting", stored, posted.get(("redemption", row["id"])))
        for state, kind in OUTCOME.items():
            is_so, resolved = row["state"] == state, (kind, row["id"]) in posted
            report.differ("redemptions", row["id"], f"state {state}", is_so, resolved)
    for _, ref in posted:
        if ref not in seen:
            report.differ("redemptions", ref, "missing", None, posted.get(("redemption", ref)))


def _pairs(rows: Iterable[sqlite3.Row]) -> Iterable[tuple[str, int]]:
    return ((row[0], row[1]) for row in rows)


def _parts_of(account: object) -> tuple[str, str, int | None]:
    """Kind, holder and hour in an account's name."""
    kind, _, holder = str(account).partition(":")
    hour: int | None = None
    if kind == "reserved":
        holder, _, digits = holder.rpartition(":")
        hour = int(digits) if digits.isascii() and digits.isdigit() and len(digits) < 20 else -1
    return kind, holder, hour


def _is_hash(text: object) -> bool:
    return isinstance(text, str) and len(text) == 64 and set(text) <= set("0123456789abcdef")
