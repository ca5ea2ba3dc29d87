"""Who sees the household: the position of the device, and what is concluded where nothing is seen."""

from __future__ import annotations

from pathlib import Path

import pytest
from fallow_agent.line.budget import BLIND_SHARE, USABLE_SHARE
from fallow_agent.line.capacity import AUTO, BEHIND, ROUTER, Capacity, LineConfig
from fallow_agent.line.household import OWN_FACTOR_MIN, UNSEEN_AFTER_S, Household, OwnFactor, position
from fallow_agent.line.meter import Meter, Rates
from fallow_agent.line.reader import LineReader
from fallow_agent.line.router import RouterTraffic

LINE = Capacity(20_000_000, 100_000_000, "configured")


@pytest.mark.parametrize(
    ("configured", "address", "openwrt", "found"),
    [
        (AUTO, "203.0.114.7", False, ROUTER),
        (AUTO, "100.64.3.4", False, ROUTER),  # the provider shares addresses out, but to routers
        (AUTO, "192.168.1.20", False, BEHIND),
        (AUTO, "10.0.0.2", False, BEHIND),
        (AUTO, "172.31.0.2", False, BEHIND),
        (AUTO, "169.254.7.7", False, BEHIND),
        (AUTO, "127.0.0.1", False, BEHIND),
        (AUTO, None, False, BEHIND),
        (AUTO, "192.168.1.20", True, ROUTER),  # a router behind the provider's own
        (ROUTER, "192.168.1.20", False, ROUTER),
        (BEHIND, "203.0.114.7", True, BEHIND),
    ],
)
def test_a_device_is_the_router_only_where_that_is_certain(
    configured: str, address: str | None, openwrt: bool, found: str
) -> None:
    assert position(configured, address, openwrt=openwrt) == found


def test_another_position_is_refused() -> None:
    with pytest.raises(ValueError, match=r"line\.position: one of auto, router, behind"):
        LineConfig(position="bridge")


def household(where: str, *totals: Rates | None) -> Household:
    readings = list(totals)
    meter = Meter("no-such-interface", Path("/none"), Path("/none"), Path("/none"))
    meter.read = lambda monotonic: readings.pop(0) if readings else None  # type: ignore[method-assign]
    return Household(meter, where)


def test_what_was_not_ours_is_the_households() -> None:
    home = household(ROUTER, Rates(5_000_000, 1_000_000))
    sight = home.see(1.0, Rates(4_000_000, 2_000_000))
    assert (sight.rates, sight.prompt, home.seen_by) == (Rates(1_000_000, 0), True, "counters")


def test_counters_that_are_away_for_long_tell_nothing() -> None:
    home = household(ROUTER, Rates(5_000_000, 0))
    assert home.see(1.0, Rates(0, 0)).rates == Rates(5_000_000, 0)
    assert home.see(1.0 + UNSEEN_AFTER_S, Rates(0, 0)).rates == Rates(5_000_000, 0)
    assert home.see(1.1 + UNSEEN_AFTER_S, Rates(0, 0)).rates is None


def test_behind_a_router_its_own_counters_are_nobodys() -> None:
    home = household(BEHIND, Rates(5_000_000, 0))
    assert home.see(1.0, Rates(0, 0)).rates is None
    assert home.seen_by == "queue"
    home.traffic = RouterTraffic(total=Rates(7, 8), household=Rates(5, 6), credible=True)
    sight = home.see(1.1, Rates(0, 0))
    assert (sight.rates, sight.prompt, home.seen_by) == (Rates(5, 6), False, "router")
    home.traffic = RouterTraffic(total=Rates(7, 8), household=Rates(5, 6), credible=False)
    assert home.see(1.2, Rates(0, 0)).rates is None


def test_an_interface_that_counts_fewer_headers_is_found_out() -> None:
    factor = OwnFactor()
    for _ in range(12):
        factor = factor.after(0.1, 9_600_000, 10_000_000)
    assert factor.factor == pytest.approx(0.96)
    for _ in range(10 * 60):  # a minute of a household beside us
        factor = factor.after(0.1, 15_000_000, 10_000_000)
    assert factor.factor == pytest.approx(1.0)


def test_a_household_is_not_taken_for_headers() -> None:
    factor = OwnFactor()
    for _ in range(600):
        factor = factor.after(0.1, 10_000_000, 10_000_000)
        factor = factor.after(0.1, 500_000, 0)  # too little of ours to tell
    assert factor.factor == 1.0
    assert OwnFactor().after(1.0, 0, 10_000_000).factor == OWN_FACTOR_MIN


def test_what_we_count_too_much_hides_no_household() -> None:
    totals = [Rates(9_600_000, 0)] * 12 + [Rates(11_600_000, 0)]
    home = household(ROUTER, *totals)
    seen = [home.see(1.0 + step / 10, Rates(10_000_000, 0)).rates for step in range(len(totals))]
    assert seen[10] == Rates(0, 0)
    assert seen[-1] is not None
    assert seen[-1].up_bps == pytest.approx(2_000_000, abs=20_000)


def read(where: str, *queueing_ms: float | None) -> LineReader:
    reader = LineReader(lambda: LINE, household(where), lambda: (0, 0))
    for step, queueing in enumerate(queueing_ms):
        reader.read(1.0 + step / 10, 0, queueing)
    return reader


def test_who_sees_neither_household_nor_queue_leaves_half_of_the_line() -> None:
    assert read(BEHIND, None).up_budget_bps == int(BLIND_SHARE * LINE.up_bps)
    assert read(BEHIND, 0.0).up_budget_bps == int(USABLE_SHARE * LINE.up_bps)


def test_a_queue_is_yielded_to_where_nothing_else_is_seen() -> None:
    reader = read(BEHIND, 0.0, 0.0, 30.0)
    assert reader.up.yields == 1
    assert reader.up_budget_bps <= 0.1 * LINE.up_bps
    assert reader.full


def test_a_queue_behind_a_full_download_is_none_of_the_upload() -> None:
    reader = LineReader(lambda: LINE, household(ROUTER, *[Rates(1_000_000, 95_000_000)] * 30), lambda: (0, 0))
    for step in range(30):
        reader.read(1.0 + step / 10, 0, 100.0)
    assert reader.up_budget_bps > 0.7 * LINE.up_bps
    assert reader.down_budget_bps == 0
