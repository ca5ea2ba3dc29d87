"""Traffic: what a household does, who answers it, consumers of the network, and the sampler of counters.

These run as parts inside of namespaces (see ``processes``). All times are monotonic seconds, which all namespaces of
one computer share. Files are appended a line at a time.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import random
import select
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from .processes import answer, told, urgent

DRAIN_PORT, PAGE_PORT, CALL_PORT, ECHO_PORT = 9000, 9001, 9002, 9003
SAMPLE_S = 0.010
PROBE_S = 0.050
PROBE_BYTES = 64
FRAME_S = 0.020
FRAME_PACKETS, PACKET_BYTES = 6, 1250
"""7500 bytes each 20 ms: 3 Mbit/s."""
FRAME_HEADER = struct.Struct("!IId")
"""Number of the frame, of the packet in it, and when the frame was sent."""
PAGE_HEADER = struct.Struct("!II")
"""Bytes that the client will send, and those that it wants."""
PAGE_S = 2.0
PAGE_PARTS = ((100_000, 1), (100_000, 1), (100_000, 1), (500, 60_000), (500, 60_000), (500, 60_000))
"""What each of a page's connections sends and gets: photos go up, the page comes down."""
CHUNK = bytes(65536)
AGAIN_S = 0.3
ORIGIN_BYTES = 2048
TCP_CONGESTION, SO_MAX_PACING_RATE = 13, 47


# ------------------------------------------------------------------ the sink


def drain() -> None:
    """Take whatever comes, and serve pages."""

    def take(connection: socket.socket) -> None:
        while connection.recv(2**20):
            pass

    def page(connection: socket.socket) -> None:
        sent, wanted = PAGE_HEADER.unpack(connection.recv(PAGE_HEADER.size, socket.MSG_WAITALL))
        while sent > 0:
            sent -= len(connection.recv(min(sent, 65536))) or sent
        connection.sendall(bytes(wanted))

    def serve(connection: socket.socket, how: Callable[[socket.socket], None]) -> None:
        with contextlib.suppress(OSError, struct.error), connection:
            how(connection)

    serving = {socket.create_server(("", DRAIN_PORT)): take, socket.create_server(("", PAGE_PORT), backlog=64): page}
    while True:
        for listener in select.select(serving, [], [])[0]:
            connection = listener.accept()[0]
            threading.Thread(target=serve, args=(connection, serving[listener]), daemon=True).start()


def listen(path: str) -> None:
    """Echo probes; write each packet of a call: number of its frame, its own, when the frame was sent, when it came."""
    urgent()
    call, echo = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
    call.bind(("", CALL_PORT))
    echo.bind(("", ECHO_PORT))
    with Path(path).open("w", buffering=1) as out:
        while True:
            for ready in select.select([call, echo], [], [])[0]:
                packet, sender = ready.recvfrom(2048)
                if ready is echo:
                    echo.sendto(packet, sender)
                else:
                    frame, part, sent = FRAME_HEADER.unpack_from(packet)
                    out.write(f"{frame} {part} {sent:.4f} {time.monotonic():.4f}\n")


# ------------------------------------------------------------------ senders


def upload() -> None:
    """Send as fast as TCP does. Told ``{"to": host, "congestion": name, "pacing_bps": n}``, of which only the first
    is needed, it answers when the first byte went; told ``null``, it stops and answers how much the peer has taken."""
    while (wanted := told(sys.stdin)) is not None:
        if not wanted:
            continue
        connection = socket.socket()
        connection.settimeout(10)
        connection.setsockopt(socket.IPPROTO_TCP, TCP_CONGESTION, wanted.get("congestion", "cubic").encode())
        if wanted.get("pacing_bps"):
            connection.setsockopt(socket.SOL_SOCKET, SO_MAX_PACING_RATE, int(wanted["pacing_bps"] / 8))
        connection.connect((wanted["to"], DRAIN_PORT))
        # What is queued at the end is thrown away.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        stop = threading.Event()
        sending = threading.Thread(target=_send, args=(connection, stop))
        answer(time.monotonic())
        sending.start()
        told(sys.stdin)
        stop.set()
        connection.settimeout(0)
        sending.join()
        connection.close()
        answer(time.monotonic())


def _send(connection: socket.socket, stop: threading.Event) -> None:
    with contextlib.suppress(OSError):
        while not stop.is_set():
            connection.sendall(CHUNK)


def _while_told(step: Callable[[], float]) -> None:
    """Between ``true`` and ``false``, call ``step`` again and again; it gives the monotonic time of the next call.
    Answers each with the time."""
    wanted, ended = threading.Event(), threading.Event()

    def loop() -> None:
        while not ended.is_set():
            wanted.wait()
            due = step()
            time.sleep(max(0.0, due - time.monotonic()))

    threading.Thread(target=loop, daemon=True).start()
    while (value := told(sys.stdin)) is not None:
        if value:
            wanted.set()
        else:
            wanted.clear()
        answer(time.monotonic())


def call(path: str, host: str) -> None:
    """One direction of a video call. Writes number and time of each frame sent."""
    urgent()
    out, target = Path(path).open("w", buffering=1), _datagrams(host, CALL_PORT)  # noqa: SIM115  # until killed
    number, due = 0, 0.0
    filling = bytes(PACKET_BYTES - FRAME_HEADER.size)

    def frame() -> float:
        nonlocal number, due
        sent = time.monotonic()
        for part in range(FRAME_PACKETS):
            target.send(FRAME_HEADER.pack(number, part, sent) + filling)
        out.write(f"{number} {sent:.4f}\n")
        number += 1
        due = next_due(due, sent, FRAME_S)
        return due

    _while_told(frame)


def probe(path: str, host: str) -> None:
    """Small packets there and back. Writes ``s number time`` of each that was sent, ``r number time`` when it came."""
    urgent()
    out, target = Path(path).open("w", buffering=1), _datagrams(host, ECHO_PORT)  # noqa: SIM115  # until killed
    number, due = 0, 0.0

    def take() -> None:
        while True:
            packet = target.recv(2048)
            out.write(f"r {struct.unpack_from('!I', packet)[0]} {time.monotonic():.5f}\n")

    def send() -> float:
        nonlocal number, due
        sent = time.monotonic()
        out.write(f"s {number} {sent:.5f}\n")
        target.send(struct.pack("!I", number).ljust(PROBE_BYTES, b"\0"))
        number += 1
        due = next_due(due, sent, PROBE_S)
        return due

    threading.Thread(target=take, daemon=True).start()
    _while_told(send)


def next_due(due: float, now: float, every_s: float) -> float:
    """A step that came late does not move the next ones; after a pause nothing is made up for."""
    return due + every_s if now - due < every_s else now + every_s


def _datagrams(host: str, port: int) -> socket.socket:
    found = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    found.connect((host, port))
    return found


def pages(path: str, host: str) -> None:
    """A page every two seconds. Writes when each began, and the seconds that it took."""
    out = Path(path).open("w", buffering=1)  # noqa: SIM115  # until killed

    def load(sent: int, wanted: int) -> None:
        with contextlib.suppress(OSError), socket.create_connection((host, PAGE_PORT), timeout=30) as connection:
            connection.sendall(PAGE_HEADER.pack(sent, wanted) + bytes(sent))
            while connection.recv(65536):
                pass

    def page() -> float:
        began = time.monotonic()
        loading = [threading.Thread(target=load, args=part) for part in PAGE_PARTS]
        for thread in loading:
            thread.start()
        for thread in loading:
            thread.join()
        out.write(f"{began:.4f} {time.monotonic() - began:.4f}\n")
        return began + PAGE_S + random.random() * 0.2  # at any moment of the agent's steps

    _while_told(page)


# ------------------------------------------------------------------ consumers and counters


def consume(url: str, device: str, downloads: str) -> None:
    """While told so, download from the device again and again, through the scheduler's redirect, so many at once."""
    wanted = threading.Event()

    def download() -> None:
        while True:
            wanted.wait()
            with contextlib.suppress(OSError, http.client.HTTPException):
                location = redirect()
                # What the origin gives itself does not pass the line, and would be taken for ours.
                if urlsplit(location).hostname == device:
                    take(location)
                    continue
            time.sleep(AGAIN_S)

    def redirect() -> str:
        asked = urlsplit(url)
        origin = http.client.HTTPConnection(asked.netloc, timeout=5)
        origin.sock = socket.socket()
        origin.sock.settimeout(5)
        # So that an origin which serves the object itself has no room to begin.
        origin.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, ORIGIN_BYTES)
        with contextlib.closing(origin):
            origin.sock.connect((asked.hostname, asked.port))
            origin.request("GET", asked.path)
            return origin.getresponse().getheader("Location", "")

    def take(location: str) -> None:
        parts = urlsplit(location)
        serving = http.client.HTTPConnection(parts.netloc, timeout=60)
        serving.request("GET", f"{parts.path}?{parts.query}")
        assert serving.sock is not None
        serving.sock.settimeout(0.1)
        with contextlib.closing(serving):
            response_bytes = 1
            while response_bytes and wanted.is_set():
                try:
                    response_bytes = len(serving.sock.recv(2**18))
                except TimeoutError:
                    pass  # we are being held back; look whether we are to stop

    for _ in range(int(downloads)):
        threading.Thread(target=download, daemon=True).start()
    while (value := told(sys.stdin)) is not None:
        if value:
            wanted.set()
        else:
            wanted.clear()


def sample(path: str, *counters: str) -> None:
    """Write the time and the counters, such as ``wan0/tx``, every 10 ms until killed."""
    urgent()
    names = (counter.split("/") for counter in counters)
    files = [os.open(f"/sys/class/net/{name}/statistics/{way}_bytes", os.O_RDONLY) for name, way in names]
    due = time.monotonic()
    with Path(path).open("w", buffering=1) as out:
        while True:
            found = " ".join(str(int(os.pread(file, 32, 0))) for file in files)
            out.write(f"{time.monotonic():.4f} {found}\n")
            due = max(due + SAMPLE_S, time.monotonic())
            time.sleep(max(0.0, due - time.monotonic()))


PARTS: dict[str, Callable[..., Any]] = {
    "drain": drain,
    "listen": listen,
    "upload": upload,
    "call": call,
    "probe": probe,
    "pages": pages,
    "consume": consume,
    "sample": sample,
}
