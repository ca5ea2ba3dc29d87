"""For owners: find, activate and steer devices on this LAN."""

from __future__ import annotations

import asyncio
import re
import time
from typing import Any

import click
from fallow_wire.errors import Malformed
from fallow_wire.fields import decode
from fallow_wire.lan import Limits

from ..discovery import find_devices
from ..errors import ClientError, SettingsError
from ..lan_device import LanDevice
from ..messages import TERMS
from ..scheduler import Claim
from .context import Context, at_device, json_option, pass_context, profile_option, scheduler_option
from .output import human_bps, human_bytes, moment

ACTIVATION_S = 90
_HOURS = re.compile(r"(?P<days>[0-6](?:[-,][0-6])*)@(?P<h1>\d{1,2}):(?P<m1>\d\d)-(?P<h2>\d{1,2}):(?P<m2>\d\d)\Z")
DAY_MIN = 24 * 60


@click.command()
@click.option("--wait", "wait_s", type=click.FloatRange(0.1, 60), default=3.0, help="How long to listen, in seconds.")
@json_option
@pass_context
def devices(context: Context, wait_s: float) -> None:
    """Find the devices on this network (mDNS)."""
    found = context.run(find_devices(wait_s))
    value = [
        {"device_id": d.device_id, "state": d.state, "url": d.url, "host": d.host, "addresses": list(d.addresses)}
        for d in found
    ]
    columns = {"device_id": "Device", "state": "State", "url": "Address", "host": "Name"}
    context.out.rows(value, columns, empty="No device answers on this network. Multicast may be blocked; try --device.")


@click.command()
@click.option("--setup-code", envvar="FALLOW_SETUP_CODE", help="On the device's label; or: fallow-agent setup-code.")
@click.option("--claim-token", envvar="FALLOW_CLAIM_TOKEN", help="From the scheduler; made for you when logged in.")
@click.option("--accept-terms", is_flag=True, help="You have read the terms and accept them (for scripts).")
@click.option("--upload-percent", type=click.IntRange(0, 100), help="Share of the upload that may be used.")
@scheduler_option
@at_device
@pass_context
def activate(
    context: Context, setup_code: str | None, claim_token: str | None, accept_terms: bool, upload_percent: int | None
) -> None:
    """Bind a device to your account, with your consent.

    \b
    Examples:
      fallow activate
      fallow activate --device 192.168.1.1 --setup-code 1234-5678 --accept-terms
    """
    context.run(_activate(context, setup_code, claim_token, accept_terms, upload_percent))


async def _activate(
    context: Context, setup_code: str | None, claim_token: str | None, accept_terms: bool, upload_percent: int | None
) -> None:
    say, out = context.say, context.out
    async with await context.device(with_token=False, state="dormant") as device:
        info = await device.info()
        if info.state != "dormant":
            raise ClientError(
                f"{info.device_id} is {info.state} already", "fallow leave, or fallow pair for a new phone"
            )
        if not accept_terms:
            click.echo(say(TERMS, version=info.terms_version), err=True)
            if not click.confirm(say("Do you accept these terms?"), err=True):
                raise ClientError("the terms were not accepted; nothing was changed")
        if setup_code is None:
            setup_code = click.prompt(say("Setup code of the device"), err=True)
        scheduler_url = context.profile("owner").scheduler
        if claim_token is None:
            async with context.scheduler("owner") as scheduler:
                claim_token = (await scheduler.claim()).claim_token
        if scheduler_url is None:
            raise SettingsError("no scheduler is known", "give --scheduler URL")
        limits = None if upload_percent is None else Limits(upload_percent_max=upload_percent)
        activated = await device.activate(
            scheduler_url, claim_token, setup_code, accept_terms_version=info.terms_version, limits=limits
        )
        context.remember_device(info.device_id, device.base_url, activated.lan_token)
        state = await _settled(device)
    value = {"device_id": info.device_id, "state": state, "url": device.base_url, "lan_token": activated.lan_token}
    if out.as_json:
        out.value(value)
    out.line("{device} is active. Its token is kept for further commands.", device=info.device_id)


async def _settled(device: LanDevice) -> str:
    """Wait until an activation has worked.

    :raises ClientError: it failed, or takes too long.
    """
    until = time.monotonic() + ACTIVATION_S
    while time.monotonic() < until:
        now = await device.activation()
        if now.state in ("active", "paused"):
            return now.state
        if now.state == "dormant":
            why = now.error.detail or now.error.title if now.error else "the device gives no reason"
            raise ClientError(f"the activation failed: {why}", now.error.remedy if now.error else "try again")
        await asyncio.sleep(0.5)
    raise ClientError("the device is still activating", "look again later: fallow status")


@click.command()
@scheduler_option
@profile_option
@json_option
@pass_context
def claim(context: Context) -> None:
    """Get a claim token, to activate a device where you are not logged in. It works once, for ten minutes.

    \b
    Example:
      fallow activate --claim-token <claim token> --scheduler http://cdn.example:32550
    """

    async def work() -> Claim:
        async with context.scheduler("owner") as scheduler:
            return await scheduler.claim()

    made = context.run(work())
    pairs = [("Claim token", made.claim_token), ("Scheduler", context.profile("owner").scheduler or "–")]
    context.out.pairs(made, [*pairs, ("Valid until", moment(made.expires_at))])


@click.command()
@click.option("--setup-code", prompt="Setup code of the device", envvar="FALLOW_SETUP_CODE", help="On its label.")
@at_device
@pass_context
def pair(context: Context, setup_code: str) -> None:
    """Get a token for a device that another phone activated."""

    async def work() -> None:
        async with await context.device(with_token=False) as device:
            device_id = (await device.info()).device_id
            context.remember_device(device_id, device.base_url, await device.new_lan_token(setup_code))
            if context.out.as_json:
                context.out.value({"device_id": device_id, "lan_token": device.token})
            context.out.line("Paired with {device}.", device=device_id)

    context.run(work())


def hours_of(text: str) -> dict[str, Any]:
    """``0-4@22:00-06:00``: days 0 (Monday) … 6, then the window.

    :raises click.BadParameter: it is not of this form.
    """
    found = _HOURS.match(text)
    if found is None:
        raise click.BadParameter(f"{text!r}: give days and times such as 0-4@22:00-06:00 (0 is Monday)")
    days: set[int] = set()
    for part in found["days"].split(","):
        first, _, last = part.partition("-")
        days |= set(range(int(first), int(last or first) + 1))
    start, end = int(found["h1"]) * 60 + int(found["m1"]), int(found["h2"]) * 60 + int(found["m2"])
    if not days or start >= DAY_MIN or not 1 <= end <= DAY_MIN:
        raise click.BadParameter(f"{text!r}: times go from 00:00 to 24:00")
    return {"days": sorted(days), "start_min": start, "end_min": end}


@click.command()
@click.option("--upload-mbps", type=click.FloatRange(0), help="Upload at most, in Mbit/s.")
@click.option("--upload-percent", type=click.IntRange(0, 100), help="Share of the upload that may be used.")
@click.option("--monthly-gb", type=click.FloatRange(0), help="Traffic in a month at most, in GB: served and fetched.")
@click.option("--content-gb", type=click.FloatRange(0), help="Disk for content at most, in GB.")
@click.option("--connections", type=click.IntRange(0, 10_000), help="Consumers at once, at most.")
@click.option("--hours", multiple=True, help="When it may serve, such as 0-4@22:00-06:00; may be given again.")
@click.option("--service", multiple=True, help="Allow or refuse a service: object=on, fill=off, probe=off.")
@click.option(
    "--clear",
    multiple=True,
    type=click.Choice(["upload-mbps", "upload-percent", "monthly-gb", "content-gb", "connections", "hours", "service"]),
    help="Back to the default.",
)
@at_device
@pass_context
def limits(
    context: Context,
    upload_mbps: float | None,
    upload_percent: int | None,
    monthly_gb: float | None,
    content_gb: float | None,
    connections: int | None,
    hours: tuple[str, ...],
    service: tuple[str, ...],
    clear: tuple[str, ...],
) -> None:
    """Show what the device may use, or change it.

    \b
    Examples:
      fallow limits
      fallow limits --upload-percent 50 --hours 0-4@22:00-06:00
      fallow limits --clear hours
    """
    names = {
        "upload-mbps": "upload_bps_max",
        "upload-percent": "upload_percent_max",
        "monthly-gb": "monthly_bytes_max",
        "content-gb": "content_bytes_max",
        "connections": "connections_max",
        "hours": "hours",
        "service": "services",
    }
    changes: dict[str, Any] = {names[name]: None for name in clear}
    given = {
        "upload_bps_max": None if upload_mbps is None else int(upload_mbps * 10**6),
        "upload_percent_max": upload_percent,
        "monthly_bytes_max": None if monthly_gb is None else int(monthly_gb * 10**9),
        "content_bytes_max": None if content_gb is None else int(content_gb * 10**9),
        "connections_max": connections,
        "hours": [hours_of(text) for text in hours] or None,
        "services": {name: _switch(value) for name, _, value in (s.partition("=") for s in service)} or None,
    }
    changes |= {name: value for name, value in given.items() if value is not None}
    try:
        decode(Limits, {name: value for name, value in changes.items() if value is not None}, strict=True)
    except Malformed as error:
        raise click.UsageError(error.detail) from error
    context.run(_limits(context, changes))


def _switch(value: str) -> bool:
    if value not in ("on", "off"):
        raise click.BadParameter("give the service and on or off, such as fill=off", param_hint="--service")
    return value == "on"


async def _limits(context: Context, changes: dict[str, Any]) -> None:
    async with await context.device() as device:
        now = await (device.set_limits(changes) if changes else device.limits())
    none = context.say("no limit")
    hours = ", ".join(_hours_text(h.days, h.start_min, h.end_min) for h in now.hours)
    context.out.pairs(
        now,
        [
            ("Upload at most", none if now.upload_bps_max is None else human_bps(now.upload_bps_max)),
            ("Share of the upload", f"{now.upload_percent_max} %"),
            ("Traffic in a month", none if now.monthly_bytes_max is None else human_bytes(now.monthly_bytes_max)),
            ("Disk for content", none if now.content_bytes_max is None else human_bytes(now.content_bytes_max)),
            ("Consumers at once", now.connections_max),
            ("Hours", hours or context.say("always")),
            ("Services", ", ".join(f"{k}={'on' if v else 'off'}" for k, v in sorted(now.services.items())) or "–"),
        ],
    )


def _hours_text(days: tuple[int, ...], start_min: int, end_min: int) -> str:
    span = f"{start_min // 60:02d}:{start_min % 60:02d}-{end_min // 60:02d}:{end_min % 60:02d}"
    return ",".join(str(day) for day in days) + "@" + span


def seconds_of(text: str) -> int:
    """``30s``, ``90m``, ``2h`` or ``1d``.

    :raises click.BadParameter: it is not of this form, or over 31 days.
    """
    units = {"s": 1, "m": 60, "h": 3600, "d": 86400}
    number, unit = text[:-1], text[-1:]
    is_number = number.isascii() and number.isdigit() and len(number) < 9
    seconds = int(number) * units[unit] if unit in units and is_number else 0
    if not 1 <= seconds <= 31 * 86400:
        raise click.BadParameter(f"{text!r}: give a duration such as 90m, 2h or 1d, at most 31d")
    return seconds


@click.command()
@click.option("--for", "duration", help="For so long, such as 90m, 2h or 1d; else until resumed.")
@at_device
@pass_context
def pause(context: Context, duration: str | None) -> None:
    """Stop serving at once. Points are kept."""
    _steer(context, "pause", None if duration is None else seconds_of(duration))


@click.command()
@at_device
@pass_context
def resume(context: Context) -> None:
    """Serve again after a pause."""
    _steer(context, "resume", None)


def _steer(context: Context, action: str, for_s: int | None) -> None:
    async def work() -> dict[str, Any]:
        async with await context.device() as device:
            return await (device.pause(for_s) if action == "pause" else device.resume())

    context.out.members(context.run(work()))


@click.command()
@click.option("--yes", is_flag=True, help="Do not ask.")
@at_device
@pass_context
def leave(context: Context, yes: bool) -> None:
    """Unbind the device: it hands over its last proofs and forgets you and its content. Points stay yours."""

    async def work() -> dict[str, Any]:
        async with await context.device() as device:
            device_id = (await device.info()).device_id
            if not yes and not click.confirm(context.say("Unbind {device}?", device=device_id), err=True):
                raise ClientError("nothing was changed")
            answer = await device.leave()
            context.save(context.settings().with_device(device_id, None))
            return answer

    context.out.members(context.run(work()))
