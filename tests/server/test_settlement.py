"""Batches over HTTP: paid once, answered the same, chained; whatever is sent at the door."""

from __future__ import annotations

import asyncio
import gzip
from pathlib import Path

import pytest
from fallow_wire.jws import Kind, sign
from fallow_wire.limits import BATCH_BYTES_MAX
from ledger_world import CONSUMER, DEVICE, MIB, OPERATOR, OWNER, PUBLISHER, SCHEDULER, Chain, World, in_world
from support import key, make_receipt, signed_ticket

GIB = 2**30


def test_a_batch_is_booked_from_the_hours_escrow_to_the_owner(tmp_path: Path) -> None:
    async def script(world: World) -> None:
        ticket = world.ticket(max_bytes=2 * GIB)
        ack = await world.prove(world.item(ticket, confirmed=GIB, claimed=GIB))
        assert [(i.result, i.micro_points, i.jti) for i in ack.items] == [("booked", 1_000_000, ticket.jti)]
        assert (await world.account(OWNER)) == {
            "id": OWNER, "role": "owner", "held": 0, "vested": 1_000_000, "redeeming": 0, "redeemed": 0,
        }  # fmt: skip
        assert (await world.account("publisher-1")) == {
            "id": "publisher-1", "role": "publisher", "escrow": 9 * 10**8, "reserved": 99_000_000, "spent": 1_000_000,
        }  # fmt: skip
        report = await world.reconciled()
        assert (report["settlements"], report["booked"]) == (1, 1_000_000)

    in_world(tmp_path, script)
