"""Whether a device's service port can be reached from here: asked of the port itself, with a nonce.

A device is reachable at an address when ``GET /v1/dial-back/{nonce}`` there answers with the device's signature over
a nonce that only its session was told. Repeated, for mappings vanish and addresses change.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
import random
import secrets
from dataclasses import dataclass

import aiohttp
from fallow_wire import strict
from fallow_wire.encoding import base64url, from_base64url
from fallow_wire.errors import PeerError
from fallow_wire.fields import decode
from fallow_wire.keys import PublicKey
from fallow_wire.session import DialBack, DialBackAnswer, Reachability, ServicePort, TaskStatus, dial_back_input

from ..clock import Clock
from .addresses import Target, dial_back_targets, fault_of
from .live import Fleet, LiveDevice
from .reachability import classify
from .turnstile import Turnstile

_ANSWER_BYTES_MAX = 1024
_log = logging.getLogger(__name__)

Claims = tuple[tuple[ServicePort, ...], tuple[str, ...]]
"""The ports that a device says it has, and the addresses that it has come from."""


@dataclass(frozen=True, slots=True)
class DialBackConfig:
    allow_private_addresses: bool = False
    """Laboratories and LANs only: lets devices be tested, and consumers be sent, to private addresses."""
    timeout_s: int = 5
    reachable_interval_s: int = 300
    unreachable_interval_s: int = 60
    """Doubles with every failure, up to ``reachable_interval_s``."""
    at_once_max: int = 32
    """Dial-backs under way."""


class DialBacks:
    """A :class:`~.live.FleetObserver` that tests each device soon after it reports, and again every few minutes."""

    def __init__(self, config: DialBackConfig, fleet: Fleet, clock: Clock) -> None:
        self._config = config
        self._fleet = fleet
        self._clock = clock
        self._randomness = random.Random()
        self._due: list[tuple[float, str]] = []
        self._plans: dict[str, _Plan] = {}
        self._changed = asyncio.Event()
        self._turnstile = Turnstile()
        self._running: set[asyncio.Task[None]] = set()

    async def connected(self, device_id: str) -> None:
        self._plans.pop(device_id, None)

    async def lost(self, device_id: str) -> None:
        self._plans.pop(device_id, None)

    async def task_status(self, device_id: str, status: TaskStatus) -> None:
        pass

    async def content_changed(self, device_id: str) -> None:
        pass

    async def reported(self, device_id: str) -> None:
        device = self._fleet.get(device_id)
        if device is None or device.heartbeat is None:
            return
        claims = self._claims(device)
        plan = self._plans.get(device_id)
        if plan is not None and plan.claims == claims:
            return  # as nearly always: what may be tried of them need not be found anew
        targets = self._targets(device)
        if plan is not None and plan.targets == targets:
            plan.claims = claims
            return
        self._plans[device_id] = plan = _Plan(claims, targets)
        # Right after a restart all devices report at once; a short random delay spreads the connections.
        self._plan_at(
            device_id, plan, self._clock.monotonic() + self._randomness.uniform(0, min(2, len(self._plans) / 64))
        )

    def _targets(self, device: LiveDevice) -> tuple[Target, ...]:
        allow = self._config.allow_private_addresses
        return dial_back_targets(*self._claims(device), allow_private=allow)

    def _claims(self, device: LiveDevice) -> Claims:
        ports = device.heartbeat.environment.service_ports if device.heartbeat is not None else ()
        return ports, self._addresses(device)

    def _addresses(self, device: LiveDevice) -> tuple[str, ...]:
        return device.addresses(self._clock.monotonic())

    def _plan_at(self, device_id: str, plan: _Plan, at_s: float) -> None:
        plan.at_s = at_s
        heapq.heappush(self._due, (at_s, device_id))
        self._changed.set()

    async def run(self) -> None:
        """Test devices as they fall due, until cancelled."""
        timeout = aiohttp.ClientTimeout(total=self._config.timeout_s)
        connector = aiohttp.TCPConnector(limit=0, force_close=True)
        jar = aiohttp.DummyCookieJar()
        async with aiohttp.ClientSession(connector=connector, timeout=timeout, cookie_jar=jar) as http:
            try:
                while True:
                    await self._wait()
                    while len(self._running) < self._config.at_once_max and (device := self._next()) is not None:
                        task = asyncio.create_task(self._test(device, http), name=f"dial-back {device.device_id}")
                        self._running.add(task)
                        task.add_done_callback(self._done)
            finally:
                for task in self._running:
                    task.cancel()
                await asyncio.gather(*self._running, return_exceptions=True)

    async def _wait(self) -> None:
        """Until something is due and there is room for it."""
        self._changed.clear()
        if len(self._running) >= self._config.at_once_max or not self._due:
            await self._changed.wait()
            return
        delay_s = self._due[0][0] - self._clock.monotonic()
        if delay_s > 0:
            try:
                async with asyncio.timeout(delay_s):
                    await self._changed.wait()
            except TimeoutError:
                pass

    def _next(self) -> LiveDevice | None:
        now = self._clock.monotonic()
        while self._due and self._due[0][0] <= now:
            at_s, device_id = heapq.heappop(self._due)
            plan, device = self._plans.get(device_id), self._fleet.get(device_id)
            if plan is not None and device is not None and plan.at_s == at_s:
                return device
        return None

    def _done(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._changed.set()
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("%s failed", task.get_name(), exc_info=error)

    async def _test(self, device: LiveDevice, http: aiohttp.ClientSession) -> None:
        plan = self._plans.get(device.device_id)
        if plan is None:
            return
        answered = [target for target in plan.targets if await self._answers(device, target, http)]
        if self._plans.get(device.device_id) is not plan:
            return  # it reconnected or reported other addresses meanwhile
        await self._found(device, plan.targets, answered)
        if not plan.targets:
            return  # nothing to test until it reports an address
        plan.failures = 0 if answered else plan.failures + 1
        config = self._config
        interval_s: float = config.reachable_interval_s
        if plan.failures:
            interval_s = min(interval_s, config.unreachable_interval_s * 2 ** min(plan.failures - 1, 16))
        self._plan_at(
            device.device_id, plan, self._clock.monotonic() + interval_s * self._randomness.uniform(0.75, 1.25)
        )

    async def _found(self, device: LiveDevice, tried: tuple[Target, ...], answered: list[Target]) -> None:
        """Classify, remember, and tell the device where there is news: its owner may have to do something."""
        assert device.heartbeat is not None
        before = (device.service_urls, device.reach)
        addresses = self._addresses(device)
        urls = tuple(target.url() for target in answered)
        reach = classify(device.heartbeat.environment, addresses, tried, answered)
        await self._fleet.changed_service_urls(device, urls, reach)
        if before != (urls, reach):
            try:
                await device.send(Reachability(addresses, reach.ipv4, reach.ipv6, urls))
            except ConnectionError:
                pass  # its session has ended; the next one begins with a dial-back

    async def _answers(self, device: LiveDevice, target: Target, http: aiohttp.ClientSession) -> bool:
        nonce = base64url(secrets.token_bytes(24))
        await self._turnstile.through()
        try:
            await device.send(DialBack(nonce))
            url = f"{target.url()}/v1/dial-back/{nonce}"
            async with http.get(url, allow_redirects=False) as response:
                if response.status != 200:
                    return False
                body = await response.content.read(_ANSWER_BYTES_MAX + 1)
            await self._turnstile.through()
            answer = decode(DialBackAnswer, strict.loads_object(body, _ANSWER_BYTES_MAX), strict=False)
            key = PublicKey(device.public_key)
            key.verify(from_base64url(answer.signature), dial_back_input(nonce))
        except (aiohttp.ClientError, ConnectionError, TimeoutError, PeerError, ValueError) as error:
            _log.info("%s does not answer at port %d: %s", device.device_id, target.port, fault_of(error))
            return False
        return answer.device_id == device.device_id


class _Plan:
    """When one device is tested next, and where: what of its ``claims`` may be tried."""

    __slots__ = ("at_s", "claims", "failures", "targets")

    def __init__(self, claims: Claims, targets: tuple[Target, ...]) -> None:
        self.claims = claims
        self.targets = targets
        self.failures = 0
        self.at_s = 0.0
