"""``fallow speedtest`` against a device that only says what it is told to."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from fallow_client import cli
from fallow_client.commands import speedtest
from fallow_client.lan_device import LanDevice

DONE = {"state": "done", "up_bps": 20_100_000, "down_bps": 99_000_000, "measured_at": 1_800_000_000}
Statuses = list[dict[str, Any]]
Fallow = Callable[..., tuple[int, str, str]]


@pytest.fixture
def fallow(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Fallow:
    """Run the command; the device answers the statuses one by one."""
    monkeypatch.setattr(speedtest, "POLL_S", 0)
    started: list[bool] = []

    def call(*arguments: str, tests: Statuses, lang: str = "C") -> tuple[int, str, str]:
        statuses = iter(tests)

        async def start(device: LanDevice, *, insist: bool = False) -> None:
            started.append(insist)

        async def status(device: LanDevice) -> dict[str, Any]:
            return {"state": "active", "speedtest": next(statuses)}

        monkeypatch.setattr(LanDevice, "start_speedtest", start)
        monkeypatch.setattr(LanDevice, "status", status)
        environ = {"LANG": lang, "FALLOW_LAN_TOKEN": "t", "FALLOW_HOME": "/nonexistent"}
        code = cli.run(["speedtest", "--device", "127.0.0.1:9", *arguments], environ)
        assert started.pop() == ("--insist" in arguments)
        assert next(statuses, None) is None, "it is asked until there is a result"
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


def test_the_course_is_told_and_then_the_result(fallow: Fallow) -> None:
    down, up = ({"state": "running", "direction": direction} for direction in ("down", "up"))
    course = [{"state": "running"}, down, down, up, {**DONE, "household": "quiet", "counts": True}]
    code, out, err = fallow(tests=course)
    assert code == cli.OK
    assert err.splitlines() == ["Measuring the download …", "Measuring the upload …"]
    assert "20.1 Mbit/s" in out
    assert "99.0 Mbit/s" in out
    assert "nobody else used it" in out
    code, out, err = fallow("--insist", tests=course, lang="zh_CN.UTF-8")
    assert err.splitlines() == ["正在测量下行……", "正在测量上行……"]
    assert "没有其他使用" in out
    code, out, err = fallow("--json", tests=course)
    assert (json.loads(out), err) == (course[-1], "")


def test_a_busy_household_fails_the_command_and_shows_the_figures(fallow: Fallow) -> None:
    code, out, err = fallow(tests=[{**DONE, "household": "used", "counts": False}])
    assert code == cli.FAILED
    assert "20.1 Mbit/s" in out
    assert "somebody used the line" in err
    assert "有人用网" in fallow(tests=[{**DONE, "household": "used"}], lang="zh_CN.UTF-8")[2]


def test_a_failure_is_one_line_with_what_to_do(fallow: Fallow) -> None:
    error = {
        "type": "too-soon",
        "title": "This device has tested its line a short while ago",
        "status": 429,
        "detail": "It may test again in 412 s.",
        "fault": "caller",
        "remedy": "Wait, then start the test again.",
    }
    code, out, err = fallow(tests=[{"state": "failed", "error": error}])
    assert (code, out) == (cli.REFUSED, "")
    assert "may test again in 412 s – Wait, then start the test again." in err
    assert "412 秒后可以再次测速" in fallow(tests=[{"state": "failed", "error": error}], lang="zh")[2]
    assert fallow(tests=[{}])[0] == cli.FAILED


def test_a_test_without_an_end_is_given_up(fallow: Fallow, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speedtest, "TEST_S_MAX", -1)
    code, _, err = fallow(tests=[])
    assert code == cli.FAILED
    assert "does not end" in err
