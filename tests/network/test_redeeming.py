"""Four ledger processes on one database, killed again and again while owners redeem: one fulfilment for each."""

from __future__ import annotations

import asyncio
import random
import shutil
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from fallow_server import tokens
from ledger_world import OPERATOR, OWNER, World, world
from network import clean_environment, free_port
from provider import Provider, provider

pytestmark = [pytest.mark.processes, pytest.mark.timeout(300)]

PROCESSES = 4
REDEMPTIONS = 50
"""Of each process's callers."""
KILLS = 12
POINT = 1_000_000
GIB = 2**30
SETTINGS = {
    "FALLOW_SERVER_REWARDS_ALLOW_PRIVATE_ADDRESSES": "true",
    "FALLOW_SERVER_REWARDS_WEBHOOK_S_MAX": "2",
    "FALLOW_SERVER_REWARDS_POLL_S": "0.5",
    "FALLOW_SERVER_REWARDS_FULFIL_S_MAX": "2",
    "FALLOW_SERVER_LEDGER_HOLD_S": "0",
}


class LedgerProcess:
    """A ledger with a state directory and a port of its own, on the database of all."""

    def __init__(self, directory: Path, database: Path) -> None:
        self.directory = directory
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.environment = clean_environment() | SETTINGS
        self.environment["FALLOW_SERVER_DATABASE_LEDGER"] = f"sqlite+aiosqlite:///{database}"
        self.process: asyncio.subprocess.Process | None = None
        self.answers = False
        """It has given a redemption since it was started."""

    async def start(self) -> None:
        with (self.directory / "log").open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "fallow_server", "run", "--role", "ledger", "--host", "127.0.0.1"),
                *("--state-dir", str(self.directory), "--ledger-port", str(self.port)),
                env=self.environment,
                stderr=log,
            )

    async def kill(self) -> None:
        assert self.process is not None
        self.answers = False
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()


async def prepared(directory: Path, shop: Provider) -> tuple[list[LedgerProcess], str, str]:
    """A ledger with an owner who can afford everything; its processes, and a reward by provider and one by code."""
    async with world(directory, reserved=3 * 10**8) as made:
        await earn(made, PROCESSES * REDEMPTIONS + 10)
        body = {"title": "A coffee", "micro_points": POINT, "webhook": shop.url}
        offered = await made.good("POST", "/v1/rewards", OPERATOR, body)
        shop.secret = offered["webhook_secret"]
        codes = [f"VOUCHER-{number}" for number in range(PROCESSES * REDEMPTIONS)]
        vouchers = await made.good("POST", "/v1/rewards", OPERATOR, {**body, "webhook": None, "codes": codes})
    processes = []
    for number in range(PROCESSES):
        own = directory / f"ledger-{number}"
        own.mkdir(mode=0o700)
        shutil.copy(directory / "ledger.keys", own)
        (own / "link.token").write_text(tokens.new_token(tokens.LINK))
        processes.append(LedgerProcess(own, directory / "ledger.sqlite"))
    return processes, offered["id"], vouchers["id"]


async def earn(made: World, points: int) -> None:
    size = 10 * GIB
    for _ in range(-(-points // 10)):
        ack = await made.prove(made.item(made.ticket(max_bytes=size), confirmed=size, claimed=size))
        assert ack.items[0].micro_points == 10 * POINT


async def insist(http: aiohttp.ClientSession, process: LedgerProcess, reward: str, key: str) -> dict[str, Any]:
    """Redeem as a client does that loses answers: again under the same key until there is one."""
    headers = {"Authorization": f"Bearer {OWNER}", "Idempotency-Key": key}
    while True:
        try:
            url = f"{process.url}/v1/redemptions"
            async with http.post(url, json={"reward": reward}, headers=headers) as response:
                if response.status == 201:
                    found: dict[str, Any] = await response.json()
                    process.answers = True
                    return found
                assert response.status >= 500, await response.text()
        except (aiohttp.ClientError, TimeoutError, OSError):
            pass  # it was just killed
        await asyncio.sleep(0.05)


async def break_them(processes: list[LedgerProcess], done: asyncio.Event) -> int:
    """Kill one after another at random moments until ``done``, :data:`KILLS` times at least. Gives how often.

    Only those that got to work, so that a slow computer gets on as well.
    """
    chance = random.Random(11)
    kills = 0
    while kills < KILLS or not done.is_set():
        await asyncio.sleep(0.2 + chance.random() * 0.8)  # a random moment is the point here
        victim = chance.choice(processes)
        if not victim.answers and not done.is_set():
            continue
        await victim.kill()
        await victim.start()
        kills += 1
    return kills


def test_four_processes_and_kill_9_give_each_redemption_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FALLOW_TEST_DATABASE_URL", raising=False)  # the processes share a SQLite file

    async def run() -> None:
        async with provider() as shop:
            processes, by_provider, by_code = await prepared(tmp_path, shop)
            chance = random.Random(12)

            async def falter(order: dict[str, Any]) -> Any:
                """Now and then the provider does it and its answer is lost."""
                if chance.random() < 0.2:
                    shop.fulfil(order)
                    await asyncio.sleep(chance.random() * 3)
                return None

            shop.behaviour = falter
            for process in processes:
                await process.start()
            try:
                redemptions = await redeem_all(processes, by_provider, by_code)
                await check(tmp_path, shop, redemptions, by_provider)
            finally:
                for process in processes:
                    await process.kill()

    asyncio.run(run())


async def redeem_all(processes: list[LedgerProcess], by_provider: str, by_code: str) -> list[dict[str, Any]]:
    done = asyncio.Event()
    timeout = aiohttp.ClientTimeout(total=15)
    async with aiohttp.ClientSession(timeout=timeout) as http:
        breaking = asyncio.create_task(break_them(processes, done))

        async def caller(process: LedgerProcess, number: int) -> list[dict[str, Any]]:
            made = []
            for n in range(REDEMPTIONS):
                reward = by_code if n % 5 == 4 else by_provider
                made.append(await insist(http, process, reward, f"{number}-{n}"))
            return made

        found = await asyncio.gather(*(caller(process, number) for number, process in enumerate(processes)))
        done.set()
        assert await breaking >= KILLS
        headers = {"Authorization": f"Bearer {OPERATOR}"}
        while True:
            try:
                async with http.get(f"{processes[0].url}/v1/redemptions", headers=headers) as response:
                    states = Counter(one["state"] for one in await response.json())
                if states["reserved"] == 0:
                    break
            except (aiohttp.ClientError, TimeoutError, OSError):
                pass  # it is starting
            await asyncio.sleep(0.2)
    return [one for some in found for one in some]


async def check(directory: Path, shop: Provider, redemptions: list[dict[str, Any]], by_provider: str) -> None:
    count = PROCESSES * REDEMPTIONS
    assert len({one["id"] for one in redemptions}) == count, "an answer that was lost redeemed twice"
    made = World(directory)
    await made.open()
    try:
        found = await made.good("GET", "/v1/redemptions", OPERATOR)
        assert {one["id"] for one in found} == {one["id"] for one in redemptions}
        assert Counter(one["state"] for one in found) == {"fulfilled": count}
        assert len({one["code"] for one in found}) == count, "a code was given twice"
        provided = {one["id"]: one["code"] for one in found if one["reward"] == by_provider}
        assert shop.given == provided
        assert set(shop.fulfilments.values()) == {1}
        assert shop.unsigned == 0
        entries = []
        while page := await made.good(
            "GET", f"/v1/accounts/{OWNER}/entries?after={len(entries) and entries[-1]['seq']}", OWNER
        ):
            entries += page
        fulfilled = Counter(one["ref"] for one in entries if one["kind"] == "fulfilment" and one["direction"] == "in")
        assert fulfilled == dict.fromkeys((one["id"] for one in redemptions), 1)
        balance = await made.account(OWNER)
        assert (balance["vested"], balance["redeeming"], balance["redeemed"]) == (10 * POINT, 0, count * POINT)
        await made.reconciled()
    finally:
        await made.close()
