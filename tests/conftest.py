"""Settings of every test."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

TESTS = Path(__file__).parent
sys.path[:0] = [str(TESTS), str(TESTS.parent / "demo"), str(TESTS.parent / "bench"), str(TESTS.parent / "packaging")]

# Shared machines stall; a slow example is no fault of the code under test.
settings.register_profile("fallow", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("fallow")


LONG = ("browser", "network", "packaging")
"""Folders of tests of which a file takes up to a minute."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files of long tests come first, as a worker that began one last would be waited for by all others; one of each
    folder in turn, for several browsers at once are too much for a small computer."""
    turns: dict[Path, tuple[int, int]] = {}
    for path in dict.fromkeys(item.path for item in items):
        folder = path.relative_to(TESTS).parts[0]
        if folder in LONG:
            rank = LONG.index(folder)
            turns[path] = (sum(other == rank for _, other in turns.values()), rank)
    items.sort(key=lambda item: turns.get(item.path, (len(turns), 0)))


def pytest_runtest_teardown() -> None:
    """aiohttp keeps the last 1024 handlers, and by them whole servers of tests that are over."""
    if (kept := getattr(sys.modules.get("aiohttp.web_app"), "_cached_build_middleware", None)) is not None:
        kept.cache_clear()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Tests marked ``both_databases`` run on SQLite and on PostgreSQL."""
    if metafunc.definition.get_closest_marker("both_databases") is not None:
        metafunc.parametrize("database_server", ["sqlite", "postgresql"], indirect=True)


@pytest.fixture(scope="session")
def postgresql_url() -> Iterator[str]:
    import postgresql

    with postgresql.server() as url:
        yield url


@pytest.fixture(autouse=True)
def database_server(request: pytest.FixtureRequest) -> str:
    """Which database the worlds of this test have; for most it is SQLite, unless the environment names a server."""
    import postgresql

    wanted = getattr(request, "param", "")
    if wanted:
        monkeypatch: pytest.MonkeyPatch = request.getfixturevalue("monkeypatch")
        monkeypatch.delenv(postgresql.URL, raising=False)
        if wanted == "postgresql":
            monkeypatch.setenv(postgresql.URL, request.getfixturevalue("postgresql_url"))
    return str(wanted or ("postgresql" if postgresql.URL in os.environ else "sqlite"))


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Where CI is set nothing may be skipped: what a test needs is installed there."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("CI") and reporter is not None and reporter.stats.get("skipped"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
