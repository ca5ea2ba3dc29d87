"""What a task wants of a device."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Annotated

from fallow_wire.fields import integer, items, matching, one_of
from fallow_wire.tickets import SERVICES

from .places import Place

NO_PORT, ANY_PORT = "none", "any"
PORTS = (NO_PORT, ANY_PORT, "ipv4", "ipv6")
REGIONS_MAX = 32
"""Countries that one task names; whoever means more of the world names none."""

_COUNTRY = re.compile(r"[A-Z]{2}\Z")


@dataclass(frozen=True, slots=True)
class Needs:
    """Of each device that is to do the task; each member narrows the choice, and the defaults do not.

    ``service``: what its owner must allow. ``bytes``: upload that its forecast must hold until the deadline, a day at
    most. ``disk_bytes``: room on its disk. ``up_bps``: idle upload that may be promised now, or for copies in the best
    hour of the coming day. ``processor_percent``: spare of the processor. ``ports``: its service port must be reachable
    not at all, by any address, or by one of the family. ``regions``: countries (ISO 3166-1, two capital letters), of
    which it is in one; none is everywhere. ``price_max``: what the service may cost at most by the tariff in force, µp
    per GiB.
    """

    service: Annotated[str, one_of(*SERVICES)] = "object"
    bytes: Annotated[int, integer()] = 0
    disk_bytes: Annotated[int, integer()] = 0
    up_bps: Annotated[int, integer()] = 0
    processor_percent: Annotated[int, integer(0, 100)] = 0
    ports: Annotated[str, one_of(*PORTS)] = NO_PORT
    regions: Annotated[
        tuple[str, ...], items(matching(_COUNTRY, "a country of two capital letters", 2), REGIONS_MAX)
    ] = ()
    price_max: Annotated[int | None, integer()] = None

    def beside(self, least: Needs) -> Needs:
        """These, and what a task of the kind wants in any case."""
        return replace(
            self,
            service=least.service,
            bytes=max(self.bytes, least.bytes),
            disk_bytes=max(self.disk_bytes, least.disk_bytes),
            up_bps=max(self.up_bps, least.up_bps),
            processor_percent=max(self.processor_percent, least.processor_percent),
            ports=least.ports if self.ports == NO_PORT else self.ports,
        )

    def admits(self, place: Place) -> bool:
        """False also where nobody knows the place and one is wanted."""
        return not self.regions or place.country in self.regions


ANYTHING = Needs()
