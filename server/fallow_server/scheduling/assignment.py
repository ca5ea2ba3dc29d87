"""Which devices shall hold an object."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from .filters import Config, placement_refusal
from .scores import rendezvous, score
from .views import Assignment, Demand, DeviceView


def assign(demands: Iterable[Demand], devices: Sequence[DeviceView], config: Config) -> tuple[Assignment, ...]:
    """One round of placement, demands in the order given.

    Never chooses a device that a filter refuses, and never promises more of a disk than its room, what is assigned
    in this round included. Copies go to the best scores among owners that have none yet; only when those run out may
    one home hold two.
    """
    pending: dict[str, int] = {}
    found: list[Assignment] = []
    for demand in demands:
        for device in _chosen(demand, devices, pending, config):
            pending[device.device_id] = pending.get(device.device_id, 0) + demand.size_bytes
            found.append(Assignment(demand.task_id, demand.object_id, device.device_id, demand.size_bytes))
    return tuple(found)


def _chosen(demand: Demand, devices: Sequence[DeviceView], pending: dict[str, int], config: Config) -> list[DeviceView]:
    if demand.replicas <= 0:
        return []
    ranked = []
    for device in devices:
        if placement_refusal(device, demand, config) is not None:
            continue
        taken = pending.get(device.device_id, 0)
        if device.disk_room_bytes - taken < demand.size_bytes + config.disk_reserve_bytes:
            continue
        value = score(device, demand.size_bytes, taken).value
        ranked.append((-value, rendezvous(demand.object_id, device.device_id), device))
    ranked.sort(key=lambda entry: entry[:2])
    owners = set(demand.owners)
    chosen: list[DeviceView] = []
    second: list[DeviceView] = []
    for _, _, device in ranked:
        if len(chosen) == demand.replicas:
            return chosen
        if device.owner in owners:
            second.append(device)
            continue
        owners.add(device.owner)
        chosen.append(device)
    return chosen + second[: demand.replicas - len(chosen)]
