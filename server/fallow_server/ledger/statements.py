"""What callers may read of the books: balances, entries, settlements with every input, statements, the head."""

from __future__ import annotations

import datetime
from typing import Any

from aiohttp import web
from fallow_wire.batches import Batch
from fallow_wire.fields import encode, one_of
from fallow_wire.jws import Kind, parse, sign, split
from fallow_wire.statements import ServiceLine, Statement, StatementLine, month_span
from fallow_wire.tariff import Factors, Tariff
from sqlalchemy import case, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from ..clock import Clock
from ..database import Database
from ..http import Api, Principal, Role, json_response, principal, refusal
from ..signing import SigningKeys
from .books import entry_of, insert_new, read_head
from .counterfactuals import counterfactuals, not_told
from .directory import may_see
from .journal import AccountKind
from .outward_tables import statements
from .paging import limit_of, number
from .printing import LANGUAGES, as_csv, as_page
from .settlement import JWT
from .tables import accounts, balances, batches, clawbacks, entries, settlements, tariffs

ENTRIES_PER_PAGE_MAX = 1000
MINE = "me"
"""Stands for the caller's own account where an account's id is wanted."""
FORMATS = ("jwt", "csv", "html")
SETTLED_S = 60
"""A month is complete when it has been over for so long: what was begun in it is committed by then."""
PAGE_POLICY = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"

OWNER_BALANCES = (AccountKind.HELD, AccountKind.VESTED, AccountKind.REDEEMING, AccountKind.REDEEMED)
PUBLISHER_BALANCES = (AccountKind.ESCROW, AccountKind.RESERVED)


class Statements:
    """The calls that only read."""

    def __init__(self, database: Database, keys: SigningKeys, clock: Clock) -> None:
        self._database = database
        self._keys = keys
        self._clock = clock

    def add_routes(self, api: Api) -> None:
        readers = (Role.OWNER, Role.DEVICE, Role.PUBLISHER, Role.OPERATOR)
        api.add("GET", "/v1/accounts/{id}", self.get_account, *readers)
        api.add("GET", "/v1/accounts/{id}/entries", self.get_entries, *readers)
        api.add("GET", "/v1/accounts/{id}/statements", self.get_months, *readers)
        api.add("GET", "/v1/accounts/{id}/statements/{month}", self.get_statement, *readers)
        api.add("GET", "/v1/settlements/{jti}", self.get_settlement, *readers)
        api.add("GET", "/v1/head", self.get_head, Role.ANYONE)

    async def get_account(self, request: web.Request) -> web.Response:
        account = account_of(request)
        async with self._database.read() as connection:
            role = await _role(connection, account)
            query = (
                select(balances.c.kind, func.sum(balances.c.micro_points))
                .where(balances.c.holder == account)
                .group_by(balances.c.kind)
            )
            found = {kind: int(micro_points) for kind, micro_points in await connection.execute(query)}
        shown: dict[str, Any] = {"id": account, "role": role}
        if role == Role.PUBLISHER:
            shown |= {kind.value: found.get(kind.value, 0) for kind in PUBLISHER_BALANCES}
            # What was deposited and is neither free nor lent has gone to owners.
            shown["spent"] = -found.get(AccountKind.MINT.value, 0) - shown["escrow"] - shown["reserved"]
        elif role == Role.OWNER:
            shown |= {kind.value: found.get(kind.value, 0) for kind in OWNER_BALANCES}
        return json_response(shown)

    async def get_entries(self, request: web.Request) -> web.Response:
        account = account_of(request)
        after = number(request.query.get("after", "0"), "after")
        query = select(entries).where(entries.c.holder == account, entries.c.seq > after)
        async with self._database.read() as connection:
            await _role(connection, account)
            limited = query.order_by(entries.c.seq).limit(limit_of(request, ENTRIES_PER_PAGE_MAX))
            rows = (await connection.execute(limited)).all()
        return json_response([entry_of(row).as_json() for row in rows])

    async def get_settlement(self, request: web.Request) -> web.Response:
        caller = principal(request)
        async with self._database.read() as connection:
            query = select(settlements).where(settlements.c.jti == request.match_info["jti"])
            row = (await connection.execute(query)).one_or_none()
            if row is None or not may_see(caller, row.owner, row.publisher):
                raise refusal(404, "not-found", "There is no settlement of this ticket")
            stored = select(batches.c.token).where(batches.c.device == row.device, batches.c.seq == row.batch_seq)
            token = (await connection.execute(stored)).scalar_one()
            signed = (await connection.execute(select(tariffs.c.token).where(tariffs.c.id == row.tariff))).scalar_one()
            clawback = select(clawbacks.c.micro_points, clawbacks.c.reason, clawbacks.c.at)
            reversal = (await connection.execute(clawback.where(clawbacks.c.jti == row.jti))).one_or_none()
        tariff = parse(split(signed, Kind.TARIFF), Tariff)
        shown = settlement_json(row, token) | _otherwise(row, tariff)
        return json_response(shown if reversal is None else shown | {"reversed": dict(reversal._mapping)})

    async def get_head(self, request: web.Request) -> web.Response:
        async with self._database.read() as connection:
            head = await read_head(connection, self._clock.now())
        return _signed(sign(Kind.HEAD, head, self._keys.current))

    async def get_months(self, request: web.Request) -> web.Response:
        """The months of which there is a statement: from the account's first entry on."""
        account, now = account_of(request), self._clock.now()
        async with self._database.read() as connection:
            await _role(connection, account)
            first = (
                await connection.execute(
                    select(entries.c.at).where(entries.c.holder == account).order_by(entries.c.seq).limit(1)
                )
            ).scalar_one_or_none()
        months = [] if first is None else months_between(first, now)
        return json_response([{"month": month, "complete": _is_complete(month, now)} for month in months])

    async def get_statement(self, request: web.Request) -> web.Response:
        """As the ledger signed it; for people as a table or a page."""
        account, month = account_of(request), request.match_info["month"]
        form: str = one_of(*FORMATS)(request.query.get("format", "jwt"), "format", True)
        language: str = one_of(*LANGUAGES)(request.query.get("lang") or _language(request), "lang", True)
        token = await self._statement(account, month)
        if form == "jwt":
            return _signed(token)
        statement = parse(split(token, Kind.STATEMENT), Statement)
        name = f'inline; filename="fallow-{account}-{month}.{form}"'
        headers = {"Cache-Control": "no-store", "Content-Disposition": name}
        if form == "csv":
            text = as_csv(statement, token)
            return web.Response(text=text, content_type="text/csv", charset="utf-8", headers=headers)
        headers["Content-Security-Policy"] = PAGE_POLICY
        text = as_page(statement, token, language)
        return web.Response(text=text, content_type="text/html", charset="utf-8", headers=headers)

    async def _statement(self, account: str, month: str) -> str:
        """Signed. That of a month that is over is signed once, and the same text ever after."""
        now = self._clock.now()
        from_at, until_at = month_span(month)
        if from_at > now:
            raise refusal(404, "not-found", "This month has not begun")
        kept = select(statements.c.token).where(statements.c.account == account, statements.c.month == month)
        async with self._database.snapshot() as connection:
            await _role(connection, account)
            token: str | None = (await connection.execute(kept)).scalar_one_or_none()
            if token is not None:
                return token
            statement = Statement(
                account=account,
                month=month,
                from_at=from_at,
                until_at=until_at,
                complete=_is_complete(month, now),
                opening=await _balances_before(connection, account, from_at),
                closing=await _balances_before(connection, account, until_at),
                lines=await _lines(connection, account, from_at, until_at),
                services=await _services(connection, account, from_at, until_at),
                head=await read_head(connection, now),
                iat=now,
            )
        token = sign(Kind.STATEMENT, statement, self._keys.current)
        if not statement.complete:
            return token
        async with self._database.write() as connection:
            await insert_new(connection, statements, {"account": account, "month": month, "token": token})
            first: str = (await connection.execute(kept)).scalar_one()
        return first


def _is_complete(month: str, now: int) -> bool:
    return month_span(month)[1] + SETTLED_S <= now


def months_between(first: int, last: int) -> list[str]:
    """``YYYY-MM`` (UTC) of each month from that of ``first`` to that of ``last``, Unix seconds."""
    start, end = (datetime.datetime.fromtimestamp(at, datetime.UTC) for at in (first, last))
    count = (end.year - start.year) * 12 + end.month - start.month
    numbers = range(start.month - 1, start.month + count)
    return [f"{start.year + number // 12:04d}-{number % 12 + 1:02d}" for number in numbers]


def settlement_json(row: Any, batch_token: str) -> dict[str, Any]:
    """A settlement with everything that it was computed from, so that anyone can compute it again."""
    item = parse(split(batch_token, Kind.BATCH), Batch).items[row.item]
    claim = {name: value for name, value in encode(item).items() if name not in ("ticket", "receipt")}
    shown = {
        "jti": row.jti,
        "device": row.device,
        "owner": row.owner,
        "publisher": row.publisher,
        "service": row.service,
        "tier": row.tier,
        "issued_at": row.issued_at,
        "booked_at": row.booked_at,
        "batch": {"seq": row.batch_seq, "item": row.item},
        "ticket": item.ticket,
        "receipt": item.receipt,
        "claim": claim,
        "allowed_bytes": row.allowed_bytes,
        "confirmed_bytes": row.confirmed_bytes,
        "tariff": row.tariff,
        "audits": row.audits,
        "region": row.region,
        "bps": row.bps,
        "delivered": row.delivered,
        "reach": row.reach,
        "factors": {
            "bytes": row.paid_bytes,
            "rate": row.rate,
            "quality": row.quality,
            "scarcity": row.scarcity,
            "weight": row.weight,
        },
        "micro_points": row.micro_points,
        "entry_seq": row.entry_seq,
        "matures_at": row.matures_at,
        "late_at": row.late_at,
    }
    return {name: value for name, value in shown.items() if value is not None}


def _otherwise(row: Any, tariff: Tariff) -> dict[str, Any]:
    factors = Factors(row.paid_bytes, row.rate, row.quality, row.scarcity, row.weight)
    served = min(row.claimed_bytes, row.allowed_bytes)
    otherwise = counterfactuals(row.tier, factors, served, tariff, row.reach)
    return {"otherwise": otherwise, "not_told": not_told(row.reach)}


def _language(request: web.Request) -> str:
    """What a browser asks for first."""
    return "zh" if request.headers.get("Accept-Language", "").lower().startswith("zh") else "en"


def account_of(request: web.Request) -> str:
    """The account that the path names; :data:`MINE` is the caller's own.

    :raises ApiProblem: 403 when it is not the caller's to see, whether there is such an account or not.
    """
    caller: Principal = principal(request)
    account = request.match_info["id"]
    if account == MINE:
        return caller.account
    if not may_see(caller, account):
        raise refusal(403, "forbidden", "This account is another's")
    return account


async def _role(connection: AsyncConnection, account: str) -> str:
    row = (await connection.execute(select(accounts.c.role).where(accounts.c.id == account))).one_or_none()
    if row is None:
        raise refusal(404, "not-found", "The ledger knows no such account")
    role: str = row.role
    return role


def _signed(token: str) -> web.Response:
    return web.Response(text=token, content_type=JWT, headers={"Cache-Control": "no-store"})


def _kind_of(account_name: str) -> str:
    return account_name.partition(":")[0]


async def _balances_before(connection: AsyncConnection, account: str, at: int) -> dict[str, int]:
    query = (
        select(entries.c.account, func.sum(entries.c.micro_points))
        .where(entries.c.holder == account, entries.c.at < at)
        .group_by(entries.c.account)
    )
    found: dict[str, int] = {}
    for name, micro_points in await connection.execute(query):
        kind = _kind_of(name)
        if kind != AccountKind.MINT.value:
            found[kind] = found.get(kind, 0) + int(micro_points)
    return found


async def _lines(connection: AsyncConnection, account: str, from_at: int, until_at: int) -> tuple[StatementLine, ...]:
    direction = case((entries.c.micro_points > 0, "in"), else_="out").label("direction")
    query = (
        select(entries.c.account, entries.c.kind, direction, func.count(), func.sum(entries.c.micro_points))
        .where(entries.c.holder == account, entries.c.at >= from_at, entries.c.at < until_at)
        .group_by(entries.c.account, entries.c.kind, direction)
    )
    found: dict[tuple[str, str, str], tuple[int, int]] = {}
    for name, kind, way, count, micro_points in await connection.execute(query):
        balance = _kind_of(name)
        if balance != AccountKind.MINT.value:
            before = found.get((balance, kind, way), (0, 0))
            found[balance, kind, way] = (before[0] + count, before[1] + abs(int(micro_points)))
    return tuple(StatementLine(*key, *found[key]) for key in sorted(found))


async def _services(connection: AsyncConnection, account: str, from_at: int, until_at: int) -> tuple[ServiceLine, ...]:
    mine = (settlements.c.owner == account) | (settlements.c.publisher == account)
    query = (
        select(
            settlements.c.service,
            settlements.c.tier,
            func.count(),
            func.sum(settlements.c.paid_bytes),
            func.sum(settlements.c.micro_points),
        )
        .where(mine, settlements.c.booked_at >= from_at, settlements.c.booked_at < until_at)
        .group_by(settlements.c.service, settlements.c.tier)
        .order_by(settlements.c.service, settlements.c.tier)
    )
    return tuple(
        ServiceLine(service, tier, count, int(paid), int(micro_points))
        for service, tier, count, paid, micro_points in await connection.execute(query)
    )
