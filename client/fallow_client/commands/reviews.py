"""What looks wrong about devices: for the operator to decide, and for their owners to read."""

from __future__ import annotations

from typing import Any

import click

from ..ledger import Ledger, new_key
from . import books
from .context import Context, at_ledger, pass_context
from .operator import DAY_S, at_books, day_of, operator
from .output import clean, human_bytes, moment, points

COLUMNS = {"id": "Review", "at": "Day", "device": "Device", "owner": "Owner", "reason": "Reason", "state": "State"}


def _told(context: Context, found: dict[str, Any]) -> list[tuple[str, str]]:
    """In words; the detail is a sentence of the ledger's."""
    pairs = [
        ("Review", str(found.get("id", "–"))),
        ("Day", _day(found)),
        ("Device", str(found.get("device", "–"))),
        ("Reason", context.say.state(str(found.get("reason", "–")))),
        ("Detail", context.say.sentence(clean(found.get("detail", "–")))),
        ("State", context.say.state(_state(found))),
    ]
    if type(found.get("held")) is int:
        pairs.append(("Held, and taken back if upheld", points(found["held"])))
    return pairs


def _state(found: dict[str, Any]) -> str:
    """An open port is another thing than an open review."""
    state = str(found.get("state", "–"))
    return "undecided" if state == "open" else state


def _day(found: dict[str, Any]) -> str:
    """``YYYY-MM-DD``, of UTC as the ledger counts."""
    return day_of(int(found.get("at", 0)) // DAY_S)


@click.command("reviews")
@at_ledger
@pass_context
def own_reviews(context: Context) -> None:
    """What looks wrong about your devices, why, and what the operator decided.

    Nothing is taken before the operator has looked, and then only points that are still held.
    """
    found = books.at_books(context, Ledger.reviews, "owner")
    if context.out.as_json or not found:
        context.out.rows(found, COLUMNS, empty="Nothing looks wrong.")
        return
    for one in reversed(found):
        context.out.pairs(one, _told(context, one))
        click.echo()


@operator.group(invoke_without_command=True)
@at_ledger
@click.pass_context
def reviews(ctx: click.Context) -> None:
    """What looks wrong about devices: list, show, decide."""
    if ctx.invoked_subcommand is None:
        ctx.invoke(reviews_list)


@reviews.command("list")
@click.option("--all", "decided", is_flag=True, help="Those that were decided, too.")
@at_ledger
@pass_context
def reviews_list(context: Context, decided: bool = False) -> None:
    """List what is to be decided, oldest first."""
    found = at_books(context, lambda ledger: ledger.reviews(None if decided else "open"))
    shown = [one | {"at": _day(one), "state": _state(one)} for one in found]
    if context.out.as_json:
        shown = found
    context.out.rows(shown, COLUMNS, empty="Nothing is to be decided.")


@reviews.command("show")
@click.argument("review_id")
@at_ledger
@pass_context
def reviews_show(context: Context, review_id: str) -> None:
    """Show a review: why, and what is at stake."""
    found = at_books(context, lambda ledger: ledger.review(review_id))
    pairs = _told(context, found)
    context.out.pairs(found, [*pairs[:3], ("Owner", found.get("owner") or "–"), *pairs[3:]])


@reviews.command("decide")
@click.argument("review_id")
@click.argument("outcome", type=click.Choice(["cleared", "upheld"]))
@at_ledger
@pass_context
def reviews_decide(context: Context, review_id: str, outcome: str) -> None:
    """Decide a review: cleared closes it for good; upheld takes back what is still held of the device.

    \b
    A device that cheats is not unbound by it:
      fallow operator fleet unbind DEVICE_ID
    """
    found = at_books(context, lambda ledger: ledger.decide_review(review_id, outcome))
    taken = ("Taken back", points(int(found.get("micro_points") or 0)))
    context.out.pairs(found, [*_told(context, found), taken])


@operator.command()
@click.option("--device", "device_id", help="Of this device alone.")
@click.option("--limit", type=click.IntRange(1, 500), default=50, show_default=True, help="So many of them.")
@at_ledger
@pass_context
def audits(context: Context, device_id: str | None, limit: int) -> None:
    """What canaries found, newest first: the server's own, and yours."""
    found = at_books(context, lambda ledger: ledger.audits(device_id, limit))
    told = [one | {"reason": context.say.sentence(clean(one.get("reason") or "–"))} for one in found]
    columns = {"at": "Time", "device": "Device", "bytes": "Size", "agreed": "Verified", "reason": "Reason"}
    shown = [
        one | {"at": moment(int(one.get("at", 0))), "bytes": human_bytes(int(one.get("bytes", 0)))} for one in told
    ]
    context.out.rows(found if context.out.as_json else shown, columns)


@operator.command()
@click.argument("jti")
@click.argument("reason")
@click.option("--key", help="Idempotency key: the same key again takes nothing back twice.")
@at_ledger
@pass_context
def clawback(context: Context, jti: str, reason: str, key: str | None) -> None:
    """Take back what is still held of one settlement (its ticket's id). REASON is told to its owner.

    It goes back to the publisher's escrow. Points that the owner could redeem already stay the owner's.

    \b
    Example:
      fallow operator clawback 01890a5d-ac96-774b-bcce-b302099a8057 "served to itself"
    """
    header = new_key() if key is None else {"Idempotency-Key": key}
    context.out.members(at_books(context, lambda ledger: ledger.claw_back(jti, reason, header)))
