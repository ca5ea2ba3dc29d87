"""Which addresses a probe may go to: public ones, and none that may be the owner's home. Pure.

Stricter than for fills (:mod:`..outward`): whoever names the targets is a stranger to the scheduler's operator too. A
home's router often answers its own LAN at the home's public address, with the page that configures it; and the home's
other subnets are public on IPv6.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from fallow_wire.addresses import Address, carried, is_public, parsed

from ..lan.guard import InterfaceAddress

HOME_PREFIX = 56
"""Of IPv6: what providers give one home (RIPE 690), so what may hold its other subnets."""


def may_probe(text: str, own: Iterable[InterfaceAddress], public: Iterable[str]) -> bool:
    """True for a public address outside of this home.

    :param own: addresses of the device with their subnets. :param public: further addresses that the home is seen at.
    """
    address = parsed(text)
    if address is None or not is_public(text):
        return False
    address = carried(address)
    own = tuple(own)
    if any(one.contains(address) for one in own):
        return False
    known = [*(one.address for one in own), *(found for one in public if (found := parsed(one)) is not None)]
    return not any(_one_home(address, one) for one in known)


def _one_home(one: Address, other: Address) -> bool:
    if one == other:
        return True
    if one.version == 4 or other.version == 4:
        return False
    return ipaddress.ip_network((int(other), HOME_PREFIX), strict=False) == ipaddress.ip_network(
        (int(one), HOME_PREFIX), strict=False
    )
