"""What an audit found."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

DIFFERENCES_MAX = 1000
"""More only repeat what is wrong; the count goes on."""
SHOWN_CHARS_MAX = 200
"""Of a value in a difference: a batch has megabytes."""


@dataclass(frozen=True, slots=True)
class Difference:
    """``table`` and ``row`` say where (the row's key), ``what`` says what is wrong there."""

    table: str
    row: str
    what: str
    stored: str
    computed: str


@dataclass(slots=True)
class Report:
    """``sum`` over all accounts is zero in any honest ledger. ``micro_points``: of all settlements, as computed."""

    entries: int = 0
    head: str = ""
    sum: int = 0
    accounts: int = 0
    batches: int = 0
    settlements: int = 0
    micro_points: int = 0
    signatures: int = 0
    differing: int = 0
    differences: list[Difference] = field(default_factory=list)

    def differ(self, table: str, row: Any, what: str, stored: Any, computed: Any) -> None:
        """Note a difference unless ``stored`` is what was ``computed``."""
        if stored == computed and type(stored) is type(computed):
            return
        self.differing += 1
        if len(self.differences) < DIFFERENCES_MAX:
            shown = (str(value)[:SHOWN_CHARS_MAX] for value in (stored, computed))
            self.differences.append(Difference(table, str(row)[:SHOWN_CHARS_MAX], what, *shown))
