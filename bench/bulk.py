"""Memory while a 1 GiB file goes from publisher to server, to devices, to a consumer: it must stay flat.

Real processes on the loopback. Each one's peak size (``VmHWM``, which the kernel keeps) is reset when all is idle, and
compared with its size then; the fetching process is compared with one that fetched a single chunk. ``--quick`` moves
64 MiB.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path

from harness import Figure, arguments, publish

sys.path.insert(0, str(Path(__file__).parent.parent / "demo"))

from fallow_client.ledger import Ledger
from fallow_client.scheduler import Account, Scheduler
from network import BIN, Line, Network, clean_environment, until

MIB = 2**20
GOAL_MB = 64
DEVICES = 2
LINE_MBPS = 2000


def memory_mb(pid: int, name: str) -> float:
    """``VmRSS`` or ``VmHWM`` of a process, in MB; 0 when it has ended."""
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith(name + ":"):
                return int(line.split()[1]) * 1024 / 1e6
    except OSError:
        pass
    return 0.0


def reset_peak(pid: int) -> None:
    """proc(5): 5 in ``clear_refs`` sets the peak to the size of now."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def make_file(path: Path, size: int) -> str:
    """Bytes that no link of the chain can compress. :returns: their SHA-256."""
    randomness, digest = random.Random(1), hashlib.sha256()
    with path.open("wb") as file:
        for _ in range(size // MIB):
            piece = randomness.randbytes(MIB)
            digest.update(piece)
            file.write(piece)
    return digest.hexdigest()


def digest_of(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


async def command(name: str, network: Network, *words: str, environment: dict[str, str] | None = None) -> float:
    """Run ``fallow`` and watch it. :returns: its peak size, in MB."""
    with (network.directory / f"{name}.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            str(BIN / "fallow"), *words, stdout=log, stderr=log, env=clean_environment() | (environment or {})
        )
    ended = asyncio.create_task(process.wait(), name=name)
    peak = 0.0
    while not ended.done():
        peak = max(peak, memory_mb(process.pid, "VmHWM"))
        await asyncio.wait([ended], timeout=0.02)
    if process.returncode != 0:
        raise SystemExit(f"{name} failed: {(network.directory / f'{name}.log').read_text()}")
    return peak


async def place(scheduler: Scheduler, network: Network, object_id: str, seconds: float) -> None:
    async def placed() -> bool | None:
        network.check_running()
        return True if (await scheduler.object(object_id)).get("replicas", 0) >= DEVICES else None

    await until("the object is on the devices", placed, seconds)


async def account(network: Network, role: str) -> Account:
    async with Scheduler(network.scheduler_url, network.operator_token) as scheduler:
        made = await scheduler.add_account(role, role)
    async with Ledger(network.ledger_url, network.operator_token) as ledger:

        async def known() -> object:
            return await ledger.account(made.id)

        await until("the ledger knows the account", known, 15)
        if role == "publisher":
            await ledger.deposit(made.id, 1000 * 10**6)
    return made


async def measure(size: int) -> tuple[list[Figure], list[str]]:
    async with Network() as network:
        await network.start_server()
        publisher, owner = await account(network, "publisher"), await account(network, "owner")
        for number in range(DEVICES):
            device = await network.start_device(Line(f"agent-{number + 1}", LINE_MBPS, LINE_MBPS))
            await network.activate(device, owner.id, owner.token or "")
        await network.until_reachable()
        big, small = network.directory / "big.bin", network.directory / "small.bin"
        digest = await asyncio.to_thread(make_file, big, size)
        await asyncio.to_thread(make_file, small, MIB)
        token = {"FALLOW_TOKEN": publisher.token or ""}
        flags = ("--scheduler", network.scheduler_url, "--replicas", str(DEVICES), "--json")

        async with Scheduler(network.scheduler_url, publisher.token) as scheduler:
            # One small object through the whole chain first: what a process loads once is not growth.
            idle = {
                "publish": await command("publish-small", network, "publish", str(small), *flags, environment=token)
            }
            [first] = await scheduler.objects()
            await place(scheduler, network, first["id"], 60)
            fetched = str(network.directory / "fetched")
            idle["fetch"] = await command("fetch-small", network, "fetch", first["url"], "-o", fetched)

            daemons = {started.name: started.process.pid for started in network.processes}
            idle |= {name: memory_mb(pid, "VmRSS") for name, pid in daemons.items()}
            for pid in daemons.values():
                reset_peak(pid)
            timing = Stopwatch()
            peak = {"publish": await command("publish-big", network, "publish", str(big), *flags, environment=token)}
            timing.note("publish")
            second = next(one for one in await scheduler.objects() if one["id"] != first["id"])
            await place(scheduler, network, second["id"], 600)
            timing.note(f"place on {DEVICES} devices")
            peak["fetch"] = await command("fetch-big", network, "fetch", second["url"], "-o", fetched)
            timing.note("fetch")
            peak |= {name: memory_mb(pid, "VmHWM") for name, pid in daemons.items()}
        if await asyncio.to_thread(digest_of, fetched) != digest:
            raise SystemExit("the fetched file has other bytes")
        growth = {name: max(0.0, peak[name] - idle[name]) for name in sorted(peak)}
        worst = max(growth.values())
        figures = [figure("peak_growth_mb", worst)]
        figures += [figure(f"peak_growth_mb.{name}", value) for name, value in growth.items()]
        sizes = ", ".join(f"{name} {idle[name]:.0f} MB" for name in sorted(idle))
        return figures, [f"{size // MIB} MiB; {timing.text()}", f"idle sizes: {sizes}"]


def figure(name: str, value: float) -> Figure:
    return Figure(name, value, "MB", value, value, f"<= {GOAL_MB}", value <= GOAL_MB, "its size when idle")


class Stopwatch:
    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._last = now()
        self._notes: list[str] = []

    def note(self, what: str) -> None:
        now = self._now()
        self._notes.append(f"{what} {now - self._last:.1f} s")
        self._last = now

    def text(self) -> str:
        return ", ".join(self._notes)


def main() -> int:
    options = arguments(__doc__ or "").parse_args()
    size = (64 if options.quick else 1024) * MIB
    figures, notes = asyncio.run(measure(size))
    publish("bulk", figures, quick=options.quick, notes=notes)
    return 0 if all(one.met for one in figures) else 1


if __name__ == "__main__":
    sys.exit(main())
