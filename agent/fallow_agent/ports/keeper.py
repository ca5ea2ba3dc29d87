"""Asks for the service port at the home router for as long as the device serves, and gives it back at the end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Protocol

from . import FAMILIES
from .opening import Ask, Epoch, Grant, Opening, Outcome, restarted
from .place import Place
from .port_control import Way

_log = logging.getLogger(__name__)

LOOK_S = 30.0
"""How soon a new address or router is noticed."""
DOUBT_S = 60.0
"""At most so often is the router asked again because the port is not reached."""
RELEASE_S = 2.0
"""For giving everything back: stopping waits for it. What is not given back in time ends by itself."""


class Means(Protocol):
    """One way to ask: ``pcp``, ``natpmp``, ``upnp``."""

    by: str

    async def ask(self, way: Way, port: int, ask: Ask) -> Outcome: ...

    async def release(self, way: Way, port: int, ask: Ask) -> None:
        """Give back what was asked for, granted or not. Fails silently."""


class Keeper:
    """:param means: by family, in the order in which they are tried.
    :param look: where the device stands now.
    :param changed: called whenever something else is granted than before."""

    def __init__(
        self,
        means: Mapping[str, tuple[Means, ...]],
        *,
        look: Callable[[], Place],
        monotonic: Callable[[], float],
        changed: Callable[[], None],
    ) -> None:
        self._means = means
        self._look = look
        self._monotonic = monotonic
        self._changed = changed
        self._port = 0
        self._ports: tuple[int, ...] = ()
        self._ways: dict[str, Way] = {}
        self._openings: dict[str, Opening] = {}
        self._asking: dict[str, Ask] = {}
        self._epochs: dict[str, Epoch] = {}
        self._doubted_at = float("-inf")
        self._wake = asyncio.Event()

    def grants(self) -> dict[str, Grant]:
        """By family, what can be counted on now."""
        now = self._monotonic()
        found = {family: opening.held(now) for family, opening in self._openings.items()}
        return {family: grant for family, grant in found.items() if grant is not None}

    def opening(self, family: str) -> Opening | None:
        return self._openings.get(family)

    def doubt(self) -> None:
        """The port is not reached from outside: the router may have forgotten what it granted, and is asked again."""
        now = self._monotonic()
        if now - self._doubted_at >= DOUBT_S and self.grants():
            self._doubted_at = now
            self._hurry(now)

    def told(self, way: Way, epoch_s: int) -> None:
        """A router said how long it has remembered. Where it has forgotten, all is asked for again."""
        now = Epoch(epoch_s, self._monotonic())
        before, self._epochs[way.router] = self._epochs.get(way.router), now
        if restarted(before, now):
            _log.info("the home router has lost its mappings; they are asked for again")
            self._hurry(now.at)

    def _hurry(self, now: float) -> None:
        for family, opening in self._openings.items():
            if opening.grant is not None:
                self._openings[family] = opening.hurry(now)
        self._wake.set()

    # -------------------------------------------------------------- the loop

    async def run(self, port: int, external_ports: tuple[int, ...]) -> None:
        """Until cancelled; then :meth:`release`.

        :param port: the one that is bound. :param external_ports: to be asked for, in order.
        """
        self._port, self._ports = port, external_ports
        while True:
            self._wake.clear()
            self._follow(self._look())
            for family in FAMILIES:
                opening = self._openings.get(family)
                if opening is not None and opening.due_at <= self._monotonic():
                    await self._act(family, opening)
            await self._wait()

    async def _wait(self) -> None:
        due_at = min((opening.due_at for opening in self._openings.values()), default=float("inf"))
        wait_s = min(LOOK_S, due_at - self._monotonic())
        if wait_s > 0:
            try:
                async with asyncio.timeout(wait_s):
                    await self._wake.wait()
            except TimeoutError:
                pass

    def _follow(self, place: Place) -> None:
        """A new way begins anew; what was granted on the old one ends by itself, for its router is gone."""
        before = self.grants()
        for family in FAMILIES:
            way, means = place.ways.get(family), self._means.get(family, ())
            if way == self._ways.get(family):
                continue
            self._openings.pop(family, None)
            self._ways.pop(family, None)
            if way is not None and means:
                self._ways[family] = way
                self._openings[family] = Opening(tuple(one.by for one in means), self._ports, self._monotonic())
        if self.grants() != before:
            self._changed()

    async def _act(self, family: str, opening: Opening) -> None:
        way, ask = self._ways[family], opening.next()
        self._asking[family] = ask
        outcome = await self._by(family, ask).ask(way, self._port, ask)
        del self._asking[family]
        now = self._monotonic()
        before = opening.held(now)
        after = self._openings[family] = opening.after(outcome, now)
        held = after.held(now)
        news = _way_in(held) != _way_in(before)
        if news or after.rounds != opening.rounds:
            if held is not None and news:
                _log.info("the home router has opened TCP %d (%s) by %s", held.port, family, held.by)
            elif after.rounds == 1 and opening.rounds == 0:
                _log.info("the home router does not open a port (%s): %s", family, after.refusals or "no answer")
            self._changed()

    def _by(self, family: str, ask: Ask) -> Means:
        return next(one for one in self._means[family] if one.by == ask.by)

    # -------------------------------------------------------------- the end

    async def release(self) -> None:
        """Give back what is held, and what was being asked for when the loop was cancelled."""
        asks = dict(self._asking)
        for family, opening in self._openings.items():
            if opening.grant is not None:
                asks[family] = opening.next()
        giving = [self._by(family, ask).release(self._ways[family], self._port, ask) for family, ask in asks.items()]
        held = bool(self.grants())
        self._openings.clear()
        self._ways.clear()
        self._asking.clear()
        if giving:
            try:
                async with asyncio.timeout(RELEASE_S):
                    await asyncio.gather(*giving)
            except TimeoutError:
                _log.info("the home router did not take the port back in time; it closes it later")
        if held:
            self._changed()


def _way_in(grant: Grant | None) -> tuple[str, str | None, int] | None:
    """What others hear of: that a lease was prolonged is no news."""
    return None if grant is None else (grant.by, grant.address, grant.port)
