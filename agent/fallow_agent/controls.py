"""The owner's limits as they stand now: what may be served, how much was, and the answer to who comes in vain."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TypeVar

from fallow_wire.errors import PeerError
from fallow_wire.fields import decode, encode
from fallow_wire.lan import Limits

from .allowance import LocalTime, Usage, Used, minutes_until_open, month_used_up, within_hours
from .clock import Clock
from .edge.admission import Refusal, line_busy, paused
from .life import ACTIVE, Life
from .line.metered import METERED, is_metered
from .store import Settings

T = TypeVar("T")
_log = logging.getLogger(__name__)

USAGE_SAVE_S = 60.0
"""A kill forgets at most a minute of counted bytes; flash is spared."""
USAGE_SAVE_BYTES = 10_000_000
"""With less on the wire an hour is soon enough: echoes alone would else cost a write a minute, for ever."""
USAGE_SAVE_S_MAX = 3600.0
RETRY_PAUSED_S = 300
RETRY_WINDOW_S_MAX = 3600
OFFERED = ("object", "fill", "live", "probe")
"""Services that this version can give; the others are for later ones."""

LIMITS = "limits"
_USAGE = "usage"


class Controls:
    """Limits and usage, stored; and the gate of the service port."""

    def __init__(
        self, settings: Settings, clock: Clock, life: Callable[[], Life], metered: tuple[str, ...] = METERED
    ) -> None:
        """:param metered: patterns of WAN interfaces over which nothing is shared."""
        self._settings = settings
        self._clock = clock
        self._life = life
        self._metered = metered
        self._wan: str | None = None
        self._limits = _read(Limits, settings, LIMITS)
        self._usage = _read(Usage, settings, _USAGE)
        self._saved = self._usage
        self._saved_at = clock.monotonic()

    @property
    def limits(self) -> Limits:
        return self._limits

    @property
    def usage(self) -> Usage:
        """Today's and this month's."""
        return self._usage

    def set_limits(self, limits: Limits) -> None:
        self._settings.set(LIMITS, encode(limits), durable=True)
        self._limits = limits

    def forget(self) -> None:
        """The limits were the owner's who leaves; the month's bytes are the line's and stay."""
        self._settings.delete(LIMITS)
        self._limits = Limits()

    def take_wan(self, interface: str | None) -> None:
        """The line goes through this interface from now on; None where it is not known."""
        self._wan = interface

    def count(self, more: Used) -> None:
        """Add to today and the month; written to the disk now and then."""
        self._usage = self._usage.add(self.local_time(), more)
        elapsed, before = self._clock.monotonic() - self._saved_at, self._saved
        grown = self._usage.month_bytes - before.month_bytes >= USAGE_SAVE_BYTES or self._usage.day != before.day
        if elapsed >= (USAGE_SAVE_S if grown else USAGE_SAVE_S_MAX):
            self.save()

    def save(self) -> None:
        if self._usage != self._saved and self._settings.keep(_USAGE, encode(self._usage)):
            self._saved = self._usage
        self._saved_at = self._clock.monotonic()

    def local_time(self) -> LocalTime:
        now = time.localtime(self._clock.now())
        return LocalTime(time.strftime("%Y-%m-%d", now), now.tm_wday, now.tm_hour * 60 + now.tm_min)

    def services(self) -> tuple[str, ...]:
        """What may be served now, of what this version can."""
        if self.refusal() is not None:
            return ()
        return tuple(name for name in OFFERED if self._limits.services.get(name, True))

    def refusal(self) -> Refusal | None:
        """Why nobody is served now, or None."""
        life = self._life()
        if life.state != ACTIVE:
            return paused("The device's owner has paused it.", self._pause_left_s(life), "owner")
        if self._on_metered_line():
            return paused(self.costs(), RETRY_PAUSED_S, "metered")
        at = self.local_time()
        if not within_hours(self._limits.hours, at):
            wait_s = min(RETRY_WINDOW_S_MAX, minutes_until_open(self._limits.hours, at) * 60)
            return paused("The owner shares the line at other hours.", wait_s, "hours")
        if month_used_up(self._limits, self._usage):
            return line_busy(self.costs(), RETRY_WINDOW_S_MAX, "month")
        return None

    def costs(self) -> str:
        """Why bytes are dear now; empty when they are not."""
        if self._on_metered_line():
            return f"The line costs money by the byte ({self._wan})."
        return "This month's bytes are used up." if month_used_up(self._limits, self._usage) else ""

    def _on_metered_line(self) -> bool:
        return is_metered(self._wan, self._metered)

    def _pause_left_s(self, life: Life) -> int:
        if life.countdown is None:
            return RETRY_PAUSED_S
        return max(1, min(RETRY_WINDOW_S_MAX, life.countdown.ends_at() - self._clock.now()))


def _read(cls: type[T], settings: Settings, name: str) -> T:
    value = settings.get(name)
    try:
        return cls() if value is None else decode(cls, value, strict=False)
    except PeerError as error:
        _log.warning("the stored %s cannot be read (%s); the defaults hold", name, error.detail)
        return cls()
