"""The agent's Python libraries as plain Python, in one folder: the same for every processor and every Python."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

BUILT = "aiohttp"
"""The one that is only published as a source and for processors; the others are also published as plain Python."""
PYTHON = "3.11"
"""The oldest that has to read them."""
PLAIN = {f"{name}_NO_EXTENSIONS": "1" for name in ("AIOHTTP", "FROZENLIST", "MULTIDICT", "PROPCACHE", "YARL")}
KEPT_SUFFIXES = frozenset({".py", ".json"})
LEFT_OUT = frozenset({"__pycache__", "bin", "tests", "test", "_testing"})


def collect(requirements: Path, target: Path) -> None:
    """Put what ``requirements`` (with digests) names into ``target``, without what a router never reads.

    :raises subprocess.CalledProcessError: pip could not get it, or a digest differs; pip has said why.
    """
    with tempfile.TemporaryDirectory() as scratch:
        source, plain = Path(scratch, "source.txt"), Path(scratch, "plain.txt")
        lines = [line for line in requirements.read_text("utf-8").splitlines() if line and not line.startswith("#")]
        source.write_text("\n".join(line for line in lines if line.startswith(BUILT + "==")) + "\n")
        plain.write_text("\n".join(line for line in lines if not line.startswith(BUILT + "==")) + "\n")
        whole = Path(scratch, "whole")
        any_machine = ("--platform", "any", "--abi", "none", "--implementation", "py", "--python-version", PYTHON)
        _pip(plain, whole, *any_machine, "--only-binary", ":all:")
        _pip(source, whole, "--no-binary", BUILT)
        _trim(whole, target)


def _pip(requirements: Path, target: Path, *how: str) -> None:
    options = ("--quiet", "--disable-pip-version-check", "--no-deps", "--no-compile", "--require-hashes")
    command = (sys.executable, "-m", "pip", "install", *options, "--target", target, *how, "-r", requirements)
    subprocess.run(command, check=True, env={**os.environ, **PLAIN, "PIP_ROOT_USER_ACTION": "ignore"})


def _trim(whole: Path, target: Path) -> None:
    for path in _files(whole):
        relative = path.relative_to(whole)
        top = relative.parts[0]
        if top.endswith(".dist-info"):
            if _tells_licence(path.relative_to(whole / top)):
                _copy(path, target / "licenses" / top.partition("-")[0] / path.name)
        elif not LEFT_OUT.intersection(relative.parts) and path.suffix in KEPT_SUFFIXES:
            _copy(path, target / relative)


def _tells_licence(path: Path) -> bool:
    """Some only name it among their metadata."""
    return "licen" in str(path).lower() or path.name in ("COPYING", "NOTICE", "METADATA")


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_file())


def _copy(path: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(path, target)
