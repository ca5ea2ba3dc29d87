"""What the line can carry: the ladder, what the router and SQM are worth, and what the line shows by itself."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable

import pytest
from fallow_agent.line import observed as observing
from fallow_agent.line.capacity import (
    ASSUMED_UP_BPS,
    CONGESTED_S_MAX,
    DAY_S,
    LADDER,
    MBIT,
    Capacity,
    Estimate,
    LineConfig,
    Seen,
    as_json,
    best,
    capacity_of,
    from_json,
    of_modem,
)
from fallow_agent.line.observed import BINS_MAX, Observed, Sample
from fallow_agent.line.sqm import of_sqm, sections
from fallow_wire.session import CAPACITY_SOURCES
from hypothesis import given
from hypothesis import strategies as st

NOW = 1_800_000_000


def known(*sources: str, mbit: int = 20, at: int | None = None) -> list[Estimate]:
    return [Estimate(mbit * MBIT, source, at) for source in sources]


# ------------------------------------------------------------------ the ladder


@pytest.mark.parametrize("position", range(len(LADDER)))
def test_the_more_trusted_rung_wins(position: int) -> None:
    sources = [rung.source for rung in LADDER[position:]]
    found = best(known(*reversed(sources), at=NOW), Seen(), NOW, ASSUMED_UP_BPS)
    assert found.source == sources[0]


def test_every_source_can_be_said_on_the_wire() -> None:
    assert {rung.source for rung in LADDER} | {"unknown"} <= set(CAPACITY_SOURCES)


@pytest.mark.parametrize("rung", [rung for rung in LADDER if rung.age_s_max is not None], ids=lambda rung: rung.source)
def test_what_is_too_old_is_not_believed(rung: object) -> None:
    assert hasattr(rung, "source")
    assert hasattr(rung, "age_s_max")
    for age, source in ((rung.age_s_max, rung.source), (rung.age_s_max + 1, "unknown"), (-1, "unknown")):
        assert best(known(rung.source, at=NOW - age), Seen(), NOW, ASSUMED_UP_BPS).source == source


def test_up_and_down_come_from_rungs_of_their_own() -> None:
    found = capacity_of(LineConfig(), NOW, up=known("upnp"), down=known("train", mbit=90, at=NOW - 60))
    assert found == Capacity(20 * MBIT, 90 * MBIT, "upnp", None, "train", NOW - 60)
    assert capacity_of(LineConfig(down_mbps=50)).source == "unknown"
    assert capacity_of(LineConfig(down_mbps=50)).down_source == "configured"


def test_of_two_of_the_same_means_the_newer_counts_and_at_the_same_time_the_lower() -> None:
    tests = [*known("speedtest", mbit=30, at=NOW - DAY_S), *known("speedtest", mbit=10, at=NOW)]
    assert best(tests, Seen(), NOW, ASSUMED_UP_BPS).bps == 10 * MBIT
    assert best([*known("sqm", mbit=30), *known("sqm", mbit=10)], Seen(), NOW, ASSUMED_UP_BPS).bps == 10 * MBIT


CONGESTED = Seen(congested=Estimate(8 * MBIT, "passive", NOW))


def test_a_line_that_is_slower_than_configured_is_taken_as_it_is_while_it_is() -> None:
    configured = LineConfig(up_mbps=20, down_mbps=100)
    slow = capacity_of(configured, NOW, seen_up=CONGESTED)
    assert (slow.up_bps, slow.source, slow.measured_at) == (8 * MBIT, "passive", NOW)
    assert (slow.down_bps, slow.down_source) == (100 * MBIT, "configured")
    later = capacity_of(configured, NOW + CONGESTED_S_MAX + 1, seen_up=CONGESTED)
    assert (later.up_bps, later.source) == (20 * MBIT, "configured")
    nearly = Seen(congested=Estimate(19 * MBIT, "passive", NOW))
    assert capacity_of(configured, NOW, seen_up=nearly).source == "configured"


def test_a_queue_at_a_higher_rate_does_not_lift_what_is_configured() -> None:
    fast = Seen(
        Estimate(40 * MBIT, "passive", NOW), Estimate(40 * MBIT, "passive", NOW), Estimate(39 * MBIT, "passive", NOW)
    )
    assert capacity_of(LineConfig(up_mbps=20), NOW, seen_up=fast).up_bps == 20 * MBIT


def test_a_rate_without_a_queue_is_a_floor_of_estimates_and_no_ceiling() -> None:
    floor = Seen(floor=Estimate(15 * MBIT, "passive", NOW))
    assert capacity_of(LineConfig(), NOW, seen_up=floor) == Capacity(15 * MBIT, 10 * MBIT, "passive", NOW, "unknown")
    assert best(known("train", mbit=40, at=NOW), floor, NOW, ASSUMED_UP_BPS).bps == 40 * MBIT
    assert best(known("train", mbit=10, at=NOW), floor, NOW, ASSUMED_UP_BPS).bps == 15 * MBIT
    assert best(known("sqm", mbit=10), floor, NOW, ASSUMED_UP_BPS).bps == 10 * MBIT


def test_a_line_whose_queues_never_stood_higher_is_not_what_its_contract_says() -> None:
    configured = LineConfig(up_mbps=20)
    slow = Seen(ceiling=Estimate(8 * MBIT, "passive", NOW - 5 * DAY_S))
    assert capacity_of(configured, NOW, seen_up=slow).up_bps == 8 * MBIT
    assert capacity_of(configured, NOW + 10 * DAY_S, seen_up=slow).up_bps == 20 * MBIT
    # Nobody fills it any more, but it carries more than it did: it is believed again, as far as configured.
    for carried, believed in ((9, 8), (15, 15), (30, 20)):
        seen = Seen(ceiling=slow.ceiling, floor=Estimate(carried * MBIT, "passive", NOW))
        assert capacity_of(configured, NOW, seen_up=seen).up_bps == believed * MBIT
    # The last hours are believed before the days.
    seen = Seen(ceiling=slow.ceiling, congested=Estimate(20 * MBIT, "passive", NOW))
    assert capacity_of(configured, NOW, seen_up=seen).source == "configured"


def test_what_was_measured_once_is_kept_with_its_date() -> None:
    older, newer = known("speedtest", mbit=30, at=NOW - DAY_S), known("speedtest", mbit=10, at=NOW)
    train = known("train", at=NOW - 60)
    stored = as_json([*newer, *older, *train, *known("upnp")])
    assert from_json(json.loads(json.dumps(stored))) == [*newer, *train]
    assert from_json([["speedtest", 1], ["configured", 5, 5], ["train", -1, 5], ["train", True, 5.5], 3, *stored]) == [
        *newer,
        *train,
    ]
    assert from_json(None) == []


estimates = st.builds(
    Estimate,
    st.integers(0, 10**11),
    st.sampled_from(sorted(CAPACITY_SOURCES)),
    st.none() | st.integers(NOW - 100 * DAY_S, NOW + DAY_S),
)
of_the_line = st.none() | estimates.map(lambda estimate: dataclasses.replace(estimate, source="passive"))
seens = st.builds(Seen, of_the_line, of_the_line, of_the_line)


@given(st.lists(estimates, max_size=8), seens, st.integers(1, 1000))
def test_nothing_lifts_the_answer_above_what_is_configured(given_: list[Estimate], seen: Seen, mbps: int) -> None:
    found = capacity_of(LineConfig(up_mbps=mbps), NOW, up=[e for e in given_ if e.source != "configured"], seen_up=seen)
    assert 0 <= found.up_bps <= mbps * MBIT


@given(st.lists(estimates, max_size=8), seens)
def test_there_is_always_an_answer_and_it_is_one_of_those_given(given_: list[Estimate], seen: Seen) -> None:
    found = best(given_, seen, NOW, ASSUMED_UP_BPS)
    assert found in [*given_, seen.ceiling, seen.congested, seen.floor, Estimate(ASSUMED_UP_BPS, "unknown")]


# ------------------------------------------------------------------ the router's word


@pytest.mark.parametrize(
    ("up", "down", "access", "link_up", "believed"),
    [
        (11_000_000, 54_300_000, "DSL", True, (11_000_000, 54_300_000)),
        (50_000_000, 1_000_000_000, "Cable", True, (50_000_000, None)),
        (100_000_000, 100_000_000, "DSL", True, (None, None)),
        (1_000_000_000, 1_000_000_000, "Cable", True, (None, None)),
        (0, 0, "DSL", True, (None, None)),
        (2**32 - 1, 54_300_000, "DSL", True, (2**32 - 1, 54_300_000)),
        (11_000_000, 54_300_000, "DSL", False, (None, None)),
        (40_000_000, 90_000_000, "Ethernet", True, (None, None)),
        (1000, 54_300, "DSL", True, (None, None)),  # in kbit/s, as some say
    ],
)
def test_a_lan_ports_speed_is_no_modems(
    up: int, down: int, access: str, link_up: bool, believed: tuple[int | None, int | None]
) -> None:
    found = of_modem(up, down, access, link_up)
    assert tuple(side[0].bps if side else None for side in found) == believed


# ------------------------------------------------------------------ SQM

SQM = """
config queue 'eth1'
\toption enabled '0'
\toption interface 'eth1'
\toption download '85000'

config queue
\toption interface "pppoe-wan"   # the DSL line
\toption enabled '1'
\toption upload '9500'
\toption download '0'
\toption qdisc cake
\tlist list_of 'things'
"""


def test_sqm_is_read_where_it_shapes_the_wan() -> None:
    assert of_sqm(SQM, "pppoe-wan") == ([Estimate(9_500_000, "sqm")], [])
    assert of_sqm(SQM, "eth1") == ([], [])
    assert of_sqm(SQM, None) == ([], [])
    assert of_sqm(SQM.replace("9500", "95OO"), "pppoe-wan") == ([], [])


@given(st.text(max_size=300) | st.lists(st.sampled_from([*SQM.splitlines(), "option", "'", "config"])).map("\n".join))
def test_no_file_breaks_the_reader(text: str) -> None:
    assert all(len(entry) == 2 for entry in sections(text))
    up, down = of_sqm(text, "pppoe-wan")
    assert all(estimate.bps > 0 for estimate in (*up, *down))


# ------------------------------------------------------------------ what the line shows


class Queue:
    """A line with a first-in-first-out queue, as a fluid; gives samples as an agent before it would take them."""

    def __init__(self, bps: float, thought_bps: int = 20 * MBIT, other_bps: int = 100 * MBIT) -> None:
        self.bps = bps
        self.at, self.now_s = 100.0, float(NOW)
        self.entered = self.other = self.queued = 0.0
        self.thought_bps, self.other_thought_bps = thought_bps, other_bps

    def send(self, bps: float, seconds: float, other_bps: float = 0.0, step_s: float = 0.1) -> Iterable[Sample]:
        for _ in range(round(seconds / step_s)):
            self.at += step_s
            self.now_s += step_s
            self.entered += bps * step_s / 8
            self.other += other_bps * step_s / 8
            self.queued = max(0.0, self.queued + (bps - self.bps) * step_s / 8)
            yield Sample(
                self.at,
                int(self.now_s),
                int(self.entered),
                int(self.other),
                self.queued * 8 / self.bps * 1000,
                self.thought_bps,
                self.other_thought_bps,
            )


def after(observed: Observed, samples: Iterable[Sample]) -> Observed:
    for sample in samples:
        observed = observed.after(sample)
    return observed


def test_a_queue_that_stands_shows_the_capacity_though_more_enters_than_leaves() -> None:
    line = Queue(8e6)
    seen = after(Observed(), [*line.send(9e6, 1.5), *line.send(8e6, 20), *line.send(9e6, 1), *line.send(7e6, 1)]).seen
    assert seen.congested is not None
    assert seen.ceiling is not None
    assert seen.congested.bps == pytest.approx(8e6, rel=0.02)
    assert seen.ceiling.bps == pytest.approx(8e6, rel=0.03)
    assert (seen.ceiling.source, seen.ceiling.measured_at) == ("passive", int(line.now_s))


def test_a_rate_without_a_queue_is_only_a_floor() -> None:
    line = Queue(20e6)
    seen = after(Observed(), line.send(15e6, 60)).seen
    assert (seen.ceiling, seen.congested) == (None, None)
    assert seen.floor is not None
    assert seen.floor.bps == pytest.approx(15e6, rel=0.01)


def test_a_download_that_fills_the_other_direction_says_nothing_about_this_one() -> None:
    full = Queue(100e6)
    mirrored = [
        Sample(s.at, s.now_s, s.other_bytes, s.total_bytes, s.queueing_ms, 20 * MBIT, 100 * MBIT)
        for s in [*full.send(110e6, 1, 1e6), *full.send(100e6, 20, 1e6)]
    ]
    assert after(Observed(), mirrored).seen == Seen()


def test_an_unmeasured_queue_teaches_nothing() -> None:
    line = Queue(8e6)
    blind = [
        Sample(s.at, s.now_s, s.total_bytes, s.other_bytes, None, s.capacity_bps, s.other_capacity_bps)
        for s in line.send(9e6, 20)
    ]
    assert after(Observed(), blind).seen == Seen()


def test_what_was_seen_survives_a_restart() -> None:
    line = Queue(8e6)
    observed = after(Observed(), [*line.send(4e6, 5), *line.send(9e6, 2), *line.send(8e6, 20)])
    text = json.dumps(observed.as_json())
    again = observing.from_json(json.loads(text))
    assert again.seen == observed.seen
    assert len(text) < 2048


junk = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*Observed().as_json()]), inner),
    max_leaves=12,
)


@given(junk)
def test_whatever_was_stored_gives_something_that_works(stored: object) -> None:
    observed = observing.from_json(stored)
    line = Queue(8e6)
    assert after(observed, [*line.send(9e6, 2), *line.send(8e6, 3)]).seen.congested is not None


@given(
    st.lists(
        st.tuples(st.floats(0, 10), st.integers(-10, 10**6), st.floats(0, 1e3), st.integers(0, 10**9)), max_size=60
    )
)
def test_the_state_stays_small_whatever_comes(steps: list[tuple[float, int, float, int]]) -> None:
    observed, at, now_s, total = Observed(), 0.0, NOW, 0
    for gap, later, queueing, count in steps:
        at, now_s, total = at + gap, now_s + later, total + count
        observed = observed.after(Sample(at, now_s, total, 0, queueing, 20 * MBIT, MBIT))
    assert len(observed.bins) <= BINS_MAX
    assert observing.from_json(json.loads(json.dumps(observed.as_json()))).seen.floor == observed.seen.floor
