"""The agent's configuration: each concern's frozen ``Config``, read from defaults, file, environment and flags.

Later wins: defaults, the TOML file, ``FALLOW_<SECTION>_<KEY>`` in the environment, flags. An unknown key or a bad
value stops the start with a message that names its place; nothing is guessed.
"""

from __future__ import annotations

import dataclasses
import os
import platform
import socket
import tomllib
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from fallow_wire.errors import LocalError, Malformed
from fallow_wire.lan import HTTP_URL, LAN_PORT

from .edge.content import ContentConfig
from .edge.filling import FillConfig
from .host.environment import ServiceConfig
from .host.headroom import SPARE_PERCENT_MIN, SPARE_PERCENT_MIN_MAX, TEMPERATURE_C_MAX
from .line.capacity import LineConfig
from .proofs.outbox import OutboxConfig
from .upgrade.advice import UpgradeConfig

FILE = Path("/etc/fallow/agent.toml")
ENVIRONMENT_PREFIX = "FALLOW_"
PORT_MAX = 65535


class ConfigError(LocalError):
    """The configuration cannot be used; the text names the place and what is wanted there."""

    slug = "config"


@dataclass(frozen=True, slots=True)
class LanConfig:
    """Port M. ``bind``: addresses, empty for all (the guard keeps the WAN out). ``interfaces``: the LAN interfaces;
    empty takes those with a private IPv4 address, so a router names its own, such as br-lan. ``names``: further host
    names to answer to. ``setup_code``: in place of one made at the first start. ``scheduler``: the server that
    the phone app proposes; nothing is sent there before the owner agrees."""

    bind: tuple[str, ...] = ()
    port: int = LAN_PORT
    interfaces: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    setup_code: str | None = None
    scheduler: str | None = None
    mdns: bool = True

    def __post_init__(self) -> None:
        if self.scheduler is not None:
            try:
                HTTP_URL(self.scheduler, "lan.scheduler", True)
            except Malformed as error:
                raise ValueError(error.detail) from None


@dataclass(frozen=True, slots=True)
class ProcessConfig:
    """The household comes first: ``nice`` of the process, and ``io_idle`` for the idle class of disk access.

    ``spare_percent_min``: while other programs leave less of the processor, less is shared. ``temperature_c_max``: from
    here on nothing is, and less from 10 °C below. 0 switches either off.
    """

    nice: int = 10
    io_idle: bool = True
    spare_percent_min: int = SPARE_PERCENT_MIN
    temperature_c_max: int = TEMPERATURE_C_MAX
    log_level: str = "info"

    def __post_init__(self) -> None:
        if self.spare_percent_min > SPARE_PERCENT_MIN_MAX:
            raise ValueError(f"process.spare_percent_min: {SPARE_PERCENT_MIN_MAX} at most, or nothing is ever shared")


@dataclass(frozen=True, slots=True)
class Config:
    state_dir: Path = Path("/var/lib/fallow-agent")
    name: str = field(default_factory=lambda: socket.gethostname().partition(".")[0] or "fallow")
    model: str = field(default_factory=lambda: read_model())
    lan: LanConfig = field(default_factory=LanConfig)
    line: LineConfig = field(default_factory=LineConfig)
    service: ServiceConfig = field(default_factory=ServiceConfig)
    content: ContentConfig = field(default_factory=ContentConfig)
    filling: FillConfig = field(default_factory=FillConfig)
    outbox: OutboxConfig = field(default_factory=OutboxConfig)
    process: ProcessConfig = field(default_factory=ProcessConfig)
    upgrade: UpgradeConfig = field(default_factory=UpgradeConfig)

    @property
    def content_dir(self) -> Path:
        """A folder of content alone: it is removed when the device leaves, and what else lies on a disk stays."""
        return self.state_dir / "content" if self.content.dir is None else self.content.dir / "fallow-content"

    def __post_init__(self) -> None:
        if len(self.service.bind) > 1:
            raise ValueError("service.bind: one address, or none for all")
        ports = {"lan.port": self.lan.port, "service.port": self.service.port}
        ports["service.advertise_port"] = self.service.advertise_port
        for name, port in ports.items():
            if port > PORT_MAX:  # the system would take another one in silence: this one modulo 65536
                raise ValueError(f"{name}: ports end at {PORT_MAX}")


def read_model() -> str:
    """What the device says of itself: the device tree's model, else OpenWrt's, else the architecture."""
    for path in ("/proc/device-tree/model", "/tmp/sysinfo/model", "/sys/class/dmi/id/product_name"):
        try:
            text = Path(path).read_text("utf-8", "replace").strip("\0\n ")
        except OSError:
            continue
        if text:
            return text[:128]
    return platform.machine() or "unknown"


# ------------------------------------------------------------------ loading

Layer = Mapping[str, Any]
T = TypeVar("T")


def load(flags: Layer, environment: Mapping[str, str], file: Path | None = None) -> Config:
    """The effective configuration.

    :param flags: nested like the file; only what was given.
    :param file: from the command line; None takes :data:`FILE` where it exists.
    :raises ConfigError: naming the place of the first fault.
    """
    values: dict[str, Any] = {}
    if file is not None or FILE.exists():
        path = file or FILE
        _merge(values, _checked(Config, _read_file(path), str(path)))
    _merge(values, _from_environment(environment))
    _merge(values, _checked(Config, flags, "command line"))
    return _built(Config, values)


def _read_file(path: Path) -> Layer:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: {error}") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not TOML: {error}") from None


def _from_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    """``FALLOW_STATE_DIR``, ``FALLOW_LAN_PORT``, … Variables of other Fallow programs are left alone."""
    found: dict[str, Any] = {}
    for path, hint in _leaves(Config):
        name = ENVIRONMENT_PREFIX + "_".join(path).upper()
        if path == ("lan", "setup_code") and name not in environment:
            name = "FALLOW_SETUP_CODE"
        if name in environment:
            target = found
            for section in path[:-1]:
                target = target.setdefault(section, {})
            target[path[-1]] = _from_text(hint, environment[name], f"environment: {name}")
    return found


def _leaves(cls: type[Any], path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], Any]]:
    found: list[tuple[tuple[str, ...], Any]] = []
    for name, hint in typing.get_type_hints(cls).items():
        if dataclasses.is_dataclass(hint):
            found += _leaves(typing.cast("type[Any]", hint), (*path, name))
        else:
            found.append(((*path, name), hint))
    return found


def _checked(cls: type[Any], layer: Layer, source: str, where: str = "") -> dict[str, Any]:
    hints = typing.get_type_hints(cls)
    found: dict[str, Any] = {}
    for name, value in layer.items():
        place = f"{source}: {where}{name}"
        if name not in hints:
            raise ConfigError(f"{place}: no such key; there are {', '.join(hints)}")
        hint = hints[name]
        if dataclasses.is_dataclass(hint):
            if not isinstance(value, Mapping):
                raise ConfigError(f"{place}: a table is wanted: [{where}{name}]")
            found[name] = _checked(typing.cast("type[Any]", hint), value, source, f"{where}{name}.")
        else:
            found[name] = _value(hint, value, place)
    return found


def _value(hint: Any, value: Any, place: str) -> Any:
    """``value`` as ``hint`` wants it."""
    if isinstance(hint, types.UnionType):
        if value is None:
            return None
        hint = next(part for part in typing.get_args(hint) if part is not type(None))
    if typing.get_origin(hint) is tuple:
        if not isinstance(value, (list, tuple)):
            raise ConfigError(f"{place}: a list is wanted")
        inner = typing.get_args(hint)[0]
        return tuple(_value(inner, item, f"{place}[{at}]") for at, item in enumerate(value))
    if hint is Path and isinstance(value, (str, Path)):
        return Path(value).expanduser()
    if hint is float and type(value) is int:
        return float(value)
    if type(value) is not hint:
        wanted = {int: "a whole number", float: "a number", bool: "true or false", str: "text", Path: "a path"}
        raise ConfigError(f"{place}: {wanted.get(hint, str(hint))} is wanted, not {value!r}")
    if hint is int and value < 0:
        raise ConfigError(f"{place}: {value} is negative")
    return value


def _from_text(hint: Any, text: str, place: str) -> Any:
    if isinstance(hint, types.UnionType):
        hint = next(part for part in typing.get_args(hint) if part is not type(None))
    if typing.get_origin(hint) is tuple:
        inner = typing.get_args(hint)[0]
        return tuple(_from_text(inner, part.strip(), place) for part in text.split(",") if part.strip())
    if hint is bool:
        known = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}
        return _value(bool, known.get(text.lower(), text), place)
    if hint in (int, float):
        try:
            return _value(hint, hint(text), place)
        except ValueError:
            return _value(hint, text, place)
    return _value(hint, text, place)


def _merge(values: dict[str, Any], layer: Layer) -> None:
    for name, value in layer.items():
        if isinstance(value, dict):
            _merge(values.setdefault(name, {}), value)
        else:
            values[name] = value


def _built(cls: type[T], values: Layer) -> T:
    hints = typing.get_type_hints(cls)
    made = {
        name: _built(hints[name], value) if dataclasses.is_dataclass(hints[name]) else value
        for name, value in values.items()
    }
    try:
        return cls(**made)
    except ValueError as error:
        raise ConfigError(str(error)) from None


# ------------------------------------------------------------------ showing


def as_toml(config: Config) -> str:
    """The effective configuration as a file that would give it again. The setup code is not shown."""
    lines: list[str] = []
    _write_table(config, "", lines)
    return "\n".join(lines).strip() + "\n"


def _write_table(table: Any, section: str, lines: list[str]) -> None:
    tables = []
    if section:
        lines.append(f"\n[{section}]")
    for item in dataclasses.fields(table):
        value = getattr(table, item.name)
        if dataclasses.is_dataclass(value):
            tables.append((item.name, value))
        elif item.name == "setup_code" and value is not None:
            lines.append(f"# {item.name} is set, and not shown")
        elif value is None:
            lines.append(f"# {item.name} is not set")
        else:
            lines.append(f"{item.name} = {_toml(value)}")
    for name, value in tables:
        _write_table(value, f"{section}.{name}" if section else name, lines)


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return str(value)
    if isinstance(value, tuple):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    text = os.fspath(value) if isinstance(value, Path) else str(value)
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
