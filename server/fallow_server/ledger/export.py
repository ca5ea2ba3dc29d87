"""``GET /v1/export``: the books as one stream of lines, for anyone whom the operator lets audit them.

JSON, one value a line. The first names the ledger and its signed head, then come the rows table by table,
``{"table": …, "row": {…}}``, and the last line counts them, so that a cut stream cannot pass for a whole one. All is of
one state of the database. ``fallow verify`` computes everything again from it.

No secrets and no names leave: neither tokens nor their hashes, neither voucher codes nor providers' addresses, secrets
and answers, nor account names. Consumers and lines appear as the tickets' daily pseudonyms.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from aiohttp import web
from fallow_wire.fields import encode
from fallow_wire.journal import EXPORT_MEDIA_TYPE
from fallow_wire.jws import Kind, sign
from fallow_wire.strict import dumps
from sqlalchemy import Column, Table, select
from sqlalchemy.ext.asyncio import AsyncConnection

from ..clock import Clock
from ..database import Database
from ..http import Api, Role
from ..signing import SigningKeys
from . import outward_tables, tables
from .books import read_head

PAGE_ROWS = 500
"""Rows in memory; those of batches are the largest, 7 MiB of text each at most, some hundred KiB in practice."""
LINES_BYTES = 64 * 1024
"""Written at once."""
EXPORTED: dict[Table, frozenset[str]] = {
    tables.ledger_keys: frozenset(),
    tables.tariffs: frozenset(),
    tables.entries: frozenset(),
    tables.chain_head: frozenset(),
    tables.roots: frozenset(),
    tables.balances: frozenset(),
    tables.devices: frozenset({"token_hash"}),
    tables.batches: frozenset(),
    tables.settlements: frozenset(),
    tables.clawbacks: frozenset(),
    tables.earners: frozenset(),
    tables.holds: frozenset(),
    tables.audits: frozenset(),
    tables.deliveries: frozenset(),
    tables.legacy_days: frozenset(),
    tables.line_hours: frozenset(),
    tables.redemptions: frozenset({"code", "reason"}),
    outward_tables.statements: frozenset(),
    outward_tables.reports: frozenset(),
    outward_tables.restores: frozenset(),
}
"""Each with the columns that stay here."""


class Export:
    def __init__(self, database: Database, keys: SigningKeys, clock: Clock) -> None:
        self._database = database
        self._keys = keys
        self._clock = clock

    def add_routes(self, api: Api) -> None:
        api.add("GET", "/v1/export", self.get, Role.OPERATOR)

    async def get(self, request: web.Request) -> web.StreamResponse:
        headers = {"Content-Type": EXPORT_MEDIA_TYPE, "Cache-Control": "no-store"}
        response = web.StreamResponse(headers=headers)
        await response.prepare(request)
        async with self._database.snapshot() as connection:
            lines = bytearray()
            async for line in self._lines(connection):
                lines += dumps(line) + b"\n"
                if len(lines) >= LINES_BYTES:
                    await response.write(lines)
                    lines = bytearray()
            await response.write(lines)
        await response.write_eof()
        return response

    async def _lines(self, connection: AsyncConnection) -> AsyncIterator[dict[str, Any]]:
        head = await read_head(connection, self._clock.now())
        yield {"ledger": 1, "head": sign(Kind.HEAD, head, self._keys.current), "jwks": encode(self._keys.jwks())}
        counts: dict[str, int] = {}
        for table, withheld in EXPORTED.items():
            counts[table.name] = 0
            columns: list[Column[Any]] = [column for column in table.columns if column.name not in withheld]
            query = select(*columns).order_by(*table.primary_key).execution_options(yield_per=PAGE_ROWS)
            async with connection.stream(query) as rows:
                async for row in rows:
                    counts[table.name] += 1
                    yield {"table": table.name, "row": _json(row)}
        yield {"rows": counts}


def _json(row: Any) -> dict[str, Any]:
    return {name: value for name, value in row._mapping.items() if value is not None}
