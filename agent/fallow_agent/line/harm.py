"""The do-no-harm record: what sharing did to the household, day by day. Pure.

It counts what the controller saw and did, and what the comparisons (:mod:`.contrast`) found. The shape of a day, and
what its totals mean, is of the wire: :class:`fallow_wire.harm.HarmDay`.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, replace
from typing import Any

from fallow_wire.errors import Malformed
from fallow_wire.fields import decode
from fallow_wire.harm import DAYS_MAX, HarmDay, HarmRecord
from fallow_wire.jws import Kind, sign
from fallow_wire.keys import PrivateKey

FELT_MS = 10.0
"""What a call does not notice: over it, sharing was felt."""


@dataclass(frozen=True, slots=True)
class Step:
    """What one step of the line adds. ``seconds`` that it stands for; ``comparison``: round trips with sharing and
    without, in ms; ``yield_ms``: how long a yield that has just ended took."""

    seconds: float = 0.0
    shared: bool = False
    over_budget: bool = False
    yields: int = 0
    yield_ms: int | None = None
    comparison: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class Harm:
    """The days so far, oldest first; ``shared_s`` and ``over_budget_s`` are parts of a second not yet in the last."""

    days: tuple[HarmDay, ...] = ()
    shared_s: float = 0.0
    over_budget_s: float = 0.0

    def after(self, day: str, step: Step) -> Harm:
        """:param day: local, as 2026-11-23. One before the last known is a wrong clock and counts into the last."""
        if not self.days or day > self.days[-1].day:
            kept = self.days[-(DAYS_MAX - 1) :]
            return Harm((*kept, HarmDay(day)), self.shared_s, self.over_budget_s).after(day, step)
        shared_s = self.shared_s + step.seconds * step.shared
        over_s = self.over_budget_s + step.seconds * step.over_budget
        last = self.days[-1]
        last = replace(
            last,
            shared_s=last.shared_s + int(shared_s),
            over_budget_s=last.over_budget_s + int(over_s),
            yields=last.yields + step.yields,
        )
        if step.yield_ms is not None:
            last = replace(
                last,
                yields_timed=last.yields_timed + 1,
                yield_ms_total=last.yield_ms_total + step.yield_ms,
                yield_ms_max=max(last.yield_ms_max, step.yield_ms),
            )
        if step.comparison is not None:
            on_ms, off_ms = step.comparison
            last = replace(
                last,
                comparisons=last.comparisons + 1,
                rtt_on_us_total=last.rtt_on_us_total + round(on_ms * 1000),
                rtt_off_us_total=last.rtt_off_us_total + round(off_ms * 1000),
                felt=last.felt + (on_ms - off_ms > FELT_MS),
            )
        return Harm((*self.days[:-1], last), shared_s % 1, over_s % 1)

    def as_json(self) -> list[Any]:
        return [list(dataclasses.astuple(day)) for day in self.days]

    def signed(self, key: PrivateKey, now: int) -> str:
        """The record as the device vouches for it: a compact JWS of kind :attr:`fallow_wire.jws.Kind.HARM`.

        :param now: Unix seconds.
        """
        did = key.public.device_id()
        return sign(Kind.HARM, HarmRecord(did, key.public.jwk(), now, self.days), key, kid=did)


def from_json(value: object) -> Harm:
    """What :meth:`Harm.as_json` gave. :raises Malformed: it is something else."""
    if not isinstance(value, list) or not all(isinstance(day, list) for day in value):
        raise Malformed("a list of days is wanted")
    names = [field.name for field in dataclasses.fields(HarmDay)]
    days = (dict(zip(names, day, strict=False)) for day in value[-DAYS_MAX:])
    return Harm(tuple(decode(HarmDay, day, strict=True) for day in days))
