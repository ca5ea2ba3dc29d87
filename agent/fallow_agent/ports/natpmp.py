"""The NAT Port Mapping Protocol, PCP's predecessor that older routers speak (RFC 6886): packets as values. Pure."""

from __future__ import annotations

import ipaddress
import struct
from dataclasses import dataclass

VERSION = 0
SUCCESS, NETWORK_FAILURE = 0, 3
RESULTS = ("success", "unsupported version", "not authorized", "network failure", "out of resources",
           "unsupported opcode")  # fmt: skip
_ADDRESS, _MAP_TCP, _RESPONSE = 0, 2, 0x80
_MAPPING_REQUEST = struct.Struct("!BBHHHI")
_ADDRESS_ANSWER = struct.Struct("!BBHI4s")
_MAPPING_ANSWER = struct.Struct("!BBHIHHI")

ADDRESS_REQUEST = bytes((VERSION, _ADDRESS))


@dataclass(frozen=True, slots=True)
class AddressAnswer:
    """``result``: of :data:`RESULTS`. ``address``: the router's own on the outside, None where it has none."""

    result: int
    epoch_s: int
    address: str | None


@dataclass(frozen=True, slots=True)
class MappingAnswer:
    result: int
    epoch_s: int
    external_port: int
    lifetime_s: int


def mapping_request(internal_port: int, external_port: int, lifetime_s: int) -> bytes:
    """Of TCP. ``lifetime_s`` 0, with ``external_port`` 0, deletes the mapping."""
    return _MAPPING_REQUEST.pack(VERSION, _MAP_TCP, 0, internal_port, external_port, lifetime_s)


def address_answer(packet: bytes) -> AddressAnswer | None:
    """None when the packet is no such answer. One that refuses may end behind its time."""
    found = _head(packet, _ADDRESS)
    if found is None:
        return None
    result, epoch_s = found
    if result != SUCCESS:
        return AddressAnswer(result, epoch_s, None)
    if len(packet) != _ADDRESS_ANSWER.size:
        return None
    address = ipaddress.IPv4Address(_ADDRESS_ANSWER.unpack(packet)[4])
    return AddressAnswer(result, epoch_s, None if address.is_unspecified else str(address))


def mapping_answer(packet: bytes, internal_port: int) -> MappingAnswer | None:
    """None when the packet is no answer for that port."""
    found = _head(packet, _MAP_TCP)
    if found is None:
        return None
    result, epoch_s = found
    if result != SUCCESS:
        return MappingAnswer(result, epoch_s, 0, 0)
    if len(packet) != _MAPPING_ANSWER.size:
        return None
    *_, port, external_port, lifetime_s = _MAPPING_ANSWER.unpack(packet)
    return MappingAnswer(result, epoch_s, external_port, lifetime_s) if port == internal_port else None


def _head(packet: bytes, opcode: int) -> tuple[int, int] | None:
    """Result and time of an answer to ``opcode``."""
    if len(packet) < 8:
        return None
    version, told, result, epoch_s = struct.unpack_from("!BBHI", packet)
    return (result, epoch_s) if (version, told) == (VERSION, opcode | _RESPONSE) else None
