"""For publishers: objects and sites."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

import click
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from ..errors import ClientError
from ..scheduler import PublishedObject, Scheduler
from .context import Context, at_scheduler, pass_context
from .output import human_bytes

T = TypeVar("T")


def call(context: Context, work: Callable[[Scheduler], Coroutine[Any, Any, T]], role: str = "publisher") -> T:
    async def run() -> T:
        async with context.scheduler(role) as scheduler:
            return await work(scheduler)

    return context.run(run())


@click.command()
@click.argument("file")
@click.option("--name", help="The object's name in its address; the file's name where left out.")
@click.option("--type", "media_type", help="Media type; by the file's name where left out.")
@click.option("--replicas", type=click.IntRange(0, 1000), help="So many devices are to hold it.")
@at_scheduler
@pass_context
def publish(context: Context, file: str, name: str | None, media_type: str | None, replicas: int | None) -> None:
    """Publish FILE, or the http address of a file below a registered site.

    \b
    Examples:
      fallow publish debian.iso --replicas 4
      fallow publish https://origin.example/files/a.mp4
    """

    async def work(scheduler: Scheduler) -> PublishedObject:
        if file.startswith(("http://", "https://")):
            return await scheduler.publish_origin(file, name, replicas)
        return await _upload(scheduler, Path(file), name, media_type, replicas)

    published = call(context, work)
    pairs: list[tuple[str, Any]] = [
        ("Object", published.id),
        ("Address", published.url),
        ("Size", human_bytes(published.size)),
        ("Type", published.type),
    ]
    scheduler, found, _ = published.url.partition("/o/")
    if found and published.type.startswith("video/"):
        pairs.append(("Watch", f"{scheduler}/watch/{published.id}"))
    context.out.pairs(published, pairs)


async def _upload(
    scheduler: Scheduler, path: Path, name: str | None, media_type: str | None, replicas: int | None
) -> PublishedObject:
    if not path.is_file():  # noqa: ASYNC240 - one call before anything runs
        raise ClientError(f"{path} is not a file", "give a file, or an http address below a registered site")
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=console, disable=not console.is_terminal) as progress:
        bar = progress.add_task(path.name, total=path.stat().st_size)  # noqa: ASYNC240 - as above

        def sent(length: int) -> None:
            progress.advance(bar, length)

        return await scheduler.publish(path, name=name, media_type=media_type, replicas=replicas, progress=sent)


@click.group(invoke_without_command=True)
@at_scheduler
@click.pass_context
def objects(ctx: click.Context) -> None:
    """Your objects: list, show, delete."""
    if ctx.invoked_subcommand is None:
        ctx.invoke(objects_list)


@objects.command("list")
@at_scheduler
@pass_context
def objects_list(context: Context) -> None:
    """List your objects."""
    columns = {"id": "Object", "name": "Name", "size": "Size", "type": "Type", "replicas_wanted": "Replicas"}
    context.out.rows(call(context, Scheduler.objects), columns)


@objects.command("show")
@click.argument("object_id")
@at_scheduler
@pass_context
def objects_show(context: Context, object_id: str) -> None:
    """Show an object and where it is."""
    context.out.members(call(context, lambda scheduler: scheduler.object(object_id)))


@objects.command("delete")
@click.argument("object_id")
@at_scheduler
@pass_context
def objects_delete(context: Context, object_id: str) -> None:
    """Delete an object, here and on the devices."""
    call(context, lambda scheduler: scheduler.delete_object(object_id))
    context.out.line("Deleted.")


@click.group(invoke_without_command=True)
@at_scheduler
@click.pass_context
def sites(ctx: click.Context) -> None:
    """Origins that may be pulled from: list, add, delete."""
    if ctx.invoked_subcommand is None:
        ctx.invoke(sites_list)


@sites.command("list")
@at_scheduler
@pass_context
def sites_list(context: Context) -> None:
    """List your sites."""
    context.out.rows(call(context, Scheduler.sites), {"name": "Site", "origin": "Origin"})


@sites.command("add")
@click.argument("name")
@click.argument("origin")
@at_scheduler
@pass_context
def sites_add(context: Context, name: str, origin: str) -> None:
    """Mirror ORIGIN below /s/NAME/.

    \b
    Example:
      fallow sites add debian https://deb.debian.org/debian
    """
    context.out.members(call(context, lambda scheduler: scheduler.add_site(name, origin)))


@sites.command("delete")
@click.argument("name")
@at_scheduler
@pass_context
def sites_delete(context: Context, name: str) -> None:
    """Stop mirroring a site."""
    call(context, lambda scheduler: scheduler.delete_site(name))
    context.out.line("Deleted.")
