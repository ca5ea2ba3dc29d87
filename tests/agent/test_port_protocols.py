"""PCP and NAT-PMP: packets as the standards have them, and whatever else comes in."""

from __future__ import annotations

import ipaddress
import struct

import pytest
from fallow_agent.ports import natpmp, pcp
from hypothesis import given
from hypothesis import strategies as st

OWN = ipaddress.ip_address("192.168.88.2")
NONCE = bytes(range(12))
PORT = 32557


def pcp_answer(
    *, result: int = 0, opcode: int = 0x81, nonce: bytes = NONCE, port: int = PORT, outside: str = "::ffff:11.22.33.44"
) -> bytes:
    head = struct.pack("!BBBBII12x", 2, opcode, 0, result, 1800, 99)
    return head + struct.pack("!12sB3xHH16s", nonce, 6, port, 40000, ipaddress.IPv6Address(outside).packed)


def test_a_map_request_is_60_bytes_as_in_the_standard() -> None:
    packet = pcp.request(OWN, NONCE, PORT, 40000, 3600)
    assert len(packet) == 60
    assert packet[:4] == bytes((2, 1, 0, 0))
    assert packet[4:8] == (3600).to_bytes(4, "big")
    assert packet[8:24] == bytes(10) + b"\xff\xff" + OWN.packed
    assert packet[24:36] == NONCE
    assert packet[36:40] == bytes((6, 0, 0, 0))
    assert packet[40:44] == struct.pack("!HH", PORT, 40000)
    assert packet[44:60] == bytes(10) + b"\xff\xff" + bytes(4), "any IPv4 address"
    own6 = ipaddress.ip_address("2001:db8::2")
    assert pcp.request(own6, NONCE, PORT, PORT, 0)[8:24] == own6.packed
    assert pcp.request(own6, NONCE, PORT, PORT, 0)[44:60] == bytes(16), "any IPv6 address"


def test_pcp_answers() -> None:
    assert pcp.answer(pcp_answer(), NONCE, PORT) == pcp.Answer(0, 1800, 99, 40000, "11.22.33.44")
    assert pcp.answer(pcp_answer(outside="2001:db8::2"), NONCE, PORT) == pcp.Answer(0, 1800, 99, 40000, "2001:db8::2")
    assert pcp.answer(pcp_answer(outside="::ffff:0.0.0.0"), NONCE, PORT) == pcp.Answer(0, 1800, 99, 40000, None)
    assert pcp.answer(pcp_answer(result=2), NONCE, PORT) == pcp.Answer(2, 1800, 99)
    assert pcp.answer(pcp_answer() + bytes(8), NONCE, PORT) is not None, "options may follow"


@pytest.mark.parametrize(
    "packet",
    [
        b"",
        pcp_answer()[:-1],
        pcp_answer(opcode=0x01),
        pcp_answer(opcode=0x82),
        pcp_answer(nonce=bytes(12)),
        pcp_answer(port=1),
        pcp_answer() + bytes(2000),
        pcp.request(OWN, NONCE, PORT, 0, 0),
    ],
    ids=["empty", "short", "request", "peer", "another-nonce", "another-port", "huge", "own"],
)
def test_what_is_no_answer_to_the_request_is_passed_over(packet: bytes) -> None:
    assert pcp.answer(packet, NONCE, PORT) is None


def test_a_router_that_knows_nat_pmp_alone_says_so() -> None:
    refusal = bytes((0, 0x81, 0, 1, 0, 0, 0, 9))
    assert pcp.answer(refusal, NONCE, PORT) == pcp.Answer(pcp.UNSUPPORTED_VERSION, 0, None)


def test_nat_pmp_packets_as_in_the_standard() -> None:
    assert bytes(2) == natpmp.ADDRESS_REQUEST
    assert natpmp.mapping_request(PORT, 40000, 3600) == struct.pack("!BBHHHI", 0, 2, 0, PORT, 40000, 3600)
    told = struct.pack("!BBHI", 0, 128, 0, 7) + bytes((11, 22, 33, 44))
    assert natpmp.address_answer(told) == natpmp.AddressAnswer(0, 7, "11.22.33.44")
    assert natpmp.address_answer(told[:8] + bytes(4)) == natpmp.AddressAnswer(0, 7, None)
    assert natpmp.address_answer(struct.pack("!BBHI", 0, 128, 3, 7)) == natpmp.AddressAnswer(3, 7, None)
    assert natpmp.address_answer(told[:-1]) is None
    granted = struct.pack("!BBHIHHI", 0, 130, 0, 7, PORT, 40000, 1800)
    assert natpmp.mapping_answer(granted, PORT) == natpmp.MappingAnswer(0, 7, 40000, 1800)
    assert natpmp.mapping_answer(granted, 1) is None
    assert natpmp.mapping_answer(told, PORT) is None
    assert natpmp.mapping_answer(struct.pack("!BBHI", 0, 130, 2, 7), PORT) == natpmp.MappingAnswer(2, 7, 0, 0)


@given(st.binary(max_size=1200))
def test_no_packet_breaks_a_parser(packet: bytes) -> None:
    for found in (pcp.answer(packet, NONCE, PORT), natpmp.address_answer(packet), natpmp.mapping_answer(packet, PORT)):
        assert found is None or 0 <= found.result <= 0xFFFF


@given(st.binary(min_size=36, max_size=36))
def test_a_pcp_answer_of_any_content_is_read_or_passed_over(rest: bytes) -> None:
    found = pcp.answer(pcp_answer()[:24] + NONCE + rest[12:], NONCE, PORT)
    assert found is None or found.external_address is None or ipaddress.ip_address(found.external_address)
