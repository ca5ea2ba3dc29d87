"""``POST /v1/proofs`` at the door: a stranger's megabytes are not waited for, and nobody's fill the memory."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from fallow_server.http import ApiProblem
from fallow_server.ledger.intake import Intake
from fallow_wire.limits import BATCH_BYTES_MAX
from ledger_world import Chain, World, in_world
from support import PATIENCE_S
from yarl import URL


async def begin(world: World, token: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Announce a large batch and send only its first KiB."""
    reader, writer = await asyncio.open_connection("127.0.0.1", URL(world.address).port)
    head = f"POST /v1/proofs HTTP/1.1\r\nHost: ledger.test\r\nContent-Length: {BATCH_BYTES_MAX}\r\n\r\n"
    writer.write(head.encode() + token.encode()[:1024])
    await writer.drain()
    return reader, writer


def test_a_stranger_is_refused_before_the_body_is_there(tmp_path: Path) -> None:
    async def script(world: World) -> None:
        stranger = Chain(61)
        token = stranger.batch(*(world.item(world.ticket(chain=stranger)) for _ in range(3)))
        for start, status in ((token, b"403"), ("x" * 2000, b"400"), ("e30." + "x" * 2000, b"403")):
            reader, writer = await begin(world, start)
            line = await asyncio.wait_for(reader.readline(), PATIENCE_S)
            assert line.split()[1] == status
            writer.close()

    in_world(tmp_path, script)


def test_a_known_device_may_take_its_time(tmp_path: Path) -> None:
    async def script(world: World) -> None:
        token = world.device.batch(*(world.item() for _ in range(3))).encode()
        reader, writer = await asyncio.open_connection("127.0.0.1", URL(world.address).port)
        writer.write(f"POST /v1/proofs HTTP/1.1\r\nHost: x\r\nContent-Length: {len(token)}\r\n\r\n".encode())
        for start in range(0, len(token), 100):
            writer.write(token[start : start + 100])
            await writer.drain()
        assert b" 200 " in await asyncio.wait_for(reader.readline(), PATIENCE_S)
        writer.close()

    in_world(tmp_path, script)


def test_bytes_under_way_are_bounded_for_one_caller_and_for_all() -> None:
    intake = Intake(bytes_max=100, bytes_per_caller_max=60)
    with intake.room("192.0.2.1") as one, intake.room("192.0.2.1") as two, intake.room("2001:db8::1") as three:
        one.grow(40)
        with pytest.raises(ApiProblem) as refused:
            two.grow(21)
        assert (refused.value.problem.status, refused.value.problem.fault) == (429, "caller")
        two.grow(20)
        three.grow(40)
        with intake.room("2001:db8::2") as neighbour, pytest.raises(ApiProblem) as refused:
            neighbour.grow(21)  # of the same /64
        assert refused.value.problem.status == 429
        with intake.room("192.0.2.3") as four, pytest.raises(ApiProblem) as refused:
            four.grow(1)
        assert (refused.value.problem.status, refused.value.problem.fault) == (503, "here")
    with intake.room("192.0.2.1") as one:
        one.grow(60)
