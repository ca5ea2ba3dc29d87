"""Redemptions that a provider fulfils: asked under one key, resolved once, and unknown where nobody knows."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from fallow_server.ledger.config import RewardsConfig
from fallow_server.ledger.webhook import Fulfilled, Later, Order, Voided, Webhook, Webhooks, read_answer, signature
from fallow_wire.errors import PeerError
from hypothesis import given
from hypothesis import strategies as st
from ledger_world import OPERATOR, OWNER, PUBLISHER, World, world
from provider import Provider, provider

GIB = 2**30
POINT = 1_000_000
QUICK = RewardsConfig(
    allow_private_addresses=True, webhook_s_max=5, fulfil_attempts_max=3, ask_attempts_max=2, poll_s=3600
)
"""Nothing comes due but by the test's clock."""
Script = Callable[[World, Provider, str], Awaitable[None]]


def with_provider(directory: Path, script: Script, config: RewardsConfig = QUICK, **reward: Any) -> None:
    """Run ``script`` with a ledger, a provider, and the id of a reward of one point that it fulfils."""

    async def run() -> None:
        async with provider() as shop, world(directory) as made:
            made.rewards = config
            await made.restart()
            size = 5 * GIB
            await made.prove(made.item(made.ticket(max_bytes=size), confirmed=size, claimed=size))
            body = {"title": "A coffee", "micro_points": POINT, "webhook": shop.url, **reward}
            offered = await made.good("POST", "/v1/rewards", OPERATOR, body)
            shop.secret = offered["webhook_secret"]
            await script(made, shop, offered["id"])
            await made.reconciled()

    asyncio.run(run())


async def redeem(made: World, reward: str, key: str = "k") -> dict[str, Any]:
    answer: dict[str, Any] = await made.good("POST", "/v1/redemptions", OWNER, {"reward": reward}, once=key)
    return answer


async def now_is(made: World, redemption: str, state: str) -> dict[str, Any]:
    """The redemption, once the worker has brought it into ``state``."""
    while True:
        found: dict[str, Any] = await made.good("GET", f"/v1/redemptions/{redemption}", OWNER)
        if found["state"] == state:
            return found
        await asyncio.sleep(0.01)


async def balances(made: World) -> tuple[int, int, int]:
    found = await made.account(OWNER)
    return found["vested"] // POINT, found["redeeming"] // POINT, found["redeemed"] // POINT


async def until_unknown(made: World, redemption: str) -> None:
    """Let time pass until the last attempt was made."""
    while (await made.good("GET", f"/v1/redemptions/{redemption}", OWNER))["state"] == "reserved":
        made.clock.time += 3600
        await made.service.fulfilment.work()


def answering(status: int = 200, body: Any = None, text: str | None = None) -> Any:
    async def behave(order: dict[str, Any]) -> web.Response:
        return web.Response(text=text, status=status) if text is not None else web.json_response(body, status=status)

    return behave


def test_a_provider_fulfils_and_gives_a_code(tmp_path: Path) -> None:
    async def script(made: World, shop: Provider, reward: str) -> None:
        first = await redeem(made, reward)
        assert first["state"] == "reserved"
        done = await now_is(made, first["id"], "fulfilled")
        assert done["code"] == shop.given[first["id"]]
        assert await balances(made) == (4, 0, 1)
        assert shop.asked == [
            {
                "kind": "fulfil",
                "redemption": first["id"],
                "reward": reward,
                "title": "A coffee",
                "owner": OWNER,
                "micro_points": POINT,
                "created_at": made.clock.time,
            }
        ]
        assert shop.unsigned == 0
        # Whoever lost the answer asks again, and hears of the same redemption.
        assert (await redeem(made, reward))["id"] == first["id"]
        assert (await made.good("GET", "/v1/rewards"))[0].keys() == {"id", "title", "micro_points", "terms", "stock"}

    with_provider(tmp_path, script, terms="Within a year", stock=9)


def test_a_provider_that_refuses_gives_points_and_stock_back(tmp_path: Path) -> None:
    async def script(made: World, shop: Provider, reward: str) -> None:
        shop.behaviour = answering(body={"outcome": "voided", "reason": "sold out"})
        voided = await now_is(made, (await redeem(made, reward))["id"], "voided")
        assert voided["reason"] == "sold out"
        assert await balances(made) == (5, 0, 0)
        assert (await made.good("GET", "/v1/rewards"))[0]["stock"] == 1

    with_provider(tmp_path, script, stock=1)


@pytest.mark.parametrize(
    "behaviour",
    [
        answering(500, {}),
        answering(404, {"outcome": "voided"}),
        answering(201, {"outcome": "fulfilled"}),
        answering(302, {}),
        answering(200, {"outcome": "pending"}),
        answering(200, {"outcome": "done"}),
        answering(200, text="fulfilled"),
        answering(200, text='{"outcome":"fulfilled","outcome":"voided"}'),
        answering(200, text="[" * 10_000),
        answering(200, text=" " * 100_000),
    ],
)
def test_what_is_no_clear_answer_leaves_it_unknown_and_is_never_voided(tmp_path: Path, behaviour: Any) -> None:
    async def script(made: World, shop: Provider, reward: str) -> None:
        shop.behaviour = behaviour
        redemption = (await redeem(made, reward))["id"]
        await until_unknown(made, redemption)
        unknown = await now_is(made, redemption, "unknown")
        assert unknown["reason"]
        assert [order["kind"] for order in shop.asked] == ["fulfil"] * QUICK.fulfil_attempts_max
        for _ in range(10):
            made.clock.time += 365 * 86_400
            await made.service.fulfilment.work()
        # It was only asked what became of it, and then no more.
        assert [order["kind"] for order in shop.asked[3:]] == ["ask"] * QUICK.ask_attempts_max
        assert (await now_is(made, redemption, "unknown"))["id"] == redemption
        assert await balances(made) == (4, 1, 0)
        await made.good("POST", f"/v1/redemptions/{redemption}/resolution", OPERATOR, {"outcome": "voided"})
        assert await balances(made) == (5, 0, 0)

    with_provider(tmp_path, script)


@pytest.mark.parametrize(("was_done", "state", "left"), [(True, "fulfilled", (4, 0, 1)), (False, "voided", (5, 0, 0))])
def test_an_unknown_is_reconciled_with_the_provider(
    tmp_path: Path, was_done: bool, state: str, left: tuple[int, int, int]
) -> None:
    async def script(made: World, shop: Provider, reward: str) -> None:
        async def lose_answers(order: dict[str, Any]) -> web.Response:
            if was_done:
                shop.fulfil(order)
            return web.Response(status=504)

        shop.behaviour = lose_answers
        redemption = (await redeem(made, reward))["id"]
        await until_unknown(made, redemption)
        shop.behaviour = None
        made.clock.time += QUICK.ask_s_min
        assert await made.service.fulfilment.work() == 1
        done = await now_is(made, redemption, state)
        assert done.get("code") == shop.given.get(redemption)
        assert await balances(made) == left
        assert sum(shop.fulfilments.values()) == int(was_done)

    with_provider(tmp_path, script)


def test_while_the_provider_is_asked_nobody_else_decides(tmp_path: Path) -> None:
    async def script(made: World, shop: Provider, reward: str) -> None:
        go_on = asyncio.Event()

        async def wait(order: dict[str, Any]) -> None:
            await go_on.wait()

        shop.behaviour = wait  # type: ignore[assignment]
        redemption = (await redeem(made, reward))["id"]
        await shop.heard.wait()
        for outcome in ("voided", "fulfilled", "unknown"):
            path = f"/v1/redemptions/{redemption}/resolution"
            answer = await made.call("POST", path, OPERATOR, {"outcome": outcome})
            assert (answer.status, answer.type) == (409, "with-provider")
        go_on.set()
        await now_is(made, redemption, "fulfilled")

    with_provider(tmp_path, script)


def test_a_late_answer_changes_nothing_and_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def script(made: World, shop: Provider, reward: str) -> None:
        shop.behaviour = answering(503, {})
        redemption = (await redeem(made, reward))["id"]
        await until_unknown(made, redemption)
        await made.good("POST", f"/v1/redemptions/{redemption}/resolution", OPERATOR, {"outcome": "voided"})
        with caplog.at_level(logging.ERROR):
            await made.service.fulfilment.conclude(redemption, Fulfilled("late"))
        assert "the provider says fulfilled" in caplog.text
        assert made.service.fulfilment.contradicted == 1
        assert (await now_is(made, redemption, "voided")).get("code") is None
        await made.service.fulfilment.conclude(redemption, Later("still at work"))
        await made.service.fulfilment.conclude(redemption, Voided("no"))
        assert made.service.fulfilment.contradicted == 1
        assert await balances(made) == (5, 0, 0)

    with_provider(tmp_path, script)


def test_an_order_that_was_out_when_the_ledger_died_goes_out_again_under_its_key(tmp_path: Path) -> None:
    async def script(made: World, shop: Provider, reward: str) -> None:
        never = asyncio.Event()

        async def hang(order: dict[str, Any]) -> None:
            shop.fulfil(order)
            await never.wait()

        shop.behaviour = hang  # type: ignore[assignment]
        redemption = (await redeem(made, reward))["id"]
        await shop.heard.wait()
        await made.restart()  # in the middle of the request
        shop.behaviour = None
        assert await made.service.fulfilment.work() == 0  # still leased to the one that is gone
        made.clock.time += QUICK.lease_s
        assert await made.service.fulfilment.work() == 1
        assert (await now_is(made, redemption, "fulfilled"))["code"] == shop.given[redemption]
        assert shop.fulfilments == {redemption: 1}

    with_provider(tmp_path, script)


def test_a_private_address_is_no_provider(tmp_path: Path) -> None:
    async def run() -> None:
        async with world(tmp_path) as made:
            made.rewards = replace(QUICK, allow_private_addresses=False)
            await made.restart()
            for url in (
                "http://shop.example/",  # answers carry codes
                "https://127.0.0.1/",
                "https://10.0.0.1/",
                "https://192.168.1.1/x",
                "https://169.254.169.254/latest",
                "https://100.64.0.1/",
                "https://0.0.0.0/",
                "https://2130706433/",
                "https://[::1]/",
                "https://[fe80::1]/",
                "https://[fd00::1]/",
                "https://[::ffff:127.0.0.1]/",
                "https://[64:ff9b::7f00:1]/",
            ):
                body = {"title": "x", "micro_points": 1, "webhook": url}
                answer = await made.call("POST", "/v1/rewards", OPERATOR, body)
                assert (answer.status, answer.type) == (400, "address-refused"), url
            body = {"title": "x", "micro_points": 1, "webhook": "https://shop.example/orders"}
            assert (await made.call("POST", "/v1/rewards", OPERATOR, body)).status == 201

    asyncio.run(run())


def test_a_name_that_leads_into_our_own_network_is_not_connected_to() -> None:
    order = Order("fulfil", "r", "w", "t", "o", 1, 1)

    async def run() -> None:
        webhooks = Webhooks(5, allow_private=False)
        await webhooks.start()
        try:
            # Resolved first, and refused by what it resolves to.
            for url in ("https://localhost/", "https://127.0.0.1:1/"):
                outcome = await webhooks.ask(Webhook(url, "s"), order, 1)
                assert isinstance(outcome, Later)
                assert outcome.reason == "the provider is not asked: its address is not public"
            insecure = await webhooks.ask(Webhook("http://192.0.2.1/", "s"), order, 1)
            assert isinstance(insecure, Later)
            assert "https" in insecure.reason
        finally:
            await webhooks.close()

    asyncio.run(run())


def test_the_switch_for_laboratories_is_a_setting_and_off() -> None:
    from fallow_server.config import load

    assert load({}, {}).rewards.allow_private_addresses is False
    assert load({}, {"FALLOW_SERVER_REWARDS_ALLOW_PRIVATE_ADDRESSES": "true"}).rewards.allow_private_addresses is True


def test_the_signature_is_what_the_protocol_says() -> None:
    # printf 'fallow-webhook-v1\n1700000000\n{}' | openssl dgst -sha256 -hmac secret
    by_openssl = "070fe6d17de66040b1586a6e8ca8e5ccecafb2c014d97e50af4279f718dc1242"
    assert signature("secret", 1_700_000_000, b"{}") == f"sha256={by_openssl}"
    for other in (("secret", 1_700_000_001, b"{}"), ("secret", 1_700_000_000, b"{ }"), ("other", 1_700_000_000, b"{}")):
        assert signature(*other) != f"sha256={by_openssl}"


@given(st.integers(100, 599), st.binary(max_size=200))
def test_no_answer_breaks_the_reader(status: int, body: bytes) -> None:
    try:
        outcome = read_answer(status, body)
    except PeerError:
        pytest.fail("a provider's nonsense is not an error of ours")
    assert isinstance(outcome, Later) or status == 200


def test_stock_grows_and_rewards_are_withdrawn(tmp_path: Path) -> None:
    async def script(made: World, shop: Provider, reward: str) -> None:
        vouchers = await made.good(
            "POST", "/v1/rewards", OPERATOR, {"title": "v", "micro_points": POINT, "codes": ["a"]}
        )
        path = f"/v1/rewards/{vouchers['id']}/stock"
        grown = await made.good("POST", path, OPERATOR, {"codes": ["b", "c"]})
        assert grown["stock"] == 3
        for body, status, slug in (
            ({"codes": ["c"]}, 409, "code-known"),
            ({"codes": ["d", "d"]}, 409, "code-known"),
            ({"more": 1}, 409, "other-stock"),
            ({}, 400, "malformed"),
            ({"more": 1, "codes": ["e"]}, 400, "malformed"),
        ):
            answer = await made.call("POST", path, OPERATOR, body)
            assert (answer.status, answer.type) == (status, slug)
        assert (await made.call("POST", path, PUBLISHER, {"more": 1})).status == 403
        waiting = await redeem(made, vouchers["id"])
        assert waiting["code"] == "a"
        assert (await made.call("DELETE", f"/v1/rewards/{vouchers['id']}", OWNER)).status == 403
        for _ in range(2):
            assert (await made.call("DELETE", f"/v1/rewards/{vouchers['id']}", OPERATOR)).status == 204
        assert [one["id"] for one in await made.good("GET", "/v1/rewards")] == [reward]
        gone = await made.call("POST", "/v1/redemptions", OWNER, {"reward": vouchers["id"]}, once="another")
        assert (gone.status, gone.type) == (404, "unknown-reward")
        assert (await redeem(made, vouchers["id"])) == waiting  # what was answered before is answered again
        assert (await made.call("DELETE", "/v1/rewards/x", OPERATOR)).status == 404

    with_provider(tmp_path, script)
