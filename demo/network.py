"""A whole Fallow network of real processes on this computer: one server, any number of devices.

Everything lives in one temporary directory, ports are free ones, and nothing stays behind.
"""

from __future__ import annotations

import asyncio
import os
import random
import re
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import psutil  # type: ignore[import-untyped]
from fallow_client.discovery import find_devices
from fallow_client.errors import ClientError
from fallow_client.lan_device import LanDevice
from fallow_client.ledger import Ledger
from fallow_client.scheduler import Scheduler
from fallow_wire.lan import Limits

T = TypeVar("T")
BIN = Path(sys.executable).parent
STOP_S = 10.0
PORTS = (20_000, 32_000)
_TOKEN = re.compile(r"operator's token[^\n]*\n+\s*(\S+)")


SERVER_SETTINGS = """
[ledger]
hold_s = 0  # points may be redeemed at once

[canaries]
interval_s = 0  # what is counted is what was fetched here

[policy]
ticket_idle_s = 3  # the end of a download is soon seen

# All devices are one computer here: that it is busy must not look as if each of them were.
[tasks.filters]
spare_percent_min = 0

[delivery.filters]
spare_percent_min = 0
"""


DEVICE_SETTINGS = {"FALLOW_PROCESS_SPARE_PERCENT_MIN": "0", "FALLOW_LINE_ASK_ROUTER": "false"}
"""All programs of the network share one processor here; at home, a device would make room for the others. And the
router of this computer's user has nothing to do with their lines."""


class NetworkFailed(Exception):
    """The network did not come up; the text names the step."""


@dataclass(frozen=True, slots=True)
class Line:
    """A device to start. Rates in Mbit/s; the owner allows ``upload_percent`` of the upload."""

    name: str
    up_mbps: int
    down_mbps: int
    upload_percent: int = 100


@dataclass(slots=True)
class Device:
    """A running device. ``lan_token`` is empty until it is activated."""

    line: Line
    lan_url: str
    setup_code: str
    device_id: str = ""
    owner: str = ""
    lan_token: str = ""


@dataclass(frozen=True, slots=True)
class Process:
    name: str
    process: asyncio.subprocess.Process
    log: Path


def free_port() -> int:
    """A port that nobody uses, and that the system gives nobody by itself (those are from 32768 on): it is still free
    when a program that was killed takes it again."""
    while True:
        port = random.randrange(*PORTS)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def outward_interface() -> str | None:
    """The interface of this computer's network, where there is one: the LAN of the devices. Nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("198.51.100.1", 9))
            own = probe.getsockname()[0]
        except OSError:
            return None
    for name, addresses in psutil.net_if_addrs().items():
        if any(address.address == own for address in addresses):
            return str(name)
    return None


async def until(what: str, probe: Callable[[], Awaitable[T | None]], seconds: float) -> T:
    """Ask ``probe`` until it gives something. These are other processes: there is no event to wait for.

    :raises NetworkFailed: naming ``what`` after ``seconds``.
    """
    end = time.monotonic() + seconds
    last = ""
    while time.monotonic() < end:
        try:
            found = await probe()
        except ClientError as error:
            found, last = None, f" ({error.detail})"
        if found is not None:
            return found
        await asyncio.sleep(0.2)
    raise NetworkFailed(f"{what}: not within {seconds:.0f} s{last}")


class Network:
    """Use it as an async context manager; it stops every process that it started."""

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="fallow-demo-"))
        self.processes: list[Process] = []
        self.devices: list[Device] = []
        self.scheduler_url = ""
        self.ledger_url = ""
        self.operator_token = ""
        self.keep_files = False

    async def __aenter__(self) -> Network:
        return self

    async def __aexit__(self, *failure: object) -> None:
        await self.stop()

    # ------------------------------------------------------------------ processes

    async def start(self, name: str, *arguments: str, environment: dict[str, str] | None = None) -> Process:
        log = self.directory / f"{name}.log"
        with log.open("wb") as output:
            process = await asyncio.create_subprocess_exec(
                *arguments,
                stdout=output,
                stderr=output,
                env=clean_environment() | (environment or {}),
                # Ctrl-C at the terminal is ours to pass on, in order.
                start_new_session=True,
            )
        started = Process(name, process, log)
        self.processes.append(started)
        return started

    async def run(self, name: str, *arguments: str, environment: dict[str, str] | None = None) -> tuple[int, str, str]:
        """Run a command to its end: exit code, standard output, standard error."""
        process = await asyncio.create_subprocess_exec(
            *arguments,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=clean_environment() | (environment or {}),
            cwd=self.directory,
        )
        try:
            output, errors = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        (self.directory / f"{name}.log").write_bytes(output + errors)
        return process.returncode or 0, output.decode("utf-8", "replace"), errors.decode("utf-8", "replace")

    async def stop(self) -> None:
        """Ask devices to stop, then the server; kill what does not. The directory goes too, unless it is to be kept."""
        for part in (self.processes[1:], self.processes[:1]):
            for started in part:
                if started.process.returncode is None:
                    started.process.send_signal(signal.SIGTERM)
            waits = [started.process.wait() for started in part]
            try:
                async with asyncio.timeout(STOP_S):
                    await asyncio.gather(*waits)
            except TimeoutError:
                for started in part:
                    if started.process.returncode is None:
                        started.process.kill()
                await asyncio.gather(*(started.process.wait() for started in part))
        if not self.keep_files:
            shutil.rmtree(self.directory, ignore_errors=True)

    def check_running(self) -> None:
        """:raises NetworkFailed: a process has ended."""
        for started in self.processes:
            if started.process.returncode is not None:
                tail = started.log.read_text("utf-8", "replace").strip().splitlines()[-3:]
                raise NetworkFailed(f"{started.name} ended with {started.process.returncode}: " + " | ".join(tail))

    # ------------------------------------------------------------------ server

    async def start_server(self, environment: dict[str, str] | None = None) -> None:
        """With :data:`SERVER_SETTINGS`; ``environment`` adds to them."""
        state = str(self.directory / "server")
        scheduler_port, ledger_port = free_port(), free_port()
        self.scheduler_url = f"http://127.0.0.1:{scheduler_port}"
        self.ledger_url = f"http://127.0.0.1:{ledger_port}"
        server = str(BIN / "fallow-server")
        settings_file = self.directory / "server.toml"
        settings_file.write_text(SERVER_SETTINGS)
        flags = [
            *("--config", str(settings_file)),
            *("--state-dir", state, "--host", "127.0.0.1", "--allow-private-addresses"),
            *("--scheduler-port", str(scheduler_port), "--ledger-port", str(ledger_port)),
            *("--scheduler-url", self.scheduler_url, "--ledger-url", self.ledger_url),
        ]
        settings = environment or {}
        code, output, errors = await self.run("server-init", server, "init", *flags, environment=settings)
        found = _TOKEN.search(output)
        if code != 0 or found is None:
            raise NetworkFailed(f"fallow-server init failed: {errors.strip() or output.strip()}")
        self.operator_token = found[1]
        await self.start("server", server, "run", *flags, environment=settings)
        async with Scheduler(self.scheduler_url) as scheduler, Ledger(self.ledger_url) as ledger:

            async def healthy() -> bool:
                self.check_running()
                await scheduler.health()
                await ledger.keys()
                return True

            await until("the server answers", healthy, 30)

    # ------------------------------------------------------------------ devices

    async def start_device(self, line: Line) -> Device:
        """Dormant, with its setup code as its label would tell."""
        state = self.directory / line.name
        lan_port = free_port()
        agent = str(BIN / "fallow-agent")
        interface = outward_interface()
        flags = [
            *("--state-dir", str(state), "--name", line.name),
            *("--lan-port", str(lan_port), "--service-port", str(free_port())),
            *(("--lan-interface", interface) if interface else ()),
            *("--up-mbps", str(line.up_mbps), "--down-mbps", str(line.down_mbps)),
        ]
        await self.start(line.name, agent, "run", *flags, environment=DEVICE_SETTINGS)
        device = Device(line, f"http://127.0.0.1:{lan_port}", "")
        async with LanDevice(device.lan_url) as lan:

            async def answers() -> str:
                self.check_running()
                return (await lan.info()).device_id

            device.device_id = await until(f"{line.name} answers on port M", answers, 30)
        code, output, errors = await self.run(f"{line.name}-setup-code", agent, "setup-code", "--state-dir", str(state))
        if code != 0:
            raise NetworkFailed(f"fallow-agent setup-code: {errors.strip()}")
        device.setup_code = output.strip().splitlines()[-1].strip()
        self.devices.append(device)
        return device

    async def find_by_mdns(self) -> int:
        """Give the devices the addresses that they announce. :returns: how many were found so."""
        try:
            found = {device.device_id: device.url for device in await find_devices(6, expected=len(self.devices))}
        except ClientError:
            return 0
        count = 0
        for device in self.devices:
            if device.device_id in found:
                device.lan_url = found[device.device_id]
                count += 1
        return count

    async def activate(self, device: Device, owner: str, owner_token: str) -> None:
        """As the phone app does: claim token from the owner's account, setup code from the label, consent."""
        async with Scheduler(self.scheduler_url, owner_token) as scheduler, LanDevice(device.lan_url) as lan:
            claim = await scheduler.claim()
            terms = (await lan.info()).terms_version
            limits = Limits(upload_percent_max=device.line.upload_percent)
            activated = await lan.activate(
                self.scheduler_url,
                claim.claim_token,
                device.setup_code,
                accept_terms_version=terms,
                limits=limits,
            )
            device.owner, device.lan_token = owner, activated.lan_token

            async def active() -> bool | None:
                now = await lan.activation()
                if now.state == "dormant" and now.error is not None:
                    raise NetworkFailed(f"{device.line.name}: {now.error.detail or now.error.title}")
                return True if now.state == "active" else None

            await until(f"{device.line.name} is active", active, 30)

    async def until_reachable(self) -> None:
        """Every device is connected and answered the scheduler's dial-back."""
        async with Scheduler(self.scheduler_url, self.operator_token) as scheduler:

            async def reachable() -> bool | None:
                self.check_running()
                ready = {one["device_id"] for one in await scheduler.devices() if one.get("reachable")}
                return True if {device.device_id for device in self.devices} <= ready else None

            await until("all devices are connected and reachable", reachable, 30)


def clean_environment() -> dict[str, str]:
    """Ours without settings of another Fallow, and without proxies, which cannot reach this computer's own ports."""
    dropped = ("fallow_", "http_proxy", "https_proxy", "all_proxy")
    return {name: value for name, value in os.environ.items() if not name.lower().startswith(dropped)}
