"""What devices are sent: tasks, and cancellations."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

from fallow_wire.session import Cancel, Downward

from ..fleet.live import Fleet
from .kinds import Kind
from .model import NetworkTask, Placement

PATIENCE_S = 5.0
"""That a round waits for devices to take what they are sent; who takes longer is sent the rest beside it."""
WAITING_MAX = 256
"""Messages that wait for one device; what is beyond is passed over, and sent in a later round."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Message:
    """To be sent after the round: of a task's placement, or on its own when ``placement`` is None."""

    device_id: str
    task: NetworkTask | None
    placement: Placement | None
    message: Downward | None = None

    @property
    def subject(self) -> tuple[int, bool]:
        """Equal where one message stands for the other, both being there."""
        return id(self.placement or self.message), self.message is None


def cancelling(task: NetworkTask, placement: Placement) -> Message:
    return Message(placement.device_id, task, placement, Cancel(task.task_id, placement.reason))


class Messenger:
    """Messages of one device go in their order, and no round waits for one that takes none.

    :param sending_max: messages under way at once; each may carry a manifest.
    """

    def __init__(self, sending_max: int, fleet: Fleet, kinds: Mapping[str, Kind]) -> None:
        self._fleet = fleet
        self._kinds = kinds
        self._under_way = asyncio.Semaphore(sending_max)
        self._waiting: dict[str, deque[Message]] = {}
        self._sending: set[asyncio.Task[None]] = set()

    async def send_all(self, messages: list[Message]) -> None:
        """Send each once. A device that is gone, or does not take it, is passed over: it is asked again later."""
        begun = []
        for message in messages:
            waiting = self._waiting.get(message.device_id)
            if waiting is None:
                self._waiting[message.device_id] = deque((message,))
                begun.append(asyncio.create_task(self._send_to(message.device_id), name=f"send {message.device_id}"))
            elif len(waiting) < WAITING_MAX and message.subject not in (one.subject for one in waiting):
                waiting.append(message)
        for sending in begun:
            self._sending.add(sending)
            sending.add_done_callback(self._done)
        if begun:
            await asyncio.wait(begun, timeout=PATIENCE_S)

    async def close(self) -> None:
        """Send nothing more."""
        for sending in self._sending:
            sending.cancel()
        await asyncio.gather(*self._sending, return_exceptions=True)

    def _done(self, sending: asyncio.Task[None]) -> None:
        self._sending.discard(sending)
        if not sending.cancelled() and (error := sending.exception()) is not None:
            _log.error("%s failed", sending.get_name(), exc_info=error)

    async def _send_to(self, device_id: str) -> None:
        waiting = self._waiting[device_id]
        try:
            while waiting:
                await self._send(waiting[0])
                waiting.popleft()
        finally:
            del self._waiting[device_id]

    async def _send(self, message: Message) -> None:
        async with self._under_way:
            await self._send_now(message)

    async def _send_now(self, message: Message) -> None:
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
