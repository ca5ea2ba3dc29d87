"""A live stream with ordinary players: how much of it comes from devices, and does it arrive whole?

Real processes on the loopback: a server, homes with 10 Mbit/s up, an origin, and ffmpeg as the players. The stream is
made by ffmpeg. Bytes are counted by the players' own logs and, for the origin and the server, by what they sent of it.
``--quick`` has fewer players and segments. Needs ``apt install ffmpeg``.
"""

from __future__ import annotations

import asyncio
import shutil
import statistics
import sys
import tempfile
from pathlib import Path

from harness import Figure, arguments, publish
from lab.video import Origin, Played, Player, encode, packets_of

sys.path.insert(0, str(Path(__file__).parent.parent / "demo"))

from fallow_client.ledger import Ledger
from fallow_client.scheduler import Account, Scheduler
from network import Line, Network, until

KBPS = 1000
HOMES, HOME_MBPS = 6, 10
FIRST = 6
"""Segments that there are when the first player tunes in."""
PLAYERS, SECONDS = 20, 60
QUICK_PLAYERS, QUICK_SECONDS = 8, 22
MANY_CONSUMERS = {"FALLOW_SERVER_DELIVERY_CONSUMER_TICKETS_BURST": "1000000"}
"""All players come from one address here."""


async def homes(network: Network, owners: list[Account]) -> None:
    for number, owner in enumerate(owners):
        device = await network.start_device(Line(f"home-{number}", HOME_MBPS, 100))
        await network.activate(device, owner.id, owner.token)
    await network.until_reachable()


async def play(network: Network, publisher: Account, origin: Origin, directory: Path, count: int) -> list[Played]:
    async with Scheduler(network.scheduler_url, publisher.token) as station:
        await station.add_site("tv", origin.url)
        origin.published = 1
        parameters = {"playlist": f"{origin.url}live/index.m3u8"}
        task = await station.add_task("live", parameters=parameters, replicas=HOMES)

        async def carried() -> bool | None:
            placements = (await station.task(task["id"]))["placements"]
            return True if sum(one["state"] == "running" for one in placements) == HOMES else None

        await until("the homes have joined", carried, 60)
        await origin.broadcast(FIRST)
        address = task["parameters"]["address"]
        players = [await Player.open(address, directory, f"player-{number}") for number in range(count)]
        try:
            await origin.broadcast(len(origin.segments))
            origin.over = True
            await asyncio.gather(*(player.ends() for player in players))
        finally:
            for player in players:
                await player.stop()
    sizes = {segment.name: len(segment.data) for segment in origin.segments}
    return [player.played(sizes) for player in players]


def whole(played: Played, directory: Path, origin: Origin) -> bool:
    first = next(number for number, one in enumerate(origin.segments) if one.name == played.first)
    return played.packets == packets_of(directory, origin.segments[first:])


async def run(directory: Path, *, quick: bool) -> list[Figure]:
    count, seconds = (QUICK_PLAYERS, QUICK_SECONDS) if quick else (PLAYERS, SECONDS)
    origin = Origin(encode(directory, seconds, KBPS))
    async with origin.serving(), Network() as network:
        await network.start_server(MANY_CONSUMERS)
        async with Scheduler(network.scheduler_url, network.operator_token) as operator:
            publisher = await operator.add_account("publisher", "A station")
            owners = [await operator.add_account("owner", f"Home {number}") for number in range(HOMES)]
        await homes(network, owners)
        async with Ledger(network.ledger_url, network.operator_token) as ledger:

            async def funded() -> bool:
                await ledger.deposit(publisher.id, 10**12)
                return True

            await until("the publisher is known to the ledger", funded, 60)
        found = await play(network, publisher, origin, directory, count)
    shares = sorted(played.share for played in found)
    intact = [whole(played, directory, origin) for played in found]
    stream_bytes = sum(len(segment.data) for segment in origin.segments)
    sizes = {f"/live/{segment.name}": len(segment.data) for segment in origin.segments}
    pulled = sum(sizes.get(path, 0) for path, _ in origin.asked)
    return [
        Figure("device_share", statistics.fmean(shares), "share", shares[0], shares[-1], "", None, f"{count} players"),
        Figure("intact", sum(intact) / count, "share", min(intact), max(intact), ">= 1", all(intact), "the encoder"),
        Figure("origin_copies", pulled / stream_bytes, "copies", pulled / stream_bytes, pulled / stream_bytes, "<= 1",
               pulled <= stream_bytes, "the stream once"),
    ]  # fmt: skip


def main() -> None:
    parser = arguments(__doc__ or "")
    options = parser.parse_args()
    if shutil.which("ffmpeg") is None:
        raise SystemExit("ffmpeg makes and plays the stream: apt install ffmpeg")
    with tempfile.TemporaryDirectory(prefix="fallow-live-") as directory:
        figures = asyncio.run(run(Path(directory), quick=options.quick))
    publish("live", figures, quick=options.quick)


if __name__ == "__main__":
    main()
