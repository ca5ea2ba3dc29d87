"""The command: what it prints, and how it ends."""

from __future__ import annotations

import errno
import json
import os
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
from fallow_agent.app import lock_state_dir
from fallow_agent.cli import main
from fallow_agent.identity import KEY_FILE, LOCAL_FILE, load_or_create_identity, local_token, write_local
from fallow_agent.membership import FORGOTTEN
from fallow_agent.store import DATABASE_FILE, Settings, open_database
from fallow_wire.errors import LocalError


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("FALLOW_SETUP_CODE", "FALLOW_STATE_DIR"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "state"


def run(state: Path, *arguments: str) -> int:
    return main([*arguments, "--state-dir", str(state)])


def test_the_setup_code_is_shown_as_a_qr_code_and_on_a_label(
    state: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    label = tmp_path / "label.svg"
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    assert run(state, "setup-code", "--label", str(label), "--name", "attic <1>", "--lan-bind", "192.0.2.7") == 0
    *shown, code = capsys.readouterr().out.strip().splitlines()
    plain = code.replace("-", "")
    assert shown[-1].endswith(f"http://192.0.2.7:32556/#code={plain}")
    assert sum("█" in line or "▄" in line for line in shown) > 10
    drawn = ElementTree.fromstring(label.read_text("utf-8"))
    texts = [element.text for element in drawn.iter() if element.tag.endswith("text")]
    assert code in texts
    assert any(text and re.fullmatch(r"fallow-[a-z2-7]{4}\.local:32556", text) for text in texts)
    assert "Fallow · attic <1>" in texts
    assert run(state, "setup-code", "--label", str(tmp_path)) == 1
    assert "Is a directory" in capsys.readouterr().err


def test_the_setup_code_is_the_same_each_time(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(state, "setup-code") == 0
    code = capsys.readouterr().out.strip()
    assert len(code) == 9
    assert run(state, "setup-code") == 0
    assert capsys.readouterr().out.strip() == code


def test_the_effective_configuration_is_shown(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(state, "config", "--lan-port", "1234", "--no-mdns", "--lan-interface", "br-lan", "--up-mbps", "40") == 0
    out = capsys.readouterr().out
    assert f'state_dir = "{state}"' in out
    assert "port = 1234" in out
    assert 'interfaces = ["br-lan"]' in out
    assert "mdns = false" in out


def test_a_wrong_configuration_ends_with_its_place(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state.mkdir()
    file = state / "agent.toml"
    file.write_text("nmae = 1")
    assert run(state, "config", "--config", str(file)) == 1
    assert f"{file}: nmae: no such key" in capsys.readouterr().err


def test_status_of_an_agent_that_does_not_run(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lock_state_dir(state)
    assert run(state, "status", "--lan-port", "1") == 1
    assert "is it running?" in capsys.readouterr().err


def test_status_makes_no_key(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(state, "status", "--lan-port", "1") == 1
    assert not (state / KEY_FILE).exists()


def test_only_our_own_folder_of_an_external_disk_is_removed(state: Path) -> None:
    disk = state / "usb"
    (disk / "fallow-content").mkdir(parents=True)
    (disk / "holiday.jpg").touch()
    assert run(state, "reset", "--yes", "--content-dir", str(disk)) == 0
    assert [found.name for found in disk.iterdir()] == ["holiday.jpg"]


def test_the_devices_other_programs_read_its_token(state: Path) -> None:
    state.mkdir()
    key = load_or_create_identity(state)
    write_local(state, key)
    found = state / LOCAL_FILE
    assert json.loads(found.read_text()) == {"device_id": key.public.device_id(), "token": local_token(key)}
    assert found.stat().st_mode & 0o777 == 0o600
    written = found.stat().st_ino
    write_local(state, key)
    assert found.stat().st_ino == written


def test_reset_forgets_the_owner_and_keeps_the_key(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state.mkdir()
    key = load_or_create_identity(state)
    connection = open_database(state / DATABASE_FILE)
    settings = Settings(connection)
    for name in (*FORGOTTEN, "setup_code", "usage"):
        settings.set(name, "x")
    (state / "content").mkdir()
    (state / "content" / "object").touch()

    assert run(state, "reset") == 1
    assert "--yes" in capsys.readouterr().err
    assert settings.get("life") == "x"

    assert run(state, "reset", "--yes") == 0
    assert [settings.get(name) for name in FORGOTTEN] == [None] * len(FORGOTTEN)
    assert settings.get("setup_code") == settings.get("usage") == "x"
    assert not (state / "content").exists()
    assert load_or_create_identity(state).seed == key.seed


def test_reset_waits_for_nobody(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lock_state_dir(state)
    assert run(state, "reset", "--yes") == 1
    assert "in use" in capsys.readouterr().err


def test_help_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    out = capsys.readouterr().out
    for word in ("setup-code", "--state-dir", "--lan-port", "FALLOW_SETUP_CODE", "dormant", "Examples"):
        assert word in out


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith("fallow-agent 0.")


def test_a_port_that_cannot_be_is_refused(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for flag, name in (("--lan-port", "lan.port"), ("--service-port", "service.port")):
        assert run(state, "config", flag, "99999") == 1
        assert f"{name}: ports end at 65535" in capsys.readouterr().err


def test_a_key_that_cannot_be_written_ends_in_one_line(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    state.mkdir()
    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(LocalError, match="No space left on device"):
        load_or_create_identity(state)
    assert list(state.iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, who could make files of its own")
def test_what_root_makes_is_the_agents(state: Path) -> None:
    state.mkdir(mode=0o700)
    os.chown(state, 65534, 65534)
    assert run(state, "setup-code") == 0
    assert {path.stat().st_uid for path in state.iterdir()} == {65534}


def test_updates_that_are_turned_off(
    state: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FALLOW_UPGRADE_AUTOMATIC", "false")
    assert run(state, "upgrade", "--advised") == 0
    assert "turned off" in capsys.readouterr().out


def test_an_agent_that_is_no_package_is_not_updated(
    state: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert run(state, "upgrade") == 1
    assert "update it the way you installed it" in capsys.readouterr().err
