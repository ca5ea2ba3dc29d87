"""One home with its line, its device and its household, and what the household does while something is shared."""

from __future__ import annotations

import dataclasses
import json
import os
import random
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from . import measure
from .delay import added_ms, read_errors
from .fallow import Device, Place, Server
from .measure import EVENING, Records, Window
from .network import (
    GATEWAY_LAN,
    PI_HOST,
    SINK_HOST,
    UPNP_TABLES,
    Home,
    Line,
    Network,
    add_home,
    add_internet,
    has_netem,
    upnp_settings,
)
from .processes import Processes
from .sharing import FALLOW, NONE, Sharing

ONE_WAY_MS = 10.0
OBJECT_S = 16
"""The object is as large as the line carries in so long: of two downloads that share it, neither ends within a window.
Once both have ended, the scheduler may learn only by the next heartbeat that the line is free again."""
DOWNLOADS = 2
READY_SHARE, READY_S, READY_WAITS = 0.80, 0.5, 3
"""Fallow has the line again when it sends this share of the capacity over so long. It is waited for so many times the
recovery that others get; where it does not come, the load begins all the same, and the report says so."""
READY_S_MIN = 2.0
TAIL_BYTES = 8192
PHASE_S = 0.2
"""Loads begin at a random moment of the agent's steps, which are shorter."""
ON_S, OFF_S = 2.0, 2.0


@dataclass(frozen=True, slots=True)
class Setting:
    """``place``: where the agent runs, ``gateway`` or ``pi``. ``igd``: the gateway tells its counters by UPnP.
    ``peers``: other programs are compared with."""

    line: Line
    place: str = "gateway"
    igd: bool = False
    peers: bool = False


class Household:
    """Runs while the block lasts. Each load writes down its window."""

    def __init__(self, setting: Setting, work: Path) -> None:
        self.setting, self.work = setting, work
        self.home = Home(0, setting.line)
        self._stack = ExitStack()

    def __enter__(self) -> Household:
        with self._stack:
            self._set_up()
            self._stack = self._stack.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def _set_up(self) -> None:
        self.network = self._stack.enter_context(Network())
        self._processes = self._stack.enter_context(Processes(self.network, self.work))
        self.by_kernel = has_netem()
        add_internet(self.network, ONE_WAY_MS, self.by_kernel)
        add_home(self.network, self.home, forward_to_pi=self.setting.place == "pi")
        if not self.by_kernel:
            ends = (self.network.path("isp"), self.network.path("core"))
            self._processes.part(None, "delay", *ends, "far0", str(ONE_WAY_MS), self._file("delay"))
        gateway, house = self.home.name("gateway"), self.home.name("house")
        if self.setting.igd:
            self.network.run(gateway, "nft", "-f", "-", given=UPNP_TABLES)
            settings = self.work / "miniupnpd.conf"
            settings.write_text(upnp_settings(self.setting.line))
            pid_file = self._file("miniupnpd.pid")
            self._processes.start(gateway, "miniupnpd", "-d", "-f", str(settings), "-P", pid_file)
        # A scheduler spares a device that has just yielded; here it must be on the line again for the next onset.
        server = Server(self.network, self._processes, self.work, rest_s=0)
        at_gateway = self.setting.place == "gateway"
        place = Place(gateway, GATEWAY_LAN, "lan0") if at_gateway else Place(self.home.name("pi"), PI_HOST, "lan1")
        self.device = Device(self.network, self._processes, self.work, self.home, place, server)
        content = self.work / "film.bin"
        content.write_bytes(os.urandom(OBJECT_S * self.setting.line.up_mbps * 10**6 // 8))
        url = server.publish(content, replicas=1)
        self.device.wait_filled(1)
        content.unlink()

        start = self._processes.part
        for name in ("sink", "consumer"):
            start(name, "drain")
        start("sink", "listen", self._file("heard"))
        start(gateway, "sample", self._file("sent"), "wan0/tx", "house0/rx")
        start("core", "sample", self._file("got"), "con0/tx", "sink0/tx")
        self._uploader = start(house, "upload")
        self._caller = start(house, "call", self._file("frames"), SINK_HOST)
        self._prober = start(house, "probe", self._file("probes"), SINK_HOST)
        self._reader = start(house, "pages", self._file("pages"), SINK_HOST)
        self.sharing = Sharing(start("consumer", "consume", url, self.home.wan, str(DOWNLOADS)))
        if self.setting.peers:
            self.sharing.add_peers(self.network, self._processes, self.work, self.home, place.namespace)
        if not self.by_kernel:
            self._delay_errors = read_errors(self.work / "delay")

    def _file(self, name: str) -> str:
        return str(self.work / name)

    # ------------------------------------------------------------------ loads

    @contextmanager
    def shared(self, policy: str, recovery_s: float, pause_s: float, *, wait: bool = True) -> Iterator[None]:
        """The policy is on in the block, and has had its time to find its rate.

        :param wait: Fallow may take longer than ``recovery_s``, or be sooner ready.
        """
        self.sharing.start(policy)
        if policy == FALLOW and wait:
            self._wait_ready(READY_WAITS * recovery_s)
        elif policy != NONE:
            time.sleep(recovery_s)
        time.sleep(random.random() * PHASE_S)
        yield
        self.sharing.stop()
        time.sleep(pause_s)

    def idle(self, policy: str, seconds: float) -> None:
        start = time.monotonic()
        time.sleep(seconds)
        self._remember(policy, "idle", start)

    def bulk(self, policy: str, seconds: float) -> None:
        start = self._upload(seconds)
        self._remember(policy, "bulk", start, start + seconds)

    def on_off(self, policy: str, times: int) -> None:
        start = time.monotonic()
        for _ in range(times):
            self._upload(ON_S)
            time.sleep(OFF_S)
        self._remember(policy, "on-off", start)

    def call(self, policy: str, seconds: float) -> None:
        self._prober.ask(True)
        start = self._caller.ask(True)
        time.sleep(seconds)
        end = self._caller.ask(False)
        self._prober.ask(False)
        self._remember(policy, "call", start, end)

    def pages(self, policy: str, seconds: float) -> None:
        start = self._reader.ask(True)
        time.sleep(seconds)
        end = self._reader.ask(False)
        time.sleep(1)  # the last page ends
        self._remember(policy, "pages", start, end)

    def evening(self, policy: str, pause_s: float) -> None:
        """Some of everything, while the policy stays on; for the picture. Each part is a window of its own too."""
        start = time.monotonic()
        time.sleep(3)
        with self._part_of_evening(policy, "call", pause_s):
            self._caller.ask(True)
            time.sleep(8)
            self._caller.ask(False)
        with self._part_of_evening(policy, "upload", pause_s):
            self._upload(5)
        with self._part_of_evening(policy, "pages", pause_s):
            self._reader.ask(True)
            time.sleep(6)
            self._reader.ask(False)
        with self._part_of_evening(policy, "on and off", pause_s):
            for _ in range(3):
                self._upload(ON_S)
                time.sleep(OFF_S)
        self._remember(policy, "evening", start)

    @contextmanager
    def _part_of_evening(self, policy: str, name: str, pause_s: float) -> Iterator[None]:
        start = time.monotonic()
        yield
        self._remember(policy, f"{EVENING}{name}", start)
        time.sleep(pause_s)

    def _wait_ready(self, seconds_max: float) -> None:
        end = time.monotonic() + seconds_max
        time.sleep(READY_S_MIN)
        while time.monotonic() < end:
            with open(self._file("sent"), "rb") as file:
                file.seek(max(0, os.fstat(file.fileno()).st_size - TAIL_BYTES))
                sent = measure.read_gateway(file.read().decode().partition("\n")[2].rpartition("\n")[0])
            if sent.own_mbps(sent.times[-1] - READY_S, sent.times[-1]) >= READY_SHARE * self.setting.line.up_mbps:
                return
            time.sleep(PHASE_S)

    def _upload(self, seconds: float) -> float:
        start: float = self._uploader.ask({"to": SINK_HOST})
        time.sleep(seconds)
        self._uploader.ask(None)
        return start

    def _remember(self, policy: str, load: str, start: float, end: float | None = None) -> None:
        window = Window(policy, load, start, time.monotonic() if end is None else end)
        with open(self._file("windows"), "a") as out:
            out.write(json.dumps(dataclasses.asdict(window)) + "\n")

    def delay_note(self) -> str:
        if self.by_kernel:
            return f"{2 * ONE_WAY_MS:.0f} ms to the internet and back by the kernel's netem"
        errors = read_errors(self.work / "delay")
        late = [added_ms(self._delay_errors, errors, share) for share in (0.5, 0.95, 0.999)]
        return (
            f"{2 * ONE_WAY_MS:.0f} ms to the internet and back by a delay line on TUN devices, which itself added at "
            f"most {late[0]:.1f} ms to half of the packets, {late[1]:.1f} ms to 95 %, {late[2]:.1f} ms to 99.9 %"
        )


def read_records(work: Path) -> Records:
    """What a household has left behind. A line that is being written is left out."""

    def text(name: str) -> str:
        path = work / name
        return path.read_text().rpartition("\n")[0] if path.exists() else ""

    return Records(
        windows=tuple(Window(**json.loads(line)) for line in text("windows").splitlines()),
        sent=measure.read_gateway(text("sent")),
        got=measure.read_counters(text("got")),
        probes=measure.read_probes(text("probes")),
        frames=measure.read_frames(text("frames"), text("heard")),
        pages=measure.read_pages(text("pages")),
    )
