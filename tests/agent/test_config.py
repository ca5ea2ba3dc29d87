"""The configuration: what wins, what is refused, and the defaults as a file."""

from __future__ import annotations

import dataclasses
import tomllib
from pathlib import Path

import pytest
from fallow_agent.config import Config, ConfigError, as_toml, load

GOLDEN = Path(__file__).with_name("config_defaults.toml")


def test_the_defaults_are_these() -> None:
    """A change of a default is a change of the product: it must show up in a review."""
    config = dataclasses.replace(Config(), name="box", model="model")
    assert as_toml(config) == GOLDEN.read_text("utf-8")


def test_what_is_shown_can_be_loaded_again(tmp_path: Path) -> None:
    file = tmp_path / "agent.toml"
    config = load({"name": 'a "quoted" \\ name', "lan": {"interfaces": ["br-lan", "wlan0"]}}, {}, _empty(tmp_path))
    file.write_text(as_toml(config))
    assert load({}, {}, file) == config
    assert tomllib.loads(as_toml(config))


def _empty(tmp_path: Path) -> Path:
    path = tmp_path / "empty.toml"
    path.write_text("")
    return path


def test_later_layers_win_key_by_key(tmp_path: Path) -> None:
    file = tmp_path / "agent.toml"
    file.write_text('name = "file"\n[lan]\nport = 1\nmdns = false\nnames = ["a"]\n')
    environment = {"FALLOW_LAN_PORT": "2", "FALLOW_LAN_NAMES": "b, c", "FALLOW_SERVER_URL": "x", "FALLOW_NAME": "env"}
    config = load({"name": "flag"}, environment, file)
    assert (config.name, config.lan.port, config.lan.mdns, config.lan.names) == ("flag", 2, False, ("b", "c"))


def test_the_setup_code_comes_by_its_short_name_and_is_not_shown(tmp_path: Path) -> None:
    config = load({}, {"FALLOW_SETUP_CODE": "AB01-CD11"}, _empty(tmp_path))
    assert config.lan.setup_code == "AB01-CD11"
    assert "AB01" not in as_toml(config)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nmae = 'x'", "nmae: no such key; there are state_dir"),
        ("[lan]\nprot = 1", "lan.prot: no such key"),
        ("[lan]\nport = '1'", "lan.port: a whole number is wanted, not '1'"),
        ("[lan]\nport = -1", "lan.port: -1 is negative"),
        ("[lan]\nport = true", "lan.port: a whole number is wanted"),
        ("[lan]\nmdns = 1", "lan.mdns: true or false is wanted"),
        ("[lan]\nnames = 'a'", "lan.names: a list is wanted"),
        ("[lan]\nnames = [1]", r"lan.names\[0\]: text is wanted"),
        ("lan = 1", "lan: a table is wanted"),
        ("lan = ", "not TOML"),
    ],
)
def test_a_fault_is_named_with_file_and_key(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "agent.toml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=message) as fault:
        load({}, {}, file)
    assert str(file) in str(fault.value)


@pytest.mark.parametrize(("name", "value"), [("FALLOW_LAN_PORT", "many"), ("FALLOW_LAN_MDNS", "perhaps")])
def test_a_bad_variable_is_named(tmp_path: Path, name: str, value: str) -> None:
    with pytest.raises(ConfigError, match=f"environment: {name}: "):
        load({}, {name: value}, _empty(tmp_path))


def test_a_file_that_is_asked_for_must_exist(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nowhere"):
        load({}, {}, tmp_path / "nowhere")
