"""Tasks of the kind ``live``: devices join a publisher's live stream and carry its segments."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Set

from fallow_wire.session import Task

from ..catalogue.names import path_below
from ..catalogue.objects import Catalogue
from ..catalogue.origin import Origin
from ..catalogue.sites import Sites
from ..clock import Clock
from ..delivery.devices import Devices
from ..fleet.live import LiveDevice
from ..http import refusal
from ..scheduling.needs import ANY_PORT, Needs
from ..scheduling.views import Demand
from ..tasks.kinds import Order, TaskRequest
from ..tasks.model import NetworkTask, Placement
from ..tasks.states import PlacementState, TaskEvent
from .broadcast import Broadcast
from .config import Config
from .courier import LIVE, Courier, can_carry
from .playlist import NotPlayable
from .playlists import fetch_playlist, is_playlist, playlists_below

PLAYLIST, ADDRESS = "playlist", "address"
LATE_S = 30
"""Devices drop a segment by their own clocks; the server's copy goes this much later."""
SWEEP_S = 5.0
FAILURE_PAUSE_S = 5.0

_log = logging.getLogger(__name__)
CARRIER = Needs(service=LIVE, ports=ANY_PORT)


class Lives:
    """A ``Kind`` of :mod:`fallow_server.tasks.kinds`. Broadcasts run while their tasks are open."""

    done_when_held: bool | None = None

    def __init__(
        self,
        config: Config,
        sites: Sites,
        catalogue: Catalogue,
        origin: Origin,
        devices: Devices,
        courier: Courier,
        clock: Clock,
        retry_s: int,
        public_url: str,
    ) -> None:
        """:param retry_s: a device that failed at a stream is left alone for so long.
        :param public_url: where players reach this server, without a trailing slash."""
        self._config = config
        self._sites = sites
        self._catalogue = catalogue
        self._origin = origin
        self._devices = devices
        self._courier = courier
        self._clock = clock
        self._retry_s = retry_s
        self._public_url = public_url
        self._broadcasts: dict[str, Broadcast] = {}
        self._runs: dict[str, asyncio.Task[None]] = {}
        self._homeless: set[str] = set()
        """Tasks whose site was removed."""
        self._passing: dict[tuple[str, str], int] = {}
        """Until when (Unix seconds) segments are wanted, by object and publisher."""
        self._sweeper: asyncio.Task[None] | None = None

    async def start(self) -> None:
        for object_id, publisher in await self._catalogue.unused_mirrored():
            # Segments of streams that a stop of the server left behind.
            await self._catalogue.withdraw(object_id, publisher, only_unused_mirrored=True)
        self._sweeper = asyncio.create_task(self._sweep(), name="live segments")

    async def close(self) -> None:
        runs = [*self._runs.values(), *([self._sweeper] if self._sweeper is not None else [])]
        for run in runs:
            run.cancel()
        await asyncio.gather(*runs, return_exceptions=True)

    async def text(self, site: str, path: str) -> str | None:
        """A playlist of a live stream as players may see it now; None where there is none."""
        for broadcast in self._broadcasts.values():
            if broadcast.carries(site, path):
                return await broadcast.text(path)
        return None

    # -------------------------------------------------------------- as a kind of task

    async def order(self, asked: TaskRequest, publisher: str) -> Order:
        url = asked.parameters.get(PLAYLIST)
        if asked.object is not None or url is None or len(asked.parameters) > 1:
            raise refusal(
                400, "malformed", "A live task names its playlist and nothing else",
                remedy='Give "parameters": {"playlist": its address below a site of yours}.',
            )  # fmt: skip
        replicas = self._config.live_devices if asked.replicas is None else asked.replicas
        if replicas > self._config.live_devices_max:
            raise refusal(400, "malformed", "replicas is a number", f"from 1 to {self._config.live_devices_max}")
        if len(self._runs) >= self._config.live_streams_max:
            raise refusal(
                503, "too-many-streams", "As many live streams run here as the server can follow", fault="here",
                remedy="Try again when one has ended, or ask the operator to raise streaming.live_streams_max.",
            )  # fmt: skip
        address = await self._checked(publisher, url)
        return Order(replicas, needs=asked.needs.beside(CARRIER), parameters={PLAYLIST: url, ADDRESS: address})

    async def _checked(self, publisher: str, url: str) -> str:
        """What players open. :raises ApiProblem: it is no live stream of the publisher's."""
        site = await self._sites.above(publisher, url)
        path = path_below(site.origin, url) if site is not None else None
        if site is None or path is None or not is_playlist(path):
            raise refusal(
                400, "not-below-site", "The address is not that of a playlist below a site of yours",
                remedy="Register its origin with POST /v1/sites first. It ends in .m3u8 and has no query string.",
            )  # fmt: skip
        address = f"{self._public_url}/s/{site.name}/{path}"
        try:
            fetched = await fetch_playlist(self._origin, site, path)
        except NotPlayable as error:
            raise refusal(
                400, error.slug, "The playlist cannot be carried", error.detail,
                remedy="Players can still play it from its origin.",
            ) from None  # fmt: skip
        playlist = fetched.playlist if fetched is not None else None
        if playlist is not None and playlist.is_multivariant and not playlists_below(site, playlist):
            raise refusal(
                400, "bad-playlist", "The playlist cannot be carried", "it names no playlist below the site",
                remedy="Players can still play it from its origin.",
            )  # fmt: skip
        if playlist is not None and playlist.ended:
            raise refusal(
                400, "not-live", "The video is complete",
                remedy=f"It needs no task: players find it at {address}",
            )  # fmt: skip
        return address

    async def cancelled(self, task: NetworkTask) -> None:
        return

    def devices(self, task: NetworkTask) -> Set[str]:
        return frozenset()

    def demand(self, task: NetworkTask, coming: Set[str], now: int) -> Demand:
        # One that is away or paused carries nothing meanwhile, and a stream does not wait for it.
        here = frozenset(one.device_id for one in self._carrying(task))
        failed = (one for one in task.placements.values() if one.state is PlacementState.FAILED)
        return Demand(
            task_id=task.task_id,
            object_id=task.task_id,
            size_bytes=0,
            replicas=max(0, task.replicas - len(here)),
            holders=here,
            owners=frozenset(self._devices.owners(here)),
            excluded=frozenset(one.device_id for one in failed if now - one.moved_at < self._retry_s),
            needs=task.needs,
        )

    def settle(self, task: NetworkTask, now: int) -> list[Placement]:
        broadcast = self._broadcasts.get(task.task_id)
        if task.task_id in self._homeless:
            return task.end(TaskEvent.GAVE_UP, now, "its site was removed")
        if broadcast is not None and broadcast.ended:
            return task.end(TaskEvent.SATISFIED, now)
        if task.task_id not in self._runs:
            # Counted here too: many may have been handed in before the first of them began.
            if len(self._runs) >= self._config.live_streams_max:
                return task.end(TaskEvent.GAVE_UP, now, "as many live streams run here as the server can follow")
            run = asyncio.create_task(self._run(task), name=f"live stream {task.task_id}")
            self._runs[task.task_id] = run
            run.add_done_callback(lambda _: self._runs.pop(task.task_id, None))
        task.follow(task.open_placements(), now)
        task.explain(None if broadcast is None else broadcast.trouble)
        surplus = self._carrying(task)[task.replicas :]
        for placement in surplus:
            placement.move("cancelled", now, "others carry it")
        return surplus

    def _carrying(self, task: NetworkTask) -> list[Placement]:
        return [one for one in task.open_placements() if can_carry(self._devices.fleet.get(one.device_id))]

    async def message(self, device: LiveDevice, task: NetworkTask) -> Task:
        return Task(task.task_id, LIVE, deadline=task.deadline)

    # -------------------------------------------------------------- broadcasts

    async def _run(self, task: NetworkTask) -> None:
        """While the task is open. One that has ended stays known until the task has."""
        while task.is_open:
            try:
                await self._broadcast(task)
            except Exception:  # noqa: BLE001  # the outermost of a stream
                _log.exception("live stream %s failed; it begins again", task.task_id)
            await asyncio.sleep(FAILURE_PAUSE_S)
        self._broadcasts.pop(task.task_id, None)
        self._homeless.discard(task.task_id)

    async def _broadcast(self, task: NetworkTask) -> None:
        known = self._broadcasts.get(task.task_id)
        if known is not None and known.ended:
            return
        url = task.parameters[PLAYLIST]
        site = await self._sites.above(task.publisher, url)
        path = path_below(site.origin, url) if site is not None else None
        if site is None or path is None:
            self._homeless.add(task.task_id)
            return
        broadcast = self._broadcasts[task.task_id] = Broadcast(
            self._config,
            task,
            site,
            path,
            origin=self._origin,
            catalogue=self._catalogue,
            devices=self._devices,
            courier=self._courier,
            clock=self._clock,
            forget=self._note_passing,
        )
        await broadcast.run()

    def _note_passing(self, object_id: str, publisher: str, until: int) -> None:
        key = (object_id, publisher)
        self._passing[key] = max(until, self._passing.get(key, 0))

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_S)
            try:
                await self.sweep()
            except Exception:  # noqa: BLE001  # the outermost of the sweep; what it missed the next start finds
                _log.exception("live segments were not swept")

    async def sweep(self) -> None:
        """Withdraw segments whose time is over, and notice sites that were removed."""
        now = self._clock.now()
        for key in [one for one, until in self._passing.items() if until + LATE_S <= now]:
            del self._passing[key]
            await self._catalogue.withdraw(*key, only_unused_mirrored=True)
        for task_id, broadcast in list(self._broadcasts.items()):
            if await self._sites.find(broadcast.site.name) != broadcast.site:
                self._homeless.add(task_id)
