"""Whose signature on a ticket is worth points: the scheduler that it names, with a key that is published now."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fallow_wire.fields import encode
from ledger_world import LINK, World, in_world
from support import key, signed_ticket


def jwks_of(*numbers: int) -> dict[str, Any]:
    return {"keys": [encode(key(number).public.jwk(with_kid=True)) for number in numbers]}


def test_a_key_speaks_only_for_the_scheduler_that_published_it(tmp_path: Path) -> None:
    async def script(world: World) -> None:
        ack = await world.prove(world.item(world.ticket(iss="http://another.test")))
        assert [(item.result, item.reason) for item in ack.items] == [("refused", "unknown-key")]

    in_world(tmp_path, script)


def test_a_scheduler_that_is_called_otherwise_leaves_no_key_behind(tmp_path: Path) -> None:
    async def introduce(world: World, url: str, *numbers: int) -> None:
        await world.good("PUT", "/v1/link/scheduler", LINK, {"url": url, "jwks": jwks_of(*numbers)})

    async def reason(world: World, signer: int, iss: str) -> str | None:
        token = signed_ticket(world.ticket(None, iss=iss), key(signer))
        return (await world.prove(world.item(world.ticket(None), ticket=token))).items[0].reason

    async def script(world: World) -> None:
        # A new name, with the key in use: tickets that were issued under the old name are still paid.
        await introduce(world, "http://new.test", 1)
        assert await reason(world, 1, "http://scheduler.test") is None
        assert await reason(world, 1, "http://new.test") is None
        # Rotated: the old key verifies as long as it is published, under either name.
        await introduce(world, "http://new.test", 51, 1)
        assert await reason(world, 1, "http://scheduler.test") is None
        assert await reason(world, 51, "http://scheduler.test") == "unknown-key"
        # Gone from what is published: gone everywhere.
        await introduce(world, "http://new.test", 51)
        assert await reason(world, 1, "http://scheduler.test") == "unknown-key"
        assert await reason(world, 1, "http://new.test") == "unknown-key"
        assert await reason(world, 51, "http://new.test") is None

    in_world(tmp_path, script)
