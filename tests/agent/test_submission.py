"""Submission of proofs against a ledger on a real socket: nothing is lost, nothing is sent in another form."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from fallow_agent.backoff import Backoff
from fallow_agent.proofs import submission as submission_module
from fallow_agent.proofs.outbox import KEPT_TABLE, OUTBOX_TABLES, Outbox, OutboxUnavailable, ServedTicket
from fallow_agent.proofs.submission import BatchRefused, LedgerUnavailable, Submission
from fallow_wire.batches import Ack, AckItem, Batch, Head, batch_hash
from fallow_wire.fields import encode
from fallow_wire.jws import Kind, sign, verify
from fallow_wire.keys import JwkSet
from support import NOW, PATIENCE_S, key, make_ticket, new_jti, signed_ticket

DEVICE, LEDGER = key(2), key(4)
DID = DEVICE.public.device_id()
HEAD = Head(1, "0" * 64, NOW)


def outbox_with(tickets: int) -> Outbox:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.executescript(OUTBOX_TABLES + KEPT_TABLE)
    outbox = Outbox(connection)
    seal(outbox, tickets)
    return outbox


def seal(outbox: Outbox, tickets: int) -> None:
    for _ in range(tickets):
        ticket = make_ticket(DEVICE)
        token = signed_ticket(ticket, key(1))
        outbox.save(ServedTicket(ticket.jti, token, False, ticket.max_bytes, ticket.exp, bytes=5, ended_at=NOW))
        outbox.seal(ticket.jti)


class FakeLedger:
    """Answers each batch by the next of ``answers``; the last one goes on. Keeps what it was sent."""

    def __init__(self, *answers: Callable[[FakeLedger, str], web.Response]) -> None:
        self.answers = list(answers) or [FakeLedger.accept]
        self.received: list[str] = []
        self.key_requests = 0
        self.keys = [LEDGER]

    def accept(self, token: str, signer: Any = LEDGER, **changes: Any) -> web.Response:
        batch = verify(token, Kind.BATCH, Batch, {DID: DEVICE.public}.get).value
        items = tuple(AckItem("booked", 3) for _ in batch.items)
        ack = Ack(
            **{
                "did": DID,
                "seq": batch.seq,
                "batch": batch_hash(token),
                "items": items,
                "head": HEAD,
                "iat": NOW,
                **changes,
            }
        )
        return web.Response(text=sign(Kind.ACK, ack, signer))

    async def handle_proofs(self, request: web.Request) -> web.StreamResponse:
        token = (await request.read()).decode()
        self.received.append(token)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return answer(self, token)

    async def handle_keys(self, request: web.Request) -> web.StreamResponse:
        self.key_requests += 1
        return web.json_response(encode(JwkSet(tuple(k.public.jwk(with_kid=True) for k in self.keys))))


def run(ledger: FakeLedger, outbox: Outbox, use: Callable[[Submission], Awaitable[None]]) -> None:
    async def main() -> None:
        application = web.Application()
        application.router.add_post("/v1/proofs", ledger.handle_proofs)
        application.router.add_get("/.well-known/jwks.json", ledger.handle_keys)
        runner = web.AppRunner(application)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            async with aiohttp.ClientSession() as http, asyncio.timeout(PATIENCE_S):
                await use(Submission(outbox, http, lambda: url, DEVICE))
        finally:
            await runner.cleanup()

    asyncio.run(main())


def problem(status: int, slug: str, **members: Any) -> Callable[[FakeLedger, str], web.Response]:
    body = {"type": slug, "title": slug, "status": status, **members}
    return lambda ledger, token: web.json_response(body, status=status, content_type="application/problem+json")


def test_everything_is_handed_over_in_a_chain() -> None:
    outbox, ledger = outbox_with(1), FakeLedger()

    async def use(submission: Submission) -> None:
        assert await submission.submit_next()
        seal(outbox, 2)
        assert await submission.submit_next()
        assert not await submission.submit_next()

    run(ledger, outbox, use)
    first, second = (verify(t, Kind.BATCH, Batch, {DID: DEVICE.public}.get).value for t in ledger.received)
    assert (first.seq, second.seq) == (1, 2)
    assert second.prev == batch_hash(ledger.received[0])
    assert outbox.waiting() == 0
    assert ledger.key_requests == 1


@pytest.mark.parametrize(
    "answer",
    [
        problem(500, "internal"),
        problem(503, "closing"),
        problem(429, "too-many"),
        lambda ledger, token: web.Response(text="<html>"),
        lambda ledger, token: web.Response(text="x" * 300_000),
        lambda ledger, token: ledger.accept(token, signer=key(9)),
        lambda ledger, token: ledger.accept(token, seq=7),
        lambda ledger, token: ledger.accept(token, batch="1" * 64),
        lambda ledger, token: ledger.accept(token, items=()),
        lambda ledger, token: ledger.accept(token, did=key(3).public.device_id()),
        lambda ledger, token: ledger.accept(token, items=(AckItem("booked", 3, new_jti()),) * 2),
        lambda ledger, token: web.Response(status=302, headers={"Location": "/elsewhere"}),
        lambda ledger, token: web.Response(status=404, text="some proxy"),
    ],
)
def test_without_a_good_ack_the_same_bytes_go_again(answer: Callable[[FakeLedger, str], web.Response]) -> None:
    outbox, ledger = outbox_with(2), FakeLedger(answer, FakeLedger.accept)

    async def use(submission: Submission) -> None:
        with pytest.raises(LedgerUnavailable):
            await submission.submit_next()
        assert outbox.waiting() == 2
        assert await submission.submit_next()

    run(ledger, outbox, use)
    assert ledger.received[0] == ledger.received[1]
    assert outbox.waiting() == 0


@pytest.mark.parametrize(
    ("status", "slug", "our_fault"),
    [(403, "unknown-device", False), (400, "malformed", True), (400, "bad-signature", True), (413, "too-large", True)],
)
def test_a_refused_batch_is_kept(status: int, slug: str, our_fault: bool) -> None:
    outbox, ledger = outbox_with(1), FakeLedger(problem(status, slug))

    async def use(submission: Submission) -> None:
        with pytest.raises(BatchRefused) as caught:
            await submission.submit_next()
        assert (caught.value.slug, caught.value.our_fault) == (slug, our_fault)

    run(ledger, outbox, use)
    assert outbox.waiting() == 1


def test_a_ledger_at_another_place_of_the_chain_says_where_to_go_on() -> None:
    prev = "7" * 64
    expected = {"seq": 41, "prev": prev}
    outbox, ledger = outbox_with(1), FakeLedger(problem(409, "sequence-gap", expected=expected), FakeLedger.accept)

    async def use(submission: Submission) -> None:
        with pytest.raises(LedgerUnavailable):
            await submission.submit_next()
        assert await submission.submit_next()

    run(ledger, outbox, use)
    batch = verify(ledger.received[1], Kind.BATCH, Batch, {DID: DEVICE.public}.get).value
    assert (batch.seq, batch.prev) == (41, prev)
    assert outbox.waiting() == 0


@pytest.mark.parametrize(
    "expected", [None, {}, {"seq": 0, "prev": "7" * 64}, {"seq": True, "prev": "7" * 64}, {"seq": 2, "prev": "x" * 64}]
)
def test_a_gap_without_a_place_changes_nothing(expected: Any) -> None:
    outbox, ledger = outbox_with(1), FakeLedger(problem(409, "sequence-gap", expected=expected))

    async def use(submission: Submission) -> None:
        for _ in range(2):
            with pytest.raises(LedgerUnavailable):
                await submission.submit_next()

    run(ledger, outbox, use)
    assert ledger.received[0] == ledger.received[1]


def test_a_rotated_key_is_fetched_once_it_is_named() -> None:
    outbox = outbox_with(1)
    ledger = FakeLedger(FakeLedger.accept, lambda ledger, token: ledger.accept(token, signer=key(5)))

    async def use(submission: Submission) -> None:
        assert await submission.submit_next()
        ledger.keys = [key(5), LEDGER]
        seal(outbox, 1)
        submission._keys_at -= submission_module.JWKS_REFRESH_S
        assert await submission.submit_next()

    run(ledger, outbox, use)
    assert ledger.key_requests == 2


def test_refused_items_are_counted_by_reason() -> None:
    def refuse(ledger: FakeLedger, token: str) -> web.Response:
        return ledger.accept(token, items=(AckItem("refused", reason="too-old"), AckItem("booked", 1)))

    outbox = outbox_with(2)

    async def use(submission: Submission) -> None:
        assert await submission.submit_next()

    run(FakeLedger(refuse), outbox, use)
    assert outbox.refused() == {"too-old": 1}
    assert outbox.waiting() == 0


def test_the_loop_goes_on_until_the_ledger_is_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(submission_module.random, "random", lambda: 0.0)
    outbox = outbox_with(1)
    ledger = FakeLedger(problem(500, "internal"), problem(502, "internal"), FakeLedger.accept)

    async def use(submission: Submission) -> None:
        running = asyncio.create_task(submission.run())
        await submission.all_acknowledged()
        assert submission.error is None
        seal(outbox, 1)
        submission.wake()
        await submission.all_acknowledged()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    run(ledger, outbox, use)
    assert len(ledger.received) == 4
    assert outbox.waiting() == 0


def test_a_long_absence_is_quiet_and_told_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(submission_module.random, "random", lambda: 0.0)
    monkeypatch.setattr(submission_module, "Backoff", lambda: Backoff(0.001, 0.001))
    caplog.set_level("INFO", logger=submission_module.__name__)
    outbox = outbox_with(1)
    away = [problem(503, "closing", detail=f"attempt {number}") for number in range(20)]
    unknown = [problem(403, "unknown-device")] * 5
    ledger = FakeLedger(*away, *unknown, FakeLedger.accept)

    async def use(submission: Submission) -> None:
        running = asyncio.create_task(submission.run())
        await submission.all_acknowledged()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    run(ledger, outbox, use)
    assert len(set(ledger.received)) == 1
    assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING", "INFO"]
    assert "unknown-device" in caplog.messages[1]


def test_a_full_disk_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(submission_module, "Backoff", lambda: Backoff(0.001, 0.001))
    outbox, ledger = outbox_with(1), FakeLedger()
    refusing = [True]
    original = outbox.next_batch

    def next_batch(device: Any) -> Any:
        if refusing:
            refusing.pop()
            raise OutboxUnavailable("database or disk is full")
        return original(device)

    monkeypatch.setattr(outbox, "next_batch", next_batch)

    async def use(submission: Submission) -> None:
        running = asyncio.create_task(submission.run())
        await submission.all_acknowledged()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    run(ledger, outbox, use)
    assert outbox.waiting() == 0
