"""What commands print: tables for people, JSON for scripts; nothing that a server says can move the cursor."""

from __future__ import annotations

import datetime
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fallow_wire.fields import encode
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..messages import Messages

MICRO = 1_000_000
WIDTH_OF_FILES = 240
"""Where output goes to a file or pipe, lines are not cut."""


def clean(value: Any) -> str:
    """``value`` as text without control characters: what others sent must not steer the terminal."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in str(value))


def human_bytes(count: int) -> str:
    value = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(value) < 1024:
            return f"{value:.0f} B" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"


def human_bps(rate: int) -> str:
    value = float(rate)
    for unit in ("bit/s", "kbit/s", "Mbit/s"):
        if abs(value) < 1000:
            return f"{value:.0f} {unit}" if unit == "bit/s" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} Gbit/s"


def points(micro_points: int) -> str:
    """Whole points with six places, without trailing zeros."""
    sign = "-" if micro_points < 0 else ""
    whole, rest = divmod(abs(micro_points), MICRO)
    return f"{sign}{whole}" + (f".{rest:06d}".rstrip("0") if rest else "")


def moment(unix_s: int) -> str:
    """A time in this computer's zone."""
    try:
        return datetime.datetime.fromtimestamp(unix_s).astimezone().isoformat(" ", "seconds")
    except (ValueError, OverflowError, OSError):
        return str(unix_s)


class Output:
    """:param as_json: one JSON value on standard output, and nothing else there."""

    def __init__(self, messages: Messages, as_json: bool = False) -> None:
        self.as_json = as_json
        self._say = messages
        self._console = Console(
            markup=False, highlight=False, width=None if sys.stdout.isatty() else WIDTH_OF_FILES, soft_wrap=False
        )

    def value(self, value: Any) -> None:
        print(json.dumps(encode(value), ensure_ascii=False, sort_keys=True), flush=True)  # noqa: T201

    def line(self, english: str, **values: Any) -> None:
        """A sentence for people; left out in JSON mode."""
        if not self.as_json:
            self._console.print(Text(self._say(english, **{name: clean(value) for name, value in values.items()})))

    def rows(self, value: Sequence[Any], columns: Mapping[str, str], empty: str = "Nothing here yet.") -> None:
        """A listing. :param columns: heading by name of the member; a name ending in ``_bytes`` or ``size`` is shown as
        bytes, in ``_at``, ``_seen`` and ``_until`` as a time, in ``micro_points`` as points."""
        if self.as_json:
            self.value(value)
            return
        items = [encode(item) for item in value]
        if not items:
            self.line(empty)
            return
        cells = [[self._say.state(_cell(name, item.get(name))) for name in columns] for item in items]
        headings = [self._say(heading) for heading in columns.values()]
        widths = (max(map(cell_len, column)) + 1 for column in zip(headings, *cells, strict=True))
        if sum(widths) > self._console.width:
            # Too narrow for a table: an id cut into pieces cannot be copied.
            for at, row in enumerate(cells):
                if at:
                    self._console.print()
                self._print_pairs(zip(headings, row, strict=True))
            return
        table = Table(box=None, pad_edge=False, header_style="bold")
        for heading in headings:
            table.add_column(heading, overflow="fold")
        for row in cells:
            table.add_row(*map(Text, row))
        self._console.print(table)

    def pairs(self, value: Any, pairs: Iterable[tuple[str, Any]]) -> None:
        """One thing. :param value: what JSON mode prints. :param pairs: heading and text."""
        if self.as_json:
            self.value(value)
            return
        self._print_pairs((self._say(heading), self._say.state(clean(text))) for heading, text in pairs)

    def _print_pairs(self, pairs: Iterable[tuple[str, str]]) -> None:
        table = Table(box=None, pad_edge=False, show_header=False)
        table.add_column(style="bold", no_wrap=True)
        table.add_column(overflow="fold")
        for heading, text in pairs:
            table.add_row(heading, Text(text))
        self._console.print(table)

    def members(self, value: Mapping[str, Any]) -> None:
        """One thing, each of its members under its name in words."""
        self.pairs(value, [(heading_of(name), _cell(name, item)) for name, item in value.items()])


def heading_of(name: str) -> str:
    """``paused_until`` is shown as "Paused until"; ``id`` and ``url`` are words of their own."""
    words = {"id": "Id", "url": "Address", "micro_points": "Points"}
    return words.get(name) or name.replace("_", " ").capitalize()


def _cell(name: str, value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, int) and not isinstance(value, bool):
        if name == "size" or name.endswith("_bytes"):
            return human_bytes(value)
        if name == "micro_points":
            return points(value)
        if name == "deadline" or name.endswith(("_at", "_seen", "_until")):
            return moment(value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict) and all(isinstance(item, int) for item in value.values()):
        return ", ".join(f"{clean(key)}: {item}" for key, item in value.items()) or "–"
    if isinstance(value, (list, dict)):
        return clean(json.dumps(value, ensure_ascii=False))
    return clean(value)
