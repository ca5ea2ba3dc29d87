"""What can be read of the books, by whom, and that it is enough to compute every point again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fallow_wire.batches import Head
from fallow_wire.errors import PeerError
from fallow_wire.journal import ChainHead, Entry, first_break
from fallow_wire.jws import Kind, verify
from fallow_wire.statements import Statement, month_span
from fallow_wire.tariff import Factors, Tariff, paid_bytes
from fallow_wire.tickets import Ticket, verify_receipt, verify_ticket
from ledger_world import DEVICE, MIB, OPERATOR, OTHER, OWNER, PUBLISHER, SCHEDULER, Chain, World, in_world

POINT = 1_000_000
GIB = 2**30


def test_a_settlement_shows_all_that_it_takes_to_compute_it(tmp_path: Path) -> None:
    async def script(world: World) -> None:
        ticket = world.ticket(max_bytes=7 * MIB)
        await world.prove(world.item(), world.item(ticket, confirmed=5 * MIB, claimed=6 * MIB))
        shown = await world.good("GET", f"/v1/settlements/{ticket.jti}", OWNER)
        # Somebody who trusts nothing but the scheduler's, consumer's and ledger's signatures:
        seen: Ticket = verify_ticket(shown["ticket"], {SCHEDULER.public.thumbprint(): SCHEDULER.public}.get).value
        receipt = verify_receipt(shown["receipt"], seen).value
        found = await world.good("GET", f"/v1/tariffs/{shown['tariff']}")
        tariff = verify(found["tariff"], Kind.TARIFF, Tariff, world.keys.public_keys().get).value
        paid = paid_bytes(shown["claim"]["bytes"], seen.max_bytes, receipt.bytes)
        factors = Factors(**shown["factors"])
        assert (factors.bytes, factors.rate, factors.weight) == (
            paid,
            tariff.rates[seen.svc],
            tariff.weights[seen.tier],
        )
        assert shown["micro_points"] == factors.micro_points() == 5 * MIB * POINT // GIB
        assert shown["batch"] == {"seq": 1, "item": 1}
        assert (shown["allowed_bytes"], shown["confirmed_bytes"]) == (7 * MIB, 5 * MIB)

    in_world(tmp_path, script)


@pytest.mark.both_databases
def test_entries_page_and_continue_the_chain(tmp_path: Path) -> None:
    async def script(world: World) -> None:
        for _ in range(3):
            await world.prove(world.item(), world.item())
        for account, token in ((OWNER, OWNER), ("publisher-1", PUBLISHER)):
            whole = await world.good("GET", f"/v1/accounts/{account}/entries", token)
            paged: list[dict[str, Any]] = []
            while page := await world.good(
                "GET", f"/v1/accounts/{account}/entries?limit=4&after={paged[-1]['seq'] if paged else 0}", token
            ):
                assert len(page) <= 4
                paged += page
            assert paged == whole
            sums: dict[str, int] = {}
            for entry in whole:
                sign = 1 if entry["direction"] == "in" else -1
                kind = entry["account"].split(":")[0]
                sums[kind] = sums.get(kind, 0) + sign * entry["micro_points"]
            shown = await world.good("GET", f"/v1/accounts/{account}", token)
            assert all(shown[kind] == total for kind, total in sums.items() if kind in shown)
        everything = [
            *await world.good("GET", "/v1/accounts/owner/entries", OPERATOR),
            *await world.good("GET", "/v1/accounts/publisher-1/entries", OPERATOR),
        ]
        everything.sort(key=lambda entry: entry["seq"])
        head, chained = ChainHead(), []
        for shown in everything:
            signed = shown["micro_points"] * (1 if shown["direction"] == "in" else -1)
            names = ("seq", "at", "kind", "account")
            entry = Entry(*(shown[name] for name in names), signed, shown["posting"], shown["ref"])
            digest = entry.hash_after(head.hash)
            chained.append((entry, digest))
            head, broken = first_break(head, chained[-1:])
            assert broken is None
        token = await world.good("GET", "/v1/head")
        signed_head = verify(token, Kind.HEAD, Head, world.keys.public_keys().get).value
        assert (signed_head.entries, signed_head.hash) == (head.entries, head.hash)
        for query in ("after=-1", "after=x", "limit=x", "limit=1e3", "after=" + "9" * 400, "after=²"):
            assert (await world.call("GET", f"/v1/accounts/owner/entries?{query}", OWNER)).status == 400

    in_world(tmp_path, script)


@pytest.mark.both_databases
def test_statements_lead_from_opening_to_closing(tmp_path: Path) -> None:
    async def script(world: World) -> None:
        # 1 700 000 000 is 14 November 2023
        size = GIB
        await world.prove(world.item(world.ticket(max_bytes=size), confirmed=size, claimed=size))
        world.clock.time += 20 * 86_400
        await world.reserve(10 * POINT)
        legacy = world.item(world.ticket(None, max_bytes=size), claimed=size)
        await world.prove(world.item(world.ticket(max_bytes=size), confirmed=size, claimed=size), legacy)
        reward = await world.good("POST", "/v1/rewards", OPERATOR, {"title": "x", "micro_points": POINT})
        await world.good("POST", "/v1/redemptions", OWNER, {"reward": reward["id"]}, once="k")

        async def read(account: str, month: str, token: str) -> Statement:
            text = await world.good("GET", f"/v1/accounts/{account}/statements/{month}", token)
            return verify(text, Kind.STATEMENT, Statement, world.keys.public_keys().get).value

        november, december = await read(OWNER, "2023-11", DEVICE), await read(OWNER, "2023-12", OWNER)
        assert (november.complete, december.complete) == (True, False)
        assert november.opening == {}
        assert november.closing == december.opening == {"held": 0, "vested": POINT}
        assert december.closing == {"held": 0, "vested": POINT + POINT // 20, "redeeming": POINT}
        shown = {(one.service, one.tier): (one.settlements, one.bytes, one.micro_points) for one in december.services}
        assert shown == {("object", "countersigned"): (1, GIB, POINT), ("object", "legacy"): (1, GIB, POINT // 20)}
        lines = {(one.balance, one.kind, one.direction): (one.entries, one.micro_points) for one in december.lines}
        assert lines["held", "settlement", "in"] == (2, POINT + POINT // 20)
        assert lines["vested", "redemption", "out"] == (1, POINT)
        publishers = await read("publisher-1", "2023-12", PUBLISHER)
        assert publishers.opening["escrow"] == 9 * 10**8
        assert sum(one.micro_points for one in publishers.services) == POINT + POINT // 20
        assert (await read(OTHER, "2023-12", OTHER)).lines == ()
        for month, status in (("2024-01", 404), ("2023-13", 400), ("2023-1", 400), ("x", 400), ("1969-01", 400)):
            assert (await world.call("GET", f"/v1/accounts/owner/statements/{month}", OWNER)).status == status

    in_world(tmp_path, script)


def test_a_statement_that_does_not_add_up_is_none() -> None:
    head = Head(0, "0" * 64, 0)
    with pytest.raises(PeerError):
        Statement("o", "2023-11", 0, 1, True, {}, {"held": 1}, (), (), head, 0)


@pytest.mark.parametrize(
    ("month", "span"),
    [
        ("2023-11", (1698796800, 1701388800)),
        ("2023-12", (1701388800, 1704067200)),
        ("2024-02", (1706745600, 1709251200)),
    ],
)
def test_months_are_those_of_utc(month: str, span: tuple[int, int]) -> None:
    assert month_span(month) == span


def test_everybody_sees_what_is_theirs_and_nothing_else(tmp_path: Path) -> None:
    async def script(world: World) -> None:
        other = Chain(33)
        await world.bind(other, OTHER, "other-device")
        ticket = world.ticket()
        await world.prove(world.item(ticket))
        month = "2023-11"
        views = {
            "account": ("/v1/accounts/{}", OWNER, "publisher-1"),
            "entries": ("/v1/accounts/{}/entries", OWNER, "publisher-1"),
            "statement": (f"/v1/accounts/{{}}/statements/{month}", OWNER, "publisher-1"),
        }
        for path, owner, publisher in views.values():
            for token, account, status in [
                (OWNER, owner, 200), (DEVICE, owner, 200), (OPERATOR, owner, 200), (OTHER, owner, 403),
                ("other-device", owner, 403), (PUBLISHER, owner, 403), (PUBLISHER, publisher, 200),
                (OWNER, publisher, 403), (DEVICE, publisher, 403), (OPERATOR, publisher, 200), ("link", owner, 403),
                (None, owner, 401), ("nobody", owner, 401), (OWNER, "nobody", 403), (OPERATOR, "nobody", 404),
            ]:  # fmt: skip
                answer = await world.call("GET", path.format(account), token)
                assert answer.status == status, (path, token, account)
        for token, status in [
            (OWNER, 200), (DEVICE, 200), (PUBLISHER, 200), (OPERATOR, 200),
            (OTHER, 404), ("other-device", 404), (None, 401),
        ]:  # fmt: skip
            assert (await world.call("GET", f"/v1/settlements/{ticket.jti}", token)).status == status
        await world.bind(world.device, None)  # an unbound device is nobody any more
        assert (await world.call("GET", "/v1/accounts/owner", DEVICE)).status == 401

    in_world(tmp_path, script)
