"""A PostgreSQL server that is thrown away, for tests that are about both databases.

Debian's ``postgresql`` package brings the programs. They do not run as root, so that root starts them as ``postgres``.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

URL = "FALLOW_TEST_DATABASE_URL"
"""Set, worlds use this server: see :mod:`ledger_world`."""
USER = "postgres"
START_S_MAX = 60
SETTINGS = (
    "-c fsync=off -c full_page_writes=off -c synchronous_commit=off -c autovacuum=off -c listen_addresses=127.0.0.1"
)


def programs() -> Path | None:
    """Where ``initdb`` and ``pg_ctl`` are: Debian keeps them out of the PATH, one folder for each version."""
    on_path = shutil.which("initdb")
    if on_path is not None:
        return Path(on_path).parent
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[4].split(".")[0]))
    return found[-1].parent if found else None


@contextlib.contextmanager
def server() -> Iterator[str]:
    """The URL of a new server of this machine; it is stopped and removed at the end."""
    folder = programs()
    if folder is None:
        pytest.skip("needs PostgreSQL's programs: apt install postgresql")
    as_user = ["runuser", "-u", USER, "--"] if os.geteuid() == 0 else []
    with tempfile.TemporaryDirectory(prefix="fallow-postgresql-") as name, socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        probe.close()
        if as_user:
            shutil.chown(name, USER)
        data, log = f"{name}/data", f"{name}/log"

        def run(*command: str) -> None:
            done = subprocess.run(
                [*as_user, *command], cwd=name, capture_output=True, text=True, timeout=2 * START_S_MAX, check=False
            )
            told = Path(log).read_text() if Path(log).exists() else ""
            assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}{told}"

        run(str(folder / "initdb"), "-D", data, "-U", USER, "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
        options = f"-p {port} -k {name} {SETTINGS}"
        run(str(folder / "pg_ctl"), "-D", data, "-l", log, "-w", "-t", str(START_S_MAX), "-o", options, "start")
        try:
            yield f"postgresql+asyncpg://{USER}@127.0.0.1:{port}/postgres"
        finally:
            run(str(folder / "pg_ctl"), "-D", data, "-w", "-m", "immediate", "stop")
