"""Probe tasks, one after the other: what the lane of :mod:`..uplink.lanes` does for them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from fallow_wire.errors import FallowError
from fallow_wire.probes import AVOID, ProbeResult, read_probe
from fallow_wire.session import Task

from ..clock import Clock
from ..lan.guard import InterfaceAddress
from ..lan.interfaces import read_addresses
from ..uplink.lanes import Outcome
from .attempts import Attempts
from .home import may_probe
from .pace import Pace

IDLE_BPS_MIN = 64_000
"""Each way. With less the household uses the line; the measurement would disturb it, and be of the household."""
IDLE_POLL_S = 1.0
NOT_ALLOWED = "the owner does not allow probes now"
BETWEEN_S = 1.0
"""Between the measurements of one probe: they shall not queue behind one another."""


class Prober:
    """:param allowed: by the owner, now. :param idle_bps: what may be used of the line now, the lesser of both ways.
    :param public: addresses of this home as the internet sees it. :param own: addresses of the device."""

    at_once = 1
    waiting_max = 20
    waiting_bytes_max = 0
    """They carry no manifests."""

    def __init__(
        self,
        clock: Clock,
        allowed: Callable[[], bool],
        idle_bps: Callable[[], int],
        public: Callable[[], Iterable[str]],
        own: Callable[[], Iterable[InterfaceAddress]] = read_addresses,
    ) -> None:
        self._clock = clock
        self._allowed = allowed
        self._idle_bps = idle_bps
        self._public = public
        self._own = own
        self._pace = Pace(clock.monotonic())
        self._up_bytes = 0
        self._down_bytes = 0

    def wire_bytes(self) -> tuple[int, int]:
        """Sent and received since the start, on the wire."""
        return self._up_bytes, self._down_bytes

    def fault(self, task: Task) -> str | None:
        return None if self._allowed() else NOT_ALLOWED

    async def do(self, task: Task, progress: Callable[[int], None]) -> Outcome:
        """:raises FallowError: it may not be done here, or not in time."""
        probe = read_probe(task.parameters)
        await self._idle(task)
        refusal = self._pace.refusal(probe.host, self._clock.monotonic())
        if refusal is not None:
            raise FallowError(refusal, slug="too-often")
        seen_at = [*self._public(), *([task.parameters[AVOID]] if AVOID in task.parameters else [])]
        own = tuple(self._own())
        attempts = Attempts(lambda address: may_probe(address, own, seen_at), self._clock.monotonic)
        found = []
        for number in range(probe.count):
            if number:
                await asyncio.sleep(BETWEEN_S)
                await self._idle(task)
            measured = await attempts.measure(probe)
            self._up_bytes += measured.up_bytes
            self._down_bytes += measured.down_bytes
            found.append(measured.attempt)
        return Outcome(result=ProbeResult(self._clock.now(), tuple(found)))

    async def _idle(self, task: Task) -> None:
        """Wait until the household leaves enough of the line."""
        while True:
            if not self._allowed():
                raise FallowError(NOT_ALLOWED, slug="service-off")
            if task.deadline is not None and self._clock.now() >= task.deadline:
                raise FallowError("the task's time is over", slug="deadline")
            if self._idle_bps() >= IDLE_BPS_MIN:
                return
            await asyncio.sleep(IDLE_POLL_S)
