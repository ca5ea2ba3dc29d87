"""Weeks that were played earlier are joined when they are of the same code, data and size, and only then."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from fallow_server.scheduling import routing
from fleet import POLICIES, requests_for
from simulation.homes import homes_of
from simulation.parts import Parts, made_of
from simulation.recordings import FILES, synthetic
from simulation.report import Played
from simulation.week import Week, play

MADE = {"code": "1", "data": "2", "size": "10000 7 1000"}


def week(policy: str) -> Played:
    lists = {name: [1.0, 2.0] for name in ("served_by_hour", "demand_by_hour", "idle_by_hour")}
    numbers = {field.name: 0.5 for field in fields(Played)} | {"load": "heavy", "policy": policy, "seed": 1}
    return Played(**(numbers | lists))  # type: ignore[arg-type]


def test_what_was_kept_is_there_again(tmp_path: Path) -> None:
    folder = tmp_path / "parts"
    assert Parts(folder, MADE).kept() == []
    for policy in ("ours", "random"):
        Parts(folder, MADE).keep(week(policy))
    assert Parts(folder, MADE).kept() == [week("ours"), week("random")]


@pytest.mark.parametrize("other", MADE)
def test_weeks_of_another_make_are_not_joined(other: str, tmp_path: Path) -> None:
    Parts(tmp_path, MADE | {other: "another"}).keep(week("ours"))
    with pytest.raises(SystemExit, match=f"heavy-1-ours.json was played with other {other}"):
        Parts(tmp_path, MADE).kept()


@pytest.mark.parametrize("text", ["", "[]", json.dumps({"made": MADE, "week": {"load": "heavy"}})])
def test_what_is_no_part_is_named(text: str, tmp_path: Path) -> None:
    (tmp_path / "stray.json").write_text(text)
    with pytest.raises(SystemExit, match=r"stray\.json is no part of a run"):
        Parts(tmp_path, MADE).kept()


def test_code_data_and_size_tell_one_make_from_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in FILES:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    usual = made_of(tmp_path, (60, 1, 12))
    assert made_of(tmp_path, (60, 1, 12)) == usual
    assert made_of(None, (60, 1, 12))["data"] != usual["data"]
    assert made_of(tmp_path, (61, 1, 12)) == usual | {"size": "61 1 12"}
    (tmp_path / FILES[0]).write_text("other homes")
    assert made_of(tmp_path, (60, 1, 12))["data"] != usual["data"]


def test_the_scheduler_is_of_the_code(monkeypatch: pytest.MonkeyPatch) -> None:
    usual = made_of(None, (60, 1, 12))
    scheduler, read = Path(routing.__file__), Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: read(path) + b"#" * (path == scheduler))
    assert made_of(None, (60, 1, 12))["code"] != usual["code"]


@pytest.mark.parametrize("policy", POLICIES)
def test_a_week_that_was_put_by_goes_on_as_if_it_had_not_been(policy: str, tmp_path: Path) -> None:
    recordings = synthetic()
    homes = homes_of(recordings, 30, 4, seed=5)
    requests = requests_for(recordings, homes, 6, 0.9, seed=5)
    usual = play(homes, requests, POLICIES[policy](homes, requests, 5))
    parts = Parts(tmp_path, MADE)
    assert parts.begun("heavy", 5, policy, homes, requests) is None
    begun = Week(homes, requests, POLICIES[policy](homes, requests, 5))
    while begun.hours_left:
        begun.play_hour()
        parts.put_by("heavy", 5, policy, begun, homes, requests)
        found = parts.begun("heavy", 5, policy, homes, requests)
        assert found is not None
        begun = found
    outcome = begun.end()
    assert outcome.net_bytes == usual.net_bytes
    assert outcome.origin_bytes == usual.origin_bytes
    assert np.array_equal(outcome.overruns, usual.overruns)
    # It is no finished week, and one of another make is not gone on with.
    assert parts.kept() == []
    with pytest.raises(SystemExit, match=f"heavy-5-{policy}.begun was played with other code"):
        Parts(tmp_path, MADE | {"code": "another"}).begun("heavy", 5, policy, homes, requests)
