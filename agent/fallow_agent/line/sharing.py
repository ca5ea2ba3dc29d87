"""The loop that gives the household its line and others what is left of it, and keeps the record of how that went."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import random
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from fallow_wire.errors import PeerError
from fallow_wire.harm import HarmDay
from fallow_wire.keys import PrivateKey
from fallow_wire.session import Line

from ..clock import Clock
from ..controls import Controls
from ..store import Settings
from . import FORECAST, HARM, harm
from .budget import YIELD_SHARE, upload_budget_bps
from .contrast import Contrast, Seen
from .delay import DelayReading
from .harm import Harm, Step
from .household import COUNTERS
from .pacer import Pacer
from .reader import LineReader
from .survey import Survey

_log = logging.getLogger(__name__)

STEP_S = 0.1
"""While somebody is served or filled: the household gets its line back within two of them."""
UNSEEN_STEP_S = 0.05
"""The same where a queue tells of the household first: it tells late, so that no more time is to be lost."""
IDLE_STEP_S = 1.0
"""While nobody is: the line is watched, and the processor left alone."""
SAVE_S = 3600.0
"""Of the forecast and the record: flash is spared, and a power cut costs an hour of them."""
ELAPSED_S_MAX = 5.0
REST_SHARE = 0.02
"""Of the upload capacity: what devices of a sleeping home exchange."""


class Delay(Protocol):
    """Round trips on the line; :class:`.delay_probe.DelayProbe`."""

    @property
    def reading(self) -> DelayReading: ...

    def active(self, on: bool) -> None: ...


class Sharing:
    """Built with the line's parts; :meth:`run` is its loop.

    :param headroom: of a budget, what processor and temperature leave.
    """

    def __init__(
        self,
        reader: LineReader,
        pacer: Pacer,
        delay: Delay,
        survey: Survey,
        *,
        key: PrivateKey,
        clock: Clock,
        controls: Controls,
        settings: Settings,
        headroom: Callable[[int], int],
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._reader = reader
        self._pacer = pacer
        self._delay = delay
        self._survey = survey
        survey.in_use = lambda: self.in_use(clock.monotonic())
        survey.at_rest = self.at_rest
        self._key = key
        self._clock = clock
        self._controls = controls
        self._settings = settings
        self._headroom = headroom
        self._chance = chance
        self._contrast = Contrast()
        self._harm = self._stored_harm()
        self._signed: tuple[tuple[HarmDay, ...], str] | None = None
        self._used = asyncio.Event()
        """The line is wanted: its next step is not to wait."""
        pacer.on_start = self._used.set
        self._filled_at = float("-inf")
        self._held = False
        self._stepped_at = self._saved_at = clock.monotonic()
        self._heard: tuple[float, float] | None = None
        self._yields_seen = 0
        self._yield_under_way = False
        self.last_yield_ms: int | None = None
        self.budget_bps = 0
        """Of upload, now."""
        self.set_budget()

    # -------------------------------------------------------------- for others

    @property
    def line(self) -> Line:
        """The last reading, with the round trips on the line."""
        delay = self._delay.reading
        if delay.rtt_ms is None or delay.rtt_base_ms is None:
            return self._reader.line
        return dataclasses.replace(self._reader.line, rtt_ms=round(delay.rtt_ms), rtt_base_ms=round(delay.rtt_base_ms))

    def coming_bps(self) -> tuple[int, ...]:
        """Upload of this hour and the 23 after it, as forecast, under the owner's limits."""
        capacity_bps, limits = self._reader.line.up_capacity_bps, self._controls.limits
        return tuple(upload_budget_bps(capacity_bps, idle, limits) for idle in self._reader.coming(self._clock.now()))

    def download_bps(self) -> int:
        """What fills may take now; asked before each piece of one."""
        if self._held or self._controls.refusal() is not None:
            return 0
        self._filled_at = self._clock.monotonic()
        self._used.set()
        return self._headroom(self._reader.down_budget_bps)

    def hold(self, on: bool) -> None:
        """Nothing is sent or filled while a speed test has the line; it is watched as closely as ever."""
        self._held = on
        self._used.set()
        self.set_budget()

    def set_budget(self) -> None:
        """By the last reading and the owner's limits of now."""
        capacity_bps, idle_bps = self._reader.line.up_capacity_bps, self._reader.up_budget_bps
        budget_bps = self._headroom(upload_budget_bps(capacity_bps, idle_bps, self._controls.limits))
        self.budget_bps = 0 if self._held else budget_bps
        self._pacer.set_rate(0 if self._contrast.silent else self.budget_bps)

    def status(self) -> dict[str, Any]:
        """The members of ``GET /v1/status`` that are about the line."""
        delay = self._delay.reading
        found: dict[str, Any] = {
            "line": self.line,
            "budget_up_bps": self.budget_bps,
            "last_yield_ms": self.last_yield_ms,
            "forecast_idle_up_bps": self.coming_bps(),
            "household_seen_by": self._reader.household.seen_by,
            "do_no_harm": self.signed_harm(),
        }
        if delay.queueing_ms is not None:
            found["queueing_ms"] = round(delay.queueing_ms, 1)
        return found

    def signed_harm(self) -> str:
        """The do-no-harm record under the device's signature; made anew when it has changed."""
        if self._signed is None or self._signed[0] != self._harm.days:
            self._signed = (self._harm.days, self._harm.signed(self._key, self._clock.now()))
        return self._signed[1]

    def yields_on(self, day: str) -> int:
        return sum(one.yields for one in self._harm.days if one.day == day)

    def save(self) -> None:
        self._saved_at = self._clock.monotonic()
        self._settings.keep(FORECAST, self._reader.forecast.as_json())
        self._settings.keep(HARM, self._harm.as_json())
        self._survey.save()

    def close(self) -> None:
        self._reader.close()
        self.save()

    # -------------------------------------------------------------- the loop

    async def run(self, follow_up: Callable[[], Awaitable[None]]) -> None:
        """Step by step: read the line and give the household what it wants.

        :param follow_up: once a second and at each yield, all that follows from it.
        """
        done_at = float("-inf")
        while True:
            now = self._clock.monotonic()
            yielded = self._step(now)
            if yielded or now - done_at >= IDLE_STEP_S:
                done_at = now
                self._survey.decide()
                await follow_up()
            if now - self._saved_at >= SAVE_S:
                self.save()
            self._used.clear()
            if self.in_use(now):
                await asyncio.sleep(STEP_S if self._reader.household.seen_by == COUNTERS else UNSEEN_STEP_S)
            else:
                try:
                    async with asyncio.timeout(IDLE_STEP_S):
                        await self._used.wait()
                except TimeoutError:
                    pass  # still nobody

    def in_use(self, now: float) -> bool:
        return self._held or self._pacer.transfers > 0 or now - self._filled_at < IDLE_STEP_S

    def at_rest(self) -> bool:
        """Whether the line may be used, and neither we nor the household do."""
        line, used = self._reader.line, self.in_use(self._clock.monotonic())
        idle = line.household_up_bps + line.household_down_bps < REST_SHARE * line.up_capacity_bps
        return idle and not used and self._controls.refusal() is None

    def _step(self, now: float) -> bool:
        """:returns: whether a transfer had to yield."""
        elapsed, self._stepped_at = now - self._stepped_at, now
        delay, in_use = self._delay.reading, self.in_use(now)
        self._delay.active(in_use)
        line = self._reader.read(now, self._clock.now(), standing_ms(delay, self._pacer.queueing_ms()))
        self._survey.take(now, self._reader.total, delay.queueing_ms)
        # A speed test is the owner's own use of the line: what it does to round trips is not our record's.
        serving = self._pacer.transfers > 0 and not self._held
        yielding = self._reader.up.yielding(now)
        seen = Seen(line.own_up_bps, line.up_capacity_bps, yielding, self._newly_heard(delay))
        self._contrast = self._contrast.after(now, seen, self._chance) if serving else Contrast(self._contrast.due_at)
        self.set_budget()
        yields, yield_ms = self._yields(serving)
        step = Step(
            # After a suspension nobody knows what was; it is not counted.
            seconds=elapsed if elapsed <= ELAPSED_S_MAX else 0.0,
            shared=in_use and not self._held,
            over_budget=not self._held and self._reader.full and line.own_up_bps > YIELD_SHARE * line.up_capacity_bps,
            yields=yields,
            yield_ms=yield_ms,
            comparison=self._contrast.found,
        )
        if in_use or step.yield_ms is not None:
            self._harm = self._harm.after(self._controls.local_time().day, step)
        return yields > 0

    def _yields(self, serving: bool) -> tuple[int, int | None]:
        """Onsets that somebody who is served had to yield to, and the time that the last one took, once it is known.

        An idle device has nothing to yield.
        """
        took_ms = None
        if self._yield_under_way and (took_ms := self._reader.up.yield_ms) is not None:
            self._yield_under_way, self.last_yield_ms = False, took_ms
        yields, self._yields_seen = self._reader.up.yields - self._yields_seen, self._reader.up.yields
        if not yields or not serving:
            return 0, took_ms
        self._yield_under_way = True
        return yields, took_ms

    def _newly_heard(self, delay: DelayReading) -> tuple[float, ...]:
        """The round trip that was not seen in the step before, if there is one."""
        heard = delay.heard
        if heard is None or heard == self._heard:
            return ()
        self._heard = heard
        return (heard[1],)

    def _stored_harm(self) -> Harm:
        stored = self._settings.get(HARM)
        try:
            return Harm() if stored is None else harm.from_json(stored)
        except PeerError as error:
            _log.warning("the do-no-harm record cannot be read (%s); it begins anew", error.detail)
            return Harm()


def standing_ms(delay: DelayReading, own_ms: float | None) -> float | None:
    """What packets wait: by the echoes, or by our own packets where there are none.

    An echo alone may be a straggler, and its median is late; so may one of our packets. What both say is so at once.

    :param own_ms: what our own packets wait, None while none are under way.
    """
    if delay.queueing_ms is None or own_ms is None:
        return own_ms if delay.queueing_ms is None else delay.queueing_ms
    if delay.heard is None or delay.rtt_base_ms is None:
        return delay.queueing_ms
    return max(delay.queueing_ms, min(own_ms, delay.heard[1] - delay.rtt_base_ms))
