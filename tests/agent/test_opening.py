"""When which router is asked for the port: scripts of outcomes, then any of them."""

from __future__ import annotations

import pytest
from fallow_agent.ports.opening import (
    AGAIN_S,
    LIFETIME_S,
    LIFETIME_S_MIN,
    PORTS_MAX,
    REST_S_MAX,
    REST_S_MIN,
    Ask,
    Epoch,
    Grant,
    Granted,
    Opening,
    Outcome,
    Refused,
    Silent,
    Taken,
    external_ports,
    restarted,
)
from hypothesis import given
from hypothesis import strategies as st

METHODS = ("pcp", "natpmp", "upnp")
START = Opening(METHODS, (32557, 40001), 100.0)


def granted(by: str = "pcp", port: int = 32557, lifetime_s: int = LIFETIME_S, handle: str = "") -> Granted:
    return Granted(Grant(by, "11.22.33.44", port, lifetime_s, handle))


def script(*steps: tuple[Ask, Outcome]) -> tuple[Opening, float]:
    """Play outcomes, each when it is due; what is asked must be as the script says."""
    opening, now = START, START.due_at
    for ask, outcome in steps:
        now = max(now, opening.due_at)
        assert opening.next() == ask
        opening = opening.after(outcome, now)
    return opening, now


def test_a_lease_is_renewed_at_half_of_its_life_and_with_the_same_port() -> None:
    opening, now = script(
        (Ask("pcp", 32557), granted(port=41234)),
        (Ask("pcp", 41234), granted(port=41234, lifetime_s=1000)),
    )
    assert now == 100 + LIFETIME_S / 2
    assert opening.due_at == now + 500
    assert opening.held(now + 999) == Grant("pcp", "11.22.33.44", 41234, 1000)
    assert opening.held(now + 1000) is None, "beyond its end nobody counts on it"


def test_protocols_are_tried_in_order_and_then_it_rests_ever_longer() -> None:
    opening, now = script(
        (Ask("pcp", 32557), Silent()),
        (Ask("natpmp", 32557), Refused("not authorized")),
        (Ask("upnp", 32557), Silent()),
    )
    assert now == 100.0, "one round is played at once"
    assert opening.refusals == (("natpmp", "not authorized"),)
    rests = [opening.due_at - now]
    for _ in range(12):
        for _ in METHODS:
            now = max(now, opening.due_at)
            opening = opening.after(Silent(), now)
        rests.append(opening.due_at - now)
    assert rests[:3] == [REST_S_MIN, 2 * REST_S_MIN, 4 * REST_S_MIN]
    assert rests[-1] == REST_S_MAX
    assert opening.refusals == (), "what is not refused any more is forgotten"


def test_a_port_that_is_anothers_is_left_to_it() -> None:
    script(
        (Ask("pcp", 32557), Silent()),
        (Ask("natpmp", 32557), Taken()),
        (Ask("natpmp", 40001), Taken()),
        (Ask("upnp", 32557), Taken()),
        (Ask("upnp", 40001), granted("upnp", 40001)),
    )


def test_a_silent_router_is_asked_again_until_the_lease_ends_then_anew() -> None:
    opening, now = script((Ask("pcp", 32557), granted(lifetime_s=1000)))
    asked = 0
    while opening.grant is not None:
        now = opening.due_at
        opening = opening.after(Silent(), now)
        asked += 1
    assert now == 100.0 + 1000
    assert asked == 2 + int(500 / AGAIN_S)
    assert (opening.next(), opening.due_at) == (Ask("pcp", 32557), now)


@pytest.mark.parametrize("outcome", [Refused("not authorized"), Taken()])
def test_a_router_that_takes_back_what_it_granted_is_asked_anew_at_once(outcome: Outcome) -> None:
    opening, now = script((Ask("pcp", 32557), granted()), (Ask("pcp", 32557), outcome))
    assert opening.held(now) is None
    assert (opening.next(), opening.due_at) == (Ask("pcp", 32557), now)


def test_a_mapping_without_an_end_is_looked_after_all_the_same() -> None:
    opening, now = script((Ask("pcp", 32557), granted(lifetime_s=0)))
    assert opening.held(1e12) is not None
    assert opening.due_at == now + LIFETIME_S / 2


def test_a_router_that_grants_a_second_is_not_asked_every_second() -> None:
    opening, now = script((Ask("pcp", 32557), granted(lifetime_s=1)))
    assert opening.due_at == now + LIFETIME_S_MIN / 2


def test_the_handle_of_a_pinhole_goes_with_its_renewal() -> None:
    opening, _ = script((Ask("pcp", 32557), granted("upnp", handle="7")))
    assert opening.next() == Ask("upnp", 32557, "7")


def test_doubt_makes_it_due_at_once() -> None:
    opening, now = script((Ask("pcp", 32557), granted()))
    assert opening.hurry(now + 5).due_at == now + 5
    assert opening.hurry(opening.due_at + 5).due_at == opening.due_at


OUTCOMES = st.one_of(
    st.builds(
        granted,
        st.sampled_from(METHODS),
        st.integers(1, 65535),
        st.integers(0, 2**32 - 1),
    ),
    st.just(Taken()),
    st.just(Silent()),
    st.builds(Refused, st.text(max_size=9)),
)


@given(st.lists(st.tuples(OUTCOMES, st.floats(0, 10_000)), max_size=60))
def test_whatever_routers_say_it_is_bounded(outcomes: list[tuple[Outcome, float]]) -> None:
    opening, now = START, START.due_at
    at_once = 0
    for outcome, late_s in outcomes:
        now = max(now, opening.due_at) + late_s
        ask = opening.next()
        assert ask.by in METHODS
        if isinstance(outcome, Granted):
            outcome = granted(ask.by, outcome.grant.port, outcome.grant.lifetime_s)
        opening = opening.after(outcome, now)
        assert opening.due_at >= now
        assert opening.due_at - now <= REST_S_MAX or opening.grant is not None
        assert len(opening.refusals) <= len(METHODS)
        assert opening.held(now) is None or isinstance(outcome, Granted | Silent)
        if opening.grant is not None:
            assert opening.due_at <= opening.ends_at
        at_once = at_once + 1 if opening.due_at == now else 0
        # One round of all protocols and ports, after a grant that was taken back.
        assert at_once <= 1 + len(METHODS) * len(START.ports)


@pytest.mark.parametrize(
    ("before", "now", "lost"),
    [
        (None, Epoch(5, 0.0), False),
        (Epoch(5000, 0.0), Epoch(5600, 600.0), False),
        (Epoch(5000, 0.0), Epoch(5580, 600.0), False),  # its clock runs 3 % slow
        (Epoch(5000, 0.0), Epoch(4999, 0.5), False),
        (Epoch(5000, 0.0), Epoch(3, 600.0), True),
        (Epoch(100, 0.0), Epoch(200, 600.0), True),  # it began anew, and is ahead of where it was all the same
        (Epoch(100, 0.0), Epoch(2000, 600.0), True),
    ],
)
def test_a_router_that_began_anew_is_noticed(before: Epoch | None, now: Epoch, lost: bool) -> None:
    assert restarted(before, now) is lost


def test_external_ports_are_the_devices_own() -> None:
    found = external_ports(32557, b"seed")
    assert found[0] == 32557
    assert len(found) == PORTS_MAX
    assert all(1024 <= port <= 65535 for port in found)
    assert found == external_ports(32557, b"seed") != external_ports(32557, b"another")
