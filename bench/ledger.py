"""How fast the ledger settles, next to the signatures that it must check anyway.

The ledger is a process of its own on one core, with SQLite at ``synchronous=FULL``, on the loopback; devices send
batches of 100 countersigned tickets over HTTP. The limit is two Ed25519 verifications by ``cryptography`` for each
receipt (ticket and receipt), on the same core, measured between the rounds.

``growth`` fills the database with rows of the same form as the ledger's (only the texts of old batches are shorter) and
compares the processor time of a receipt at each size with that at 10^4 entries.
"""

from __future__ import annotations

import asyncio
import os
import random
import secrets
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from fallow_server.clock import Clock
from fallow_server.database import Database
from fallow_server.garbage import collect_less
from fallow_server.ledger.app import LedgerService
from fallow_server.ledger.config import LedgerConfig
from fallow_server.signing import SigningKeys
from fallow_server.tokens import hash_token
from fallow_wire.batches import FIRST_PREV, Batch, BatchItem, batch_hash
from fallow_wire.fields import encode
from fallow_wire.ids import uuid7
from fallow_wire.jws import Kind, sign
from fallow_wire.keys import JwkSet, PrivateKey
from fallow_wire.tickets import Confirmation, Receipt, Ticket
from harness import Figure, arguments, publish

LEDGER, SCHEDULER = "https://ledger.example", "https://scheduler.example"
LINK = "link-token"
ITEMS = 100
DEVICES = 4
VERIFICATIONS = 2
MESSAGE_BYTES = 700
"""About what is signed in a ticket; a receipt is shorter, so that this is in the limit's favour by little."""
GROWTH_MAX = 1.2
SETTLED_MIN = 0.75
SERVER_CORE = max(os.sched_getaffinity(0))


# ------------------------------------------------------------------ the ledger


async def serve(directory: Path) -> None:
    """A ledger as ``fallow-server`` runs it; prints its port and serves until its input ends."""
    path = directory / "ledger.keys"
    keys = SigningKeys.load(path) if path.exists() else SigningKeys.create(path)
    database = Database(f"sqlite+aiosqlite:///{directory / 'ledger.sqlite'}")
    service = LedgerService(LedgerConfig(LEDGER, sweep_interval_s=3600), database, keys, Clock(), hash_token(LINK))
    await service.start()
    runner = web.AppRunner(service.api.application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    collect_less()
    print(runner.addresses[0][1], flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await runner.cleanup()
    await service.close()
    await database.close()


class Server:
    """The process above, bound to one core."""

    def __init__(self, directory: Path) -> None:
        command = [sys.executable, __file__, "--serve", str(directory)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        os.sched_setaffinity(self.process.pid, {SERVER_CORE})
        assert self.process.stdout is not None
        self.url = f"http://127.0.0.1:{self.process.stdout.readline().strip()}"

    def processor_s(self) -> float:
        """User and system time of all its threads so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def close(self) -> None:
        self.process.communicate("")


# ------------------------------------------------------------------ those who talk to it


@dataclass(slots=True)
class Device:
    key: PrivateKey
    seq: int = 0
    prev: str = FIRST_PREV

    @property
    def id(self) -> str:
        return self.key.public.device_id()

    def batch(self, scheduler: PrivateKey, tariff: str) -> str:
        """The next batch, of tickets of this moment."""
        now = int(time.time())
        items = tuple(self._item(scheduler, tariff, now) for _ in range(ITEMS))
        token = sign(Kind.BATCH, Batch(self.id, self.seq + 1, self.prev, items), self.key, kid=self.id)
        self.seq, self.prev = self.seq + 1, batch_hash(token)
        return token

    def _item(self, scheduler: PrivateKey, tariff: str, now: int) -> BatchItem:
        consumer = PrivateKey.generate()
        ticket = Ticket(
            iss=SCHEDULER,
            aud=self.id,
            jti=uuid7(time.time_ns() // 10**6, os.urandom(10)),
            sub="c" * 43,
            iat=now,
            nbf=now,
            exp=now + 900,
            obj="a" * 64,
            svc="object",
            tier="countersigned",
            max_bytes=10 * 2**20,
            publisher="publisher-1",
            tariff=tariff,
            ledger=LEDGER,
            cnf=Confirmation(consumer.public.jwk()),
        )
        receipt = Receipt(ticket.jti, 5, 5 * 2**20, 900, "b" * 64)
        tokens = sign(Kind.TICKET, ticket, scheduler), sign(Kind.RECEIPT, receipt, consumer)
        return BatchItem(tokens[0], 5 * 2**20, 900, now, now + 1, tokens[1])


@dataclass(slots=True)
class World:
    """Keys and devices, the same for each database, and a tariff of the ledger that is up."""

    scheduler: PrivateKey = field(default_factory=PrivateKey.generate)
    devices: list[Device] = field(default_factory=list)
    tariff: str = ""

    async def populate(self, http: aiohttp.ClientSession, url: str) -> None:
        self.devices = [Device(PrivateKey.generate()) for _ in range(DEVICES)]

        async def put(path: str, body: Any, method: str = "PUT", token: str = LINK) -> None:
            headers = {"Authorization": f"Bearer {token}", "Idempotency-Key": secrets.token_hex(8)}
            async with http.request(method, url + path, json=body, headers=headers) as response:
                assert response.status < 300, await response.text()

        jwks = encode(JwkSet((self.scheduler.public.jwk(with_kid=True),)))
        await put("/v1/link/scheduler", {"url": SCHEDULER, "jwks": jwks})
        for account, role in (("owner", "owner"), ("publisher-1", "publisher"), ("operator", "operator")):
            body = {"role": role, "name": account, "token_hashes": [hash_token(account)]}
            await put(f"/v1/link/accounts/{account}", body)
        for device in self.devices:
            body = {"jwk": encode(device.key.public.jwk()), "owner": "owner"}
            await put(f"/v1/link/devices/{device.id}", body)
        async with http.get(url + "/v1/tariffs/current") as response:
            self.tariff = (await response.json())["id"]
        await put("/v1/deposits", {"publisher": "publisher-1", "micro_points": 10**14}, "POST", "operator")
        hour = int(time.time()) // 3600
        for ahead in (0, 1):
            body = {"publisher": "publisher-1", "hour": hour + ahead, "micro_points": 10**13}
            await put("/v1/link/reservations", body, "POST")


async def post(http: aiohttp.ClientSession, url: str, batch: str) -> None:
    async with http.post(url + "/v1/proofs", data=batch) as response:
        body = await response.text()
        assert response.status == 200, body


async def post_all(http: aiohttp.ClientSession, url: str, by_device: list[list[str]]) -> None:
    """Each device sends its batches one after the other, all devices at once."""

    async def one(batches: list[str]) -> None:
        for batch in batches:
            await post(http, url, batch)

    await asyncio.gather(*(one(batches) for batches in by_device))


def make(world: World, batches: int) -> list[list[str]]:
    return [[device.batch(world.scheduler, world.tariff) for _ in range(batches)] for device in world.devices]


# ------------------------------------------------------------------ the limit


def verifications_per_s(seconds: float) -> float:
    """Of ``cryptography``, on the server's core, while the server idles."""
    key = Ed25519PrivateKey.generate()
    message = os.urandom(MESSAGE_BYTES)
    signature, raw = key.sign(message), key.public_key().public_bytes_raw()
    found: list[float] = []

    def run() -> None:
        os.sched_setaffinity(threading.get_native_id(), {SERVER_CORE})
        public = Ed25519PublicKey.from_public_bytes(raw)
        started, count = time.thread_time(), 0
        while time.thread_time() - started < seconds:
            for _ in range(200):
                public.verify(signature, message)
            count += 200
        found.append(count / (time.thread_time() - started))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return found[0]


# ------------------------------------------------------------------ figures


async def settle(directory: Path, quick: bool) -> list[Figure]:
    server, world = Server(directory), World()
    rounds, batches = (3, 10) if quick else (9, 25)
    by_processor, by_time, rates, limits = [], [], [], []
    try:
        async with aiohttp.ClientSession() as http:
            await world.populate(http, server.url)
            await post_all(http, server.url, make(world, 3))  # warms
            for _ in range(rounds):
                made = make(world, batches)
                receipts = batches * DEVICES * ITEMS
                limit = verifications_per_s(0.5) / VERIFICATIONS
                processor, started = server.processor_s(), time.monotonic()
                await post_all(http, server.url, made)
                took, spent = time.monotonic() - started, server.processor_s() - processor
                limit = (limit + verifications_per_s(0.5) / VERIFICATIONS) / 2
                by_processor.append(receipts / spent / limit)
                by_time.append(receipts / took / limit)
                rates.append(receipts / took)
                limits.append(limit)
            latencies = await half_load(http, server.url, world, statistics.median(rates), 5 if quick else 30)
    finally:
        server.close()
    against = "2 verifications of cryptography a receipt"
    goal = f">= {SETTLED_MIN}"
    value = statistics.median(by_processor)
    ordered = sorted(latencies)
    return [
        Figure(
            "settled_over_limit",
            value,
            "ratio",
            min(by_processor),
            max(by_processor),
            goal,
            value >= SETTLED_MIN,
            against,
        ),
        Figure(
            "settled_over_limit.wall",
            statistics.median(by_time),
            "ratio",
            min(by_time),
            max(by_time),
            "",
            None,
            against,
        ),
        Figure("receipts_per_s", statistics.median(rates), "1/s", min(rates), max(rates)),
        Figure("limit_receipts_per_s", statistics.median(limits), "1/s", min(limits), max(limits)),
        Figure("ack_p99_ms", percentile(ordered, 99), "ms", ordered[0], ordered[-1]),
        Figure("ack_p50_ms", percentile(ordered, 50), "ms", ordered[0], ordered[-1]),
    ]


def percentile(ordered: list[float], percent: int) -> float:
    """By nearest rank."""
    return ordered[max(0, -(-len(ordered) * percent // 100) - 1)]


async def half_load(http: aiohttp.ClientSession, url: str, world: World, rate: float, seconds: int) -> list[float]:
    """ms from the moment at which a batch was due to its ack, at half of ``rate`` receipts a second.

    Batches of one device wait for each other, as they do at home, and the wait counts."""
    interval = ITEMS / (rate / 2)
    count = max(DEVICES, int(seconds / interval) // DEVICES)
    made = make(world, count)
    begin = time.monotonic() + 0.1
    latencies: list[float] = []

    async def one(number: int, batches: list[str]) -> None:
        for turn, batch in enumerate(batches):
            due = begin + (turn * DEVICES + number) * interval
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            await post(http, url, batch)
            latencies.append((time.monotonic() - due) * 1000)

    await asyncio.gather(*(one(number, batches) for number, batches in enumerate(made)))
    return latencies


# ------------------------------------------------------------------ growth


def fill(file: Path, until_entries: int, draw: random.Random) -> None:
    """Rows up to so many entries, in the form of the ledger's own, below its true ones in no way that costs matter.

    1000 owners, 2000 devices, batches of 100 whose text is 100 bytes instead of 150 KiB.
    """
    connection = sqlite3.connect(file)
    connection.executescript("PRAGMA synchronous = OFF; PRAGMA cache_size = -500000; PRAGMA journal_mode = OFF;")
    columns = [row[1] for row in connection.execute("PRAGMA table_info(settlements)")]
    entries, stored_hash = connection.execute("SELECT entries, hash FROM chain_head").fetchone()
    seq_of: dict[str, int] = dict(connection.execute("SELECT device, max(seq) FROM batches GROUP BY device"))
    now, milliseconds = int(time.time()), time.time_ns() // 10**6 - 60 * 86_400_000
    milliseconds += entries // 2

    def blocks() -> Iterator[tuple[list[Any], list[Any], tuple[Any, ...]]]:
        nonlocal entries
        while entries < until_entries:
            device, owner = f"fd-{draw.randrange(2000):024d}", f"own-{draw.randrange(1000)}"
            seq = seq_of[device] = seq_of.get(device, 0) + 1
            rows, settled = [], []
            for place in range(ITEMS):
                jti = uuid7(milliseconds + entries // 2, draw.randbytes(10))
                posting = uuid7(milliseconds + entries // 2, draw.randbytes(10))
                for account, holder, sign_ in (
                    ("reserved:publisher-1:1", "publisher-1", -1),
                    (f"held:{owner}", owner, 1),
                ):
                    entries += 1
                    digest = draw.randbytes(32).hex()
                    rows.append((entries, now, "settlement", account, holder, sign_ * 4882, posting, jti, digest))
                values = {
                    "jti": jti, "device": device, "batch_seq": seq, "item": place, "digest": draw.randbytes(32).hex(),
                    "owner": owner, "publisher": "publisher-1", "service": "object", "tier": "countersigned",
                    "issued_at": now, "claimed_bytes": 5 << 20, "allowed_bytes": 10 << 20, "confirmed_bytes": 5 << 20,
                    "confirmed_ms": 900, "consumer": "c" * 22,
                    "object": "o" * 64, "paid_bytes": 5 << 20, "tariff": "t" * 64, "rate": 10**6, "quality": 1000,
                    "scarcity": 1000, "weight": 1000, "micro_points": 4882, "entry_seq": entries - 1, "booked_at": now,
                    "matures_at": now, "seal": "s" * 64,
                }  # fmt: skip
                settled.append([values.get(name) for name in columns])
            yield rows, settled, (device, seq, draw.randbytes(32).hex(), "b" * 100, "a" * 100, now)

    connection.execute("BEGIN")
    for rows, settled, batch in blocks():
        connection.executemany(f"INSERT INTO entries VALUES ({', '.join('?' * 9)})", rows)
        connection.executemany(f"INSERT INTO settlements VALUES ({', '.join('?' * len(columns))})", settled)
        connection.execute("INSERT INTO batches VALUES (?, ?, ?, ?, ?, ?)", batch)
    connection.execute("UPDATE chain_head SET entries = ?, hash = ?", (entries, stored_hash))
    connection.commit()
    connection.execute("PRAGMA journal_mode = WAL")
    connection.close()


async def growth(directory: Path, exponents: list[int], quick: bool) -> tuple[list[Figure], list[str]]:
    """Processor time of a receipt at each size, each next to verifications at that moment."""
    batches, rounds = (10, 3) if quick else (10, 7)
    cost: dict[int, list[float]] = {}
    world, draw = World(), random.Random(1)
    populated = False
    for exponent in exponents:
        if populated:
            await asyncio.to_thread(fill, directory / "ledger.sqlite", 10**exponent, draw)
        server = Server(directory)
        try:
            async with aiohttp.ClientSession() as http:
                if not populated:
                    await world.populate(http, server.url)
                    populated = True
                    server.close()
                    await asyncio.to_thread(fill, directory / "ledger.sqlite", 10**exponent, draw)
                    server = Server(directory)
                await post_all(http, server.url, make(world, 3))
                cost[exponent] = []
                for _ in range(rounds):
                    made = make(world, batches)
                    limit = verifications_per_s(0.3)
                    processor = server.processor_s()
                    await post_all(http, server.url, made)
                    spent = server.processor_s() - processor
                    limit = (limit + verifications_per_s(0.3)) / 2
                    cost[exponent].append(spent / (batches * DEVICES * ITEMS) * limit)
        finally:
            server.close()
    base = statistics.median(cost[exponents[0]])
    figures = []
    for exponent in exponents:
        found = sorted(value / base for value in cost[exponent])
        value, name = statistics.median(found), "growth" if exponent == exponents[-1] else f"growth.1e{exponent}"
        last = exponent == exponents[-1]
        goal, met = (f"<= {GROWTH_MAX}", value <= GROWTH_MAX) if last and exponent == 7 else ("", None)
        figures.append(
            Figure(name, value, "ratio", found[0], found[-1], goal, met, f"cost at 1e{exponents[0]} entries")
        )
    return figures, picture({exponent: statistics.median(values) / base for exponent, values in cost.items()})


def picture(values: dict[int, float]) -> list[str]:
    """Bars of the cost of a receipt by size of the ledger."""
    lines = ["", "cost of a receipt by entries in the ledger, in that at the smallest:"]
    return lines + [f"  1e{exponent} {'#' * round(value * 40)} {value:.2f}" for exponent, value in values.items()]


async def measure(quick: bool, exponents: list[int]) -> tuple[list[Figure], list[str]]:
    os.sched_setaffinity(0, os.sched_getaffinity(0) - {SERVER_CORE} or {SERVER_CORE})
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory(prefix="fallow-bench-") as name:
        figures += await settle(Path(name), quick)
    with tempfile.TemporaryDirectory(prefix="fallow-bench-") as name:
        more, notes = await growth(Path(name), exponents, quick)
    return figures + more, notes


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--serve", type=Path, help="internal")
    parser.add_argument("--entries", type=int, help="exponent of the largest ledger (7: 10^7 entries, some 10 GB)")
    options = parser.parse_args()
    if options.serve:
        from uvloop import new_event_loop

        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            runner.run(serve(options.serve))
        return
    largest = options.entries or (5 if options.quick else 7)
    figures, notes = asyncio.run(measure(options.quick, list(range(4, largest + 1))))
    publish("ledger", figures, quick=options.quick, notes=notes)


if __name__ == "__main__":
    main()
