"""``POST /v1/proofs``: a device's batch in, settlements and a signed ack out.

Signatures are checked before the transaction, in a thread for all but small batches; :mod:`.booking` is the
transaction.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from aiohttp import web
from fallow_wire.batches import Batch, batch_hash
from fallow_wire.http import PROBLEM_MEDIA_TYPE
from fallow_wire.jws import HEADER_PART_BYTES_MAX, Kind, Signed, Unverified, kid_of_start, split
from fallow_wire.strict import dumps
from sqlalchemy import insert, select, update

from ..clock import Clock
from ..database import Database
from ..http import Api, Role, caller_address, read_body, refusal
from ..signing import SigningKeys
from .booking import BoundDevice, book, bound_device, earlier_ack, known_to
from .books import open_books
from .config import LedgerConfig
from .directory import device_key
from .intake import Intake, Room
from .restored import Restored
from .tables import devices, forks
from .verification import (
    Known,
    OutOfOrder,
    Refused,
    Verified,
    expect_next,
    read_batch,
    verify_item,
)

THREAD_BYTES_MIN = 12 * 1024
"""Smaller batches, of some eight tickets, are verified in less time than the event loop may stand still."""
VERIFYING_MAX = 4
"""Batches that are verified at once, and no more than there are processors, which would only take turns on the
interpreter's lock; each holds up to 10 MiB."""
FORKS_KEPT_PER_DEVICE = 4
"""More forks prove no more, and each can be 3.5 MiB."""
JWT = "application/jwt"

_log = logging.getLogger(__name__)
T = TypeVar("T")


class Settlement:
    """Takes batches. ``on_booked`` is awaited after each batch that booked points."""

    def __init__(
        self,
        config: LedgerConfig,
        database: Database,
        keys: SigningKeys,
        clock: Clock,
        on_booked: Callable[[], Awaitable[None]],
        restored: Restored,
    ) -> None:
        self._config = config
        self._database = database
        self._keys = keys
        self._clock = clock
        self._on_booked = on_booked
        self._restored = restored
        self._intake = Intake()
        self._verifying = asyncio.Semaphore(min(VERIFYING_MAX, len(os.sched_getaffinity(0))))

    def add_routes(self, api: Api) -> None:
        api.add("POST", "/v1/proofs", self.post_proofs, Role.ANYONE, body_bytes_max=Kind.BATCH.size_max)

    async def post_proofs(self, request: web.Request) -> web.Response:
        if request.headers.get("Content-Encoding", "identity") != "identity":
            raise refusal(415, "encoding-not-taken", "Batches are taken as they are", remedy="Send it uncompressed.")
        with self._intake.room(caller_address(request)) as room:
            body = await self._read(request, room)
            try:
                ack = await self.take(body)
            except OutOfOrder as error:
                return _out_of_order(error)
        return web.Response(text=ack, content_type=JWT, headers={"Cache-Control": "no-store"})

    async def _read(self, request: web.Request, room: Room) -> bytes:
        """The body; no more than its first piece where that is not of a device that is known here."""
        known = False

        async def watch(body: bytearray) -> None:
            nonlocal known
            room.grow(len(body))
            if not known and len(body) >= HEADER_PART_BYTES_MAX:
                kid = kid_of_start(bytes(body[:HEADER_PART_BYTES_MAX]), Kind.BATCH)
                await self._database.ask(lambda rows: bound_device(rows, kid))
                known = True

        return await read_body(request, watch=watch)

    async def take(self, body: bytes) -> str:
        """The ack of a batch, as a compact JWS.

        :raises PeerError: size, form or signature.
        :raises ApiProblem: 403 for a device that is unknown or bound to nobody.
        :raises OutOfOrder: for a gap or a fork.
        """
        unverified, now = split(body, Kind.BATCH), self._clock.now()
        async with self._verifying:
            device, known = await self._database.ask(
                lambda rows: (
                    bound_device(rows, unverified.kid),
                    known_to(rows, self._config.public_url, unverified.kid, now),
                )
            )
            checking = _check, unverified, device, known, now
            signed, checked = await _in_thread(len(body) > THREAD_BYTES_MIN, *checking)
            try:
                if isinstance(checked, OutOfOrder):
                    earlier = await self._database.ask(lambda rows: earlier_ack(rows, signed))
                    if earlier is not None:
                        return earlier
                    raise checked
                booked = await self._database.transact(
                    lambda rows: book(
                        rows, self._clock, self._config, self._keys.current, signed, checked, self._restored.lend_again
                    )
                )
            except OutOfOrder as error:
                if error.slug == "chain-fork":
                    await self._keep_fork(signed)
                elif signed.value.seq > error.seq:
                    await self._restored.note_gap(signed.value.did, error.seq, signed.value.seq)
                raise
        if booked.earned:
            await self._on_booked()
        return booked.ack

    async def _keep_fork(self, signed: Signed[Batch]) -> None:
        device, now = signed.value.did, self._clock.now()
        _log.warning("%s sent batch %d that forks its chain", device, signed.value.seq)
        async with self._database.write() as connection:
            await open_books(connection, self._clock)
            flag = update(devices).where(devices.c.id == device, devices.c.forked_at.is_(None)).values(forked_at=now)
            await connection.execute(flag)
            kept = (await connection.execute(select(forks.c.hash).where(forks.c.device == device))).scalars().all()
            digest = batch_hash(signed.token)
            if digest not in kept and len(kept) < FORKS_KEPT_PER_DEVICE:
                row = {"hash": digest, "device": device, "token": signed.token, "received_at": now}
                await connection.execute(insert(forks), [row])


def _check(
    unverified: Unverified, device: BoundDevice, known: Known, now: int
) -> tuple[Signed[Batch], list[Verified | Refused] | OutOfOrder]:
    """The batch, and an outcome for each item; or what says that the batch does not come next in the device's chain.

    :raises PeerError: another signature, another device, or not the form.
    """
    signed = read_batch(unverified, device_key(device.x))
    try:
        expect_next(signed.value, device.chain)
    except OutOfOrder as error:
        return signed, error
    return signed, [verify_item(item, signed.value.did, known, now) for item in signed.value.items]


async def _in_thread(worthwhile: bool, work: Callable[..., T], *arguments: Any) -> T:
    return await asyncio.to_thread(work, *arguments) if worthwhile else work(*arguments)


def _out_of_order(error: OutOfOrder) -> web.Response:
    titles = {
        "sequence-gap": "A batch before this one is missing",
        "chain-fork": "The batch does not continue the device's chain",
    }
    problem = refusal(
        409, error.slug, titles[error.slug], str(error), remedy="Send the batch that is expected, chained to prev."
    ).problem
    body = {**problem.as_json(), "expected": {"seq": error.seq, "prev": error.prev}}
    return web.Response(body=dumps(body), status=409, content_type=PROBLEM_MEDIA_TYPE)
