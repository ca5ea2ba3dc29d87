"""``fallow verify`` computes the books again, ``fallow operator canary`` tells what devices bring."""

from __future__ import annotations

import random
from pathlib import Path

import click
from fallow_wire.fields import encode

from ..audit.run import audit
from ..canary import Found, fetch_one, manifest_of
from ..errors import ClientError
from ..ledger import Ledger
from ..locations import location_of
from ..scheduler import Scheduler
from .context import Context, at_ledger, pass_context
from .operator import at_books, operator
from .output import points

SHOWN_MAX = 20
"""Differences that people see; the JSON form has them all."""


def _head(context: click.Context, parameter: click.Parameter, value: str | None) -> tuple[int, str] | None:
    if value is None:
        return None
    entries, _, digest = value.partition(":")
    if not (entries.isascii() and entries.isdigit() and len(entries) < 17 and len(digest) == 64):
        raise click.BadParameter("give it as ENTRIES:HASH, as it stands in an ack or a root")
    return int(entries), digest


@click.command("verify")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--download", is_flag=True, help="Fetch the books from the ledger into FILE first (operators).")
@click.option("--jwks", type=click.Path(path_type=Path), help="The ledger's keys that you trust, as a JWK set.")
@click.option("--head", callback=_head, metavar="ENTRIES:HASH", help="A head that you kept; it must still be there.")
@at_ledger
@pass_context
def verify(context: Context, file: Path, download: bool, jwks: Path | None, head: tuple[int, str] | None) -> None:
    """Compute a ledger again, offline: chain, sums, and every settlement from its stored inputs.

    FILE is an export (plain or gzip) or a copy of ledger.sqlite; nothing is written to it. Ends with 1 where anything
    differs, and says where. Without --jwks, the keys that FILE names are taken for the ledger's.

    \b
    Examples:
      fallow verify books.ndjson.gz --download
      fallow verify backup/ledger.sqlite --jwks keys.json
    """
    if download:
        at_books(context, lambda ledger: ledger.export(file))
    report = audit(file, jwks, head)
    pairs = [
        ("Entries", report.entries),
        ("Head", report.head),
        ("Sum", points(report.sum)),
        ("Accounts", report.accounts),
        ("Batches", report.batches),
        ("Settlements", report.settlements),
        ("Points", points(report.micro_points)),
        ("Signatures", report.signatures),
        ("Differences", report.differing),
    ]
    context.out.pairs(report, pairs)
    if report.differences and not context.out.as_json:
        columns = {"table": "Table", "row": "Row", "what": "What", "stored": "Stored", "computed": "Computed"}
        context.out.rows(report.differences[:SHOWN_MAX], columns)
    if report.differing:
        raise ClientError(
            f"the books differ in {report.differing} places from what can be computed",
            "keep this file and ask the operator",
        )


CANARY_COUNT_MAX = 1000
"""In one run; a cron job runs again."""


@operator.command("canary")
@click.argument("what")
@click.option("--count", type=click.IntRange(1, CANARY_COUNT_MAX), default=1, show_default=True, help="So many chunks.")
@at_ledger
@pass_context
def canary(context: Context, what: str, count: int) -> None:
    """Fetch chunks of WHAT as a consumer without receipts would, and tell the ledger what devices brought.

    WHAT is an object's address. Run it from places that devices do not know to be yours, such as a phone's hotspot:
    legacy service of a device is worth more after audits that agree, and nothing found wrong is forgotten.

    \b
    Example:
      fallow operator canary http://cdn.example:32550/o/<id>/debian.iso --count 20
    """
    location = location_of(what)

    async def work(ledger: Ledger) -> list[Found]:
        found = []
        async with Scheduler(location.scheduler) as scheduler:
            signed = await manifest_of(scheduler, location.object_id)
            for _ in range(count):
                one = await fetch_one(scheduler, location, signed, random.SystemRandom())
                if one is not None:
                    await ledger.add_audit(encode(one))
                    found.append(one)
        return found

    columns = {"device": "Device", "bytes": "Size", "agreed": "Verified", "reason": "Reason"}
    context.out.rows(at_books(context, work), columns, empty="The origin served all of it.")
