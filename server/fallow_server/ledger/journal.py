"""The journal: double entry, integers of micro-points (µp), one hash chain. Pure.

A posting moves points between accounts; its entries sum to zero, and no entry is ever changed or removed. A mistake is
set right by another posting: a settlement by a clawback, and only as long as its points are held. Each entry's hash
covers the entry before it, so whoever keeps one signed head can tell later whether anything below it was altered.

Where points live::

    mint:<publisher>             what was ever deposited, as a negative balance: the only one that may be
    escrow:<publisher>           deposited and free
    reserved:<publisher>:<hour>  lent to tickets issued in that hour (hours since 1970)
    held:<owner>                 earned, waiting
    vested:<owner>               redeemable
    redeeming:<owner>            taken by a redemption that is not resolved yet
    redeemed:<owner>             gone for a reward
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from fallow_wire.errors import LocalError
from fallow_wire.journal import ChainHead, Entry


class AccountKind(StrEnum):
    MINT = "mint"
    ESCROW = "escrow"
    RESERVED = "reserved"
    HELD = "held"
    VESTED = "vested"
    REDEEMING = "redeeming"
    REDEEMED = "redeemed"


class PostingKind(StrEnum):
    """What happened, and between which accounts it moves points."""

    DEPOSIT = "deposit"  # mint → escrow
    RESERVATION = "reservation"  # escrow → reserved
    RELEASE = "release"  # reserved → escrow
    SETTLEMENT = "settlement"  # reserved → held
    VESTING = "vesting"  # held → vested
    REDEMPTION = "redemption"  # vested → redeeming
    FULFILMENT = "fulfilment"  # redeeming → redeemed
    VOIDING = "voiding"  # redeeming → vested
    CLAWBACK = "clawback"  # held → escrow


@dataclass(frozen=True, slots=True)
class Account:
    """``holder`` is the publisher's or owner's account id; ``hour`` belongs to reserved accounts alone."""

    kind: AccountKind
    holder: str
    hour: int | None = None
    name: str = field(init=False, compare=False)

    def __post_init__(self) -> None:
        assert (self.hour is not None) == (self.kind is AccountKind.RESERVED), "hours belong to reserved accounts"
        suffix = "" if self.hour is None else f":{self.hour}"
        object.__setattr__(self, "name", f"{self.kind.value}:{self.holder}{suffix}")

    def __hash__(self) -> int:
        return hash(self.name)


@dataclass(frozen=True, slots=True)
class Posting:
    """One thing that happened. ``ref`` names it (a ticket's jti, a redemption's id); ``moves`` are signed µp."""

    kind: PostingKind
    ref: str
    moves: tuple[tuple[Account, int], ...]

    def __post_init__(self) -> None:
        total = 0
        for _, micro_points in self.moves:
            if micro_points == 0:
                raise LocalError(f"{self.kind} {self.ref} moves nothing")
            total += micro_points
        if total:
            raise LocalError(f"{self.kind} {self.ref} does not sum to zero")


def transfer(kind: PostingKind, ref: str, source: Account, target: Account, micro_points: int) -> Posting:
    """The posting that moves ``micro_points`` (more than 0) from ``source`` to ``target``."""
    if micro_points <= 0:
        raise LocalError(f"{kind} {ref} of {micro_points} µp")
    return Posting(kind, ref, ((source, -micro_points), (target, micro_points)))


def write_entries(
    head: ChainHead, at: int, posting: Posting, posting_id: str
) -> tuple[ChainHead, list[tuple[Account, Entry, str]]]:
    """The entries of ``posting`` on top of ``head``, each with its account and hash, and the head after them."""
    written = []
    for account, micro_points in posting.moves:
        entry = Entry(head.entries + 1, at, posting.kind, account.name, micro_points, posting_id, posting.ref)
        head = ChainHead(entry.seq, entry.hash_after(head.hash))
        written.append((account, entry, head.hash))
    return head, written
