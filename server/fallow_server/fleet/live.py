"""The fleet as it is now: connected devices and what they last said. In memory; a restart fills it anew."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Protocol

from fallow_wire.session import Downward, Heartbeat, TaskStatus, write

from .addresses import parse_address
from .reachability import NOT_KNOWN, Reach

Send = Callable[[str], Awaitable[None]]
Close = Callable[[int, str], None]


class LiveDevice:
    """A device with a session. Others read it and :meth:`send`; only ``fleet`` writes its fields.

    ``content``: ids of complete objects; a new set each time, so that all who keep it keep the same one.
    ``service_urls``: the addresses that answered a dial-back, such as ``http://203.0.113.5:32557``. ``reach``: what
    stands before them, or in the way; None before the first dial-back.
    ``noted_at``: the ``last_seen`` that the database knows, or is about to.
    ``remote_address``: the IP address that the session came from. ``other``: one of the other family that the device
    has called from, and until when (monotonic) it counts.
    """

    __slots__ = (
        "_close",
        "_send",
        "connected_at",
        "content",
        "device_id",
        "heartbeat",
        "last_seen",
        "noted_at",
        "other",
        "owner",
        "partial",
        "public_key",
        "reach",
        "remote_address",
        "service_urls",
    )

    def __init__(
        self,
        device_id: str,
        owner: str,
        public_key: bytes,
        remote_address: str,
        now: int,
        send: Send,
        close: Close,
    ) -> None:
        self.device_id = device_id
        self.owner = owner
        self.public_key = public_key
        self.remote_address = remote_address
        self.other: tuple[str, float] | None = None
        self.connected_at = now
        self.last_seen = now
        self.noted_at = now
        self.heartbeat: Heartbeat | None = None
        self.content: frozenset[str] = frozenset()
        self.partial: frozenset[str] = frozenset()
        """Objects that it holds in part."""
        self.service_urls: tuple[str, ...] = ()
        self.reach: Reach | None = None
        self._send = send
        self._close = close

    async def send(self, message: Downward) -> None:
        """Send a message over the session.

        :raises ConnectionError: when the session is gone, or does not take the message in time; it is closed then.
        """
        await self._send(write(message))

    @property
    def reachability(self) -> str:
        """The best of both families, in a word of :data:`fallow_wire.session.REACH`."""
        return (self.reach or NOT_KNOWN).best

    def addresses(self, now: float) -> tuple[str, ...]:
        """From which the device has come, the session's first. :param now: monotonic."""
        if self.other is not None and now < self.other[1]:
            return (self.remote_address, self.other[0])
        return (self.remote_address,)

    def close(self, code: int, reason: str) -> None:
        """Begin to end the session with a WebSocket close code; ``lost`` follows."""
        self._close(code, reason)


class FleetObserver(Protocol):
    """Hears of devices, in the order in which things happen to each. What it does should be quick: the device's next
    message waits for it."""

    async def connected(self, device_id: str) -> None:
        """After a good hello; heartbeat and content follow."""

    async def lost(self, device_id: str) -> None:
        """The session ended and no newer one took its place."""

    async def task_status(self, device_id: str, status: TaskStatus) -> None: ...

    async def content_changed(self, device_id: str) -> None: ...

    async def reported(self, device_id: str) -> None:
        """A new heartbeat, other ``service_urls``, or another ``reach``."""


class Fleet:
    """Live devices by id."""

    def __init__(self) -> None:
        self._devices: dict[str, LiveDevice] = {}
        self.observers: list[FleetObserver] = []

    def devices(self) -> Iterable[LiveDevice]:
        return self._devices.values()

    def get(self, device_id: str) -> LiveDevice | None:
        return self._devices.get(device_id)

    def __len__(self) -> int:
        return len(self._devices)

    async def attach(self, device: LiveDevice) -> LiveDevice | None:
        """Make ``device`` the one of its id; gives the one whose place it took, for the caller to close."""
        older = self._devices.get(device.device_id)
        self._devices[device.device_id] = device
        for observer in self.observers:
            await observer.connected(device.device_id)
        return older

    async def detach(self, device: LiveDevice) -> None:
        """The session of ``device`` ended. Nothing happens when a newer one has its place."""
        if self._devices.get(device.device_id) is not device:
            return
        del self._devices[device.device_id]
        for observer in self.observers:
            await observer.lost(device.device_id)

    async def came_from(self, device: LiveDevice, address: str, until: float) -> None:
        """A call with the device's own token came from ``address``. :param until: monotonic."""
        seen, session = parse_address(address), parse_address(device.remote_address)
        if seen is None or session is None or seen.version == session.version:
            return
        device.other = (address, until)
        for observer in self.observers:
            await observer.reported(device.device_id)

    async def changed_service_urls(self, device: LiveDevice, urls: tuple[str, ...], reach: Reach = NOT_KNOWN) -> None:
        """What a dial-back found."""
        if (device.service_urls, device.reach) == (urls, reach) or self._devices.get(device.device_id) is not device:
            return
        device.service_urls, device.reach = urls, reach
        for observer in self.observers:
            await observer.reported(device.device_id)
