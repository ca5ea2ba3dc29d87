"""The demo is the main job: it must hold as the README promises."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent


@pytest.mark.processes
@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
@pytest.mark.skipif(shutil.which("aria2c") is None, reason="needs aria2c (aria2), to download by Metalink")
def test_from_dormant_devices_to_a_redeemed_reward(tmp_path: Path) -> None:
    content = tmp_path / "film.bin"
    content.write_bytes(os.urandom(9 * 2**20 + 1))
    done = subprocess.run(
        [sys.executable, str(ROOT / "demo" / "demo.py")],
        env=os.environ | {"FILE": str(content)},
        capture_output=True,
        text=True,
        timeout=170,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "all held" in done.stdout
    assert "aria2c" in done.stdout
