"""Devices in the database: binding, unbinding, and what is remembered of them between sessions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from fallow_wire.encoding import from_base64url
from fallow_wire.enrolment import Enrolment
from fallow_wire.errors import Malformed
from fallow_wire.keys import PublicKey
from sqlalchemy import bindparam, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from .. import tokens as secret
from ..accounts.tables import claims
from ..clock import Clock
from ..database import Database
from ..http import ApiProblem, refusal
from ..outbox import Outbox
from .tables import devices


@dataclass(frozen=True, slots=True)
class DeviceRecord:
    """A row. ``state`` is ``enrolled``, or what the last heartbeat said; ``last_seen`` may be a minute old."""

    id: str
    owner: str | None
    model: str
    version: str
    state: str
    bound_at: int | None
    last_seen: int | None


@dataclass(frozen=True, slots=True)
class Bound:
    """What a session needs to know of a device that is bound."""

    owner: str
    key: PublicKey


@dataclass(frozen=True, slots=True)
class Seen:
    """What is remembered of a live device."""

    last_seen: int
    state: str
    version: str


class DeviceRecords:
    def __init__(self, database: Database, clock: Clock, outbox: Outbox) -> None:
        self._database = database
        self._clock = clock
        self._outbox = outbox

    async def bind(self, enrolment: Enrolment) -> tuple[str, str]:
        """Use up the claim token and bind the device to its owner.

        The same device may come again with the claim that bound it, until that expires: its first answer was lost.

        :param enrolment: verified.
        :returns: the owner's account and a new ledger token; an older ledger token of the device is void.
        :raises ApiProblem: 403 for a claim that is unknown, expired or used, 409 for a device of another owner.
        """
        if not (enrolment.model.isprintable() and enrolment.version.isprintable()):
            raise Malformed("model, version: text without control characters is wanted")
        now = self._clock.now()
        claim_hash = secret.hash_token(enrolment.claim_token)
        token = secret.new_token(secret.DEVICE)
        async with self._database.write() as connection:
            claim = (await connection.execute(select(claims).where(claims.c.hash == claim_hash))).one_or_none()
            device = (await connection.execute(select(devices).where(devices.c.id == enrolment.did))).one_or_none()
            if claim is None:
                raise _bad_claim("claim-unknown", "The claim token is not known here")
            if claim.expires_at <= now:
                raise _bad_claim("claim-expired", "The claim token has expired")
            if claim.device is not None:
                again = device is not None and device.owner == claim.owner and device.claim_hash == claim_hash
                if claim.device != enrolment.did or not again:
                    raise _bad_claim("claim-used", "The claim token was used before")
            elif device is not None and device.owner not in (None, claim.owner):
                raise refusal(
                    409,
                    "already-bound",
                    "The device belongs to another owner",
                    remedy="Its owner must first deactivate it on the device, or unbind it by DELETE /v1/devices/{id}.",
                )
            values = {
                "owner": claim.owner,
                "claim_hash": claim_hash,
                "token_hash": secret.hash_token(token),
                "model": enrolment.model,
                "version": enrolment.version,
                "state": "enrolled",
                "bound_at": now,
            }
            if device is None:
                row = {"id": enrolment.did, "public_key": enrolment.jwk.x, **values}
                await connection.execute(insert(devices).values(row))
            else:
                await connection.execute(update(devices).where(devices.c.id == enrolment.did).values(values))
            used = update(claims).where(claims.c.hash == claim_hash).values(device=enrolment.did)
            await connection.execute(used)
            await self._outbox.note(connection, "device", enrolment.did)
        self._outbox.wake()
        return claim.owner, token

    async def unbind(self, device_id: str, owner: str | None) -> None:
        """Take a device from its owner; unbinding it again changes nothing.

        :param owner: whose device it must be; None for the operator, who may unbind any.
        :raises ApiProblem: 404 when there is no such device, or it is not ``owner``'s.
        """
        async with self._database.write() as connection:
            device = (await connection.execute(select(devices).where(devices.c.id == device_id))).one_or_none()
            if device is None or (owner is not None and device.owner != owner):
                raise refusal(404, "unknown-device", "There is no such device")
            if device.owner is None:
                return
            values = {"owner": None, "claim_hash": None, "token_hash": None, "bound_at": None, "state": "unbound"}
            await connection.execute(update(devices).where(devices.c.id == device_id).values(values))
            await self._outbox.note(connection, "device", device_id)
        self._outbox.wake()

    async def bound(self, device_id: str) -> Bound | None:
        """Owner and key of a device; None when it is unknown or bound to nobody."""
        query = select(devices.c.owner, devices.c.public_key).where(devices.c.id == device_id)
        async with self._database.read() as connection:
            row = (await connection.execute(query)).one_or_none()
        if row is None or row.owner is None:
            return None
        return Bound(row.owner, PublicKey(from_base64url(row.public_key)))

    async def page(self, owner: str | None, after: str, limit: int) -> list[DeviceRecord]:
        """Devices in the order of their ids: ``owner``'s, or all when None."""
        query = select(devices).where(devices.c.id > after).order_by(devices.c.id).limit(limit)
        if owner is not None:
            query = query.where(devices.c.owner == owner)
        async with self._database.read() as connection:
            rows = (await connection.execute(query)).all()
        return [
            DeviceRecord(row.id, row.owner, row.model, row.version, row.state, row.bound_at, row.last_seen)
            for row in rows
        ]

    async def remember(self, seen: Mapping[str, Seen]) -> None:
        """Keep what was seen of live devices, all in one transaction. A device that was unbound stays ``unbound``."""
        if not seen:
            return
        statement = (
            update(devices)
            .where(devices.c.id == bindparam("device"), devices.c.owner.is_not(None))
            .values(last_seen=bindparam("seen"), state=bindparam("now"), version=bindparam("runs"))
        )
        rows = [
            {"device": device_id, "seen": one.last_seen, "now": one.state, "runs": one.version}
            for device_id, one in seen.items()
        ]
        async with self._database.write() as connection:
            await _execute_many(connection, statement, rows)


async def _execute_many(connection: AsyncConnection, statement: object, rows: list[dict[str, object]]) -> None:
    await connection.execute(statement, rows)  # type: ignore[call-overload]  # executemany of an update


def _bad_claim(slug: str, title: str) -> ApiProblem:
    return refusal(403, slug, title, remedy="Make a new claim in the app or with `fallow claim`, and activate with it.")
