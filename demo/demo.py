"""``make demo``: a network on this computer, from dormant devices to redeemed points, with every claim checked.

FILE=path publishes that file; KEEP=1 leaves the network running until Ctrl-C. Exit code 0 only if all held.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import shutil
import signal
import sys
import tarfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fallow_client.errors import ClientError
from fallow_client.lan_device import LanDevice
from fallow_client.ledger import Ledger
from fallow_client.scheduler import PublishedObject, Scheduler
from fallow_wire.tariff import Factors
from network import BIN, Line, Network, NetworkFailed, until
from rich.console import Console
from rich.table import Table

FILE_BYTES_MIN = 20_000_000
MICRO = 1_000_000
REWARD = "A coffee"
REWARD_MICRO_POINTS = 1000
LINES = (
    Line("router-a", up_mbps=40, down_mbps=250),
    Line("router-b", up_mbps=60, down_mbps=500, upload_percent=50),
    Line("pi-c", up_mbps=100, down_mbps=500),
    Line("pi-d", up_mbps=200, down_mbps=1000, upload_percent=80),
)
OWNERS = ("Ada", "Bo")


@dataclass(slots=True)
class Download:
    """One consumer's download. ``by_device`` is known at once only from ``fallow fetch``."""

    program: str
    seconds: float
    good: bool
    note: str = ""


@dataclass(slots=True)
class Story:
    """What happened, for the table; ``failed`` names what did not hold."""

    console: Console
    checks: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    downloads: list[Download] = field(default_factory=list)

    def step(self, text: str) -> None:
        self.console.print(text, markup=False, highlight=False)

    def check(self, what: str, held: bool, seen: str = "") -> None:
        self.checks.append(what)
        if not held:
            self.failed.append(f"{what}{': ' + seen if seen else ''}")


def real_file(directory: Path) -> Path:
    """FILE, or the largest file that setting up has put into the virtual environment, or that as a tar."""
    if os.environ.get("FILE"):
        path = Path(os.environ["FILE"]).resolve()
        if not path.is_file():
            raise NetworkFailed(f"FILE={path} is not a file")
        return path
    files = [path for path in Path(sys.prefix).rglob("*") if path.is_file() and not path.is_symlink()]
    largest = max(files, key=lambda path: path.stat().st_size)
    if largest.stat().st_size >= FILE_BYTES_MIN:
        return largest
    packed = directory / "site-packages.tar"
    with tarfile.open(packed, "w") as tar:
        tar.add(Path(sys.prefix) / "lib", "lib")
    return packed


def digest_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(slots=True)
class Accounts:
    publisher: str
    publisher_token: str
    owners: dict[str, str]
    """Account id by name."""
    owner_tokens: dict[str, str]
    reward: str


async def open_accounts(network: Network) -> Accounts:
    async with (
        Scheduler(network.scheduler_url, network.operator_token) as scheduler,
        Ledger(network.ledger_url, network.operator_token) as ledger,
    ):
        publisher = await scheduler.add_account("publisher", "Demo files")
        owners = {name: await scheduler.add_account("owner", name) for name in OWNERS}

        async def known_to_the_ledger() -> dict[str, Any]:
            return await ledger.account(publisher.id)

        await until("the ledger knows the publisher", known_to_the_ledger, 15)
        await ledger.deposit(publisher.id, 100 * MICRO)
        reward = await ledger.add_reward(REWARD, REWARD_MICRO_POINTS, stock=10)
    tokens = {name: account.token or "" for name, account in owners.items()}
    ids = {name: account.id for name, account in owners.items()}
    return Accounts(publisher.id, publisher.token or "", ids, tokens, str(reward["id"]))


# ------------------------------------------------------------------ downloads


async def fetch_with_fallow(network: Network, story: Story, url: str, digest: str) -> dict[str, int]:
    """:returns: bytes by device, and from the origin."""
    target = network.directory / "by-fallow"
    started = time.monotonic()
    command = (str(BIN / "fallow"), "fetch", url, "-o", str(target), "--json")
    code, output, errors = await network.run("fallow-fetch", *command)
    seconds = time.monotonic() - started
    good = code == 0 and digest_of(target) == digest
    story.check("fallow fetch brings the file, byte for byte", good, errors.strip())
    story.downloads.append(Download("fallow fetch", seconds, good))
    brought: dict[str, int] = json.loads(output)["bytes_by_source"] if good else {}
    return brought


async def fetch_with_curl(network: Network, story: Story, url: str, digest: str) -> None:
    target = network.directory / "by-curl"
    started = time.monotonic()
    report = "%{http_code} %{num_redirects} %{url_effective}"
    code, output, errors = await network.run("curl", "curl", "-sSfL", "-o", str(target), "-w", report, url)
    good = code == 0 and digest_of(target) == digest
    redirected = output.split(" ")[1:2] == ["1"]
    note = "one device, by redirect" if redirected else "the origin"
    story.check("curl brings the file, byte for byte", good, errors.strip())
    story.downloads.append(Download("curl -L", time.monotonic() - started, good, note))


async def fetch_with_aria2(network: Network, story: Story, url: str, digest: str) -> None:
    directory = network.directory / "by-aria2"
    directory.mkdir()
    metalink = network.directory / "object.meta4"
    started = time.monotonic()
    code, _, errors = await network.run("meta4", "curl", "-sSf", "-o", str(metalink), url + ".meta4")
    if code == 0:
        command = ("aria2c", "--no-conf", "-q", "-d", str(directory), "-M", str(metalink))
        options = ("--check-integrity=true", "--split=8", "--min-split-size=1M", "--max-connection-per-server=2")
        code, output, errors = await network.run("aria2c", *command, *options)
        errors = errors or output
    files = [path for path in directory.iterdir() if path.suffix != ".aria2"]
    good = code == 0 and len(files) == 1 and digest_of(files[0]) == digest
    story.check("aria2c brings the file by Metalink, byte for byte", good, errors.strip()[-200:])
    note = "several devices, by Metalink; every piece checked"
    story.downloads.append(Download("aria2c", time.monotonic() - started, good, note))


# ------------------------------------------------------------------ books


async def settlements_of(network: Network, accounts: Accounts) -> list[dict[str, Any]]:
    """Every settlement of both owners, with its inputs, as the ledger publishes them."""
    found = []
    async with Ledger(network.ledger_url, network.operator_token) as ledger:
        for owner in accounts.owners.values():
            after = 0
            while page := await ledger.entries(owner, after=after, limit=1000):
                after = int(page[-1]["seq"])
                refs = {entry["ref"]: None for entry in page if entry["kind"] == "settlement"}
                found += [await ledger.settlement(ref) for ref in refs]
    return found


async def wait_for_settlement(network: Network, accounts: Accounts, fetched: dict[str, int]) -> list[dict[str, Any]]:
    """Until all that ``fallow fetch`` confirmed is booked, and no device has a proof left to hand over."""

    async def settled() -> list[dict[str, Any]] | None:
        network.check_running()
        found = await settlements_of(network, accounts)
        booked: Counter[str] = Counter()
        for one in found:
            if one["tier"] == "countersigned" and one["service"] == "object":
                booked[one["device"]] += one["factors"]["bytes"]
        if any(booked[device] < count for device, count in fetched.items()):
            return None
        for device in network.devices:
            async with LanDevice(device.lan_url, device.lan_token) as lan:
                if (await lan.status()).get("proofs", {}).get("waiting"):
                    return None
        return found

    return await until("all receipts are settled", settled, 60)


async def check_books(network: Network, accounts: Accounts, story: Story, settled: list[dict[str, Any]]) -> int:
    """Compare the ledger's books with our own computation. :returns: µp earned by all owners."""
    async with Ledger(network.ledger_url, network.operator_token) as ledger:
        tariffs = {one: (await ledger.tariff(one))[1] for one in {settlement["tariff"] for settlement in settled}}
        wrong = []
        for one in settled:
            tariff, factors = tariffs[one["tariff"]], Factors(**one["factors"])
            rates = (tariff.rates[one["service"]], tariff.weights[one["tier"]])
            if (factors.rate, factors.weight) != rates or factors.micro_points() != one["micro_points"]:
                wrong.append(one["jti"])
        story.check("points = tariff × bytes, recomputed here for every settlement", not wrong, ", ".join(wrong))
        earned = sum(int(one["micro_points"]) for one in settled)
        held = 0
        for owner in accounts.owners.values():
            account = await ledger.account(owner)
            held += sum(int(account[name]) for name in ("held", "vested", "redeeming", "redeemed"))
        story.check("owners hold exactly what was earned", held == earned, f"{held} µp, not {earned} µp")
        publisher = await ledger.account(accounts.publisher)
        spent = int(publisher["spent"])
        story.check("the publisher spent exactly what was earned", spent == earned, f"{spent} µp, not {earned} µp")
        report = await ledger.reconciliation()
    story.check("the sum of all accounts is 0", report["sum"] == 0, str(report["sum"]))
    story.check("the ledger's own recomputation agrees", not report["differences"], str(report["differences"]))
    return earned


async def redeem(network: Network, accounts: Accounts, story: Story) -> str:
    """The first owner who has enough redeems the reward through a device of theirs, as the phone app does."""
    for device in network.devices:
        async with LanDevice(device.lan_url, device.lan_token) as lan:
            points = await lan.points()
            if int(points.get("vested", 0)) >= REWARD_MICRO_POINTS:
                found = await lan.redeem(accounts.reward)
                story.check(
                    "a reward is redeemed through port M", found.state in ("reserved", "fulfilled"), found.state
                )
                return f"{device.owner}: {found.reward and 'A coffee'} for {found.micro_points:,} µp, {found.state}"
    story.check("a reward is redeemed through port M", False, "no owner has enough points")
    return "none"


# ------------------------------------------------------------------ the table


def print_table(
    network: Network,
    accounts: Accounts,
    story: Story,
    published: PublishedObject,
    fetched: dict[str, int],
    settled: list[dict[str, Any]],
    redemption: str,
) -> None:
    table = Table(title=f"{published.name}, {published.size:,} bytes", title_style="bold", show_footer=True)
    for heading in ("device", "owner", "line", "fallow fetch", "curl, aria2c", "settled", "points"):
        table.add_column(heading, justify="left" if heading in ("device", "owner", "line") else "right")
    totals: Counter[str] = Counter()
    for device in network.devices:
        own = [one for one in settled if one["device"] == device.device_id]
        consumers = [one for one in own if one["service"] == "object"]
        legacy = sum(one["factors"]["bytes"] for one in consumers if one["tier"] == "legacy")
        paid = sum(one["factors"]["bytes"] for one in own)
        micro_points = sum(one["micro_points"] for one in own)
        brought = fetched.get(device.device_id, 0)
        totals.update(fetch=brought, legacy=legacy, settled=paid, points=micro_points)
        line = f"{device.line.up_mbps} Mbit/s up, {device.line.upload_percent} % allowed"
        cells = (f"{brought:,}", f"{legacy:,}", f"{paid:,}", f"{micro_points / MICRO:.6f}")
        table.add_row(device.line.name, device.owner, line, *cells)
    origin = fetched.get("origin", 0)
    others = sum(download.good for download in story.downloads[1:]) * published.size
    table.add_row("origin", "", "", f"{origin:,}", f"{max(0, others - totals['legacy']):,}", "", "")
    for column, name in zip(table.columns[3:], ("fetch", "legacy", "settled"), strict=False):
        column.footer = f"{totals[name]:,}"
    table.columns[6].footer = f"{totals['points'] / MICRO:.6f}"
    table.columns[0].footer = "by devices"
    story.console.print(table)
    summary = Table(show_header=False, box=None, pad_edge=False)
    for download in story.downloads:
        mark = "same bytes" if download.good else "FAILED"
        summary.add_row(download.program, f"{mark}, {download.seconds:.1f} s  {download.note}")
    share = 100 * totals["fetch"] / published.size if published.size else 0
    summary.add_row("offload", f"{share:.1f} % of fallow fetch came from devices")
    for name, owner in accounts.owners.items():
        earned = sum(one["micro_points"] for one in settled if one["owner"] == owner)
        summary.add_row(f"points of {name}", f"{earned / MICRO:.6f} ({earned:,} µp)")
    summary.add_row("redeemed", redemption)
    summary.add_row("checks", f"{len(story.checks) - len(story.failed)} of {len(story.checks)} held")
    story.console.print(summary)


# ------------------------------------------------------------------ the story


async def play(network: Network, story: Story) -> None:
    path = await asyncio.to_thread(real_file, network.directory)
    digest = await asyncio.to_thread(digest_of, path)
    story.step("1  server: scheduler and ledger, fresh state")
    await network.start_server()
    accounts = await open_accounts(network)

    story.step("2  four devices, dormant")
    for device in await asyncio.gather(*(network.start_device(line) for line in LINES)):
        async with LanDevice(device.lan_url) as lan:
            state = (await lan.info()).state
        story.check(f"{device.line.name} starts dormant", state == "dormant", state)
    network.devices.sort(key=lambda device: device.line.name)
    found = await network.find_by_mdns()
    if found == len(network.devices):
        story.step(f"   found by mDNS: all {found}")
    else:
        story.step(f"   mDNS found {found} of {len(LINES)} (multicast does not work here); the rest by address")

    story.step("3  activation on port M, as a phone does: consent, setup code, claim token; two owners")
    for number, device in enumerate(network.devices):
        owner = OWNERS[number % len(OWNERS)]
        await network.activate(device, owner, accounts.owner_tokens[owner])
    await network.until_reachable()

    story.step(f"4  publish {path.name} ({path.stat().st_size:,} bytes) and let the scheduler place it")
    async with Scheduler(network.scheduler_url, accounts.publisher_token) as scheduler:
        published = await scheduler.publish(path, replicas=len(LINES))

        async def placed() -> bool | None:
            network.check_running()
            replicas = (await scheduler.object(published.id)).get("replicas", 0)
            return True if replicas >= len(LINES) else None

        await until("the file is on all devices", placed, 60)

    story.step("5  fetch it: fallow fetch, curl" + (", aria2c" if shutil.which("aria2c") else ""))
    fetched: dict[str, int] = (await fetch_with_fallow(network, story, published.url, digest)).get(
        "bytes_by_source", {}
    )
    devices = {source: count for source, count in fetched.items() if source != "origin"}
    story.check("several devices served it", len(devices) > 1, str(fetched))
    await fetch_with_curl(network, story, published.url, digest)
    if shutil.which("aria2c"):
        await fetch_with_aria2(network, story, published.url, digest)
    else:
        story.step("   aria2c is not installed: left out")

    story.step("6  devices hand over their proofs; the ledger verifies and books them")
    settled = await wait_for_settlement(network, accounts, devices)
    booked: Counter[str] = Counter()
    for one in settled:
        if one["tier"] == "countersigned" and one["service"] == "object":
            booked[one["device"]] += one["factors"]["bytes"]
    story.check("every byte that devices brought is paid, and none twice", booked == Counter(devices), str(booked))

    story.step("7  redeem a reward, reconcile")
    redemption = await redeem(network, accounts, story)
    await check_books(network, accounts, story, settled)
    print_table(network, accounts, story, published, fetched, settled, redemption)
    if os.environ.get("KEEP"):
        print_addresses(network, accounts, story, published)
        await asyncio.Event().wait()


def print_addresses(network: Network, accounts: Accounts, story: Story, published: PublishedObject) -> None:
    story.step(f"\nrunning until Ctrl-C; files in {network.directory}")
    story.step(f"  scheduler  {network.scheduler_url}   ledger  {network.ledger_url}")
    story.step(f"  object     {published.url}")
    story.step(f"  operator   {network.operator_token}")
    story.step(f"  publisher  {accounts.publisher_token}")
    for name, token in accounts.owner_tokens.items():
        story.step(f"  {name:<9}  {token}")
    for device in network.devices:
        story.step(f"  {device.line.name:<9}  {device.lan_url}   setup code {device.setup_code}   {device.lan_token}")


async def main() -> int:
    story = Story(Console(highlight=False))
    started = time.monotonic()
    network = Network()
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()
    assert task is not None
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, task.cancel)
    try:
        async with network:
            try:
                await play(network, story)
            except (NetworkFailed, ClientError) as error:
                story.failed.append(str(error))
            network.keep_files = bool(story.failed)
    except asyncio.CancelledError:
        story.step("\nstopped" + ("" if os.environ.get("KEEP") else " before the end"))
        return 0 if os.environ.get("KEEP") and not story.failed else 130
    if story.failed:
        for what in story.failed:
            story.step(f"FAILED  {what}")
        story.step(f"logs: {network.directory}")
        return 1
    story.step(f"all held; {time.monotonic() - started:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
