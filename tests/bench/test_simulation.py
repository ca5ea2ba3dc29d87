"""The simulated fleet: bytes are conserved, no policy exceeds the bound, and devices foresee what the agent would."""

from __future__ import annotations

import argparse
import gzip
from pathlib import Path

import numpy as np
import pytest
from fallow_agent.line.forecast import HOUR_S, HOURS, SLOTS, Forecast
from fleet import POLICIES, requests_for
from replay import setting
from simulation.bound import bound
from simulation.demand import OBJECT_BYTES, Requests
from simulation.homes import Homes, homes_of
from simulation.outlook import Outlook
from simulation.recordings import Recordings, synthetic
from simulation.report import jain
from simulation.trace import Recorded, Recorder, read, write
from simulation.week import Outcome, play

DEVICES, OBJECTS, HOURS_PLAYED = 60, 12, 6


@pytest.fixture(scope="module")
def recordings() -> Recordings:
    return synthetic()


@pytest.fixture(scope="module")
def homes(recordings: Recordings) -> Homes:
    return homes_of(recordings, DEVICES, HOURS_PLAYED, seed=5)


@pytest.fixture(scope="module")
def requests(recordings: Recordings, homes: Homes) -> Requests:
    # More than there is idle in the worst hour, so that the bound is one of lines too.
    return requests_for(recordings, homes, OBJECTS, 1.2, seed=5)


@pytest.fixture(scope="module")
def outcomes(homes: Homes, requests: Requests) -> dict[str, Outcome]:
    return {name: play(homes, requests, policy(homes, requests, 5)) for name, policy in POLICIES.items()}


@pytest.mark.parametrize("policy", POLICIES)
def test_every_byte_comes_from_a_device_or_the_origin(policy: str, outcomes: dict[str, Outcome]) -> None:
    outcome = outcomes[policy]
    served = outcome.served_bytes.sum()
    assert served > 0
    assert served + outcome.origin_bytes == pytest.approx(outcome.demand_bytes)
    assert outcome.by_hour.sum() == pytest.approx(served)
    assert outcome.fill_bytes == outcome.fills * OBJECT_BYTES


@pytest.mark.parametrize("policy", POLICIES)
def test_no_hour_has_more_than_its_lines_had_idle(policy: str, homes: Homes, outcomes: dict[str, Outcome]) -> None:
    assert (outcomes[policy].by_hour <= homes.idle_bytes().sum(axis=1) * (1 + 1e-6)).all()


def test_no_policy_exceeds_the_bound(homes: Homes, requests: Requests, outcomes: dict[str, Outcome]) -> None:
    limit = bound(homes, requests)
    assert limit.net_bytes == pytest.approx(limit.served_bytes - limit.fill_bytes)
    assert limit.served_bytes <= len(requests) * OBJECT_BYTES
    assert max(outcome.net_bytes for outcome in outcomes.values()) <= limit.net_bytes


def test_a_week_is_the_same_again(homes: Homes, requests: Requests, outcomes: dict[str, Outcome]) -> None:
    again = play(homes, requests, POLICIES["ours"](homes, requests, 5))
    assert again.net_bytes == outcomes["ours"].net_bytes
    assert (again.overruns == outcomes["ours"].overruns).all()


def test_devices_foresee_what_the_agent_would() -> None:
    draw = np.random.default_rng(1)
    use = np.rint(draw.lognormal(13, 1.5, (2 * SLOTS + 30, 3))).astype(np.int64)
    usable = np.array([10**7, 10**6, 10**10])
    outlook, agents = Outlook(3), [Forecast()] * 3
    for hour, used in enumerate(use):
        at_s, slot = hour * HOUR_S, hour % SLOTS
        slots = [(slot + ahead) % SLOTS for ahead in range(HOURS)]
        agents = [one.after(at_s + 1, slot, int(bps)) for one, bps in zip(agents, used, strict=True)]
        if hour in (1, 30, SLOTS, len(use) - 1):
            whole = outlook.coming(slot, usable.astype(float)).T
            for device, one in enumerate(agents):
                told = one.coming(at_s + 1, slots, int(usable[device]), 0)
                # Sums in another order may round a bit/s another way.
                assert whole[device] == pytest.approx(told, abs=2)
        outlook.learn(slot, used)
        agents = [one.after(at_s + HOUR_S - 1, slot, int(bps)) for one, bps in zip(agents, used, strict=True)]


def test_jain_is_one_where_all_get_the_same() -> None:
    assert jain(np.full(5, 3.0)) == pytest.approx(1)
    assert jain(np.array([0.0, 0.0, 4.0, 0.0])) == pytest.approx(0.25)


@pytest.fixture(scope="module")
def trace_file(homes: Homes, requests: Requests, tmp_path_factory: pytest.TempPathFactory) -> Path:
    recorder = Recorder(POLICIES["ours"](homes, requests, 5))
    play(homes, requests, recorder)
    path = tmp_path_factory.mktemp("trace") / "trace.jsonl.gz"
    write(path, homes, requests, recorder)
    return path


def test_a_recorded_week_is_played_as_it_was(
    trace_file: Path, homes: Homes, requests: Requests, outcomes: dict[str, Outcome]
) -> None:
    trace = read(trace_file)
    assert trace.synthetic
    assert len(trace.requests) == len(requests)
    again = play(trace.homes, trace.requests, Recorded(trace))
    assert again.demand_bytes == outcomes["ours"].demand_bytes
    # The trace has the mean of an hour where the week had five minutes.
    assert again.served_bytes.sum() == pytest.approx(outcomes["ours"].served_bytes.sum(), rel=0.1)
    assert again.served_bytes[~homes.reachable].sum() == 0


@pytest.mark.parametrize("line", ["{}", "nonsense", '{"at_ms": 1, "object": "x"}', '{"hour": 7}'])
def test_what_is_no_trace_names_its_line(line: str, trace_file: Path, tmp_path: Path) -> None:
    with gzip.open(trace_file, "rt", encoding="utf-8") as lines:
        head = lines.readline()
    broken = tmp_path / "broken.gz"
    broken.write_bytes(gzip.compress((head + line + "\n").encode()))
    with pytest.raises(SystemExit, match="line 2"):
        read(broken)


def test_settings_of_a_replay_are_checked() -> None:
    assert setting("booked_share=0.25") == ("booked_share", 0.25)
    for wrong in ("booked_share=much", "no_such=1", "booked_share"):
        with pytest.raises(argparse.ArgumentTypeError):
            setting(wrong)
