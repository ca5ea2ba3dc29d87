"""The guard of port M: who may call, decided before any handler."""

from __future__ import annotations

import dataclasses
import ipaddress

import pytest
from fallow_agent.lan.guard import Call, InterfaceAddress, Lan, decide, host_name, lan_side
from hypothesis import given, settings
from hypothesis import strategies as st

BODY_MAX = 16 * 1024


def own(interface: str, text: str) -> InterfaceAddress:
    found = ipaddress.ip_interface(text)
    return InterfaceAddress(interface, found.ip, found.network.prefixlen)


ADDRESSES = (
    own("lo", "127.0.0.1/8"),
    own("lo", "::1/128"),
    own("eth0", "203.0.113.7/22"),
    own("eth0", "2001:db8:feed::7/64"),
    own("eth0", "fe80::7/64"),
    own("br-lan", "192.168.1.1/24"),
    own("br-lan", "fd12:3456::1/64"),
    own("br-lan", "2001:db8:1::1/64"),
    own("br-lan", "fe80::1/64"),
)
NAMES = ("router.local", "fallow-ab12.local")
LAN = lan_side(ADDRESSES, (), NAMES)
GOOD = Call("192.168.1.50", None, "192.168.1.1:32556", None, None, None, 0)


def verdict(**changes: object) -> str:
    problem = decide(dataclasses.replace(GOOD, **changes), LAN, BODY_MAX)  # type: ignore[arg-type]
    if problem is None:
        return "ok"
    assert problem.title
    assert problem.remedy
    return f"{problem.status} {problem.type}"


@pytest.mark.parametrize(
    ("peer", "interface", "expected"),
    [
        ("192.168.1.50", None, "ok"),
        ("::ffff:192.168.1.50", None, "ok"),
        ("127.0.0.1", None, "ok"),
        ("::1", None, "ok"),
        ("203.0.113.7", None, "403 not-lan"),  # the WAN address is not on the LAN, even when it is our own
        ("192.168.1.1", None, "ok"),
        ("2001:db8:1::99", None, "ok"),
        ("fd12:3456::9", None, "ok"),
        ("fe80::9", "br-lan", "ok"),
        ("fe80::9%br-lan", "br-lan", "ok"),
        ("fe80::9", "eth0", "403 not-lan"),
        ("fe80::9", None, "403 not-lan"),
        ("203.0.113.8", None, "403 not-lan"),  # the provider's next customer
        ("::ffff:203.0.113.8", None, "403 not-lan"),
        ("2001:db8:feed::8", None, "403 not-lan"),
        ("192.168.2.50", None, "403 not-lan"),
        ("10.0.0.1", None, "403 not-lan"),
        ("8.8.8.8", None, "403 not-lan"),
        ("", None, "403 not-lan"),
        ("unix", None, "403 not-lan"),
    ],
)
def test_only_neighbours_on_the_lan_may_call(peer: str, interface: str | None, expected: str) -> None:
    assert verdict(peer=peer, peer_interface=interface) == expected


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("192.168.1.1", "ok"),
        ("192.168.1.1:32556", "ok"),
        ("[fd12:3456::1]:32556", "ok"),
        ("localhost:1234", "ok"),
        ("127.0.0.1", "ok"),
        ("[::1]:32556", "ok"),
        ("ROUTER.local", "ok"),
        ("fallow-ab12.local.:32556", "ok"),
        (None, "421 wrong-host"),
        ("", "421 wrong-host"),
        ("evil.example", "421 wrong-host"),
        ("192.168.1.1.evil.example", "421 wrong-host"),
        ("192.168.1.2", "421 wrong-host"),
        ("203.0.113.7", "421 wrong-host"),
        ("router.local:80:80", "421 wrong-host"),
        ("router.local:x", "421 wrong-host"),
        ("user@router.local", "421 wrong-host"),
        ("[fd12:3456::1", "421 wrong-host"),
        ("[fd12:3456::1]x", "421 wrong-host"),
    ],
)
def test_only_the_devices_own_names_are_answered(host: str | None, expected: str) -> None:
    assert verdict(host=host) == expected


@pytest.mark.parametrize(
    ("origin", "site", "expected"),
    [
        ("http://192.168.1.1:32556", "same-origin", "ok"),
        (None, "none", "ok"),
        ("http://192.168.1.1", None, "403 bad-origin"),  # another port is another page
        ("https://192.168.1.1:32556", None, "403 bad-origin"),
        ("http://evil.example", None, "403 bad-origin"),
        ("null", None, "403 bad-origin"),
        ("", None, "403 bad-origin"),
        (None, "cross-site", "403 bad-origin"),
    ],
)
def test_foreign_pages_are_refused(origin: str | None, site: str | None, expected: str) -> None:
    assert verdict(origin=origin, sec_fetch_site=site) == expected


@pytest.mark.parametrize(
    ("content_type", "size", "expected"),
    [
        ("application/json", 2, "ok"),
        ("Application/JSON; charset=utf-8", 2, "ok"),
        ("application/json", None, "ok"),
        ("application/json", BODY_MAX + 1, "413 too-large"),
        ("text/plain", 2, "415 json-only"),
        ("application/x-www-form-urlencoded", 2, "415 json-only"),
        ("application/octet-stream", 0, "ok"),
        (None, 2, "415 json-only"),
        (None, None, "415 json-only"),
        (None, 0, "ok"),
    ],
)
def test_bodies_are_json(content_type: str | None, size: int | None, expected: str) -> None:
    assert verdict(content_type=content_type, body_bytes=size) == expected


def test_a_stranger_is_told_nothing_but_that() -> None:
    assert verdict(peer="8.8.8.8", host="evil.example", content_type="text/plain") == "403 not-lan"


def test_named_interfaces_are_the_lan_and_no_others() -> None:
    lan = lan_side(ADDRESSES, ("eth0",), NAMES)
    assert lan.has_peer(ipaddress.ip_address("203.0.113.8"), None)
    assert not lan.has_peer(ipaddress.ip_address("192.168.1.50"), None)


def test_a_public_address_beside_a_private_one_is_not_lan() -> None:
    lan = lan_side((own("eth0", "192.168.1.2/24"), own("eth0", "203.0.113.7/24")), (), NAMES)
    assert lan.has_peer(ipaddress.ip_address("192.168.1.9"), None)
    assert not lan.has_peer(ipaddress.ip_address("203.0.113.9"), None)


def test_without_addresses_only_the_device_itself_may_call() -> None:
    lan = Lan(names=frozenset({"localhost"}))
    assert not lan.has_peer(ipaddress.ip_address("192.168.1.9"), None)
    assert lan.has_peer(ipaddress.ip_address("127.0.0.1"), None)


@given(st.text(max_size=40))
@settings(max_examples=200)
def test_no_text_breaks_the_reading_of_a_host(text: str) -> None:
    name = host_name(text)
    assert name is None or name == name.lower()
    LAN.has_host(text)


@given(st.ip_addresses())
@settings(max_examples=200)
def test_a_peer_is_let_in_only_from_a_lan_subnet(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    nets = [ipaddress.ip_network(f"{a.address}/{a.prefix}", strict=False) for a in LAN.addresses]
    scoped = address.version == 6 and address.is_link_local
    expected = address.is_loopback or (not scoped and any(address in net for net in nets))
    assert LAN.has_peer(address, None) == expected
