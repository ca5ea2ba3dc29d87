"""Lines that are paid for by the byte. Pure."""

from __future__ import annotations

from fnmatch import fnmatchcase

METERED = ("ww*", "rmnet*", "usb*", "rndis*", "bnep*", "3g-*")
"""WAN interfaces that are taken for metered: mobile modems (``wwan0``, systemd's ``wwp…``, Qualcomm's ``rmnet0``,
OpenWrt's ``3g-wan``) and telephones by cable or Bluetooth (``usb0``, ``rndis0``, ``bnep0``). The kernel calls an
Ethernet adapter at USB ``eth1``, so ``usb*`` does not hit those; ``ppp*`` is left out because fixed lines dial in by
PPPoE too."""


def is_metered(interface: str | None, patterns: tuple[str, ...] = METERED) -> bool:
    """:param interface: the WAN interface's name, None where it is not known. :param patterns: as in a shell."""
    return interface is not None and any(fnmatchcase(interface, pattern) for pattern in patterns)
