"""Our Debian packages, built by the command that users have."""

from __future__ import annotations

import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[3]
PAGES = ROOT / "agent/fallow_agent/lan/app"
PREVIOUS = "0.0.9"
"""The version before: the same sources under a lower number, so that what is tested is the change of packages."""


def version_of_repository() -> str:
    return (ROOT / "VERSION").read_text("utf-8").strip()


def build(folder: Path, version: str = "") -> Path:
    """All packages, into a folder. :param version: in place of the repository's."""
    subprocess.run([ROOT / "packaging/build-debs", folder, *([version] if version else [])], check=True)
    return folder
