"""The ``fallow-agent`` command."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fallow_wire.errors import FallowError, LocalError

from . import memory

if TYPE_CHECKING:
    from .config import Config

OK, FAILED, USAGE = 0, 1, 2

DESCRIPTION = """\
Puts the idle line and disk of this device to work, with its owner's consent.

A fresh agent is dormant: it talks to nobody outside of the home network. Its page, http://<this device>:32556/, is
where a phone in the same network activates it; "fallow-agent setup-code", with the same --state-dir, shows the setup
code that it asks for, and a QR code that opens the page. Or use "fallow activate" on a computer, after "fallow login".
"""

EPILOG = """\
Configuration: defaults, then /etc/fallow/agent.toml (or --config), then the environment, then flags; later wins.
Every key of "fallow-agent config" is also a variable: FALLOW_STATE_DIR, FALLOW_LAN_PORT, FALLOW_SETUP_CODE, ...

Examples:
  fallow-agent                              run with the state in /var/lib/fallow-agent
  fallow-agent --state-dir ~/.fallow        run as an ordinary user
  fallow-agent --up-mbps 40 --down-mbps 250 say what the line can do
  fallow-agent config                       show the effective configuration
  fallow-agent status                       ask the running agent how it is
  fallow-agent upgrade                      install the newest version, and go back if it does not do well
"""

Flag = tuple[str, tuple[str, ...], type[Any], str, str]

FLAGS: tuple[Flag, ...] = (
    ("--state-dir", ("state_dir",), Path, "DIR", "keys, settings, proofs (default: /var/lib/fallow-agent)"),
    ("--name", ("name",), str, "NAME", "what the app calls this device (default: the host name)"),
    ("--lan-bind", ("lan", "bind"), str, "ADDR", "listen for phones on this address only; may be repeated"),
    ("--lan-port", ("lan", "port"), int, "PORT", "port of the LAN side (default: 32556)"),
    ("--lan-interface", ("lan", "interfaces"), str, "IF", "a LAN interface, such as br-lan; may be repeated"),
    ("--service-port", ("service", "port"), int, "PORT", "port that consumers come to (default: 32557)"),
    ("--advertise-address", ("service", "advertise_address"), str, "ADDR", "address of a forwarded service port"),
    ("--up-mbps", ("line", "up_mbps"), float, "N", "upload capacity of the line, in Mbit/s"),
    ("--down-mbps", ("line", "down_mbps"), float, "N", "download capacity of the line, in Mbit/s"),
    ("--interface", ("line", "interface"), str, "IF", "internet interface to meter (default: the default route's)"),
    ("--content-dir", ("content", "dir"), Path, "DIR", "disk for content (default: the state's)"),
    ("--content-bytes", ("content", "quota_bytes"), int, "N", "disk for content, in bytes"),
    ("--log-level", ("process", "log_level"), str, "LEVEL", "debug, info (default), warning or error"),
)
REPEATED = ("--lan-bind", "--lan-interface")


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; gives the exit status (0 good, 1 failed, 2 wrong usage)."""
    arguments = _parser().parse_args(argv)
    memory.set_up()
    from .config import load  # and with it the libraries, which must find the settings of memory

    try:
        config = load(_flags(arguments), os.environ, arguments.config)
        command: int = COMMANDS[arguments.command](config, arguments)
    except FallowError as error:
        print(f"fallow-agent: {error.detail}", file=sys.stderr)  # noqa: T201
        return FAILED
    return command


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "fallow-agent", description=DESCRIPTION, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", nargs="?", choices=COMMANDS, default="run", help=_commands_help())
    parser.add_argument("--yes", action="store_true", help="with reset: do it")
    parser.add_argument("--advised", action="store_true", help="with upgrade: only where the network advises it")
    parser.add_argument(
        "--label", type=Path, metavar="FILE", help="with setup-code: write a label with the QR code there, as SVG"
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="show the version")
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help="configuration file (default: /etc/fallow/agent.toml)"
    )
    for flag, _, kind, metavar, text in FLAGS:
        action = "append" if flag in REPEATED else "store"
        parser.add_argument(flag, type=kind, metavar=metavar, help=text, action=action, default=None)
    parser.add_argument("--no-mdns", action="store_true", help="do not announce the device in the LAN")
    return parser


def _commands_help() -> str:
    return (
        "run: run the agent (the default); setup-code: print the code that activation asks for, in a "
        "terminal as a QR code too; "
        "config: show the effective configuration; status: ask the running agent; "
        "upgrade: install the newest version from this system's package sources, and go back if it does not do well; "
        "reset --yes: forget owner, phones and content (keys and the chain of proofs stay)"
    )


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *rest: Any) -> None:
        from .version import agent_version

        _say(f"fallow-agent {agent_version()}")
        parser.exit(OK)


def _flags(arguments: argparse.Namespace) -> dict[str, Any]:
    """The flags that were given, nested like the configuration file."""
    found: dict[str, Any] = {}
    given = [(path, getattr(arguments, flag[2:].replace("-", "_"))) for flag, path, *_ in FLAGS]
    if arguments.no_mdns:
        given.append((("lan", "mdns"), False))
    for path, value in given:
        if value is None:
            continue
        target = found
        for section in path[:-1]:
            target = target.setdefault(section, {})
        target[path[-1]] = value
    return found


def _say(text: str) -> None:
    print(text)  # noqa: T201  # it is a command; this is its output


def _run(config: Config, arguments: argparse.Namespace) -> int:
    import asyncio

    from .app import run_agent, yield_to_household

    levels = logging.getLevelNamesMapping()
    level = levels.get(config.process.log_level.upper())
    if level is None:
        raise LocalError(
            f"process.log_level: one of debug, info, warning, error is wanted, not {config.process.log_level}"
        )
    logging.basicConfig(level=level, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    yield_to_household(config.process)
    return asyncio.run(run_agent(config))


def _setup_code(config: Config, arguments: argparse.Namespace) -> int:
    from .identity import load_or_create_identity, make_state_dir
    from .lan.announce import host_label
    from .lan.label import label, page_address
    from .lan.pairing import Pairing, normal
    from .store import DATABASE_FILE, Settings, open_database

    make_state_dir(config.state_dir)
    connection = open_database(config.state_dir / DATABASE_FILE)
    try:
        code = Pairing(Settings(connection), config.lan.setup_code).code
    finally:
        connection.close()
    if arguments.label is not None:
        # By name: a label outlives the address that the home's router gave the device.
        device_id = load_or_create_identity(config.state_dir).public.device_id()
        address = page_address(f"{host_label(device_id)}.local", config.lan.port, normal(code))
        try:
            arguments.label.write_text(label(address, config.name, code), "utf-8")
        except OSError as error:
            raise LocalError(f"{arguments.label}: {error.strerror}") from None
        print(f"The label is in {arguments.label}.", file=sys.stderr)  # noqa: T201
    if sys.stdout.isatty():
        _show_qr(config, normal(code))
    _say(code)
    return OK


def _show_qr(config: Config, code: str) -> None:
    """By address: phones that know no mDNS names find it too."""
    from .lan.guard import lan_side
    from .lan.interfaces import read_addresses
    from .lan.label import page_address, terminal

    lan = lan_side(read_addresses(), config.lan.interfaces, config.lan.names)
    hosts = [str(own.address) for own in lan.addresses if own.address.version == 4]
    address = page_address((config.lan.bind or tuple(hosts) or ("localhost",))[0], config.lan.port, code)
    try:
        _say(terminal(address))
    except LocalError as error:
        print(f"fallow-agent: {error.detail}", file=sys.stderr)  # noqa: T201  # the code alone is of use, too
    _say(f"Scan it with a phone in the same network, or open {address}")


def _config(config: Config, arguments: argparse.Namespace) -> int:
    from .config import as_toml

    _say(as_toml(config).rstrip())
    return OK


def _status(config: Config, arguments: argparse.Namespace) -> int:
    import json

    from .local import ask

    _say(json.dumps(ask(config), indent=2, ensure_ascii=False))
    return OK


def _upgrade(config: Config, arguments: argparse.Namespace) -> int:
    from .local import NotRunning, ask
    from .upgrade.packages import package_manager
    from .upgrade.run import Upgrade

    if arguments.advised and not config.upgrade.automatic:
        _say("Automatic updates are turned off (upgrade.automatic).")
        return OK
    if os.geteuid() != 0:
        raise LocalError("only root may install packages; sudo fallow-agent upgrade")

    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # a terminal that goes away must not leave half an update

    def status() -> dict[str, Any] | None:
        try:
            return ask(config)
        except NotRunning:
            return None

    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    upgrade = Upgrade(package_manager(), status)
    _say(upgrade.as_advised() if arguments.advised else upgrade.by_hand())
    return OK


def _reset(config: Config, arguments: argparse.Namespace) -> int:
    import shutil

    from .app import lock_state_dir
    from .membership import FORGOTTEN
    from .store import DATABASE_FILE, Settings, open_database

    if not arguments.yes:
        raise LocalError("reset forgets owner, phones and content without handing over proofs; say --yes to do it")
    lock = lock_state_dir(config.state_dir)
    try:
        connection = open_database(config.state_dir / DATABASE_FILE)
        try:
            settings = Settings(connection)
            for name in FORGOTTEN:
                settings.delete(name)
        finally:
            connection.close()
        shutil.rmtree(config.content_dir, ignore_errors=True)
    finally:
        os.close(lock)
    _say("The device is dormant; its key and its chain of proofs are kept.")
    return OK


COMMANDS = {
    "run": _run,
    "setup-code": _setup_code,
    "config": _config,
    "status": _status,
    "upgrade": _upgrade,
    "reset": _reset,
}
