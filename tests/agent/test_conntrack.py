"""How many connections the home's table bears."""

from __future__ import annotations

from pathlib import Path

import pytest
from fallow_agent.host.conntrack import (
    ASSUMED_TABLE_MAX,
    SHARE_PERMILLE_MAX,
    ConnectionTable,
    connections_allowed,
    read_table,
)
from hypothesis import given
from hypothesis import strategies as st

ASSUMED = ASSUMED_TABLE_MAX * SHARE_PERMILLE_MAX // 1000


@pytest.mark.parametrize(
    ("table", "behind_router", "allowed"),
    [
        (ConnectionTable(100, 16384), False, 819),
        (ConnectionTable(100, 1024), False, 51),
        (ConnectionTable(13926, 16384), False, 819),
        (ConnectionTable(13927, 16384), False, 0),
        (ConnectionTable(16384, 16384), False, 0),
        # A computer at home tracks connections too, but the table that counts is the router's.
        (ConnectionTable(100, 262_144), True, ASSUMED),
        (ConnectionTable(100, 1024), True, 51),
        (None, True, ASSUMED),
        (None, False, ASSUMED),
    ],
)
def test_a_small_share_and_nothing_when_it_is_nearly_full(
    table: ConnectionTable | None, behind_router: bool, allowed: int
) -> None:
    assert connections_allowed(table, behind_router=behind_router) == allowed


@given(st.integers(0, 2**20), st.integers(1, 2**20), st.booleans())
def test_never_more_than_the_share(count: int, size: int, behind_router: bool) -> None:
    allowed = connections_allowed(ConnectionTable(count, size), behind_router=behind_router)
    assert 0 <= allowed <= size * SHARE_PERMILLE_MAX // 1000


def test_the_kernels_table_is_read(tmp_path: Path) -> None:
    assert read_table(tmp_path) is None
    (tmp_path / "nf_conntrack_count").write_text("17\n")
    assert read_table(tmp_path) is None
    (tmp_path / "nf_conntrack_max").write_text("16384\n")
    assert read_table(tmp_path) == ConnectionTable(17, 16384)
    (tmp_path / "nf_conntrack_max").write_text("many\n")
    assert read_table(tmp_path) is None
    (tmp_path / "nf_conntrack_max").write_text("0\n")
    assert read_table(tmp_path) is None
