"""Consumers of the server's own: on a schedule they fetch from each device what it says it holds, and check what comes.

With every second one goes a key, and it signs receipts as a consumer does; the others are like curl. What they find is
told to the ledger, which trusts the device more or puts it in front of the operator, and where a device claims more for
such a ticket than came, it disagrees. How fast it came is what others than the device know of its line
(:mod:`.capacity`).

Devices can know the server's address, and a cheater may serve it alone: canaries of ``fallow operator canary``, run
from elsewhere, look at the same from where nobody expects it.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import aiohttp
from fallow_wire.encoding import base64url
from fallow_wire.errors import PeerError
from fallow_wire.jws import Kind, parse, sign, split
from fallow_wire.keys import PrivateKey
from fallow_wire.limits import CHUNK_BYTES, MIB
from fallow_wire.manifest import Manifest
from fallow_wire.tickets import Receipt, Ticket

from ..background import uninterrupted
from ..catalogue.objects import Catalogue, HeldObject
from ..clock import Clock
from ..fleet.live import Fleet, LiveDevice
from ..link import REASON_CHARS_MAX, LedgerRefused, LedgerUnreachable, LinkAudit
from .devices import Devices
from .measurements import Measurement, Measurements
from .tickets import Order, TicketIssuer

DAY_S = 86_400
SAMPLE = 256
"""Devices among which the one is sought that was not looked at for longest; a fleet is gone through in turn."""
MEASURED_BYTES_MIN = 2 * MIB
"""Of less, how long the first byte took says more than how fast the others came."""
NOTHING_S = 30
"""Who sends nothing for so long is found wrong: a consumer would have gone by then."""
UNTOLD_MAX = 1000
"""Findings that wait for a ledger that is away; the oldest go first."""
CERTAIN = 1000
"""Odds: nobody chose among devices, so that there is nothing to compare with."""
BUSY = (429, 503)

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class CanaryConfig:
    """
    ``interval_s``: how often each device is looked at; 0: never.
    ``bytes_max``: what is fetched from it; the publisher pays for it as for any other delivery.
    ``bps_max``: of all canaries, on average. A large fleet is gone through more slowly.
    ``look_s``: how long after its first heartbeat a new device is looked at, at the latest, while no others wait.
    ``timeout_s``: for one device. Who is slower but sends is left alone: its household may have needed the line.
    """

    interval_s: int = DAY_S
    bytes_max: int = 4 * MIB
    bps_max: int = 5_000_000
    look_s: int = 60
    timeout_s: int = 120


@dataclass(frozen=True, slots=True)
class Fetched:
    """``bytes``: came and are right. ``whole``: all that was asked for. ``wrong``: what is wrong with the device; None
    where nothing is, or nobody can tell. ``seconds``: from the first request to the last byte."""

    bytes: int
    seconds: float
    whole: bool
    wrong: str | None = None


class AuditSink(Protocol):
    async def audit(self, found: LinkAudit) -> None:
        """:raises LedgerUnreachable: to be told again. :raises LedgerRefused: it does not know the device."""


@dataclass(frozen=True, slots=True)
class _Errand:
    """What is fetched from whom: ``count`` chunks from ``first`` on."""

    url: str
    ticket: str
    jti: str
    manifest: Manifest
    first: int
    count: int
    key: PrivateKey | None

    @property
    def length(self) -> int:
        return sum(self.manifest.chunk_span(index)[1] for index in range(self.first, self.first + self.count))


class Canaries:
    def __init__(
        self,
        config: CanaryConfig,
        fleet: Fleet,
        devices: Devices,
        catalogue: Catalogue,
        issuer: TicketIssuer,
        ledger: AuditSink,
        measurements: Measurements,
        clock: Clock,
        draw: random.Random | None = None,
    ) -> None:
        self._config = config
        self._fleet = fleet
        self._devices = devices
        self._catalogue = catalogue
        self._issuer = issuer
        self._ledger = ledger
        self._measurements = measurements
        self._clock = clock
        self._draw = draw or random.SystemRandom()
        self._looked: dict[str, float] = {}
        """When each connected device was looked at, monotonic."""
        self._fresh: set[str] = set()
        """Looked at since the last :meth:`save`."""
        self._turn = 0
        self._untold: deque[LinkAudit] = deque(maxlen=UNTOLD_MAX)

    async def run(self) -> None:
        """Look at devices as they fall due, and keep what is measured of them, until cancelled."""
        remembered = False
        async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as http:
            while True:
                try:
                    if not remembered:
                        await uninterrupted(self.remember())
                        remembered = True
                    await self._look_around(http)
                except Exception:  # noqa: BLE001
                    # The outermost loop: a database that is away now is there again at one of the next rounds.
                    _log.exception("canaries fail; they go again in %d s", self._config.look_s)
                await asyncio.sleep(self._config.look_s)

    async def _look_around(self, http: aiohttp.ClientSession) -> None:
        """At all that are due, one after another, and no faster than ``bps_max``."""
        while self._config.interval_s and (device := self.next_due()) is not None:
            fetched = await self.look_at(device, http)
            await self.tell()
            await uninterrupted(self.save())
            await asyncio.sleep((CHUNK_BYTES + fetched) * 8 / self._config.bps_max)
        await self.tell()
        await uninterrupted(self.save())

    async def remember(self) -> None:
        """What was measured before this process began."""
        capacities = self._devices.capacities
        for one in await self._measurements.load():
            if one.bps is not None and one.measured_at is not None:
                capacities.note(one.device_id, one.bps, one.measured_at)
            if one.looked_at is not None:
                self._looked[one.device_id] = one.looked_at
        capacities.fresh.clear()

    async def save(self) -> None:
        """Keep what is new: of canaries, and of speed tests."""
        fresh, capacities = self._fresh | self._devices.capacities.fresh, self._devices.capacities
        measured = []
        for device_id in fresh:
            seen = capacities.seen(device_id)
            bps, at = (None, None) if seen is None else (seen.bps, seen.at)
            measured.append(Measurement(device_id, bps, at, self._looked.get(device_id)))
        await self._measurements.save(measured)
        self._fresh -= fresh
        capacities.fresh -= fresh

    def next_due(self) -> LiveDevice | None:
        """The one of the next few devices that was not looked at for longest, where it is due."""
        now = self._clock.monotonic()
        devices = list(self._fleet.devices())
        if len(self._looked) > 2 * len(devices) + SAMPLE:
            self._looked = {name: at for name, at in self._looked.items() if self._fleet.get(name) is not None}
        start = self._turn % len(devices) if devices else 0
        some = (devices[start:] + devices[:start])[:SAMPLE]
        self._turn = start + len(some)
        due = [one for one in some if one.service_urls and one.content and self._since(one, now) is not None]
        return max(due, key=lambda one: self._since(one, now) or 0.0, default=None)

    def _since(self, device: LiveDevice, now: float) -> float | None:
        """Seconds since it was looked at; None where that is not long ago."""
        since = now - self._looked.get(device.device_id, float("-inf"))
        return since if since >= self._config.interval_s else None

    async def look_at(self, device: LiveDevice, http: aiohttp.ClientSession) -> int:
        """Fetch something from it and note what was found. :returns: bytes that came."""
        device_id = device.device_id
        self._looked[device_id] = self._clock.monotonic()
        self._fresh.add(device_id)
        errand = await self._errand(device)
        if errand is None:
            return 0
        fetched = await self._fetch(errand, http)
        if fetched.bytes >= MEASURED_BYTES_MIN and fetched.seconds > 0:
            self._devices.measured(device_id, round(fetched.bytes * 8 / fetched.seconds))
        if fetched.wrong is not None:
            if self._fleet.get(device_id) is not device or not errand.url.startswith(device.service_urls or ("?",)):
                return fetched.bytes  # it left meanwhile, or has another address
            _log.warning("a canary got from %s not what it should: %s", device_id, fetched.wrong)
        if fetched.whole or fetched.wrong is not None:
            agreed, reason = fetched.wrong is None, (fetched.wrong or "")[:REASON_CHARS_MAX]
            self._untold.append(LinkAudit(device_id, errand.jti, fetched.bytes, agreed, reason))
        return fetched.bytes

    async def tell(self) -> None:
        """Tell the ledger what it was not told yet; what it cannot be told now waits."""
        while self._untold:
            try:
                await self._ledger.audit(self._untold[0])
            except LedgerRefused as error:
                _log.warning("the ledger does not take what a canary found: %s", error.detail)
            except LedgerUnreachable as error:
                _log.info("the ledger is told later what canaries found: %s", error.detail)
                return
            self._untold.popleft()

    async def _errand(self, device: LiveDevice) -> _Errand | None:
        """None where there is nothing to fetch, or nobody pays."""
        held = await self._catalogue.find(self._draw.choice(tuple(device.content)))
        if held is None or not held.size or not device.service_urls:
            return None
        token = await self._catalogue.manifest(held.object_id)
        if token is None:
            return None
        manifest = parse(split(token, Kind.MANIFEST), Manifest)
        count = max(1, min(len(manifest.chunks), self._config.bytes_max // CHUNK_BYTES))
        first = self._draw.randrange(len(manifest.chunks) - count + 1)
        key = PrivateKey(self._draw.randbytes(32)) if self._draw.random() < 0.5 else None
        ticket = await self._issuer.issue(device.device_id, self._order(held, key))
        if ticket is None or not device.service_urls:
            return None
        jti = parse(split(ticket, Kind.TICKET), Ticket).jti
        url = f"{self._draw.choice(device.service_urls)}/o/{held.object_id}/file?ticket={ticket}"
        return _Errand(url, ticket, jti, manifest, first, count, key)

    def _order(self, held: HeldObject, key: PrivateKey | None) -> Order:
        """As of any consumer, whom nobody has met before."""
        return Order(
            held.object_id,
            held.names[0][0],
            base64url(self._draw.randbytes(16)),
            held.size,
            jwk=None if key is None else key.public.jwk(),
            odds=CERTAIN,
        )

    async def _fetch(self, errand: _Errand, http: aiohttp.ClientSession) -> Fetched:
        visit = _Visit(errand, self._clock.monotonic)
        try:
            async with asyncio.timeout(self._config.timeout_s):
                wrong = await visit.fetch(http)
        except TimeoutError:
            wrong = None if visit.received else "it did not answer"
        except PeerError as error:
            wrong = error.detail
        except (aiohttp.ClientError, ConnectionError, OSError) as error:
            wrong = None if visit.received else type(error).__name__  # its text names an address
        return Fetched(visit.right, visit.seconds, visit.right == errand.length, wrong)


class _Visit:
    """One errand under way. ``received``: something came. ``right``: bytes of chunks that are as they should be."""

    def __init__(self, errand: _Errand, now: Callable[[], float]) -> None:
        self._errand = errand
        self._now = now
        self._began = now()
        self._receipt: str | None = None
        self.received = False
        self.right = 0
        self.seconds = 0.0

    async def fetch(self, http: aiohttp.ClientSession) -> str | None:
        """:returns: what is wrong, or None.

        :raises PeerError: a chunk is not as the manifest says. :raises TimeoutError: nothing comes any more.
        """
        one = self._errand
        if one.key is None:
            return await self._range(http, one.first, one.count)
        for index in range(one.first, one.first + one.count):
            wrong = await self._range(http, index, 1)
            if wrong is not None or self._receipt is None:
                return wrong
        # The device knows the last chunk from its own requests alone; without this receipt it is not paid for it.
        origin = one.url.partition("/o/")[0]
        async with http.post(f"{origin}/v1/receipts", data=self._receipt, allow_redirects=False) as response:
            return None if response.status in (204, *BUSY) else f"a receipt was answered with {response.status}"

    async def _range(self, http: aiohttp.ClientSession, first: int, count: int) -> str | None:
        manifest = self._errand.manifest
        start = manifest.chunk_span(first)[0]
        length = sum(manifest.chunk_span(index)[1] for index in range(first, first + count))
        headers = {"Range": f"bytes={start}-{start + length - 1}"}
        if self._receipt is not None:
            headers["Fallow-Receipt"] = self._receipt
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=NOTHING_S, sock_read=NOTHING_S)
        chunk, index, came = bytearray(), first, 0
        async with http.get(self._errand.url, headers=headers, timeout=timeout, allow_redirects=False) as response:
            if response.status in BUSY:
                return None  # with others or with its household, which is no fault
            if response.status != 206:
                return f"answered {response.status}"
            async for piece in response.content.iter_any():
                self.received = True
                came += len(piece)
                if came > length:
                    return "more bytes than were asked for"
                chunk += piece
                while index < first + count and len(chunk) >= (size := manifest.chunk_span(index)[1]):
                    manifest.verify_chunk(index, bytes(chunk[:size]))
                    del chunk[:size]
                    index += 1
                    self.right += size
                    self.seconds = self._now() - self._began
        if came < length:
            return "fewer bytes than were asked for"
        self._sign(index - 1)
        return None

    def _sign(self, index: int) -> None:
        one = self._errand
        if one.key is not None:
            taken_ms = max(1, round((self._now() - self._began) * 1000))
            n = index - one.first + 1
            receipt = Receipt(one.jti, n, self.right, taken_ms, one.manifest.chunks[index])
            self._receipt = sign(Kind.RECEIPT, receipt, one.key)
