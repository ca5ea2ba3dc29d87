"""Echoes sent and heard: ICMP by the socket that the kernel allows.

An unprivileged ping socket where ``net.ipv4.ping_group_range`` has our group, else a raw one, else none, and it is
said why. Times of arrival are the kernel's where it tells them: with those, a busy event loop is no slow line.

Echoes never carry the Lower-Effort mark of our transfers. They are to meet what a packet of the household meets;
marked, they would measure the queue that only we wait in.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
import time
from dataclasses import dataclass

from .icmp import (
    COOKIE_BYTES,
    ETHERNET_BYTES,
    FRAME_BYTES,
    IP_HEADER_BYTES,
    PAYLOAD_BYTES_MIN,
    Answer,
    Kind,
    answer,
    echo,
    error,
    without_ip_header,
)

UNDER_WAY_MAX = 96
"""Echoes not yet answered: four seconds of them to two hops, and two trains. More means that nothing comes back."""
LOST_AFTER_S = 4.0
"""256 packets, a common queue, last 3 s on 1 Mbit/s; what comes later is no answer."""
READS_MAX = 64
"""Packets taken per wake-up: somebody who floods us with ICMP does not keep the loop."""
ARRIVED_AGO_S_MAX = 1.0
"""A kernel's stamp further back, or in the future, is a clock that was set meanwhile."""
RAW_RECEIVE_BYTES = 256 * 1024
"""Room for a train of replies while the loop is busy."""
_PACKET_BYTES_MAX = 2048
_ANCILLARY_BYTES = 256
_SO_TIMESTAMPNS = 35
_SOL_RAW, _ICMP_FILTER = 255, 1
_IP_RECVERR = 11
_ERROR = struct.Struct("=IBBBBII")
"""``struct sock_extended_err``; the address of the router that complained follows as ``sockaddr_in``."""
_OFFENDER_AT = _ERROR.size + 4
_ORIGIN_ICMP = 2
_MSG_ERRQUEUE = 0x2000
_PASSED = ~((1 << 0) | (1 << 3) | (1 << 11)) & 0xFFFFFFFF
"""Of a raw socket: echo replies, unreachable, expired; a set bit is a type that the kernel keeps from us."""


@dataclass(frozen=True, slots=True)
class Heard:
    """What became of one echo. ``sent_at``, ``received_at``: monotonic seconds; ``address``: whose answer it is."""

    kind: Kind
    sent_at: float
    rtt_ms: float | None = None
    address: str | None = None
    received_at: float | None = None


@dataclass(slots=True)
class _UnderWay:
    heard: asyncio.Future[Heard]
    to: str
    sent_at: float
    timer: asyncio.TimerHandle


class Echoes:
    """One socket for all echoes; needs a running loop to send.

    ``unavailable``: why there are none, or None.
    """

    def __init__(self) -> None:
        self.unavailable: str | None = None
        self.wire_up = self.wire_down = 0
        """Bytes of all echoes and answers, with their headers."""
        self._cookie = os.urandom(COOKIE_BYTES)
        self._sequence = 0
        self._under_way: dict[int, _UnderWay] = {}
        self._raw = False
        self._identifier = 0
        self._socket: socket.socket | None = None
        self._reading: asyncio.AbstractEventLoop | None = None
        try:
            self._socket = self._opened()
        except OSError as refusal:
            self.unavailable = (
                f"ICMP is not allowed ({refusal.strerror or refusal}); allow it by "
                "sysctl net.ipv4.ping_group_range='0 2147483647', or give the agent CAP_NET_RAW"
            )

    def send(
        self,
        to: str,
        *,
        ttl: int | None = None,
        payload_bytes: int = PAYLOAD_BYTES_MIN,
        lost_after_s: float = LOST_AFTER_S,
    ) -> asyncio.Future[Heard]:
        """One echo, without waiting. The future always gets a result: an answer, ``LOST``, or ``UNSENT``.

        :param to: an IPv4 address.
        """
        loop = asyncio.get_running_loop()
        heard: asyncio.Future[Heard] = loop.create_future()
        if self._socket is None or len(self._under_way) >= UNDER_WAY_MAX:
            heard.set_result(Heard(Kind.UNSENT, time.monotonic()))
            return heard
        if self._reading is not loop:
            loop.add_reader(self._socket, self._read)
            self._reading = loop
        self._sequence = (self._sequence + 1) % 2**16
        packet = echo(self._identifier, self._sequence, self._cookie, payload_bytes)
        sent_at = time.monotonic()
        if not self._put(packet, to, ttl):
            heard.set_result(Heard(Kind.UNSENT, sent_at))
            return heard
        self.wire_up += FRAME_BYTES + payload_bytes
        timer = loop.call_later(lost_after_s, self._lose, self._sequence)
        self._under_way[self._sequence] = _UnderWay(heard, to, sent_at, timer)
        return heard

    def close(self) -> None:
        """What is under way is lost. Idempotent."""
        for sequence in tuple(self._under_way):
            self._lose(sequence)
        if self._socket is not None:
            if self._reading is not None and not self._reading.is_closed():
                self._reading.remove_reader(self._socket)
            self._socket.close()
            self._socket = None
            self.unavailable = "closed"

    def _opened(self) -> socket.socket:
        try:
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK, socket.IPPROTO_ICMP)
        except OSError:
            sock = socket.socket(socket.AF_INET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.IPPROTO_ICMP)
            self._raw = True
        try:
            if self._raw:
                self._identifier = int.from_bytes(os.urandom(2), "big")
                sock.setsockopt(_SOL_RAW, _ICMP_FILTER, struct.pack("=I", _PASSED))
            else:
                # The kernel chooses the identifier, as it does a port, and gives us nobody else's answers.
                sock.bind(("", 0))
                self._identifier = sock.getsockname()[1]
                sock.setsockopt(socket.IPPROTO_IP, _IP_RECVERR, 1)
            sock.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RAW_RECEIVE_BYTES)
        except OSError:
            sock.close()
            raise
        return sock

    def _put(self, packet: bytes, to: str, ttl: int | None) -> bool:
        assert self._socket is not None
        ancillary = [] if ttl is None else [(socket.IPPROTO_IP, socket.IP_TTL, struct.pack("=i", ttl))]
        for _ in range(2):
            try:
                self._socket.sendmsg([packet], ancillary, 0, (to, 0))
                return True
            except OSError:
                # The kernel hands the error of an earlier echo to the next call; a second try is about this one.
                continue
        return False

    def _lose(self, sequence: int) -> None:
        self._settle(sequence, Kind.LOST)

    def _settle(self, sequence: int, kind: Kind, address: str | None = None, arrived_at: float | None = None) -> None:
        waiting = self._under_way.pop(sequence)
        waiting.timer.cancel()
        rtt_ms = None if arrived_at is None else max(0.0, (arrived_at - waiting.sent_at) * 1000)
        if not waiting.heard.done():
            waiting.heard.set_result(Heard(kind, waiting.sent_at, rtt_ms, address, arrived_at))

    def _read(self) -> None:
        for flags in (0, _MSG_ERRQUEUE):
            for _ in range(READS_MAX):
                if self._socket is None:
                    return
                try:
                    data, ancillary, _, sender = self._socket.recvmsg(_PACKET_BYTES_MAX, _ANCILLARY_BYTES, flags)
                except BlockingIOError:
                    break
                except OSError:
                    continue  # the pending error of an echo; its details are in the error queue
                self._take(data, ancillary, sender[0] if sender else None)

    def _take(self, data: bytes, ancillary: list[tuple[int, int, bytes]], sender: str | None) -> None:
        arrived_at, found, address = None, None, sender
        complaint, headers = False, ETHERNET_BYTES if self._raw else ETHERNET_BYTES + IP_HEADER_BYTES
        for level, kind, value in ancillary:
            if level == socket.SOL_SOCKET and kind == _SO_TIMESTAMPNS:
                arrived_at = _arrived_at(value)
            elif level == socket.IPPROTO_IP and kind == _IP_RECVERR:
                complaint, headers = True, FRAME_BYTES + IP_HEADER_BYTES
                found, address = _complaint(data, value)
        if not complaint:
            packet = without_ip_header(data) if self._raw else data
            found = None if packet is None else answer(packet)
        if found is not None and address is not None:
            arrived_at = time.monotonic() if arrived_at is None else arrived_at
            self._match(found, address, arrived_at, headers + len(data))

    def _match(self, found: Answer, address: str, arrived_at: float, wire_bytes: int) -> None:
        waiting = self._under_way.get(found.sequence)
        if waiting is None or found.identifier != self._identifier:
            return
        if not found.by_the_asked(address, waiting.to, self._cookie):
            return
        self.wire_down += wire_bytes
        self._settle(found.sequence, found.kind, address, arrived_at)


def _arrived_at(stamp: bytes) -> float | None:
    """When the kernel received what it stamped, in monotonic seconds; None where its clock cannot be believed."""
    if len(stamp) not in (8, 16):
        return None
    seconds, nanoseconds = struct.unpack("=qq" if len(stamp) == 16 else "=ll", stamp)
    # Stamps are in Unix time. The two clocks are read side by side, so that the difference is the packet's.
    unix_ns, now = time.time_ns(), time.monotonic()
    ago_s = (unix_ns - seconds * 10**9 - nanoseconds) / 1e9
    return now - ago_s if 0.0 <= ago_s <= ARRIVED_AGO_S_MAX else None


def _complaint(quoted: bytes, extended: bytes) -> tuple[Answer | None, str | None]:
    """From a ping socket's error queue: the answer, and the router that gave it."""
    if len(extended) < _OFFENDER_AT + 4:
        return None, None
    _, origin, kind, code, _, _, _ = _ERROR.unpack_from(extended)
    if origin != _ORIGIN_ICMP:
        return None, None
    return error(kind, code, quoted), socket.inet_ntoa(extended[_OFFENDER_AT : _OFFENDER_AT + 4])
