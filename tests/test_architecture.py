"""The direction of imports, and the purity of the pure parts, read from the sources."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = {"fallow_wire": "wire", "fallow_agent": "agent", "fallow_server": "server", "fallow_client": "client"}
MAY_IMPORT = {
    "fallow_wire": set(),
    "fallow_agent": {"fallow_wire"},
    "fallow_server": {"fallow_wire"},
    "fallow_client": {"fallow_wire"},
}
PURE = [
    "wire/fallow_wire/*.py",
    "agent/fallow_agent/lifecycle.py",
    "agent/fallow_agent/backoff.py",
    "agent/fallow_agent/edge/admission.py",
    "agent/fallow_agent/line/budget.py",
    "agent/fallow_agent/line/contrast.py",
    "agent/fallow_agent/line/harm.py",
    "agent/fallow_agent/line/capacity.py",
    "agent/fallow_agent/line/counters.py",
    "agent/fallow_agent/line/observed.py",
    "agent/fallow_agent/line/forecast.py",
    "agent/fallow_agent/line/icmp.py",
    "agent/fallow_agent/line/path.py",
    "agent/fallow_agent/line/delay.py",
    "agent/fallow_agent/line/train.py",
    "agent/fallow_agent/line/speedtest.py",
    "agent/fallow_agent/allowance.py",
    "agent/fallow_agent/edge/arrivals.py",
    "agent/fallow_agent/host/conntrack.py",
    "agent/fallow_agent/host/headroom.py",
    "agent/fallow_agent/line/metered.py",
    "agent/fallow_agent/life.py",
    "agent/fallow_agent/ports/advice.py",
    "agent/fallow_agent/ports/claims.py",
    "agent/fallow_agent/ports/natpmp.py",
    "agent/fallow_agent/ports/opening.py",
    "agent/fallow_agent/ports/pcp.py",
    "agent/fallow_agent/probing/home.py",
    "agent/fallow_agent/probing/pace.py",
    "agent/fallow_agent/upgrade/advice.py",
    "agent/fallow_agent/uplink/outgoing.py",
    "agent/fallow_agent/uplink/reports.py",
    "server/fallow_server/fleet/addresses.py",
    "server/fallow_server/fleet/reachability.py",
    "server/fallow_server/scheduling/*.py",
    "server/fallow_server/fleet/reports.py",
    "server/fallow_server/tasks/states.py",
    "server/fallow_server/tasks/model.py",
    "server/fallow_server/catalogue/names.py",
    "server/fallow_server/streaming/playlist.py",
    "server/fallow_server/streaming/window.py",
    "server/fallow_server/delivery/metalink.py",
    "server/fallow_server/ledger/verification.py",
    "server/fallow_server/ledger/journal.py",
    "client/fallow_client/fetch_plan.py",
]
IMPURE = {"asyncio", "aiohttp", "logging", "time", "random", "socket", "sqlite3", "subprocess", "threading"}
LINES_MAX = 450


def sources(package: str) -> list[Path]:
    return sorted((ROOT / PACKAGES[package] / package).rglob("*.py"))


def imports_of(path: Path) -> set[str]:
    """Top-level names of every import in the file, those inside functions included."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found.add(node.module.split(".")[0])
    return found


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_import_only_the_wire(package: str) -> None:
    files = sources(package)
    assert files
    for path in files:
        crossing = (imports_of(path) & PACKAGES.keys()) - MAY_IMPORT[package] - {package}
        assert not crossing, f"{path.relative_to(ROOT)} imports {crossing}"


@pytest.mark.parametrize("pattern", PURE)
def test_decisions_do_no_input_or_output(pattern: str) -> None:
    files = sorted(ROOT.glob(pattern))
    assert files, f"{pattern} names no file; correct the list of pure parts"
    for path in files:
        impure = imports_of(path) & IMPURE
        assert not impure, f"{path.relative_to(ROOT)} imports {impure}"


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_and_modules_say_what_they_are(package: str) -> None:
    for path in sources(package):
        text = path.read_text(encoding="utf-8")
        if text.strip():
            assert ast.get_docstring(ast.parse(text)), f"{path.relative_to(ROOT)} has no docstring"


@pytest.mark.parametrize("package", PACKAGES)
def test_modules_stay_short(package: str) -> None:
    for path in sources(package):
        lines = len(path.read_text(encoding="utf-8").splitlines())
        assert lines <= LINES_MAX, f"{path.relative_to(ROOT)} has {lines} lines; is it still one noun?"
