"""``fallow operator tariff``: the points formula, and what another one would have paid."""

from __future__ import annotations

import json
import sys
from typing import Any

import click
from fallow_wire.tariff import ANYWHERE, Tariff

from ..errors import ClientError
from ..ledger import Ledger
from .context import Context, at_ledger, pass_context
from .operator import at_books
from .output import human_bytes, moment, points

SHOWN_MAX = 20
"""Owners whose points change most; --all and the JSON form have the others."""


@click.group(invoke_without_command=True)
@at_ledger
@click.pass_context
def tariff(ctx: click.Context) -> None:
    """The points formula: list, show, diff, publish."""
    if ctx.invoked_subcommand is None:
        ctx.invoke(tariff_list)


@tariff.command("list")
@at_ledger
@pass_context
def tariff_list(context: Context) -> None:
    """List tariffs, newest first, those that are announced too."""
    found = at_books(context, Ledger.tariffs)
    shown = found if context.out.as_json else [one | {"valid_from": moment(int(one["valid_from"]))} for one in found]
    context.out.rows(shown, {"version": "Version", "id": "Tariff", "valid_from": "Valid from"})


@tariff.command("show")
@click.argument("tariff_id", required=False)
@at_ledger
@pass_context
def tariff_show(context: Context, tariff_id: str | None) -> None:
    """Show the tariff in force, or another; its signature is verified."""
    found_id, found = at_books(context, lambda ledger: ledger.tariff(tariff_id))
    context.out.pairs({"id": found_id, "tariff": found}, [("Tariff", found_id), *_pairs(context, found)])


def _pairs(context: Context, found: Tariff) -> list[tuple[str, Any]]:
    say = context.say
    pairs: list[tuple[str, Any]] = [("Version", found.version), ("Valid from", moment(found.valid_from))]
    pairs += [
        (f"{say('Rate')}: {say.state(name)}", f"{points(rate)} / GiB") for name, rate in sorted(found.rates.items())
    ]
    pairs += [(f"{say('Weight')}: {say.state(name)}", f"{weight} ‰") for name, weight in sorted(found.weights.items())]
    caps = found.legacy_caps
    pairs.append(("Without receipts, a device and day", human_bytes(caps.device_day_bytes)))
    pairs.append(("Without receipts, a publisher and day", human_bytes(caps.publisher_day_bytes)))
    for trusted in found.trust or ():
        pairs.append((say("From {count} agreeing audits on", count=trusted.audits), f"{trusted.permille} ‰"))
    for step in sorted(found.quality or (), key=lambda one: one.delivered):
        pairs.append(
            (say("From {share} % of the promised rate on", share=f"{step.delivered / 10:g}"), f"{step.permille} ‰")
        )
    for region, hours in sorted((found.scarcity or {}).items()):
        name = say("elsewhere") if region == ANYWHERE else region
        pairs.append((f"{say('Scarcity')}: {name}", _spans(hours)))
    return pairs


def _spans(hours: tuple[int, ...]) -> str:
    """``00–18 1000 ‰, 18–22 1250 ‰, …`` (UTC)."""
    spans: list[tuple[int, int]] = []
    for hour, permille in enumerate(hours):
        if not spans or spans[-1][1] != permille:
            spans.append((hour, permille))
    ends = [hour for hour, _ in spans[1:]] + [len(hours)]
    told = (f"{start:02d}–{end:02d} {permille} ‰" for (start, permille), end in zip(spans, ends, strict=True))
    return ", ".join(told) + " (UTC)"


@tariff.command("diff")
@click.argument("file", type=click.File("rb"))
@click.option("--all", "everyone", is_flag=True, help="Show every owner, and not those alone whose points change most.")
@at_ledger
@pass_context
def tariff_diff(context: Context, file: Any, everyone: bool) -> None:
    """What the tariff in a JSON FILE would have paid each owner last week, against what was paid. Publishes nothing.

    \b
    Example:
      fallow operator tariff diff spring.json
    """
    document = document_in(file)

    def progress(permille: int) -> None:
        if sys.stderr.isatty():
            click.echo(
                context.say("Going through last week: {percent} %", percent=permille // 10) + "\r", nl=False, err=True
            )

    found = at_books(context, lambda ledger: ledger.tariff_diff(document, progress))
    if context.out.as_json:
        context.out.value(found)
        return
    pairs = [
        ("From", moment(int(found.get("from_at", 0)))),
        ("Until", moment(int(found.get("until_at", 0)))),
        ("Settlements", found.get("settlements", 0)),
        ("Owners", found.get("owner_count", 0)),
        ("Was paid", points(int(found.get("paid", 0)))),
        ("Would be paid", f"{points(int(found.get('would', 0)))}{_change(found)}"),
    ]
    if found.get("capped"):
        pairs.append(("Settlements beyond its legacy caps", found["capped"]))
    context.out.pairs(found, pairs)
    owners = sorted(found["owners"], key=lambda one: abs(int(one["would"]) - int(one["paid"])), reverse=True)
    shown = [
        {"owner": one["owner"], "settlements": one["settlements"], "paid": points(int(one["paid"])),
         "would": points(int(one["would"])), "change": _change(one).strip(" ()") or "–"}
        for one in (owners if everyone else owners[:SHOWN_MAX])
    ]  # fmt: skip
    columns = {"owner": "Account", "settlements": "Settlements", "paid": "Was paid", "would": "Would be paid"}
    context.out.rows(shown, {**columns, "change": "Change"}, empty="Nobody was paid last week.")
    if len(shown) < len(owners):
        context.out.line("{count} owners more: add --all.", count=len(owners) - len(shown))


def _change(sums: dict[str, Any]) -> str:
    paid, would = int(sums.get("paid", 0)), int(sums.get("would", 0))
    return f" ({(would - paid) * 100 / paid:+.1f} %)" if paid else ""


@tariff.command("publish")
@click.argument("file", type=click.File("rb"))
@at_ledger
@pass_context
def tariff_publish(context: Context, file: Any) -> None:
    """Publish the tariff in a JSON FILE. It holds for later service only, and other scarcity a week ahead.

    FILE holds valid_from, rates, weights, legacy_caps, and where wanted trust, quality and scarcity. Look at it before
    with fallow operator tariff diff; what is published is never changed.
    """
    document = document_in(file)
    context.out.members(at_books(context, lambda ledger: ledger.add_tariff(document)))


def document_in(file: Any) -> dict[str, Any]:
    """:raises ClientError: ``file`` holds no JSON object."""
    try:
        document = json.loads(file.read())
    except ValueError as error:
        raise ClientError(f"{file.name} is not JSON: {error}", "correct it") from error
    if not isinstance(document, dict):
        raise ClientError(f"{file.name} holds no JSON object", "correct it")
    return document
