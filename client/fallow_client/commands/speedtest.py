"""``fallow speedtest``: measure once what the line carries, because its owner wants to."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import click

from ..errors import ApiError, ClientError
from ..lan_device import LanDevice
from ..transport import problem_of
from .context import Context, at_device, pass_context
from .output import human_bps, moment

POLL_S = 0.5
TEST_S_MAX = 90
"""A test takes some eighteen seconds; connections and deep queues may double that, and more."""
_DIRECTIONS = {"down": "Measuring the download …", "up": "Measuring the upload …"}
_HOUSEHOLD = {
    "quiet": "nobody else used it",
    "unseen": "not seen from here; make sure that nobody uses it",
    "used": "it was used meanwhile",
}


@click.command()
@click.option("--insist", is_flag=True, help="Also where bytes cost money, or the month's are used up.")
@at_device
@pass_context
def speedtest(context: Context, insist: bool) -> None:
    """Measure what your line carries. It moves up to 512 MiB each way, and takes the line for 20 seconds.

    \b
    Example:
      fallow speedtest
    """
    found = context.run(_speedtest(context, insist))
    used = found.get("household") == "used"
    pairs = [
        ("Upload", human_bps(found.get("up_bps", 0))),
        ("Download", human_bps(found.get("down_bps", 0))),
        ("Measured at", moment(found.get("measured_at", 0))),
        ("The household meanwhile", context.say(_HOUSEHOLD.get(str(found.get("household")), "–"))),
    ]
    context.out.pairs(found, pairs)
    if used:
        raise ClientError(
            "somebody used the line, so this is no measure of it", "try again when nobody does, in ten minutes"
        )


async def _speedtest(context: Context, insist: bool) -> dict[str, Any]:
    """The result. :raises ClientError: there is none."""
    async with await context.device() as device:
        await device.start_speedtest(insist=insist)
        told, until = None, time.monotonic() + TEST_S_MAX
        while time.monotonic() < until:
            found = (await device.status()).get("speedtest") or {}
            if found.get("state") != "running":
                return _result(device, found)
            if (direction := found.get("direction")) in _DIRECTIONS and direction != told and not context.out.as_json:
                told = direction
                click.echo(context.say(_DIRECTIONS[direction]), err=True)
            await asyncio.sleep(POLL_S)
    raise ClientError("the speed test does not end", "look again later: fallow status")


def _result(device: LanDevice, found: dict[str, Any]) -> dict[str, Any]:
    if found.get("state") == "done":
        return found
    error = found.get("error")
    if not isinstance(error, dict):
        raise ClientError("the speed test was lost", "start it again")
    status = error.get("status")
    raise ApiError(
        problem_of(status if isinstance(status, int) else 503, "", json.dumps(error).encode()), device.base_url
    )
