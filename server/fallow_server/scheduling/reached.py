"""How much of its time online a device could be reached by those who asked: what the ledger's "with a reachable port"
is computed from. Pure: times are monotonic seconds.

A device without a service address that answers gets no consumers. One that answers by IPv6 alone gets those who have
IPv6, who may be a half of all; consumers with IPv6 are sent to addresses of IPv4 too.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import takewhile

from .filters import family_of_url

FADE_S = 3 * 86_400
ONLINE_S_MIN = 3600
"""Less time online says nothing: the first dial-back may still be under way."""
ASKED_MIN = 100
"""Of fewer requests the families say nothing, and either is as good."""
ASKED_FADE = 100_000
"""After so many requests, those before count half."""
FORGOTTEN_S = 14 * 86_400


class _Time:
    __slots__ = ("at", "online_s", "reach", "reached_s", "there")

    def __init__(self, now: float) -> None:
        self.online_s = self.reached_s = self.reach = 0.0
        self.there = False
        self.at = now

    def pass_until(self, now: float) -> None:
        passed, self.at = now - self.at, now
        fade = math.exp(-passed / FADE_S)
        self.online_s *= fade
        self.reached_s *= fade
        if self.there:
            self.online_s += passed
            self.reached_s += passed * self.reach


class Reached:
    def __init__(self) -> None:
        self._devices: dict[str, _Time] = {}
        # Since when, the longest first: a fleet is not looked through for them.
        self._away: dict[str, float] = {}
        self._asked = 0.0
        self._asked_by_ipv6 = 0.0

    def asked(self, family: str) -> None:
        """A consumer of ``family`` asked for something, whoever served it."""
        if self._asked >= ASKED_FADE:
            self._asked /= 2
            self._asked_by_ipv6 /= 2
        self._asked += 1
        self._asked_by_ipv6 += family == "ipv6"

    def online(self, device_id: str, service_urls: Iterable[str], now: float) -> None:
        """The device is connected, and these addresses of it answer."""
        found = self._devices.get(device_id)
        if found is None:
            found = self._devices[device_id] = _Time(now)
        found.pass_until(now)
        found.there, found.reach = True, self._reach(service_urls)
        self._away.pop(device_id, None)

    def lost(self, device_id: str, now: float) -> None:
        found = self._devices.get(device_id)
        if found is not None:
            found.pass_until(now)
            found.there = False
            self._away.pop(device_id, None)
            self._away[device_id] = now

    def permille(self, device_id: str, now: float) -> int | None:
        """Of its latest time online; None where too little of it is known."""
        found = self._devices.get(device_id)
        if found is None:
            return None
        found.pass_until(now)
        return None if found.online_s < ONLINE_S_MIN else min(1000, round(1000 * found.reached_s / found.online_s))

    def forget(self, now: float) -> None:
        """Those who are away for long."""
        for name, _ in list(takewhile(lambda away: now - away[1] >= FORGOTTEN_S, self._away.items())):
            del self._away[name], self._devices[name]

    def _reach(self, service_urls: Iterable[str]) -> float:
        families = {*map(family_of_url, service_urls)}
        if not families:
            return 0.0
        if families != {"ipv6"} or self._asked < ASKED_MIN:
            return 1.0
        return self._asked_by_ipv6 / self._asked
