"""The ``fallow-server`` command."""

# ruff: noqa: T201  # a command prints

from __future__ import annotations

import argparse
import asyncio
import datetime
import logging
import os
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from fallow_wire.errors import FallowError, LocalError

from .accounts.accounts import Accounts, IssuedAccount, NewAccount
from .app import ServerApp
from .backup import back_up, restore, tell_everything
from .clock import Clock
from .config import DEFAULT_STATE_DIR, FILE_NAME, LEDGER_PORT, SCHEDULER_PORT, ServerConfig, as_toml, load
from .database import Database
from .http import ApiProblem
from .outbox import Outbox
from .state import StateDirectory

_DESCRIPTION = """\
The server of a Fallow network: the scheduler, which knows the devices and sends
consumers to them, and the ledger, which books what devices earned.

First time, on one machine:

  fallow-server init --state-dir DIR          make keys and the operator's token
  fallow-server --state-dir DIR --scheduler-url https://fallow.example \\
                --ledger-url https://ledger.fallow.example

Then, with the operator's token, `fallow` creates accounts for publishers and
owners. GET /v1/health tells whether the server is well, GET /metrics (from this
machine, or with the operator's token) gives figures to Prometheus."""

_EPILOG = f"""\
All settings can also stand in DIR/fallow-server.toml, such as

  [http]
  scheduler_url = "https://fallow.example"
  [dial_back]
  allow_private_addresses = true      # devices in a laboratory or LAN

or in the environment: FALLOW_SERVER_HTTP_SCHEDULER_URL. Flags win over the
environment, and the environment over the file. `fallow-server settings` shows
all of them with the values in force.

Two machines: run `init --role ledger` on one, copy DIR/link.token to the other's
DIR (mode 0600), run `init --role scheduler --ledger-url URL` there, then run each
with its role and the same URL.

The scheduler listens on port {SCHEDULER_PORT}, the ledger on {LEDGER_PORT}. Both speak plain
HTTP: put a TLS proxy in front for the public, and name it in http.trusted_proxies."""


SERVICE = Path("/lib/systemd/system/fallow-server.service")
"""Of the Debian package."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; gives the exit status: 0, 1 for a failure, 2 for a wrong call."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(
        level=getattr(logging, options.log_level.upper()), format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    logging.getLogger("alembic").setLevel(logging.WARNING)
    try:
        config = load(_flags(options), os.environ, options.config)
        command = options.command or "run"
        if command == "settings":
            _print_settings(config)
            return 0
        StateDirectory(config).check_user()
        if command == "init":
            _run(_init(config))
        elif command == "operator-token":
            _run(_operator_token(config))
        elif command == "backup":
            _backup(config, options.directory, with_keys=not options.without_keys)
        elif command == "restore":
            _run(_restore(config, options.directory, replace=options.replace))
        elif command == "tell-ledger":
            _run(_tell_ledger(config))
        else:
            if options.init:
                _run(_init(config))
            _run(ServerApp(config).run())
    except ApiProblem as error:
        print(f"fallow-server: {error}. {error.problem.remedy}", file=sys.stderr)
        return 1
    except FallowError as error:
        print(f"fallow-server: {error.detail}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    # Given before or after the command; a default here would hide what was given before it.
    absent: Any = argparse.SUPPRESS
    common.add_argument(
        "--state-dir", type=Path, metavar="DIR", default=absent, help=f"keys and data (default {DEFAULT_STATE_DIR})"
    )
    common.add_argument("--config", type=Path, metavar="FILE", default=absent, help="default DIR/fallow-server.toml")
    common.add_argument("--role", choices=("all", "scheduler", "ledger"), default=absent, help="default all")
    common.add_argument("--log-level", choices=("debug", "info", "warning", "error"), default=absent)

    serving = argparse.ArgumentParser(add_help=False)
    serving.add_argument("--host", default=absent, help="address to listen on (default: all)")
    serving.add_argument("--scheduler-port", type=int, metavar="PORT", default=absent, help=f"default {SCHEDULER_PORT}")
    serving.add_argument("--ledger-port", type=int, metavar="PORT", default=absent, help=f"default {LEDGER_PORT}")
    serving.add_argument(
        "--scheduler-url", metavar="URL", default=absent, help="what devices and consumers are told of the scheduler"
    )
    serving.add_argument("--ledger-url", metavar="URL", default=absent, help="what devices are told of the ledger")
    serving.add_argument(
        "--allow-private-addresses",
        action="store_true",
        default=absent,
        help="devices, origins and providers may have private addresses: for laboratories, never for a public server",
    )
    serving.add_argument("--init", action="store_true", default=absent, help="first do what `init` does")

    parser = argparse.ArgumentParser(
        "fallow-server",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        parents=[common, serving],
    )
    parser.add_argument("--version", action="version", version=f"fallow-server {version('fallow')}")
    parser.set_defaults(config=None, log_level="info", init=False)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    commands.add_parser("run", parents=[common, serving], help="serve until told to stop (this is the default)")
    commands.add_parser(
        "init", parents=[common, serving], help="make keys and the operator's account; run again, it changes nothing"
    )
    commands.add_parser("operator-token", parents=[common], help="issue a new token for the operator, if it was lost")
    backup = commands.add_parser(
        "backup", parents=[common], help="copy databases, keys and settings into DIR, while the server runs"
    )
    backup.add_argument("directory", type=Path, metavar="DIR", help="a new directory")
    backup.add_argument("--without-keys", action="store_true", help="leave out the keys and the link token")
    restoring = commands.add_parser("restore", parents=[common], help="put a backup back; the server must be stopped")
    restoring.add_argument("directory", type=Path, metavar="DIR", help="what `backup` made")
    restoring.add_argument("--replace", action="store_true", help="move databases and keys that are there aside")
    commands.add_parser(
        "tell-ledger", parents=[common], help="tell the ledger of all accounts and devices again, after it was restored"
    )
    commands.add_parser("settings", parents=[common, serving], help="show all settings with the values in force")
    return parser


_FLAGS = {
    "state_dir": "",
    "role": "",
    "host": "http",
    "scheduler_port": "http",
    "ledger_port": "http",
    "scheduler_url": "http",
    "ledger_url": "http",
}


def _flags(options: argparse.Namespace) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for name, section in _FLAGS.items():
        if hasattr(options, name):
            found.setdefault(section, {})[name] = getattr(options, name)
    if hasattr(options, "allow_private_addresses"):
        for section in ("dial_back", "catalogue", "rewards"):
            found.setdefault(section, {})["allow_private_addresses"] = True
    return found


def _run(work: Any) -> None:
    """On uvloop where there is one."""
    try:
        from uvloop import new_event_loop
    except ImportError:
        asyncio.run(work)
        return
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(work)


async def _init(config: ServerConfig) -> None:
    state = StateDirectory(config)
    made = state.create()
    for path in made:
        print(f"made {path}")
    issued: IssuedAccount | None = None
    if config.with_scheduler:
        database, accounts = await _accounts(state)
        try:
            if await accounts.first_operator() is None:
                issued = await accounts.create(NewAccount("operator", "operator"))
        finally:
            await database.close()
    if issued is not None:
        print(f"\noperator's account: {issued.id}")
        print(f"operator's token (shown this once):\n\n  {issued.token}\n")
    elif not made:
        print(f"{config.state_dir} is ready; nothing was changed.")
    role = f" --role {config.role}" if config.role != "all" else ""
    role += f" --ledger-url {config.http.ledger_url}" if config.role == "scheduler" else ""
    print("next:")
    if _is_service(config):
        print(f"  write settings into {config.state_dir / FILE_NAME}, above all the addresses; then, as root:")
        print("  systemctl restart fallow-server")
    else:
        print(f"  fallow-server{role} --state-dir {config.state_dir}")
    if config.role == "ledger":
        print(
            f"  copy {state.link_token_file} into the scheduler's state directory before `init --role scheduler` there"
        )
    if issued is not None:
        url = config.http.scheduler_url or "<the scheduler's address>"
        print("  then create accounts for publishers and owners, with the token from above:")
        print(f"  fallow login --profile operator --scheduler {url}")
        print('  fallow operator accounts create owner "Ada"')
    sys.stdout.flush()  # with "run --init" the process goes on, and only a log shows the token


def _is_service(config: ServerConfig) -> bool:
    """Whether this is the state of the Debian package's service."""
    return config.state_dir == DEFAULT_STATE_DIR and SERVICE.exists()


async def _operator_token(config: ServerConfig) -> None:
    if not config.with_scheduler:
        raise LocalError("accounts are the scheduler's; run this where the scheduler runs")
    state = StateDirectory(config)
    if not state.scheduler_keys.exists():  # a scheduler on its own has no ledger's keys, whatever role is said here
        raise LocalError(
            f"{config.state_dir} has no scheduler.keys; name another with --state-dir, or run: fallow-server init"
        )
    database, accounts = await _accounts(state)
    try:
        operator = await accounts.first_operator()
        if operator is None:
            raise LocalError("there is no operator's account yet; run fallow-server init")
        issued = await accounts.issue_token(operator.id)
    finally:
        await database.close()
    print(f"a new token of {issued.id} (shown this once; older ones go on working):\n\n  {issued.token}\n")
    print(f"to revoke all tokens of the account: fallow operator accounts revoke {issued.id}, then run this again")


def _backup(config: ServerConfig, directory: Path, *, with_keys: bool) -> None:
    made = back_up(StateDirectory(config), directory, version("fallow"), Clock().now(), with_keys=with_keys)
    print(f"made {directory}: {', '.join(made.files)}")
    if made.ledger is not None:
        print(f"the ledger's chain ends at entry {made.ledger.entries} in it, {made.ledger.hash}")
    if with_keys:
        print(
            "It holds the signing keys: whoever has it can issue tickets and sign statements in your name. Keep it as\n"
            "safe as the server, or make it with --without-keys and keep one copy of the keys elsewhere."
        )
    else:
        print(
            "It holds no keys: without a copy of *.keys and link.token from elsewhere it cannot be restored.\n"
            "Its databases still hold unused codes and providers' secrets."
        )
    if config.with_scheduler:
        print(f"Publishers' files are not in it: copy {config.state_dir / 'blobs'} too; a file there never changes.")


async def _restore(config: ServerConfig, directory: Path, *, replace: bool) -> None:
    state = StateDirectory(config)
    if not state.path.exists():
        state.create_directory()
    held = state.lock()
    try:
        manifest, missing = await restore(state, directory, Clock().now(), replace=replace)
    finally:
        for descriptor in held:
            os.close(descriptor)
    print(f"restored {directory}, made at {moment_of(manifest.made_at)} by version {manifest.version}")
    if manifest.ledger is None:
        return
    print(f"the ledger's chain ends at entry {manifest.ledger.entries}; what was booked after that is not here:")
    if missing is None:
        print("  there was no readable ledger before that could tell what it was")
    else:
        for kind, (count, micro_points) in missing.postings.items():
            print(f"  {kind}: {count}, {micro_points} µp")
        print(f"  {missing.batches} batches of proofs, of {missing.devices} devices")
    print(
        "Devices hand over again what they keep (two days), as soon as they meet the ledger; `fallow operator\n"
        "restores` shows how far. Deposits, tariffs and rewards made since must be made again. Redemptions rest:\n"
        "codes that were given since are free here once more. Compare with your providers, withdraw such rewards,\n"
        "then run `fallow operator restores reviewed`."
    )
    if not (state.path / "scheduler.sqlite").exists():
        print("On the scheduler's machine, run: fallow-server tell-ledger")


async def _tell_ledger(config: ServerConfig) -> None:
    file = StateDirectory(config).path / "scheduler.sqlite"
    if not file.exists():
        raise LocalError(f"{file} is not there; run this where the scheduler runs")
    told = await tell_everything(file)
    print(f"{told} accounts and devices will be told; a running scheduler begins within seconds")


def moment_of(unix_s: int) -> str:
    return datetime.datetime.fromtimestamp(unix_s, datetime.UTC).isoformat(" ", "seconds")


async def _accounts(state: StateDirectory) -> tuple[Database, Accounts]:
    database = Database(state.database_urls().scheduler)
    await database.migrate("scheduler")
    return database, Accounts(state.config.accounts, database, Clock(), Outbox())


def _print_settings(config: ServerConfig) -> None:
    print(as_toml(config), end="")
