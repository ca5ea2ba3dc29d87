"""Addresses are planted in every way in which they reach the programs, and then searched for in all that these leave on
the disk: databases and their write-ahead logs, logs, backups, the record of decisions."""

from __future__ import annotations

import asyncio
import base64
import datetime
import gzip
import ipaddress
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from fallow_client.lan_device import LanDevice
from fallow_client.ledger import Ledger
from fallow_client.scheduler import Scheduler
from fallow_server.delivery.pseudonym import line_of
from fallow_wire.encoding import from_base64url
from fragile_network import WAIT_S, Consumer, FragileNetwork, prepared
from network import BIN, Line, Process, until

pytestmark = [pytest.mark.processes, pytest.mark.timeout(300)]

CONSUMER_V4, CONSUMER_V6, OWNER_V4 = "198.51.100.77", "2001:db8:77:5::91ab", "203.0.113.214"
"""Told by a proxy, to scheduler and ledger."""
AT_THE_DEVICE = "127.83.19.5"
"""Whence a consumer connects to devices, and strangers to the server."""
DEVICES = {"device-1": "127.91.7.3", "device-2": "127.91.7.4", "device-3": "127.91.7.5"}
"""Where devices say that they are; the third is not there."""
PLANTED = (CONSUMER_V4, CONSUMER_V6, OWNER_V4, AT_THE_DEVICE, *DEVICES.values())


class Watched(FragileNetwork):
    """Logs everything that can be logged."""

    async def start(self, name: str, *arguments: str, environment: dict[str, str] | None = None) -> Process:
        more: tuple[str, ...] = ("--log-level", "debug")
        changed = dict(environment or {})
        if name in DEVICES:
            more = ("--advertise-address", DEVICES[name])
        if name == "device-3":
            changed["FALLOW_SERVICE_BIND"] = "127.0.0.1"
        return await super().start(name, *arguments, *more, environment=changed)

    async def start_unreachable(self, owner: str, owner_token: str) -> None:
        """A device that is not where it says."""
        await self.activate(await self.start_device(Line("device-3", 200, 200)), owner, owner_token)

    async def until_said(self, text: str) -> None:
        """Until the server's log has ``text``."""
        log = self.directory / "server.log"

        async def said() -> bool | None:
            return True if text in log.read_text("utf-8", "replace") else None

        await until(f"the server says {text!r}", said, WAIT_S)


def forms(address: str) -> list[bytes]:
    """An address and its line (/24, /56) as text, as they are packed, and what else programs make of one."""
    ip = ipaddress.ip_address(address)
    number = str(int(ip)).encode()
    line = [f"{address.rpartition('.')[0]}."] if ip.version == 4 else [ip.exploded[:17], ip.packed[:7].hex()]
    texts = {address.encode(), ip.exploded.encode(), ip.packed.hex().encode(), number}
    return [
        *texts,
        *(text.encode() for text in (*line, line_of(address), line_of(address).partition("/")[0])),
        *(base64.b64encode(text)[:-4] for text in (address.encode(), ip.packed) if len(text) > 8),
        ip.packed,
    ]


def found_in(directory: Path) -> list[tuple[str, str]]:
    """File and address, for each planted address in each file. Publishers' bytes are theirs, and random here."""
    found = []
    for file in sorted(directory.rglob("*")):
        inside = file.relative_to(directory).parts
        if not file.is_file() or "blobs" in inside or "content" in inside:
            continue
        data = file.read_bytes()
        if file.suffix == ".gz":
            data = gzip.decompress(data)
        found += [(str(file), address) for address in PLANTED if any(form in data for form in forms(address))]
    return found


def test_the_search_finds_what_is_there(tmp_path: Path) -> None:
    for number, address in enumerate(PLANTED):
        for at, form in enumerate(forms(address)):
            (tmp_path / f"{number}-{at}").write_bytes(b"some" + form + b"thing")
            assert (str(tmp_path / f"{number}-{at}"), address) in found_in(tmp_path)
    (tmp_path / "packed.gz").write_bytes(gzip.compress(PLANTED[0].encode() * 9))
    assert (str(tmp_path / "packed.gz"), PLANTED[0]) in found_in(tmp_path)
    assert len(PLANTED) == len(set(PLANTED))


def test_no_address_stays_on_a_disk(tmp_path: Path) -> None:
    async def run() -> None:
        async with Watched() as network:
            object_id, manifest, _ = await prepared(
                network, tmp_path, {"FALLOW_SERVER_HTTP_TRUSTED_PROXIES": "127.0.0.1"}
            )
            await plant(network, object_id, manifest)
            await search(network)

    asyncio.run(run())


async def plant(network: Watched, object_id: str, manifest: Any) -> None:
    async with Scheduler(network.scheduler_url, network.operator_token) as operator:
        owner = await operator.add_account("owner", "Eve")
    await network.start_unreachable(owner.id, owner.token)
    connector = aiohttp.TCPConnector(local_addr=(AT_THE_DEVICE, 0))
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=15)) as at_devices:
        for address in (CONSUMER_V4, CONSUMER_V6):
            headers = {"X-Forwarded-For": address}
            async with (
                aiohttp.ClientSession(headers=headers) as told,
                Scheduler(network.scheduler_url, session=told) as scheduler,
            ):
                consumer = Consumer(at_devices, scheduler, object_id, manifest)
                async with asyncio.timeout(WAIT_S):
                    while len(consumer.acknowledged) < 2:
                        await consumer.fetch_once()
                        await asyncio.sleep(0.05)
                await legacy(told, at_devices, network, object_id)
                await nonsense(told, network)
            await settle(network, consumer)
    await as_owner(network)
    await strange_connections(network)
    await network.until_said("does not answer at port")


async def legacy(
    told: aiohttp.ClientSession, at_devices: aiohttp.ClientSession, network: Watched, object_id: str
) -> None:
    url = f"{network.scheduler_url}/o/{object_id}/content.bin"
    async with told.get(url, allow_redirects=False) as response:
        assert response.status == 302
        location = response.headers["Location"]
    assert any(address in location for address in DEVICES.values()), "the device is where it says"
    async with at_devices.get(location) as response:
        assert response.status == 200
        await response.read()


async def nonsense(told: aiohttp.ClientSession, network: Watched) -> None:
    """What is refused, and what fails."""
    for base in (network.scheduler_url, network.ledger_url):
        for method, path, data in (
            ("GET", "/v1/nothing", None),
            ("GET", "/v1/accounts", None),
            ("POST", "/v1/proofs", b"x" * 1000),
            ("POST", "/v1/devices", b"no enrolment"),
            ("POST", "/v1/plans", b"[" * 5000),
            ("GET", "/v1/session", None),
        ):
            headers = {"Authorization": "Bearer wrong", "Content-Type": "application/json"}
            async with told.request(method, base + path, data=data, headers=headers) as response:
                assert response.status >= 400


async def settle(network: Watched, consumer: Consumer) -> None:
    async with Ledger(network.ledger_url, network.operator_token) as ledger:

        async def settled() -> list[dict[str, Any]]:
            return [await ledger.settlement(jti) for jti in consumer.acknowledged]

        for one in await until("what was served is settled", settled, WAIT_S):
            # What stands for the consumer in the proof is a name without a meaning.
            payload = from_base64url(one["ticket"].split(".")[1])
            assert not any(form in payload for address in PLANTED for form in forms(address))


async def as_owner(network: Watched) -> None:
    device = network.devices[0]
    async with Ledger(network.ledger_url, network.operator_token) as ledger:
        reward = await ledger.add_reward("A coffee", 1, stock=5)
    async with aiohttp.ClientSession(headers={"X-Forwarded-For": OWNER_V4}) as told:
        async with Ledger(network.ledger_url, network.operator_token, session=told) as ledger:
            await ledger.account(device.owner)
            await ledger.printed_statement(device.owner, _month(), "html", "en")
        async with LanDevice(device.lan_url, device.lan_token) as lan:
            assert (await lan.redeem(reward["id"])).state == "reserved"


def _month() -> str:
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m")


async def strange_connections(network: Watched) -> None:
    """Who speaks no HTTP, or goes away in the middle."""
    for base in (network.scheduler_url, network.ledger_url, network.devices[0].lan_url):
        port = int(base.rpartition(":")[2])
        for data in (
            b"\x16\x03\x01 hello\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
            b"POST /v1/pl",
        ):
            reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(AT_THE_DEVICE, 0))
            writer.write(data)
            writer.write_eof()
            await reader.read()
            writer.close()


async def search(network: Watched) -> None:
    server = network.directory / "server"
    flags = ("--state-dir", str(server), "--config", str(network.directory / "server.toml"))
    backup = str(network.directory / "backup")
    code, _, errors = await network.run("backup", str(BIN / "fallow-server"), "backup", backup, *flags)
    assert code == 0, errors
    searched = {path.name for path in network.directory.rglob("*") if path.is_file()}
    assert {"ledger.sqlite", "ledger.sqlite-wal", "scheduler.sqlite-wal", "agent.sqlite-wal", "server.log"} <= searched
    assert found_in(network.directory) == []
    keep = network.keep_files
    network.keep_files = True
    await network.stop()
    network.keep_files = keep
    (trace,) = (server / "trace").iterdir()
    assert b'"booked_bps"' in gzip.decompress(trace.read_bytes()), "nothing of the consumers was recorded"
    assert found_in(network.directory) == []
    assert "DEBUG" in (network.directory / "server.log").read_text("utf-8"), "nothing was left unsaid"
