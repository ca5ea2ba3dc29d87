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
from ..scheduling.filters import Request, url_for

FILL = "fill"


class Sources:
    """Other devices that hold it, with a ticket each, and last this server.

    :param public_url: where devices reach it, without a trailing slash.
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
        return Source(f"{self._public_url}/o/{object_id}/{quoted(name)}?source=origin")

    async def of(
        self, device: LiveDevice, object_id: str, name: str, publisher: str, size_bytes: int
    ) -> tuple[Source, ...]:
        """For ``device``. :param publisher: who pays for what devices send each other."""
        wanted = Request(object_id, FILL, family_of(device.remote_address))
        chosen = self._devices.choose(
            wanted,
            self._devices_max,
            self._filters,
            random.random,
            self._devices.place(device.device_id),
            without=device.device_id,
        )
        order = Order(object_id, publisher, device.device_id, size_bytes, FILL, PublicKey(device.public_key).jwk())
        sources = []
        for view in (choice.device for choice in chosen):
            url = url_for(view, wanted.family)
            ticket = await self._issuer.issue(view.device_id, order)
            if url is None or ticket is None:
                break
            sources.append(Source(f"{url}/o/{object_id}/{quoted(name)}", ticket))
        return (*sources, self.here(object_id, name))
