"""Why a task is where it is: who was refused by what, and how the rest compared."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from .filters import Config, placement_refusal
from .views import Demand, DeviceView

HOME_TAKEN = "home-taken"
HOME_RESTED = "home-rested"
EXAMPLES_MAX = 5
"""Devices named of those that one reason keeps away; their number is told in full."""
SCORED_MAX = 20
"""Of the others, best first."""

Score = Callable[[DeviceView, Demand], Mapping[str, float]]
"""The parts of a score by their names; ``value`` is the whole."""


@dataclass(frozen=True, slots=True)
class Scored:
    device: DeviceView
    parts: Mapping[str, float]

    @property
    def value(self) -> float:
        return self.parts["value"]


@dataclass(frozen=True, slots=True)
class Sifted:
    """All devices that were looked at for one demand: ``refused`` by the reason, ``scored`` best first."""

    demand: Demand
    refused: Mapping[str, tuple[str, ...]]
    scored: tuple[Scored, ...]

    def told(self, decided_at: int, chosen: Collection[str]) -> dict[str, Any]:
        """As ``GET /v1/tasks/{id}/why`` tells it, of bounded size.

        :param decided_at: Unix seconds. :param chosen: ids of the devices that were asked.
        """
        first = sorted(self.scored, key=lambda one: one.device.device_id not in chosen)[:SCORED_MAX]
        return {
            "decided_at": decided_at,
            "wanted": self.demand.replicas,
            "considered": len(self.scored) + sum(map(len, self.refused.values())),
            "refused": {
                reason: {"devices": len(ids), "for_example": sorted(ids)[:EXAMPLES_MAX]}
                for reason, ids in sorted(self.refused.items())
            },
            "candidates": len(self.scored),
            "best": [
                {
                    "device": one.device.device_id,
                    "chosen": one.device.device_id in chosen,
                    # The wire has whole numbers only.
                    "score_permille": {name: round(part * 1000) for name, part in one.parts.items()},
                }
                for one in first
            ],
        }


def sift(
    demand: Demand,
    devices: Iterable[DeviceView],
    config: Config,
    score: Score,
    room: Callable[[str], int] | None = None,
) -> Sifted:
    """Filter and score.

    :param room: of a home (its owner): how many further tasks it may be given now; then one home also does no task
        twice. None where neither matters.
    """
    refused: dict[str, list[str]] = {}
    scored: list[Scored] = []
    for device in devices:
        reason = placement_refusal(device, demand, config)
        if reason is None and room is not None:
            if device.owner in demand.owners:
                reason = HOME_TAKEN
            elif room(device.owner) < 1:
                reason = HOME_RESTED
        if reason is None:
            scored.append(Scored(device, score(device, demand)))
        else:
            refused.setdefault(reason, []).append(device.device_id)
    scored.sort(key=lambda one: (-one.value, one.device.device_id))
    return Sifted(demand, {reason: tuple(ids) for reason, ids in refused.items()}, tuple(scored))
