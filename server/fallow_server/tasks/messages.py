"""What devices are sent: tasks, and cancellations."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass

from fallow_wire.session import Cancel, Downward

from ..fleet.live import Fleet
from .kinds import Kind
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
    """:param sending_max: messages under way at once."""

    def __init__(self, sending_max: int, fleet: Fleet, kinds: Mapping[str, Kind]) -> None:
        self._fleet = fleet
        self._kinds = kinds
        self._sending = asyncio.Semaphore(sending_max)

    async def send_all(self, messages: list[Message]) -> None:
        """Send each once. A device that is gone, or does not take it, is passed over: it is asked again later."""
        unique = {(one.device_id, id(one.placement or one.message), one.message is None): one for one in messages}
        await asyncio.gather(*(self._send(message) for message in unique.values()))

    async def _send(self, message: Message) -> None:
        async with self._sending:
            device = self._fleet.get(message.device_id)
            if device is None:
                return
            downward = message.message
            if downward is None and message.task is not None and message.placement is not None:
                if not message.placement.is_open:
                    return
                message.placement.sends += 1
                downward = await self._kinds[message.task.kind].message(device, message.task)
                if not message.placement.is_open:
                    # Cancelled meanwhile, and the device was told so: it must not hear of the task after that.
                    return
            if downward is None:
                return
            try:
                await device.send(downward)
            except ConnectionError as error:
                _log.info("%s did not take a message: %s", device.device_id, error)
