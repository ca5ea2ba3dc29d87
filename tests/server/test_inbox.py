"""Heartbeats that are read together."""

from __future__ import annotations

import asyncio

import pytest
from fallow_server.fleet import inbox
from fallow_server.fleet.inbox import READ_AT_ONCE, Inbox
from fallow_server.fleet.live import LiveDevice


async def _send(text: str) -> None:
    raise AssertionError("nothing is sent to it")


def _close(code: int, reason: str) -> None:
    raise AssertionError("nobody closes it")


def device(name: str) -> LiveDevice:
    return LiveDevice(name, "owner", b"", "192.0.2.1", 0, _send, _close)


class Read:
    def __init__(self) -> None:
        self.texts: asyncio.Queue[tuple[str, str]] = asyncio.Queue()

    async def act(self, device: LiveDevice, text: str) -> None:
        self.texts.put_nowait((device.device_id, text))

    def all(self) -> list[tuple[str, str]]:
        return [self.texts.get_nowait() for _ in range(self.texts.qsize())]


def test_they_are_read_soon_and_in_the_order_in_which_they_came() -> None:
    async def run() -> None:
        read = Read()
        box = Inbox(read.act)
        reading = asyncio.create_task(box.run())
        for turn in range(3):
            await box.put(device("one"), f"{turn} a")
            await box.put(device("two"), f"{turn} b")
            assert not read.all(), "not before others have come"
            async with asyncio.timeout(10):
                assert await read.texts.get() == ("one", f"{turn} a")
                assert await read.texts.get() == ("two", f"{turn} b")
        reading.cancel()

    asyncio.run(run())


def test_too_many_are_read_before_one_more_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        read = Read()
        box = Inbox(read.act)
        for number in range(3):
            await box.put(device("one"), str(number))
        assert not read.all()
        await box.put(device("one"), "3")
        assert [text for _, text in read.all()] == ["0", "1", "2"]
        await box.empty()
        assert [text for _, text in read.all()] == ["3"]

    monkeypatch.setattr(inbox, "WAITING_MAX", 3)
    asyncio.run(run())


def test_others_have_their_turn_meanwhile_and_nobody_overtakes() -> None:
    async def run() -> None:
        read, turns = Read(), 0

        async def other() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        box, count = Inbox(read.act), 4 * READ_AT_ONCE
        for number in range(count):
            await box.put(device("one"), str(number))
        busy = asyncio.create_task(other())
        await asyncio.gather(box.empty(), box.empty())
        busy.cancel()
        assert [text for _, text in read.all()] == [str(number) for number in range(count)]
        assert turns >= 4

    asyncio.run(run())
