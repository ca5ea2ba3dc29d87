"""How much of the time devices are there, and whom nobody remembers."""

from __future__ import annotations

import pytest
from fallow_server.scheduling.presence import DAY_S, FADE_S, FORGOTTEN_S, SHARE_AT_FIRST, Presence


def test_the_share_goes_where_the_device_is() -> None:
    presence = Presence()
    assert presence.share("new", 0) == SHARE_AT_FIRST
    presence.connected("there", 0)
    presence.connected("gone", 0)
    presence.lost("gone", 0)
    assert SHARE_AT_FIRST < presence.share("there", DAY_S) < 1
    assert presence.share("there", 100 * FADE_S) == pytest.approx(1)
    assert presence.share("gone", 100 * FADE_S) == pytest.approx(0)


def test_who_is_away_for_long_is_forgotten() -> None:
    presence = Presence()
    for name in ("here", "back", "away", "again"):
        presence.connected(name, 0)
    for name in ("again", "back", "away"):
        presence.lost(name, DAY_S)
    presence.connected("back", 2 * DAY_S)
    presence.lost("again", 2 * DAY_S)
    presence.forget(DAY_S + FORGOTTEN_S)
    assert len(presence) == 3
    assert presence.share("away", DAY_S + FORGOTTEN_S) == SHARE_AT_FIRST
    presence.forget(2 * DAY_S + FORGOTTEN_S)
    assert len(presence) == 2
