"""``POST /v1/audits``: what canary consumers found.

A canary fetches like any other consumer, the server's own on a schedule and others from wherever the operator lets them
run, and checks what comes. An
audit that agrees raises what the legacy service of the device is worth, one that does not sends it back to the start:
where no consumer signs, a device is believed as far as it was seen to be right. A device that claims more for the
ticket of a canary than the canary received, or has a receipt for more, disagrees with it, whenever the claim arrives.
"""

from __future__ import annotations

from aiohttp import web
from fallow_wire.fields import encode
from sqlalchemy import insert, select

from ..clock import Clock
from ..database import Database
from ..http import Api, Role, json_response, principal, record_body, refusal
from ..link import LinkAudit
from ..rows import Rows
from .books import open_books
from .paging import limit_of
from .tables import audits, devices

AUDITS_PER_PAGE_MAX = 500
AUDITS_COUNTED_MAX = 100
"""More in a row say nothing more."""


class Audits:
    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def add_routes(self, api: Api) -> None:
        api.add("GET", "/v1/audits", self.get, Role.OWNER, Role.DEVICE, Role.OPERATOR)
        api.add("POST", "/v1/audits", self.post, Role.OPERATOR, Role.LINK)

    async def get(self, request: web.Request) -> web.Response:
        """Newest first, of one's own devices, of all for operators; ``before`` is the ticket of the last one seen."""
        caller = principal(request)
        query = select(audits).order_by(audits.c.jti.desc())
        if caller.role is not Role.OPERATOR:
            query = query.where(audits.c.device.in_(select(devices.c.id).where(devices.c.owner == caller.account)))
        if "device" in request.query:
            query = query.where(audits.c.device == request.query["device"])
        if "before" in request.query:
            query = query.where(audits.c.jti < request.query["before"])
        async with self._database.read() as connection:
            rows = (await connection.execute(query.limit(limit_of(request, AUDITS_PER_PAGE_MAX)))).all()
        return json_response([{**row._mapping, "agreed": bool(row.agreed)} for row in rows])

    async def post(self, request: web.Request) -> web.Response:
        """May be repeated: there is one audit of a ticket, and the first one stands."""
        new = await record_body(request, LinkAudit)
        async with self._database.write() as connection:
            books = await open_books(connection, self._clock)
            known = (await connection.execute(select(devices.c.id).where(devices.c.id == new.device))).one_or_none()
            if known is None:
                raise refusal(404, "unknown-device", "The ledger knows no such device")
            before = (await connection.execute(select(audits.c.at).where(audits.c.jti == new.jti))).one_or_none()
            if before is None:
                row = {**encode(new), "agreed": int(new.agreed), "at": books.now}
                await connection.execute(insert(audits), [row])
        return json_response(encode(new), 201 if before is None else 200)


def agreeing_audits(rows: Rows, device: str, before: int) -> int:
    """Agreeing audits of ``device`` in a row, from the newest before that time (Unix seconds) back."""
    query = (
        "SELECT audits.agreed, audits.bytes, settlements.claimed_bytes, settlements.confirmed_bytes FROM audits "
        "LEFT JOIN settlements ON settlements.jti = audits.jti "
        "WHERE audits.device = ? AND audits.at < ? ORDER BY audits.at DESC, audits.jti DESC LIMIT ?"
    )
    count = 0
    for agreed, received, claimed, confirmed in rows.all(query, (device, before, AUDITS_COUNTED_MAX)):
        if not agreed or max(claimed or 0, confirmed or 0) > received:
            break
        count += 1
    return count
