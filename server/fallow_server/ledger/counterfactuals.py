"""What a settlement would have been worth otherwise: one input changed, everything else as it was. Pure.

Told is only what follows from stored inputs and the tariff. What would have to be guessed is named with the reason
why it is left out.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from fallow_wire.tariff import Factors, Tariff

REACHABLE = "reachable-port"
PERMILLE = 1000
REACH_MIN = 50
"""‰; of a device that could hardly ever be reached, what it served says nothing of what it would have."""


def counterfactuals(
    tier: str, factors: Factors, served: int, tariff: Tariff, reach: int | None = None
) -> list[dict[str, Any]]:
    """Cases that differ from what was booked; each with its points, and the change in ‰.

    :param served: bytes that the device claimed and the ticket allowed.
    :param reach: of the ticket.
    :return: ``if``, ``micro_points``, and where anything was booked ``more_permille`` or ``less_permille``.
    """
    cases: list[tuple[str, Factors]] = []
    countersigned = tariff.weights.get("countersigned", 0)
    if tier == "legacy":
        cases.append(("countersigned", replace(factors, weight=countersigned)))
    elif served > factors.bytes:
        cases.append(("all-confirmed", replace(factors, bytes=served)))
    was = factors.micro_points()
    worth = [(name, other.micro_points()) for name, other in cases]
    if reach is not None and reach >= REACH_MIN:
        # It gets consumers while it can be reached: all the time, it would have had as many more.
        worth.append((REACHABLE, was * PERMILLE // reach))
    return [_told(name, was, would) for name, would in worth if would != was]


def not_told(reach: int | None) -> list[dict[str, str]]:
    """What cannot be told, and why."""
    if reach is not None and reach >= REACH_MIN:
        return []
    known = "since too short a time" if reach is None else "for hardly any of its time online"
    return [{"if": REACHABLE, "why": f"when the ticket was issued, consumers had reached the device {known}"}]


def _told(name: str, was: int, would: int) -> dict[str, Any]:
    told: dict[str, Any] = {"if": name, "micro_points": would}
    # Wire integers have no sign, and a case may be worth less under some tariff.
    if was and would > was:
        told["more_permille"] = (would - was) * PERMILLE // was
    elif was:
        told["less_permille"] = (was - would) * PERMILLE // was
    return told
