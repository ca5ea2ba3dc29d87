"""``fallow-server`` as a process: first start, help, refusals, kill -9, SIGTERM."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from fallow_server import service_manager
from fallow_server.cli import main

pytestmark = pytest.mark.processes

COMMAND = [sys.executable, "-m", "fallow_server"]
DEADLINE_S = 60


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=DEADLINE_S, check=False)


def token_in(text: str) -> str:
    found = re.search(r"fa_[A-Za-z0-9_-]{43}", text)
    assert found is not None, text
    return found[0]


@contextmanager
def server(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A running server and its scheduler's port."""
    ports = ("--host", "127.0.0.1", "--scheduler-port", "0", "--ledger-port", "0")
    command = [*COMMAND, "run", *ports, *arguments]
    # Output goes into pipes as a service's does, whatever whoever runs the tests likes better.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    try:
        assert process.stderr is not None
        port = 0
        for line in process.stderr:
            if found := re.search(r"scheduler at \S+ \(port (\d+)\)", line):
                port = int(found[1])
                break
        assert port, f"it ended with {process.wait(DEADLINE_S)}"
        yield process, port
    finally:
        process.kill()
        process.communicate(timeout=DEADLINE_S)


def call(port: int, method: str, path: str, token: str, body: object = None) -> tuple[int, Any]:
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", data, headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=DEADLINE_S) as response:
            return response.status, json.loads(response.read() or b"null")
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read() or b"null")


def test_init_is_repeatable_and_overwrites_nothing(tmp_path: Path) -> None:
    state = tmp_path / "state"
    first = run("init", "--state-dir", str(state))
    assert first.returncode == 0, first.stderr
    token = token_in(first.stdout)
    files = {path.name: path.read_bytes() for path in state.iterdir() if path.suffix != ".sqlite"}
    second = run("--state-dir", str(state), "init")
    assert second.returncode == 0, second.stderr
    assert "nothing was changed" in second.stdout
    assert "fa_" not in second.stdout
    assert {path.name: path.read_bytes() for path in state.iterdir() if path.suffix != ".sqlite"} == files

    lost = run("operator-token", "--state-dir", str(state))
    assert lost.returncode == 0, lost.stderr
    new = token_in(lost.stdout)
    assert new != token
    with server("--state-dir", str(state)) as (process, port):
        for one in (token, new):
            assert call(port, "GET", "/v1/accounts", one)[0] == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait(DEADLINE_S) == 0


def test_kill_9_loses_nothing_that_was_answered(tmp_path: Path) -> None:
    state = str(tmp_path / "state")
    token = token_in(run("init", "--state-dir", state).stdout)
    made: dict[str, str] = {}
    for _ in range(3):
        with server("--state-dir", state) as (process, port):
            for account, account_token in made.items():
                status, _ = call(port, "GET", "/v1/devices", account_token)
                assert status == 200, f"{account} was lost"
            for _ in range(5):
                status, account = call(port, "POST", "/v1/accounts", token, {"role": "owner", "name": "x"})
                assert status == 201
                made[account["id"]] = account["token"]
                assert call(port, "POST", "/v1/claims", account["token"])[0] == 201
            process.kill()
            process.wait(DEADLINE_S)
    with server("--state-dir", state) as (process, port):
        listed = call(port, "GET", "/v1/accounts", token)[1]
        assert {account["id"] for account in listed if account["role"] == "owner"} == set(made)
        process.send_signal(signal.SIGINT)
        assert process.wait(DEADLINE_S) == 0


def test_run_with_init_starts_at_once(tmp_path: Path) -> None:
    with server("--state-dir", str(tmp_path / "new"), "--init") as (process, port):
        assert call(port, "GET", "/v1/health", "")[1]["status"] in ("ok", "degraded")
        assert process.stdout is not None
        shown = next(line for line in process.stdout if "fa_" in line)  # in a container's log, while it runs
        assert call(port, "GET", "/v1/accounts", token_in(shown))[0] == 200
        started = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait(DEADLINE_S) == 0
        assert time.monotonic() - started < 20, "it waits so long for answers under way, and there were none"


def test_tables_of_addresses_are_read_again_at_sighup(tmp_path: Path) -> None:
    table, settings = tmp_path / "countries.csv", tmp_path / "settings.toml"
    settings.write_text(f'[delivery]\naddress_tables = ["{table}"]\n')
    with server("--state-dir", str(tmp_path / "new"), "--init", "--config", str(settings)) as (process, port):
        assert process.stderr is not None
        for rows, said in (
            ("192.0.2.0,192.0.2.255,DE\n?", f"{table}, line 2: "),
            ("192.0.2.0,192.0.2.255,DE", "1 ranges"),
        ):
            table.write_text(rows)
            process.send_signal(signal.SIGHUP)
            assert any(said in line for line in process.stderr)
            assert call(port, "GET", "/v1/health", "")[0] == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait(DEADLINE_S) == 0


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["run", "--state-dir", "{}/none"], 1, "run: fallow-server init --state-dir"),
        (["operator-token", "--state-dir", "{}/none"], 1, "run: fallow-server init"),
        (["init", "--state-dir", "/proc/nowhere"], 1, "--state-dir"),
        (["--role", "king"], 2, "invalid choice"),
        (["--colour"], 2, "unrecognized"),
        (["run", "--scheduler-url", "fallow.example", "--state-dir", "{}"], 1, "http.scheduler_url"),
        (["--role", "scheduler", "--state-dir", "{}"], 1, "http.ledger_url"),
        (["--config", "{}/none.toml"], 1, "No such file"),
        (["--ledger-port", "99999", "--state-dir", "{}"], 1, "http.ledger_port: ports end at 65535"),
    ],
)
def test_refusals_are_one_clear_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], status: int, said: str
) -> None:
    try:
        found = main([argument.format(tmp_path) for argument in arguments])
    except SystemExit as error:  # argparse's own
        assert error.code == 2
        found = 2
    text = capsys.readouterr().err
    assert found == status
    assert said in text
    assert "Traceback" not in text
    if status == 1:
        assert text.count("\n") == 1


def test_help_teaches(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    text = capsys.readouterr().out
    for word in ("init", "operator-token", "settings", "--scheduler-url", "32550", "fallow-server.toml", "/metrics"):
        assert word in text
    assert main(["settings", "--state-dir", str(tmp_path)]) == 0
    assert "[dial_back]" in capsys.readouterr().out


def test_two_servers_never_share_a_state_directory(tmp_path: Path) -> None:
    state = str(tmp_path / "state")
    assert run("init", "--state-dir", state).returncode == 0
    ports = ("--host", "127.0.0.1", "--scheduler-port", "0", "--ledger-port", "0")
    with server("--state-dir", state):
        for role in ("all", "scheduler", "ledger"):
            second = run("run", *ports, "--state-dir", state, "--role", role, "--ledger-url", "http://127.0.0.1:9")
            assert second.returncode == 1
            assert "is in use by another fallow-server" in second.stderr
    with server("--state-dir", state):
        pass  # it was let go


def test_a_lost_operator_token_on_the_schedulers_own_machine(tmp_path: Path) -> None:
    state = str(tmp_path / "scheduler")
    made = run("init", "--role", "scheduler", "--ledger-url", "http://127.0.0.1:9", "--state-dir", state)
    assert "--ledger-url http://127.0.0.1:9" in made.stdout
    again = run("operator-token", "--state-dir", state)
    assert again.returncode == 0
    assert token_in(again.stdout) != token_in(made.stdout)
    nothing = run("operator-token", "--state-dir", str(tmp_path / "other"))
    assert (nothing.returncode, "has no scheduler.keys" in nothing.stderr) == (1, True)
    assert not (tmp_path / "other").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, who could make files of its own")
def test_root_does_not_work_in_a_directory_of_another_user(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    os.chown(state, 65534, 65534)
    assert main(["init", "--state-dir", str(state)]) == 1
    assert "runuser -u nobody" in capsys.readouterr().err
    assert list(state.iterdir()) == []


def test_the_service_manager_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    address = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(address)
        manager.setblocking(False)
        service_manager.tell(service_manager.READY)  # nobody asked
        monkeypatch.setenv(service_manager.SOCKET, address)
        service_manager.tell(service_manager.READY)
        assert manager.recv(64) == b"READY=1"
        with pytest.raises(BlockingIOError):
            manager.recv(64)
    service_manager.tell(service_manager.STOPPING)  # nobody listens any more, which hinders nothing
