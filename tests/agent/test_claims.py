"""What the scheduler is told of the port, and what the owner is told to do."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from fallow_agent.ports.advice import advice
from fallow_agent.ports.claims import Situation, nat_of
from fallow_agent.ports.opening import NO_ADDRESS, Grant
from fallow_client.messages import Messages
from fallow_wire.session import Reachability, ServicePort

OUTSIDE = "11.22.33.44"
BEHIND = Situation(32557, {"ipv4": "192.168.1.5"}, "192.168.1.1", rounds=1)
PUBLIC = Situation(32557, {"ipv4": OUTSIDE})


def seen(ipv4: str = "blocked", ipv6: str = "unknown", address: str = OUTSIDE) -> Reachability:
    return Reachability((address,), ipv4, ipv6)


def mapped(address: str | None = OUTSIDE, by: str = "pcp", **changes: Any) -> Situation:
    return dataclasses.replace(BEHIND, grants={"ipv4": Grant(by, address, 40000, 3600)}, **changes)


def test_what_a_router_granted_is_claimed() -> None:
    assert BEHIND.service_ports() == (ServicePort("tcp", 32557, "ipv4", "192.168.1.5", "none"),)
    assert mapped().service_ports() == (ServicePort("tcp", 40000, "ipv4", OUTSIDE, "pcp"),)
    assert mapped(None).service_ports() == (ServicePort("tcp", 40000, "ipv4", "192.168.1.5", "pcp"),)
    both = dataclasses.replace(
        mapped(by="upnp"),
        own={"ipv4": "192.168.1.5", "ipv6": "2a0e::5"},
        grants={"ipv4": Grant("upnp", OUTSIDE, 40000, 0), "ipv6": Grant("pcp", "2a0e::5", 32557, 3600)},
    )
    assert both.service_ports() == (
        ServicePort("tcp", 40000, "ipv4", OUTSIDE, "upnp"),
        ServicePort("tcp", 32557, "ipv6", "2a0e::5", "pcp"),
    )
    assert dataclasses.replace(PUBLIC, firewall=True).service_ports()[0].mapped_by == "firewall"
    manual = ServicePort("tcp", 8000, "ipv4", OUTSIDE, "manual")
    assert dataclasses.replace(both, manual=manual).service_ports() == (manual,)
    assert Situation(32557).service_ports() == ()


@pytest.mark.parametrize(
    ("situation", "nat"),
    [
        (Situation(32557), "unknown"),
        (PUBLIC, "none"),
        (BEHIND, "private"),
        (Situation(32557, {"ipv4": "100.64.3.4"}), "carrier"),
        (mapped(), "private"),
        (mapped("100.64.3.4"), "carrier"),
        (mapped("10.0.0.7"), "carrier"),
        (mapped(seen=seen()), "private"),
        (mapped("11.22.33.99", seen=seen()), "carrier"),  # as the scheduler sees another address
        (mapped(seen=seen(address="2a0e::5")), "private"),  # which says nothing of IPv4
        (mapped("10.0.0.7", seen=seen(address="10.0.0.7")), "private"),  # a scheduler in the provider's network
        (mapped(seen=seen(address="192.168.1.5")), "private"),  # a scheduler in the home
        (dataclasses.replace(BEHIND, refusals=(("natpmp", NO_ADDRESS),)), "carrier"),
        (dataclasses.replace(PUBLIC, refusals=(("natpmp", NO_ADDRESS),)), "none"),
    ],
)
def test_what_stands_before_the_device(situation: Situation, nat: str) -> None:
    assert situation.nat() == nat


@pytest.mark.parametrize(
    ("address", "nat"),
    [("8.8.8.8", "none"), ("192.168.1.4", "private"), ("100.64.1.1", "carrier"), ("10.0.0.1", "private"),
     ("127.0.0.1", "private"), ("169.254.1.1", "private"), (None, "unknown")],
)  # fmt: skip
def test_nat_as_an_address_tells_it(address: str | None, nat: str) -> None:
    assert nat_of(address) == nat


@pytest.mark.parametrize(
    ("situation", "slug", "remedy"),
    [
        (BEHIND, "no-port-protocol", "Forward TCP 32557 to this device, 192.168.1.5"),
        (
            dataclasses.replace(BEHIND, refusals=(("upnp", "not authorized"),)),
            "port-refused",
            "Allow this device to open ports",
        ),
        (dataclasses.replace(BEHIND, asks=False, seen=seen()), "port-closed", "Forward TCP 32557"),
        (mapped("100.64.3.4"), "carrier-nat", "Ask your provider"),
        (mapped("11.22.33.99", seen=seen()), "carrier-nat", "Ask your provider"),
        (dataclasses.replace(BEHIND, refusals=(("natpmp", NO_ADDRESS),)), "no-public-address", "bridge mode"),
        (mapped("10.0.0.7"), "second-router", "Forward TCP 40000"),
        (mapped(seen=seen()), "port-open-in-vain", "firewall"),
        (mapped(seen=seen("unknown", "blocked")), "firewall", "Open TCP 32557 for IPv6 in your router's firewall"),
        (dataclasses.replace(PUBLIC, seen=seen()), "firewall", "Open TCP 32557 in the firewall of this device"),
        (dataclasses.replace(PUBLIC, firewall=True, seen=seen()), "port-open-in-vain", "at your provider"),
        (
            dataclasses.replace(
                BEHIND, manual=ServicePort("tcp", 8000, "ipv4", OUTSIDE, "manual"), rounds=0, seen=seen()
            ),
            "forwarded-in-vain",
            "Forward TCP 8000 to port 32557",
        ),
        (Situation(32557, {"ipv6": "2a0e::5"}, seen=seen("unknown", "blocked")), "firewall", "for IPv6 in your router"),
    ],
)
def test_the_owner_is_told_what_to_do(situation: Situation, slug: str, remedy: str) -> None:
    problem = advice(situation)
    assert problem is not None
    assert problem.type == slug
    assert remedy in problem.remedy
    chinese = Messages("zh")
    for said in (problem.title, problem.remedy):
        assert not any(word in chinese.sentence(said.rstrip(".")) for word in ("your", "the ", "to ")), said
    for reached in (seen("mapped"), seen("blocked", "open")):
        assert advice(dataclasses.replace(situation, seen=reached)) is None


@pytest.mark.parametrize(
    "situation",
    [
        dataclasses.replace(BEHIND, rounds=0),
        mapped(),
        mapped(seen=seen("unknown")),
        PUBLIC,
        dataclasses.replace(PUBLIC, seen=seen("unknown")),
        dataclasses.replace(BEHIND, asks=False),
    ],
    ids=["asking", "not-dialled", "nothing-tried", "public", "public-not-tried", "own-way"],
)
def test_nothing_is_said_before_it_is_known(situation: Situation) -> None:
    assert advice(situation) is None
