"""kill -9 of any program at any moment: no receipt lost or paid twice, nothing corrupt served, activation intact."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from fallow_client.errors import ClientError
from fallow_client.lan_device import LanDevice
from fallow_client.ledger import Ledger
from fallow_client.scheduler import Scheduler
from fragile_network import WAIT_S, Consumer, FragileNetwork, prepared
from network import Device, until

pytestmark = pytest.mark.processes

KILLS = 8


async def break_everything(network: FragileNetwork, consumer: Consumer, seed: int) -> None:
    """Consumers fetch all the while; now and then a program dies in the middle of it and comes back."""
    chance = random.Random(seed)
    stop = asyncio.Event()

    async def consume() -> None:
        while not stop.is_set():
            try:
                async with asyncio.timeout(20):
                    await consumer.fetch_once()
            except (ClientError, aiohttp.ClientError, TimeoutError, OSError):
                pass  # somebody was just killed
            await asyncio.sleep(0.05)  # a consumer whose plan names no device does not ask in a tight loop

    consumers = [asyncio.create_task(consume(), name=f"consumer-{number}") for number in range(3)]
    try:
        for _ in range(KILLS):
            before = len(consumer.acknowledged)

            async def busy(before: int = before) -> bool | None:
                return True if len(consumer.acknowledged) > before else None

            await until("consumers are served", busy, WAIT_S)
            victim = chance.choice(["server", "device-1", "device-2"])
            await asyncio.sleep(chance.random() * 0.5)  # a random moment is the point here
            await network.kill(victim)
            await network.restart(victim)
    finally:
        stop.set()
        await asyncio.gather(*consumers)


async def check_books(network: FragileNetwork, consumer: Consumer) -> None:
    async with Ledger(network.ledger_url, network.operator_token) as ledger:

        async def settled() -> dict[str, dict[str, Any]] | None:
            found = {}
            for jti in consumer.acknowledged:
                found[jti] = await ledger.settlement(jti)
            return found

        settlements = await until("every acknowledged receipt is settled", settled, WAIT_S)
        for jti, settlement in settlements.items():
            paid = settlement["factors"]["bytes"]
            assert consumer.acknowledged[jti] <= paid <= consumer.signed[jti], "lost, or paid for more than was signed"
        books = await ledger.reconciliation()
        assert books["sum"] == 0
        assert books["differences"] == []
        assert books["booked"] == books["recomputed"]
        assert books["settlements"] >= len(settlements)


async def check_devices(devices: list[Device], consumer: Consumer) -> None:
    refused = 0
    for device in devices:
        async with LanDevice(device.lan_url, device.lan_token) as lan:

            async def clear(lan: LanDevice = lan) -> bool | None:
                status = await lan.status()
                done = status["uplink"]["connected"] and status["proofs"]["waiting"] == 0
                return True if done else None

            await until(f"{device.line.name} has handed over everything", clear, WAIT_S)
            status = await lan.status()
            assert status["state"] == "active"
            refused += status["proofs"]["refused"]
            assert status["content"]["objects"] == 1
    # Served to somebody who broke off before the first receipt, and therefore worth nothing.
    assert refused <= len(consumer.asked - consumer.acknowledged.keys())


def test_nothing_is_lost_or_paid_twice_whoever_is_killed(tmp_path: Path) -> None:
    async def run() -> None:
        async with FragileNetwork() as network:
            object_id, manifest, _ = await prepared(network, tmp_path)
            timeout = aiohttp.ClientTimeout(total=15)
            async with Scheduler(network.scheduler_url) as scheduler, aiohttp.ClientSession(timeout=timeout) as http:
                consumer = Consumer(http, scheduler, object_id, manifest)
                await break_everything(network, consumer, seed=7)
            assert len(consumer.acknowledged) >= KILLS
            await check_devices(network.devices, consumer)
            await check_books(network, consumer)

    asyncio.run(run())
