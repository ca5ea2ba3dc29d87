"""The whole home's traffic by the router's own counters, for a device that is behind it.

:class:`RouterTraffic` is the decision, pure: what the household uses, how fast the router counts, and whether its
counters are worth anything. :class:`RouterMeter` asks the router over HTTP.

Routers count in 32 bits, and many look at their counters only every few seconds. So a reading with nothing new says
nothing, and a rate is an average since the counters moved before.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import aiohttp

from ..host.igd import COMMON, Igd, IgdError, IgdRefused, number
from .capacity import Estimate, of_modem
from .counters import advance
from .meter import Rates

BPS_MAX = 1_250_000_000
"""More than routers with 32-bit counters carry; what is above it is a counter that began anew."""
GAP_S_MAX = 60.0
"""After this long without an answer, counting begins anew: an average over it says nothing about now."""
PACE_S_MIN, PACE_S_MAX = 1.0, 15.0
GAPS_KEPT = 3
"""The pace is the longest of so many shortest gaps: one that came about by a late answer does not set it."""
ASK_S_MIN, ASK_S_MAX = 1.0, 2.0
OWN_KEPT = 64
CHECK_BYTES = 2_000_000
"""So much of our own must pass before the router's count is judged by it."""
CHECK_SHARE = 0.8
"""Our own bytes all pass the router; some of them are counted before they pass, and links add or drop framing."""


@dataclass(frozen=True, slots=True)
class Totals:
    """Bytes through the router's WAN side, as it counts them; ``at`` is monotonic."""

    at: float
    up: int
    down: int


@dataclass(frozen=True, slots=True)
class _Moment:
    """Cumulative bytes from when counting began."""

    at: float
    up: int
    down: int


@dataclass(frozen=True, slots=True)
class RouterTraffic:
    """What follows from the readings so far. Begins empty; each reading gives the next one by :meth:`after`."""

    total: Rates | None = None
    """Everything through the WAN; None until the counters have moved twice, and again after a gap."""
    household: Rates | None = None
    """Without our own, as much of it as is sure: where the router's clock and ours cannot be aligned, less."""
    credible: bool = False
    """The counters move, and count at least what we ourselves have sent and received."""
    reading: Totals | None = None
    moving: bool = False
    """The counters have moved since counting began."""
    moved: _Moment | None = None
    """The last reading in which the counters had moved; before, the first reading of all."""
    gaps: tuple[float, ...] = ()
    """The shortest times between two such readings, in order. A home that is silent makes long ones too."""
    own: tuple[_Moment, ...] = ()
    judged_from: tuple[_Moment, _Moment] | None = None
    """The router's count and ours when the judgement under way began."""

    @property
    def pace_s(self) -> float:
        """How often the router renews its counters, as far as is known."""
        return min(self.gaps[-1], PACE_S_MAX) if len(self.gaps) == GAPS_KEPT else PACE_S_MIN

    @property
    def ask_again_s(self) -> float:
        """Half of the pace, but soon in any case: what is asked rarely is not seen to be renewed often."""
        return min(max(ASK_S_MIN, self.pace_s / 2), ASK_S_MAX)

    def after(self, totals: Totals, own_up: int, own_down: int) -> RouterTraffic:
        """:param own_up, own_down: our own bytes on the wire since we started, at ``totals.at``."""
        before = self.reading
        own = _Moment(totals.at, own_up, own_down)
        if before is None or not 0 < totals.at - before.at <= GAP_S_MAX or self.moved is None:
            return self._anew(totals, own)
        if own_up < self.own[-1].up or own_down < self.own[-1].down:
            return self._anew(totals, own)
        last = self.moved
        elapsed = totals.at - before.at
        up = advance(before.up, totals.up, elapsed, BPS_MAX)
        down = advance(before.down, totals.down, elapsed, BPS_MAX)
        if up is None or down is None:
            return self._anew(totals, own)
        owns = (*self.own, own)[-OWN_KEPT:]
        if up == 0 and down == 0:
            return self._still(totals, owns)
        moment = _Moment(totals.at, last.up + up, last.down + down)
        if not self.moving:
            # Since when this was counted is not known: it is where a rate can begin.
            return replace(self, reading=totals, moved=moment, moving=True, own=owns, credible=True)
        since = totals.at - last.at
        # A line that was silent for long and then moved did so within the router's pace.
        pace = self.pace_s
        over = max(elapsed, since if since <= 1.5 * pace else pace)
        total = Rates(int(up * 8 / over), int(down * 8 / over))
        lag = max(elapsed, pace)
        # What was counted now has passed since the counters were renewed last, which is at most a pace before we asked.
        span = min(since, elapsed + pace)
        household = Rates(
            max(0, int((up - _most(owns, span, lag, lambda m: m.up)) * 8 / over)),
            max(0, int((down - _most(owns, span, lag, lambda m: m.down)) * 8 / over)),
        )
        made = replace(
            self,
            reading=totals,
            moved=moment,
            gaps=tuple(sorted((*self.gaps, since))[:GAPS_KEPT]),
            own=owns,
            total=total,
            household=household,
        )
        return made._judged(moment, _at(owns, last.at))

    def _anew(self, totals: Totals, own: _Moment) -> RouterTraffic:
        start = _Moment(totals.at, 0, 0)
        return RouterTraffic(reading=totals, moved=start, gaps=self.gaps, own=(own,), judged_from=(start, own))

    def _still(self, totals: Totals, owns: tuple[_Moment, ...]) -> RouterTraffic:
        """Nothing new. After twice the pace, nothing has passed; unless we know better, for it was ours."""
        made = replace(self, reading=totals, own=owns)
        assert self.moved is not None
        last, now = self.moved, owns[-1]
        if totals.at - last.at <= 2 * self.pace_s:
            return made
        then = _at(owns, last.at)
        if now.up - then.up > CHECK_BYTES or now.down - then.down > CHECK_BYTES:
            return replace(made, credible=False, total=None, household=None)
        if self.total is not None:
            return replace(made, total=Rates(0, 0), household=Rates(0, 0))
        return made

    def _judged(self, moment: _Moment, own: _Moment) -> RouterTraffic:
        """The router must have counted what was ours before it counted last."""
        assert self.judged_from is not None
        count_from, own_from = self.judged_from
        ours = (own.up - own_from.up, own.down - own_from.down)
        counted = (moment.up - count_from.up, moment.down - count_from.down)
        if max(ours) < CHECK_BYTES:
            return self
        credible = all(c >= CHECK_SHARE * o for c, o in zip(counted, ours, strict=True) if o >= CHECK_BYTES / 2)
        return replace(self, credible=credible, judged_from=(moment, self.own[-1]))


def _at(owns: tuple[_Moment, ...], at: float) -> _Moment:
    """Our count at a time, by the readings around it."""
    before = owns[0]
    for moment in owns:
        if moment.at > at:
            if before.at >= moment.at or at <= before.at:
                return before
            share = (at - before.at) / (moment.at - before.at)
            up = before.up + int(share * (moment.up - before.up))
            return _Moment(at, up, before.down + int(share * (moment.down - before.down)))
        before = moment
    return before


def _most(owns: tuple[_Moment, ...], length: float, lag: float, of: Callable[[_Moment], int]) -> int:
    """The most that was ours in a span of ``length`` that ended within ``lag`` before now."""
    now = owns[-1].at
    ends = [now - lag, *(moment.at for moment in owns if moment.at >= now - lag)]
    return max(of(_at(owns, end)) - of(_at(owns, end - length)) for end in ends)


class RouterMeter:
    """Reads a router's counters: one HTTP call where it has all in one answer (FRITZ!Box, in 64 bits), else two."""

    def __init__(self, http: aiohttp.ClientSession, igd: Igd, monotonic: Callable[[], float]) -> None:
        self._http = http
        self._igd = igd
        self._monotonic = monotonic
        self._addon = igd.service(COMMON, "GetAddonInfos")
        self._sent = igd.service(COMMON, "GetTotalBytesSent")
        self._received = igd.service(COMMON, "GetTotalBytesReceived")

    @property
    def counts(self) -> bool:
        """True where the router says that it has counters."""
        return self._addon is not None or (self._sent is not None and self._received is not None)

    async def read(self) -> Totals:
        """:raises IgdError: no answer, or one without counters."""
        if self._addon is not None:
            try:
                return await self._read_addon()
            except IgdRefused:
                self._addon = None  # announced, and not there: by the standard's actions from now on
        if self._sent is None or self._received is None:
            raise IgdError("the router has no byte counters")
        began = self._monotonic()
        sent = await self._igd.call(self._http, self._sent, "GetTotalBytesSent")
        received = await self._igd.call(self._http, self._received, "GetTotalBytesReceived")
        up, down = number(sent, "NewTotalBytesSent"), number(received, "NewTotalBytesReceived")
        return _totals((began + self._monotonic()) / 2, up, down)

    async def _read_addon(self) -> Totals:
        assert self._addon is not None
        began = self._monotonic()
        found = await self._igd.call(self._http, self._addon, "GetAddonInfos")
        up, down = number(found, "NewX_AVM_DE_TotalBytesSent64"), number(found, "NewX_AVM_DE_TotalBytesReceived64")
        if up is None or down is None:
            up, down = number(found, "NewTotalBytesSent"), number(found, "NewTotalBytesReceived")
        return _totals((began + self._monotonic()) / 2, up, down)

    async def capacity(self) -> tuple[list[Estimate], list[Estimate]]:
        """The modem's rates, up and down, as far as they can be believed (:func:`.capacity.of_modem`).

        :raises IgdError: as :meth:`read` does; a router without the action has empty lists.
        """
        service = self._igd.service(COMMON, "GetCommonLinkProperties")
        if service is None:
            return [], []
        found = await self._igd.call(self._http, service, "GetCommonLinkProperties")
        return of_modem(
            number(found, "NewLayer1UpstreamMaxBitRate") or 0,
            number(found, "NewLayer1DownstreamMaxBitRate") or 0,
            found.get("NewWANAccessType", ""),
            found.get("NewPhysicalLinkStatus", "") == "Up",
        )


def _totals(at: float, up: int | None, down: int | None) -> Totals:
    if up is None or down is None:
        raise IgdError("the router's answer has no byte counters")
    return Totals(at, up, down)
