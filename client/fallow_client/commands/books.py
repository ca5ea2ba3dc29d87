"""For whoever has an account: statements, and how a point came about."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

import click
from fallow_wire.statements import Statement

from ..errors import ApiError, ClientError
from ..ledger import MINE, Ledger
from ..messages import language_of
from .context import Context, at_ledger, pass_context
from .output import human_bytes, moment, points

T = TypeVar("T")
OTHERWISE = {
    "countersigned": "With a downloader who signs receipts",
    "all-confirmed": "With receipts for all that was sent",
    "reachable-port": "With a port reachable all the time, in proportion",
}
"""What a settlement would have been worth otherwise, by the ledger's name for the case."""


def at_books(context: Context, work: Callable[[Ledger], Coroutine[Any, Any, T]], role: str) -> T:
    async def run() -> T:
        async with context.ledger(role) as ledger:
            return await work(ledger)

    return context.run(run())


@click.command()
@click.argument("month", required=False)
@click.option("--account", default=MINE, show_default=False, help="The account, for operators; yours where left out.")
@click.option("--format", "form", type=click.Choice(["text", "csv", "html"]), default="text", help="How to write it.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="File to write to.")
@at_ledger
@pass_context
def statements(context: Context, month: str | None, account: str, form: str, output: Path | None) -> None:
    """Your monthly statements, signed by the ledger; without MONTH, which there are.

    \b
    Examples:
      fallow statements
      fallow statements 2026-10
      fallow statements 2026-10 --format html -o october.html
    """
    role = "owner" if account == MINE else "operator"
    if month is None:
        found = at_books(context, lambda ledger: ledger.months(account), role)
        context.out.rows(found, {"month": "Month", "complete": "Complete"})
        return
    wanted = month
    if form == "text":
        if output is not None:
            raise click.UsageError("-o goes with --format csv or html")
        _show(context, at_books(context, lambda ledger: ledger.statement(account, wanted), role))
        return
    language = language_of(context.environ)
    text = at_books(context, lambda ledger: ledger.printed_statement(account, wanted, form, language), role)
    if output is None:
        click.echo(text, nl=False)
        return
    try:
        output.write_text(text, encoding="utf-8", newline="")
    except OSError as error:
        raise ClientError(f"{output}: {error.strerror}", "give another file by -o") from error
    context.out.line("Written to {file}; its signature was verified.", file=output)


def _show(context: Context, found: Statement) -> None:
    say = context.say
    pairs: list[tuple[str, str]] = [
        ("Account", found.account),
        ("Month", found.month),
        ("Complete", "yes" if found.complete else "no"),
    ]
    for name in sorted({*found.opening, *found.closing}):
        before, after = points(found.opening.get(name, 0)), points(found.closing.get(name, 0))
        pairs.append((f"{say.state(name)}", f"{before} → {after}"))
    for line in found.services:
        what = f"{say.state(line.service)}, {say.state(line.tier)}"
        pairs.append((what, f"{line.settlements} / {human_bytes(line.bytes)} / {points(line.micro_points)}"))
    context.out.pairs(found, pairs)


@click.command()
@click.argument("jti")
@at_ledger
@pass_context
def settlement(context: Context, jti: str) -> None:
    """How the points of one delivery (its ticket's id) came about, and what they would have been otherwise."""

    async def work(ledger: Ledger) -> dict[str, Any]:
        try:
            return await ledger.settlement(jti)
        except ApiError as error:
            if error.problem.status == 404:
                raise ClientError(f"there is no settlement of {jti} for you", "check the ticket's id") from error
            raise

    found = at_books(context, work, "owner")
    factors = found.get("factors") or {}
    pairs = [
        ("Time", moment(int(found.get("booked_at", 0)))),
        ("Device", found.get("device", "–")),
        ("Service", context.say.state(str(found.get("service", "–")))),
        ("Tier", context.say.state(str(found.get("tier", "–")))),
        ("Data", human_bytes(int(factors.get("bytes", 0)))),
        ("Rate", f"{points(int(factors.get('rate', 0)))} / GiB"),
        ("Quality", f"{factors.get('quality', '–')} ‰{_of_promised(context, found)}"),
        ("Scarcity", f"{factors.get('scarcity', '–')} ‰" + (f" ({found['region']})" if "region" in found else "")),
        ("Weight", f"{factors.get('weight', '–')} ‰"),
        ("Points", points(int(found.get("micro_points", 0)))),
        ("Redeemable from", moment(int(found.get("matures_at", 0)))),
    ]
    if "late_at" in found:
        pairs.append(("Half of it from", moment(int(found["late_at"]))))
    if reversal := found.get("reversed"):
        pairs.append(("Taken back", f"{points(int(reversal.get('micro_points', 0)))}: {reversal.get('reason', '')}"))
    for other in found.get("otherwise") or []:
        heading = OTHERWISE.get(str(other.get("if")), str(other.get("if")))
        change = ""
        for name, sign in (("more_permille", "+"), ("less_permille", "-")):
            if type(other.get(name)) is int:
                change = f" ({sign}{other[name] / 10:.1f} %)"
        pairs.append((heading, points(int(other.get("micro_points", 0))) + change))
    for missing in found.get("not_told") or []:
        heading = OTHERWISE.get(str(missing.get("if")), str(missing.get("if")))
        pairs.append((heading, context.say.sentence(str(missing.get("why", "")))))
    context.out.pairs(found, pairs)


def _of_promised(context: Context, found: dict[str, Any]) -> str:
    """What consumers had measured of the device, where that is known."""
    if type(found.get("delivered")) is not int:
        return ""
    share = f"{found['delivered'] / 10:g}"
    return f" ({context.say('{share} % of the promised rate', share=share)})"
