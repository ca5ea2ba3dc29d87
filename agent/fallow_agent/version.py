"""The version of the agent, as the package says it."""

from __future__ import annotations

from pathlib import Path


def agent_version() -> str:
    """From the VERSION file of a checkout or beside the modules, else from the installed package; "0" without any."""
    packaged = Path(__file__).with_name("VERSION")
    if packaged.is_file():
        return packaged.read_text("utf-8").strip()
    root = Path(__file__).parents[2]
    if (root / "setup.py").is_file():
        return (root / "VERSION").read_text("utf-8").strip()
    # Loaded here only: it brings the email package along.
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("fallow")
    except PackageNotFoundError:
        return "0"
