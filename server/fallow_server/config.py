"""The server's configuration: one frozen dataclass per concern, filled from a TOML file, the environment and flags.

Later sources win: defaults, file, environment (``FALLOW_SERVER_HTTP_LEDGER_URL`` for ``ledger_url`` of ``[http]``),
flags. A name that nobody knows is an error, for a setting that is silently ignored is worse than none.
"""

from __future__ import annotations

import dataclasses
import json
import tomllib
import types
import typing
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from fallow_wire.errors import LocalError, Malformed
from fallow_wire.lan import HTTP_URL

from .accounts.accounts import AccountsConfig
from .catalogue.config import Config as CatalogueConfig
from .console.config import Config as ConsoleConfig
from .delivery.canaries import CanaryConfig
from .delivery.config import Config as DeliveryConfig
from .fleet.connection import SessionConfig
from .fleet.dial_back import DialBackConfig
from .fleet.policy import PolicyConfig
from .fleet.speedtest import SpeedtestConfig
from .ledger.config import LedgerConfig, RewardsConfig
from .link import LinkConfig
from .recording.config import Config as RecordingConfig
from .scheduling.filters import waiting_for_heartbeats
from .spreading.config import Config as SpreadingConfig
from .streaming.config import Config as StreamingConfig
from .tasks.config import Config as TasksConfig

Values = Mapping[str, Mapping[str, Any]]
"""Settings by section and name. The section ``""`` holds the names without one."""

ROLES = ("all", "scheduler", "ledger")
ENVIRONMENT_PREFIX = "FALLOW_SERVER_"
FILE_NAME = "fallow-server.toml"
DEFAULT_STATE_DIR = Path("/var/lib/fallow-server")
SCHEDULER_PORT = 32550
LEDGER_PORT = 32551
PORT_MAX = 65535
_DERIVED = {"delivery": {"public_url", "ledger_url"}, "ledger": {"public_url", "trusted_proxies"}}
"""What follows from ``[http]``: the composition root fills it in, and nobody sets it twice."""


@dataclass(frozen=True, slots=True)
class HttpConfig:
    """Where the applications listen and what the world calls them."""

    host: str = ""
    """Address to listen on; empty: all."""
    scheduler_port: int = SCHEDULER_PORT
    ledger_port: int = LEDGER_PORT
    scheduler_url: str = ""
    """What devices and consumers are told; empty: http, this machine's address and the port."""
    ledger_url: str = ""
    """The same for the ledger. Tickets name it, so it should not change while proofs are under way."""
    names: tuple[str, ...] = ()
    """Further hosts (``host:port`` where the port is not the scheme's) that devices may reach the scheduler by."""
    trusted_proxies: tuple[str, ...] = ()
    """Addresses of TLS proxies in front of this server: their ``X-Forwarded-For`` is believed."""
    stop_s: int = 20
    """What requests under way may still take when the server is asked to stop."""


@dataclass(frozen=True, slots=True)
class DatabaseConfig:
    """SQLAlchemy URLs with an async driver; empty: an SQLite file in the state directory."""

    scheduler: str = ""
    ledger: str = ""


@dataclass(frozen=True, slots=True)
class ServerConfig:
    state_dir: Path = DEFAULT_STATE_DIR
    """Keys, the link token, SQLite files, objects. Mode 0700."""
    role: str = "all"
    """``all``, ``scheduler`` or ``ledger``."""
    http: HttpConfig = field(default_factory=HttpConfig)
    database: DatabaseConfig = field(default_factory=DatabaseConfig)
    accounts: AccountsConfig = field(default_factory=AccountsConfig)
    policy: PolicyConfig = field(default_factory=PolicyConfig)
    session: SessionConfig = field(default_factory=SessionConfig)
    dial_back: DialBackConfig = field(default_factory=DialBackConfig)
    speedtest: SpeedtestConfig = field(default_factory=SpeedtestConfig)
    link: LinkConfig = field(default_factory=LinkConfig)
    catalogue: CatalogueConfig = field(default_factory=CatalogueConfig)
    delivery: DeliveryConfig = field(default_factory=lambda: DeliveryConfig("", ""))
    canaries: CanaryConfig = field(default_factory=CanaryConfig)
    streaming: StreamingConfig = field(default_factory=StreamingConfig)
    tasks: TasksConfig = field(default_factory=TasksConfig)
    spreading: SpreadingConfig = field(default_factory=SpreadingConfig)
    recording: RecordingConfig = field(default_factory=RecordingConfig)
    console: ConsoleConfig = field(default_factory=ConsoleConfig)
    ledger: LedgerConfig = field(default_factory=lambda: LedgerConfig(""))
    rewards: RewardsConfig = field(default_factory=RewardsConfig)

    def __post_init__(self) -> None:
        if self.role not in ROLES:
            raise LocalError(f"role: one of {', '.join(ROLES)} is wanted")
        for name in ("scheduler_url", "ledger_url"):
            _check_url(f"http.{name}", getattr(self.http, name))
        for name in ("scheduler_port", "ledger_port"):
            if getattr(self.http, name) > PORT_MAX:
                raise LocalError(f"http.{name}: ports end at {PORT_MAX}")
        _check_url("link.address", self.link.address)
        if self.role == "scheduler" and not (self.http.ledger_url):
            raise LocalError(
                "http.ledger_url: a scheduler without a ledger of its own must be told where the ledger is"
            )

    def awaiting_heartbeats(self) -> ServerConfig:
        """With filters that take no device for gone which beats as often as the policy asks it to."""
        delivery, tasks = (
            waiting_for_heartbeats(one.filters, self.policy.heartbeat_s) for one in (self.delivery, self.tasks)
        )
        return replace(
            self, delivery=replace(self.delivery, filters=delivery), tasks=replace(self.tasks, filters=tasks)
        )

    @property
    def with_scheduler(self) -> bool:
        return self.role in ("all", "scheduler")

    @property
    def with_ledger(self) -> bool:
        return self.role in ("all", "ledger")


def load(
    flags: Mapping[str, Mapping[str, Any]], environment: Mapping[str, str], file: Path | None = None
) -> ServerConfig:
    """Compose the configuration.

    :param flags: settings by section and name, as given on the command line; they win.
    :param environment: ``os.environ`` or a part of it.
    :param file: the TOML file; None takes ``fallow-server.toml`` of the state directory where that exists.
    :raises LocalError: naming the setting that is unknown or has an unfit value.
    """
    from_environment = _of_environment(environment)
    if file is None:
        state_dir = flags.get("", {}).get("state_dir") or from_environment.get("", {}).get("state_dir")
        file = Path(state_dir or DEFAULT_STATE_DIR) / FILE_NAME
        from_file = _of_file(file) if file.exists() else {}
    else:
        from_file = _of_file(file)
    merged: dict[str, dict[str, Any]] = {}
    for source in (from_file, from_environment, flags):
        for section, values in source.items():
            merged.setdefault(section, {}).update(values)
    own = _fitting(ServerConfig, "", merged.pop("", {}))
    defaults = {one.name: one for one in dataclasses.fields(ServerConfig)}
    for name, values in merged.items():
        factory = defaults[name].default_factory
        assert factory is not dataclasses.MISSING
        own[name] = dataclasses.replace(factory(), **_fitting(_SECTIONS[name], name, values))
    return ServerConfig(**own)


def _check_url(name: str, url: str) -> None:
    if not url:
        return
    try:
        HTTP_URL(url, name, True)
    except Malformed as error:
        raise LocalError(error.detail) from None
    if url.endswith("/"):
        raise LocalError(f"{name}: without a slash at the end")


_HINTS = typing.get_type_hints(ServerConfig)
_SECTIONS: dict[str, type[Any]] = {
    name: hint for name, hint in _HINTS.items() if isinstance(hint, type) and dataclasses.is_dataclass(hint)
}


def _of_file(file: Path) -> dict[str, dict[str, Any]]:
    try:
        with file.open("rb") as opened:
            document = tomllib.load(opened)
    except OSError as error:
        raise LocalError(f"{file}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise LocalError(f"{file}: {error}") from None
    found: dict[str, dict[str, Any]] = {"": {}}
    for name, value in document.items():
        if isinstance(value, dict):
            if name not in _SECTIONS:
                raise LocalError(f"{file}: section [{name}] is not known; there are {', '.join(sorted(_SECTIONS))}")
            found[name] = value
        else:
            found[""][name] = value
    return found


def _of_environment(environment: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for variable, value in environment.items():
        if not variable.startswith(ENVIRONMENT_PREFIX):
            continue
        name = variable.removeprefix(ENVIRONMENT_PREFIX).lower()
        section = max((s for s in _SECTIONS if name.startswith(s + "_")), key=len, default="")
        name = name.removeprefix(section + "_") if section else name
        cls = _SECTIONS.get(section, ServerConfig)
        found.setdefault(section, {})[name] = _of_text(cls, section, name, value, variable)
    return found


def _of_text(cls: type[Any], section: str, name: str, value: str, variable: str) -> Any:
    """A value from the environment, in the type of its field; an unknown name is left for the caller to refuse."""
    hint = typing.get_type_hints(cls).get(name)
    try:
        if hint is bool:
            return {"true": True, "1": True, "false": False, "0": False}[value.lower()]
        if hint in (int, float):
            return hint(value)
    except (ValueError, KeyError):
        raise LocalError(f"{variable}: {value!r} is not {_wanted(hint)}") from None
    if _is_tuple(hint):
        return [part.strip() for part in value.split(",") if part.strip()]
    return value


def _fitting(cls: type[Any], section: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of ``cls``: names known, values of the right type."""
    return _checked(cls, _names(section), values, section)


def _checked(cls: type[Any], known: Collection[str], values: Mapping[str, Any], where: str) -> dict[str, Any]:
    hints = typing.get_type_hints(cls)
    found: dict[str, Any] = {}
    for name, value in values.items():
        full = f"{where}.{name}" if where else name
        if name not in known:
            raise LocalError(f"setting {full} is not known; there are {', '.join(known)}")
        found[name] = _fit(hints[name], value, full)
    return found


def _names(section: str) -> list[str]:
    """The settings of a section (``""``: those without one), the derived ones left out."""
    cls = _SECTIONS.get(section, ServerConfig)
    hidden: Collection[str] = _DERIVED.get(section, ()) if section else _SECTIONS
    return [one.name for one in dataclasses.fields(cls) if one.name not in hidden]


def _fit(hint: Any, value: Any, where: str) -> Any:
    if isinstance(hint, type) and dataclasses.is_dataclass(hint) and isinstance(value, dict):
        return hint(**_checked(hint, [one.name for one in dataclasses.fields(hint)], value, where))
    if hint is Path and isinstance(value, (str, Path)):
        return Path(value)
    if hint is float and type(value) in (int, float):
        return float(value)
    if _is_tuple(hint) and isinstance(value, (list, tuple)) and all(isinstance(item, str) for item in value):
        return tuple(value)
    if hint in (int, bool, str) and type(value) is hint and not (hint is int and value < 0):
        return value
    raise LocalError(f"{where}: {value!r} is not {_wanted(hint)}")


def _is_tuple(hint: Any) -> bool:
    return isinstance(hint, types.GenericAlias) and hint.__origin__ is tuple


def _wanted(hint: Any) -> str:
    if _is_tuple(hint):
        return "a list of texts"
    names = {int: "a whole number from 0", bool: "true or false", str: "a text", Path: "a path", float: "a number"}
    return names.get(hint, "of the right type")


def as_toml(config: ServerConfig) -> str:
    """All settings as the TOML file that would set them so."""
    lines = [f"{name} = {_toml(getattr(config, name))}" for name in _names("")]
    for section in _SECTIONS:
        lines += _section_as_toml(section, getattr(config, section), _names(section))
    return "\n".join(lines) + "\n"


def _section_as_toml(title: str, values: Any, names: Collection[str]) -> list[str]:
    plain = [name for name in names if not dataclasses.is_dataclass(getattr(values, name))]
    lines = ["", f"[{title}]", *(f"{name} = {_toml(getattr(values, name))}" for name in plain)]
    for name in names:
        if name not in plain:
            nested = getattr(values, name)
            lines += _section_as_toml(f"{title}.{name}", nested, [one.name for one in dataclasses.fields(nested)])
    return lines


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, tuple):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(str(value), ensure_ascii=False)
