"""What dial-backs and a device's word say of how it is reached."""

from __future__ import annotations

import pytest
from fallow_server.fleet.addresses import Target
from fallow_server.fleet.reachability import classify, reach_of
from fallow_wire.session import REACH, Environment, ServicePort
from hypothesis import given
from hypothesis import strategies as st

SEEN, SEEN6 = "8.8.4.4", "2606:4700::2"
AT, AT6 = Target(SEEN, 32557), Target(SEEN6, 32557)


def environment(*ports: ServicePort, nat: str = "private") -> Environment:
    return Environment(ports, nat, "Linux", "Pi 4", "0.1.0")


def claim(address: str, by: str = "none", port: int = 32557) -> ServicePort:
    return ServicePort("tcp", port, "ipv6" if ":" in address else "ipv4", address, by)


@pytest.mark.parametrize(
    ("told", "session", "tried", "answered", "expected"),
    [
        (environment(claim(SEEN), nat="none"), SEEN, [AT], [AT], ("open", "unknown")),
        (environment(claim(SEEN, "firewall"), nat="none"), SEEN, [AT], [AT], ("open", "unknown")),
        (environment(claim(SEEN, "upnp")), SEEN, [AT], [AT], ("mapped", "unknown")),
        (environment(claim("192.168.1.5")), SEEN, [AT], [AT], ("mapped", "unknown")),  # forwarded, and not told
        (environment(claim(SEEN6), nat="unknown"), SEEN6, [AT6], [AT6], ("unknown", "open")),
        (environment(claim(SEEN6, "pcp"), nat="unknown"), SEEN6, [AT6], [AT6], ("unknown", "mapped")),
        (environment(claim(SEEN), nat="none"), SEEN, [AT], [], ("blocked", "unknown")),
        (environment(claim("192.168.1.5")), SEEN, [AT], [], ("blocked", "unknown")),
        (environment(claim(SEEN, "pcp")), SEEN, [AT], [], ("blocked", "unknown")),
        (environment(claim("192.168.1.5"), nat="carrier"), SEEN, [AT], [], ("carrier", "unknown")),
        (environment(claim("100.64.0.2", "pcp")), SEEN, [AT], [], ("carrier", "unknown")),
        (environment(claim("8.8.9.9", "upnp")), SEEN, [AT], [], ("carrier", "unknown")),
        (environment(claim("8.8.9.9", "upnp")), SEEN6, [], [], ("unknown", "unknown")),
        (environment(claim("8.8.9.9", "manual")), SEEN, [AT], [], ("blocked", "unknown")),
        (environment(nat="carrier"), SEEN6, [AT6], [AT6], ("carrier", "mapped")),
        (environment(claim("100.64.0.2", "pcp"), claim(SEEN6, "pcp")), SEEN6, [AT6], [AT6], ("unknown", "mapped")),
        (environment(), SEEN, [], [], ("unknown", "unknown")),
    ],
)
def test_what_is_found_is_classified(
    told: Environment, session: str, tried: list[Target], answered: list[Target], expected: tuple[str, str]
) -> None:
    assert classify(told, (session,), tried, answered) is reach_of(*expected)


def test_the_better_family_counts() -> None:
    assert reach_of("carrier", "mapped").best == "mapped"
    assert reach_of("blocked", "unknown").best == "blocked"


ADDRESSES = st.sampled_from([SEEN, SEEN6, "192.168.1.5", "100.64.0.2", "example.org", "::ffff:8.8.4.4", ""])
CLAIMS = st.builds(
    ServicePort,
    st.just("tcp"),
    st.sampled_from([32557, 40000]),
    st.sampled_from(["ipv4", "ipv6"]),
    ADDRESSES,
    st.sampled_from(["none", "manual", "upnp", "pcp", "natpmp", "firewall"]),
)


@given(st.lists(CLAIMS, max_size=4), ADDRESSES, st.sampled_from(["none", "private", "carrier", "unknown"]), st.data())
def test_no_claim_makes_a_device_reachable(
    ports: list[ServicePort], session: str, nat: str, data: st.DataObject
) -> None:
    found = classify(environment(*ports, nat=nat), (session,), [AT, AT6], [])
    assert {found.ipv4, found.ipv6} <= set(REACH) - {"open", "mapped"}
    answered = data.draw(st.lists(st.sampled_from([AT, AT6]), min_size=1))
    assert classify(environment(*ports, nat=nat), (session,), [AT, AT6], answered).best in ("open", "mapped")
