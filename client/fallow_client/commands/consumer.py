"""For consumers: fetch."""

from __future__ import annotations

import sys
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TransferSpeedColumn

from ..errors import ClientError
from ..fetch import FetchResult, fetch
from ..fetch_plan import ORIGIN
from ..locations import location_of
from ..part_file import OrderedStream, PartFile, Sink
from .context import Context, json_option, pass_context, scheduler_option
from .output import clean, human_bytes


class ProgressBars:
    """A bar for the whole, and one for each source that brings bytes."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._whole: TaskID | None = None
        self._size = 0
        self._bars: dict[str, TaskID] = {}

    def started(self, name: str, size: int, held_bytes: int) -> None:
        self._size = size
        self._whole = self._progress.add_task(clean(name), total=size, completed=held_bytes)

    def got(self, source: str, length: int) -> None:
        if source not in self._bars:
            self._bars[source] = self._progress.add_task("  " + source, total=self._size)
        self._progress.advance(self._bars[source], length)
        if self._whole is not None:
            self._progress.advance(self._whole, length)

    def dropped(self, source: str, why: str) -> None:
        self._progress.console.print(f"{source} was dropped: {clean(why)}", markup=False, highlight=False)


@click.command("fetch")
@click.argument("what")
@click.option("-o", "--output", help="File or directory to write to; - for standard output.")
@click.option("--quiet", is_flag=True, help="No progress bar.")
@scheduler_option
@json_option
@pass_context
def fetch_command(context: Context, what: str, output: str | None, quiet: bool) -> None:
    """Fetch an object from several devices at once. WHAT is its address, or its id with --scheduler.

    Every chunk is verified before it is used. A fetch that was stopped resumes from its .part file.

    \b
    Examples:
      fallow fetch http://cdn.example:32550/o/<id>/debian.iso
      fallow fetch <id> --scheduler http://cdn.example:32550 -o - | tar x
    """
    scheduler = context.options.get("scheduler")
    if scheduler is None and "://" not in what:
        scheduler = context.profile("consumer").scheduler
    location = location_of(what, scheduler)
    path: list[Path] = []

    def sink_of(name: str) -> Sink:
        if output == "-":
            return OrderedStream(sys.stdout.buffer)
        target = Path(output or name)
        if target.is_dir():
            target = target / name
        if not target.parent.is_dir():
            raise ClientError(f"{target.parent} is not a directory", "make it first, or give another by -o")
        path.append(target)
        return PartFile(target)

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=console, disable=quiet or context.out.as_json or not console.is_terminal) as bars:
        result = context.run(fetch(location, sink_of, observer=ProgressBars(bars)))
    _report(context, result, path[0] if path else None)


def _report(context: Context, result: FetchResult, path: Path | None) -> None:
    value = {
        "object": result.object_id,
        "path": str(path) if path else "-",
        "size": result.size,
        "bytes_by_source": result.bytes_by_source,
        "resumed_bytes": result.resumed_bytes,
        "ms": int(result.seconds * 1000),
        "dropped": result.dropped,
        "verified": result.verified,
    }
    if path is None:
        return  # standard output is the file
    if context.out.as_json:
        context.out.value(value)
        return
    sources = sorted(result.bytes_by_source.items(), key=lambda item: (item[0] == ORIGIN, item[0]))
    pairs = [("File", str(path)), ("Size", human_bytes(result.size))]
    pairs += [(source, human_bytes(count)) for source, count in sources]
    if result.resumed_bytes:
        pairs.append(("Was there", human_bytes(result.resumed_bytes)))
    rate = sum(result.bytes_by_source.values()) / max(result.seconds, 0.001)
    pairs.append(("Time", f"{result.seconds:.1f} s ({human_bytes(int(rate))}/s)"))
    pairs.append(("Verified", context.say("every chunk, against the signed manifest")))
    context.out.pairs(value, pairs)
