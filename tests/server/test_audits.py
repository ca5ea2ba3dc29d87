"""Canaries' audits: what legacy service is worth rises with those that agree, and falls with one that does not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fallow_client.ledger import Ledger
from fallow_wire.ids import uuid7
from fallow_wire.tariff import GIB, LegacyCaps, Tariff, TrustStep
from hypothesis import given
from hypothesis import strategies as st
from ledger_world import LINK, OPERATOR, OTHER, OWNER, PUBLISHER, Chain, World, in_world
from support import new_jti

POINT = 1_000_000
TARIFF = Tariff(
    1, 0, {}, {"legacy": 500, "countersigned": 1000}, LegacyCaps(0, 0), (TrustStep(3, 500), TrustStep(0, 100))
)


@given(st.integers(0, 50), st.integers(0, 50))
def test_weight_rises_with_audits_and_for_legacy_service_alone(audits: int, more: int) -> None:
    assert TARIFF.weight("legacy", audits) == (250 if audits >= 3 else 50)
    assert TARIFF.weight("legacy", audits) <= TARIFF.weight("legacy", audits + more) <= TARIFF.weights["legacy"]
    assert TARIFF.weight("countersigned", audits) == 1000
    assert TARIFF.weight("other", audits) == 0


def audit(world: World, jti: str | None = None, **changes: Any) -> dict[str, Any]:
    return {"device": world.device.id, "jti": jti or new_jti(), "bytes": GIB, "agreed": True, **changes}


async def worth(world: World) -> int:
    """What one GiB of legacy service earns now."""
    world.clock.time += 1  # what a booking counts are the audits before its second
    await world.reserve(POINT)
    ticket = world.ticket(None, max_bytes=GIB)
    (item,) = (await world.prove(world.item(ticket, claimed=GIB))).items
    await world.reconciled()
    return item.micro_points


def test_legacy_service_is_worth_more_after_audits_that_agree(tmp_path: Path) -> None:
    async def script(world: World) -> None:
        assert await worth(world) == POINT * 500 // 1000 * 100 // 1000
        for _ in range(4):
            await world.good("POST", "/v1/audits", OPERATOR, audit(world))
        assert await worth(world) == POINT // 20
        fifth = audit(world)
        await world.good("POST", "/v1/audits", OPERATOR, fifth)
        assert await worth(world) == POINT // 4
        again = await world.call("POST", "/v1/audits", OPERATOR, {**fifth, "agreed": False})
        assert again.status == 200  # there is one audit of a ticket, and the first stands
        assert await worth(world) == POINT // 4
        for _ in range(15):
            await world.good("POST", "/v1/audits", OPERATOR, audit(world))
        assert await worth(world) == POINT // 2
        await world.good("POST", "/v1/audits", OPERATOR, audit(world, agreed=False, reason="no answer"))
        assert await worth(world) == POINT // 20

    in_world(tmp_path, script)


def test_who_claims_more_than_the_canary_received_disagrees(tmp_path: Path) -> None:
    async def script(world: World) -> None:
        for _ in range(6):
            await world.good("POST", "/v1/audits", OPERATOR, audit(world))
        assert await worth(world) == POINT // 4
        ticket = world.ticket(None, max_bytes=GIB)
        world.clock.time += 1
        await world.good("POST", "/v1/audits", OPERATOR, audit(world, ticket.jti, bytes=GIB // 2))
        assert await worth(world) == POINT // 4
        await world.prove(world.item(ticket, claimed=GIB // 2 + 1))
        assert await worth(world) == POINT // 20

    in_world(tmp_path, script)


def test_audits_are_read_newest_first_and_by_their_owners(tmp_path: Path) -> None:
    async def script(world: World) -> None:
        second = Chain(50)
        await world.bind(second, OTHER)
        made = []
        for number, (chain, agreed) in enumerate(((world.device, True), (second, True), (world.device, False))):
            jti = uuid7(world.clock.now_ms() + number, bytes(10))
            made.append(audit(world, jti, device=chain.id, agreed=agreed, reason="" if agreed else "answered 404"))
            await world.good("POST", "/v1/audits", LINK, made[-1])
        made.reverse()
        told = [one | {"at": world.clock.now()} for one in made]
        assert await world.good("GET", "/v1/audits", OPERATOR) == told
        assert await world.good("GET", "/v1/audits", OWNER) == [told[0], told[2]]
        assert await world.good("GET", "/v1/audits", OTHER) == [told[1]]
        assert await world.good("GET", f"/v1/audits?device={world.device.id}", OTHER) == []
        assert await world.good("GET", f"/v1/audits?before={made[0]['jti']}&limit=1", OPERATOR) == [told[1]]
        async with Ledger(world.address, OPERATOR) as ledger:
            assert await ledger.audits(world.device.id) == [told[0], told[2]]
        assert (await world.call("GET", "/v1/audits", PUBLISHER)).status == 403

    in_world(tmp_path, script)


def test_only_operators_and_the_scheduler_audit_known_devices(tmp_path: Path) -> None:
    async def script(world: World) -> None:
        for token in (OWNER, OTHER, PUBLISHER):
            assert (await world.call("POST", "/v1/audits", token, audit(world))).status == 403
        unknown = audit(world, device="fd-" + "a" * 24)
        assert (await world.call("POST", "/v1/audits", OPERATOR, unknown)).type == "unknown-device"

    in_world(tmp_path, script)
