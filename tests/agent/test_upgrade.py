"""Updates: who is advised, and that a version that does not do well is taken back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fallow_agent.upgrade.advice import Health, advised, fault, parsed, share_of
from fallow_agent.upgrade.packages import PackageError
from fallow_agent.upgrade.run import FAILED_FILE, HEALTHY_S_MAX, Upgrade, UpgradeFailed
from fallow_wire.session import AgentAdvice

DEVICES = [f"fd-{number:024}" for number in range(1000)]


def test_a_part_of_the_fleet_is_advised_and_more_of_it_later() -> None:
    few = {device for device in DEVICES if advised(AgentAdvice("0.2.0", 10), device, "0.1.0")}
    more = {device for device in DEVICES if advised(AgentAdvice("0.2.0", 50), device, "0.1.0")}
    assert 60 < len(few) < 140
    assert 430 < len(more) < 570
    assert few < more
    assert {share_of(device, "0.2.0") for device in DEVICES} == set(range(100))


def test_nobody_is_always_first() -> None:
    first = [{d for d in DEVICES if share_of(d, version) < 10} for version in ("0.2.0", "0.3.0")]
    assert len(first[0] & first[1]) < 30


@pytest.mark.parametrize(
    ("running", "wanted"),
    [
        ("0.1.9", "0.2.0"),
        ("0.2.0", None),
        ("0.10.0", None),
        ("0.2.0-1", None),
        ("0.1.9+deb12", "0.2.0"),
        ("0", "0.2.0"),
    ],
)
def test_only_older_ones_are_advised(running: str, wanted: str | None) -> None:
    assert advised(AgentAdvice("0.2.0"), DEVICES[0], running) == wanted


def test_versions_are_compared_by_their_numbers() -> None:
    assert parsed("0.10.1-2") == (0, 10, 1)
    assert parsed("unknown") == ()
    assert advised(None, DEVICES[0], "0.1.0") is None
    assert advised(AgentAdvice("9", 0), DEVICES[0], "0.1.0") is None


GOOD = Health("0.2.0", "active", True)


@pytest.mark.parametrize(
    ("before", "now", "said"),
    [
        (Health("0.1.0", "active", True), GOOD, None),
        (Health("0.1.0", "active", False), Health("0.2.0", "active", False), None),
        (None, Health("0.2.0", "dormant", False), None),
        (Health("0.1.0", "activating", False), GOOD, None),
        (Health("0.1.0", "active", True), None, "does not answer"),
        (Health("0.1.0", "active", True), Health("0.1.0", "active", True), "instead of 0.2.0"),
        (Health("0.1.0", "active", True), Health("0.2.0", "dormant", True), "is dormant, and was active"),
        (Health("0.1.0", "paused", True), Health("0.2.0", "paused", False), "lost its server"),
    ],
)
def test_what_an_update_may_not_make_worse(before: Health | None, now: Health | None, said: str | None) -> None:
    found = fault(before, now, "0.2.0")
    assert (found is None) if said is None else (said in str(found))


class Packages:
    """A package manager with one package; ``broken`` versions leave the agent as ``broken`` says."""

    folder = Path("/nonexistent")

    def __init__(self, newest: str, broken: dict[str, dict[str, Any] | None] | None = None) -> None:
        self.version = "0.1.0"
        self.offered = newest
        self.broken = broken or {}
        self.kept: list[str] = []
        self.refuses = ""
        self.away = ""
        self.done: list[str] = []

    def installed(self) -> str:
        return self.version

    def newest(self) -> str:
        return self.offered

    def fetch(self, version: str) -> None:
        if self.away:
            raise PackageError(self.away)

    def keep(self, version: str) -> None:
        self.kept.append(version)

    def install(self, version: str) -> None:
        if self.refuses:
            raise PackageError(self.refuses)
        self.done.append(f"install {version}")
        self.version = version

    def restore(self, version: str) -> None:
        assert version in self.kept
        self.done.append(f"restore {version}")
        self.version = version

    def forget(self) -> None:
        self.done.append("forget")

    def status(self) -> dict[str, Any] | None:
        good = {"version": self.version, "state": "active", "uplink": {"connected": True}}
        return self.broken.get(self.version, good)


class Time:
    def __init__(self) -> None:
        self.now = 0.0

    def sleep(self, seconds: float) -> None:
        self.now += seconds


Make = Callable[..., Upgrade]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    def upgrade(packages: Packages, ask: Callable[[], dict[str, Any] | None] | None = None) -> Upgrade:
        time = Time()
        packages.folder = tmp_path
        return Upgrade(packages, ask or packages.status, time.sleep, lambda: time.now)

    return upgrade


def test_the_newest_is_installed_once(make: Make) -> None:
    packages = Packages("0.2.0")
    assert make(packages).by_hand() == "0.2.0 is installed; it was 0.1.0."
    assert make(packages).by_hand() == "0.2.0 is installed, and the newest."
    assert (packages.done, packages.kept) == (["install 0.2.0", "forget"], ["0.1.0"])


def test_it_waits_for_the_session(make: Make) -> None:
    packages = Packages("0.2.0")
    away = [3]

    def ask() -> dict[str, Any] | None:
        found = packages.status()
        if packages.version == "0.2.0" and away[0]:
            away[0] -= 1
            return None if away[0] else {"version": "0.2.0", "state": "active", "uplink": {"connected": False}}
        return found

    assert make(packages, ask).by_hand().startswith("0.2.0 is installed;")


@pytest.mark.parametrize("broken", [None, {"version": "0.2.0", "state": "active", "uplink": {"connected": False}}])
def test_a_version_that_does_not_do_is_taken_back(make: Make, tmp_path: Path, broken: dict[str, Any] | None) -> None:
    packages = Packages("0.2.0", {"0.2.0": broken})
    with pytest.raises(UpgradeFailed, match=r"0\.1\.0 is installed again, and all is as before"):
        make(packages).by_hand()
    assert packages.done == ["install 0.2.0", "restore 0.1.0", "forget"]
    assert (tmp_path / FAILED_FILE).read_text() == "0.2.0\n"


def test_a_package_manager_that_fails_halfway_is_taken_back(make: Make) -> None:
    packages = Packages("0.2.0")
    packages.refuses = "the disk is full"
    with pytest.raises(UpgradeFailed, match="the disk is full"):
        make(packages).by_hand()
    assert packages.done == ["restore 0.1.0", "forget"]


def test_a_way_back_that_fails_is_said_and_not_forgotten(make: Make) -> None:
    class Stuck(Packages):
        def restore(self, version: str) -> None:
            raise PackageError("the flash is full")

    packages = Stuck("0.2.0", {"0.2.0": None})
    with pytest.raises(UpgradeFailed, match=r"0\.1\.0 could not be installed again: the flash is full"):
        make(packages).by_hand()
    assert packages.done == ["install 0.2.0"]


def test_nothing_is_changed_where_there_is_no_way_back(make: Make) -> None:
    class Forgetful(Packages):
        def keep(self, version: str) -> None:
            raise PackageError("0.1.0 is nowhere to be had")

    packages = Forgetful("0.2.0")
    with pytest.raises(PackageError):
        make(packages).by_hand()
    assert packages.done == []


def test_a_package_source_that_is_away_is_no_fault_of_the_version(make: Make, tmp_path: Path) -> None:
    packages = Packages("0.2.0")
    packages.away = "packages.example does not answer"
    with pytest.raises(PackageError, match="does not answer"):
        make(packages).by_hand()
    assert packages.done == packages.kept == []
    assert not (tmp_path / FAILED_FILE).exists()


def test_as_advised(make: Make) -> None:
    packages = Packages("0.3.0")
    assert make(packages).as_advised() == "No update is advised."
    advised_status = {"version": "0.1.0", "state": "active", "uplink": {"connected": True}, "update": {}}

    def ask(version: str) -> Callable[[], dict[str, Any] | None]:
        def status() -> dict[str, Any] | None:
            found = packages.status()
            return {**advised_status, "update": {"version": version}} if packages.version == "0.1.0" else found

        return status

    assert make(packages, ask("0.4.0")).as_advised() == "Version 0.4.0 is advised; your package sources have 0.3.0."
    assert packages.done == []
    assert make(packages, ask("0.2.0")).as_advised() == "0.3.0 is installed; it was 0.1.0."
    assert make(packages, lambda: None).as_advised() == "No update is advised."


def test_what_was_taken_back_is_not_tried_every_day(make: Make) -> None:
    packages = Packages("0.2.0", {"0.2.0": None})

    def ask() -> dict[str, Any] | None:
        found = packages.status()
        return None if found is None else {**found, "update": {"version": "0.2.0"}}

    with pytest.raises(UpgradeFailed):
        make(packages, ask).as_advised()
    packages.done.clear()
    assert "was taken back before" in make(packages, ask).as_advised()
    assert packages.done == []
    packages.broken.clear()
    assert make(packages, ask).by_hand().startswith("0.2.0 is installed;")


def test_the_wait_has_an_end(make: Make, tmp_path: Path) -> None:
    packages, time = Packages("0.2.0", {"0.2.0": None}), Time()
    packages.folder = tmp_path
    with pytest.raises(UpgradeFailed):
        Upgrade(packages, packages.status, time.sleep, lambda: time.now).by_hand()
    assert time.now == pytest.approx(HEALTHY_S_MAX)
