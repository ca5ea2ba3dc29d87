"""``make demo``: a network on this computer, from dormant devices to redeemed points, with every claim checked.

FILE=path publishes that file; KEEP=1 leaves the network running until Ctrl-C. Exit code 0 only if all held.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import re
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
from fallow_wire.jws import Kind, parse, split
from fallow_wire.tariff import Factors
from fallow_wire.tickets import Ticket
from network import BIN, Line, Network, NetworkFailed, until
from rich import box
from rich.console import Console
from rich.table import Table

FILE_BYTES_MIN = 20_000_000
MICRO = 1_000_000
REWARD = "A coffee"
REWARD_MICRO_POINTS = 1000
LINES = (
    Line("router-a", up_mbps=100, down_mbps=500),
    Line("router-b", up_mbps=160, down_mbps=500, upload_percent=50),
    Line("pi-c", up_mbps=200, down_mbps=1000),
    Line("pi-d", up_mbps=300, down_mbps=1000, upload_percent=80),
)
OWNERS = ("Ada", "Bo")
EXPIRY_S = 8
"""A device allows for 5 s of clock skew, and looks every second or two."""


@dataclass(slots=True)
class Download:
    """One consumer's download.

    ``by_device``: verified bytes by device id. ``tickets``: ids of the tickets it was given; without receipts, only
    their settlements tell what came from where.
    """

    program: str
    seconds: float
    good: bool
    note: str = ""
    by_device: dict[str, int] = field(default_factory=dict)
    tickets: frozenset[str] = frozenset()

    def origin(self, size: int) -> int:
        return max(0, size - sum(self.by_device.values())) if self.good else 0


@dataclass(slots=True)
class Story:
    """What happened, for the table; ``failed`` names what did not hold."""

    console: Console
    started: float = field(default_factory=time.monotonic)
    checks: int = 0
    failed: list[str] = field(default_factory=list)
    downloads: list[Download] = field(default_factory=list)

    def step(self, text: str) -> None:
        self.console.print(f"{time.monotonic() - self.started:5.1f}  {text}", markup=False, highlight=False)

    def line(self, text: str) -> None:
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def check(self, what: str, held: bool, seen: str = "") -> None:
        self.checks += 1
        if not held:
            self.failed.append(f"{what}{': ' + seen if seen else ''}")


def real_file(directory: Path) -> Path:
    """FILE, or a file of some size that setting up has put into the virtual environment, or that as a tar."""
    if os.environ.get("FILE"):
        path = Path(os.environ["FILE"]).resolve()
        if not path.is_file():
            raise NetworkFailed(f"FILE={path} is not a file")
        return path
    files = [path for path in Path(sys.prefix).rglob("*") if path.is_file() and not path.is_symlink()]
    large = [path for path in files if path.stat().st_size >= FILE_BYTES_MIN]
    if large:
        return min(large, key=lambda path: path.stat().st_size)
    packed = directory / "site-packages.tar"
    with tarfile.open(packed, "w") as tar:
        tar.add(Path(sys.prefix) / "lib", "lib")
    return packed


def ticket_s(size: int) -> int:
    """Downloads without receipts are settled when their ticket expires, by default after 15 minutes; here as soon as
    the slowest device can have served ``size`` bytes twice."""
    slowest_bps = min(line.up_mbps * line.upload_percent for line in LINES) * 10_000
    return min(900, 10 + 2 * size * 8 // slowest_bps)


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


async def download(network: Network, story: Story, program: str, target: Path, digest: str, *command: str) -> str:
    """Run ``command``, which is to write ``target``. :returns: its output."""
    started = time.monotonic()
    code, output, errors = await network.run(program.split()[0], *command)
    seconds = time.monotonic() - started
    good = code == 0 and await asyncio.to_thread(digest_of, target) == digest
    story.check(f"{program} brings the file, byte for byte", good, errors.strip()[-300:])
    story.downloads.append(Download(program, seconds, good))
    return output if good else ""


def tickets_in(text: str) -> frozenset[str]:
    """The ids of the tickets in the addresses of a text."""
    tokens = re.findall(r"[?&]ticket=([A-Za-z0-9_.-]+)", text)
    return frozenset(parse(split(token, Kind.TICKET), Ticket).jti for token in tokens)


async def fetch_with_fallow(network: Network, story: Story, url: str, digest: str) -> dict[str, int]:
    """:returns: verified bytes by device."""
    target = network.directory / "by-fallow"
    command = (str(BIN / "fallow"), "fetch", url, "-o", str(target), "--json")
    output = await download(network, story, "fallow fetch", target, digest, *command)
    brought: dict[str, int] = json.loads(output)["bytes_by_source"] if output else {}
    brought.pop("origin", None)
    story.downloads[-1].by_device = dict(brought)
    story.downloads[-1].note = "several devices, every chunk verified and countersigned"
    return brought


async def fetch_with_curl(network: Network, story: Story, url: str, digest: str) -> None:
    target = network.directory / "by-curl"
    command = ("curl", "-sSfL", "-o", str(target), "-w", "%{url_effective}", url)
    output = await download(network, story, "curl -L", target, digest, *command)
    story.downloads[-1].tickets = tickets_in(output)
    story.downloads[-1].note = "one device, by redirect"


async def fetch_with_aria2(network: Network, story: Story, url: str, name: str, digest: str) -> None:
    metalink = network.directory / "object.meta4"
    code, _, errors = await network.run("metalink", "curl", "-sSf", "-o", str(metalink), url + ".meta4")
    story.check("the scheduler gives a Metalink", code == 0, errors.strip())
    directory = network.directory / "by-aria2"
    # As many connections as devices, in the order of the priorities, which name the origin last.
    options = (f"-s{len(network.devices)}", "-k1M", "-x8", "--uri-selector=inorder")
    command = ("aria2c", "--no-conf", "-q", "-d", str(directory), "-M", str(metalink), *options)
    await download(network, story, "aria2c", directory / name, digest, *command)
    if code == 0:
        story.downloads[-1].tickets = tickets_in(metalink.read_text())
    story.downloads[-1].note = "several devices, by Metalink, every piece checked"


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


def booked_bytes(settled: list[dict[str, Any]], tier: str) -> Counter[str]:
    """Paid bytes of consumers' downloads by device."""
    found: Counter[str] = Counter()
    for one in settled:
        if one["tier"] == tier and one["service"] == "object":
            found[one["device"]] += one["factors"]["bytes"]
    return found


async def wait_for_settlement(
    network: Network, accounts: Accounts, fetched: dict[str, int], lifetime_s: int
) -> list[dict[str, Any]]:
    """Until all that ``fallow fetch`` confirmed is booked, the other tickets have expired, and no proof waits."""
    expired = time.monotonic() + lifetime_s + EXPIRY_S

    async def settled() -> list[dict[str, Any]] | None:
        network.check_running()
        found = await settlements_of(network, accounts)
        booked = booked_bytes(found, "countersigned")
        if time.monotonic() < expired or any(booked[device] < count for device, count in fetched.items()):
            return None
        for device in network.devices:
            async with LanDevice(device.lan_url, device.lan_token) as lan:
                if (await lan.status())["proofs"]["waiting"]:
                    return None
        return found

    return await until("all receipts are settled", settled, lifetime_s + 60)


def check_bytes(story: Story, fetched: dict[str, int], settled: list[dict[str, Any]]) -> None:
    """Compare what was paid with what consumers saw; note what came from where without receipts."""
    booked = booked_bytes(settled, "countersigned")
    story.check("each countersigned byte is paid, once", booked == Counter(fetched), f"{booked}, not {fetched}")
    for one in story.downloads[1:]:
        own = [settlement for settlement in settled if settlement["jti"] in one.tickets]
        one.by_device = dict(booked_bytes(own, "legacy"))
        story.check(f"devices are paid for {one.program}", bool(one.by_device), "nothing was booked")


async def check_books(network: Network, accounts: Accounts, story: Story, settled: list[dict[str, Any]]) -> int:
    """Compare the ledger's books with our own computation. :returns: µp earned by all owners."""
    async with Ledger(network.ledger_url, network.operator_token) as ledger:
        tariffs = {one: (await ledger.tariff(one))[1] for one in {settlement["tariff"] for settlement in settled}}
        wrong = []
        for one in settled:
            tariff, factors = tariffs[one["tariff"]], Factors(**one["factors"])
            rates = (tariff.rates[one["service"]], tariff.weight(one["tier"], one.get("audits", 0)))
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


def megabytes(count: int) -> str:
    return f"{count / 1e6:.1f} MB" if count else "–"


def print_table(
    network: Network,
    accounts: Accounts,
    story: Story,
    published: PublishedObject,
    settled: list[dict[str, Any]],
    redemption: str,
) -> None:
    title = f"{published.name}, {published.size:,} bytes"
    table = Table(title=title, title_style="bold", box=box.SIMPLE_HEAD, show_footer=True, pad_edge=False)
    for heading in ("source", "owner", "may send"):
        table.add_column(heading, no_wrap=True)
    for heading in (*(one.program for one in story.downloads), "fills", "µp"):
        table.add_column(heading, justify="right", no_wrap=True)
    for device in network.devices:
        own = [one for one in settled if one["device"] == device.device_id]
        budget = f"{device.line.up_mbps * device.line.upload_percent // 100} Mbit/s"
        cells = [megabytes(one.by_device.get(device.device_id, 0)) for one in story.downloads]
        fills = megabytes(sum(one["factors"]["bytes"] for one in own if one["service"] == "fill"))
        earned = f"{sum(one['micro_points'] for one in own):,}"
        table.add_row(device.line.name, device.owner, budget, *cells, fills, earned)
    table.add_row("origin", "", "", *(megabytes(one.origin(published.size)) for one in story.downloads), "", "")
    table.columns[0].footer = "by devices"
    for column, one in zip(table.columns[3:], story.downloads, strict=False):
        share = 100 * (published.size - one.origin(published.size)) / max(published.size, 1)
        column.footer = f"{share:.0f} %" if one.good else "failed"
    table.columns[-2].footer = megabytes(sum(one["factors"]["bytes"] for one in settled if one["service"] == "fill"))
    table.columns[-1].footer = f"{sum(one['micro_points'] for one in settled):,}"
    story.console.print(table)
    summary = Table(show_header=False, box=None, pad_edge=False)
    for one in story.downloads:
        summary.add_row(one.program, f"{'same bytes' if one.good else 'FAILED'}, {one.seconds:.1f} s; {one.note}")
    for name, owner in accounts.owners.items():
        earned_micro_points = sum(one["micro_points"] for one in settled if one["owner"] == owner)
        summary.add_row(f"points of {name}", f"{earned_micro_points / MICRO:.6f} = {earned_micro_points:,} µp")
    summary.add_row("redeemed", redemption)
    if not story.failed:
        summary.add_row("books", "sum of all accounts 0; µp = tariff × bytes, recomputed here for each settlement")
    summary.add_row("checks", f"{story.checks - len(story.failed)} of {story.checks} held")
    story.console.print(summary)


# ------------------------------------------------------------------ the story


async def play(network: Network, story: Story) -> None:
    path = await asyncio.to_thread(real_file, network.directory)
    digest = await asyncio.to_thread(digest_of, path)
    lifetime_s = ticket_s(path.stat().st_size)
    story.step("server: scheduler and ledger, fresh state")
    await network.start_server({"FALLOW_SERVER_DELIVERY_TICKET_S": str(lifetime_s)})
    accounts = await open_accounts(network)

    story.step("four devices, dormant")
    for device in await asyncio.gather(*(network.start_device(line) for line in LINES)):
        async with LanDevice(device.lan_url) as lan:
            state = (await lan.info()).state
        story.check(f"{device.line.name} starts dormant", state == "dormant", state)
    network.devices.sort(key=lambda device: device.line.name)
    found = await network.find_by_mdns()
    if found == len(network.devices):
        story.step(f"found all {found} by mDNS")
    else:
        story.step(f"mDNS found {found} of {len(LINES)}: multicast does not work here; the others by address")

    story.step("activation on port M, as a phone does: consent, setup code, claim token; two owners")
    for number, device in enumerate(network.devices):
        owner = OWNERS[number % len(OWNERS)]
        await network.activate(device, owner, accounts.owner_tokens[owner])
    await network.until_reachable()

    story.step(f"publish {path.name} ({path.stat().st_size:,} bytes) and let the scheduler place it")
    async with Scheduler(network.scheduler_url, accounts.publisher_token) as scheduler:
        published = await scheduler.publish(path, replicas=len(LINES))

        async def placed() -> bool | None:
            network.check_running()
            replicas = (await scheduler.object(published.id)).get("replicas", 0)
            return True if replicas >= len(LINES) else None

        try:
            await until("the file is on all devices", placed, 60)
        except NetworkFailed as failure:
            waiting = [task["waiting"] for task in await scheduler.tasks() if task.get("waiting")]
            raise NetworkFailed(f"{failure}; devices that were left out, by reason: {waiting}") from None

    has_aria2 = shutil.which("aria2c") is not None
    story.step("fetch it: fallow fetch, curl" + (", aria2c" if has_aria2 else "; aria2c is not installed, left out"))
    fetched = await fetch_with_fallow(network, story, published.url, digest)
    story.check("several devices served it", len(fetched) > 1, str(fetched))
    await fetch_with_curl(network, story, published.url, digest)
    if has_aria2:
        await fetch_with_aria2(network, story, published.url, published.name, digest)

    story.step("devices hand over their proofs; the ledger verifies and books them")
    settled = await wait_for_settlement(network, accounts, fetched, lifetime_s)
    check_bytes(story, fetched, settled)

    story.step("redeem a reward, reconcile")
    redemption = await redeem(network, accounts, story)
    await check_books(network, accounts, story, settled)
    print_table(network, accounts, story, published, settled, redemption)
    if os.environ.get("KEEP"):
        print_addresses(network, accounts, story, published)
        await asyncio.Event().wait()


def print_addresses(network: Network, accounts: Accounts, story: Story, published: PublishedObject) -> None:
    story.line(f"\nrunning until Ctrl-C; files in {network.directory}")
    story.line(f"  scheduler  {network.scheduler_url}   ledger  {network.ledger_url}")
    story.line(f"  object     {published.url}")
    if published.type.startswith("video/"):
        story.line(f"  watch      {network.scheduler_url}/watch/{published.id}")
    story.line(f"  operator   {network.operator_token}")
    story.line(f"  publisher  {accounts.publisher_token}")
    for name, token in accounts.owner_tokens.items():
        story.line(f"  {name:<9}  {token}")
    for device in network.devices:
        story.line(f"  {device.line.name:<9}  {device.lan_url}   setup code {device.setup_code}   {device.lan_token}")


async def main() -> int:
    console = Console(highlight=False)
    story = Story(console if console.is_terminal else Console(highlight=False, width=110))
    network = Network()
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()
    assert task is not None
    asked: list[None] = []

    def stop() -> None:
        # Once: an impatient second Ctrl-C must not leave processes behind. Stopping is bounded.
        if not asked:
            asked.append(None)
            task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop)
    try:
        async with network:
            try:
                await play(network, story)
            except (NetworkFailed, ClientError) as error:
                story.failed.append(str(error))
            network.keep_files = bool(story.failed)
    except asyncio.CancelledError:
        story.line("\nstopped" + ("" if os.environ.get("KEEP") else " before the end"))
        return 0 if os.environ.get("KEEP") and not story.failed else 130
    if story.failed:
        for what in story.failed:
            story.line(f"FAILED  {what}")
        story.line(f"logs: {network.directory}")
        return 1
    story.line(f"all held; {time.monotonic() - story.started:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
