"""A town: one origin, many homes and many consumers, each on a line of its own, around one provider.

    origin (``core``) ══ isp ══ house0 … houseN
                          ╚════ guest0 … guestM

A home is one namespace, the gateway itself, with an empty LAN; there is no distance but what stands in the queues.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from .network import DOWN_BUFFER_MS, GATEWAY_LAN, SERVER_HOST, Home, Line, Network

GUESTS_MAX = 64
"""Four addresses each, out of one network of 256."""
ORIGIN_DOWN_MBPS = 1000


@dataclass(frozen=True, slots=True)
class Guest:
    """A consumer's namespace and address."""

    number: int
    line: Line

    @property
    def name(self) -> str:
        return f"guest{self.number}"

    @property
    def address(self) -> str:
        return f"203.0.113.{4 * self.number + 2}"

    @property
    def isp_hop(self) -> str:
        return f"203.0.113.{4 * self.number + 1}"


def add_origin(network: Network, up_mbps: int, buffer_ms: int) -> None:
    network.add("core", "isp")
    _connect(network, "core", SERVER_HOST, "198.18.1.1", "origin0", Line(up_mbps, ORIGIN_DOWN_MBPS, buffer_ms))


def add_town(network: Network, homes: list[Home], guests: list[Guest]) -> None:
    """After :func:`add_origin`."""
    for home in homes:
        house = home.name("house")
        network.add(house)
        network.bridge(house, "lan0", (), f"{GATEWAY_LAN}/24")
        _connect(network, house, home.wan, home.isp_hop, f"home{home.number}", home.line)
    for guest in guests:
        network.add(guest.name)
        _connect(network, guest.name, guest.address, guest.isp_hop, guest.name, guest.line)


def _connect(network: Network, name: str, address: str, isp_hop: str, at_isp: str, line: Line) -> None:
    network.wire((name, "wan0", f"{address}/30"), ("isp", at_isp, f"{isp_hop}/30"))
    network.shape(name, "wan0", line.up_mbps, line.buffer_ms)
    network.shape("isp", at_isp, line.down_mbps, DOWN_BUFFER_MS)
    network.route(name, "default", isp_hop)


def sent_bytes(network: Network, name: str) -> int:
    """What a site has sent on its line since it exists, as the wire carries it."""
    return int(network.run(name, "cat", "/sys/class/net/wan0/statistics/tx_bytes"))


def usage_note(network: Network, homes: list[Home], before: list[int], seconds: float) -> str:
    """How full the homes' lines were between two readings."""
    used = [
        (sent_bytes(network, home.name("house")) - sent) * 8 / seconds / home.line.up_mbps / 1e6
        for home, sent in zip(homes, before, strict=True)
    ]
    return f"{sum(used) / len(used):.0%} ({min(used):.0%} to {max(used):.0%})"


def clear(folder: Path) -> None:
    """Remove the files that a crowd has fetched."""
    for path in folder.iterdir():
        path.unlink()
