"""What OpenWrt's SQM is configured to (``/etc/config/sqm``): the owner's own word about the line.

Only what is needed of UCI's syntax: sections, and options with or without quotes.
"""

from __future__ import annotations

import shlex
from pathlib import Path

from .capacity import Estimate

BYTES_MAX = 64 * 1024
_DIGITS_MAX = 8
"""In kbit/s: 100 Gbit/s."""


def sections(text: str) -> list[tuple[str, dict[str, str]]]:
    """Types and options of the sections. A line that is none of UCI's is passed over: it is not our file."""
    found: list[tuple[str, dict[str, str]]] = []
    for line in text.splitlines():
        try:
            words = shlex.split(line, comments=True)
        except ValueError:
            continue
        if len(words) >= 2 and words[0] == "config":
            found.append((words[1], {}))
        elif len(words) == 3 and words[0] == "option" and found:
            found[-1][1][words[1]] = words[2]
    return found


def of_sqm(text: str, interface: str | None) -> tuple[list[Estimate], list[Estimate]]:
    """Up and down of the enabled queue on the WAN interface; empty where SQM is off, or shapes a direction not at all
    (0).

    :param interface: the WAN device, such as ``pppoe-wan``.
    """
    up: list[Estimate] = []
    down: list[Estimate] = []
    for kind, options in sections(text):
        if kind != "queue" or options.get("enabled") != "1" or options.get("interface") != interface:
            continue
        for name, estimates in (("upload", up), ("download", down)):
            value = options.get(name, "0")
            if value.isascii() and value.isdigit() and len(value) <= _DIGITS_MAX and int(value) > 0:
                estimates.append(Estimate(int(value) * 1000, "sqm"))
    return up, down


def read_sqm(interface: str | None, file: Path) -> tuple[list[Estimate], list[Estimate]]:
    """As :func:`of_sqm`, of the file where there is one."""
    try:
        with file.open("rb") as opened:
            text = opened.read(BYTES_MAX).decode("utf-8", "replace")
    except OSError:
        return [], []
    return of_sqm(text, interface)
