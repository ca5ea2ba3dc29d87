"""Tariffs: signed, immutable, and only for the future."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated

from aiohttp import web
from fallow_wire.errors import LocalError
from fallow_wire.fields import encode, hexadecimal, integer, items, mapping, one_of, record
from fallow_wire.jws import Kind, parse, sign, split
from fallow_wire.limits import INTEGER_MAX
from fallow_wire.tariff import (
    FACTOR_PERMILLE_MAX,
    GIB,
    NEUTRAL_PERMILLE,
    QUALITY_STEPS_MAX,
    RATE_MAX,
    SCARCITY,
    TRUST_STEPS_MAX,
    LegacyCaps,
    QualityStep,
    Scarcity,
    Tariff,
    TrustStep,
)
from fallow_wire.tickets import SERVICES, TIERS
from sqlalchemy import insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from ..clock import Clock
from ..database import Database
from ..http import Api, Role, json_response, record_body, refusal
from ..rows import Rows
from ..signing import SigningKeys
from .books import open_books
from .paging import limit_of, number
from .tables import tariffs
from .verification import Term

TARIFFS_PER_PAGE_MAX = 50
"""Up to 64 KiB each."""
POINT = 1_000_000
"""µp in a point."""

FIRST_RATES = {"object": POINT, "fill": POINT // 4, "live": POINT, "probe": 0}
"""µp per GiB. A fill only moves an object from one device to another, so it earns a quarter."""
FIRST_WEIGHTS = {"countersigned": 1000, "legacy": 500}
FIRST_LEGACY_CAPS = LegacyCaps(device_day_bytes=50 * GIB, publisher_day_bytes=500 * GIB)
"""50 GiB a day are 5 Mbit/s around the clock: more than most home lines give away."""
FIRST_TRUST = (TrustStep(0, 100), TrustStep(5, 500), TrustStep(20, 1000))
"""Nobody signs for legacy service, and whoever claims it without serving is found by audits only after some time."""
FIRST_QUALITY = (QualityStep(0, 800), QualityStep(250, 900), QualityStep(500, NEUTRAL_PERMILLE))
"""Who gives half of what it was reckoned with, or more, has served well; the consumer's line may be the slow one.
Nothing is above that, so that consumers who say that it was fast bring a device nothing."""
SCARCITY_AHEAD_S = 7 * 86_400
"""Owners can see a week ahead when service is wanted most."""


def first_tariff(valid_from: int) -> Tariff:
    return Tariff(1, valid_from, FIRST_RATES, FIRST_WEIGHTS, FIRST_LEGACY_CAPS, FIRST_TRUST, FIRST_QUALITY)


@dataclass(frozen=True, slots=True)
class NewTariff:
    """Body of ``POST /v1/tariffs``. A service or tier that is left out is worth nothing."""

    valid_from: Annotated[int, integer()]
    rates: Annotated[dict[str, int], mapping(one_of(*SERVICES), integer(0, RATE_MAX), len(SERVICES))]
    weights: Annotated[dict[str, int], mapping(one_of(*TIERS), integer(0, FACTOR_PERMILLE_MAX), len(TIERS))]
    legacy_caps: Annotated[LegacyCaps, record(LegacyCaps)]
    trust: Annotated[tuple[TrustStep, ...] | None, items(record(TrustStep), TRUST_STEPS_MAX, 1)] = None
    quality: Annotated[tuple[QualityStep, ...] | None, items(record(QualityStep), QUALITY_STEPS_MAX, 1)] = None
    scarcity: Annotated[Scarcity | None, SCARCITY] = None

    def as_tariff(self, version: int) -> Tariff:
        return Tariff(version, **{name: getattr(self, name) for name in self.__slots__})


@dataclass(frozen=True, slots=True)
class StoredTariff:
    """A tariff of the database; ``token`` is its signed form."""

    tariff_id: str
    tariff: Tariff
    token: str


async def read_tariffs(connection: AsyncConnection) -> list[StoredTariff]:
    """All tariffs, oldest first. There are few: one is made when prices change."""
    rows = await connection.execute(select(tariffs).order_by(tariffs.c.valid_from))
    return [StoredTariff(row.id, _tariff_in(row.token), row.token) for row in rows]


def stored_terms(rows: Rows) -> dict[str, Term]:
    """Each tariff with its end, by id."""
    found = rows.all("SELECT id, token FROM tariffs ORDER BY valid_from")
    return terms_of([StoredTariff(tariff_id, _tariff_in(token), token) for tariff_id, token in found])


@lru_cache(maxsize=64)
def _tariff_in(token: str) -> Tariff:
    """Batches ask for all tariffs each time, and what is signed never changes."""
    return parse(split(token, Kind.TARIFF), Tariff)


def terms_of(stored: list[StoredTariff]) -> dict[str, Term]:
    """Each tariff with its end, by id. ``stored`` is in order of ``valid_from``."""
    ends: list[int | None] = [later.tariff.valid_from for later in stored[1:]]
    return {
        one.tariff_id: Term(one.tariff, valid_until) for one, valid_until in zip(stored, [*ends, None], strict=False)
    }


class Tariffs:
    """The tariffs' calls, and the first tariff."""

    def __init__(self, database: Database, keys: SigningKeys, clock: Clock) -> None:
        self._database = database
        self._keys = keys
        self._clock = clock

    def add_routes(self, api: Api) -> None:
        api.add("GET", "/v1/tariffs", self.get_all, Role.ANYONE)
        api.add("GET", "/v1/tariffs/current", self.get_current, Role.ANYONE)
        api.add("GET", "/v1/tariffs/{id}", self.get_one, Role.ANYONE)
        api.add("POST", "/v1/tariffs", self.post, Role.OPERATOR)

    async def ensure_first(self) -> None:
        """A fresh ledger starts with a tariff, in force at once."""
        async with self._database.write() as connection:
            await open_books(connection, self._clock)
            if (await connection.execute(select(tariffs.c.id).limit(1))).one_or_none() is None:
                first = Tariff(
                    1, self._clock.now(), FIRST_RATES, FIRST_WEIGHTS, FIRST_LEGACY_CAPS, FIRST_TRUST, FIRST_QUALITY
                )
                await self._insert(connection, first)

    async def get_all(self, request: web.Request) -> web.Response:
        """Newest first, the announced ones too; ``before`` is the version of the last one seen."""
        before = number(request.query.get("before", str(INTEGER_MAX)), "before")
        query = select(tariffs).where(tariffs.c.version < before).order_by(tariffs.c.version.desc())
        async with self._database.read() as connection:
            rows = (await connection.execute(query.limit(limit_of(request, TARIFFS_PER_PAGE_MAX)))).all()
        return json_response([
            {"id": row.id, "version": row.version, "valid_from": row.valid_from, "tariff": row.token} for row in rows
        ])  # fmt: skip

    async def get_current(self, request: web.Request) -> web.Response:
        now = self._clock.now()
        async with self._database.read() as connection:
            started = [one for one in await read_tariffs(connection) if one.tariff.valid_from <= now]
        if not started:
            raise LocalError("no tariff is in force: this machine's clock went back")
        return json_response({"id": started[-1].tariff_id, "tariff": started[-1].token})

    async def get_one(self, request: web.Request) -> web.Response:
        tariff_id: str = hexadecimal(64)(request.match_info["id"], "id", True)
        async with self._database.read() as connection:
            row = (await connection.execute(select(tariffs).where(tariffs.c.id == tariff_id))).one_or_none()
        if row is None:
            raise refusal(404, "not-found", "There is no such tariff")
        return json_response({"id": row.id, "tariff": row.token})

    async def post(self, request: web.Request) -> web.Response:
        new = await record_body(request, NewTariff)
        async with self._database.write() as connection:
            await open_books(connection, self._clock)
            newest = (await read_tariffs(connection))[-1].tariff
            earliest = max(self._clock.now(), newest.valid_from) + 1
            if new.valid_from < earliest:
                raise refusal(
                    409,
                    "not-prospective",
                    "A tariff can only be made for the future",
                    f"valid_from {new.valid_from}; {earliest} is the earliest, after now and the newest tariff's start",
                    remedy="Choose a later valid_from.",
                )
            week = self._clock.now() + SCARCITY_AHEAD_S
            if new.scarcity != newest.scarcity and new.valid_from < week:
                raise refusal(
                    409,
                    "scarcity-too-soon",
                    "Other hours of scarcity are published a week ahead",
                    f"valid_from {new.valid_from}; {week} is the earliest for another scarcity",
                    remedy="Choose a later valid_from, or leave scarcity as it is in the newest tariff.",
                )
            tariff = new.as_tariff(newest.version + 1)
            tariff_id = await self._insert(connection, tariff)
        return json_response({"id": tariff_id, "tariff": encode(tariff)}, 201)

    async def _insert(self, connection: AsyncConnection, tariff: Tariff) -> str:
        token = sign(Kind.TARIFF, tariff, self._keys.current)
        row = {
            "id": tariff.tariff_id(),
            "version": tariff.version,
            "valid_from": tariff.valid_from,
            "token": token,
        }
        await connection.execute(insert(tariffs), [row])
        return tariff.tariff_id()
