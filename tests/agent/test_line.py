"""The line: counters, budget, and the reading made of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from fallow_agent.host.routes import default_routes
from fallow_agent.line.budget import idle_bps, upload_budget_bps
from fallow_agent.line.capacity import ROUTER, LineConfig, capacity_of
from fallow_agent.line.household import Household
from fallow_agent.line.meter import Meter, Rates, wan_of
from fallow_agent.line.reader import LineReader
from fallow_wire.lan import Limits
from hypothesis import given
from hypothesis import strategies as st

ROUTES = """Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT
wlan0\t00000000\t0101A8C0\t0003\t0\t0\t600\t00000000\t0\t0\t0
eth0\t00000000\t0101A8C0\t0003\t0\t0\t100\t00000000\t0\t0\t0
eth0\t0001A8C0\t00000000\t0001\t0\t0\t100\t00FFFFFF\t0\t0\t0
"""


class Interface:
    """Counter files as the kernel has them."""

    def __init__(self, root: Path, name: str = "eth0") -> None:
        self.directory = root / name / "statistics"
        self.directory.mkdir(parents=True)
        self.count(0, 0)

    def count(self, up: int, down: int) -> None:
        for name, value in (("tx_bytes", up), ("rx_bytes", down)):
            (self.directory / name).write_text(f"{value}\n")

    def replace(self) -> None:
        """Go away and come back: the same names, other files."""
        for path in self.directory.iterdir():
            path.unlink()


@pytest.fixture
def wan(tmp_path: Path) -> Interface:
    (tmp_path / "route").write_text(ROUTES)
    return Interface(tmp_path / "net")


def wan_by_routes(routes: Path, routes6: Path) -> str | None:
    return wan_of(default_routes(routes, routes6), None)


def meter_of(tmp_path: Path, interface: str | None = "eth0") -> Meter:
    return Meter(interface, tmp_path / "net", tmp_path / "route", tmp_path / "route6")


def reader_of(config: LineConfig, own_bytes: Callable[[], tuple[int, int]], tmp_path: Path) -> LineReader:
    """Of the home's router."""
    return LineReader(lambda: capacity_of(config), Household(meter_of(tmp_path), ROUTER), own_bytes)


def test_the_default_route_with_the_lowest_metric_is_the_wan(tmp_path: Path, wan: Interface) -> None:
    missing = tmp_path / "missing"
    assert wan_by_routes(tmp_path / "route", missing) == "eth0"
    assert wan_by_routes(missing, missing) is None
    (tmp_path / "route").write_text("Iface\n")
    assert wan_by_routes(tmp_path / "route", missing) is None


def test_a_line_without_ipv4_is_measured_too(tmp_path: Path) -> None:
    zero = "0" * 32
    lines = [
        f"{zero} 00 {zero} 00 {zero} ffffffff 00000001 00000000 00200200 lo",
        f"{zero} 00 {zero} 00 fe80{zero[4:]} 00000400 00000001 00000000 00000003 wan6",
        f"{zero} 00 {zero} 00 fe80{zero[4:]} 00000100 00000001 00000000 00000003 wwan",
        f"fe80{zero[4:]} 40 {zero} 00 {zero} 00000001 00000001 00000000 00000001 eth9",
    ]
    (tmp_path / "route6").write_text("\n".join(lines) + "\n")
    assert wan_by_routes(tmp_path / "missing", tmp_path / "route6") == "wwan"


def test_a_line_that_fails_over_is_measured_where_it_went(tmp_path: Path, wan: Interface) -> None:
    wwan = Interface(tmp_path / "net", "wwan0")
    wwan.count(10**12, 10**12)
    meter = meter_of(tmp_path, None)
    meter.read(0.0)
    wan.count(125_000, 0)
    assert meter.read(1.0) == Rates(1_000_000, 0)
    (tmp_path / "route").write_text(ROUTES.replace("eth0", "wwan0"))
    assert meter.read(29.0) is not None
    assert meter.read(30.0) is None  # not the terabyte that the other interface has counted
    wwan.count(10**12 + 125_000, 10**12)
    assert meter.read(31.0) == Rates(1_000_000, 0)
    meter.close()


def test_a_flap_between_two_readings_is_no_traffic(tmp_path: Path, wan: Interface) -> None:
    meter = meter_of(tmp_path)
    wan.count(10, 10)
    meter.read(1.0)
    (wan.directory / "tx_bytes").write_text("")
    wan.replace()
    wan.count(10**9, 10**9)
    assert meter.read(2.0) is None
    assert meter.read(3.0) == Rates(0, 0)


def test_rates_are_averages_between_two_readings(tmp_path: Path, wan: Interface) -> None:
    meter = meter_of(tmp_path, None)
    assert meter.read(10.0) is None
    wan.count(1_000_000, 250_000)
    assert meter.read(12.0) == Rates(4_000_000, 1_000_000)
    meter.close()


@pytest.mark.parametrize("at", [10.0, 9.0, 41.0], ids=str)
def test_a_gap_and_a_step_give_no_reading(tmp_path: Path, wan: Interface, at: float) -> None:
    meter = meter_of(tmp_path)
    wan.count(2**32 - 1, 0)
    meter.read(10.0)
    wan.count(5, 0)
    assert meter.read(at) is None
    wan.count(125_005, 0)
    found = meter.read(at + 1)
    assert found is not None
    assert found.up_bps <= 1_000_040


def test_a_counter_that_wraps_at_32_bits_is_no_gap(tmp_path: Path, wan: Interface) -> None:
    meter = meter_of(tmp_path)
    wan.count(2**32 - 25_000, 7)
    meter.read(1.0)
    wan.count(100_000, 7)
    assert meter.read(2.0) == Rates(1_000_000, 0)
    wan.count(1_000, 7)
    assert meter.read(3.0) is None  # 4 GiB within a second: it began anew
    meter.close()


def test_a_link_that_was_lost_in_between_has_its_counters_anew_rather_than_wrapped(
    tmp_path: Path, wan: Interface
) -> None:
    changes = wan.directory.parent / "carrier_changes"
    changes.write_text("2\n")
    meter = meter_of(tmp_path)
    wan.count(2**32 - 25_000, 0)
    meter.read(1.0)
    changes.write_text("4\n")
    wan.count(100_000, 0)
    assert meter.read(2.0) is None
    wan.count(225_000, 0)
    assert meter.read(3.0) == Rates(1_000_000, 0)
    meter.close()


def test_the_network_daemons_interface_is_measured_where_routes_do_not_say_otherwise(
    tmp_path: Path, wan: Interface
) -> None:
    ppp = Interface(tmp_path / "net", "ppp0")
    meter = meter_of(tmp_path, None)
    meter.name("ppp0")
    meter.read(1.0)
    assert meter.interface == "eth0"
    (tmp_path / "route").write_text("Iface\n")
    meter.name(None)
    meter.name("ppp0")
    assert meter.read(2.0) is None
    assert meter.interface == "ppp0"
    ppp.count(125_000, 0)
    assert meter.read(3.0) == Rates(1_000_000, 0)
    meter.close()


def test_an_interface_that_goes_and_comes_back_is_found_again(tmp_path: Path, wan: Interface) -> None:
    meter = meter_of(tmp_path, "ppp0")
    assert meter.read(1.0) is None
    ppp = Interface(tmp_path / "net", "ppp0")
    assert meter.read(2.0) is None
    ppp.count(125_000, 0)
    assert meter.read(3.0) == Rates(1_000_000, 0)
    (ppp.directory / "tx_bytes").write_text("")  # what a vanished interface's file gives
    ppp.replace()
    assert meter.read(4.0) is None
    ppp.count(1, 1)
    assert meter.read(5.0) is None
    assert meter.read(6.0) == Rates(0, 0)


def test_an_unknown_line_is_assumed_small_and_says_so() -> None:
    assert capacity_of(LineConfig()).source == "unknown"
    assert capacity_of(LineConfig()).up_bps == 2_000_000
    assert capacity_of(LineConfig(up_mbps=20)).down_bps == 20_000_000
    with pytest.raises(ValueError, match="negative"):
        LineConfig(up_mbps=-1)


rates = st.integers(0, 10**10)


@given(rates, rates, rates, st.integers(0, 100), st.none() | rates)
def test_the_budget_leaves_the_household_its_use_and_the_owner_the_say(
    capacity: int, household: int, later: int, percent: int, bps_max: int | None
) -> None:
    limits = Limits(upload_bps_max=bps_max, upload_percent_max=percent)
    idle = idle_bps(capacity, household)
    budget = upload_budget_bps(capacity, idle, limits)
    assert 0 <= budget <= idle <= 0.85 * capacity
    assert idle == 0 or idle + household <= capacity
    assert budget <= capacity * percent / 100
    assert bps_max is None or budget <= bps_max
    if later >= household:
        assert idle_bps(capacity, later) <= idle


def test_own_traffic_is_not_the_households(tmp_path: Path, wan: Interface) -> None:
    own = [0, 0]
    reader = reader_of(LineConfig(up_mbps=20, down_mbps=100), lambda: (own[0], own[1]), tmp_path)
    reader.read(1.0, 0)
    own[0] = 1_000_000
    wan.count(1_250_000, 0)
    line = reader.read(2.0, 0)
    assert line.own_up_bps == 8_000_000
    assert line.household_up_bps == 2_000_000
    assert line.idle_up_bps == 17_000_000 - 2_200_000
    assert line.capacity_source == "configured"
    reader.close()


def test_what_we_send_between_two_readings_is_not_the_households(tmp_path: Path, wan: Interface) -> None:
    """8 Mbit/s of ours; in the last step the processor is lent to others before the interface is read."""
    instants = iter((1.0, 1.0, 1.1, 1.1, 1.2, 1.215))
    own = [0]
    config = LineConfig(up_mbps=10)
    reader = LineReader(
        lambda: capacity_of(config),
        Household(meter_of(tmp_path), ROUTER),
        lambda: (own[0], 0),
        instant=lambda: next(instants),
    )
    for at, ours, carried in ((1.0, 0, 0), (1.1, 100_000, 100_000), (1.2, 200_000, 215_000)):
        own[0] = ours
        wan.count(carried, 0)
        line = reader.read(at, 0)
    assert (line.own_up_bps, line.household_up_bps, reader.up.yields) == (pytest.approx(8_000_000), 0, 0)
    reader.close()


def test_no_interface_is_no_household(tmp_path: Path) -> None:
    reader = reader_of(LineConfig(up_mbps=10), lambda: (0, 0), tmp_path)
    assert reader.read(1.0, 0).idle_up_bps == 8_500_000
    assert reader.read(2.0, 0).household_up_bps == 0


def test_a_skipped_reading_does_not_make_the_line_idle(tmp_path: Path, wan: Interface) -> None:
    reader = reader_of(LineConfig(up_mbps=20), lambda: (0, 0), tmp_path)
    reader.read(1.0, 0)
    wan.count(1_250_000, 0)
    assert reader.read(2.0, 0).household_up_bps == 10_000_000
    wan.count(0, 0)  # wrapped
    line = reader.read(3.0, 0)
    assert line.household_up_bps == 10_000_000
    assert line.idle_up_bps == 6_000_000
    reader.close()


def test_own_counters_that_begin_anew_are_no_negative_traffic(tmp_path: Path) -> None:
    own = [10**9, 10**9]
    reader = reader_of(LineConfig(up_mbps=20), lambda: (own[0], own[1]), tmp_path)
    reader.read(1.0, 0)
    own[:] = [0, 0]
    line = reader.read(2.0, 0)
    assert (line.own_up_bps, line.own_down_bps) == (0, 0)


def test_an_onset_is_yielded_to_in_the_direction_where_it_is(tmp_path: Path, wan: Interface) -> None:
    config = LineConfig(up_mbps=20, down_mbps=100)
    reader = reader_of(config, lambda: (0, 0), tmp_path)
    assert (reader.up_budget_bps, reader.down_budget_bps) == (17_000_000, 85_000_000)
    reader.read(1.0, 0)
    reader.read(1.1, 0)
    wan.count(50_000, 0)  # 4 Mbit/s for 100 ms
    line = reader.read(1.2, 0)
    assert (reader.up.yields, reader.down.yields) == (1, 0)
    assert (reader.up_budget_bps, reader.down_budget_bps) == (2_000_000, 85_000_000)
    assert line.idle_up_bps > 2_000_000  # what the household leaves, which is not yet taken
    reader.close()


def test_the_forecast_takes_one_reading_a_second(tmp_path: Path, wan: Interface) -> None:
    reader = reader_of(LineConfig(up_mbps=20), lambda: (0, 0), tmp_path)
    for step in range(30):
        reader.read(1.0 + step / 10, 1_000_000 + step // 10)
    hour = reader.forecast.hour
    assert hour is not None
    assert hour.readings == 3
    reader.close()
