"""Asks the hops of the path for echoes, often while the line is used for others, and seldom while it is not."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import socket
from collections.abc import Callable
from pathlib import Path as FilePath

from ..clock import Clock
from ..host.routes import ROUTES
from .delay import BASE_MINUTES, BASE_MINUTES_PATIENT, DelayReading, HopDelay, combined
from .echo import Echoes, Heard
from .icmp import Kind, is_ipv4
from .path import HOPS_MAX, Hop, Path, candidates
from .train import PACKETS, PAYLOAD_BYTES, Spoilt, Train, Trains, measured

_log = logging.getLogger(__name__)

ACTIVE_S = 0.15
"""Between two echoes to the provider's side, while it matters: a queue is known of after two."""
PATIENT_S = 0.05
"""The same where a queue is what tells of the household first."""
REST_S = 3.0
"""The same while the line is not used by us: enough to keep the base."""
GENTLE_S = 1.0
"""To a hop that is to be asked seldom."""
LOOK_S = 5.0
"""How often the default route and the scheduler's address are compared with those of the path."""
RETRY_S = 30.0
"""After a search that found nobody: 20 small packets a minute at most."""
ROUNDS = 2
"""Echoes per distance of a search."""
SEARCH_S = 2.0
"""How long a search waits for those who do not answer."""
TRAIN_LOOK_S = 5.0
"""How often it is seen whether the line is idle; half of the first trains' spacing."""
TRAIN_QUEUEING_MS_MAX = 5.0
"""Above, somebody else's packets would be in the train's way."""


class DelayProbe:
    """:param target: the scheduler's host name or IPv4 address; None while there is none to search the way to.
    :param at_edge: whether this device is the home's router, which no network of the home lies before.
    :param patient: whether a queue is what tells of the household first, so that none may be taken for the way.
    """

    def __init__(
        self,
        target: Callable[[], str | None],
        clock: Clock,
        *,
        at_edge: Callable[[], bool] = lambda: False,
        patient: Callable[[], bool] = lambda: False,
        echoes: Echoes | None = None,
        routes: FilePath = ROUTES,
    ) -> None:
        self._target = target
        self._at_edge = at_edge
        self._patient = patient
        self._clock = clock
        self._echoes = Echoes() if echoes is None else echoes
        self._routes = routes
        self._active = asyncio.Event()
        self._path = Path(reason="the way is being searched")
        self._found_for: tuple[str | None, str, bool] | None = None
        self._delays: dict[Hop, HopDelay] = {}
        self.trains = Trains()
        """What the line can carry, by those that were sent."""
        self._towards = ""
        self._searched_at = self._looked_at = self._asked_gently_at = float("-inf")

    @property
    def path(self) -> Path:
        return self._path

    @property
    def reading(self) -> DelayReading:
        """Of now."""
        if self._echoes.unavailable is not None:
            return DelayReading(reason=self._echoes.unavailable)
        provider, home = self._path.provider, self._path.home
        if provider is None:
            return DelayReading(reason=self._path.reason)
        in_home = None if home is None else self._delays[home]
        return combined(self._clock.monotonic(), self._delays[provider], in_home, provider.address)

    def active(self, on: bool) -> None:
        """Whether the line is in use by us, and queues matter."""
        if on:
            self._active.set()
        else:
            self._active.clear()

    def wire_bytes(self) -> tuple[int, int]:
        """Sent and received by all echoes since the start, with headers."""
        return self._echoes.wire_up, self._echoes.wire_down

    async def run(self) -> None:
        """Until cancelled; returns only where there can be no echoes."""
        if self._echoes.unavailable is not None:
            _log.warning("no round-trip times: %s", self._echoes.unavailable)
            return
        while True:
            await self.step()
            await self._wait()

    async def step(self) -> None:
        """Find the path if it is not known, and ask its hops once."""
        if self._search_is_due():
            await self._search()
        self._ask()

    async def run_trains(
        self, idle: Callable[[], bool], carried: Callable[[], tuple[int, int]], look_s: float = TRAIN_LOOK_S
    ) -> None:
        """Until cancelled: a train whenever one is due and the line is ``idle``. ``carried`` as of :meth:`train`."""
        while True:
            await asyncio.sleep(look_s)
            if idle():
                await self.train(carried)

    async def train(self, carried: Callable[[], tuple[int, int]]) -> None:
        """Send a train if one is due and no queue stands; call it while the line is idle.

        :param carried: bytes that the line has carried up and down so far, ours included.
        """
        now = self._clock.monotonic()
        hop, queueing_ms = self._path.provider, self.reading.queueing_ms
        if hop is None or hop.gentle or queueing_ms is None or queueing_ms > TRAIN_QUEUEING_MS_MAX:
            return
        if not self.trains.due(now):
            return
        carried_before, own_before = carried(), self.wire_bytes()
        heard = await asyncio.gather(
            *(self._echoes.send(hop.address, payload_bytes=PAYLOAD_BYTES) for _ in range(PACKETS))
        )
        others = [
            total - before - (own - own_then)
            for total, before, own, own_then in zip(
                carried(), carried_before, self.wire_bytes(), own_before, strict=True
            )
        ]
        if any(answer.kind is Kind.UNSENT for answer in heard):
            result: float | Spoilt = Spoilt("echoes were not sent")
        else:
            received = [answer.received_at if answer.kind is Kind.REPLY else None for answer in heard]
            result = measured(Train([answer.sent_at for answer in heard], received, max(0, *others)))
        self.trains = self.trains.after(now, result)

    def close(self) -> None:
        """Idempotent."""
        self._echoes.close()

    async def _wait(self) -> None:
        if self._active.is_set():
            await asyncio.sleep(PATIENT_S if self._patient() else ACTIVE_S)
            return
        try:
            async with asyncio.timeout(REST_S):
                await self._active.wait()
        except TimeoutError:
            pass  # at rest still

    # -------------------------------------------------------------- the path

    def _search_is_due(self) -> bool:
        now = self._clock.monotonic()
        provider = self._path.provider
        silent = provider is None or self._delays[provider].silent
        if now - self._looked_at >= LOOK_S:
            self._looked_at = now
            if self._here() != self._found_for:
                return True
        return silent and now - self._searched_at >= RETRY_S

    def _here(self) -> tuple[str | None, str, bool]:
        """What a path depends on: where it goes, and how it begins."""
        return self._target(), _default_routes(self._routes), self._at_edge()

    async def _search(self) -> None:
        """Find the path anew. Hops that are on it still keep what is known of them, unless they fell silent."""
        self._searched_at = self._looked_at = self._clock.monotonic()
        moved = self._here() != self._found_for
        self._found_for = self._here()
        before = self._path
        self._path = await self._searched(self._found_for[0])
        kept = {} if moved else self._delays
        self._delays = {}
        for hop in (self._path.home, self._path.provider):
            if hop is not None:
                known = kept.get(hop, HopDelay())
                self._delays[hop] = HopDelay() if known.silent else known
        if self._path != before:
            _log.info("round-trip times: %s", _told(self._path))

    async def _searched(self, target: str | None) -> Path:
        if target is None:
            return Path(reason="no scheduler is known")
        address = await _resolved(target)
        if address is None:
            return Path(reason=f"{target} has no IPv4 address that can be found")
        if ipaddress.IPv4Address(address).is_loopback:
            return Path(reason="the scheduler is on this device; no line is between")
        self._towards = address
        home, tries = candidates(await self._way(address), self._at_edge(), address)
        # The home's hop that answers no echo has no second way: its expiries are too rare to be subtracted.
        if home is not None and not await self._echoed(home.address):
            home = None
        for hop in tries:
            if await self._echoed(hop.address):
                return Path(home, hop)
        if tries:
            # It was found by expiry, so that much it answers.
            return Path(home, Hop(tries[0].address, tries[0].ttl, by_expiry=True))
        if await self._echoed(address):
            return Path(home, Hop(address, 0, distant=True))
        return Path(reason=f"nobody on the way to {target} answers")

    async def _way(self, address: str) -> list[str | None]:
        """Who answers at 1, 2, … hops, up to the target."""
        way: list[str | None] = [None] * HOPS_MAX
        for _ in range(ROUNDS):
            asked = (self._echoes.send(address, ttl=ttl, lost_after_s=SEARCH_S) for ttl in range(1, HOPS_MAX + 1))
            heard = await asyncio.gather(*asked)
            for distance, answer in enumerate(heard):
                if answer.kind in (Kind.EXPIRED, Kind.REPLY):
                    way[distance] = answer.address
            if None not in way or address in way:
                break
        return way[: way.index(address) + 1] if address in way else way

    async def _echoed(self, address: str) -> bool:
        heard = await asyncio.gather(*(self._echoes.send(address, lost_after_s=SEARCH_S) for _ in range(ROUNDS)))
        return any(answer.kind is Kind.REPLY for answer in heard)

    # -------------------------------------------------------------- echoes

    def _ask(self) -> None:
        provider, home = self._path.provider, self._path.home
        if provider is None:
            return
        now = self._clock.monotonic()
        if not provider.gentle or now - self._asked_gently_at >= GENTLE_S:
            self._asked_gently_at = now
            self._send(provider)
            if home is not None:
                # In the same moment: Wi-Fi is another one soon, and what both have met is to be taken off.
                self._send(home)

    def _send(self, hop: Hop) -> None:
        to, ttl = (self._towards, hop.ttl) if hop.by_expiry else (hop.address, None)
        heard = self._echoes.send(to, ttl=ttl)
        heard.add_done_callback(lambda done: self._take(hop, done))

    def _take(self, hop: Hop, done: asyncio.Future[Heard]) -> None:
        if done.cancelled() or hop not in self._delays:
            return  # the path has changed since
        heard = done.result()
        expected = Kind.EXPIRED if hop.by_expiry else Kind.REPLY
        if heard.kind is expected and heard.address == hop.address and heard.rtt_ms is not None:
            assert heard.received_at is not None
            minutes = BASE_MINUTES_PATIENT if self._patient() else BASE_MINUTES
            self._delays[hop] = self._delays[hop].after_answer(heard.received_at, heard.rtt_ms, minutes)
        else:
            self._delays[hop] = self._delays[hop].after_loss()


async def _resolved(host: str) -> str | None:
    if is_ipv4(host):
        return host
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, None, family=socket.AF_INET, type=socket.SOCK_DGRAM)
    except (OSError, UnicodeError):  # no such host, or no such name
        return None
    return str(found[0][4][0]) if found else None


def _default_routes(routes: FilePath) -> str:
    """The default routes as the kernel lists them, interface and gateway; to be compared only."""
    try:
        lines = routes.read_text("ascii", "replace").splitlines()
    except OSError:
        return ""
    return "\n".join("\t".join(line.split()[:3]) for line in lines if line.split()[1:2] == ["00000000"])


def _told(path: Path) -> str:
    if path.provider is None:
        return f"none, for {path.reason}"
    how = " by expiry" if path.provider.by_expiry else ""
    return f"to {path.provider.address}{how}, less those to {path.home.address if path.home else 'nobody'}"
