"""ICMP echo packets of IPv4: made, and read from whatever arrives. Pure.

Whatever arrives: a raw socket sees the ICMP of everybody, and anybody may send it. A packet that is no answer to an
echo is None, never an error.
"""

from __future__ import annotations

import ipaddress
import struct
from dataclasses import dataclass
from enum import Enum

HEADER_BYTES = 8
COOKIE_BYTES = 8
PAYLOAD_BYTES_MIN = 24
"""Such an echo fills the smallest Ethernet frame: what interfaces count is what was sent, with no padding."""
ETHERNET_BYTES = 14
IP_HEADER_BYTES = 20
FRAME_BYTES = ETHERNET_BYTES + IP_HEADER_BYTES + HEADER_BYTES
"""What the wire carries besides the payload: Ethernet, IPv4 and ICMP headers."""
_ECHO_REPLY, _UNREACHABLE, _ECHO, _EXPIRED = 0, 3, 8, 11
_PROTOCOL = 1
_HEADER = struct.Struct("!BBHHH")


class Kind(Enum):
    """What became of an echo."""

    REPLY = "reply"
    EXPIRED = "expired"
    """A router on the way says that the packet's hops were used up."""
    UNREACHABLE = "unreachable"
    LOST = "lost"
    """No answer in time."""
    UNSENT = "unsent"


@dataclass(frozen=True, slots=True)
class Answer:
    """To the echo with this identifier and sequence.

    ``cookie``: of a reply, the first bytes of its payload; None for the errors, which need not quote them.
    """

    kind: Kind
    identifier: int
    sequence: int
    cookie: bytes | None = None

    def by_the_asked(self, by: str, asked: str, cookie: bytes) -> bool:
        """False for a reply by another, or by somebody who never saw the question. An error may come from anybody on
        the way, and is believed by identifier and sequence alone."""
        return self.kind is not Kind.REPLY or (by == asked and self.cookie == cookie)


def echo(identifier: int, sequence: int, cookie: bytes, payload_bytes: int = PAYLOAD_BYTES_MIN) -> bytes:
    """A request, with ``cookie`` at the beginning of its payload."""
    assert len(cookie) == COOKIE_BYTES <= payload_bytes
    payload = cookie + bytes(payload_bytes - COOKIE_BYTES)
    unsummed = _HEADER.pack(_ECHO, 0, 0, identifier, sequence) + payload
    return _HEADER.pack(_ECHO, 0, checksum(unsummed), identifier, sequence) + payload


def checksum(data: bytes) -> int:
    """Of RFC 1071: a sum of 16-bit words whose carries go round is a remainder by 2¹⁶ − 1."""
    return 0xFFFF - int.from_bytes(data + bytes(len(data) % 2), "big") % 0xFFFF


def answer(packet: bytes) -> Answer | None:
    """Read an ICMP packet, without its IP header."""
    if len(packet) < HEADER_BYTES or checksum(packet) not in (0, 0xFFFF):
        return None
    kind, code, _, identifier, sequence = _HEADER.unpack_from(packet)
    if kind == _ECHO_REPLY and code == 0:
        return Answer(Kind.REPLY, identifier, sequence, packet[HEADER_BYTES : HEADER_BYTES + COOKIE_BYTES])
    quoted = without_ip_header(packet[HEADER_BYTES:])
    return None if quoted is None else error(kind, code, quoted)


def error(kind: int, code: int, quoted: bytes) -> Answer | None:
    """Read an ICMP error about ``quoted``, the beginning of an ICMP packet of ours."""
    if len(quoted) < HEADER_BYTES:
        return None
    about, _, _, identifier, sequence = _HEADER.unpack_from(quoted)
    if about != _ECHO:
        return None
    if kind == _EXPIRED and code == 0:
        return Answer(Kind.EXPIRED, identifier, sequence)
    return Answer(Kind.UNREACHABLE, identifier, sequence) if kind == _UNREACHABLE else None


def without_ip_header(datagram: bytes) -> bytes | None:
    """The ICMP packet inside of an IPv4 one."""
    if len(datagram) < IP_HEADER_BYTES or datagram[0] >> 4 != 4 or datagram[9] != _PROTOCOL:
        return None
    header_bytes = (datagram[0] & 0xF) * 4
    return datagram[header_bytes:] if header_bytes >= IP_HEADER_BYTES else None


def is_ipv4(text: str) -> bool:
    try:
        ipaddress.IPv4Address(text)
    except ValueError:
        return False
    return True
