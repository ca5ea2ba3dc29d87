"""Batches on their way to the ledger: one at a time, the same bytes until it has acknowledged them.

A ledger that is away costs nothing but time: the batch waits on disk, attempts grow rare, and the log says once that
it is away and once that it is back.
"""

from __future__ import annotations

import asyncio
import io
import logging
import random
import sqlite3
from collections.abc import Callable
from typing import NoReturn

import aiohttp
from fallow_wire.batches import Ack
from fallow_wire.encoding import is_hex
from fallow_wire.errors import FallowError, PeerError
from fallow_wire.fields import decode
from fallow_wire.jws import Kind, split, verify
from fallow_wire.keys import JwkSet, PrivateKey, PublicKey
from fallow_wire.limits import ACK_BYTES_MAX
from fallow_wire.strict import loads_object

from ..backoff import Backoff
from .outbox import Outbox, SealedBatch

_log = logging.getLogger(__name__)

CONNECT_S = 20
ANSWER_S = 600
"""A whole batch of some MB, over an uplink of which the household leaves 100 kbit/s, and the ledger's work on it."""
JWKS_BYTES_MAX = 64 * 1024
JWKS_REFRESH_S = 60
"""At most this often are the ledger's keys fetched because an ack names an unknown one."""
OUR_FAULT_DELAY_S = 3600
"""The ledger calls the batch itself wrong: a fault of this program that only another version of either mends."""
_OUR_FAULT = (400, 413, 414, 415, 422)


class LedgerUnavailable(FallowError):
    """No usable ack came; the batch waits."""

    slug = "ledger-unavailable"


class BatchRefused(FallowError):
    """The ledger does not take this batch as it is: ``slug`` is the problem's type.

    ``our_fault``: it is not a batch to it; else it may take the very same one later, from a device it knows then.
    """

    def __init__(self, detail: str, *, slug: str, our_fault: bool = False) -> None:
        super().__init__(detail, slug=slug)
        self.our_fault = our_fault


class Submission:
    """Hands over what the outbox holds; only a verified ack lets it go of anything.

    :param ledger: gives the ledger's address of now.
    """

    def __init__(
        self,
        outbox: Outbox,
        http: aiohttp.ClientSession,
        ledger: Callable[[], str],
        key: PrivateKey,
    ) -> None:
        self._outbox = outbox
        self._http = http
        self._ledger = ledger
        self._key = key
        self._wake = asyncio.Event()
        self._keys: dict[str, PublicKey] = {}
        self._keys_of = ""
        self._keys_at = float("-inf")
        self._idle = asyncio.Event()
        self._failed: str | None = None
        self.error: str | None = None
        """Why the last attempt failed; None while all is well."""

    def wake(self) -> None:
        """Something was sealed."""
        self._idle.clear()
        self._wake.set()

    async def all_acknowledged(self) -> None:
        """Wait until nothing sealed is left to hand over."""
        await self._idle.wait()

    async def run(self) -> None:
        """Hand over what is sealed until cancelled."""
        backoff = Backoff()
        while True:
            self._wake.clear()
            try:
                while await self.submit_next():
                    backoff = backoff.succeeded()
                    self._note(None)
                self._idle.set()
                await self._wake.wait()
                continue
            except FallowError as error:
                self._note(error)
                our_fault = isinstance(error, BatchRefused) and error.our_fault
                delay_s = OUR_FAULT_DELAY_S if our_fault else backoff.delay_s(random.random())
            backoff = backoff.failed()
            await asyncio.sleep(delay_s)

    async def submit_next(self) -> bool:
        """Hand over one batch; False when there is none.

        :raises LedgerUnavailable: no usable answer. :raises BatchRefused: the batch is not taken as it is.
        :raises OutboxUnavailable: the disk refuses.
        """
        batch = self._outbox.next_batch(self._key)
        if batch is None:
            return False
        ledger = self._ledger()
        status, body = await self._post(ledger, batch)
        if status == 200:
            self._outbox.acknowledge(await self._verified(ledger, batch, body))
            return True
        problem = _problem(body)
        slug = str(problem.get("type", ""))
        detail = str(problem.get("detail") or problem.get("title") or f"status {status}")
        if status == 409 and slug in ("sequence-gap", "chain-fork"):
            self._resume_chain(batch, slug, problem)
        if slug and 400 <= status < 500 and status not in (408, 425, 429):
            raise BatchRefused(detail, slug=slug, our_fault=status in _OUR_FAULT)
        # Without a problem document it is not the ledger that speaks, but something before it.
        raise LedgerUnavailable(f"{ledger}: {detail}")

    async def _post(self, ledger: str, batch: SealedBatch) -> tuple[int, bytes]:
        return await self._fetch("POST", f"{ledger.rstrip('/')}/v1/proofs", ACK_BYTES_MAX, batch.token)

    async def _fetch(self, method: str, url: str, size_max: int, data: str | None = None) -> tuple[int, bytes]:
        headers = {"Content-Type": "application/jwt"} if data is not None else {}
        # A file is sent piece by piece; bytes of this size would block the loop in one go.
        body_sent = io.BytesIO(data.encode("ascii")) if data is not None else None
        timeout = aiohttp.ClientTimeout(total=ANSWER_S, sock_connect=CONNECT_S)
        try:
            async with self._http.request(
                method, url, data=body_sent, headers=headers, allow_redirects=False, timeout=timeout
            ) as response:
                body = bytearray()
                async for piece in response.content.iter_any():
                    body += piece
                    if len(body) > size_max:
                        raise LedgerUnavailable(f"{url}: the answer is larger than {size_max} bytes")
                return response.status, bytes(body)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise LedgerUnavailable(f"{url}: {error or type(error).__name__}") from None

    async def _verified(self, ledger: str, batch: SealedBatch, body: bytes) -> Ack:
        if self._keys_of != ledger:
            self._keys, self._keys_of, self._keys_at = {}, ledger, float("-inf")
        try:
            now = asyncio.get_running_loop().time()
            if split(body, Kind.ACK).kid not in self._keys and now - self._keys_at >= JWKS_REFRESH_S:
                self._keys_at = now
                self._keys = await self._fetch_keys(ledger)
            ack = verify(body, Kind.ACK, Ack, self._keys.get).value
        except PeerError as error:
            raise LedgerUnavailable(f"{ledger}: the ack is refused: {error.detail}") from None
        if (ack.did, ack.seq, ack.batch) != (batch.did, batch.seq, batch.hash):
            raise LedgerUnavailable(f"{ledger}: the ack is for another batch")
        if len(ack.items) != len(batch.jtis):
            raise LedgerUnavailable(f"{ledger}: the ack leaves items out")
        if any(item.jti not in (None, jti) for item, jti in zip(ack.items, batch.jtis, strict=True)):
            raise LedgerUnavailable(f"{ledger}: the ack's items are not in the order of the batch")
        return ack

    async def _fetch_keys(self, ledger: str) -> dict[str, PublicKey]:
        status, body = await self._fetch("GET", f"{ledger.rstrip('/')}/.well-known/jwks.json", JWKS_BYTES_MAX)
        if status != 200:
            raise LedgerUnavailable(f"{ledger}: its keys cannot be had: status {status}")
        jwks = decode(JwkSet, loads_object(body, JWKS_BYTES_MAX), strict=False)
        keys = [PublicKey.from_jwk(jwk) for jwk in jwks.keys]
        return {key.thumbprint(): key for key in keys}

    def _resume_chain(self, batch: SealedBatch, slug: str, problem: dict[str, object]) -> NoReturn:
        """The ledger stands at another place of this device's chain, and says where: go on from there."""
        expected = problem.get("expected")
        seq, prev = (expected.get("seq"), expected.get("prev")) if isinstance(expected, dict) else (None, None)
        if type(seq) is not int or seq < 1 or not isinstance(prev, str) or not is_hex(prev, 64):
            raise LedgerUnavailable(f"{slug}, and the ledger does not say where it stands")
        _log.warning("%s: the ledger expects batch %d; going on from there", slug, seq)
        self._outbox.resume_from(batch.did, seq, prev)
        # After a while, so that a ledger which contradicts itself is not asked in a tight loop.
        raise LedgerUnavailable(f"{slug}: going on with batch {seq}")

    def _note(self, error: FallowError | None) -> None:
        """Keep it for the status; log it when it is another than before, not at every attempt."""
        before, self._failed = self._failed, None if error is None else error.slug
        self.error = None if error is None else f"{error.slug}: {error.detail}"
        if self._failed == before:
            return
        if error is None:
            _log.info("the ledger takes proofs again")
        elif isinstance(error, BatchRefused) and error.our_fault:
            _log.error("the ledger cannot read our batch, which is kept: %s", self.error)
        else:
            _log.warning("%d proofs wait for the ledger: %s", self._outbox.waiting(), self.error)


def _problem(body: bytes) -> dict[str, object]:
    try:
        return loads_object(body, ACK_BYTES_MAX)
    except PeerError:
        return {}


async def hand_over(connection: sqlite3.Connection, http: aiohttp.ClientSession, ledger: str, key: PrivateKey) -> None:
    """Seal all tickets and bring their proofs to the ledger; ends when it has acknowledged everything."""
    outbox = Outbox(connection)
    for served in outbox.open_tickets():
        outbox.seal(served.jti)
    submission = Submission(outbox, http, lambda: ledger, key)
    running = asyncio.get_running_loop().create_task(submission.run(), name="last-submission")
    done = asyncio.get_running_loop().create_task(submission.all_acknowledged(), name="all-acknowledged")
    try:
        ended, _ = await asyncio.wait((running, done), return_when=asyncio.FIRST_COMPLETED)
        for task in ended:
            task.result()
        outbox.forget_kept()  # the next ledger may be another one
    finally:
        for task in (running, done):
            task.cancel()
        await asyncio.gather(running, done, return_exceptions=True)
