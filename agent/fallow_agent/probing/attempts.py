"""One measurement: a name is looked up, a connection made, a page asked for; each timed.

A name is resolved once, every address that it has is checked, and the connection goes to one of those: a second answer
of a name server (DNS rebinding) is never asked for. Redirects are answers like others, and not followed.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import re
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from fallow_wire.addresses import is_literal
from fallow_wire.errors import FallowError
from fallow_wire.probes import ADDRESSES_MAX, DNS, HTTP, Attempt, Probe

from ..line.marking import LowerEffort
from ..line.tcp_info import received_by, sent_by

ATTEMPT_S_MAX = 10.0
"""A measurement of more is none: browsers and players give up too."""
READ_BYTES_MAX = 16 * 1024
"""Of an answer: times are known with its first byte, and the rest would be a download for nobody."""
RECEIVE_BUFFER_BYTES = 32 * 1024
"""What a server may have sent before we close: it must not fill the line with what nobody reads."""
LOOKUP_BYTES, CONNECTION_BYTES = 400, 400
"""On the wire each way, about: a question with its answer for two families; and, where the kernel does not say what a
connection carried, its handshake."""

_STATUS = re.compile(rb"HTTP/1\.[01] ([1-9][0-9][0-9])[ \r]")
_FAMILIES = {"any": socket.AF_UNSPEC, "ipv4": socket.AF_INET, "ipv6": socket.AF_INET6}
_NO_SUCH_NAME = {socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)}


class TargetRefused(FallowError):
    """The target is not of the public internet, or is at this home. It was not touched."""

    slug = "target-refused"


@dataclass(frozen=True, slots=True)
class Measured:
    """``up_bytes``, ``down_bytes``: on the wire."""

    attempt: Attempt
    up_bytes: int
    down_bytes: int


@dataclass(frozen=True, slots=True)
class _Address:
    family: int
    sockaddr: tuple[Any, ...]


class Attempts:
    """:param may_probe: judges an address. :param now: monotonic seconds."""

    def __init__(self, may_probe: Callable[[str], bool], now: Callable[[], float]) -> None:
        self._may_probe = may_probe
        self._now = now
        self._lower_effort = LowerEffort()

    async def measure(self, probe: Probe) -> Measured:
        """Ends within :data:`ATTEMPT_S_MAX`. :raises TargetRefused: before anything is sent to the target."""
        attempt = _Attempt(probe, self._may_probe, self._now, self._lower_effort)
        try:
            async with asyncio.timeout(ATTEMPT_S_MAX):
                await attempt.run()
        except (OSError, EOFError, TimeoutError) as error:
            attempt.found = replace(attempt.found, error=error_of(error))
        return Measured(attempt.found, attempt.up_bytes, attempt.down_bytes)


class _Attempt:
    def __init__(
        self, probe: Probe, may_probe: Callable[[str], bool], now: Callable[[], float], lower_effort: LowerEffort
    ) -> None:
        self.found = Attempt()
        self.up_bytes = 0
        self.down_bytes = 0
        self._probe = probe
        self._may_probe = may_probe
        self._now = now
        self._lower_effort = lower_effort
        self._began = now()

    async def run(self) -> None:
        addresses = await self._look_up()
        if self._probe.test == DNS:
            told = tuple(dict.fromkeys(str(one.sockaddr[0]) for one in addresses))[:ADDRESSES_MAX]
            self.found = replace(self.found, addresses=told, total_ms=self.found.lookup_ms)
            return
        with await self._connect(addresses[0]) as sock:
            if self._probe.test == HTTP:
                await self._ask(sock)
        self.found = replace(self.found, total_ms=self._ms_since(self._began))

    async def _look_up(self) -> list[_Address]:
        probe = self._probe
        began = self._now()
        family, kind = _FAMILIES[probe.family], socket.SOCK_STREAM
        if is_literal(probe.host):
            entries = socket.getaddrinfo(probe.host, probe.port, family, kind, flags=socket.AI_NUMERICHOST)
        else:
            self.up_bytes += LOOKUP_BYTES
            self.down_bytes += LOOKUP_BYTES
            loop = asyncio.get_running_loop()
            entries = await loop.getaddrinfo(probe.host, probe.port, family=family, type=kind)
            self.found = replace(self.found, lookup_ms=self._ms_since(began))
        for entry in entries:
            if not self._may_probe(str(entry[4][0])):
                raise TargetRefused(f"{probe.host} has an address that is not public, or is at this home")
        return [_Address(entry[0], entry[4]) for entry in entries]

    async def _connect(self, address: _Address) -> socket.socket:
        sock = socket.socket(address.family, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
            self._lower_effort.mark(sock)
            self.found = replace(self.found, addresses=(str(address.sockaddr[0]),))
            began = self._now()
            await asyncio.get_running_loop().sock_connect(sock, address.sockaddr)
            self.found = replace(self.found, connect_ms=self._ms_since(began))
        except BaseException:
            self._count(sock)
            sock.close()
            raise
        if self._probe.test != HTTP:
            self._count(sock)
        return sock

    async def _ask(self, sock: socket.socket) -> None:
        probe = self._probe
        # The transport closes its socket with the peer; the kernel is asked about this one.
        with contextlib.closing(sock.dup()) as watched:
            writer: asyncio.StreamWriter | None = None
            try:
                # Made for each: it holds the system's certificates, and memory is dear.
                context = await asyncio.to_thread(ssl.create_default_context) if probe.secure else None
                began = self._now()
                name = probe.host if probe.secure else None
                reader, writer = await asyncio.open_connection(sock=sock, ssl=context, server_hostname=name)
                if probe.secure:
                    self.found = replace(self.found, secured_ms=self._ms_since(began))
                writer.write(_request(probe))
                await self._read(reader)
            finally:
                self._count(watched)
                if writer is not None:
                    writer.transport.abort()

    async def _read(self, reader: asyncio.StreamReader) -> None:
        began, head, count = self._now(), b"", 0
        while count < READ_BYTES_MAX and (piece := await reader.read(READ_BYTES_MAX - count)):
            if not count:
                self.found = replace(self.found, first_byte_ms=self._ms_since(began))
            count += len(piece)
            self.found = replace(self.found, bytes=count)
            if len(head) < 16:
                head += piece[:16]
        if not count:
            raise EOFError
        match = _STATUS.match(head)
        if match is None:
            self.found = replace(self.found, error="not-http")
        else:
            self.found = replace(self.found, status=int(match[1]))

    def _count(self, sock: socket.socket) -> None:
        sent, received = sent_by(sock), received_by(sock)
        self.up_bytes += CONNECTION_BYTES if sent is None else sent.wire_bytes
        self.down_bytes += CONNECTION_BYTES + (self.found.bytes or 0) if received is None else received

    def _ms_since(self, began: float) -> int:
        return round((self._now() - began) * 1000)


def _request(probe: Probe) -> bytes:
    host = f"[{probe.host}]" if ":" in probe.host else probe.host
    authority = host if probe.port == (443 if probe.secure else 80) else f"{host}:{probe.port}"
    lines = (
        f"GET {probe.path} HTTP/1.1",
        f"Host: {authority}",
        "User-Agent: fallow-probe",
        "Accept: */*",
        "Accept-Encoding: identity",
        "Connection: close",
    )
    return ("\r\n".join(lines) + "\r\n\r\n").encode("ascii")


def error_of(error: Exception) -> str:
    """The word for it in :class:`~fallow_wire.probes.Attempt`."""
    if isinstance(error, socket.gaierror):
        return "no-such-name" if error.errno in _NO_SUCH_NAME else "no-name-server"
    if isinstance(error, ssl.SSLCertVerificationError):
        return "certificate"
    if isinstance(error, ssl.SSLError):
        return "tls-failed"
    if isinstance(error, ConnectionRefusedError):
        return "connection-refused"
    if isinstance(error, TimeoutError):
        return "timed-out"
    if getattr(error, "errno", None) in (errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EADDRNOTAVAIL, errno.EACCES):
        return "unreachable"
    return "broken-off"
