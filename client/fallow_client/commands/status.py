"""``fallow status``: what a device does now, what holds it back, and its record of doing no harm."""

from __future__ import annotations

from typing import Any

import click
from fallow_wire.errors import PeerError
from fallow_wire.harm import total_of, verify_harm

from .context import Context, at_device, pass_context
from .output import human_bps, human_bytes, moment

_PROTOCOLS = {"pcp": "PCP", "natpmp": "NAT-PMP", "upnp": "UPnP"}


@click.command()
@click.option("--watch", is_flag=True, help="Go on showing it until Ctrl-C.")
@at_device
@pass_context
def status(context: Context, watch: bool) -> None:
    """What the device does now: line, disk, sessions, proofs."""

    async def work() -> None:
        async with await context.device() as device:
            if not watch:
                _show_status(context, await device.status())
                return
            async for event in device.events():
                if not context.out.as_json:
                    click.clear()
                _show_status(context, event)

    context.run(work())


def _show_status(context: Context, found: dict[str, Any]) -> None:
    line, disk = found.get("line") or {}, found.get("disk") or {}
    content, today = found.get("content") or {}, found.get("today") or {}
    uplink, proofs = found.get("uplink") or {}, found.get("proofs") or {}
    connections, flash = found.get("connections") or {}, found.get("flash") or {}
    refusal, celsius = found.get("refusal") or {}, (found.get("processor") or {}).get("temperature_c")
    written = human_bytes(flash.get("written_bytes_today", 0))
    context.out.pairs(
        found,
        [
            ("State", found.get("state", "–")),
            ("Scheduler", "connected" if uplink.get("connected") else _away(context, uplink.get("error"))),
            ("Reachable from outside", _reached(context, found)),
            ("Serves nobody", context.say.sentence(str(refusal.get("detail", "")).rstrip(".")) or "–"),
            ("Upload line", human_bps(line.get("up_capacity_bps", 0))),
            *_speedtest_pairs(context, found.get("speedtest")),
            ("Household uses", _household(context, found, line)),
            ("Fallow uses", human_bps(line.get("own_up_bps", 0))),
            ("Fallow may use", human_bps(found.get("budget_up_bps", 0))),
            ("Processor and heat leave", f"{found.get('headroom_permille', 1000) // 10} %"),
            ("Temperature", "–" if celsius is None else f"{celsius} °C"),
            ("Connections", f"{connections.get('open', 0)} / {connections.get('max', 0)}"),
            ("Turned away today", connections.get("refused_today", 0)),
            ("Content", f"{content.get('objects', 0)} / {human_bytes(content.get('bytes', 0))}"),
            ("Free disk", human_bytes(disk.get("free_bytes", 0))),
            ("Written today", f"{written} / {human_bytes(flash['bytes_max'])}" if flash.get("bytes_max") else written),
            ("Sessions", len(found.get("sessions") or [])),
            ("Served today", human_bytes(today.get("bytes_up", 0))),
            ("Yields today", today.get("yields", 0)),
            ("Proofs waiting", proofs.get("waiting", 0)),
            *_update_pairs(found.get("update")),
            *_harm_pairs(context, found.get("do_no_harm")),
        ],
    )


def _speedtest_pairs(context: Context, found: Any) -> list[tuple[str, Any]]:
    """The owner's last speed test; nothing before the first one."""
    if not isinstance(found, dict):
        return []
    if found.get("state") != "done":
        error = found.get("error") or {}
        why = context.say.sentence(str(error.get("title", "")).rstrip("."))
        return [("Speed test", why or found.get("state", "–"))]
    up, down = human_bps(found.get("up_bps", 0)), human_bps(found.get("down_bps", 0))
    note = "" if found.get("counts") else " – " + context.say("it was used meanwhile")
    return [("Speed test", f"↑ {up}  ↓ {down}  {moment(found.get('measured_at', 0))}{note}")]


def _update_pairs(found: Any) -> list[tuple[str, Any]]:
    """The version that the network advises, where the device has an older one."""
    return [("Update advised", found.get("version", "–"))] if isinstance(found, dict) else []


def _harm_pairs(context: Context, token: Any) -> list[tuple[str, Any]]:
    """The do-no-harm record of all its days in a few lines, and whether the device really signed it."""
    if not isinstance(token, str):
        return []
    say = context.say
    try:
        record = verify_harm(token).value
    except PeerError as error:
        return [("Do-no-harm record", say("not to be believed: {reason}", reason=error.detail))]
    total = total_of(record.days)
    taken, added = total.yield_ms_mean, total.added_rtt_ms
    return [
        ("Do-no-harm record", say("{days} days, signed by {device}", days=len(record.days), device=record.did)),
        ("Hours shared", f"{total.shared_s / 3600:.1f}"),
        ("Yields to the household", total.yields),
        ("Time to yield", "–" if taken is None else f"{taken:.0f} ms, " + say("at most") + f" {total.yield_ms_max} ms"),
        ("Minutes over budget", f"{total.over_budget_s / 60:.1f}"),
        ("Added round trip", say("not compared yet") if added is None else f"{added:+.1f} ms"),
    ]


def _away(context: Context, error: Any) -> str:
    """Why there is no session, in a line; a dormant device has none and no reason."""
    if not isinstance(error, dict):
        return "not connected"
    return _told(context, error) or "not connected"


def _reached(context: Context, found: dict[str, Any]) -> str:
    """Where the scheduler has come in from outside and who let it, or what the owner can do."""
    ports = found.get("ports") or {}
    urls = (ports.get("seen") or {}).get("urls") or []
    if not urls:
        return _told(context, ports.get("advice") or {}) or "–"
    by = {port["mapped_by"] for port in (found.get("environment") or {}).get("service_ports") or []}
    opened = [
        context.say("opened by your router: {by}", by=_PROTOCOLS[name]) for name in sorted(by & _PROTOCOLS.keys())
    ]
    return "; ".join([", ".join(str(url).removeprefix("http://") for url in urls), *opened])


def _told(context: Context, problem: dict[str, Any]) -> str:
    """What is wrong and what to do, in a line."""
    names = ("title", "remedy")
    return "; ".join(context.say.sentence(str(problem[name]).rstrip(".")) for name in names if problem.get(name))


def _household(context: Context, found: dict[str, Any], line: dict[str, Any]) -> str:
    """A device behind a router that tells nothing sees no household, which is not the same as an idle one."""
    if found.get("household_seen_by") == "queue":
        return context.say("not seen from here; a queue tells")
    return human_bps(line.get("household_up_bps", 0))
