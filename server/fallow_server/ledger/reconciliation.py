"""``GET /v1/reconciliation``: everything that was booked, computed again from what devices sent.

Checked: each posting sums to zero and so do all accounts; running balances are the sums of their entries; the hash
chain holds and ends at the stored head; each settlement is what its batch, ticket, receipt and tariff say, and its
entries move that many points; points that wait to mature are the held ones.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from fallow_wire.batches import Batch, batch_hash
from fallow_wire.errors import PeerError
from fallow_wire.fields import encode
from fallow_wire.journal import ChainHead, first_break
from fallow_wire.jws import Kind, parse, split
from fallow_wire.tariff import Tariff, paid_bytes, price
from fallow_wire.tickets import Receipt, Ticket
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from ..database import Database
from ..http import Api, Role, json_response
from .books import QUERY_VALUES_MAX, entry_of
from .journal import Account, AccountKind, PostingKind
from .tables import balances, batches, chain_head, entries, holds, settlements
from .tariffs import read_tariffs
from .verification import HOUR_S

PAGE_ENTRIES = 2000
PAGE_BATCHES = 20
"""Up to 500 settlements and 7 MiB of text each."""
DIFFERENCES_MAX = 1000
"""More only repeat what is wrong."""
INPUTS = (
    "jti",
    "publisher",
    "service",
    "tier",
    "issued_at",
    "tariff",
    "digest",
    "claimed_bytes",
    "allowed_bytes",
    "confirmed_bytes",
)
"""Columns of a settlement that its batch must confirm."""


@dataclass(slots=True)
class Report:
    """What was found. ``differences``: what, where, and the two values that should be one."""

    sum: int = 0
    accounts: int = 0
    settlements: int = 0
    booked: int = 0
    recomputed: int = 0
    differences: list[dict[str, Any]] = field(default_factory=list)

    def differ(self, what: str, where: str, stored: Any, found: Any) -> None:
        if stored != found and len(self.differences) < DIFFERENCES_MAX:
            self.differences.append({"what": what, "where": where, "stored": stored, "found": found})

    def as_json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}


class Reconciliation:
    def __init__(self, database: Database) -> None:
        self._database = database

    def add_routes(self, api: Api) -> None:
        api.add("GET", "/v1/reconciliation", self.get, Role.OPERATOR)

    async def get(self, request: web.Request) -> web.Response:
        return json_response((await self.run()).as_json())

    async def run(self) -> Report:
        """Reads everything, in one state of the database, page by page."""
        report = Report()
        async with self._database.snapshot() as connection:
            sums = await _check_entries(connection, report)
            await _check_balances(connection, report, sums)
            await _check_settlements(connection, report)
        return report


async def _check_entries(connection: AsyncConnection, report: Report) -> dict[str, int]:
    """Chain and postings.

    :return: the sum of the entries of each account.
    """
    sums: dict[str, int] = defaultdict(int)
    head, broken = ChainHead(), False
    posting, posting_sum, last = "", 0, 0
    while True:
        query = select(entries).where(entries.c.seq > last).order_by(entries.c.seq).limit(PAGE_ENTRIES)
        rows = (await connection.execute(query)).all()
        if not rows:
            break
        last = rows[-1].seq
        for row in rows:
            sums[row.account] += row.micro_points
            if row.posting != posting:
                report.differ("posting", posting, 0, posting_sum)
                posting, posting_sum = row.posting, 0
            posting_sum += row.micro_points
        if not broken:
            page = [(entry_of(row), row.hash) for row in rows]
            head, seq = await asyncio.to_thread(first_break, head, page)
            if seq is not None:
                broken = True
                report.differ("chain", f"entry {seq}", "does not follow", f"entry {head.entries}")
    report.differ("posting", posting, 0, posting_sum)
    stored = (await connection.execute(select(chain_head))).one()
    if not broken:
        report.differ("chain", "head", [stored.entries, stored.hash], [head.entries, head.hash])
    report.sum = sum(sums.values())
    report.accounts = len(sums)
    return sums


async def _check_balances(connection: AsyncConnection, report: Report, sums: Mapping[str, int]) -> None:
    held: dict[str, int] = {}
    seen = set()
    for row in await connection.execute(select(balances)):
        seen.add(row.account)
        report.differ("balance", row.account, row.micro_points, sums.get(row.account, 0))
        if row.kind == AccountKind.HELD.value and row.micro_points:
            held[row.holder] = row.micro_points
    for account, total in sums.items():
        if account not in seen:
            report.differ("balance", account, 0, total)
    query = select(holds.c.owner, func.sum(holds.c.micro_points)).group_by(holds.c.owner)
    waiting = {owner: int(micro_points) for owner, micro_points in await connection.execute(query)}
    for owner in held.keys() | waiting.keys():
        report.differ("held", owner, held.get(owner, 0), waiting.get(owner, 0))


async def _check_settlements(connection: AsyncConnection, report: Report) -> None:
    tariffs = {one.tariff_id: one.tariff for one in await read_tariffs(connection)}
    device, seq = "", 0
    while True:
        after = (batches.c.device > device) | ((batches.c.device == device) & (batches.c.seq > seq))
        query = select(batches).where(after).order_by(batches.c.device, batches.c.seq).limit(PAGE_BATCHES)
        page = (await connection.execute(query)).all()
        if not page:
            break
        device, seq = page[-1].device, page[-1].seq
        for batch in page:
            mine = (settlements.c.device == batch.device) & (settlements.c.batch_seq == batch.seq)
            rows = (await connection.execute(select(settlements).where(mine))).all()
            moved = await _entries_of(connection, rows)
            for row in rows:
                report.settlements += 1
                report.booked += row.micro_points
                report.differ("entries", row.jti, _entries_wanted(row), moved.get(row.jti, []))
            await asyncio.to_thread(_recompute, report, batch, rows, tariffs)
    total = (await connection.execute(select(func.count()).select_from(settlements))).scalar_one()
    report.differ("settlements", "without their batch", total, report.settlements)
    postings = select(func.count(func.distinct(entries.c.posting))).where(
        entries.c.kind == PostingKind.SETTLEMENT.value
    )
    paid = select(func.count()).select_from(settlements).where(settlements.c.micro_points > 0)
    report.differ(
        "settlements",
        "postings",
        (await connection.execute(paid)).scalar_one(),
        (await connection.execute(postings)).scalar_one(),
    )


def _entries_wanted(row: Any) -> list[list[Any]]:
    """What a settlement moves: out of the hour's escrow, to the owner."""
    if row.micro_points == 0:
        return []
    purse = Account(AccountKind.RESERVED, row.publisher, row.issued_at // HOUR_S)
    held = Account(AccountKind.HELD, row.owner)
    return [[purse.name, -row.micro_points], [held.name, row.micro_points]]


async def _entries_of(connection: AsyncConnection, rows: Sequence[Any]) -> dict[str, list[list[Any]]]:
    """Account and µp of the entries that settlements point to, by jti."""
    wanted = [row.entry_seq + offset for row in rows if row.entry_seq is not None for offset in (0, 1)]
    found: dict[str, list[list[Any]]] = {}
    for start in range(0, len(wanted), QUERY_VALUES_MAX):
        query = select(entries).where(entries.c.seq.in_(wanted[start : start + QUERY_VALUES_MAX]))
        for entry in await connection.execute(query.order_by(entries.c.seq)):
            found.setdefault(entry.ref, []).append([entry.account, entry.micro_points])
    return found


def _recompute(report: Report, batch: Any, rows: Any, tariffs: Mapping[str, Tariff]) -> None:
    """Each settlement of one batch from the texts in it. Signatures were checked before booking; hashes hold them."""
    report.differ("batch", f"{batch.device} {batch.seq}", batch.hash, batch_hash(batch.token))
    try:
        items = parse(split(batch.token, Kind.BATCH), Batch).items
    except PeerError as error:
        report.differ("batch", f"{batch.device} {batch.seq}", "a batch", error.detail)
        return
    for row in rows:
        try:
            item = items[row.item]
            ticket = parse(split(item.ticket, Kind.TICKET), Ticket)
            receipt = None if item.receipt is None else parse(split(item.receipt, Kind.RECEIPT), Receipt)
            tariff = tariffs[row.tariff]
        except (PeerError, IndexError, KeyError) as error:
            report.differ("settlement", row.jti, "its inputs", type(error).__name__)
            continue
        confirmed = None if receipt is None else receipt.bytes
        paid = paid_bytes(item.bytes, ticket.max_bytes, confirmed)
        factors = price(ticket, tariff, paid, row.audits or 0, row.delivered)
        report.recomputed += factors.micro_points()
        inputs_stored = {name: getattr(row, name) for name in INPUTS}
        inputs = (
            ticket.jti,
            ticket.publisher,
            ticket.svc,
            ticket.tier,
            ticket.iat,
            ticket.tariff,
            item.digest(),
            item.bytes,
            ticket.max_bytes,
            confirmed,
        )
        report.differ("inputs", row.jti, inputs_stored, dict(zip(INPUTS, inputs, strict=True)))
        factors_stored = {
            "bytes": row.paid_bytes,
            "rate": row.rate,
            "quality": row.quality,
            "scarcity": row.scarcity,
            "weight": row.weight,
        }
        report.differ("factors", row.jti, factors_stored, encode(factors))
        report.differ("micro_points", row.jti, row.micro_points, factors.micro_points())
