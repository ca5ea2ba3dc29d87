"""Backups made while the server runs, and the way back from one.

A backup is a directory: each SQLite database as one whole file, copied in one transaction by SQLite's own backup, the
keys, the link token and the settings, and last ``backup.json`` with digests and what the ledger stood at. The
scheduler's database is copied first: what it had told the ledger by then is in the ledger's copy too.

A restore is told to the ledger (:mod:`.ledger.restored`), and the scheduler tells the ledger again everything it knows.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fallow_wire.errors import LocalError
from sqlalchemy import insert, select
from sqlalchemy.engine import make_url

from .accounts.tables import accounts
from .database import Branch, Database
from .fleet.tables import devices
from .ledger.outward_tables import restores
from .outbox import outbox
from .signing import write_secret
from .state import StateDirectory

FORM = 1
MANIFEST = "backup.json"
MANIFEST_BYTES_MAX = 64 * 1024
READ_BYTES = 1024 * 1024
BUSY_S = 60
"""The backup waits so long for a writer to end; a server's transactions take milliseconds."""
SECRETS = ("scheduler.keys", "ledger.keys", "link.token")
SETTINGS = "fallow-server.toml"
OF_ROLE: dict[str, tuple[str, ...]] = {
    "scheduler": ("scheduler.keys", "link.token"),
    "ledger": ("ledger.keys", "link.token"),
}
"""What a role cannot run without."""


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a ledger's chain ends: entries, the hash of the last, and its time (Unix seconds; 0 without entries)."""

    entries: int
    hash: str
    newest_at: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """``files``: SHA-256 by name. ``ledger``: None where the ledger is not part of the backup."""

    form: int
    made_at: int
    version: str
    files: dict[str, str]
    ledger: Standing | None


@dataclass(frozen=True, slots=True)
class Missing:
    """What a replaced ledger had booked beyond the backup. ``postings``: number and µp by kind. ``batches``: of how
    many devices batches are missing, and how many."""

    postings: dict[str, tuple[int, int]]
    devices: int
    batches: int


# ------------------------------------------------------------------ backup


def back_up(state: StateDirectory, target: Path, version: str, now: int, *, with_keys: bool = True) -> Manifest:
    """Make a backup of the roles of ``state`` in ``target``, which must not be there yet; all or nothing.

    :raises LocalError: saying what is in the way.
    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise LocalError(f"{target} is there already; name a new directory")
    partial = target.with_name(target.name + ".partial")
    with _disk_errors():
        shutil.rmtree(partial, ignore_errors=True)  # of a backup that was killed
        partial.mkdir(parents=True, mode=0o700)
        files: dict[str, str] = {}
        standing = None
        for branch in _branches(state):
            copy = partial / f"{branch}.sqlite"
            _copy_database(_database_file(state, branch), copy)
            files[copy.name] = _digest(copy)
            if branch == "ledger":
                standing = standing_of(copy)
        names = [name for branch in _branches(state) for name in OF_ROLE[branch]] if with_keys else []
        for name in dict.fromkeys([*names, SETTINGS]):
            if (state.path / name).exists():
                _copy_secret(state.path / name, partial / name)
                files[name] = _digest(partial / name)
        manifest = Manifest(FORM, now, version, files, standing)
        write_secret(partial / MANIFEST, json.dumps(asdict(manifest), indent=1))
        if target.exists():
            target.rmdir()
        partial.rename(target)
        _sync_directory(target.parent)
    return manifest


def _copy_database(source: Path, target: Path) -> None:
    """One whole, checked file. Readers and writers of ``source`` go on meanwhile."""
    if not source.exists():
        raise LocalError(f"{source} is not there; run fallow-server init, or name another --state-dir")
    os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    try:
        with closing(sqlite3.connect(source, timeout=BUSY_S)) as live, closing(sqlite3.connect(target)) as copy:
            live.execute("PRAGMA query_only = ON")
            live.backup(copy)
            copy.execute("PRAGMA journal_mode = DELETE")  # nothing beside the file
            check_database(copy, source)
    except sqlite3.Error as error:
        raise LocalError(f"{source}: {error}") from None
    descriptor = os.open(target, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)


def check_database(connection: sqlite3.Connection, path: Path) -> None:
    """:raises LocalError: when SQLite finds the database damaged."""
    found = connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
    if found != "ok":
        raise LocalError(f"{path} is damaged: {found}")


def standing_of(ledger: Path) -> Standing:
    with closing(sqlite3.connect(ledger, timeout=BUSY_S)) as connection:
        entries, digest = connection.execute("SELECT entries, hash FROM chain_head").fetchone()
        newest_at = connection.execute("SELECT max(at) FROM entries").fetchone()[0] or 0
    return Standing(entries, digest, newest_at)


# ------------------------------------------------------------------ restore


def read_manifest(source: Path) -> Manifest:
    """The manifest of a backup, whose files are all there and unaltered.

    :raises LocalError: otherwise, naming the file.
    """
    try:
        text = (source / MANIFEST).read_bytes()[:MANIFEST_BYTES_MAX]
        value: dict[str, Any] = json.loads(text)
        if value.get("form") != FORM:
            raise LocalError(f"{source} is a backup of another form; restore it with the version that made it")
        ledger = None if value["ledger"] is None else Standing(**value["ledger"])
        manifest = Manifest(FORM, value["made_at"], value["version"], value["files"], ledger)
    except FileNotFoundError:
        raise LocalError(f"{source} is no backup: it has no {MANIFEST}") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise LocalError(f"{source / MANIFEST}: {error}") from None
    for name, expected in manifest.files.items():
        file = source / name
        if file.parent != source or not file.is_file():
            raise LocalError(f"{source} has no {name}; the backup is not whole")
        if _digest(file) != expected:
            raise LocalError(f"{file} is not what was backed up: its digest is another")
    return manifest


async def restore(
    state: StateDirectory, source: Path, now: int, *, replace: bool = False
) -> tuple[Manifest, Missing | None]:
    """Put a backup into ``state``, whose lock the caller holds.

    :param replace: move databases and keys that are there aside, into ``replaced-<now>``.
    :return: the manifest, and what the replaced ledger shows to be missing; None where there was none to ask.
    :raises LocalError: before anything was changed.
    """
    manifest = read_manifest(source)
    branches = [branch for branch in _branches(state) if f"{branch}.sqlite" in manifest.files]
    if not branches:
        raise LocalError(f"{source} holds nothing for the role {state.config.role}")
    files = {branch: _database_file(state, branch) for branch in branches}
    there = [file for file in files.values() if file.exists()]
    if there and not replace:
        raise LocalError(f"{there[0]} is there; --replace moves it aside")
    needed = dict.fromkeys(name for branch in branches for name in OF_ROLE[branch])
    for name in needed:
        if name not in manifest.files and not (state.path / name).exists():
            raise LocalError(f"the backup holds no {name}: put it into {state.path} first")
    missing = None
    if "ledger" in files and files["ledger"].exists() and manifest.ledger is not None:
        missing = _missing(files["ledger"], source / "ledger.sqlite", manifest.ledger)
    with _disk_errors():
        staged = {branch: file.with_name(file.name + ".restoring") for branch, file in files.items()}
        for branch, copy in staged.items():
            shutil.copyfile(source / f"{branch}.sqlite", copy)
            copy.chmod(0o600)
            with closing(sqlite3.connect(copy)) as connection:
                check_database(connection, source / f"{branch}.sqlite")
            await _prepare(branch, copy, manifest, now)
        aside = state.path / f"replaced-{now}"
        for file in files.values():
            for name in (file.name, file.name + "-wal", file.name + "-shm"):
                _move_aside(file.with_name(name), aside)
        for name in needed:
            if name in manifest.files:
                if (state.path / name).exists() and _digest(state.path / name) != manifest.files[name]:
                    _move_aside(state.path / name, aside)
                _copy_secret(source / name, state.path / name)
        if SETTINGS in manifest.files and not (state.path / SETTINGS).exists():
            _copy_secret(source / SETTINGS, state.path / SETTINGS)
        for branch, copy in staged.items():
            copy.rename(files[branch])
        _sync_directory(state.path)
    if "scheduler" not in files and state.path.joinpath("scheduler.sqlite").exists():
        await tell_everything(state.path / "scheduler.sqlite")
    return manifest, missing


async def _prepare(branch: Branch, copy: Path, manifest: Manifest, now: int) -> None:
    """Bring a staged database to this version, and write down in it that it was restored."""
    database = Database(_url_of(copy))
    try:
        await database.migrate(branch)
        if branch == "ledger":
            assert manifest.ledger is not None, "a ledger's backup says where it stood"
            row = {
                "at": now,
                "backup_at": manifest.made_at,
                "entries": manifest.ledger.entries,
                "hash": manifest.ledger.hash,
            }
            async with database.write() as connection:
                await connection.execute(insert(restores), [row])
    finally:
        await database.close()
    if branch == "scheduler":
        await tell_everything(copy)


async def tell_everything(scheduler: Path) -> int:
    """Note that the ledger is to be told of every account and device again. :return: how many."""
    database = Database(_url_of(scheduler))
    try:
        await database.migrate("scheduler")
        async with database.write() as connection:
            rows = [
                {"subject": subject, "key": key}
                for subject, table in (("account", accounts), ("device", devices))
                for key in (await connection.execute(select(table.c.id).order_by(table.c.id))).scalars()
            ]
            if rows:
                await connection.execute(insert(outbox), rows)
    finally:
        await database.close()
    return len(rows)


def _missing(old: Path, copy: Path, backup: Standing) -> Missing | None:
    """What ``old`` has beyond the backup. None when it cannot be read, or did not grow out of the backup."""
    try:
        with closing(sqlite3.connect(old, timeout=BUSY_S)) as connection:
            connection.execute("PRAGMA query_only = ON")
            at_backup = connection.execute("SELECT hash FROM entries WHERE seq = ?", (backup.entries,)).fetchone()
            if backup.entries and (at_backup is None or at_backup[0] != backup.hash):
                return None
            beyond = connection.execute(
                "SELECT kind, count(DISTINCT posting), sum(max(micro_points, 0)) FROM entries WHERE seq > ? "
                "GROUP BY kind ORDER BY kind",
                (backup.entries,),
            )
            postings = {kind: (count, micro_points) for kind, count, micro_points in beyond}
            after = dict(connection.execute("SELECT id, seq FROM devices"))
        with closing(sqlite3.connect(copy)) as connection:
            before = dict(connection.execute("SELECT id, seq FROM devices"))
    except sqlite3.Error:
        return None  # damaged: that is why it is replaced
    ahead = [seq - before.get(device, 0) for device, seq in after.items() if seq > before.get(device, 0)]
    return Missing(postings, len(ahead), sum(ahead))


# ------------------------------------------------------------------ inside


def _branches(state: StateDirectory) -> list[Branch]:
    """In the order in which they are copied."""
    found: list[Branch] = ["scheduler"] if state.config.with_scheduler else []
    return [*found, "ledger"] if state.config.with_ledger else found


def _database_file(state: StateDirectory, branch: Branch) -> Path:
    url = make_url(getattr(state.database_urls(), branch))
    if url.get_backend_name() != "sqlite" or not url.database:
        raise LocalError(f"the {branch}'s database is not SQLite: use its own tools (pg_dump, pg_restore)")
    return Path(url.database)


def _url_of(file: Path) -> str:
    return f"sqlite+aiosqlite:///{os.path.abspath(file)}"


def _digest(file: Path) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as opened:
        while piece := opened.read(READ_BYTES):
            digest.update(piece)
    return digest.hexdigest()


def _copy_secret(source: Path, target: Path) -> None:
    write_secret(target, source.read_text(encoding="utf-8"))


def _move_aside(file: Path, aside: Path) -> None:
    if file.exists():
        aside.mkdir(mode=0o700, exist_ok=True)
        file.rename(aside / file.name)


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)


@contextmanager
def _disk_errors() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise LocalError(f"{error.filename or 'the disk'}: {error.strerror}") from None
