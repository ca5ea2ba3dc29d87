"""What devices are sent: tasks with their manifest and sources, and cancellations."""

from __future__ import annotations

import asyncio
import logging
import random
from dataclasses import dataclass

from fallow_wire.keys import PublicKey
from fallow_wire.session import Cancel, Downward, Source, Task

from ..catalogue.names import quoted
from ..catalogue.objects import Catalogue
from ..delivery.devices import Devices
from ..delivery.pseudonym import family_of
from ..delivery.tickets import Order, TicketIssuer
from ..fleet.live import LiveDevice
from ..scheduling.filters import Request, url_for
from .config import Config
from .model import NetworkTask, Placement

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Message:
    """To be sent after the round: of a task's placement, or on its own when ``placement`` is None."""

    device_id: str
    task: NetworkTask | None
    placement: Placement | None
    message: Downward | None = None


def cancelling(task: NetworkTask, placement: Placement) -> Message:
    return Message(placement.device_id, task, placement, Cancel(task.task_id, placement.reason))


class Messenger:
    """:param public_url: where devices reach the origin, without a trailing slash."""

    def __init__(
        self, config: Config, catalogue: Catalogue, devices: Devices, issuer: TicketIssuer, public_url: str
    ) -> None:
        self._config = config
        self._catalogue = catalogue
        self._devices = devices
        self._issuer = issuer
        self._public_url = public_url
        self._sending = asyncio.Semaphore(config.sending_max)

    async def send_all(self, messages: list[Message]) -> None:
        """Send each once. A device that is gone, or does not take it, is passed over: it is asked again later."""
        unique = {(one.device_id, id(one.placement or one.message), one.message is None): one for one in messages}
        await asyncio.gather(*(self._send(message) for message in unique.values()))

    async def _send(self, message: Message) -> None:
        async with self._sending:
            device = self._devices.fleet.get(message.device_id)
            if device is None:
                return
            downward = message.message
            if downward is None and message.task is not None and message.placement is not None:
                if not message.placement.is_open:
                    return
                message.placement.sends += 1
                downward = await self._task_message(device, message.task)
                if not message.placement.is_open:
                    # Cancelled meanwhile, and the device was told so: it must not hear of the task after that.
                    return
            if downward is None:
                return
            try:
                await device.send(downward)
            except ConnectionError as error:
                _log.info("%s did not take a message: %s", device.device_id, error)

    async def _task_message(self, device: LiveDevice, task: NetworkTask) -> Task | None:
        if task.kind == "drop":
            return Task(task.task_id, "drop", task.object_id, deadline=task.deadline)
        held = await self._catalogue.find(task.object_id)
        manifest = await self._catalogue.manifest(task.object_id)
        if held is None or manifest is None:
            return None
        name = quoted(held.names[0][1])
        sources = await self._device_sources(device, task, name)
        sources.append(Source(f"{self._public_url}/o/{task.object_id}/{name}?source=origin"))
        return Task(task.task_id, "fill", task.object_id, manifest, tuple(sources), task.deadline)

    async def _device_sources(self, device: LiveDevice, task: NetworkTask, name: str) -> list[Source]:
        wanted = Request(task.object_id, "fill", family_of(device.remote_address))
        order = Order(
            task.object_id,
            task.publisher,
            device.device_id,
            task.size_bytes,
            "fill",
            PublicKey(device.public_key).jwk(),
        )
        sources = []
        chosen = self._devices.choose(
            wanted,
            self._config.sources_max,
            self._config.filters,
            random.random,
            self._devices.place(device.device_id),
            without=device.device_id,
        )
        for view in (choice.device for choice in chosen):
            url = url_for(view, wanted.family)
            ticket = await self._issuer.issue(view.device_id, order)
            if url is None or ticket is None:
                break
            sources.append(Source(f"{url}/o/{task.object_id}/{name}", ticket))
        return sources
