"""For owners: points, and what they are redeemed for, asked through a device on this LAN."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

import click

from ..errors import ApiError, ClientError, Unreachable
from ..lan_device import LanDevice, Redemption
from .context import Context, at_device, pass_context
from .output import points

REDEEM_WAITS_S = (0.5, 1.0, 2.0)
"""Before a redemption whose answer was lost is asked about again; then it is the user's to ask later."""


@click.command("points")
@at_device
@pass_context
def points_command(context: Context) -> None:
    """Your points, as the ledger has them."""

    async def work() -> dict[str, Any]:
        async with await context.device() as device:
            return await device.points()

    found = context.run(work())
    names = {"held": "Held back for now", "vested": "Yours to redeem", "redeeming": "Being redeemed"}
    names["redeemed"] = "Redeemed"
    pairs = [(heading, points(int(found.get(name) or 0))) for name, heading in names.items()]
    context.out.pairs(found, [*pairs, ("Age of these figures", f"{found.get('age_s', 0)} s")])


@click.command()
@at_device
@pass_context
def rewards(context: Context) -> None:
    """What points can be redeemed for."""

    async def work() -> list[Any]:
        async with await context.device() as device:
            return await device.rewards()

    columns = {"id": "Reward", "title": "Title", "micro_points": "Points", "stock": "Left", "terms": "Terms"}
    context.out.rows(context.run(work()), columns)


@click.command()
@click.argument("reward")
@click.option("--key", help="Idempotency key: the same key again redeems nothing twice.")
@at_device
@pass_context
def redeem(context: Context, reward: str, key: str | None) -> None:
    """Redeem REWARD (its id) with your points."""
    once = key or str(uuid.uuid4())

    async def work() -> Redemption:
        async with await context.device() as device:
            try:
                return await _insist(device, reward, once)
            except ApiError as error:
                if error.problem.status == 404 or error.problem.type == "malformed":
                    raise ClientError(f"there is no reward {reward}", "fallow rewards lists them") from error
                raise

    found = context.run(work())
    pairs = [("Redemption", found.id), ("Points", points(found.micro_points)), ("State", found.state)]
    context.out.pairs(found, [*pairs, ("Code", found.code)] if found.code else pairs)


async def _insist(device: LanDevice, reward: str, key: str) -> Redemption:
    """Redeem; where the answer is lost, ask again under the same key, which redeems nothing twice.

    :raises ClientError: saying how to ask later, when it cannot be known now whether it was redeemed.
    """
    for wait_s in REDEEM_WAITS_S:
        try:
            return await device.redeem(reward, key)
        except (Unreachable, ApiError) as error:
            if isinstance(error, ApiError) and error.problem.type != "ledger-away":
                raise
            await asyncio.sleep(wait_s)
    raise ClientError(
        "it is not known whether the reward was redeemed",
        f"ask again later; it redeems nothing twice: fallow redeem {reward} --key {key}",
    )


@click.command()
@at_device
@pass_context
def redemptions(context: Context) -> None:
    """What you redeemed, newest first, with codes."""

    async def work() -> list[Any]:
        async with await context.device() as device:
            return await device.redemptions()

    columns = {
        "created_at": "Time",
        "id": "Redemption",
        "micro_points": "Points",
        "state": "State",
        "code": "Code",
        "reason": "Reason",
    }
    context.out.rows(context.run(work()), columns)
