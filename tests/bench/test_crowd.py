"""What bench/crowd makes of its numbers: bounds, quantiles, shares; and what BitTorrent's programs must read."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from crowd import COLD, FETCH, FULL, NGINX, PLACED, Outcome, Plan, figures_of
from lab.swarm import PIECE_BYTES, bencode, torrent


def outcome(seconds: tuple[float, ...], system: str = FETCH, case: str = PLACED, guests: int = 60) -> Outcome:
    return Outcome(system, case, seconds, guests, len(seconds), 100_000_000, 1_620_000_000, "")


def test_the_bound_is_what_all_lines_together_carry() -> None:
    # 60 × 27 MB, each byte with 1514/1448 on the wire, over 20 + 20·10 Mbit/s.
    assert FULL.bound_s(PLACED) == pytest.approx(60 * 27 * 8 * 1514 / 1448 / 220)
    assert FULL.bound_s(COLD) == pytest.approx(FULL.bound_s(PLACED) * 61 / 60)
    assert FULL.bound_s(PLACED, guests_upload=True) == pytest.approx(FULL.bound_s(PLACED) * 220 / 340)


def test_one_line_alone_is_a_bound_too() -> None:
    few = Plan(homes=20, guests=1)
    assert few.bound_s(PLACED) == pytest.approx(27 * 8 * 1514 / 1448 / 50)
    assert few.bound_s(COLD) == pytest.approx(27 * 8 * 1514 / 1448 / 20)


def test_who_never_completes_is_in_the_quantile() -> None:
    whole = outcome(tuple(float(second) for second in range(1, 61)))
    assert (whole.quantile_s(0.5), whole.quantile_s(0.95)) == (30, 57)
    assert outcome(whole.seconds[:57]).quantile_s(0.95) == 57
    assert outcome(whole.seconds[:56]).quantile_s(0.95) == math.inf


def test_goals_are_of_fallow_fetch_and_the_peer_is_of_the_same_case() -> None:
    ours, theirs = outcome((70.0,) * 60), outcome((80.0,) * 60, system="bittorrent")
    other = outcome((1.0,) * 60, system="bittorrent", case=COLD)
    alone = outcome((600.0,) * 60, system=NGINX, case="origin")
    found = {figure.id: figure for figure in figures_of(FULL, [alone, theirs, other, ours])}
    assert found["p95_over_bittorrent.placed_fetch"].value == pytest.approx(70 / 80)
    assert found["p95_over_bound.placed_fetch"].met
    assert found["origin_share.placed_fetch"].value == pytest.approx(100 / 1620)
    assert found["p95_over_bound.placed_bittorrent"].met is None
    assert "origin_share.origin_nginx" not in found


def test_torrents_are_as_bep_3_and_19_say(tmp_path: Path) -> None:
    assert bencode({"b": [1, b"x"], "a": "é"}) == b"d1:a2:\xc3\xa91:bli1e1:xee"
    content = tmp_path / "film"
    content.write_bytes(bytes(PIECE_BYTES + 1))
    made = torrent(content, "http://t/announce", "http://w/film")
    assert made.startswith(b"d8:announce17:http://t/announce4:infod6:lengthi262145e4:name4:film12:piece length")
    assert made.endswith(b"8:url-list13:http://w/filme")
    with pytest.raises(TypeError):
        bencode(1.5)
