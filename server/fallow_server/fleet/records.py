"""Devices in the database: binding, unbinding, and what is remembered of them between sessions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from fallow_wire.encoding import from_base64url
from fallow_wire.enrolment import Enrolment
from fallow_wire.errors import Malformed
from fallow_wire.keys import PublicKey
from sqlalchemy import insert, select, update

from .. import tokens as secret
from ..accounts.tables import claims
from ..clock import Clock
from ..database import Database
from ..http import ApiProblem, refusal
from ..outbox import Outbox
from .tables import devices


@dataclass(frozen=True, slots=True)
class DeviceRecord:
    """A row. ``state`` is ``enrolled``, or what the last heartbeat said; ``last_seen`` may be ten minutes old
    while the device is connected."""

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
    """What is remembered of a live device. ``version``: None keeps the one that is known."""

    last_seen: int
    state: str
    version: str | None


class DeviceRecords:
    def __init__(self, database: Database, clock: Clock, outbox: Outbox) -> None:
        self._database = database
        self._clock = clock
        self._outbox = outbox
        self.unbindings = 0
        """How many this process has made: while it stays the same, who was bound still is."""

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
        self.unbindings += 1
        self._outbox.wake()

    async def bound(self, device_id: str) -> Bound | None:
        """Owner and key of a device; None when it is unknown or bound to nobody."""
        query = "SELECT owner, public_key FROM devices WHERE id = ? AND owner IS NOT NULL"
        found = await self._database.ask(lambda rows: rows.all(query, (device_id,)))
        return Bound(found[0][0], PublicKey(from_base64url(found[0][1]))) if found else None

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
        statement = (
            "UPDATE devices SET last_seen = ?, state = ?, version = coalesce(?, version)"
            " WHERE id = ? AND owner IS NOT NULL"
        )
        found = [(one.last_seen, one.state, one.version, device_id) for device_id, one in seen.items()]
        if found:
            await self._database.transact(lambda rows: rows.many(statement, found))


def _bad_claim(slug: str, title: str) -> ApiProblem:
    return refusal(403, slug, title, remedy="Make a new claim in the app or with `fallow claim`, and activate with it.")
