"""An ordinary player plays a film and a live stream from devices, and one of them dies: real programs throughout."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest
from fallow_client.ledger import Ledger
from fallow_client.scheduler import Scheduler
from fragile_network import MANY_CONSUMERS, FragileNetwork
from lab.video import Origin, Player, encode, packets_of
from network import Line, until

pytestmark = [
    pytest.mark.processes,
    pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs ffmpeg, to make and to play video"),
]

SECONDS = 16
FIRST = 5
"""Segments that there are when players tune in."""
DEVICES = 3
WAIT_S = 60


async def prepared(network: FragileNetwork) -> str:
    """Three active devices. Gives the token of a publisher with escrow."""
    await network.start_server(MANY_CONSUMERS)
    async with Scheduler(network.scheduler_url, network.operator_token) as operator:
        publisher = await operator.add_account("publisher", "A station")
        owners = [await operator.add_account("owner", f"Home {number}") for number in range(DEVICES)]
    for number, owner in enumerate(owners):
        device = await network.start_device(Line(f"device-{number}", 200, 200))
        await network.activate(device, owner.id, owner.token)
    await network.until_reachable()
    async with Ledger(network.ledger_url, network.operator_token) as ledger:

        async def funded() -> bool:
            await ledger.deposit(publisher.id, 10**12)
            return True

        await until("the publisher is known to the ledger", funded, WAIT_S)
    return publisher.token


async def film(network: FragileNetwork, station: Scheduler, origin: Origin, directory: Path) -> None:
    """The first viewer gets it from the origin, and by that brings it to devices; the second from those."""
    sizes = {segment.name: len(segment.data) for segment in origin.segments}
    reference = packets_of(directory, origin.segments)
    address = f"{network.scheduler_url}/s/tv/film/index.m3u8"
    for name in ("first", "second"):
        player = await Player.open(address, directory, name)
        assert await player.ends() == 0
        played = player.played(sizes)
        assert played.packets == reference, name
        assert played.failed == ()

        async def placed() -> bool | None:
            found = [await station.object(one["id"]) for one in await station.objects()]
            return True if len(found) == SECONDS and all(one["replicas"] == 2 for one in found) else None

        if name == "first":
            await until("devices hold the film", placed, WAIT_S)
    assert played.from_elsewhere == 0


async def live(network: FragileNetwork, station: Scheduler, origin: Origin, directory: Path) -> None:
    sizes = {segment.name: len(segment.data) for segment in origin.segments}
    origin.published = 1
    url = f"{origin.url}live/index.m3u8"
    task = await station.add_task("live", parameters={"playlist": url}, replicas=DEVICES)

    async def carried() -> bool | None:
        placements = (await station.task(task["id"]))["placements"]
        return True if sum(one["state"] == "running" for one in placements) == DEVICES else None

    await until("devices have joined", carried, WAIT_S)
    await origin.broadcast(FIRST)
    address = f"{network.scheduler_url}/s/tv/live/index.m3u8"
    players = [await Player.open(address, directory, f"live-{number}") for number in range(2)]

    async def broadcast(last: int, sign: str) -> None:
        """As fast as the players follow: what a slow computer misses of a stream is gone."""
        while origin.published < last:
            origin.published += 1
            await until("players have asked for what is newest", lambda: asked_by_all(sign), WAIT_S)

    async def asked_by_all(sign: str) -> bool | None:
        newest = origin.segments[origin.published - 1].name
        asked = [any(sign in path and newest in path for _, path in one.requests()) for one in players]
        return True if all(asked) else None

    try:
        await broadcast(FIRST + 4, "ticket=")
        await network.kill("device-0")
        async with Scheduler(network.scheduler_url, network.operator_token) as operator:

            async def lost() -> bool | None:
                return True if sum(bool(one["connected"]) for one in await operator.devices()) == 2 else None

            await until("the scheduler has lost the device", lost, WAIT_S)
        await broadcast(SECONDS, "")
        origin.over = True
        assert [await player.ends() for player in players] == [0, 0]
    finally:
        for player in players:
            await player.stop()
    for player in players:
        played = player.played(sizes)
        assert played.failed == ()
        first = next(number for number, one in enumerate(origin.segments) if one.name == played.first)
        assert first < FIRST
        assert played.packets == packets_of(directory, origin.segments[first:]), "every packet, to the last"
        assert played.share > 0.5
    # Each segment left the origin once, for the scheduler; players were never sent there.
    segments = [(path, program) for path, program in origin.asked if path.startswith("/live/seg")]
    assert {program for _, program in segments} == {"fallow"}
    assert len(segments) == len({path for path, _ in segments})


def test_a_player_spreads_over_devices_and_goes_on_when_one_dies(tmp_path: Path) -> None:
    async def run() -> None:
        origin = Origin(encode(tmp_path, SECONDS, 1500))
        async with origin.serving() as url, FragileNetwork() as network:
            token = await prepared(network)
            async with Scheduler(network.scheduler_url, token) as station:
                await station.add_site("tv", url)
                await film(network, station, origin, tmp_path)
                await live(network, station, origin, tmp_path)

    asyncio.run(run())
