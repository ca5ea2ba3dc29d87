"""The server that is measured: ``fallow-server`` as it runs, with a few questions answered on standard input."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from pathlib import Path
from typing import Any

from fallow_server.app import Scheduler, ServerApp
from fallow_server.config import load
from fallow_server.delivery.router import Wanted
from fallow_server.fleet.live import LiveDevice
from fallow_server.fleet.reachability import NOT_KNOWN
from fallow_wire.session import Content, read_upward, write

from . import population
from .blocks import Blocks
from .parts import obey

HEARTBEAT_S = 30
FILLED_AT_ONCE = 50
ROUND = 2000


async def server(state_dir: str, port: str) -> None:
    config = load(
        {
            "": {"state_dir": Path(state_dir)},
            "http": {
                "host": "127.0.0.1",
                "scheduler_port": int(port),
                "ledger_port": int(port) + 1,
                "scheduler_url": f"http://127.0.0.1:{port}",
                "ledger_url": f"http://127.0.0.1:{int(port) + 1}",
                "trusted_proxies": ("127.0.0.1",),
            },
            "policy": {"heartbeat_s": HEARTBEAT_S},
            "canaries": {"interval_s": 0},  # the devices only say that they serve
            "dial_back": {"allow_private_addresses": True},
        },
        {},
    )
    app = ServerApp(config)
    desk = Desk(app)
    calls = ("counts", "watch", "blocks", "dial_back", "fill", "heartbeats", "routes", "walks", "want", "place")
    asking = asyncio.create_task(obey({name: getattr(desk, name) for name in calls}), name="desk")
    asking.add_done_callback(_asked)
    await app.run()
    asking.cancel()


class Desk:
    """Answers questions about the server."""

    def __init__(self, app: ServerApp) -> None:
        self._app = app
        self._blocks: Blocks | None = None
        self._devices: list[LiveDevice] = []
        self._draw = random.Random(population.SEED)

    async def counts(self) -> dict[str, int]:
        scheduler = self._app.scheduler
        if scheduler is None:
            return {"connected": 0}
        devices = list(scheduler.fleet.devices())
        return {
            "connected": len(devices),
            "reporting": sum(device.heartbeat is not None for device in devices),
            "holding": sum(bool(device.content) for device in devices),
            "reachable": sum(bool(device.service_urls) for device in devices),
        }

    async def dial_back(self, count: int) -> int:
        """So many devices are tested again now, as they are each few minutes."""
        dial_backs, now = self._scheduler().dial_backs, time.monotonic()
        due = list(dial_backs._plans.items())[:count]
        for device_id, plan in due:
            dial_backs._plan_at(device_id, plan, now)
        return len(due)

    async def watch(self) -> None:
        self._blocks = Blocks()

    async def blocks(self) -> dict[str, Any]:
        assert self._blocks is not None
        return self._blocks.end()

    # -------------------------------------------------------------- devices without sockets

    async def fill(self, upto: int, objects: list[str]) -> dict[str, float]:
        """Make the fleet ``upto`` devices large with some that have no socket, and say and hold what others do. They
        claim no port, for nobody may call the addresses that they seem to come from, and never grow stale."""
        scheduler = self._scheduler()
        fleet, began = scheduler.fleet, time.process_time()
        if scheduler.dial_backs in fleet.observers:
            fleet.observers.remove(scheduler.dial_backs)
        first = len(fleet)
        for number in range(first, upto):
            public = population.key_of(number).public
            address = population.public_of(number)
            device = LiveDevice(
                public.device_id(), population.OWNER, public.raw, address, int(time.time()) + 86_400, _send, _close
            )
            await fleet.attach(device)
            device.service_urls, device.reach = (f"http://{address}:32557",), NOT_KNOWN
            said = write(Content(population.held_by(number, objects), (), snapshot=True))
            await scheduler.sessions._act(device, read_upward(said))
            await scheduler.sessions._act(device, read_upward(self._text(number)))
            self._devices.append(device)
            if number % FILLED_AT_ONCE == 0:
                await asyncio.sleep(0)
        return {"devices": len(fleet), "processor_s": time.process_time() - began}

    def _text(self, number: int) -> str:
        beat = population.heartbeat(number, None, self._draw)
        return write(population.later(beat, self._draw))

    async def heartbeats(self, count: int) -> list[float]:
        """Processor time of heartbeats of devices in random order, from the text to the last observer; seconds each,
        of as many rounds as ``count`` allows."""
        sessions, found = self._scheduler().sessions, []
        for _ in range(max(1, count // ROUND)):
            chosen = [self._draw.randrange(len(self._devices)) for _ in range(ROUND)]
            texts = [self._text(number) for number in chosen]
            began = time.thread_time()
            for number, text in zip(chosen, texts, strict=True):
                device = self._devices[number]
                await sessions._act(device, read_upward(text, device.heartbeat))
            found.append((time.thread_time() - began) / ROUND)
            await asyncio.sleep(0)
        return found

    async def routes(self, count: int, objects: list[tuple[str, str]]) -> dict[str, Any]:
        """Processor time of choosing a device for a consumer and signing its ticket, without HTTP; mean seconds each,
        of as many rounds as ``count`` allows, and what 99 of 100 take at most."""
        scheduler, found, single = self._scheduler(), [], []
        router, catalogue, draw = scheduler.delivery.router, scheduler.catalogue.catalogue, self._draw
        for _ in range(max(1, count // ROUND)):
            wanted = []
            for _ in range(ROUND):
                object_id, name = objects[int(len(objects) ** draw.random()) - 1]
                held = await catalogue.find(object_id)
                assert held is not None, "the bench's own objects are published"
                address = f"{draw.randrange(50, 60)}.{draw.randrange(256)}.{draw.randrange(256)}.9"
                wanted.append((address, Wanted(held, name, held.size, held.size)))
            began, served = time.thread_time(), 0
            for address, one in wanted:
                alone = time.thread_time()
                served += len(await router.route(router.consumer(address), one, 1))
                single.append(time.thread_time() - alone)
            found.append((time.thread_time() - began) / ROUND)
            assert served > ROUND * 0.9, f"{served} of {ROUND} requests found a device"
            await asyncio.sleep(0)
        return {"rounds": found, "p99": sorted(single)[len(single) * 99 // 100]}

    async def walks(self) -> dict[str, float]:
        """Loop time of what looks at all devices: the metrics page, and what is remembered each minute."""
        scheduler = self._scheduler()
        began = time.thread_time()
        page = await scheduler.metrics.text()
        found = {"metrics_s": time.thread_time() - began, "metrics_bytes": float(len(page))}
        began = time.thread_time()
        await scheduler.sessions.remember()
        return {**found, "remember_s": time.thread_time() - began}

    async def want(self, objects: list[tuple[str, str]]) -> None:
        """Publishers want a copy of each, which there is."""
        catalogue = self._scheduler().catalogue.catalogue
        for object_id, name in objects:
            held = await catalogue.find(object_id)
            assert held is not None, "the bench's own objects are published"
            await catalogue.want(object_id, held.publisher_of(name), 1)

    async def place(self) -> dict[str, float]:
        """A round of placement, as it is made every five minutes."""
        made = await self._scheduler().spreading.spreading.round(seed=1)
        assert made is not None, "consumers have asked for objects"
        return {"seconds": made.seconds, "devices": made.devices, "objects": made.objects, "fills": len(made.fills)}

    def _scheduler(self) -> Scheduler:
        assert self._app.scheduler is not None, "asked before the server is up"
        return self._app.scheduler


def _asked(task: asyncio.Task[None]) -> None:
    """Without its desk the server would only be waited for."""
    if not task.cancelled() and task.exception() is not None:
        os.kill(os.getpid(), signal.SIGTERM)


async def _send(text: str) -> None:
    """What is sent to a device without a socket is gone."""


def _close(code: int, reason: str) -> None:
    """It stays."""
