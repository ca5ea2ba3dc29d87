"""Tasks that measure: devices connect to a public target that the publisher names, and tell how long it took.

A fleet of homes must not become anybody's weapon. A probe is a handful of small requests to the ports of the web; few
devices do one, one home seldom does any, and what one publisher, one target and one network of targets get in an hour
is limited over all tasks. Private targets are refused here where they show, and by devices once they are resolved.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Set
from dataclasses import dataclass

from fallow_wire.addresses import is_literal, is_public, parsed
from fallow_wire.probes import AVOID, DNS, read_probe
from fallow_wire.session import Task

from ..clock import Clock
from ..delivery.devices import Devices
from ..fleet.live import LiveDevice
from ..http import ApiProblem, refusal
from ..scheduling.needs import Needs
from ..scheduling.views import Demand
from .kinds import Order, TaskRequest
from .model import NetworkTask, Placement
from .rates import Rates

PROBE = "probe"
HOUR_S = 3600
RESOLVE_S_MAX = 5
"""A target whose name servers are slower is limited by its name alone."""
PREFIX_4, PREFIX_6 = 24, 48
"""Of the network of a target: what one operator of a victim has, more or less."""

Resolve = Callable[[str], Awaitable[list[str]]]


@dataclass(frozen=True, slots=True)
class ProbeConfig:
    """
    ``offered``: whether publishers may have devices measure at all.
    ``devices``, ``devices_max``: of a probe that names no number, and of any: enough for a picture of a country, too
    few for a load on anybody.
    ``publisher_per_hour``, ``target_per_hour``, ``network_per_hour``: measurements of one publisher, of one host over
    all publishers, and of one network (/24, /48) that hosts resolve to, so that many names for one machine help nobody.
    ``home_per_hour``: probes that one home is given; below what devices refuse by themselves.
    ``lifetime_s``: of a probe that names no deadline; a measurement of last week is none.
    ``targets_refused``: hosts that do not want to be probed, with all names below them.
    """

    offered: bool = True
    devices: int = 5
    devices_max: int = 50
    publisher_per_hour: int = 500
    target_per_hour: int = 250
    network_per_hour: int = 500
    home_per_hour: int = 12
    lifetime_s: int = HOUR_S
    targets_refused: tuple[str, ...] = ()


class Probes:
    """:param resolve: addresses of a host name; none when it has none, or nobody says."""

    done_when_held: bool | None = None

    def __init__(self, config: ProbeConfig, devices: Devices, clock: Clock, retry_s: int, resolve: Resolve) -> None:
        self._config = config
        self._devices = devices
        self._clock = clock
        self._retry_s = retry_s
        self._resolve = resolve
        self._publishers = _hourly(config.publisher_per_hour)
        self._targets = _hourly(config.target_per_hour)
        self._networks = _hourly(config.network_per_hour)
        self.homes = _hourly(config.home_per_hour)

    async def order(self, asked: TaskRequest, publisher: str) -> Order:
        config = self._config
        if not config.offered:
            raise refusal(400, "not-offered", "probe tasks are not offered here")
        if asked.object is not None:
            raise refusal(400, "malformed", "A probe is about no object", remedy="Leave object out.")
        if AVOID in asked.parameters:
            raise refusal(400, "malformed", f"parameters.{AVOID} is the scheduler's", remedy="Leave it out.")
        probe = read_probe(asked.parameters)
        replicas = config.devices if asked.replicas is None else asked.replicas
        if not 1 <= replicas <= config.devices_max:
            raise refusal(400, "malformed", "replicas is a number of devices", f"from 1 to {config.devices_max}")
        if any(probe.host == one or probe.host.endswith(f".{one}") for one in config.targets_refused):
            raise refusal(403, "target-refused", "This target does not want to be probed")
        networks = await self._networks_of(probe.host) if probe.test != DNS else set()
        self._take(publisher, probe.host, networks, replicas * probe.count)
        needs = asked.needs.beside(Needs(PROBE))
        return Order(replicas, needs=needs, parameters=asked.parameters, lifetime_s=config.lifetime_s)

    async def _networks_of(self, host: str) -> set[str]:
        addresses = [host] if is_literal(host) else await self._resolve(host)
        if not all(map(is_public, addresses)):
            raise refusal(
                400, "address-refused", "The target's address is not public",
                remedy="Targets must be on the public internet.",
            )  # fmt: skip
        return {_network(address) for address in addresses}

    def _take(self, publisher: str, host: str, networks: set[str], measurements: int) -> None:
        """Count them everywhere, or nowhere. :raises ApiProblem: one of the limits is reached."""
        now = self._clock.monotonic()
        if self._publishers.left(publisher, now) < measurements:
            limit = self._config.publisher_per_hour
            raise _too_many("too-many-probes", f"You may have {limit} measurements an hour")
        if self._targets.left(host, now) < measurements or any(
            self._networks.left(network, now) < measurements for network in networks
        ):
            raise _too_many("target-busy", "This target is measured enough for now, by you or by others")
        self._publishers.take(publisher, now, measurements)
        self._targets.take(host, now, measurements)
        for network in networks:
            self._networks.take(network, now, measurements)

    async def cancelled(self, task: NetworkTask) -> None:
        return

    def devices(self, task: NetworkTask) -> Set[str]:
        return frozenset()

    def demand(self, task: NetworkTask, coming: Set[str], now: int) -> Demand:
        at_it = {placement.device_id for placement in task.open_placements()}
        owners = self._devices.owners(at_it | task.done_devices())
        return task.demand((), at_it, owners, now, self._retry_s)

    def settle(self, task: NetworkTask, now: int) -> list[Placement]:
        return task.settle(now)

    async def message(self, device: LiveDevice, task: NetworkTask) -> Task:
        # A home's router often answers its own LAN at the home's public address.
        parameters = {**task.parameters, AVOID: device.remote_address}
        return Task(task.task_id, PROBE, deadline=task.deadline, parameters=parameters)


def _hourly(count: int) -> Rates:
    return Rates(count, count / HOUR_S)


def _network(address: str) -> str:
    found = parsed(address)
    assert found is not None, "it was found public"
    prefix = PREFIX_4 if found.version == 4 else PREFIX_6
    return str(ipaddress.ip_network((int(found), prefix), strict=False))


def _too_many(slug: str, title: str) -> ApiProblem:
    return refusal(
        429, slug, title, remedy="Ask for fewer devices or measurements, or wait.", headers={"Retry-After": "600"}
    )


async def addresses_of(host: str) -> list[str]:
    """By the system's resolver; none when it has none, or does not say in time."""
    try:
        async with asyncio.timeout(RESOLVE_S_MAX):
            entries = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, TimeoutError):
        return []
    return [str(entry[4][0]) for entry in entries]
