"""For operators: accounts, money, rewards, the fleet."""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable, Coroutine
from decimal import Decimal, InvalidOperation
from typing import Any, TypeVar

import click

from ..errors import ClientError
from ..ledger import Ledger
from ..scheduler import Scheduler
from . import books, publisher
from .context import Context, at_ledger, at_scheduler, pass_context
from .output import MICRO, heading_of, points

T = TypeVar("T")
MICRO_POINTS_MAX = 2**53 - 1
DAY_S = 86_400


def at_books(context: Context, work: Callable[[Ledger], Coroutine[Any, Any, T]]) -> T:
    return books.at_books(context, work, "operator")


def at_fleet(context: Context, work: Callable[[Scheduler], Coroutine[Any, Any, T]]) -> T:
    return publisher.call(context, work, "operator")


def micro_points_of(text: str) -> int:
    """Points with up to six places.

    :raises click.BadParameter: it is not such a number.
    """
    try:
        value = Decimal(text) * MICRO
    except InvalidOperation:
        raise click.BadParameter(f"{text!r} is not a number of points") from None
    if not value.is_finite() or value != value.to_integral_value() or not 0 < value <= MICRO_POINTS_MAX:
        raise click.BadParameter(f"{text!r}: give points above 0, with six places at most")
    return int(value)


@click.group()
def operator() -> None:
    """Run the network: accounts, deposits, tariffs, rewards, redemptions, reviews, fleet, books."""


# ------------------------------------------------------------------ accounts


@operator.group(invoke_without_command=True)
@at_scheduler
@click.pass_context
def accounts(ctx: click.Context) -> None:
    """Accounts and their tokens: list, create, token, revoke."""
    if ctx.invoked_subcommand is None:
        ctx.invoke(accounts_list)


@accounts.command("list")
@at_scheduler
@pass_context
def accounts_list(context: Context) -> None:
    """List accounts."""
    context.out.rows(at_fleet(context, Scheduler.accounts), {"id": "Account", "role": "Role", "name": "Name"})


@accounts.command("create")
@click.argument("role", type=click.Choice(["owner", "publisher", "operator"]))
@click.argument("name")
@at_scheduler
@pass_context
def accounts_create(context: Context, role: str, name: str) -> None:
    """Make an account. Its token is shown once."""
    made = at_fleet(context, lambda scheduler: scheduler.add_account(role, name))
    pairs = [("Account", made.id), ("Role", made.role), ("Name", made.name), ("Token", made.token or "–")]
    context.out.pairs(made, pairs)


@accounts.command("token")
@click.argument("account_id")
@at_scheduler
@pass_context
def accounts_token(context: Context, account_id: str) -> None:
    """Make a further token for an account. It is shown once."""
    token = at_fleet(context, lambda scheduler: scheduler.new_token(account_id))
    context.out.pairs({"token": token}, [("Token", token)])


@accounts.command("revoke")
@click.argument("account_id")
@at_scheduler
@pass_context
def accounts_revoke(context: Context, account_id: str) -> None:
    """Revoke all tokens of an account."""
    at_fleet(context, lambda scheduler: scheduler.revoke_tokens(account_id))
    context.out.line("Revoked.")


@accounts.command("balance")
@click.argument("account_id")
@at_ledger
@pass_context
def accounts_balance(context: Context, account_id: str) -> None:
    """What the ledger holds for an account, in points."""
    found = at_books(context, lambda ledger: ledger.account(account_id))
    context.out.pairs(found, [(heading_of(k), points(v) if type(v) is int else v) for k, v in found.items()])


# ------------------------------------------------------------------ fleet


@operator.group(invoke_without_command=True)
@at_scheduler
@click.pass_context
def fleet(ctx: click.Context) -> None:
    """The devices: list, unbind."""
    if ctx.invoked_subcommand is None:
        ctx.invoke(fleet_list)


@fleet.command("list")
@at_scheduler
@pass_context
def fleet_list(context: Context) -> None:
    """List devices."""
    names = (
        "device_id",
        "owner",
        "state",
        "connected",
        "reachable",
        "reachability",
        "objects",
        "model",
        "version",
        "last_seen",
    )
    columns = {name: name.replace("_", " ").capitalize() for name in names}
    context.out.rows(at_fleet(context, Scheduler.devices), columns)


@fleet.command("unbind")
@click.argument("device_id")
@at_scheduler
@pass_context
def fleet_unbind(context: Context, device_id: str) -> None:
    """Unbind a device that is lost."""
    at_fleet(context, lambda scheduler: scheduler.unbind_device(device_id))
    context.out.line("Unbound.")


# ------------------------------------------------------------------ books


@operator.command()
@click.argument("publisher_id")
@click.argument("amount")
@click.option("--key", help="Idempotency key: the same key again deposits nothing twice.")
@at_ledger
@pass_context
def deposit(context: Context, publisher_id: str, amount: str, key: str | None) -> None:
    """Put AMOUNT points into a publisher's escrow.

    \b
    Example:
      fallow operator deposit pub-hhcq3izdvwglluig 1000
    """
    micro_points = micro_points_of(amount)
    header = None if key is None else {"Idempotency-Key": key}
    answer = at_books(context, lambda ledger: ledger.deposit(publisher_id, micro_points, header))
    found = answer if isinstance(answer, dict) else {}
    pairs = [("Publisher", publisher_id), ("Deposited", points(micro_points))]
    if type(found.get("escrow")) is int:
        pairs.append(("Escrow", points(found["escrow"])))
    context.out.pairs(found or {"micro_points": micro_points}, pairs)


@operator.group(invoke_without_command=True)
@at_ledger
@click.pass_context
def rewards(ctx: click.Context) -> None:
    """What points can be redeemed for: list, add, stock, withdraw."""
    if ctx.invoked_subcommand is None:
        ctx.invoke(rewards_list)


@rewards.command("list")
@at_ledger
@pass_context
def rewards_list(context: Context) -> None:
    """List rewards."""
    columns = {"id": "Reward", "title": "Title", "micro_points": "Points", "stock": "Left", "terms": "Terms"}
    context.out.rows(at_books(context, Ledger.rewards), columns)


@rewards.command("add")
@click.argument("title")
@click.argument("price")
@click.option("--stock", type=click.IntRange(0), help="How many there are; no limit where left out.")
@click.option("--codes", type=click.File("r"), help="Voucher codes, one a line; they are the stock.")
@click.option("--webhook", help="The https address of the provider that fulfils it; its secret is shown once.")
@click.option("--terms", help="What owners are to know before they redeem it.")
@at_ledger
@pass_context
def rewards_add(
    context: Context, title: str, price: str, stock: int | None, codes: Any, webhook: str | None, terms: str | None
) -> None:
    """Offer a reward for PRICE points."""
    micro_points = micro_points_of(price)
    vouchers = None if codes is None else codes_in(codes)
    context.out.members(
        at_books(
            context,
            lambda ledger: ledger.add_reward(title, micro_points, stock, codes=vouchers, webhook=webhook, terms=terms),
        )
    )


def codes_in(file: Any) -> list[str]:
    """One code a line; empty lines are left out.

    :raises ClientError: there is none.
    """
    found = [line.strip() for line in file if line.strip()]
    if not found:
        raise ClientError(f"{file.name} holds no codes", "write one code a line")
    return found


@rewards.command("stock")
@click.argument("reward_id")
@click.option("--more", type=click.IntRange(1), help="So many more.")
@click.option("--codes", type=click.File("r"), help="Further voucher codes, one a line.")
@at_ledger
@pass_context
def rewards_stock(context: Context, reward_id: str, more: int | None, codes: Any) -> None:
    """Add to the stock of a reward."""
    if (more is None) == (codes is None):
        raise click.UsageError("give --more or --codes")
    vouchers = None if codes is None else codes_in(codes)
    context.out.members(at_books(context, lambda ledger: ledger.add_stock(reward_id, codes=vouchers, more=more)))


@rewards.command("withdraw")
@click.argument("reward_id")
@at_ledger
@pass_context
def rewards_withdraw(context: Context, reward_id: str) -> None:
    """Offer a reward no longer. What was redeemed before goes on."""
    at_books(context, lambda ledger: ledger.withdraw_reward(reward_id))
    context.out.line("Withdrawn.")


@operator.group(invoke_without_command=True)
@at_ledger
@click.pass_context
def redemptions(ctx: click.Context) -> None:
    """Redemptions: list, resolve."""
    if ctx.invoked_subcommand is None:
        ctx.invoke(redemptions_list)


@redemptions.command("list")
@at_ledger
@pass_context
def redemptions_list(context: Context) -> None:
    """List redemptions."""
    columns = {
        "id": "Redemption",
        "owner": "Account",
        "reward": "Reward",
        "micro_points": "Points",
        "state": "State",
        "reason": "Reason",
    }
    context.out.rows(at_books(context, Ledger.redemptions), columns)


@redemptions.command("resolve")
@click.argument("redemption_id")
@click.argument("outcome", type=click.Choice(["fulfilled", "voided", "unknown"]))
@at_ledger
@pass_context
def redemptions_resolve(context: Context, redemption_id: str, outcome: str) -> None:
    """Say how a redemption ended. Voided gives the points back."""
    answer = at_books(context, lambda ledger: ledger.resolve_redemption(redemption_id, outcome))
    context.out.members(answer if isinstance(answer, dict) else {"id": redemption_id, "state": outcome})


@operator.command()
@click.option("--days", type=click.IntRange(1, 100), default=7, help="So many of them.")
@at_ledger
@pass_context
def reports(context: Context, days: int) -> None:
    """The daily reports. Fails unless the newest is sound and of yesterday, so that it can watch from cron."""
    found = at_books(context, lambda ledger: ledger.reports(days))
    flat = [one | (one.get("redemptions") or {}) | (one.get("places") or {}) for one in found]
    shown = [
        {
            "day": day_of(int(one.get("day", 0))),
            "sound": bool(one.get("sound")),
            **{name: points(int(one.get(name) or 0)) for name in ("supply", "escrow", "held", "vested", "redeemed")},
            "unaccounted": points(int(one.get("unaccounted") or 0)),
            "differences": one.get("difference_count", 0),
            "unknown": one.get("unknown", 0),
        }
        for one in flat
    ]
    headings = {name: name.capitalize() for name in shown[0]} if shown else {}
    if context.out.as_json:
        context.out.value(found)
    else:
        context.out.rows(shown, headings)
    if not found:
        raise ClientError("there is no report yet", "the first is made when the ledger starts; look at its log")
    if not found[0].get("sound"):
        raise ClientError("the books do not reconcile", "stop redemptions and look at the differences")
    if int(found[0].get("day", 0)) < int(time.time()) // DAY_S - 2:
        raise ClientError("the newest report is old", "look at the ledger's log and clock")


def day_of(day: int) -> str:
    """``YYYY-MM-DD`` (UTC) of a count of days since 1970."""
    return (datetime.date(1970, 1, 1) + datetime.timedelta(days=day)).isoformat()


@operator.group(invoke_without_command=True)
@at_ledger
@click.pass_context
def restores(ctx: click.Context) -> None:
    """Restores from backups, and what devices had that the ledger has not: list, reviewed."""
    if ctx.invoked_subcommand is None:
        ctx.invoke(restores_list)


@restores.command("list")
@at_ledger
@pass_context
def restores_list(context: Context) -> None:
    """List restores, and the batches that were missing."""
    found = at_books(context, Ledger.restores)
    if context.out.as_json:
        context.out.value(found)
        return
    made = {"at": "Id", "backup_at": "Backup of", "entries": "Entries", "reviewed_at": "Reviewed"}
    # The command that reviews a restore names it by its time, as it is.
    context.out.rows([one | {"at": str(one.get("at"))} for one in found.get("restores") or []], made)
    gaps = found.get("gaps") or []
    if gaps:
        context.out.line("Batches that devices had acknowledged, from the first missing up to the next:")
        columns = {"device": "Device", "expected": "First missing", "seen": "Next", "noted_at": "Time"}
        context.out.rows(gaps, columns)


@restores.command("reviewed")
@click.argument("at", type=int, required=False)
@at_ledger
@pass_context
def restores_reviewed(context: Context, at: int | None) -> None:
    """Say that you have looked at what a restore lost: redemptions go on. AT is its id; the newest where left out."""

    async def work(ledger: Ledger) -> dict[str, Any]:
        wanted = at
        if wanted is None:
            known = (await ledger.restores()).get("restores") or []
            if not known:
                raise ClientError("there was no restore")
            wanted = int(known[0]["at"])
        return await ledger.review_restore(wanted)

    context.out.members(at_books(context, work))


@operator.command()
@at_ledger
@pass_context
def reconcile(context: Context) -> None:
    """Recompute the books. Fails unless all accounts sum to zero and nothing differs."""
    found = at_books(context, Ledger.reconciliation)
    context.out.members(found)
    if found.get("sum") != 0 or found.get("differences"):
        raise ClientError("the books do not reconcile", "stop redemptions and look at the differences")
