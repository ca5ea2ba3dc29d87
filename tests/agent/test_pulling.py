"""Objects held in part, on real sockets: chunks fetched when they are asked for, once, verified, served and kept."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from aiohttp import web
from edge_world import DEVICE, MIB, Caller, World, manifest_of, put, some_bytes, world
from fallow_agent.edge import pulling, service
from fallow_agent.edge.filling import FillConfig, Filler, FillFailed, filling_session
from fallow_agent.edge.pulling import Pulls
from fallow_wire.session import Source, Task
from support import PATIENCE_S

DATA = some_bytes(5 * MIB + 7, seed=5)
SIGNED = manifest_of(DATA)
OBJECT = SIGNED.object_id


@dataclass
class Origin:
    """Counts what leaves it; holds back what is asked while ``open`` is not set."""

    url: str = ""
    asked: list[int] = field(default_factory=list)
    open: asyncio.Event = field(default_factory=asyncio.Event)
    data: bytes = DATA

    async def handle(self, request: web.Request) -> web.Response:
        start, stop = request.http_range.start or 0, request.http_range.stop or len(DATA)
        self.asked.append(start // MIB)
        await self.open.wait()
        headers = {"Content-Range": f"bytes {start}-{stop - 1}/{len(DATA)}"}
        return web.Response(status=206, body=self.data[start:stop], headers=headers)


@dataclass
class Device:
    here: World
    pulls: Pulls
    origin: Origin
    told: list[tuple[str, bool]] = field(default_factory=list)

    def task(self) -> Task:
        return Task("t", "pull", OBJECT, SIGNED.token, (Source(self.origin.url),))

    async def ask(self, first: int, last: int, *, confirms: bool = False) -> bytes:
        """Bytes of a range, by a consumer of its own. :raises IncompleteReadError: the answer was cut."""
        caller = await Caller.connect(self.here.port)
        try:
            ticket = self.here.ticket(OBJECT, countersigned=confirms)
            answer = await caller.call(self.here.url(ticket), Range=f"bytes={first}-{last}")
            assert answer.status == 206, answer
            assert "repr-digest" not in answer.fields or self.here.content.has(OBJECT)
            return answer.body
        finally:
            await caller.close()


@asynccontextmanager
async def device(tmp_path: Path, **flags: bool) -> AsyncIterator[Device]:
    """A device that holds the object in part. ``wears``: its disk bears few writes; ``full``: none more today."""
    origin = Origin()
    origin.open.set()
    app = web.Application()
    app.router.add_get("/object", origin.handle)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    origin.url = f"http://127.0.0.1:{runner.addresses[0][1]}/object"
    config = FillConfig(private_sources=True)
    try:
        async with world(tmp_path) as here, filling_session(config) as http:
            filler = Filler(here.content, http, DEVICE, here.clock, lambda: 10**11, config)
            pulls = Pulls(
                here.content, filler, here.clock, lambda: not flags.get("full"), lambda: bool(flags.get("wears"))
            )
            here.service._pulls = pulls
            found = Device(here, pulls, origin)
            pulls.on_change = lambda object_id, held: found.told.append((object_id, held))
            await pulls.hold(found.task(), SIGNED, lambda held: None)
            yield found
            await pulls.close()
    finally:
        origin.open.set()
        await runner.cleanup()


def test_a_chunk_is_fetched_once_for_all_who_ask_and_nothing_ahead(tmp_path: Path) -> None:
    async def run() -> None:
        async with device(tmp_path) as one:
            assert one.told == [(OBJECT, True)]
            one.origin.open.clear()
            asking = [asyncio.create_task(one.ask(2 * MIB + 5, 3 * MIB - 1)) for _ in range(5)]
            while len(one.here.service.sessions()) < 5:  # noqa: ASYNC110 - nothing announces a transfer
                await asyncio.sleep(0)
            one.origin.open.set()
            for body in await asyncio.gather(*asking):
                assert body == DATA[2 * MIB + 5 : 3 * MIB]
            partial = one.pulls.get(OBJECT)
            assert partial is not None
            assert partial.worker is not None
            await partial.worker
            assert one.origin.asked == [2]

    asyncio.run(run())


def test_who_asks_for_all_gets_it_chunk_by_chunk_and_then_it_is_held(tmp_path: Path) -> None:
    async def run() -> None:
        async with device(tmp_path) as one:
            added: list[str] = []
            one.here.content.on_change = lambda more, less: added.extend(more)
            assert await one.ask(0, len(DATA) - 1) == DATA
            while not one.here.content.has(OBJECT):  # noqa: ASYNC110 - the last flush goes on after the answer
                await asyncio.sleep(0)
            assert added == [OBJECT]
            assert sorted(one.origin.asked) == list(range(6))
            assert one.pulls.ids() == ()
            assert await one.ask(MIB, 2 * MIB) == DATA[MIB : 2 * MIB + 1]

    asyncio.run(run())


def test_what_is_not_the_chunk_is_never_served(tmp_path: Path) -> None:
    async def run() -> None:
        async with device(tmp_path) as one:
            one.origin.data = bytes(len(DATA))
            with pytest.raises(asyncio.IncompleteReadError):
                await one.ask(0, MIB - 1)
            caller = await Caller.connect(one.here.port)
            answer = await caller.call(one.here.url(one.here.ticket(OBJECT)), Range="bytes=0-9")
            assert (answer.status, answer.fields["retry-after"]) == (503, str(2))
            await caller.close()

    asyncio.run(run())


def test_a_fill_goes_on_from_there(tmp_path: Path) -> None:
    async def run() -> None:
        async with device(tmp_path) as one:
            await one.ask(0, MIB - 1)
            await one.pulls.fill(one.task(), SIGNED, lambda held: None)
            assert one.here.content.has(OBJECT)
            assert sorted(one.origin.asked) == list(range(6))
            # It was placed here now: a fill that wants its room does not get it.
            one.here.content.quota_bytes = len(DATA) + 10
            other = manifest_of(some_bytes(MIB, seed=9))
            with pytest.raises(FillFailed):
                await one.pulls.fill(Task("u", "fill", other.object_id, other.token, ()), other, lambda held: None)
            assert one.here.content.has(OBJECT)

    asyncio.run(run())


def test_what_was_placed_takes_the_room_of_what_is_held_in_part(tmp_path: Path) -> None:
    async def run() -> None:
        async with device(tmp_path) as one:
            one.here.content.quota_bytes = len(DATA) + 10
            put(one.here.content, some_bytes(MIB, seed=9))
            one.pulls.drop_idle()
            assert one.told == [(OBJECT, True), (OBJECT, False)]
            with pytest.raises(FillFailed, match="quota"):
                await one.pulls.hold(one.task(), SIGNED, lambda held: None)

    asyncio.run(run())


def test_where_the_disk_wears_the_second_request_is_worth_a_write(tmp_path: Path) -> None:
    async def run() -> None:
        async with device(tmp_path, wears=True) as one:
            caller = await Caller.connect(one.here.port)
            answer = await caller.call(one.here.url(one.here.ticket(OBJECT)), Range="bytes=0-9")
            assert answer.status == 503
            assert await one.ask(0, 9) == DATA[:10]
            await caller.close()
        async with device(tmp_path / "full", full=True) as one:
            caller = await Caller.connect(one.here.port)
            answer = await caller.call(one.here.url(one.here.ticket(OBJECT)), Range="bytes=0-9")
            assert (answer.status, one.origin.asked) == (503, [])
            await caller.close()

    (tmp_path / "full").mkdir()
    asyncio.run(run())


def test_what_nobody_asks_for_is_dropped_and_only_so_many_are_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run() -> None:
        async with device(tmp_path) as one:
            monkeypatch.setattr(pulling, "PARTIAL_MAX", 1)
            other = manifest_of(some_bytes(MIB, seed=9))
            await one.pulls.hold(Task("u", "pull", other.object_id, other.token, ()), other, lambda held: None)
            assert one.pulls.ids() == (other.object_id,)
            monkeypatch.setattr(pulling, "IDLE_S_MAX", -1.0)
            one.pulls.drop_idle()
            assert one.pulls.ids() == ()
            assert [held for _, held in one.told] == [True, False, True, False]
            assert one.here.content.usage_bytes() == 0

    asyncio.run(run())


def test_ordinary_programs_wait_for_a_chunk_longer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "PULL_S_MAX", 0.05)
    monkeypatch.setattr(service, "LEGACY_PULL_S_MAX", PATIENCE_S)

    async def run() -> None:
        async with device(tmp_path) as one:
            one.origin.open.clear()
            ordinary = asyncio.create_task(one.ask(0, 9))
            with pytest.raises(asyncio.IncompleteReadError):
                await one.ask(0, 9, confirms=True)
            one.origin.open.set()
            assert await ordinary == DATA[:10]

    asyncio.run(run())
