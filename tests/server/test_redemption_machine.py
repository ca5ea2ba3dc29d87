"""Any order of redeeming, answers, losses, late answers, resolutions and restarts: each redemption ends once, and what
is spent is what was given."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import Any
from unittest import mock

from fallow_server.ledger.config import RewardsConfig
from fallow_server.ledger.fulfilment import Fulfilment
from fallow_server.ledger.resolution import TRANSITIONS
from fallow_server.ledger.webhook import Fulfilled, Later, Order, Outcome, Voided, Webhook
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from ledger_world import OPERATOR, OWNER, World

GIB = 2**30
POINT = 1_000_000
EARNED = 12
CONFIG = RewardsConfig(
    allow_private_addresses=True, fulfil_attempts_max=2, ask_attempts_max=2, ask_s_min=10, ask_s_max=10
)
ANSWERS: st.SearchStrategy[Outcome] = st.sampled_from([Fulfilled("code"), Fulfilled(None), Voided("no"), Later("lost")])


async def rest(worker: Fulfilment) -> None:
    await asyncio.Event().wait()


class RedemptionMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.TemporaryDirectory()
        self.runner = asyncio.Runner()
        self.world = World(Path(self.directory.name))
        self.world.rewards = CONFIG
        self.said: dict[str, list[str]] = {}
        """What the provider's answers meant, by redemption, up to the one that counted."""
        self.known: dict[str, str] = {}
        """The state that was seen last."""
        self.keys: dict[int, str] = {}
        self.by_operator: set[str] = set()
        self.runner.run(self.begin())

    async def begin(self) -> None:
        await self.open()
        await self.world.populate()
        size = EARNED * GIB
        await self.world.prove(self.world.item(self.world.ticket(max_bytes=size), confirmed=size, claimed=size))
        body = {"title": "x", "micro_points": POINT, "webhook": "http://127.0.0.1:1/", "stock": 8}
        self.provided = (await self.world.good("POST", "/v1/rewards", OPERATOR, body))["id"]
        codes = {"title": "x", "micro_points": POINT, "codes": ["a", "b", "c"]}
        self.coded = (await self.world.good("POST", "/v1/rewards", OPERATOR, codes))["id"]

    async def open(self) -> None:
        # Only the machine lets the worker work: a round of its own at the start would come between what is looked at.
        with mock.patch.object(Fulfilment, "run", rest):
            await self.world.open()

    def teardown(self) -> None:
        self.runner.run(self.world.reconciled())
        self.runner.run(self.world.close())
        self.runner.close()
        self.directory.cleanup()

    def call(self, *arguments: Any, **options: Any) -> Any:
        return self.runner.run(self.world.call(*arguments, **options))

    @rule(key=st.integers(0, 14), coded=st.booleans())
    def redeem(self, key: int, coded: bool) -> None:
        reward = self.coded if coded else self.provided
        answer = self.call("POST", "/v1/redemptions", OWNER, {"reward": reward}, once=f"k{key}")
        if answer.status == 201:
            redemption = answer.json()["id"]
            assert self.keys.setdefault(key, redemption) == redemption
            self.known.setdefault(redemption, answer.json()["state"])
        else:
            assert answer.status == 409 or (answer.status == 422 and key in self.keys)

    @rule(answer=ANSWERS, passed_s=st.sampled_from([0, 10, 100]))
    def work(self, answer: Outcome, passed_s: int) -> None:
        async def ask(webhook: Webhook, order: Order, now: int) -> Outcome:
            assert order.kind == ("ask" if self.known[order.redemption] == "unknown" else "fulfil")
            said = {Fulfilled: "fulfilled", Voided: "voided"}.get(type(answer))
            if said:
                self.said.setdefault(order.redemption, []).append(said)
            return answer

        self.world.clock.time += passed_s
        self.world.service.fulfilment._webhooks.ask = ask  # type: ignore[method-assign]
        self.runner.run(self.world.service.fulfilment.work())

    @precondition(lambda self: self.known)
    @rule(data=st.data(), answer=ANSWERS)
    def hear_late(self, data: st.DataObject, answer: Outcome) -> None:
        """An attempt of another process, whose lease was over."""
        redemption = data.draw(st.sampled_from(sorted(self.known)))
        if self.known[redemption] in ("reserved", "unknown") and not isinstance(answer, Later):
            self.said.setdefault(redemption, []).append("fulfilled" if isinstance(answer, Fulfilled) else "voided")
        self.runner.run(self.world.service.fulfilment.conclude(redemption, answer))

    @precondition(lambda self: self.known)
    @rule(data=st.data(), outcome=st.sampled_from(["fulfilled", "voided", "unknown"]))
    def resolve(self, data: st.DataObject, outcome: str) -> None:
        redemption = data.draw(st.sampled_from(sorted(self.known)))
        before = self.known[redemption]
        answer = self.call("POST", f"/v1/redemptions/{redemption}/resolution", OPERATOR, {"outcome": outcome})
        if answer.status == 200 and before != outcome:
            assert before == "unknown", "the provider was still being asked"
            self.by_operator.add(redemption)
        else:
            assert answer.status in (200, 409)

    @rule()
    def restart(self) -> None:
        self.runner.run(self.world.close())
        self.runner.run(self.open())

    @invariant()
    def what_is_spent_is_what_was_given(self) -> None:
        found = {one["id"]: one for one in self.call("GET", "/v1/redemptions", OWNER).json()}
        assert found.keys() == self.known.keys()
        for redemption, one in found.items():
            before, now = self.known[redemption], one["state"]
            assert now == before or now in TRANSITIONS[before], "it ended twice, or went another way"
            if now == "voided":
                assert redemption in self.by_operator or self.said[redemption][-1] == "voided", "voided on its own"
            self.known[redemption] = now
        states = list(self.known.values())
        balance = self.runner.run(self.world.account(OWNER))
        open_ones = states.count("reserved") + states.count("unknown")
        assert balance["redeeming"] == open_ones * POINT
        assert balance["redeemed"] == states.count("fulfilled") * POINT
        assert balance["vested"] == (EARNED - open_ones - states.count("fulfilled")) * POINT
        stock = {one["id"]: one["stock"] for one in self.call("GET", "/v1/rewards").json()}
        taken = [one for one in found.values() if one["state"] != "voided"]
        assert stock[self.provided] == 8 - sum(one["reward"] == self.provided for one in taken)
        given = [one["code"] for one in found.values() if one["reward"] == self.coded]
        assert stock[self.coded] == 3 - len(given)
        assert len(set(given)) == len(given)


TestRedemptionMachine = RedemptionMachine.TestCase
TestRedemptionMachine.settings = settings(max_examples=15, stateful_step_count=30, deadline=None)
