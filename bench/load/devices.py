"""Simulated devices: thousands in one process, each with a key, an address and a WebSocket of its own.

They say what an agent says (hello with a real signature, content, heartbeats, pings each 20 s), answer dial-backs, and
come back as agents do when they lose the server. The WebSocket is written by hand, for a client's library would
cost more than the server that is measured.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter, deque
from collections.abc import Sequence
from typing import Any

from fallow_agent.backoff import Backoff
from fallow_agent.uplink.session import PING_S
from fallow_wire.fields import encode
from fallow_wire.session import (
    SUBPROTOCOL,
    Challenge,
    Content,
    DialBack,
    Heartbeat,
    Policy,
    ServicePort,
    read_downward,
    sign_dial_back,
    sign_hello,
    write,
)
from fallow_wire.strict import dumps

from . import population
from .parts import obey

TEXT, CLOSE, PING, PONG = 1, 8, 9, 10
MASKED = 0x80
NO_MASK = b"\0\0\0\0"
"""Frames must be masked; with this key the bytes stay as they are."""
NONCES_MAX = 10_000


def frame(opcode: int, data: bytes) -> bytes:
    size = len(data)
    if size < 126:
        head = bytes((0x80 | opcode, MASKED | size))
    elif size < 65_536:
        head = bytes((0x80 | opcode, MASKED | 126)) + size.to_bytes(2, "big")
    else:
        head = bytes((0x80 | opcode, MASKED | 127)) + size.to_bytes(8, "big")
    return head + NO_MASK + data


class Device(asyncio.Protocol):
    """One device. It is *back* when it has the policy and has sent its content and a heartbeat."""

    def __init__(self, crowd: Crowd, number: int) -> None:
        self.crowd = crowd
        self.number = number
        self.address = population.loopback_of(number)
        self.key = population.key_of(number)
        self.id = self.key.public.device_id()
        self.draw = random.Random(number)
        self.backoff = Backoff()
        self.back = False
        self.beat: Heartbeat | None = None
        self._transport: asyncio.Transport | None = None
        self._unread = b""
        self._shaken = False
        self._timer: asyncio.TimerHandle | None = None
        self._ping: asyncio.TimerHandle | None = None

    async def connect(self) -> None:
        """Until the connection stands; tries again by itself."""
        loop = asyncio.get_running_loop()
        crowd = self.crowd
        async with crowd.dialling:
            if crowd.ending:
                return
            try:
                await loop.create_connection(lambda: self, *crowd.server, local_addr=(self.address, 0))
            except OSError:
                self._come_back()

    def _come_back(self) -> None:
        if self.crowd.ending:
            return
        delay_s = self.backoff.delay_s(self.draw.random())
        self.backoff = self.backoff.failed()
        asyncio.get_running_loop().call_later(delay_s, self.crowd.dial, self)

    # -------------------------------------------------------------- the connection

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._unread, self._shaken = b"", False
        transport.write(self.crowd.handshake)

    def connection_lost(self, error: Exception | None) -> None:
        if self.back:
            self.crowd.gone(self)
        self._transport, self.back = None, False
        for timer in (self._timer, self._ping):
            if timer is not None:
                timer.cancel()
        self._come_back()

    def data_received(self, data: bytes) -> None:
        data = self._unread + data
        if not self._shaken:
            head, found, data = data.partition(b"\r\n\r\n")
            if not found:
                self._unread = head
                return
            if not head.startswith(b"HTTP/1.1 101"):
                self.crowd.refused += 1
                self._close()
                return
            self._shaken = True
        while len(data) >= 2:
            size, start = data[1], 2
            if size == 126:
                size, start = int.from_bytes(data[2:4], "big"), 4
            elif size == 127:
                size, start = int.from_bytes(data[2:10], "big"), 10
            if len(data) < start + size:
                break
            self._received(data[0] & 15, data[start : start + size])
            data = data[start + size :]
        self._unread = data

    def _received(self, opcode: int, data: bytes) -> None:
        if opcode == TEXT:
            self._told(data)
        elif opcode == PING:
            self._send(PONG, data)
        elif opcode == CLOSE:
            self.crowd.closed[int.from_bytes(data[:2], "big")] += 1
            self._send(CLOSE, data[:2])
            self._close()

    def _send(self, opcode: int, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(frame(opcode, data))

    def _close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    # -------------------------------------------------------------- the session

    def _told(self, data: bytes) -> None:
        message = read_downward(data)
        if isinstance(message, Challenge):
            self._send(TEXT, write(sign_hello(message, self.crowd.host, self.key, "0.1.0")).encode())
        elif isinstance(message, Policy) and not self.back:
            self._report()
        elif isinstance(message, DialBack):
            self.crowd.expect(message.nonce, self)

    def _report(self) -> None:
        self.back = True
        self.backoff = self.backoff.succeeded()
        port = ServicePort("tcp", self.crowd.service_port, "ipv4", self.address, "manual")
        held = population.held_by(self.number, self.crowd.objects)
        self._send(TEXT, write(Content(held, (), snapshot=True)).encode())
        self.beat = self.beat or population.heartbeat(self.number, port, self.draw)
        self._send(TEXT, write(self.beat).encode())
        self.crowd.came(self)
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(self.crowd.cadence_s * self.draw.random(), self._heartbeat)
        self._ping = loop.call_later(PING_S * (0.5 + self.draw.random()), self._send_ping)

    def _heartbeat(self) -> None:
        assert self.beat is not None
        self.beat = population.later(self.beat, self.draw)
        self._send(TEXT, write(self.beat).encode())
        self.crowd.heartbeats += 1
        wait_s = self.crowd.cadence_s * (0.9 + 0.2 * self.draw.random())
        self._timer = asyncio.get_running_loop().call_later(wait_s, self._heartbeat)

    def _send_ping(self) -> None:
        self._send(PING, b"")
        self._ping = asyncio.get_running_loop().call_later(PING_S, self._send_ping)


class Answer(asyncio.Protocol):
    """The service port of all simulated devices, which answers ``GET /v1/dial-back/{nonce}``."""

    def __init__(self, crowd: Crowd) -> None:
        self.crowd = crowd
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        # A request of a few hundred bytes on the loopback comes in one piece.
        nonce = data.partition(b" HTTP/")[0].rpartition(b"/")[2].decode()
        self.crowd.asked(nonce, self)

    def answer(self, device: Device, nonce: str) -> None:
        assert self._transport is not None
        body = dumps(encode(sign_dial_back(nonce, device.key)))
        head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        self._transport.write(head.encode() + b"Connection: close\r\n\r\n" + body)
        self._transport.close()


class Crowd:
    """All simulated devices of one process.

    :param server: address and port; ``host`` is what devices call it.
    :param dials: connections that are being made at once.
    """

    def __init__(self, server: tuple[str, int], objects: Sequence[str], cadence_s: float, dials: int = 64) -> None:
        self.server = server
        self.host = f"{server[0]}:{server[1]}"
        self.objects = objects
        self.cadence_s = cadence_s
        self.dialling = asyncio.Semaphore(dials)
        self.handshake = (
            f"GET /v1/session HTTP/1.1\r\nHost: {self.host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Key: ZmFsbG93IHNjYWxlIHNpbQ==\r\nSec-WebSocket-Version: 13\r\n"
            f"Sec-WebSocket-Protocol: {SUBPROTOCOL}\r\nUser-Agent: fallow-agent/0.1.0\r\n\r\n"
        ).encode()
        self.service_port = 0
        self.ending = False
        self.devices: list[Device] = []
        self.connected = self.heartbeats = self.dial_backs = self.refused = 0
        self.closed: Counter[int] = Counter()
        self.all_back = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._expected: dict[str, Device] = {}
        self._waiting: dict[str, Answer] = {}
        self._order: deque[str] = deque()
        self._server: asyncio.Server | None = None

    async def listen(self) -> None:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: Answer(self), "0.0.0.0", 0, backlog=1024)
        self.service_port = self._server.sockets[0].getsockname()[1]

    async def add(self, count: int) -> None:
        self.all_back.clear()
        for number in range(len(self.devices), len(self.devices) + count):
            device = Device(self, number)
            self.devices.append(device)
            self.dial(device)

    def dial(self, device: Device) -> None:
        task = asyncio.create_task(device.connect(), name=f"connect {device.number}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def wait(self, within_s: float) -> None:
        async with asyncio.timeout(within_s):
            await self.all_back.wait()

    async def counts(self) -> dict[str, Any]:
        return {
            "connected": self.connected, "heartbeats": self.heartbeats, "dial_backs": self.dial_backs,
            "refused": self.refused, "closed": self.closed,
        }  # fmt: skip

    def came(self, device: Device) -> None:
        self.connected += 1
        if self.connected == len(self.devices):
            self.all_back.set()

    def gone(self, device: Device) -> None:
        self.connected -= 1
        self.all_back.clear()

    # The dial-back's nonce and its call come over two connections, in either order.

    def expect(self, nonce: str, device: Device) -> None:
        self.dial_backs += 1
        answer = self._waiting.pop(nonce, None)
        if answer is not None:
            answer.answer(device, nonce)
            return
        self._expected[nonce] = device
        self._order.append(nonce)
        if len(self._order) > NONCES_MAX:
            self._expected.pop(self._order.popleft(), None)

    def asked(self, nonce: str, answer: Answer) -> None:
        device = self._expected.pop(nonce, None)
        if device is not None:
            answer.answer(device, nonce)
        else:
            self._waiting[nonce] = answer


async def devices(host: str, port: str, objects: str, cadence_s: str) -> None:
    """The part: adds so many devices when told to, and answers when all are there. ``objects``: a JSON array of ids."""
    crowd = Crowd((host, int(port)), json.loads(objects), float(cadence_s))
    await crowd.listen()
    await obey({"add": crowd.add, "all": crowd.wait, "counts": crowd.counts})
    crowd.ending = True
