"""Ways to use a home's idle upload, switched on and off one after another: the policies that are compared."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from .network import CONSUMER_HOST, Home, Network
from .processes import Part, Processes

NONE, FALLOW = "none", "fallow"
PEERS = ("cubic", "bbr", "cap50", "ledbat")
NAMES = {
    "none": "no sharing",
    "fallow": "Fallow",
    "cubic": "greedy, cubic",
    "bbr": "greedy, bbr",
    "cap50": "fixed cap of 50 %",
    "ledbat": "LEDBAT (libtorrent)",
}
CAP_SHARE = 0.5


class Sharing:
    """At most one policy at a time. :param consumer: a part that downloads from the device while told so."""

    def __init__(self, consumer: Part) -> None:
        self._switches: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
            NONE: (lambda: None, lambda: None),
            FALLOW: (lambda: consumer.say(True), lambda: consumer.say(False)),
        }
        self._now = NONE

    def add_peers(self, network: Network, processes: Processes, work: Path, home: Home, device: str) -> None:
        """:param device: the namespace in which they run, reached at the home's WAN address."""
        sender = processes.part(device, "upload")
        how = {
            "cubic": {},
            "bbr": {"congestion": "bbr"},
            "cap50": {"pacing_bps": CAP_SHARE * home.line.up_mbps * 1e6},
        }
        for name, options in how.items():
            self._switches[name] = (
                lambda options=options: sender.ask({"to": CONSUMER_HOST, **options}),
                lambda: sender.ask(None),
            )
        torrent, seeding, leeching = work / "content.torrent", work / "seeding", work / "leeching"
        seeding.mkdir()
        leeching.mkdir()
        processes.part(None, "make-torrent", str(torrent), str(seeding)).hear()
        processes.part(device, "seed", str(torrent), str(seeding)).hear()
        leecher = processes.part("consumer", "leech", str(torrent), str(leeching), home.wan)
        self._switches["ledbat"] = (lambda: leecher.ask(True), lambda: leecher.ask(False))

    def start(self, policy: str) -> None:
        assert self._now == NONE
        self._switches[policy][0]()
        self._now = policy

    def stop(self) -> None:
        self._switches[self._now][1]()
        self._now = NONE
