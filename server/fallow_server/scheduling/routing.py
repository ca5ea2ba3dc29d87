"""Which devices serve this request now."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from .filters import Config, Request, routing_refusal
from .views import DeviceView

DRAWS_FOR_ONE = 2
"""The power of two choices: of two drawn at random the one with more left, which keeps the fullest far from full."""


def eligible(devices: Iterable[DeviceView], request: Request, config: Config) -> list[DeviceView]:
    return [device for device in devices if routing_refusal(device, request, config) is None]


def one_per_line(
    candidates: Sequence[DeviceView], lines: Sequence[str | None], draw: Callable[[], float]
) -> list[DeviceView]:
    """One candidate of each line, drawn at random: any number of devices, real or made up, stands behind one.

    :param lines: of each candidate; None for one that is known to share its line with nobody.
    :param draw: gives numbers in [0, 1).
    """
    alone: list[DeviceView] = []
    shared: dict[str, list[DeviceView]] = {}
    for device, line in zip(candidates, lines, strict=True):
        (alone if line is None else shared.setdefault(line, [])).append(device)
    return alone + [devices[int(draw() * len(devices))] for devices in shared.values()]


def pick_one(candidates: Sequence[DeviceView], draws: Sequence[float]) -> DeviceView | None:
    """Of two candidates drawn at random the one with more idle upload left.

    :param draws: two numbers in [0, 1).
    """
    if not candidates:
        return None
    count = len(candidates)
    first = int(draws[0] * count)
    if count == 1:
        return candidates[first]
    # The second draw is among the others, so that two candidates are always compared.
    second = int(draws[1] * (count - 1))
    second += second >= first
    return max(candidates[first], candidates[second], key=lambda device: device.remaining_up_bps)


def odds_of_one(candidates: Sequence[DeviceView], chosen: DeviceView) -> int:
    """The chance, per mille, that :func:`pick_one` gave to ``chosen``: it wins against each that has less left, and
    half of the times against one that has as much."""
    count = len(candidates)
    if count == 1:
        return 1000
    left = chosen.remaining_up_bps
    weaker = sum(device.remaining_up_bps < left for device in candidates)
    equal = sum(device.remaining_up_bps == left for device in candidates) - 1
    return (2 * weaker + equal) * 1000 // (count * (count - 1))


def odds_of_several(candidates: Sequence[DeviceView], chosen: DeviceView) -> int:
    """The share, per mille, of the tickets of :func:`pick_several` that go to ``chosen``, about."""
    total = sum(device.remaining_up_bps for device in candidates)
    return chosen.remaining_up_bps * 1000 // total if total else 1000 // len(candidates)


def pick_several(candidates: Sequence[DeviceView], count: int, draws: Sequence[float]) -> list[DeviceView]:
    """At most ``count`` candidates, drawn without replacement and weighted by what they have left, best first.

    :param draws: one number in [0, 1) for each candidate (Efraimidis and Spirakis, 2006).
    """
    keyed = []
    for device, draw in zip(candidates, draws, strict=True):
        weight = device.remaining_up_bps
        keyed.append((draw ** (1 / weight) if weight else -1.0, device))
    keyed.sort(key=lambda entry: entry[0], reverse=True)
    return sorted((device for _, device in keyed[:count]), key=lambda device: -device.remaining_up_bps)


def assumed_bps(size_bytes: int, heartbeat_s: int, bps_max: int) -> int:
    """What a routed request is counted with until the next heartbeat shows it: its bytes over one heartbeat, capped,
    for a small object is served in a moment and a large one at the line's share."""
    return min(bps_max, size_bytes * 8 // max(1, heartbeat_s))
