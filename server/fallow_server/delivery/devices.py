"""The live fleet as placement and routing see it, with what they decided since the last heartbeats."""

from __future__ import annotations

from collections.abc import Iterable

from fallow_wire.session import Heartbeat, TaskStatus

from ..clock import Clock
from ..fleet.live import Fleet, LiveDevice
from ..scheduling.views import DeviceView


class Devices:
    """Views of connected devices, an index of who holds what, and the requests that no heartbeat shows yet.

    ``committed``: bytes of unfinished fills by device; ``tasks`` writes it.
    """

    def __init__(self, fleet: Fleet, clock: Clock) -> None:
        self.fleet = fleet
        self.committed: dict[str, int] = {}
        self._clock = clock
        self._held: dict[str, frozenset[str]] = {}
        self._holders: dict[str, set[str]] = {}
        self._routed: dict[str, tuple[int, int]] = {}
        self._heartbeats: dict[str, Heartbeat | None] = {}
        fleet.observers.append(self)

    def view(self, device: LiveDevice) -> DeviceView | None:
        """None before the first heartbeat."""
        beat = device.heartbeat
        if beat is None:
            return None
        routed_bps, routed_requests = self._routed.get(device.device_id, (0, 0))
        return DeviceView(
            device_id=device.device_id,
            owner=device.owner,
            state=beat.state,
            heartbeat_age_s=max(0, self._clock.now() - device.last_seen),
            service_urls=device.service_urls,
            services=frozenset(beat.services),
            idle_up_bps=beat.line.idle_up_bps,
            own_up_bps=beat.line.own_up_bps,
            forecast_idle_up_bps=beat.forecast_idle_up_bps,
            disk_free_bytes=max(0, min(beat.disk.free_bytes, beat.disk.quota_bytes - beat.disk.used_bytes)),
            disk_quota_bytes=beat.disk.quota_bytes,
            spare_percent=beat.processor.spare_percent,
            connections=beat.connections,
            connections_max=beat.connections_max,
            temperature_c=beat.processor.temperature_c,
            held=device.content,
            committed_bytes=self.committed.get(device.device_id, 0),
            routed_bps=routed_bps,
            routed_requests=routed_requests,
        )

    def holders(self, object_id: str) -> list[DeviceView]:
        """Connected devices that hold the object."""
        found = []
        for device_id in self._holders.get(object_id, ()):
            device = self.fleet.get(device_id)
            view = self.view(device) if device is not None else None
            if view is not None:
                found.append(view)
        return found

    def holder_ids(self, object_id: str) -> frozenset[str]:
        return frozenset(self._holders.get(object_id, ()))

    def owners(self, device_ids: Iterable[str]) -> set[str]:
        """Of those that are connected."""
        return {device.owner for name in device_ids if (device := self.fleet.get(name)) is not None}

    def note_routed(self, device_id: str, bps: int) -> None:
        """A consumer was sent to the device; it counts until the next heartbeat shows what became of it."""
        had_bps, had = self._routed.get(device_id, (0, 0))
        self._routed[device_id] = (had_bps + bps, had + 1)

    # -------------------------------------------------------------- as observer of the fleet

    async def connected(self, device_id: str) -> None:
        self._forget(device_id)

    async def lost(self, device_id: str) -> None:
        self._forget(device_id)

    async def task_status(self, device_id: str, status: TaskStatus) -> None:
        return

    async def content_changed(self, device_id: str) -> None:
        device = self.fleet.get(device_id)
        now = frozenset(device.content) if device is not None else frozenset()
        self._index(device_id, now)

    async def reported(self, device_id: str) -> None:
        device = self.fleet.get(device_id)
        heartbeat = device.heartbeat if device is not None else None
        # A dial-back reports too, and shows nothing of the line.
        if heartbeat is not self._heartbeats.get(device_id):
            self._heartbeats[device_id] = heartbeat
            self._routed.pop(device_id, None)

    def _forget(self, device_id: str) -> None:
        self._index(device_id, frozenset())
        self._held.pop(device_id, None)
        self._routed.pop(device_id, None)
        self._heartbeats.pop(device_id, None)

    def _index(self, device_id: str, now: frozenset[str]) -> None:
        before = self._held.get(device_id, frozenset())
        for object_id in before - now:
            holders = self._holders[object_id]
            holders.discard(device_id)
            if not holders:
                del self._holders[object_id]
        for object_id in now - before:
            self._holders.setdefault(object_id, set()).add(device_id)
        self._held[device_id] = now
