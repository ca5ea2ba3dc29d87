"""Batches over HTTP: paid once, answered the same, chained; whatever is sent at the door."""

from __future__ import annotations

import asyncio
import gzip
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fallow_wire.jws import Kind, sign
from fallow_wire.limits import BATCH_BYTES_MAX
from fallow_wire.tariff import LegacyCaps, Tariff
from ledger_world import CONSUMER, DEVICE, LINK, MIB, OTHER, OWNER, Chain, World, in_world
from sqlalchemy import text
from support import key, make_receipt, new_jti

GIB = 2**30
POINT = 1_000_000


@pytest.mark.both_databases
def test_a_batch_is_booked_from_the_hours_escrow_to_the_owner(tmp_path: Path) -> None:
    async def script(world: World) -> None:
        ticket = world.ticket(max_bytes=2 * GIB)
        ack = await world.prove(world.item(ticket, confirmed=GIB, claimed=GIB))
        assert [(i.result, i.micro_points, i.jti) for i in ack.items] == [("booked", POINT, ticket.jti)]
        owner = await world.account(OWNER)
        assert owner == {"id": OWNER, "role": "owner", "held": 0, "vested": POINT, "redeeming": 0, "redeemed": 0}
        publisher = await world.account("publisher-1")
        assert {**publisher, "id": 0, "role": 0} == {
            "id": 0,
            "role": 0,
            "escrow": 9 * 10**8,
            "reserved": 10**8 - POINT,
            "spent": POINT,
        }
        report = await world.reconciled()
        assert (report["settlements"], report["booked"]) == (1, POINT)

    in_world(tmp_path, script)


@pytest.mark.parametrize(
    ("claimed", "allowed", "confirmed", "paid"),
    [(3, 9, 5, 3), (9, 3, 3, 3), (9, 5, 3, 3), (2**53 - 1, 5, 5, 5), (0, 5, 5, 0), (5, 5, 0, 0)],
)
def test_the_least_of_claim_ticket_and_receipt_is_paid(
    tmp_path: Path, claimed: int, allowed: int, confirmed: int, paid: int
) -> None:
    async def script(world: World) -> None:
        ticket = world.ticket(max_bytes=allowed * GIB)
        claim = min(claimed * GIB, 2**53 - 1)
        ack = await world.prove(world.item(ticket, confirmed=confirmed * GIB, claimed=claim))
        assert ack.items[0].micro_points == paid * POINT
        shown = await world.good("GET", f"/v1/settlements/{ticket.jti}", OWNER)
        assert shown["factors"] == {
            "bytes": paid * GIB,
            "rate": POINT,
            "quality": 1000,
            "scarcity": 1000,
            "weight": 1000,
        }
        await world.reconciled()

    in_world(tmp_path, script)


@pytest.mark.both_databases
def test_the_same_batch_gets_the_same_ack_byte_for_byte(tmp_path: Path) -> None:
    async def script(world: World) -> None:
        token = world.device.batch(world.item())
        first = await world.post(token)
        world.device.sent(token)
        await world.prove(world.item())
        world.clock.time += 10 * 86_400  # long after the proof is too old to be taken anew
        await world.restart()
        again = await world.post(token)
        assert (again.status, again.body) == (200, first.body)
        assert (await world.reconciled())["settlements"] == 2

    in_world(tmp_path, script)


@pytest.mark.both_databases
def test_of_fifty_copies_at_once_one_is_credited(tmp_path: Path) -> None:
    async def script(world: World) -> None:
        token = world.device.batch(*(world.item() for _ in range(9)))
        answers = await asyncio.gather(*(world.post(token) for _ in range(50)))
        assert {answer.status for answer in answers} == {200}
        assert len({answer.body for answer in answers}) == 1
        report = await world.reconciled()
        assert report["settlements"] == 9
        assert (await world.account(OWNER))["vested"] == 9 * (POINT // 1024)

    in_world(tmp_path, script)


@pytest.mark.both_databases
def test_one_ticket_raced_in_different_batches_is_credited_once(tmp_path: Path) -> None:
    async def script(world: World) -> None:
        items = [replace(world.item(ticket := world.ticket()), ms=ms) for ms in range(1)]
        rivals = [world.device.batch(*items, replace(items[0], ms=1000 + i, ticket=items[0].ticket)) for i in range(10)]
        answers = await asyncio.gather(*(world.post(rival) for rival in rivals))
        assert sorted(answer.status for answer in answers) == [200] + [409] * 9
        assert {answer.type for answer in answers if answer.status == 409} == {"chain-fork"}
        winner = next(answer for answer in answers if answer.status == 200)
        assert [i.reason for i in world.ack(winner).items] == [None, "conflict"]
        assert (await world.account(OWNER))["vested"] == POINT // 1024
        assert ticket.jti == (await world.good("GET", f"/v1/settlements/{ticket.jti}", OWNER))["jti"]

    in_world(tmp_path, script)


def test_a_settled_ticket_in_a_later_batch(tmp_path: Path) -> None:
    """The very same item is answered as it was booked; any other content is a conflict. Neither is paid."""

    async def script(world: World) -> None:
        ticket = world.ticket()
        item = world.item(ticket)
        first = await world.prove(item)
        again = await world.prove(item, replace(item, bytes=item.bytes + 1), world.item(ticket, confirmed=2 * MIB))
        assert again.items[0] == first.items[0]
        assert [i.reason for i in again.items] == [None, "conflict", "conflict"]
        assert (await world.reconciled())["settlements"] == 1
        assert (await world.account(OWNER))["vested"] == POINT // 1024

    in_world(tmp_path, script)


@pytest.mark.both_databases
def test_gaps_and_forks_tell_what_is_expected_and_forks_are_kept(tmp_path: Path) -> None:
    async def script(world: World) -> None:
        gap = await world.post(world.device.batch(world.item(), seq=3, prev="a" * 64))
        assert (gap.status, gap.type) == (409, "sequence-gap")
        assert gap.json()["expected"] == {"seq": 1, "prev": "0" * 64}
        await world.prove(world.item())
        expected = {"seq": 2, "prev": world.device.prev}
        item = world.item()
        forks = [
            world.device.batch(item, seq=1, prev="0" * 64),
            world.device.batch(item, prev="b" * 64),
            *(world.device.batch(item, prev=f"{n:064x}") for n in range(20)),
        ]
        for fork in forks:
            answer = await world.post(fork)
            assert (answer.status, answer.type) == (409, "chain-fork")
            assert answer.json()["expected"] == expected
        async with world.database.read() as connection:
            kept = (await connection.execute(text("SELECT token FROM forks ORDER BY received_at"))).scalars().all()
            flagged = (await connection.execute(text("SELECT forked_at FROM devices"))).scalar_one()
        assert 1 <= len(kept) <= 4  # evidence is bounded, or a device could fill the disk
        assert set(kept) <= set(forks)
        assert flagged == world.clock.now()
        ack = await world.prove(item)  # what the ledger expects is taken
        assert ack.items[0].result == "booked"

    in_world(tmp_path, script)


def test_a_device_that_is_unknown_or_unbound_is_told_to_wait(tmp_path: Path) -> None:
    async def script(world: World) -> None:
        stranger = Chain(77)
        item = world.item(world.ticket(chain=stranger))
        token = stranger.batch(item)
        refused = await world.post(token)
        assert (refused.status, refused.type) == (403, "unknown-device")
        await world.bind(stranger, OTHER)
        assert (await world.post(token)).status == 200
        stranger.sent(token)
        await world.bind(stranger, None)
        later = stranger.batch(world.item(world.ticket(chain=stranger)))
        assert (await world.post(later)).type == "unknown-device"
        assert (await world.account(OTHER))["vested"] == POINT // 1024
        await world.bind(stranger, OWNER)  # the chain goes on under a new owner
        assert (await world.post(later)).status == 200
        assert (await world.account(OTHER))["vested"] == (await world.account(OWNER))["vested"]

    in_world(tmp_path, script)


def _tokens_of_other_kinds(world: World) -> list[str]:
    """The device's signature under every other kind of thing, and another device's batch under this kid."""
    payload = {"did": world.device.id, "seq": 1, "prev": "0" * 64, "items": []}
    others = [sign(kind, payload, world.device.key, kid=world.device.id) for kind in Kind if kind is not Kind.BATCH]
    return [*others, sign(Kind.BATCH, payload, key(99), kid=world.device.id)]


def test_no_other_signature_passes_for_a_batch(tmp_path: Path) -> None:
    async def script(world: World) -> None:
        for token in _tokens_of_other_kinds(world):
            answer = await world.post(token)
            assert (answer.status, answer.type) == (403, "bad-signature")
        mine = Chain(5)
        await world.bind(mine, OTHER)
        theirs = mine.batch(world.item(), did=world.device.id)
        assert (await world.post(theirs)).type == "bad-signature"

    in_world(tmp_path, script)


def _raw_batch(world: World, payload: bytes) -> str:
    """A well signed batch with any payload at all."""
    from fallow_wire.encoding import base64url

    header = base64url(b'{"alg":"EdDSA","kid":"%s","typ":"fallow-batch+jwt"}' % world.device.id.encode())
    signing_input = f"{header}.{base64url(payload)}"
    return signing_input + "." + base64url(world.device.key.sign(signing_input.encode()))


def test_bad_bodies_are_refused_at_the_door(tmp_path: Path) -> None:
    async def script(world: World) -> None:
        did = world.device.id
        start = f'{{"did":"{did}","seq":1,"prev":"{"0" * 64}","items":'
        bad_payloads = [
            b"",
            b"[]",
            b"\xff\xfe",
            (start + "[]}").encode(),
            (start + '[{"ticket":"x","bytes":1.5,"ms":1,"started_at":1,"ended_at":1}]}').encode(),
            (start + '[{"ticket":"x","bytes":-1,"ms":1,"started_at":1,"ended_at":1}]}').encode(),
            (start + '[{"ticket":"x","bytes":9007199254740992,"ms":1,"started_at":1,"ended_at":1}]}').encode(),
            (start + '[{"ticket":"x","bytes":NaN,"ms":1,"started_at":1,"ended_at":1}]}').encode(),
            (start + '[{"ticket":"x","bytes":1,"ms":1,"started_at":1,"ended_at":1,"tip":1}]}').encode(),
            (start + '[{"ticket":"x","bytes":1,"bytes":2,"ms":1,"started_at":1,"ended_at":1}]}').encode(),
            (start + "[" * 50_000 + "]" * 50_000 + "}").encode(),
            (start + '[{"ticket":"\\ud800","bytes":1,"ms":1,"started_at":1,"ended_at":1}]}').encode(),
            (
                start + "[" + ",".join(['{"ticket":"x","bytes":1,"ms":1,"started_at":1,"ended_at":1}'] * 501) + "]}"
            ).encode(),
        ]
        for payload in bad_payloads:
            answer = await world.post(_raw_batch(world, payload))
            assert (answer.status, answer.type) == (400, "malformed"), payload[:200]
        for body in (b"", b"..", b"a.b", b"\xff" * 10, b"a" * 100):
            assert (await world.post(body)).status == 400
        huge = await world.post(b"a" * (BATCH_BYTES_MAX + 1))
        assert (huge.status, huge.type) == (413, "too-large")
        bomb = gzip.compress(b"\0" * 50_000_000)
        answer = await world.post(bomb, headers={"Content-Encoding": "gzip"})
        assert (answer.status, answer.type) == (415, "encoding-not-taken")
        assert (await world.prove(world.item())).items[0].result == "booked"  # and the door still works

    in_world(tmp_path, script)


def _wrong_tickets(world: World) -> list[tuple[str, dict[str, Any]]]:
    now = world.clock.now()
    late = {"iat": now + 61, "nbf": now + 61, "exp": now + 100}
    old = {"iat": now - 48 * 3600 - 1, "nbf": now - 48 * 3600 - 1, "exp": now - 48 * 3600}
    return [
        ("wrong-device", {"aud": key(9).public.device_id()}),
        ("wrong-ledger", {"ledger": "http://ledger.other"}),
        ("not-yet-valid", late),
        ("not-yet-valid", {"nbf": now + 61}),
        ("too-old", old),
        ("unknown-tariff", {"tariff": "f" * 64}),
        ("unknown-publisher", {"publisher": "nobody"}),
        ("unknown-publisher", {"publisher": OWNER}),
        ("escrow-exhausted", {"max_bytes": 2**40, "iat": now - 3600, "nbf": now - 3600, "exp": now - 3000}),
        ("bad-receipt", {"cnf": world.ticket(key(8)).cnf}),
        ("bad-receipt", {"max_bytes": MIB - 1}),
    ]


def test_every_reason_stands_alone_and_costs_the_neighbours_nothing(tmp_path: Path) -> None:
    async def script(world: World) -> None:
        wrong = _wrong_tickets(world)
        good = world.ticket()
        mixed = [
            *((reason, world.item(world.ticket(**changes))) for reason, changes in wrong),
            ("malformed", world.item(ticket="not-a-ticket")),
            ("malformed", world.item(ticket="ü" * 30)),
            ("unknown-key", world.item(ticket=sign(Kind.TICKET, world.ticket(), key(6)))),
            (
                "bad-ticket",
                world.item(ticket=sign(Kind.TICKET, world.ticket(), key(6), kid=key(1).public.thumbprint())),
            ),
            ("receipt-missing", world.item(good, receipt=None)),
            ("bad-receipt", world.item(good, receipt=sign(Kind.RECEIPT, make_receipt(good), key(6)))),
            ("bad-receipt", world.item(good, receipt=sign(Kind.RECEIPT, make_receipt(good, jti=new_jti()), CONSUMER))),
            ("bad-receipt", world.item(world.ticket(None), receipt=sign(Kind.RECEIPT, make_receipt(good), CONSUMER))),
            ("malformed", world.item(good, receipt="x")),
            ("malformed", world.item(good, receipt=sign(Kind.RECEIPT, {"jti": good.jti, "tip": 1}, CONSUMER))),
            (None, world.item(good)),
        ]
        ack = await world.prove(*(item for _, item in mixed))
        assert [item.reason for item in ack.items] == [reason for reason, _ in mixed]
        assert (await world.account(OWNER))["vested"] == POINT // 1024
        assert (await world.reconciled())["settlements"] == 1

    in_world(tmp_path, script)


def test_no_other_kind_passes_for_ticket_or_receipt(tmp_path: Path) -> None:
    async def script(world: World) -> None:
        good = world.ticket()
        receipt = make_receipt(good)
        tickets = [world.item(good, ticket=sign(kind, good, key(1))) for kind in Kind if kind is not Kind.TICKET]
        receipts = [
            world.item(good, receipt=sign(kind, receipt, CONSUMER)) for kind in Kind if kind is not Kind.RECEIPT
        ]
        ack = await world.prove(*tickets, *receipts)
        assert {i.reason for i in ack.items[: len(tickets)]} == {"bad-ticket"}
        assert {i.reason for i in ack.items[len(tickets) :]} == {"bad-receipt"}

    in_world(tmp_path, script)


def test_a_key_that_the_scheduler_gave_up_is_worth_nothing_any_more(tmp_path: Path) -> None:
    async def script(world: World) -> None:
        item = world.item()
        jwks = {"keys": [{"kty": "OKP", "crv": "Ed25519", "x": key(12).public.jwk().x}]}
        await world.good("PUT", "/v1/link/scheduler", LINK, {"url": "http://scheduler.test", "jwks": jwks})
        ack = await world.prove(item, world.item(ticket=sign(Kind.TICKET, world.ticket(), key(12)), receipt=None))
        assert [i.reason for i in ack.items] == ["unknown-key", "receipt-missing"]
        weak = {"keys": [{"kty": "OKP", "crv": "Ed25519", "x": "A" * 43}]}
        answer = await world.call("PUT", "/v1/link/scheduler", LINK, {"url": "http://scheduler.test", "jwks": weak})
        assert (answer.status, answer.type) == (400, "bad-key")

    in_world(tmp_path, script)


@pytest.mark.both_databases
def test_legacy_bytes_count_half_and_stop_at_the_days_caps(tmp_path: Path) -> None:
    async def script(world: World) -> None:
        changed = {
            "valid_from": world.clock.now() + 10,
            "rates": {"object": POINT},
            "weights": {"legacy": 500, "countersigned": 1000},
            "legacy_caps": {"device_day_bytes": 3 * GIB, "publisher_day_bytes": 4 * GIB},
        }
        world.tariff = (await world.good("POST", "/v1/tariffs", "operator", changed))["id"]
        world.clock.time += 10

        def legacy(size: int, chain: Chain | None = None) -> Any:
            return world.item(world.ticket(None, chain=chain, max_bytes=size), claimed=size)

        ack = await world.prove(legacy(2 * GIB), legacy(2 * GIB), legacy(GIB), legacy(1), world.item())
        assert [i.reason for i in ack.items] == [None, "device-cap", None, "device-cap", None]
        assert [i.micro_points for i in ack.items] == [POINT, 0, POINT // 2, 0, POINT // 1024]
        second = Chain(50)
        await world.bind(second, OTHER)
        ack = await world.prove(legacy(2 * GIB, second), legacy(GIB, second), legacy(1, second), chain=second)
        assert [i.reason for i in ack.items] == ["publisher-cap", None, "publisher-cap"]
        world.clock.time += 86_400
        await world.reserve(10**7)
        assert [i.reason for i in (await world.prove(legacy(3 * GIB))).items] == [None]  # another day
        await world.reconciled()

    in_world(tmp_path, script)


def test_the_escrow_of_an_hour_pays_what_it_covers_and_no_more(tmp_path: Path) -> None:
    async def script(world: World) -> None:
        def worth(points: int) -> Any:
            return world.item(world.ticket(max_bytes=points * GIB), confirmed=points * GIB, claimed=points * GIB)

        ack = await world.prove(worth(3), worth(3), worth(2), worth(1))
        assert [i.reason for i in ack.items] == [None, "escrow-exhausted", None, "escrow-exhausted"]
        assert (await world.account("publisher-1")) | {"escrow": 0} == {
            "id": "publisher-1",
            "role": "publisher",
            "escrow": 0,
            "reserved": 0,
            "spent": 5 * POINT,
        }
        await world.reserve(POINT)
        assert (await world.prove(worth(1))).items[0].result == "booked"

    in_world(tmp_path, script, reserved=5 * POINT)


def test_absurd_amounts_are_refused_not_stored(tmp_path: Path) -> None:
    async def script(world: World) -> None:
        most = 2**53 - 1
        ack = await world.prove(world.item(world.ticket(max_bytes=most), confirmed=most, claimed=most))
        assert ack.items[0].reason == "escrow-exhausted"

    in_world(tmp_path, script)


def test_a_full_batch_is_taken(tmp_path: Path) -> None:
    async def script(world: World) -> None:
        ack = await world.prove(*(world.item() for _ in range(500)))
        assert {i.result for i in ack.items} == {"booked"}
        assert ack.head.entries == 4 + 2 * 500
        await world.reconciled()

    in_world(tmp_path, script)


def test_tickets_may_name_a_tariff_for_an_hour_around_its_time(tmp_path: Path) -> None:
    async def script(world: World) -> None:
        old, now = world.tariff, world.clock.now()
        start = now + 7200
        new = await world.good(
            "POST",
            "/v1/tariffs",
            "operator",
            {
                "valid_from": start,
                "rates": {"object": 2 * POINT},
                "weights": {"countersigned": 1000},
                "legacy_caps": {"device_day_bytes": 0, "publisher_day_bytes": 0},
            },
        )
        assert (
            new["id"] == Tariff(2, start, {"object": 2 * POINT}, {"countersigned": 1000}, LegacyCaps(0, 0)).tariff_id()
        )
        cases = [
            (start - 3601, new["id"], "unknown-tariff"),
            (start - 3600, new["id"], None),
            (start - 1, old, None),
            (start + 3599, old, None),
            (start + 3600, old, "unknown-tariff"),
            (start + 3600, new["id"], None),
        ]
        for at, tariff, reason in cases:
            world.clock.time = at
            await world.reserve(10_000)
            item = world.item(world.ticket(tariff=tariff))
            assert (await world.prove(item)).items[0].reason == reason, (at - start, tariff == old)
        await world.reconciled()

    in_world(tmp_path, script)


def test_who_sends_a_batch_needs_no_token_and_a_token_helps_nobody(tmp_path: Path) -> None:
    async def script(world: World) -> None:
        token = Chain(61).batch(world.item())
        answer = await world.post(token, headers={"Authorization": f"Bearer {DEVICE}"})
        assert answer.status == 403

    in_world(tmp_path, script)


@pytest.mark.both_databases
def test_all_devices_of_one_line_are_paid_for_one_line(tmp_path: Path) -> None:
    async def script(world: World) -> None:
        second = Chain(50)
        await world.bind(second, OTHER)

        def served(points: int, line: str | None, chain: Chain) -> Any:
            ticket = world.ticket(max_bytes=points * GIB, line=line, chain=chain)
            return world.item(ticket, confirmed=points * GIB, claimed=points * GIB)

        ack = await world.prove(served(30, "one", world.device), served(20, "one", world.device))
        assert [i.reason for i in ack.items] == [None, "line-cap"]  # 100 Mbit/s are 41.9 GiB an hour
        here = world.device, second
        ack = await world.prove(served(12, "one", second), served(11, "one", second), chain=second)
        assert [i.reason for i in ack.items] == ["line-cap", None]
        ack = await world.prove(*(served(20, line, here[0]) for line in ("two", None, "three")))
        assert [i.reason for i in ack.items] == [None] * 3
        world.clock.time += 3600
        await world.reserve(10**8)
        ack = await world.prove(served(40, "one", world.device))
        assert [i.reason for i in ack.items] == [None]
        await world.reconciled()

    in_world(tmp_path, script, reserved=3 * 10**8)
