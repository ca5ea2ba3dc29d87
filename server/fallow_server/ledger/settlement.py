"""``POST /v1/proofs``: a device's batch in, settlements and a signed ack out.

Signatures are checked before the transaction, in a thread for all but small batches. The transaction then looks at
what was booked meanwhile, books all items, and keeps batch and ack: a batch that arrives again gets the very same
ack, and of many copies that arrive at once exactly one is booked.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, TypeVar

from aiohttp import web
from fallow_wire.batches import Ack, AckItem, Batch, batch_hash
from fallow_wire.http import PROBLEM_MEDIA_TYPE
from fallow_wire.jws import HEADER_PART_BYTES_MAX, Kind, Signed, kid_of_start, sign, split
from fallow_wire.strict import dumps
from sqlalchemy import insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from ..clock import Clock
from ..database import Database
from ..http import Api, Role, caller_address, read_body, refusal
from ..signing import SigningKeys
from .books import Books, open_books, upsert
from .config import LedgerConfig
from .directory import device_key, scheduler_keys
from .intake import Intake, Room
from .journal import Account, AccountKind, PostingKind, transfer
from .restored import Restored
from .tables import accounts, batches, devices, forks, legacy_days, settlements
from .tariffs import read_tariffs, terms_of
from .verification import (
    Admission,
    Booking,
    DeviceChain,
    Known,
    OutOfOrder,
    Refused,
    Settled,
    Verified,
    expect_next,
    read_batch,
    verify_item,
)
from .vesting import hold

THREAD_ITEMS_MIN = 8
"""Smaller batches are verified in less time than the event loop may stand still (two signatures take 0.3 ms)."""
BODY_THREAD_BYTES_MIN = 32 * 1024
VERIFYING_MAX = 4
"""Batches that are verified at once; each holds up to 10 MiB."""
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
        self._verifying = asyncio.Semaphore(VERIFYING_MAX)

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
                async with self._database.read() as connection:
                    await _device(connection, kid)
                known = True

        return await read_body(request, watch=watch)

    async def take(self, body: bytes) -> str:
        """The ack of a batch, as a compact JWS.

        :raises PeerError: size, form or signature.
        :raises ApiProblem: 403 for a device that is unknown or bound to nobody.
        :raises OutOfOrder: for a gap or a fork.
        """
        unverified = split(body, Kind.BATCH)
        async with self._database.read() as connection:
            device = await _device(connection, unverified.kid)
        async with self._verifying:
            signed = await _in_thread(len(body) > BODY_THREAD_BYTES_MIN, read_batch, unverified, device_key(device.x))
            batch = signed.value
            try:
                async with self._database.read() as connection:
                    earlier = await _continue_chain(connection, signed)
                    known = await self._known(connection)
                if earlier is not None:
                    return earlier
                checked = await _in_thread(
                    len(batch.items) >= THREAD_ITEMS_MIN, _verify_items, batch, known, self._clock.now()
                )
                async with self._database.write() as connection:
                    books = await open_books(connection, self._clock)
                    earlier = await _continue_chain(connection, signed)
                    if earlier is not None:
                        return earlier
                    ack, booked = await self._book(connection, books, signed, checked)
            except OutOfOrder as error:
                if error.slug == "chain-fork":
                    await self._keep_fork(signed)
                elif batch.seq > error.seq:
                    await self._restored.note_gap(batch.did, error.seq, batch.seq)
                raise
        if booked:
            await self._on_booked()
        return ack

    async def _known(self, connection: AsyncConnection) -> Known:
        terms = terms_of(await read_tariffs(connection))
        return Known(self._config.public_url, await scheduler_keys(connection), terms)

    async def _book(
        self, connection: AsyncConnection, books: Books, signed: Signed[Batch], checked: list[Verified | Refused]
    ) -> tuple[str, bool]:
        batch = signed.value
        owner: str = (await _device(connection, batch.did)).owner
        held = Account(AccountKind.HELD, owner)
        verified = [one for one in checked if isinstance(one, Verified)]
        await self._restored.lend_again(books, verified)
        admission = await _admission(connection, books, batch.did, verified)
        await books.load([held])
        items, rows, earned = [], [], 0
        for place, one in enumerate(checked):
            outcome = one if isinstance(one, Refused) else admission.admit(one)
            items.append(_ack_item(one, outcome))
            if not isinstance(outcome, Booking):
                continue
            ticket, micro_points, entry_seq = outcome.verified.ticket, outcome.verified.micro_points, None
            if micro_points:
                purse = Account(AccountKind.RESERVED, ticket.publisher, outcome.verified.hour)
                entry_seq = books.post(transfer(PostingKind.SETTLEMENT, ticket.jti, purse, held, micro_points))
                earned += micro_points
            rows.append(_settlement_row(outcome.verified, batch, place, owner, entry_seq, books.now))
        if rows:
            await connection.execute(insert(settlements), rows)
        await upsert(connection, legacy_days, _legacy_rows(admission))
        await hold(connection, owner, books.now + self._config.hold_s, earned)
        digest = batch_hash(signed.token)
        ack = Ack(batch.did, batch.seq, digest, tuple(items), await books.save(), books.now)
        token = sign(Kind.ACK, ack, self._keys.current)
        row = {
            "device": batch.did,
            "seq": batch.seq,
            "hash": digest,
            "token": signed.token,
            "ack": token,
            "received_at": books.now,
        }
        await connection.execute(insert(batches), [row])
        chain = {"seq": batch.seq, "hash": digest}
        await connection.execute(update(devices).where(devices.c.id == batch.did).values(chain))
        refused = [item.reason for item in items if item.reason is not None]
        _log.info("%s batch %d: %d booked, refused %s", batch.did, batch.seq, len(rows), sorted(set(refused)) or "none")
        return token, earned > 0

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


async def _device(connection: AsyncConnection, device: str) -> Any:
    row = (await connection.execute(select(devices).where(devices.c.id == device))).one_or_none()
    if row is None or row.owner is None:
        raise refusal(
            403,
            "unknown-device",
            "The ledger does not know this device as bound to an owner",
            device if row is not None else "",
            remedy="Keep the proofs and try again later: a new binding reaches the ledger within seconds.",
        )
    return row


async def _continue_chain(connection: AsyncConnection, signed: Signed[Batch]) -> str | None:
    """The ack that this very batch got before; None when it comes next.

    :raises OutOfOrder: when it is neither.
    """
    batch = signed.value
    query = select(batches.c.hash, batches.c.ack).where(batches.c.device == batch.did, batches.c.seq == batch.seq)
    row = (await connection.execute(query)).one_or_none()
    if row is not None and row.hash == batch_hash(signed.token):
        ack: str = row.ack
        return ack
    device = await _device(connection, batch.did)
    expect_next(batch, DeviceChain(device.seq, device.hash))
    return None


def _verify_items(batch: Batch, known: Known, now: int) -> list[Verified | Refused]:
    return [verify_item(item, batch.did, known, now) for item in batch.items]


async def _in_thread(worthwhile: bool, work: Callable[..., T], *arguments: Any) -> T:
    return await asyncio.to_thread(work, *arguments) if worthwhile else work(*arguments)


async def _admission(connection: AsyncConnection, books: Books, device: str, verified: Iterable[Verified]) -> Admission:
    """What was booked so far, as far as ``verified`` touches it."""
    verified = list(verified)
    jtis = {one.ticket.jti for one in verified}
    named = {one.ticket.publisher for one in verified}
    days = {one.day for one in verified if one.ticket.tier == "legacy"}
    query = select(settlements.c.jti, settlements.c.digest, settlements.c.micro_points)
    settled = await connection.execute(query.where(settlements.c.jti.in_(jtis)))
    known = await connection.execute(
        select(accounts.c.id).where(accounts.c.id.in_(named), accounts.c.role == "publisher")
    )
    used: dict[str, dict[tuple[str, int], int]] = {"device": {}, "publisher": {}}
    if days:
        rows = await connection.execute(
            select(legacy_days).where(legacy_days.c.holder.in_({device, *named}), legacy_days.c.day.in_(days))
        )
        for row in rows:
            used[row.scope][row.holder, row.day] = row.bytes
    purses = {Account(AccountKind.RESERVED, one.ticket.publisher, one.hour) for one in verified}
    await books.load(purses)
    return Admission(
        device,
        publishers=frozenset(known.scalars()),
        settled={row.jti: Settled(row.digest, row.micro_points) for row in settled},
        reserved={(purse.holder, purse.hour or 0): books.balance(purse) for purse in purses},
        device_day_bytes=used["device"],
        publisher_day_bytes=used["publisher"],
    )


def _ack_item(checked: Verified | Refused, outcome: Booking | Settled | Refused) -> AckItem:
    if isinstance(outcome, Refused):
        return AckItem("refused", 0, outcome.jti, outcome.reason)
    assert isinstance(checked, Verified), "only verified items are admitted"
    micro_points = outcome.micro_points if isinstance(outcome, Settled) else outcome.verified.micro_points
    return AckItem("booked", micro_points, checked.ticket.jti)


def _settlement_row(
    verified: Verified, batch: Batch, place: int, owner: str, entry_seq: int | None, now: int
) -> dict[str, Any]:
    ticket, receipt, factors = verified.ticket, verified.receipt, verified.factors
    return {
        "jti": ticket.jti,
        "device": batch.did,
        "batch_seq": batch.seq,
        "item": place,
        "digest": verified.digest,
        "owner": owner,
        "publisher": ticket.publisher,
        "service": ticket.svc,
        "tier": ticket.tier,
        "issued_at": ticket.iat,
        "claimed_bytes": verified.item.bytes,
        "allowed_bytes": ticket.max_bytes,
        "confirmed_bytes": None if receipt is None else receipt.bytes,
        "paid_bytes": factors.bytes,
        "tariff": ticket.tariff,
        "rate": factors.rate,
        "quality": factors.quality,
        "scarcity": factors.scarcity,
        "weight": factors.weight,
        "micro_points": verified.micro_points,
        "entry_seq": entry_seq,
        "booked_at": now,
    }


def _legacy_rows(admission: Admission) -> list[dict[str, Any]]:
    """The day counters that this batch moved."""
    touched = {
        key
        for one in admission.admitted
        if one.ticket.tier == "legacy"
        for key in (("device", admission.device, one.day), ("publisher", one.ticket.publisher, one.day))
    }
    used = {"device": admission.device_day_bytes, "publisher": admission.publisher_day_bytes}
    return [
        {"scope": scope, "holder": holder, "day": day, "bytes": used[scope][holder, day]}
        for scope, holder, day in sorted(touched)
    ]


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
