"""From scheduler to ledger: what the ledger must know, and the escrow that it lends.

The shapes are what ``/v1/link/…`` of the ledger takes. Everything is idempotent and repeated until acknowledged. Both
roles in one process talk this way too, over loopback: there is one code path.
"""

from __future__ import annotations

import asyncio
import logging
import random
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

import aiohttp
from fallow_wire import strict
from fallow_wire.errors import FallowError, Malformed, PeerError
from fallow_wire.fields import (
    boolean,
    decode,
    device_id,
    encode,
    hexadecimal,
    integer,
    items,
    one_of,
    record,
    text,
    uuid7,
    word,
)
from fallow_wire.jws import Kind, Signed, verify
from fallow_wire.keys import Jwk, JwkSet
from fallow_wire.lan import HTTP_URL
from fallow_wire.limits import TARIFF_BYTES_MAX
from fallow_wire.tariff import Tariff
from sqlalchemy import delete, func, select
from sqlalchemy.ext.asyncio import AsyncConnection
from yarl import URL

from .accounts.tables import accounts, tokens
from .clock import Clock
from .database import Database
from .fleet.tables import devices
from .limits import TOKENS_PER_ACCOUNT_MAX
from .outbox import Outbox, outbox
from .signing import key_set

T = TypeVar("T")

REASON_CHARS_MAX = 200
ANSWER_BYTES_MAX = TARIFF_BYTES_MAX + 1024
PASSED_BYTES_MAX = 16 * 2**20
"""A page of the ledger's longest list."""
PASSED_S_MAX = 120
"""A reconciliation reads all that was ever booked."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LinkScheduler:
    """``PUT /v1/link/scheduler``: who issues tickets, with which keys."""

    url: Annotated[str, HTTP_URL]
    jwks: Annotated[JwkSet, record(JwkSet)]


@dataclass(frozen=True, slots=True)
class LinkAccount:
    """``PUT /v1/link/accounts/{id}``: replaces what the ledger knew. Tokens as ``hash_token`` gives them."""

    role: Annotated[str, one_of("owner", "publisher", "operator")]
    name: Annotated[str, text(128)]
    token_hashes: Annotated[tuple[str, ...], items(hexadecimal(64), TOKENS_PER_ACCOUNT_MAX)]


@dataclass(frozen=True, slots=True)
class LinkDevice:
    """``PUT /v1/link/devices/{did}``: replaces what the ledger knew of it.

    No ``owner``: the device is bound to nobody and its batches are refused. ``token_hash`` is that of its ledger token.
    """

    jwk: Annotated[Jwk, record(Jwk)]
    owner: Annotated[str | None, word()] = None
    token_hash: Annotated[str | None, hexadecimal(64)] = None


@dataclass(frozen=True, slots=True)
class LinkReservation:
    """``POST /v1/link/reservations``. ``hour`` counts hours since 1970: tickets with ``iat // 3600 == hour``."""

    publisher: Annotated[str, word()]
    hour: Annotated[int, integer()]
    micro_points: Annotated[int, integer(1)]


@dataclass(frozen=True, slots=True)
class Granted:
    """Answer to a reservation: what was moved from escrow, from 0 to what was asked."""

    granted: Annotated[int, integer()]


@dataclass(frozen=True, slots=True)
class SignedTariff:
    """``GET /v1/tariffs/current``."""

    id: Annotated[str, hexadecimal(64)]
    tariff: Annotated[str, text(TARIFF_BYTES_MAX, 1)]


@dataclass(frozen=True, slots=True)
class Passed:
    """What the ledger answered to a call that was passed on. ``media_type``: with its parameters."""

    status: int
    media_type: str
    body: bytes
    retry_after: str | None = None


@dataclass(frozen=True, slots=True)
class LinkConfig:
    address: str = ""
    """Where this scheduler calls the ledger; empty: over loopback when both run here, else the ledger's public URL."""
    timeout_s: int = 10
    backoff_s_max: int = 60
    """Between attempts while the ledger is away; it doubles from 1 s, with full jitter."""
    poll_s: int = 5
    """Changes noted by another process (``fallow-server operator-token``) wake nobody here."""
    reserve_attempts_max: int = 3
    """A consumer waits for the answer."""
    tariff_fresh_s: int = 60
    tariff_stale_s: int = 3600
    """While the ledger is away, tickets go on naming the tariff that was in force for so long."""
    tariff_retry_s: int = 5
    """A ledger that is away is asked only so often; consumers wait for the answer."""


@dataclass(frozen=True, slots=True)
class LinkAudit:
    """``POST /v1/audits``: what a canary received and found right under ticket ``jti``. ``reason``: why it does not
    agree."""

    device: Annotated[str, device_id()]
    jti: Annotated[str, uuid7()]
    bytes: Annotated[int, integer()]
    agreed: Annotated[bool, boolean()]
    reason: Annotated[str, text(REASON_CHARS_MAX)] = ""


class LedgerUnreachable(FallowError):
    """The ledger does not answer, or not as it should; what was asked may be asked again."""

    slug = "ledger-unreachable"


class LedgerRefused(LedgerUnreachable):
    """The ledger refuses what it was told; telling it again changes nothing."""

    slug = "ledger-refused"


class Link:
    """The scheduler's side.

    :param address: of the ledger, without a slash at the end.
    :param scheduler: what the ledger is told of this scheduler, as it is now.
    """

    BATCH_MAX = 100
    """Rows that are told and then crossed off together."""

    def __init__(
        self,
        config: LinkConfig,
        database: Database,
        noted: Outbox,
        clock: Clock,
        address: str,
        token: str,
        scheduler: Callable[[], LinkScheduler],
    ) -> None:
        self._config = config
        self._database = database
        self._outbox = noted
        self._clock = clock
        self._address = address
        self._headers = {"Authorization": f"Bearer {token}"}
        self._scheduler = scheduler
        self._http: aiohttp.ClientSession | None = None
        self._tariff: Signed[Tariff] | None = None
        self._tariff_at_s = 0.0
        self._tariff_retry_at_s = 0.0
        self._tariff_lock = asyncio.Lock()
        self._delivering = asyncio.Lock()
        self.trouble: str | None = None
        """Why the ledger was not reached the last time; None while all is well."""

    async def start(self) -> None:
        """Open the client, and note that the ledger must be told who this scheduler is."""
        timeout = aiohttp.ClientTimeout(total=self._config.timeout_s)
        self._http = aiohttp.ClientSession(timeout=timeout, cookie_jar=aiohttp.DummyCookieJar())
        await self.note_scheduler()

    async def note_scheduler(self) -> None:
        """To be called when a key was rotated."""
        async with self._database.write() as connection:
            await self._outbox.note(connection, "scheduler", "self")
        self._outbox.wake()

    async def close(self) -> None:
        if self._http is not None:
            await self._http.close()

    async def pending(self) -> int:
        """Changes that the ledger has not acknowledged."""
        async with self._database.read() as connection:
            count: int = (await connection.execute(select(func.count()).select_from(outbox))).scalar_one()
        return count

    async def run(self) -> None:
        """Tell the ledger what is noted, in order, until cancelled."""
        failures = 0
        while True:
            self._outbox.noted.clear()
            try:
                await self.deliver()
            except LedgerUnreachable as error:
                if self.trouble is None:
                    _log.warning("the ledger is not reached: %s", error.detail)
                self.trouble = error.detail
                delay_s = min(self._config.backoff_s_max, 2 ** min(failures, 16))
                failures += 1
                await asyncio.sleep(random.uniform(0, delay_s))
                continue
            if self.trouble is not None:
                _log.warning("the ledger is reached again")
            self.trouble, failures = None, 0
            try:
                async with asyncio.timeout(self._config.poll_s):
                    await self._outbox.noted.wait()
            except TimeoutError:
                pass

    async def deliver(self) -> None:
        """Tell the ledger everything that is noted.

        :raises LedgerUnreachable: at the first change that it does not acknowledge; the rest stays noted.
        """
        async with self._delivering:  # two at once could leave the ledger with the older truth
            while True:
                async with self._database.read() as connection:
                    rows = (await connection.execute(select(outbox).order_by(outbox.c.seq).limit(self.BATCH_MAX))).all()
                if not rows:
                    return
                told: set[tuple[str, str]] = set()
                done: list[int] = []
                try:
                    for row in rows:
                        # What was told a moment ago was the truth of then, and this row is older.
                        if (row.subject, row.key) not in told:
                            await self._tell(row.subject, row.key)
                            told.add((row.subject, row.key))
                        done.append(row.seq)
                finally:
                    async with self._database.write() as connection:
                        await connection.execute(delete(outbox).where(outbox.c.seq.in_(done)))

    async def _tell(self, subject: str, key: str) -> None:
        if subject == "scheduler":
            await self._call("PUT", "/v1/link/scheduler", self._scheduler())
            return
        async with self._database.read() as connection:
            body: LinkAccount | LinkDevice | None
            if subject == "account":
                path, body = f"/v1/link/accounts/{key}", await _account(connection, key)
            else:
                path, body = f"/v1/link/devices/{key}", await _device(connection, key)
        if body is not None:
            await self._call("PUT", path, body)

    async def reserve(self, publisher: str, hour: int, micro_points: int) -> int:
        """Borrow from a publisher's escrow for tickets issued in ``hour`` (hours since 1970).

        :returns: what was granted, from 0 to ``micro_points``.
        :raises LedgerUnreachable: after a few attempts. What an unheard answer granted returns after the hour.
        """
        body = LinkReservation(publisher, hour, micro_points)
        headers = {"Idempotency-Key": str(uuid.uuid4())}
        for left in reversed(range(self._config.reserve_attempts_max)):
            try:
                answer = await self._call("POST", "/v1/link/reservations", body, headers)
                granted = self._read(Granted, answer).granted
            except LedgerUnreachable:
                if not left:
                    raise
                continue
            return min(granted, micro_points)
        raise AssertionError("reserve_attempts_max must be at least 1")

    async def audit(self, found: LinkAudit) -> None:
        """Tell what a canary found; there is one audit of a ticket, and the first one stands.

        :raises LedgerUnreachable: to be told again. :raises LedgerRefused: it will never take it.
        """
        await self._call("POST", "/v1/audits", found)

    async def current_tariff(self) -> Signed[Tariff]:
        """The tariff in force, verified; asked for once a minute.

        :raises LedgerUnreachable: when the ledger is away for longer than a tariff may be stale.
        """
        async with self._tariff_lock:
            now_s = self._clock.monotonic()
            age_s = now_s - self._tariff_at_s
            if self._tariff is not None and age_s < self._config.tariff_fresh_s:
                return self._tariff
            stale = self._tariff if age_s < self._config.tariff_stale_s else None
            if stale is not None and now_s < self._tariff_retry_at_s:
                return stale
            try:
                signed = await self._ask_tariff()
            except (LedgerUnreachable, PeerError) as error:
                self._tariff_retry_at_s = self._clock.monotonic() + self._config.tariff_retry_s
                if stale is not None:
                    return stale
                raise LedgerUnreachable(f"no tariff: {error.detail}") from None
            self._tariff, self._tariff_at_s = signed, self._clock.monotonic()
            return signed

    async def _ask_tariff(self) -> Signed[Tariff]:
        keys = key_set(self._read(JwkSet, await self._call("GET", "/.well-known/jwks.json")))
        answer = self._read(SignedTariff, await self._call("GET", "/v1/tariffs/current"))
        signed = verify(answer.tariff, Kind.TARIFF, Tariff, keys.get)
        if signed.value.tariff_id() != answer.id:
            raise Malformed("the tariff has another id than the ledger says")
        return signed

    def _read(self, cls: type[T], body: bytes) -> T:
        try:
            return decode(cls, strict.loads_object(body, ANSWER_BYTES_MAX), strict=False)
        except PeerError as error:
            raise LedgerUnreachable(f"its answer cannot be read: {error.detail}") from None

    async def _call(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> bytes:
        sent = {**self._headers, **(headers or {})}
        data = None
        if body is not None:
            sent["Content-Type"] = "application/json"
            data = strict.dumps(encode(body))
        status, answer, _ = await self._exchange(method, path, data, sent)
        if not 200 <= status < 300:
            said = answer[:300].decode("utf-8", "replace")
            refused = 400 <= status < 500 and status not in (401, 408, 429)
            raise (LedgerRefused if refused else LedgerUnreachable)(f"{method} {path}: {status} {said}")
        return answer

    async def pass_on(
        self, method: str, path: str, token: str, headers: Mapping[str, str], body: bytes | None
    ) -> Passed:
        """A call of somebody else's, in their name. :raises LedgerUnreachable: as it says."""
        sent = {**headers, "Authorization": f"Bearer {token}"}
        timeout = aiohttp.ClientTimeout(total=PASSED_S_MAX, connect=self._config.timeout_s)
        status, answer, told = await self._exchange(method, path, body, sent, PASSED_BYTES_MAX, timeout)
        media_type = told.get("Content-Type", "application/octet-stream")
        return Passed(status, media_type, answer, told.get("Retry-After"))

    async def _exchange(
        self,
        method: str,
        path: str,
        data: bytes | None,
        headers: Mapping[str, str],
        size_max: int = ANSWER_BYTES_MAX,
        timeout: aiohttp.ClientTimeout | None = None,
    ) -> tuple[int, bytes, Mapping[str, str]]:
        """Status, body (cut off behind ``size_max``) and headers."""
        assert self._http is not None, "start() comes first"
        more: dict[str, Any] = {} if timeout is None else {"timeout": timeout}
        url = URL(self._address + path, encoded=True)
        try:
            async with self._http.request(
                method, url, data=data, headers=headers, allow_redirects=False, **more
            ) as response:
                answer = await response.content.read(size_max + 1)
                while len(answer) <= size_max and not response.content.at_eof():
                    answer += await response.content.read(size_max + 1 - len(answer))
        except (aiohttp.ClientError, ConnectionError, TimeoutError, ValueError) as error:
            raise LedgerUnreachable(f"{method} {path}: {error or type(error).__name__}") from None
        if len(answer) > size_max:
            raise LedgerUnreachable(f"{method} {path}: an answer of more than {size_max} bytes")
        return response.status, answer, response.headers


async def _account(connection: AsyncConnection, account_id: str) -> LinkAccount | None:
    account = (await connection.execute(select(accounts).where(accounts.c.id == account_id))).one_or_none()
    if account is None:
        return None
    query = select(tokens.c.hash).where(tokens.c.account == account_id).order_by(tokens.c.hash)
    hashes = (await connection.execute(query)).scalars().all()
    return LinkAccount(account.role, account.name, tuple(hashes))


async def _device(connection: AsyncConnection, device_id: str) -> LinkDevice | None:
    device = (await connection.execute(select(devices).where(devices.c.id == device_id))).one_or_none()
    if device is None:
        return None
    return LinkDevice(Jwk("OKP", "Ed25519", device.public_key), device.owner, device.token_hash)
