"""The Port Control Protocol, as far as a device needs it for its own port (RFC 6887): packets as values. Pure."""

from __future__ import annotations

import ipaddress
import struct
from dataclasses import dataclass

VERSION = 2
SERVER_PORT = 5351
"""At the router, UDP; NAT-PMP has the same."""
NONCE_BYTES = 12
PACKET_BYTES_MAX = 1100
SUCCESS, UNSUPPORTED_VERSION, NETWORK_FAILURE, CANNOT_PROVIDE_EXTERNAL = 0, 1, 7, 11
RESULTS = ("success", "unsupported version", "not authorized", "malformed request", "unsupported opcode",
           "unsupported option", "malformed option", "network failure", "no resources", "unsupported protocol",
           "quota exceeded", "cannot provide external", "address mismatch", "excessive remote peers")  # fmt: skip
_MAP, _RESPONSE, _TCP = 1, 0x80, 6
_REQUEST = struct.Struct("!BBHI16s12sB3xHH16s")
_HEAD = struct.Struct("!BBBBII12x")
_BODY = struct.Struct("!12sB3xHH16s")

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True, slots=True)
class Answer:
    """``result``: of :data:`RESULTS`. With success: the mapping, for ``lifetime_s``. ``epoch_s``: how long the router
    has remembered its mappings; None where it is too old for this protocol."""

    result: int
    lifetime_s: int
    epoch_s: int | None
    external_port: int = 0
    external_address: str | None = None


def request(own: Address, nonce: bytes, internal_port: int, external_port: int, lifetime_s: int) -> bytes:
    """A MAP request for TCP.

    :param own: the address that it is sent from, whose port is to be mapped.
    :param nonce: 12 bytes; the same for all requests of one mapping, or the router refuses them.
    :param external_port: the wish; 0 for any.
    :param lifetime_s: 0 deletes the mapping.
    """
    anywhere = ipaddress.ip_address("0.0.0.0" if own.version == 4 else "::")
    return _REQUEST.pack(
        VERSION, _MAP, 0, lifetime_s, _wide(own), nonce, _TCP, internal_port, external_port, _wide(anywhere)
    )


def answer(packet: bytes, nonce: bytes, internal_port: int) -> Answer | None:
    """What a packet from the router says to the request of that nonce and port; None when it is no answer to it."""
    if len(packet) >= 4 and packet[0] < VERSION and packet[1] & _RESPONSE:
        return Answer(UNSUPPORTED_VERSION, 0, None)  # NAT-PMP's way, and that of later versions, to refuse this one
    if not _HEAD.size + _BODY.size <= len(packet) <= PACKET_BYTES_MAX:
        return None
    version, opcode, _, result, lifetime_s, epoch_s = _HEAD.unpack_from(packet)
    told, protocol, port, external_port, external = _BODY.unpack_from(packet, _HEAD.size)
    if (version, opcode, protocol) != (VERSION, _MAP | _RESPONSE, _TCP) or (told, port) != (nonce, internal_port):
        return None
    if result != SUCCESS:
        return Answer(result, lifetime_s, epoch_s)
    address = ipaddress.IPv6Address(external)
    found: Address = address.ipv4_mapped or address
    return Answer(result, lifetime_s, epoch_s, external_port, None if found.is_unspecified else str(found))


def _wide(address: Address) -> bytes:
    """All addresses are sixteen bytes; IPv4 is written inside of IPv6."""
    return address.packed if address.version == 6 else b"\0" * 10 + b"\xff\xff" + address.packed
