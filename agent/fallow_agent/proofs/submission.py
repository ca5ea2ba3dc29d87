"""Batches on their way to the ledger: one at a time, the same bytes until it has acknowledged them.

A ledger that is away costs nothing but time: the batch waits on disk, attempts grow rare, and the log says once that
it is away and once that it is back.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from typing import NoReturn

import aiohttp
from fallow_wire.batches import Ack
from fallow_wire.errors import FallowError, PeerError
from fallow_wire.fields import decode
from fallow_wire.jws import Kind, verify
from fallow_wire.keys import JwkSet, PrivateKey, PublicKey
from fallow_wire.limits import ACK_BYTES_MAX
from fallow_wire.strict import loads_object

from ..backoff import Backoff
from .outbox import Outbox, SealedBatch

_log = logging.getLogger(__name__)

TIMEOUT_S = 60
JWKS_BYTES_MAX = 64 * 1024
JWKS_REFRESH_S = 60
"""At most this often are the ledger's keys fetched because an ack names an unknown one."""
OUR_FAULT_DELAY_S = 3600
"""The ledger calls the batch malformed: a fault of this program that repeating will not mend."""


class LedgerUnavailable(FallowError):
    """No usable ack came; the batch waits."""

    slug = "ledger-unavailable"


class BatchRefused(FallowError):
    """The ledger does not take this batch as it is: ``slug`` is the problem's type."""


class Submission:
    """:param ledger: gives the ledger's address of now."""

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
            except BatchRefused as error:
                self._note(f"{error.slug}: {error.detail}")
                delay_s = OUR_FAULT_DELAY_S if error.slug in ("malformed", "too-large") else backoff.delay_s(1.0)
            except FallowError as error:
                self._note(error.detail)
                delay_s = backoff.delay_s(random.random())
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
        if status in (400, 413):
            raise BatchRefused(detail, slug=slug or "malformed")
        if 400 <= status < 500 and status not in (408, 425, 429):
            raise BatchRefused(detail, slug=slug or "refused")
        raise LedgerUnavailable(f"{ledger}: {detail}")

    async def _post(self, ledger: str, batch: SealedBatch) -> tuple[int, bytes]:
        return await self._fetch("POST", f"{ledger.rstrip('/')}/v1/proofs", ACK_BYTES_MAX, batch.token)

    async def _fetch(self, method: str, url: str, size_max: int, data: str | None = None) -> tuple[int, bytes]:
        headers = {"Content-Type": "application/jwt"} if data is not None else {}
        timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
        try:
            async with self._http.request(
                method, url, data=data, headers=headers, allow_redirects=False, timeout=timeout
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
            try:
                ack = verify(body, Kind.ACK, Ack, self._keys.get).value
            except PeerError:
                now = asyncio.get_running_loop().time()
                if now - self._keys_at < JWKS_REFRESH_S:
                    raise
                self._keys_at = now
                self._keys = await self._fetch_keys(ledger)
                ack = verify(body, Kind.ACK, Ack, self._keys.get).value
        except PeerError as error:
            raise LedgerUnavailable(f"{ledger}: the ack is refused: {error.detail}") from None
        if (ack.did, ack.seq, ack.batch) != (batch.did, batch.seq, batch.hash):
            raise LedgerUnavailable(f"{ledger}: the ack is for another batch")
        if len(ack.items) != len(batch.jtis):
            raise LedgerUnavailable(f"{ledger}: the ack leaves items out")
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
        if not isinstance(seq, int) or not isinstance(prev, str) or len(prev) != 64 or seq < 1:
            raise LedgerUnavailable(f"{slug}, and the ledger does not say where it stands")
        _log.warning("%s: the ledger expects batch %d; going on from there", slug, seq)
        self._outbox.resume_from(batch.did, seq, prev)
        # After a while, so that a ledger which contradicts itself is not asked in a tight loop.
        raise LedgerUnavailable(f"{slug}: going on with batch {seq}")

    def _note(self, error: str | None) -> None:
        if error is not None and self.error is None:
            waiting = self._outbox.waiting()
            _log.warning("%d proofs wait for the ledger: %s", waiting, error)
        elif error is None and self.error is not None:
            _log.info("the ledger takes proofs again")
        self.error = error


def _problem(body: bytes) -> dict[str, object]:
    try:
        return loads_object(body, ACK_BYTES_MAX)
    except PeerError:
        return {}
