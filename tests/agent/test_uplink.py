"""Backoff, enrolment, the session and its tasks, against a scheduler on a real socket."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from fallow_agent.backoff import Backoff
from fallow_agent.uplink import session as session_module
from fallow_agent.uplink.enrolment import EnrolmentRefused, SchedulerUnreachable, enrol
from fallow_agent.uplink.outgoing import Outgoing
from fallow_agent.uplink.reports import changed_largely
from fallow_agent.uplink.session import Session, SessionEnded, authority_of
from fallow_agent.uplink.tasks import Fills, TaskRunner
from fallow_wire.encoding import base64url
from fallow_wire.enrolment import Enrolled, verify_enrolment
from fallow_wire.errors import FallowError
from fallow_wire.fields import encode
from fallow_wire.jws import Kind, sign
from fallow_wire.keys import JwkSet
from fallow_wire.limits import SESSION_UP_BYTES_MAX
from fallow_wire.manifest import ManifestBuilder
from fallow_wire.session import (
    Cancel,
    Challenge,
    Content,
    DialBack,
    Heartbeat,
    Hello,
    Policy,
    Reachability,
    Source,
    Task,
    TaskStatus,
    read_upward,
    verify_hello,
    write,
)
from heartbeats import HEARTBEAT, with_line
from hypothesis import given
from hypothesis import strategies as st
from support import NOW, PATIENCE_S, key

DEVICE, SCHEDULER = key(2), key(1)
POLICY = Policy(JwkSet((SCHEDULER.public.jwk(with_kid=True),)), "http://ledger.test")
KEYS = {SCHEDULER.public.thumbprint(): SCHEDULER.public}


# ------------------------------------------------------------------ backoff


@given(st.integers(0, 100), st.floats(0, 1))
def test_delays_grow_to_a_ceiling_and_never_to_nothing(failures: int, random: float) -> None:
    backoff = Backoff()
    for _ in range(failures):
        backoff = backoff.failed()
    ceiling = min(300.0, 2.0 ** min(failures, 30))
    assert 0.1 * ceiling <= backoff.delay_s(random) <= ceiling
    assert backoff.succeeded().delay_s(1.0) == 1.0


# ------------------------------------------------------------------ enrolment

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


async def with_server(routes: dict[str, Handler], use: Callable[[str, aiohttp.ClientSession], Awaitable[Any]]) -> Any:
    application = web.Application()
    for path, handler in routes.items():
        application.router.add_route("*", path, handler)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    try:
        async with aiohttp.ClientSession() as http:
            return await use(f"http://127.0.0.1:{port}", http)
    finally:
        await runner.cleanup()


def answer_to_enrolment(**changes: Any) -> dict[str, Any]:
    did = DEVICE.public.device_id()
    return {**encode(Enrolled(did, "owner-1", "http://ledger.test", "ledger-token", POLICY.jwks, POLICY)), **changes}


def enrol_against(handler: Handler) -> Enrolled:
    async def use(url: str, http: aiohttp.ClientSession) -> Enrolled:
        return await enrol(http, url + "/prefix/", DEVICE, "claim-token", "Pi 4", "0.1.0", NOW)

    found: Enrolled = asyncio.run(with_server({"/prefix/v1/devices": handler}, use))
    return found


def test_enrolment_proves_the_device_key_below_a_path_prefix() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        enrolment = verify_enrolment(await request.read()).value
        assert (enrolment.claim_token, enrolment.model, enrolment.iat) == ("claim-token", "Pi 4", NOW)
        return web.json_response(answer_to_enrolment(), status=201)

    assert enrol_against(handler).owner == "owner-1"


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 410])
def test_a_refusal_is_final_and_says_why(status: int) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        return web.json_response({"type": "claim-used", "title": "Used", "remedy": "Ask for a new one."}, status=status)

    with pytest.raises(EnrolmentRefused) as caught:
        enrol_against(handler)
    assert (caught.value.problem.type, caught.value.problem.remedy) == ("claim-used", "Ask for a new one.")


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (500, b"oops"),
        (429, b"{}"),
        (302, b""),
        (200, b"<html>a captive portal</html>"),
        (201, b"{}"),
        (201, b"{" * 70_000),
    ],
    ids=str,
)
def test_anything_else_is_a_scheduler_that_cannot_be_reached(status: int, body: bytes) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        return web.Response(status=status, body=body, headers={"Location": "http://elsewhere.test/"})

    with pytest.raises(SchedulerUnreachable):
        enrol_against(handler)


def test_an_answer_that_comes_in_pieces_is_read_whole() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        body = json.dumps(answer_to_enrolment()).encode()
        response = web.StreamResponse(status=201)
        await response.prepare(request)
        await response.write(body[:100])
        for _ in range(20):
            await asyncio.sleep(0)  # the client, in the same loop, reads the first piece
        await response.write(body[100:])
        return response

    assert enrol_against(handler).owner == "owner-1"


def test_a_lost_answer_costs_nothing() -> None:
    claims: list[str] = []

    async def handler(request: web.Request) -> web.StreamResponse:
        claims.append(verify_enrolment(await request.read()).value.claim_token)
        if len(claims) == 1:
            assert request.transport is not None
            request.transport.abort()
        return web.json_response(answer_to_enrolment(), status=201)

    async def use(url: str, http: aiohttp.ClientSession) -> Enrolled:
        with pytest.raises(SchedulerUnreachable):
            await enrol(http, url, DEVICE, "claim-token", "Pi 4", "0.1.0", NOW)
        return await enrol(http, url, DEVICE, "claim-token", "Pi 4", "0.1.0", NOW)

    found: Enrolled = asyncio.run(with_server({"/v1/devices": handler}, use))
    assert found.owner == "owner-1"
    assert claims == ["claim-token"] * 2


def test_a_key_that_would_verify_anything_is_not_taken() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        small_order = {"kty": "OKP", "crv": "Ed25519", "x": base64url(bytes(32))}
        return web.json_response(answer_to_enrolment(jwks={"keys": [small_order]}), status=201)

    with pytest.raises(SchedulerUnreachable):
        enrol_against(handler)


def test_an_answer_for_another_device_is_not_taken() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        return web.json_response(answer_to_enrolment(device_id=key(3).public.device_id()), status=201)

    with pytest.raises(SchedulerUnreachable):
        enrol_against(handler)


# ------------------------------------------------------------------ the session


class Recorder:
    """The rest of the agent."""

    def __init__(self) -> None:
        self.taken: asyncio.Queue[Any] = asyncio.Queue()
        self.statuses: list[TaskStatus] = []
        self.held_ids: list[str] = []
        self.times: list[int] = []

    def take_policy(self, policy: Policy) -> None:
        self.taken.put_nowait(policy)

    def take_task(self, task: Task) -> None:
        self.taken.put_nowait(task)

    def take_cancel(self, cancel: Cancel) -> None:
        self.taken.put_nowait(cancel)

    def take_dial_back(self, dial_back: DialBack) -> None:
        self.taken.put_nowait(dial_back)

    def take_reachability(self, found: Reachability) -> None:
        self.taken.put_nowait(found)

    def task_statuses(self) -> list[TaskStatus]:
        return self.statuses

    def held(self) -> tuple[list[str], list[str]]:
        return self.held_ids, []


Script = Callable[[web.WebSocketResponse, str], Awaitable[None]]


class FakeScheduler:
    """Each session gets the next script; after the last one sessions are refused."""

    def __init__(self, *scripts: Script) -> None:
        self._scripts = list(scripts)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        if not self._scripts:
            return web.Response(status=503)
        socket = web.WebSocketResponse(protocols=("fallow.v1",))
        await socket.prepare(request)
        await self._scripts.pop(0)(socket, request.host)
        await socket.close()
        return socket


async def greet(socket: web.WebSocketResponse, host: str, policy: Policy = POLICY) -> None:
    challenge = Challenge("n" * 24, NOW)
    await socket.send_str(write(challenge))
    hello = read_upward((await socket.receive()).data)
    assert isinstance(hello, Hello)
    assert verify_hello(hello, challenge.nonce, (host,), DEVICE.public)
    await socket.send_str(write(policy))


def run_session(
    monkeypatch: pytest.MonkeyPatch,
    scheduler: FakeScheduler,
    use: Callable[[Session, Recorder], Awaitable[Any]],
    report: Callable[[], Heartbeat] = lambda: HEARTBEAT,
) -> Any:
    """Run a session against ``scheduler`` while ``use`` lasts; delays between attempts are cut to nothing."""
    monkeypatch.setattr(session_module.random, "random", lambda: 0.0)
    monkeypatch.setattr(session_module, "REFUSED_DELAY_S", 0.01)

    async def main(url: str, http: aiohttp.ClientSession) -> Any:
        recorder = Recorder()
        session = Session(http, url, DEVICE, "0.1.0", recorder, report, lambda: NOW, recorder.times.append)
        running = asyncio.create_task(session.run())
        try:
            async with asyncio.timeout(PATIENCE_S):
                return await use(session, recorder)
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    return asyncio.run(with_server({"/v1/session": scheduler.handle}, main))


def test_a_session_begins_with_the_whole_picture_and_passes_orders_on(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[Any] = []
    over = asyncio.Event()

    async def script(socket: web.WebSocketResponse, host: str) -> None:
        await greet(socket, host)
        heard.extend([read_upward((await socket.receive()).data) for _ in range(3)])
        await socket.send_str('{"type":"dance"}')
        await socket.send_str("not json")
        for message in (Task("t-1", "drop", "a" * 64), Cancel("t-1"), DialBack("m" * 20)):
            await socket.send_str(write(message))
        await over.wait()

    async def use(session: Session, recorder: Recorder) -> None:
        recorder.held_ids = ["a" * 64]
        recorder.statuses = [TaskStatus("t-0", "done", 5)]
        taken = [await recorder.taken.get() for _ in range(4)]
        assert taken == [POLICY, Task("t-1", "drop", "a" * 64), Cancel("t-1"), DialBack("m" * 20)]
        assert session.status.connected
        assert recorder.times == [NOW]
        over.set()

    run_session(monkeypatch, FakeScheduler(script), use)
    assert heard == [Content(("a" * 64,), (), True), TaskStatus("t-0", "done", 5), HEARTBEAT]


def test_whatever_ends_a_session_the_device_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    done = asyncio.Event()

    async def cut(socket: web.WebSocketResponse, host: str) -> None:
        pass

    async def wrong_start(socket: web.WebSocketResponse, host: str) -> None:
        await socket.send_str(write(POLICY))
        await socket.receive()

    async def babble(socket: web.WebSocketResponse, host: str) -> None:
        await socket.send_str("hello?")
        await socket.receive()

    async def refuse(socket: web.WebSocketResponse, host: str) -> None:
        await socket.send_str(write(Challenge("n" * 24, NOW)))
        await socket.receive()
        await socket.close(code=4401, message=b"unknown-device")

    async def replaced(socket: web.WebSocketResponse, host: str) -> None:
        await greet(socket, host)
        await socket.close(code=4409, message=b"newer")

    async def challenge_again(socket: web.WebSocketResponse, host: str) -> None:
        await greet(socket, host)
        await socket.send_str(write(Challenge("n" * 24, NOW)))
        await socket.receive()

    async def good(socket: web.WebSocketResponse, host: str) -> None:
        await greet(socket, host)
        await done.wait()

    errors: list[str] = []

    async def use(session: Session, recorder: Recorder) -> None:
        original = session._note_end

        def note(ended: Any, delay_s: float) -> None:
            original(ended, delay_s)
            assert session.status.error is not None
            errors.append(session.status.error.type)

        monkeypatch.setattr(session, "_note_end", note)
        for _ in range(3):
            await recorder.taken.get()
        done.set()

    run_session(monkeypatch, FakeScheduler(cut, wrong_start, babble, refuse, replaced, challenge_again, good), use)
    assert errors[:6] == ["scheduler-away"] * 3 + ["session-refused", "session-replaced", "scheduler-away"]


def test_where_the_line_is_back_a_long_delay_is_not_waited_out(monkeypatch: pytest.MonkeyPatch) -> None:
    async def cut(socket: web.WebSocketResponse, host: str) -> None:
        pass

    async def good(socket: web.WebSocketResponse, host: str) -> None:
        await greet(socket, host)
        await socket.receive()

    async def use(session: Session, recorder: Recorder) -> None:
        original = session._note_end

        def note(ended: Any, delay_s: float) -> None:
            original(ended, delay_s)
            asyncio.get_running_loop().call_soon(session.hurry)

        monkeypatch.setattr(session, "_note_end", note)
        assert await recorder.taken.get() == POLICY

    monkeypatch.setattr(Backoff, "delay_s", lambda self, random: 3600.0)
    run_session(monkeypatch, FakeScheduler(cut, good), use)


def test_a_large_change_is_reported_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    current = [HEARTBEAT]
    heard: asyncio.Queue[Any] = asyncio.Queue()
    over = asyncio.Event()

    async def script(socket: web.WebSocketResponse, host: str) -> None:
        await greet(socket, host, Policy(POLICY.jwks, POLICY.ledger, heartbeat_s=3600))
        async for message in socket:
            heard.put_nowait(read_upward(message.data))
            if over.is_set():
                return

    async def use(session: Session, recorder: Recorder) -> None:
        assert isinstance(await heard.get(), Content)
        assert await heard.get() == HEARTBEAT
        current[0] = with_line(idle_up_bps=16_900_000)
        session.report_changed()  # small: nothing is sent, as the next message shows
        session.send(TaskStatus("t-1", "running"))
        assert await heard.get() == TaskStatus("t-1", "running")
        current[0] = with_line(idle_up_bps=1_000_000)
        over.set()
        session.report_changed()
        assert await heard.get() == current[0]

    run_session(monkeypatch, FakeScheduler(script), use, lambda: current[0])


def test_what_is_large() -> None:
    assert not changed_largely(HEARTBEAT, with_line(own_up_bps=17_000_000))
    assert changed_largely(with_line(own_up_bps=17_000_000), HEARTBEAT)
    assert changed_largely(HEARTBEAT, with_line(idle_up_bps=0))
    # The owner, or the household, leaves a fifth of the line, and that was full.
    assert changed_largely(with_line(idle_up_bps=4_000_000, own_up_bps=3_800_000), with_line(idle_up_bps=4_000_000))
    assert not changed_largely(with_line(idle_up_bps=4_000_000, own_up_bps=900_000), with_line(idle_up_bps=4_000_000))


def test_hosts_are_named_as_they_are_dialled() -> None:
    assert authority_of("http://a.test:32550/v1/session") == "a.test:32550"
    assert authority_of("https://a.test/v1/session") == "a.test"
    assert authority_of("http://[::1]:80/v1/session") == "[::1]"


def test_a_snapshot_of_many_objects_goes_in_parts() -> None:
    outgoing = Outgoing()
    outgoing.begin((f"{number:064x}" for number in range(2001)), (), [TaskStatus("t-1", "done")])
    parts = [outgoing.take() for _ in range(3)]
    assert all(isinstance(part, Content) for part in parts)
    assert [len(part.added) for part in parts if isinstance(part, Content)] == [1000, 1000, 1]
    assert [part.snapshot for part in parts if isinstance(part, Content)] == [True, False, False]
    assert outgoing.take() == TaskStatus("t-1", "done")
    assert not outgoing
    outgoing.begin((), ("a" * 64,), ())
    assert outgoing.take() == Content((), (), True, ("a" * 64,))
    outgoing.add(Content((), (), partial=("b" * 64,)))
    outgoing.add(Content(("b" * 64,), ()))
    assert outgoing.take() == Content(("b" * 64,), ())


def test_only_the_newest_word_waits_and_every_message_fits() -> None:
    outgoing = Outgoing()
    for status in ("accepted", "running", "done"):
        outgoing.add(TaskStatus("t-1", status))
    ids = [f"{number:064x}" for number in range(1500)]
    outgoing.add(Content(tuple(ids[:1000]), tuple(ids[1000:])))
    outgoing.add(Content((), (ids[0],)))
    first, second, last = outgoing.take(), outgoing.take(), outgoing.take()
    assert max(len(write(first)), len(write(second))) <= SESSION_UP_BYTES_MAX
    assert isinstance(first, Content)
    assert isinstance(second, Content)
    assert first.dropped == (ids[0],)
    assert len(first.added) + len(first.dropped) == 1000
    assert second == Content((), tuple(ids[1000:]))
    assert last == TaskStatus("t-1", "done")
    assert not outgoing


def test_a_connection_that_has_silently_died_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_module, "PING_S", 0.1)
    over = asyncio.Event()

    class Dead(FakeScheduler):
        async def handle(self, request: web.Request) -> web.StreamResponse:
            if not self.died:
                self.died = True
                socket = web.WebSocketResponse(protocols=("fallow.v1",), autoping=False)  # answers no ping
                await socket.prepare(request)
                await greet(socket, request.host)
                while (await socket.receive()).type in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.PING):
                    pass
                return socket
            return await super().handle(request)

        died = False

    async def again(socket: web.WebSocketResponse, host: str) -> None:
        await greet(socket, host)
        await over.wait()

    async def use(session: Session, recorder: Recorder) -> None:
        for _ in range(2):
            await recorder.taken.get()
        over.set()

    run_session(monkeypatch, Dead(again), use)


def test_a_redirect_is_not_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    reached: list[str] = []

    async def redirect(request: web.Request) -> web.StreamResponse:
        raise web.HTTPFound("/elsewhere")

    async def elsewhere(request: web.Request) -> web.StreamResponse:
        reached.append(request.path)
        return web.Response()

    async def main(url: str, http: aiohttp.ClientSession) -> None:
        session = Session(http, url, DEVICE, "0.1.0", Recorder(), lambda: HEARTBEAT, lambda: NOW, lambda now: None)
        with pytest.raises(SessionEnded, match="redirects"):
            await session._one_session()

    asyncio.run(with_server({"/v1/session": redirect, "/elsewhere": elsewhere}, main))
    assert not reached


def test_a_talkative_device_keeps_to_the_schedulers_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_module, "MESSAGES_BURST", 4)
    monkeypatch.setattr(session_module, "MESSAGES_PER_S", 20)
    heard: list[Any] = []
    over = asyncio.Event()

    async def script(socket: web.WebSocketResponse, host: str) -> None:
        await greet(socket, host)
        async for message in socket:
            heard.append(read_upward(message.data))
            if heard[-1] == TaskStatus("t-99", "done"):
                over.set()
                return

    async def use(session: Session, recorder: Recorder) -> None:
        await recorder.taken.get()
        for _ in range(3):
            for status in ("accepted", "running", "done"):
                session.send(TaskStatus("t-1", status))
                await asyncio.sleep(0)
        session.send(TaskStatus("t-99", "done"))
        await over.wait()

    run_session(monkeypatch, FakeScheduler(script), use)
    assert heard.count(HEARTBEAT) == 1
    assert len([message for message in heard if isinstance(message, TaskStatus)]) < 10


# ------------------------------------------------------------------ tasks


def manifest_token(data: bytes) -> tuple[str, str]:
    builder = ManifestBuilder()
    builder.feed(data)
    manifest = builder.finish()
    return manifest.object_id(), sign(Kind.MANIFEST, manifest, SCHEDULER)


def fill_task(number: int = 1, **changes: Any) -> Task:
    object_id, token = manifest_token(b"%d" % number)
    fields = {
        "id": f"t-{number}",
        "kind": "fill",
        "object": object_id,
        "manifest": token,
        "sources": (Source("http://origin.test/o"),),
    }
    return Task(**{**fields, **changes})


class Shelf:
    def __init__(self) -> None:
        self.objects: set[str] = set()

    def has(self, object_id: str) -> bool:
        return object_id in self.objects

    def drop(self, object_id: str) -> bool:
        self.objects.discard(object_id)
        return True


class World:
    """A runner whose fills end when the test says so."""

    def __init__(self) -> None:
        self.shelf = Shelf()
        self.sent: asyncio.Queue[TaskStatus] = asyncio.Queue()
        self.started: asyncio.Queue[str] = asyncio.Queue()
        self.gates: dict[str, asyncio.Future[None]] = {}
        fills = Fills(self.shelf, self.fill, lambda: KEYS)
        self.runner = TaskRunner(self.shelf, {"fill": fills}, self.sent.put_nowait)

    async def fill(self, task: Task, signed: Any, progress: Callable[[int], None]) -> None:
        gate = self.gates[task.id] = asyncio.get_running_loop().create_future()
        self.started.put_nowait(task.id)
        progress(1)
        await gate
        self.shelf.objects.add(signed.object_id)

    async def heard(self, *statuses: str) -> TaskStatus:
        for wanted in statuses:
            found = await self.sent.get()
            assert found.status == wanted, found
        return found


def with_world(use: Callable[[World], Awaitable[None]]) -> None:
    async def main() -> None:
        world = World()
        world.runner.resume()
        running = asyncio.create_task(world.runner.run())
        try:
            async with asyncio.timeout(PATIENCE_S):
                await use(world)
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    asyncio.run(main())


def test_fills_run_one_after_the_other_and_end_as_they_end() -> None:
    async def use(world: World) -> None:
        world.runner.take(fill_task(1))
        world.runner.take(fill_task(2))
        await world.heard("accepted", "accepted", "running")
        assert await world.started.get() == "t-1"
        assert world.started.empty()
        world.gates["t-1"].set_result(None)
        await world.heard("done", "running")
        assert await world.started.get() == "t-2"
        world.gates["t-2"].set_exception(FallowError("disk full"))
        assert (await world.heard("failed")).reason == "disk full"
        assert [(s.id, s.status) for s in world.runner.statuses()] == [("t-1", "done"), ("t-2", "failed")]
        world.runner.take(fill_task(1))
        await world.heard("done")
        world.runner.take(fill_task(2))  # a second try of a failed one
        await world.heard("accepted")

    with_world(use)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"manifest": None}, "lacks"),
        ({"sources": ()}, "lacks"),
        ({"object": "b" * 64}, "manifest refused"),
        ({"manifest": sign(Kind.MANIFEST, ManifestBuilder().finish(), key(9))}, "manifest refused"),
        ({"kind": "probe"}, "does not do probe"),
        ({"kind": "drop", "object": None}, "names no object"),
    ],
    ids=str,
)
def test_tasks_that_cannot_be_done_fail_with_a_reason(changes: dict[str, Any], reason: str) -> None:
    async def use(world: World) -> None:
        world.runner.take(fill_task(1, **changes))
        while (last := await world.sent.get()).status in ("accepted", "running"):
            pass
        assert last.status == "failed"
        assert reason in (last.reason or "")
        assert world.started.empty()

    with_world(use)


def test_pausing_stops_a_fill_and_resuming_begins_it_again() -> None:
    async def use(world: World) -> None:
        world.runner.take(fill_task(1))
        await world.started.get()
        world.runner.pause()
        await asyncio.wait((world.gates["t-1"],))
        assert world.gates["t-1"].cancelled()
        world.runner.resume()
        assert await world.started.get() == "t-1"
        world.gates["t-1"].set_result(None)
        await world.heard("accepted", "running", "running", "done")

    with_world(use)


def test_why_fills_wait_is_told_with_each_of_them() -> None:
    async def use(world: World) -> None:
        world.runner.take(fill_task(1))
        await world.started.get()
        world.runner.take(fill_task(2))
        for _ in range(3):
            world.runner.pause("until tomorrow")
        world.runner.take(fill_task(3))
        told = [(s.id, s.status, s.reason) for s in world.runner.statuses()]
        assert told == [(f"t-{number}", status, "until tomorrow") for number, status in
                        ((1, "running"), (2, "accepted"), (3, "accepted"))]  # fmt: skip
        world.runner.resume()
        assert await world.started.get() == "t-1"
        assert {s.reason for s in world.runner.statuses()} == {None}
        assert world.sent.qsize() == 3 + 2 + 1 + 3 + 1  # it is told once, and taken back once

    with_world(use)


def test_cancelled_and_dropped_objects_are_not_filled() -> None:
    async def use(world: World) -> None:
        world.runner.take(fill_task(1))
        await world.started.get()
        world.runner.take(fill_task(2))
        world.runner.take(Task("t-3", "drop", fill_task(2).object))
        world.runner.cancel("t-1")
        world.runner.take(fill_task(4))
        assert await world.started.get() == "t-4"
        assert {status.id for status in world.runner.statuses()} == {"t-3", "t-4"}

    with_world(use)


def test_what_is_held_already_is_done() -> None:
    async def use(world: World) -> None:
        task = fill_task(1)
        world.shelf.objects.add(task.object or "")
        world.runner.take(task)
        await world.heard("accepted", "running", "done")
        assert world.started.empty()

    with_world(use)


def test_the_queue_and_the_memory_of_results_are_bounded() -> None:
    async def use(world: World) -> None:
        for number in range(250):
            world.runner.take(fill_task(number))
        assert len(world.runner.statuses()) == 200
        failed = [status for status in world.runner.statuses() if status.status == "failed"]
        assert failed
        assert all("too many" in (status.reason or "") for status in failed)

    with_world(use)


def test_large_manifests_do_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Fills, "waiting_bytes_max", 1000)

    async def use(world: World) -> None:
        world.runner.pause()
        for number in range(4):
            world.runner.take(fill_task(number))
        waiting = [status for status in world.runner.statuses() if status.status == "accepted"]
        assert 1 <= len(waiting) <= 3
        assert (await world.heard(*["accepted"] * len(waiting), "failed")).reason == "too many tasks wait here"

    with_world(use)


def test_results_survive_the_session_and_a_task_told_twice_is_done_once() -> None:
    async def use(world: World) -> None:
        task = fill_task(1)
        world.runner.take(task)
        await world.started.get()
        world.runner.take(task)
        world.gates["t-1"].set_result(None)
        await world.heard("accepted", "running", "running", "done")
        world.runner.take(task)
        assert (await world.heard("done")).bytes_done == 1
        assert world.started.empty()

    with_world(use)
