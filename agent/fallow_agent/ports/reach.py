"""The ways to this device's service port: composed here, reported to the scheduler, explained to the owner."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any

from fallow_wire.fields import encode
from fallow_wire.keys import PrivateKey
from fallow_wire.session import Environment, Reachability, ServicePort
from yarl import URL

from ..config import Config
from ..host.environment import os_name
from ..host.igd import Finder
from . import IPV4, IPV6, pcp
from .advice import advice
from .claims import Situation, is_loopback, is_reached
from .keeper import Keeper
from .opening import external_ports
from .place import Place, place
from .port_control import NatPmp, Pcp, Way
from .upnp import Upnp

PORTS = "ports"
"""Name of the status's member."""


class Reach:
    """:param scheduler: its URL. Where it, or the service port, is on this machine alone, nothing needs to be opened.
    :param find: finds a router's UPnP.
    :param changed: called when the scheduler should hear something new."""

    def __init__(
        self,
        config: Config,
        version: str,
        scheduler: str,
        key: PrivateKey,
        find: Finder,
        *,
        monotonic: Callable[[], float],
        changed: Callable[[], None],
        look: Callable[[], Place] = place,
    ) -> None:
        service = config.service
        self._service = service
        self._model, self._version, self._os = config.model[:128], version, os_name()
        self._look = look
        self._changed = changed
        self._seed = hashlib.sha256(b"fallow-ports-v1\n" + key.seed).digest()
        self._manual = service.advertise_address is not None or service.advertise_port != 0
        here = any(is_loopback(host) for host in (*service.bind, URL(scheduler).host or ""))
        self._asks = service.open_ports and not self._manual and not here
        self._upnp = Upnp(find)
        by_pcp, by_natpmp = Pcp(self._seed[: pcp.NONCE_BYTES], self._told), NatPmp(self._told)
        means = {IPV4: (by_pcp, by_natpmp, self._upnp), IPV6: (by_pcp, self._upnp)}
        self._keeper = Keeper(means, look=look, monotonic=monotonic, changed=changed)
        self._seen: Reachability | None = None
        self._now = self._situation(service.port)

    async def run(self, port: int) -> None:
        """Have the port opened, and kept open, until cancelled; then :meth:`release`."""
        if not self._asks:
            return
        await self._keeper.run(port, external_ports(port, self._seed))

    async def release(self) -> None:
        """Nobody is to come in any more."""
        await self._keeper.release()

    async def close(self) -> None:
        await self._upnp.close()

    def take(self, seen: Reachability) -> None:
        """What the scheduler has found."""
        self._seen = seen
        if not is_reached(seen):
            self._keeper.doubt()
        self._changed()

    def own(self) -> Mapping[str, str]:
        """The device's addresses by family, as of the last :meth:`environment`."""
        return self._now.own

    def outside(self) -> tuple[str, ...]:
        """Addresses that this home is known by: what it claims, and what the scheduler has seen it come from."""
        claimed = tuple(port.address for port in self._now.service_ports())
        return claimed + (() if self._seen is None else self._seen.addresses)

    def _told(self, way: Way, epoch_s: int) -> None:
        self._keeper.told(way, epoch_s)

    # -------------------------------------------------------------- what is told

    def environment(self, port: int | None) -> Environment:
        """For the heartbeat; addresses are read anew. :param port: the one that is bound, None while there is none."""
        self._now = now = self._situation(port or self._service.port)
        ports = now.service_ports() if port is not None else ()
        return Environment(ports, now.nat(), self._os, self._model, self._version)

    def status(self) -> dict[str, Any]:
        """For the owner, as of the last :meth:`environment`."""
        problem, seen = advice(self._now), self._now.seen
        found: dict[str, Any] = {} if seen is None else {"seen": encode(seen)}
        return found if problem is None else found | {"advice": problem.as_json()}

    def _situation(self, port: int) -> Situation:
        now, opening = self._look(), self._keeper.opening(IPV4)
        return Situation(
            port,
            own=now.own,
            router=now.router,
            manual=self._advertised(port, now) if self._manual else None,
            grants=self._keeper.grants(),
            firewall=self._service.firewall_open,
            asks=self._asks,
            rounds=0 if opening is None else opening.rounds,
            refusals=() if opening is None else opening.refusals,
            seen=self._seen,
        )

    def _advertised(self, port: int, now: Place) -> ServicePort:
        address = self._service.advertise_address or now.own.get(IPV4) or now.own.get(IPV6) or "0.0.0.0"
        family = IPV6 if ":" in address else IPV4
        return ServicePort("tcp", self._service.advertise_port or port, family, address, "manual")
