"""How long the ledger takes to refuse bad input: numbers, nesting, bombs and forgeries of which each is turned away by
another check, over HTTP, from the first byte sent to the last of the answer.

The ledger is a process of its own on one core, as in ``ledger``. Cases take turns, so that a moment in which the
computer does other things falls on all.
"""

from __future__ import annotations

import asyncio
import gzip
import os
import statistics
import tempfile
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

import aiohttp
from fallow_wire.batches import Batch
from fallow_wire.encoding import base64url
from fallow_wire.jws import Kind, sign
from fallow_wire.keys import PrivateKey
from harness import Figure, arguments, publish
from ledger import SERVER_CORE, Device, Server, World

REFUSED_MS_MAX = 50
ROUNDS, ROUNDS_QUICK = 40, 10


@dataclass(frozen=True, slots=True)
class Case:
    name: str
    path: str
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)


def json_cases() -> list[Case]:
    """Bodies of a call that moves points."""
    amount = b'{"publisher": "publisher-1", "micro_points": %s}'
    bodies = {
        "no JSON": b"{",
        "2^70": amount % str(2**70).encode(),
        "negative": amount % b"-1",
        "a boolean": amount % b"true",
        "a float": amount % b"1.5",
        "5,000 digits": amount % (b"9" * 5000),
        "duplicate keys": b'{"publisher": "publisher-1", "micro_points": 1, "micro_points": 1}',
        "nested 10,000 deep": b'{"publisher": ' + b"[" * 10_000 + b"]" * 10_000 + b"}",
        "20,000 small arrays": b'{"publisher": [' + b"[]," * 20_000 + b"[]]}",
        "3 MB": b'{"publisher": "' + b"a" * 3_000_000 + b'"}',
        "a bomb of 200 MB": gzip.compress(bytes(200_000_000), 6),
    }
    headers = {"Authorization": "Bearer operator", "Content-Type": "application/json", "Idempotency-Key": "bad"}
    packed = {"a bomb of 200 MB": {"Content-Encoding": "gzip"}}
    return [Case(name, "/v1/deposits", body, headers | packed.get(name, {})) for name, body in bodies.items()]


def proof_cases(world: World) -> list[Case]:
    """Batches that nobody may be paid for."""
    device, stranger = world.devices[0], Device(PrivateKey.generate())
    good = replace(device).batch(world.scheduler, world.tariff)
    head, payload, signature = good.split(".")
    deep = base64url(b'{"did":' + b"[" * 10_000 + b"]" * 10_000 + b"}")
    unsigned = base64url(b'{"alg":"none","typ":"fallow-batch+jwt","kid":"%s"}' % device.id.encode())
    later = sign(Kind.BATCH, Batch(device.id, 7, "0" * 64, ()), device.key, kid=device.id)
    # The neutral element as the point of the signature: with a key of small order it would fit anything.
    neutral = base64url(b"\1" + bytes(63))
    tokens = {
        "of a stranger": stranger.batch(world.scheduler, world.tariff),
        "signed by another": sign(Kind.BATCH, Batch(device.id, 1, device.prev, ()), stranger.key, kid=device.id),
        "cut short": good[:-40],
        "without a signature": f"{unsigned}.{payload}.",
        "with a neutral signature": f"{head}.{payload}.{neutral}",
        "nested 10,000 deep": f"{head}.{deep}.{signature}",
        "out of its chain": later,
        "of another kind": sign(Kind.TICKET, Batch(device.id, 1, device.prev, ()), device.key, kid=device.id),
        "3 MB": good * (3_000_000 // len(good)),
    }
    headers = {"Content-Type": "application/jwt"}
    return [Case(f"batch {name}", "/v1/proofs", token.encode(), headers) for name, token in tokens.items()]


async def refused_ms(http: aiohttp.ClientSession, url: str, case: Case) -> float:
    began = time.perf_counter()
    async with http.post(url + case.path, data=case.body, headers=case.headers) as response:
        await response.read()
        assert 400 <= response.status < 500, (case.name, response.status)
    return 1000 * (time.perf_counter() - began)


async def measure(directory: Path, rounds: int) -> tuple[list[Figure], list[str]]:
    os.sched_setaffinity(0, os.sched_getaffinity(0) - {SERVER_CORE} or {SERVER_CORE})
    server = Server(directory)
    try:
        async with aiohttp.ClientSession() as http:
            world = World()
            await world.populate(http, server.url)
            cases = [*json_cases(), *proof_cases(world)]
            took: dict[str, list[float]] = {case.name: [] for case in cases}
            for _ in range(rounds):
                for case in cases:
                    took[case.name].append(await refused_ms(http, server.url, case))
    finally:
        server.close()
    medians = {name: statistics.median(values) for name, values in took.items()}
    slowest = max(medians, key=lambda name: medians[name])
    most = max(max(values) for values in took.values())
    figure = Figure(
        "refused_ms",
        medians[slowest],
        "ms",
        min(medians.values()),
        most,
        f"<= {REFUSED_MS_MAX}",
        medians[slowest] <= REFUSED_MS_MAX,
    )
    notes = ["", "median of each case, ms (the figure is the slowest; its high is the slowest answer of all):"]
    notes += [f"  {ms:6.2f}  {name}" for name, ms in sorted(medians.items(), key=lambda item: -item[1])]
    return [figure], notes


def main() -> None:
    options = arguments(__doc__ or "").parse_args()
    with tempfile.TemporaryDirectory(prefix="fallow-bench-") as name:
        figures, notes = asyncio.run(measure(Path(name), ROUNDS_QUICK if options.quick else ROUNDS))
    publish("refusals", figures, quick=options.quick, notes=notes)


if __name__ == "__main__":
    main()
