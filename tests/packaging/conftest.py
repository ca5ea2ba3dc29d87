"""OpenWrt's packages, built once for all tests of a run."""

from __future__ import annotations

import fcntl
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from openwrt_root import build, fields
from opkg.ipk import read


@pytest.fixture(scope="session")
def feed(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """The packages and their signed index; the key lies beside the folder. Nobody writes there."""
    base = tmp_path_factory.getbasetemp()
    folder = (base if worker_id == "master" else base.parent) / "openwrt"
    folder.mkdir(exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "feed").is_dir():
            key = folder / "key.sec"
            subprocess.run(["signify-openbsd", "-G", "-n", "-p", folder / "key.pub", "-s", key], check=True)
            build(folder / "building", "--key", str(key))
            (folder / "building").rename(folder / "feed")
    return folder / "feed"


@pytest.fixture(scope="session")
def contents(feed: Path) -> dict[str, dict[str, bytes]]:
    """The files of each package, by name."""
    found = {}
    for path in sorted(feed.glob("*.ipk")):
        control, files = read(path)
        found[fields(control)["Package"]] = files
    return found
