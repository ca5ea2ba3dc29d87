"""How exactly do we know our own bytes? By sockets (``TCP_INFO``), by packets (nftables by mark), by the application.

What the household uses is what passed the WAN interface less what was ours: an error here looks like a household, or
hides one. Twenty paced transfers pass a wire between two network namespaces, and each count is set against the
interface's own: for packets as on a wire, and for those that the interface is to cut itself (segmentation offload),
whose headers some drivers count and others, as the one here, do not.

Needs root, and ``apt install iproute2 nftables``.
"""

from __future__ import annotations

import argparse
import json
import re
import socket
import struct
import subprocess
import sys
import threading
import time

from fallow_agent.line.pacer import SO_MAX_PACING_RATE, payload_bytes_per_s
from fallow_agent.line.tcp_info import sent_by
from harness import Figure, arguments, publish
from lab.network import Network, missing_programs

HERE, THERE, ADDRESS, PORT = "home", "far", "198.51.100.2", 9000
MARK, SO_MARK = 7, 36
TRANSFERS, TRANSFER_S = 20, 0.4
RULES = f"""
table inet counting {{
    counter ours {{ }}
    chain out {{ type filter hook output priority 0; meta mark {MARK} counter name ours; }}
}}
"""
ETHERNET_BYTES = 14
"""What nftables does not count of each packet."""
CASES = {"offload_20": (True, 20), "wire_20": (False, 20), "offload_100": (True, 100), "wire_100": (False, 100)}


def take_all() -> None:
    def drain(connection: socket.socket) -> None:
        with connection:
            while connection.recv(2**20):
                pass

    with socket.create_server(("", PORT)) as listener:
        print("ready", flush=True)
        while True:
            threading.Thread(target=drain, args=(listener.accept()[0],), daemon=True).start()


def send(mbps: str) -> None:
    """Paced transfers in a row; prints the bytes by sockets, and those that the application gave to them."""
    by_sockets = given = 0
    for _ in range(TRANSFERS):
        with socket.socket() as sock:
            sock.setsockopt(socket.SOL_SOCKET, SO_MARK, MARK)
            rate = payload_bytes_per_s(int(mbps) * 10**6, 1)
            sock.setsockopt(socket.SOL_SOCKET, SO_MAX_PACING_RATE, struct.pack("=I", rate))
            sock.connect((ADDRESS, PORT))
            end = time.monotonic() + TRANSFER_S
            while time.monotonic() < end:
                given += sock.send(bytes(16384))
            sock.shutdown(socket.SHUT_WR)
            while sock.recv(1):  # the other side closes when it has all
                pass
            counted = sent_by(sock)
            assert counted is not None
            by_sockets += counted.wire_bytes
    print(json.dumps([by_sockets, given]))


PARTS = {"take-all": take_all, "send": send}


def measure(offload: bool, mbps: int) -> tuple[float, float, float]:
    """By sockets, by packets and by the application, each by the interface's count."""
    with Network() as network:
        network.add(HERE, THERE)
        network.wire((HERE, "wan0", "198.51.100.1/24"), (THERE, "far0", f"{ADDRESS}/24"))
        if offload:
            network.run(HERE, "ip", "link", "set", "wan0", "gso_max_segs", "65535")
        network.run(HERE, "nft", "-f", "-", given=RULES)
        part = (sys.executable, __file__, "--part")
        with subprocess.Popen(network.inside(THERE, *part, "take-all"), stdout=subprocess.PIPE) as sink:
            try:
                assert sink.stdout is not None
                sink.stdout.readline()
                before = interface_bytes(network)
                by_sockets, given = json.loads(network.run(HERE, *part, "send", str(mbps)))
                passed = interface_bytes(network) - before
            finally:
                sink.terminate()
        found = re.search(r"packets (\d+) bytes (\d+)", network.run(HERE, "nft", "list", "counters"))
        assert found is not None
        by_packets = int(found[2]) + ETHERNET_BYTES * int(found[1])
        return by_sockets / passed, by_packets / passed, given / passed


def interface_bytes(network: Network) -> int:
    return int(network.run(HERE, "cat", "/sys/class/net/wan0/statistics/tx_bytes"))


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--part", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part:
        PARTS[options.part[0]](*options.part[1:])  # type: ignore[operator]
        return
    if lacking := missing_programs():
        raise SystemExit(f"counting: {lacking}")
    figures = []
    for case, (offload, mbps) in CASES.items():
        rounds = [measure(offload, mbps) for _ in range(1 if options.quick else 3)]
        for name, shares in zip(("by_sockets", "by_packets", "by_application"), zip(*rounds, strict=True), strict=True):
            low, middle, high = min(shares), sorted(shares)[len(shares) // 2], max(shares)
            figures.append(Figure(f"{name}.{case}", middle, "share", low, high, against="the interface's counter"))
    publish("counting", figures, quick=options.quick)


if __name__ == "__main__":
    main()
