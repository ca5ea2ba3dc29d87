"""Settings: their defaults, their sources, and what is refused."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from fallow_server.config import ServerConfig, as_toml, load
from fallow_wire.errors import LocalError

GOLDEN = Path(__file__).with_name("default_settings.toml")


def test_defaults_change_only_on_purpose() -> None:
    assert as_toml(ServerConfig()) == GOLDEN.read_text(encoding="utf-8")


def test_a_device_is_gone_after_three_of_the_heartbeats_that_it_is_asked_for() -> None:
    usual = load({}, {}).awaiting_heartbeats()
    assert usual.delivery.filters.heartbeat_age_s_max == usual.tasks.filters.heartbeat_age_s_max == 45
    slow = load({"policy": {"heartbeat_s": 60}}, {}).awaiting_heartbeats()
    assert slow.delivery.filters.heartbeat_age_s_max == slow.tasks.filters.heartbeat_age_s_max == 180
    asked = {"policy": {"heartbeat_s": 5}, "delivery": {"filters": {"heartbeat_age_s_max": 20}}}
    assert load(asked, {}).awaiting_heartbeats().delivery.filters.heartbeat_age_s_max == 20


def test_what_is_shown_can_be_read_back(tmp_path: Path) -> None:
    file = tmp_path / "x.toml"
    file.write_text(as_toml(ServerConfig()), encoding="utf-8")
    assert load({}, {}, file) == ServerConfig()


def test_flags_win_over_the_environment_and_that_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "fallow-server.toml"
    file.write_text(
        '[http]\nhost = "file"\nscheduler_port = 1\nledger_port = 1\n'
        "[dial_back]\nallow_private_addresses = true\n[delivery.filters]\ntemperature_c_max = 60\n",
        encoding="utf-8",
    )
    environment = {
        "FALLOW_SERVER_STATE_DIR": str(tmp_path),
        "FALLOW_SERVER_HTTP_SCHEDULER_PORT": "2",
        "FALLOW_SERVER_HTTP_LEDGER_PORT": "2",
        "FALLOW_SERVER_HTTP_NAMES": "a.example, b.example:1",
        "FALLOW_SERVER_CATALOGUE_ALLOW_PRIVATE_ADDRESSES": "true",
        "FALLOW_SERVER_CATALOGUE_STALL_S_MAX": "1.5",
        "PATH": "/bin",
    }
    config = load({"http": {"ledger_port": 3}}, environment)
    assert (config.http.host, config.http.scheduler_port, config.http.ledger_port) == ("file", 2, 3)
    assert config.http.names == ("a.example", "b.example:1")
    assert config.dial_back.allow_private_addresses is config.catalogue.allow_private_addresses is True
    assert config.catalogue.stall_s_max == 1.5
    assert config.delivery.filters.temperature_c_max == 60
    assert config.delivery.ticket_s == ServerConfig().delivery.ticket_s


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("colour = 1", "setting colour is not known"),
        ("[http]\ncolour = 1", "setting http.colour is not known"),
        ("[colours]\nred = 1", "section [colours] is not known"),
        ("[http]\nscheduler_port = 'x'", "http.scheduler_port: 'x' is not a whole number"),
        ("[http]\nscheduler_port = true", "http.scheduler_port: True is not a whole number"),
        ("[http]\nscheduler_port = -1", "http.scheduler_port: -1 is not a whole number"),
        ("[http]\nnames = 'a'", "http.names: 'a' is not a list of texts"),
        ("[http]\nnames = [1]", "http.names: [1] is not a list of texts"),
        ("[http]\nledger_url = 'ftp://x'", "http.ledger_url"),
        ("[http]\nledger_url = 'http://x/'", "without a slash"),
        ("[dial_back]\nallow_private_addresses = 1", "is not true or false"),
        ("[delivery]\npublic_url = 'http://x'", "setting delivery.public_url is not known"),
        ("[delivery.filters]\ncolour = 1", "setting delivery.filters.colour is not known"),
        ("[delivery]\nfilters = 1", "delivery.filters"),
        ("http = 1", "setting http is not known"),
        ("[policy]\nagent_version = 'newest'", "policy.agent_version: a version"),
        ("[policy]\nagent_percent = 101", "policy.agent_percent: 100 at most"),
        ("role = 'king'", "role: one of"),
        ("role = 'scheduler'", "http.ledger_url"),
        ("[http", "x.toml"),
        ("\xff", "x.toml"),
    ],
)
def test_what_is_not_understood_is_refused_by_name(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "x.toml"
    file.write_bytes(text.encode("latin-1"))
    with pytest.raises(LocalError) as caught:
        load({}, {}, file)
    assert said in caught.value.detail


@pytest.mark.parametrize("name", ["HTTP_COLOUR", "COLOUR", "HTTP_SCHEDULER_PORT", "DIAL_BACK_ALLOW_PRIVATE_ADDRESSES"])
def test_the_environment_is_checked_too(tmp_path: Path, name: str) -> None:
    with pytest.raises(LocalError):
        load({"": {"state_dir": tmp_path}}, {f"FALLOW_SERVER_{name}": "many"})


def test_a_file_that_was_named_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(LocalError, match="No such file"):
        load({}, {}, tmp_path / "none.toml")


def test_the_golden_file_is_toml() -> None:
    assert tomllib.loads(GOLDEN.read_text(encoding="utf-8"))["http"]["scheduler_port"] == 32550
