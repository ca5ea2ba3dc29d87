"""The Lower-Effort mark on real packets: what the service port sends to another host, by IPv4 and by IPv6.

The consumer's host looks at every packet that comes in; its own are none of ours.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator

import pytest
from fallow_agent.line.marking import LOWER_EFFORT_TOS
from namespaces import hosts, inside, ip, marks, names

pytestmark = marks()

HOME, CONSUMER = NAMESPACES = names("marking", "consumer")
ADDRESSES = {"4": ("198.51.100.1", "198.51.100.2"), "6": ("2001:db8:77::1", "2001:db8:77::2")}
PREFIX = {"4": "24", "6": "64"}
TIMEOUT_S = 60

SERVE = """
import asyncio, sys
from fallow_agent.edge.server import EdgeConfig, Server

async def answer(connection, request):
    await connection.write(b"HTTP/1.1 200 OK\\r\\nContent-Length: 100000\\r\\n\\r\\n" + bytes(100000))
    return False

async def main():
    server = Server(EdgeConfig(port=0), answer, lambda bad: b"", lambda sock: None, lambda: 100)
    print(server.start(), flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await server.close()

asyncio.run(main())
"""
FETCH = """
import json, socket, sys
port = int(sys.argv[1])
tap = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(3))
tap.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**22)
for address in sys.argv[2:]:
    with socket.create_connection((address, port), timeout=30) as caller:
        caller.sendall(b"GET / HTTP/1.1\\r\\nHost: device\\r\\n\\r\\n")
        while caller.recv(65536):
            pass
tap.setblocking(False)
found = []
while True:
    try:
        packet, about = tap.recvfrom(65536)
    except BlockingIOError:
        break
    version = packet[0] >> 4
    if about[2] == socket.PACKET_OUTGOING or version not in (4, 6):
        continue
    head = (packet[0] & 15) * 4 if version == 4 else 40
    protocol = packet[9] if version == 4 else packet[6]
    mark = packet[1] if version == 4 else (packet[0] & 15) << 4 | packet[1] >> 4
    if protocol == 6 and int.from_bytes(packet[head:head + 2], "big") == port:
        found.append([version, mark & 0xFC, packet[head + 13]])
print(json.dumps(found))
"""


@pytest.fixture
def both() -> Iterator[None]:
    with hosts(NAMESPACES, (), ipv6=True):
        ip("link", "add", "net0", "netns", HOME, "type", "veth", "peer", "name", "net0", "netns", CONSUMER)
        for at, namespace in enumerate(NAMESPACES):
            for family, pair in ADDRESSES.items():
                nodad = ("nodad",) if family == "6" else ()
                ip("-n", namespace, "address", "add", f"{pair[at]}/{PREFIX[family]}", "dev", "net0", *nodad)
            ip("-n", namespace, "link", "set", "net0", "up")
        yield


def test_every_packet_of_the_service_port_is_marked(both: None) -> None:
    command = inside(HOME, sys.executable, "-c", SERVE)
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        port = server.stdout.readline().strip()
        fetch = inside(CONSUMER, sys.executable, "-c", FETCH, port, *(pair[0] for pair in ADDRESSES.values()))
        done = subprocess.run(fetch, capture_output=True, text=True, timeout=TIMEOUT_S)
        server.communicate(timeout=TIMEOUT_S)
    assert done.returncode == 0, done.stderr
    packets = json.loads(done.stdout)
    syn_ack, ack, fin = 0x12, 0x10, 0x01
    for version in (4, 6):
        marks = {flags: mark for family, mark, flags in packets if family == version}
        assert syn_ack in marks, "the answer to the first packet was seen"
        assert ack in marks, "and data"
        assert any(flags & fin for flags in marks)
    assert {mark for _, mark, _ in packets} == {LOWER_EFFORT_TOS}
