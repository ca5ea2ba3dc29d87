"""A backup of a running server, more traffic, kill -9, restore: devices go on, what they keep is booked again and
nothing twice, and what is lost is said."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from fallow_client.audit.run import audit
from fallow_client.errors import ApiError
from fallow_client.lan_device import LanDevice
from fallow_client.ledger import Ledger
from fallow_client.scheduler import Scheduler
from fragile_network import WAIT_S, Consumer, FragileNetwork, prepared
from network import BIN, until

pytestmark = [pytest.mark.processes, pytest.mark.timeout(300)]

POINT = 1_000_000


async def server_command(network: FragileNetwork, command: str, *arguments: str) -> str:
    """Run a ``fallow-server`` command on the server's state; gives what it printed."""
    flags = ("--state-dir", str(network.directory / "server"), "--config", str(network.directory / "server.toml"))
    server = str(BIN / "fallow-server")
    code, output, errors = await network.run(f"server-{command}", server, command, *arguments, *flags)
    assert code == 0, errors
    return output


async def fetch_until(consumer: Consumer, enough: Callable[[], bool]) -> None:
    async with asyncio.timeout(WAIT_S):
        while not enough():
            await consumer.fetch_once()
            await asyncio.sleep(0.05)


async def settled(network: FragileNetwork, consumer: Consumer) -> dict[str, dict[str, Any]]:
    """Each delivery whose receipt a device acknowledged, once all of them are booked."""
    async with Ledger(network.ledger_url, network.operator_token) as ledger:

        async def all_of_them() -> dict[str, dict[str, Any]]:
            return {jti: await ledger.settlement(jti) for jti in consumer.acknowledged}

        return await until("every acknowledged receipt is settled", all_of_them, WAIT_S)


async def batches_acknowledged(network: FragileNetwork) -> None:
    """Until no device holds a proof that the ledger has not acknowledged."""
    for device in network.devices:
        async with LanDevice(device.lan_url, device.lan_token) as lan:

            async def clear(lan: LanDevice = lan) -> bool | None:
                return True if (await lan.status())["proofs"]["waiting"] == 0 else None

            await until(f"{device.line.name} has handed over everything", clear, WAIT_S)


def test_devices_go_on_with_a_restored_ledger(tmp_path: Path) -> None:
    async def run() -> None:
        async with FragileNetwork() as network:
            object_id, manifest, publisher = await prepared(network, tmp_path)
            timeout = aiohttp.ClientTimeout(total=15)
            async with Scheduler(network.scheduler_url) as scheduler, aiohttp.ClientSession(timeout=timeout) as http:
                consumer = Consumer(http, scheduler, object_id, manifest)
                await restored_in_the_middle(network, consumer, publisher)

    asyncio.run(run())


async def restored_in_the_middle(network: FragileNetwork, consumer: Consumer, publisher: str) -> None:
    some = 2 * len(network.devices)
    await fetch_until(consumer, lambda: len(consumer.acknowledged) >= some)
    await settled(network, consumer)
    async with Ledger(network.ledger_url, network.operator_token) as ledger:
        await ledger.add_reward("A coffee", 1, codes=["FIRST", "SECOND"])

    # The backup is made while devices are served.
    fetching = asyncio.create_task(fetch_until(consumer, lambda: len(consumer.acknowledged) >= 2 * some))
    said = await server_command(network, "backup", str(network.directory / "backup"))
    assert "It holds the signing keys" in said
    await fetching

    before = set(consumer.acknowledged)
    await fetch_until(consumer, lambda: len(consumer.acknowledged) >= len(before) + some)
    first = await settled(network, consumer)
    await batches_acknowledged(network)
    async with Ledger(network.ledger_url, network.operator_token) as ledger:
        await ledger.deposit(publisher, 7 * POINT)
        reward = (await ledger.rewards())[0]["id"]
    async with LanDevice(network.devices[0].lan_url, network.devices[0].lan_token) as lan:
        assert (await lan.redeem(reward)).code == "FIRST"

    await network.kill("server")
    said = await server_command(network, "restore", str(network.directory / "backup"), "--replace")
    lost = {kind: (int(count), int(points)) for kind, count, points in re.findall(r"  (\w+): (\d+), (\d+) µp", said)}
    assert lost["deposit"] == (1, 7 * POINT)
    assert lost["redemption"] == (1, 1)
    assert lost["settlement"][0] >= some
    batches = int(re.search(r"(\d+) batches of proofs", said)[1])  # type: ignore[index]
    assert batches >= 1
    await network.restart("server")
    await network.until_reachable()

    # The next proofs meet a ledger that stands earlier: everything comes again.
    after = len(consumer.acknowledged)
    await fetch_until(consumer, lambda: len(consumer.acknowledged) >= after + some)
    again = await settled(network, consumer)
    assert {jti: again[jti]["micro_points"] for jti in first} == {
        jti: one["micro_points"] for jti, one in first.items()
    }
    for jti, settlement in again.items():
        paid = settlement["factors"]["bytes"]
        assert consumer.acknowledged[jti] <= paid <= consumer.signed[jti], "lost, or paid for more than was signed"
    await batches_acknowledged(network)
    for device in network.devices:
        async with LanDevice(device.lan_url, device.lan_token) as lan:
            assert (await lan.status())["proofs"]["refused"] == 0
    await check_books(network, batches, reward)


async def check_books(network: FragileNetwork, batches: int, reward: str) -> None:
    async with Ledger(network.ledger_url, network.operator_token) as ledger:
        books = await ledger.reconciliation()
        assert (books["sum"], books["differences"]) == (0, [])
        assert books["booked"] == books["recomputed"]
        await ledger.export(network.directory / "books")
        assert (await asyncio.to_thread(audit, network.directory / "books")).differences == []
        found = await ledger.restores()
        assert len(found["restores"]) == 1
        # What the devices said agrees with what the replaced ledger had shown.
        assert sum(gap["seen"] - gap["expected"] for gap in found["gaps"]) >= batches
        async with LanDevice(network.devices[0].lan_url, network.devices[0].lan_token) as lan:
            with pytest.raises(ApiError) as refused:
                await lan.redeem(reward)
            assert refused.value.problem.type == "under-review"
            await ledger.review_restore(found["restores"][0]["at"])
            # The code that was given after the backup is free once more: that is what the review is for.
            assert (await lan.redeem(reward)).code == "FIRST"
