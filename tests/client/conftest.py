"""The command, called as a person or a script does, with nothing of the one who runs the tests."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import pytest
from command_world import FakeServer, Fallow
from fallow_client import cli


@pytest.fixture
def server() -> Iterator[FakeServer]:
    made = FakeServer()
    made.json("GET /v1/health", {"status": "ok", "version": "1", "role": "scheduler"})
    yield made
    made.close()


@pytest.fixture
def environ(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """An environment without anything of the one who runs the tests."""
    for name in ("SCHEDULER", "LEDGER", "TOKEN", "PROFILE", "DEVICE", "LAN_TOKEN", "SETUP_CODE", "CLAIM_TOKEN"):
        monkeypatch.delenv(f"FALLOW_{name}", raising=False)
    return {"FALLOW_HOME": str(tmp_path / "home"), "LANG": "C.UTF-8"}


@pytest.fixture
def fallow(environ: dict[str, str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Fallow:
    def call(*arguments: str, stdin: str = "", **more: str) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.stdin", io.StringIO(stdin))
        code = cli.run(list(arguments), environ | more)
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return code, captured.out, captured.err

    return call
