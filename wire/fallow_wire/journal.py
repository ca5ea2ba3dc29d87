"""What anyone needs to compute a ledger again: its entries and how they are chained, and when points mature.

The ledger writes by these rules and ``fallow verify`` checks by them, so that both are one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

from .strict import dumps

EXPORT_MEDIA_TYPE = "application/x-ndjson"
GENESIS = "0" * 64
"""The hash before the first entry."""
HOUR_S = 3600
EARLY_S = 90 * 86_400
"""How long an owner is new, from the first points that were booked: half of what is earned then is held longer."""

MOVES = {
    "deposit": ("mint", "escrow"),
    "reservation": ("escrow", "reserved"),
    "release": ("reserved", "escrow"),
    "settlement": ("reserved", "held"),
    "vesting": ("held", "vested"),
    "redemption": ("vested", "redeeming"),
    "fulfilment": ("redeeming", "redeemed"),
    "voiding": ("redeeming", "vested"),
    "clawback": ("held", "escrow"),
}
"""From which account to which each kind of posting moves points."""


class Entry(NamedTuple):
    """One line of the journal. ``seq`` counts from 1; ``micro_points`` is signed, in is positive."""

    seq: int
    at: int
    kind: str
    account: str
    micro_points: int
    posting: str
    ref: str

    def as_json(self) -> dict[str, Any]:
        """As callers see it, and as it is hashed: integers of the wire have no sign."""
        return {
            "seq": self.seq,
            "at": self.at,
            "kind": self.kind,
            "account": self.account,
            "direction": "in" if self.micro_points > 0 else "out",
            "micro_points": abs(self.micro_points),
            "posting": self.posting,
            "ref": self.ref,
        }

    def hash_after(self, previous: str) -> str:
        """SHA-256 over the hash before and the canonical JSON of this entry, hexadecimal."""
        return hashlib.sha256(bytes.fromhex(previous) + self._canonical()).hexdigest()

    def _canonical(self) -> bytes:
        """``dumps(self.as_json())``, which each entry is worth writing out for where no text needs an escape."""
        if not _plain(f"{self.account}{self.kind}{self.posting}{self.ref}"):
            return dumps(self.as_json())
        direction = "in" if self.micro_points > 0 else "out"
        return (
            f'{{"account":"{self.account}","at":{self.at},"direction":"{direction}","kind":"{self.kind}",'
            f'"micro_points":{abs(self.micro_points)},"posting":"{self.posting}","ref":"{self.ref}","seq":{self.seq}}}'
        ).encode("ascii")


@dataclass(frozen=True, slots=True)
class ChainHead:
    """Entries so far and the hash of the last."""

    entries: int = 0
    hash: str = GENESIS


def first_break(head: ChainHead, entries: Iterable[tuple[Entry, str]]) -> tuple[ChainHead, int | None]:
    """Follow stored entries with their hashes from ``head``.

    :return: the head after them, and the ``seq`` of the first entry that does not continue the chain, or None.
    """
    for entry, stored in entries:
        if entry.seq != head.entries + 1 or entry.hash_after(head.hash) != stored:
            return head, entry.seq
        head = ChainHead(entry.seq, stored)
    return head, None


def held_parts(micro_points: int, matures_at: int, late_at: int | None) -> tuple[tuple[int, int], ...]:
    """When how much of a settlement matures: (Unix seconds, µp), without empty parts.

    Half, rounded down, waits until ``late_at`` where that is set.
    """
    if late_at is None:
        return ((matures_at, micro_points),) if micro_points else ()
    late = micro_points // 2
    if late:
        return (matures_at, micro_points - late), (late_at, late)
    return ((matures_at, micro_points),) if micro_points else ()


def settlement_seal(jti: str, owner: str, matures_at: int, late_at: int | None) -> str:
    """SHA-256 over what of a settlement neither its batch nor its entries tell, so that damage to it shows."""
    late = "null" if late_at is None else late_at
    plain = f'["{jti}","{owner}",{matures_at},{late}]'.encode() if _plain(jti + owner) else None
    return hashlib.sha256(plain or dumps([jti, owner, matures_at, late_at])).hexdigest()


def _plain(text: str) -> bool:
    """True of text that stands in JSON as it is."""
    return text.isascii() and text.isprintable() and '"' not in text and "\\" not in text
