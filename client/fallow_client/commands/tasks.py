"""For publishers: network tasks, what came of them, and why."""

from __future__ import annotations

import time
from typing import Any

import click

from ..scheduler import Scheduler
from .context import Context, at_scheduler, pass_context
from .output import moment
from .publisher import call

COLUMNS = {
    "id": "Task",
    "kind": "Kind",
    "what": "Target",
    "state": "State",
    "replicas": "Devices",
    "deadline": "Deadline",
}
MS = {"lookup_ms": "Lookup", "connect_ms": "Connection", "secured_ms": "TLS", "first_byte_ms": "First byte",
      "total_ms": "Whole"}  # fmt: skip


@click.group(invoke_without_command=True)
@at_scheduler
@click.pass_context
def tasks(ctx: click.Context) -> None:
    """Network tasks: add, list, show, why, results, cancel."""
    if ctx.invoked_subcommand is None:
        ctx.invoke(tasks_list)


@tasks.command("list")
@at_scheduler
@pass_context
def tasks_list(context: Context) -> None:
    """List your tasks."""
    found = call(context, Scheduler.tasks)
    if not context.out.as_json:
        found = [{**task, "what": task.get("object") or _target(task)} for task in found]
    context.out.rows(found, COLUMNS)


@tasks.command("show")
@click.argument("task_id")
@at_scheduler
@pass_context
def tasks_show(context: Context, task_id: str) -> None:
    """Show a task and its progress on each device."""
    found = call(context, lambda scheduler: scheduler.task(task_id))
    if context.out.as_json:
        context.out.value(found)
        return
    placements = found.pop("placements", [])
    for name in ("needs", "parameters"):
        if name in found:
            found[name] = _listed(found[name])
    context.out.members(found)
    columns = {"device": "Device", "state": "State", "bytes_done": "Bytes done", "reason": "Reason"}
    context.out.rows(placements, columns, empty="On no device yet.")


@tasks.command("add")
@click.argument("kind", type=click.Choice(["fill", "drop", "probe", "live"]))
@click.option("--object", "object_id", help="The object's id.")
@click.option("--replicas", type=click.IntRange(1, 1000), help="On so many devices.")
@click.option("--within", "minutes", type=click.IntRange(1), help="To be done within so many minutes.")
@click.option("--region", "regions", multiple=True, help="In this country, such as DE; may be given again.")
@click.option("--idle-mbps", type=click.FloatRange(0), help="With so much idle upload, in Mbit/s.")
@click.option("--upload-gb", type=click.FloatRange(0), help="With so much idle upload until the deadline, in GB.")
@click.option("--disk-gb", type=click.FloatRange(0), help="With so much free disk, in GB.")
@click.option("--processor", type=click.IntRange(0, 100), help="With so much of the processor spare, in percent.")
@click.option("--ports", type=click.Choice(["any", "ipv4", "ipv6"]), help="Reachable from the internet.")
@click.option("--price-max", type=click.IntRange(0), help="While a GiB costs at most so many µp.")
@click.option("--test", type=click.Choice(["tcp", "http", "dns"]), help="What a probe measures.")
@click.option("--target", help="What a probe measures at: host, address or name.")
@click.option("--port", type=int, help="Port of a tcp probe: 80, 443, 8080 or 8443.")
@click.option("--family", type=click.Choice(["ipv4", "ipv6"]), help="Measure by this family of addresses only.")
@click.option("--count", type=click.IntRange(1, 5), help="Measure so often on each device, a second apart.")
@click.option("--playlist", help="Address of a live stream's playlist, below a site of yours.")
@click.option("--parameter", "more", multiple=True, metavar="NAME=VALUE", help="A further parameter of the kind.")
@at_scheduler
@pass_context
def tasks_add(
    context: Context,
    /,
    kind: str,
    object_id: str | None,
    replicas: int | None,
    minutes: int | None,
    more: tuple[str, ...],
    **given: Any,
) -> None:
    """Ask the network for something.

    \b
    Examples:
      fallow tasks add fill --object <id> --replicas 4 --region DE --region AT
      fallow tasks add live --playlist https://origin.example/live/index.m3u8 --replicas 8
      fallow tasks add probe --test http --target https://www.example.org/ --replicas 10 --count 3
    """
    if kind in ("fill", "drop") and object_id is None:
        raise click.UsageError("a fill or drop needs --object")
    if kind == "live" and given["playlist"] is None:
        raise click.UsageError("a live task needs --playlist")
    deadline = None if minutes is None else int(time.time()) + minutes * 60
    needs, parameters = _needs(given), _parameters(given, more)
    found = call(
        context,
        lambda scheduler: scheduler.add_task(
            kind, object_id=object_id, replicas=replicas, deadline=deadline, needs=needs, parameters=parameters
        ),
    )
    if not context.out.as_json:
        found = {name: _listed(item) if name in ("needs", "parameters") else item for name, item in found.items()}
        found.pop("placements", None)
    context.out.members(found)


def _target(task: dict[str, Any]) -> str | None:
    parameters = task.get("parameters", {})
    found: str | None = parameters.get("target") or parameters.get("address")
    return found


def _needs(given: dict[str, Any]) -> dict[str, Any]:
    needs = {
        "regions": [region.upper() for region in given["regions"]] or None,
        "up_bps": _whole(given["idle_mbps"], 10**6),
        "bytes": _whole(given["upload_gb"], 10**9),
        "disk_bytes": _whole(given["disk_gb"], 10**9),
        "processor_percent": given["processor"],
        "ports": given["ports"],
        "price_max": given["price_max"],
    }
    return {name: value for name, value in needs.items() if value is not None}


def _whole(value: float | None, unit: int) -> int | None:
    return None if value is None else int(value * unit)


def _parameters(given: dict[str, Any], more: tuple[str, ...]) -> dict[str, str]:
    named = {
        name: str(given[name])
        for name in ("test", "target", "port", "family", "count", "playlist")
        if given[name] is not None
    }
    for text in more:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise click.BadParameter(
                "give a name and its value, such as path=live/index.m3u8", param_hint="--parameter"
            )
        named[name] = value
    return named


@tasks.command("why")
@click.argument("task_id")
@at_scheduler
@pass_context
def tasks_why(context: Context, task_id: str) -> None:
    """Why a task is where it is: which devices were refused by what, and how the others compared."""
    found = call(context, lambda scheduler: scheduler.task_why(task_id))
    if context.out.as_json:
        context.out.value(found)
        return
    out, say = context.out, context.say
    if "now" in found:
        out.line("It wants more devices. As of now:")
        _decision(context, found["now"])
    for decision in found["decisions"]:
        out.line("Decided at {at}:", at=moment(decision["decided_at"]))
        _decision(context, decision)
    if "now" not in found and not found["decisions"]:
        out.line("Nothing was decided yet: it is {state}.", state=say.state(found["state"]))


def _decision(context: Context, decision: dict[str, Any]) -> None:
    out = context.out
    out.line("{wanted} wanted; {fit} of {looked} devices that were looked at could do it.",
             wanted=decision["wanted"], fit=decision["candidates"], looked=decision["considered"])  # fmt: skip
    refused = [
        {"reason": context.say.reason(reason), "devices": one["devices"], "for_example": ", ".join(one["for_example"])}
        for reason, one in decision["refused"].items()
    ]
    if refused:
        out.rows(refused, {"reason": "Refused because", "devices": "Devices", "for_example": "Such as"})
    best = [
        {
            "device": one["device"],
            "chosen": one["chosen"],
            "score": f"{one['score_permille']['value'] / 1000:.3f}",
            "parts": ", ".join(
                f"{name} {part / 1000:.3f}" for name, part in one["score_permille"].items() if name != "value"
            ),
        }
        for one in decision["best"]
    ]
    if best:
        out.rows(best, {"device": "Device", "chosen": "Chosen", "score": "Score", "parts": "Of these parts"})


@tasks.command("results")
@click.argument("task_id")
@at_scheduler
@pass_context
def tasks_results(context: Context, task_id: str) -> None:
    """What devices measured for a probe, in milliseconds."""
    found = call(context, lambda scheduler: scheduler.task_results(task_id))
    if context.out.as_json:
        context.out.value(found)
        return
    rows = []
    for one in found:
        for attempt in one["attempts"]:
            row = {"device": one["device"], "country": one.get("country"), "asn": one.get("asn"), **attempt}
            row["addresses"] = ", ".join(attempt.get("addresses", ()))
            rows.append(row)
    # What nobody has is no column.
    wide = {
        "country": "Country",
        "asn": "AS",
        **dict(MS),
        "status": "Status",
        "addresses": "Addresses",
        "error": "Error",
    }
    used = {name: heading for name, heading in wide.items() if any(row.get(name) not in (None, "") for row in rows)}
    context.out.rows(rows, {"device": "Device", **used}, empty="No device has measured yet.")


@tasks.command("cancel")
@click.argument("task_id")
@at_scheduler
@pass_context
def tasks_cancel(context: Context, task_id: str) -> None:
    """Cancel a task."""
    call(context, lambda scheduler: scheduler.delete_task(task_id))
    context.out.line("Cancelled.")


def _listed(named: dict[str, Any]) -> str:
    """What is asked for; what is not is left out."""
    texts = {name: ",".join(value) if isinstance(value, list) else value for name, value in named.items()}
    return ", ".join(f"{name}={text}" for name, text in texts.items() if text not in ("", 0, "none"))
