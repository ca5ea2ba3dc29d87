"""Where devices fill an object from."""

from __future__ import annotations

import random

from fallow_wire.keys import PublicKey
from fallow_wire.session import Source

from ..catalogue.names import quoted
from ..delivery.devices import Devices
from ..delivery.pseudonym import family_of
from ..delivery.tickets import Order, TicketIssuer
from ..fleet.live import LiveDevice
from ..scheduling.filters import Config as FilterConfig
from ..scheduling.filters import url_for

SERVICE = "fill"


class Sources:
    """Other devices that hold it, with a ticket each, and last this server.

    :param devices_max: of those.
    :param public_url: where devices reach this server, without a trailing slash.
    """

    def __init__(
        self, filters: FilterConfig, devices_max: int, devices: Devices, issuer: TicketIssuer, public_url: str
    ) -> None:
        self._filters = filters
        self._devices_max = devices_max
        self._devices = devices
        self._issuer = issuer
        self._public_url = public_url

    def here(self, object_id: str, name: str) -> Source:
        """This server; ``fill`` tells its own accounts that no consumer is served."""
        return Source(f"{self._public_url}/o/{object_id}/{quoted(name)}?source=origin&fill=1")

    async def of(
        self, device: LiveDevice, object_id: str, name: str, publisher: str, size_bytes: int
    ) -> tuple[Source, ...]:
        """For ``device``. :param publisher: who pays for what devices send each other."""
        family, key = family_of(device.remote_address), PublicKey(device.public_key).jwk()
        sources = []
        for choice in self._devices.sources_for(device, object_id, self._devices_max, self._filters, random.random):
            url = url_for(choice.device, family)
            order = Order(object_id, publisher, device.device_id, size_bytes, SERVICE, key, choice.odds, choice.pool)
            ticket = await self._issuer.issue(choice.device.device_id, order)
            if url is None or ticket is None:
                break
            sources.append(Source(f"{url}/o/{object_id}/{quoted(name)}", ticket))
        return (*sources, self.here(object_id, name))
