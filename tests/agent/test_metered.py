"""Which WAN interfaces are taken for metered."""

from __future__ import annotations

import pytest
from fallow_agent.line.metered import METERED, is_metered


@pytest.mark.parametrize("name", ["wwan0", "wwp0s20f0u3", "rmnet_data0", "usb0", "rndis0", "bnep0", "3g-wan"])
def test_mobile_modems_and_telephones_are_metered(name: str) -> None:
    assert is_metered(name, METERED)


@pytest.mark.parametrize("name", ["eth0", "wan", "pppoe-wan", "ppp0", "enp3s0", "wlan0", "br-lan", "", None])
def test_fixed_lines_are_not(name: str | None) -> None:
    assert not is_metered(name, METERED)


def test_the_owners_patterns_stand_for_the_defaults() -> None:
    assert is_metered("eth1", ("eth[12]",))
    assert not is_metered("wwan0", ("eth[12]",))
    assert not is_metered("wwan0", ())
    assert is_metered("anything", ("*",))
