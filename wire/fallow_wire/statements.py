"""``GET /v1/accounts/{id}/statements/{month}``: what happened to an account in a month, signed by the ledger."""

from __future__ import annotations

import datetime
import re
from dataclasses import dataclass
from typing import Annotated

from .batches import Head
from .errors import Malformed
from .fields import boolean, integer, items, mapping, matching, one_of, record, word

_MONTH = re.compile(r"[0-9]{4}-(0[1-9]|1[0-2])\Z")
_MONTH_SPANNED = re.compile(r"(20[0-9]{2})-(0[1-9]|1[0-2])\Z")


@dataclass(frozen=True, slots=True)
class StatementLine:
    """All movements of one kind (``settlement``, ``vesting``) into or out of one balance (``held``, ``escrow``)."""

    balance: Annotated[str, word()]
    kind: Annotated[str, word()]
    direction: Annotated[str, one_of("in", "out")]
    entries: Annotated[int, integer()]
    micro_points: Annotated[int, integer()]


@dataclass(frozen=True, slots=True)
class ServiceLine:
    """What was settled for one service and tier: tickets, paid bytes, µp."""

    service: Annotated[str, word()]
    tier: Annotated[str, word()]
    settlements: Annotated[int, integer()]
    bytes: Annotated[int, integer()]
    micro_points: Annotated[int, integer()]


@dataclass(frozen=True, slots=True)
class Statement:
    """``month`` is ``YYYY-MM`` in UTC, from ``from_at`` up to but not including ``until_at`` (Unix seconds).

    ``opening`` and ``closing`` hold the account's balances in µp by name. ``complete`` is false while the month runs;
    the closing balances are those of ``iat`` then. ``head`` is the journal's head when the statement was made.
    """

    account: Annotated[str, word()]
    month: Annotated[str, matching(_MONTH, "a month (YYYY-MM)")]
    from_at: Annotated[int, integer()]
    until_at: Annotated[int, integer()]
    complete: Annotated[bool, boolean()]
    opening: Annotated[dict[str, int], mapping(word(), integer(), 8)]
    closing: Annotated[dict[str, int], mapping(word(), integer(), 8)]
    lines: Annotated[tuple[StatementLine, ...], items(record(StatementLine), 64)]
    services: Annotated[tuple[ServiceLine, ...], items(record(ServiceLine), 16)]
    head: Annotated[Head, record(Head)]
    iat: Annotated[int, integer()]

    def __post_init__(self) -> None:
        balances = dict(self.opening)
        for line in self.lines:
            sign = 1 if line.direction == "in" else -1
            balances[line.balance] = balances.get(line.balance, 0) + sign * line.micro_points
        if {name: left for name, left in balances.items() if left} != {
            n: left for n, left in self.closing.items() if left
        }:
            raise Malformed("the statement's lines do not lead from opening to closing")


def month_span(month: str) -> tuple[int, int]:
    """Start and end of ``YYYY-MM`` in UTC, Unix seconds; the end is the start of the next month.

    :raises Malformed: for other text.
    """
    found = _MONTH_SPANNED.match(month)
    if found is None:
        raise Malformed("month: YYYY-MM is wanted")
    year, index = int(found[1]), int(found[2])
    start = datetime.datetime(year, index, 1, tzinfo=datetime.UTC)
    end = datetime.datetime(year + index // 12, index % 12 + 1, 1, tzinfo=datetime.UTC)
    return int(start.timestamp()), int(end.timestamp())
