"""What a settlement would have been worth otherwise: one input changed, everything else as it was. Pure.

Told is only what follows from stored inputs and the tariff. What would have to be guessed is named with the reason
why it is left out.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from fallow_wire.tariff import Factors, Tariff

NOT_TOLD = (
    {
        "if": "reachable-port",
        "why": "a device that cannot be reached gets no tickets, so what it would have served is nowhere recorded",
    },
)
PERMILLE = 1000


def counterfactuals(tier: str, factors: Factors, served: int, tariff: Tariff) -> list[dict[str, Any]]:
    """Cases that differ from what was booked; each with its points, and the change in ‰.

    :param served: bytes that the device claimed and the ticket allowed.
    :return: ``if``, ``micro_points``, and where anything was booked ``more_permille`` or ``less_permille``.
    """
    cases: list[tuple[str, Factors]] = []
    countersigned = tariff.weights.get("countersigned", 0)
    if tier == "legacy":
        cases.append(("countersigned", replace(factors, weight=countersigned)))
    elif served > factors.bytes:
        cases.append(("all-confirmed", replace(factors, bytes=served)))
    return [_told(name, factors, other) for name, other in cases if other.micro_points() != factors.micro_points()]


def _told(name: str, booked: Factors, other: Factors) -> dict[str, Any]:
    was, would = booked.micro_points(), other.micro_points()
    told: dict[str, Any] = {"if": name, "micro_points": would}
    # Wire integers have no sign, and a case may be worth less under some tariff.
    if was and would > was:
        told["more_permille"] = (would - was) * PERMILLE // was
    elif was:
        told["less_permille"] = (was - would) * PERMILLE // was
    return told
