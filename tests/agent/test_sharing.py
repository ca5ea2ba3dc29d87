"""The loop of the line: what is sent in its windows, what it writes down, and that the record outlives a restart."""

from __future__ import annotations

from pathlib import Path

import pytest
from fallow_agent.clock import Clock
from fallow_agent.controls import Controls
from fallow_agent.host.igd import Finder
from fallow_agent.life import ACTIVE, Life
from fallow_agent.line import HARM
from fallow_agent.line.capacity import ROUTER, LineConfig
from fallow_agent.line.contrast import INTERVAL_S, SETTLE_S, WINDOW_S
from fallow_agent.line.delay import DelayReading
from fallow_agent.line.household import Household
from fallow_agent.line.meter import Meter, Rates
from fallow_agent.line.pacer import Pacer
from fallow_agent.line.reader import LineReader
from fallow_agent.line.sharing import Sharing, standing_ms
from fallow_agent.line.survey import Survey
from fallow_agent.store import Settings, open_database
from fallow_wire.harm import HarmDay, verify_harm
from fallow_wire.lan import Limits
from support import key

LINE_BPS = 20_000_000
USABLE_BPS = 17_000_000


class FakeClock(Clock):
    def __init__(self) -> None:
        super().__init__()
        self.at = 1000.0

    def now_ms(self) -> int:
        return 1_800_000_000_000 + int(self.at * 1000)

    def monotonic(self) -> float:
        return self.at


class Echoes:
    """Round trips of 25 ms while we send, of 20 ms while we do not."""

    def __init__(self, world: World) -> None:
        self.world = world

    @property
    def reading(self) -> DelayReading:
        rtt_ms = 25.0 if self.world.own_bps else 20.0
        return DelayReading(0.0, rtt_ms, 20.0, (self.world.clock.at, rtt_ms))

    def active(self, on: bool) -> None:
        self.world.echoing = on


class OnePacer(Pacer):
    """With one transfer, or none."""

    def __init__(self, world: World) -> None:
        super().__init__(by_kernel=False)
        self.world = world

    @property
    def transfers(self) -> int:
        return int(self.world.serving)


class World:
    """A home whose device sends all that it may while somebody is served, in virtual time."""

    def __init__(self, directory: Path) -> None:
        self.clock = FakeClock()
        self.own_bps = self.household_bps = 0
        self.own_bytes = 0.0
        self.echoing = False
        self.serving = False
        self.settings = Settings(open_database(directory / "agent.sqlite"))
        household = Household(Meter("none", Path("/none"), Path("/none"), Path("/none")), ROUTER)
        household.meter.read = lambda now: Rates(self.own_bps + self.household_bps, 0)  # type: ignore[method-assign]
        config = LineConfig(up_mbps=20, down_mbps=100, position=ROUTER)
        self.survey = Survey(
            config, household, self.own, Finder(self.clock.monotonic), clock=self.clock, settings=self.settings
        )
        self.pacer = OnePacer(self)
        self.controls = Controls(self.settings, self.clock, lambda: Life(state=ACTIVE))
        self.controls.set_limits(Limits(upload_percent_max=100))
        self.sharing = Sharing(
            LineReader(lambda: self.survey.capacity, household, self.own),
            self.pacer,
            Echoes(self),
            self.survey,
            key=key(1),
            clock=self.clock,
            controls=self.controls,
            settings=self.settings,
            headroom=lambda bps: bps,
            chance=lambda: 0.5,
        )

    def own(self) -> tuple[int, int]:
        return int(self.own_bytes), 0

    def pass_(self, seconds: float) -> None:
        for _ in range(round(seconds * 10)):
            self.clock.at += 0.1
            self.own_bytes += self.own_bps / 80
            self.sharing._step(self.clock.at)
            self.own_bps = self.pacer.rate_bps if self.serving else 0

    @property
    def day(self) -> HarmDay:
        (day,) = verify_harm(self.sharing.signed_harm()).value.days
        return day


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_while_somebody_is_served_the_line_is_used_and_echoes_are_asked_for(world: World) -> None:
    world.pass_(3)
    assert not world.echoing
    world.serving = True
    world.pass_(3)
    assert (world.own_bps, world.echoing) == (pytest.approx(USABLE_BPS, rel=1e-4), True)
    assert world.day.shared_s == 3
    assert world.day.over_budget_s == 0


def test_a_window_without_sharing_sends_nothing_and_refuses_nobody(world: World) -> None:
    world.serving = True
    world.pass_(INTERVAL_S + WINDOW_S + SETTLE_S + 0.5)
    assert world.pacer.rate_bps == 0
    assert world.sharing.budget_bps == pytest.approx(USABLE_BPS, rel=1e-4)
    world.pass_(WINDOW_S + 1)
    assert world.pacer.rate_bps == pytest.approx(USABLE_BPS, rel=1e-4)
    assert (world.day.comparisons, world.day.felt, world.day.added_rtt_ms) == (1, 0, 5.0)


def test_a_yield_is_counted_only_where_somebody_had_to(world: World) -> None:
    world.household_bps = LINE_BPS
    world.pass_(2)
    assert world.sharing.yields_on(world.controls.local_time().day) == 0
    world.household_bps, world.serving = 0, True
    world.pass_(10)
    world.household_bps = LINE_BPS
    world.pass_(2)
    assert world.own_bps == 0
    assert (world.day.yields, world.day.yields_timed) == (1, 1)
    assert world.sharing.last_yield_ms == world.day.yield_ms_max
    assert 100 <= world.day.yield_ms_max <= 300


def test_seconds_over_budget_are_those_in_which_we_were_on_a_full_line(world: World) -> None:
    world.serving = True
    world.pass_(3)
    world.pacer.set_rate = lambda bps: None  # type: ignore[method-assign]
    world.household_bps = LINE_BPS - USABLE_BPS
    world.pass_(4)
    assert world.day.over_budget_s == 4


def test_after_a_suspension_the_record_counts_no_time(world: World) -> None:
    world.serving = True
    world.pass_(1)
    world.clock.at += 3600
    world.pass_(1)
    assert world.day.shared_s in (1, 2)


def test_the_record_outlives_a_restart(world: World, tmp_path: Path) -> None:
    world.serving = True
    world.pass_(5)
    before = world.day
    world.sharing.close()
    again = World(tmp_path)
    assert again.day == before


def test_a_record_that_is_damaged_begins_anew_and_says_so(
    world: World, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    world.settings.set(HARM, {"what": "else"})
    again = World(tmp_path)
    assert "begins anew" in caplog.text
    assert verify_harm(again.sharing.signed_harm()).value.days == ()


def test_the_line_is_at_rest_where_nobody_uses_it_and_the_owner_shares(world: World) -> None:
    world.pass_(1)
    assert world.sharing.at_rest()
    world.household_bps = 1_000_000
    world.pass_(1)
    assert not world.sharing.at_rest()
    world.household_bps, world.serving = 0, True
    world.pass_(1)
    assert not world.sharing.at_rest()


@pytest.mark.parametrize(
    ("echoed", "last", "own", "standing"),
    [
        (None, None, None, None),
        (None, None, 12.0, 12.0),  # nobody answers echoes
        (3.0, 23.0, None, 3.0),
        (3.0, 80.0, 2.0, 3.0),  # the last echo is a straggler
        (3.0, 23.0, 70.0, 3.0),  # one consumer's own line is full
        (3.0, 80.0, 70.0, 60.0),  # both waited, and the median is late
        (50.0, 80.0, 10.0, 50.0),
    ],
)
def test_what_packets_wait(echoed: float | None, last: float | None, own: float | None, standing: float | None) -> None:
    heard = None if last is None else (1.0, last)
    assert standing_ms(DelayReading(echoed, last, 20.0, heard), own) == standing
