"""A network of real processes that can be killed and started again, and a consumer that keeps count."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
from pathlib import Path

import aiohttp
from fallow_client.ledger import Ledger
from fallow_client.scheduler import Scheduler
from fallow_wire.jws import Kind, sign
from fallow_wire.keys import PrivateKey
from fallow_wire.limits import CHUNK_BYTES
from fallow_wire.manifest import Manifest, verify_manifest
from fallow_wire.plans import PlanSource
from fallow_wire.tickets import Receipt, verify_ticket
from network import Line, Network, Process, until

MANY_CONSUMERS = {
    "FALLOW_SERVER_DELIVERY_CONSUMER_TICKETS_BURST": "1000000",
    "FALLOW_SERVER_DELIVERY_CONSUMER_BYTES_BURST": str(2**50),
}
"""All of them come from one address here, and are no flood."""
CHUNKS = 6
WAIT_S = 120


class FragileNetwork(Network):
    """A network whose processes can be killed and started again as they were."""

    def __init__(self) -> None:
        super().__init__()
        self._arguments: dict[str, tuple[tuple[str, ...], dict[str, str] | None]] = {}

    async def start(self, name: str, *arguments: str, environment: dict[str, str] | None = None) -> Process:
        self._arguments[name] = (arguments, environment)
        return await super().start(name, *arguments, environment=environment)

    async def kill(self, name: str) -> None:
        index = next(i for i, started in enumerate(self.processes) if started.name == name)
        self.processes[index].process.kill()
        await self.processes[index].process.wait()
        shutil.copy(self.processes[index].log, self.directory / f"{name}-{index}-{os.urandom(3).hex()}.log")
        del self.processes[index]

    async def restart(self, name: str) -> None:
        arguments, environment = self._arguments[name]
        await super().start(name, *arguments, environment=environment)


class Consumer:
    """Fetches chunk after chunk with receipts, and remembers which receipts a device has acknowledged."""

    def __init__(self, http: aiohttp.ClientSession, scheduler: Scheduler, object_id: str, manifest: Manifest) -> None:
        self._http = http
        self._scheduler = scheduler
        self._object_id = object_id
        self._manifest = manifest
        self.signed: dict[str, int] = {}
        """By ``jti``: the most that any receipt confirmed, delivered or not."""
        self.asked: set[str] = set()
        """The ``jti`` of tickets under which anything was asked for."""
        self.acknowledged: dict[str, int] = {}
        """By ``jti``: what the device has said that it keeps."""

    async def fetch_once(self) -> None:
        """One plan; takes a few chunks from each device of it. Whatever breaks, breaks."""
        key = PrivateKey.generate()
        plan = await self._scheduler.plan(self._object_id, key.public.jwk())
        keys = await self._scheduler.keys()
        for source in plan.sources:
            ticket = verify_ticket(source.ticket, keys.get).value
            try:
                await self._fetch_from(source, ticket.jti, key)
            except (aiohttp.ClientError, TimeoutError, OSError):
                continue

    async def _fetch_from(self, source: PlanSource, jti: str, key: PrivateKey) -> None:
        confirmed = 0
        self.asked.add(jti)
        for n, index in enumerate(random.sample(range(CHUNKS), 3), 1):
            start, length = self._manifest.chunk_span(index)
            headers = {"Range": f"bytes={start}-{start + length - 1}"}
            async with self._http.get(source.url, params={"ticket": source.ticket}, headers=headers) as response:
                if response.status != 206:
                    return
                data = await response.read()
            self._manifest.verify_chunk(index, data)  # a corrupt chunk fails the test
            confirmed += length
            receipt = Receipt(jti, n, confirmed, 50, hashlib.sha256(data).hexdigest())
            self.signed[jti] = confirmed
            url = source.url.split("/o/")[0] + "/v1/receipts"
            async with self._http.post(url, data=sign(Kind.RECEIPT, receipt, key)) as response:
                if response.status == 204:
                    self.acknowledged[jti] = confirmed


async def prepared(
    network: FragileNetwork, tmp_path: Path, environment: dict[str, str] | None = None
) -> tuple[str, Manifest, str]:
    """Two active devices that hold one object. Gives its id, its manifest and the publisher's account."""
    await network.start_server(MANY_CONSUMERS | (environment or {}))
    async with Scheduler(network.scheduler_url, network.operator_token) as operator:
        owner = await operator.add_account("owner", "Ada")
        publisher = await operator.add_account("publisher", "Files")
    for number in (1, 2):
        device = await network.start_device(Line(f"device-{number}", 200, 200))
        await network.activate(device, owner.id, owner.token)
    await network.until_reachable()
    async with Ledger(network.ledger_url, network.operator_token) as ledger:

        async def funded() -> bool:
            await ledger.deposit(publisher.id, 10**12)
            return True

        await until("the publisher is known to the ledger", funded, WAIT_S)
    content = tmp_path / "content.bin"
    content.write_bytes(os.urandom(CHUNKS * CHUNK_BYTES - 5))
    async with Scheduler(network.scheduler_url, publisher.token) as scheduler:
        published = await scheduler.publish(content)

        async def placed() -> bool | None:
            return True if (await scheduler.object(published.id)).get("replicas") == 2 else None

        await until("both devices hold the object", placed, WAIT_S)
        url = f"{network.scheduler_url}/v1/manifests/{published.id}"
        async with aiohttp.ClientSession() as http, http.get(url) as response:
            token = await response.text()
        signed = verify_manifest(token, await scheduler.keys(), published.id)
    return published.id, signed.manifest, publisher.id
