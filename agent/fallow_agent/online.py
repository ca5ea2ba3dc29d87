"""What runs while the device is active or paused: the service port, the session, tasks, proofs, and the budget."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
from fallow_wire.keys import PrivateKey
from fallow_wire.session import Cancel, DialBack, Heartbeat, Policy, Reachability, Task, TaskStatus
from yarl import URL

from .allowance import Used, day_written_full
from .clock import Clock
from .config import Config
from .controls import Controls
from .edge.admission import Refusal, line_busy
from .edge.dial_back import DialBackNonces
from .edge.filling import FillConfig
from .edge.holdings import Holdings
from .edge.server import EdgeConfig
from .edge.service import EdgeService
from .host.budgets import HostBudgets
from .host.headroom import FULL, Headroom
from .host.igd import Finder
from .host.processor import ProcessorReader
from .life import ACTIVE, PAUSED, Life
from .line import FORECAST
from .line.capacity import ROUTER
from .line.delay_probe import DelayProbe
from .line.household import COUNTERS, Household
from .line.meter import Meter
from .line.pacer import Pacer
from .line.reader import LineReader
from .line.sharing import Sharing
from .line.speedtest import SPEEDTEST
from .line.speedtest_probe import SpeedtestProbe
from .line.survey import Survey
from .outward import is_private
from .policy import PolicyInForce
from .ports.reach import PORTS, Reach
from .probing.prober import Prober
from .proofs.outbox import Outbox, OutboxUnavailable
from .proofs.submission import Submission
from .store import Settings
from .supervision import Tasks
from .uplink.live import LIVE, LiveStreams
from .uplink.other_family import OtherFamily
from .uplink.session import Session
from .uplink.tasks import WRITING, TaskRunner, fills_of

_log = logging.getLogger(__name__)

READ_HOST_S = 5.0
"""Addresses, disk and processor change slowly, and reading them costs a hundred times a reading of the line."""
SUBMIT_S = 5.0
"""Tickets that end close together share a batch, and its write to flash."""
SCRUB_S = 600.0
"""16 MiB read every ten minutes: a full disk of 8 GiB is verified every four days."""
RETRY_PORT_S = 30.0
USEFUL_BPS_MIN = 64_000
"""With less nobody is served well: consumers are sent elsewhere."""
PROBE = "probe"
"""A kind of tasks."""
WRITTEN_ENOUGH = "waits until tomorrow: as much was written today as the disk should bear"
_LOOPS = ("speedtest", "session", "other-family", "tasks", "submission", "line", "delay", "trains", "survey", "router",
          "scrub", "service-port")  # fmt: skip


class Online:
    """Built when the device comes online, closed when it goes. It is what the session talks to (``Receiver``)."""

    def __init__(
        self,
        config: Config,
        *,
        key: PrivateKey,
        version: str,
        clock: Clock,
        connection: sqlite3.Connection,
        settings: Settings,
        controls: Controls,
        life: Callable[[], Life],
        http: aiohttp.ClientSession,
        ledger_http: aiohttp.ClientSession,
        tasks: Tasks,
        content_dir: Path,
        time_corrected: Callable[[], None],
    ) -> None:
        enrolled, scheduler = life().enrolled, life().scheduler
        assert enrolled is not None
        assert scheduler is not None
        self._config = config
        self._clock = clock
        self._settings = settings
        self._controls = controls
        self._life = life
        self._tasks = tasks
        self._time_corrected = time_corrected
        self._service_port: int | None = None
        self._service_bound = asyncio.Event()
        self._counted = Used()
        self._submitted_at = self._host_read_at = clock.monotonic()
        self._shared = True

        self._policy = PolicyInForce(settings, enrolled.policy, key.public.device_id(), version)
        self._holdings = Holdings(
            content_dir,
            config.content,
            FillConfig(config.filling.private_sources or is_private(scheduler)),
            key=key,
            clock=clock,
            download_bps=lambda: self._sharing.download_bps(),
            may_write=self._may_write,
            tell=lambda content: self._session.send(content),
        )
        self._content, self._pulls = self._holdings.content, self._holdings.pulls
        self._outbox = Outbox(connection, config.outbox)
        self._pacer = Pacer()
        self._nonces = DialBackNonces()
        process = config.process
        self._host = HostBudgets(
            Headroom(process.spare_percent_min, process.temperature_c_max), lambda: self._content.bytes_written_total
        )
        self._service = EdgeService(
            dataclasses.replace(EdgeConfig(), host=_one(config.service.bind), port=config.service.port),
            key=key,
            clock=clock,
            content=self._content,
            outbox=self._outbox,
            pacer=self._pacer,
            scheduler_key=lambda kid: self._policy.keys.get(kid),
            limits=lambda: controls.limits,
            refusal=self.refusal,
            ticket_idle_s=lambda: self._policy.policy.ticket_idle_s,
            nonces=self._nonces,
            connections_max=lambda: self._host.connections_max,
            pulls=self._pulls,
        )
        self._session = Session(http, scheduler, key, version, self, self._report, clock.now, self._take_time)
        self.network_changed = self._session.hurry
        self._prober = Prober(
            clock,
            lambda: PROBE in controls.services(),
            lambda: min(self._sharing.budget_bps, self._sharing.download_bps()),
            lambda: self._reach.outside(),
        )
        fills = fills_of(self._content, self._pulls.fill, self._pulls.hold, lambda: self._policy.keys)
        live = LiveStreams(self._content, self._holdings.filler.fill, lambda: self._policy.keys, clock.now)
        self._runner = TaskRunner(self._content, {**fills, PROBE: self._prober}, self._session.send, live)
        self._submission = Submission(self._outbox, ledger_http, lambda: self._policy.policy.ledger, key)
        find = Finder(clock.monotonic)
        self._reach = Reach(config, version, scheduler, key, find, monotonic=clock.monotonic, changed=self._reach_anew)
        self._other_family = OtherFamily(scheduler, enrolled.ledger_token, self._reach.own, http.headers)
        household = Household(Meter(config.line.interface))
        self._delay = DelayProbe(
            lambda: URL(scheduler).host,
            clock,
            patient=lambda: household.seen_by != COUNTERS,
            at_edge=lambda: household.position == ROUTER,
        )
        self._survey = survey = Survey(config.line, household, self._own_bytes, find, clock=clock, settings=settings)
        survey.train_bps = lambda: self._delay.trains.bps
        self._sharing = Sharing(
            LineReader(
                lambda: survey.capacity, household, self._own_bytes, clock.monotonic, forecast=settings.get(FORECAST)
            ),
            self._pacer,
            self._delay,
            survey,
            key=key,
            clock=clock,
            controls=controls,
            settings=settings,
            headroom=self._with_headroom,
        )
        self._speedtest = SpeedtestProbe(
            scheduler,
            enrolled.ledger_token,
            clock=clock,
            settings=settings,
            hold=self._sharing.hold,
            line_bytes=survey.carried_by_home,
            own_bytes=self._own_bytes,
            take=survey.take_speedtest,
        )
        self._write_bytes_max = self._holdings.disk.write_bytes_per_day(config.content.write_bytes_per_day_max)
        self._processor_reader = ProcessorReader()
        self._read_host()
        self.apply_limits()

    # -------------------------------------------------------------- for the commands of the lifecycle

    async def start(self) -> None:
        """Start every loop. Nobody is served and nothing filled before :meth:`start_service`."""
        self._tasks.start("service-port", self._open_service_port())
        self._tasks.start("line", self._sharing.run(self._follow_up))
        self._tasks.start("delay", self._delay.run())
        self._tasks.start("trains", self._delay.run_trains(self._survey.may_send_train, self._survey.carried))
        self._tasks.start("survey", self._survey.run())
        self._tasks.start("router", self._survey.ask_router())
        self._tasks.start("scrub", self._scrub())
        self._tasks.start("tasks", self._runner.run())
        self._tasks.start("submission", self._submission.run())
        self._tasks.start("session", self._session.run())
        self._tasks.start("other-family", self._other_family.run())

    def start_service(self) -> None:
        self._tasks.replace("ports", self._keep_port_open())
        self._follow_permission()
        self._session.report_changed()

    async def stop_service(self) -> None:
        """End transfers and fills; the gate is closed by the lifecycle's state already."""
        self._follow_permission()
        await self._service.stop_transfers()
        self._session.report_changed()
        await self._close_port()

    def seal_all(self) -> None:
        """The device leaves: what was served so far is all."""
        try:
            self._service.close_all()
        except OutboxUnavailable as error:
            # They stay open on the disk; the handing over seals them, once there is room.
            _log.error("served tickets cannot be sealed yet: %s", error.detail)

    def apply_limits(self) -> None:
        """The owner's limits of now, at once."""
        quota = self._config.content.quota_bytes
        limit = self._controls.limits.content_bytes_max
        self._content.quota_bytes = quota if limit is None else min(quota, limit)
        self._sharing.set_budget()
        self._follow_permission()
        self._session.report_changed()

    def start_speedtest(self, *, insist: bool) -> None:
        """The owner's wish, while paused too. :raises RequestRefused: it runs already, or costs money."""
        self._speedtest.begin(self._controls.costs(), insist=insist)
        self._tasks.replace("speedtest", self._speedtest.run())

    async def close(self) -> None:
        """Stop and save everything, as it is."""
        await self._close_port()
        await self._tasks.stop(*_LOOPS)
        await self._reach.close()
        await self._service.close()
        await self._holdings.close()
        self._count()
        self._delay.close()
        self._sharing.close()

    # -------------------------------------------------------------- what the session asks for (Receiver)

    def take_policy(self, policy: Policy) -> None:
        if policy.now is not None:
            self._take_time(policy.now)
        if self._policy.take(policy):
            self._service.keys_changed()

    def take_task(self, task: Task) -> None:
        self._runner.take(task)

    def take_cancel(self, cancel: Cancel) -> None:
        self._runner.cancel(cancel.id)

    def take_dial_back(self, dial_back: DialBack) -> None:
        self._nonces.add(dial_back.nonce, self._clock.monotonic())

    def take_reachability(self, found: Reachability) -> None:
        self._reach.take(found)
        self._other_family.take(found)

    def task_statuses(self) -> list[TaskStatus]:
        return self._runner.statuses()

    def held(self) -> tuple[list[str], list[str]]:
        return list(self._content.objects()), list(self._pulls.ids())

    # -------------------------------------------------------------- reporting

    def _report(self) -> Heartbeat:
        # What the owner's limits leave is all that consumers may be routed by.
        line = dataclasses.replace(self._sharing.line, idle_up_bps=self._sharing.budget_bps)
        return Heartbeat(
            state=PAUSED if self._life().state == PAUSED else ACTIVE,
            line=line,
            forecast_idle_up_bps=self._sharing.coming_bps(),
            disk=self._holdings.disk.read(self._content.quota_bytes, self._content.usage_bytes()),
            processor=self._processor,
            environment=self._environment,
            services=self._controls.services(),
            connections=len(self._service.sessions()),
            connections_max=self._service.transfers_max,
        )

    @property
    def yields_today(self) -> int:
        return self._sharing.yields_on(self._controls.local_time().day)

    def status(self) -> dict[str, Any]:
        """What the owner's phone sees of it; values that :func:`fallow_wire.fields.encode` takes."""
        report, usage, refusal = self._report(), self._controls.usage, self.refusal()
        return {
            **self._sharing.status(),
            **({} if self._speedtest.status is None else {SPEEDTEST: self._speedtest.status}),
            "refusal": None if refusal is None else {**refusal.problem.as_json(), "reason": refusal.reason},
            "disk": report.disk,
            "processor": report.processor,
            "headroom_permille": self._host.headroom_permille,
            "flash": {"written_bytes_today": usage.day_written_bytes, "bytes_max": self._write_bytes_max},
            "connections": {
                "open": self._service.connections,
                "max": self._service.connections_max,
                "refused_today": usage.day_refused,
            },
            "environment": report.environment,
            PORTS: self._reach.status(),
            "sessions": self._service.sessions(),
            "tasks": self._runner.statuses(),
            "content": {"objects": len(self._content.objects()), "bytes": self._content.usage_bytes()},
            "uplink": self._session.status,
            "proofs": self._outbox.status(self._clock.now()),
            **self._policy.status(),
        }

    def _read_host(self) -> None:
        self._environment = self._reach.environment(self._service_port)
        self._processor = self._processor_reader.read()
        behind_router = self._environment.nat in ("private", "unknown")
        self._host.read(self._processor.temperature_c, behind_router=behind_router)

    def _reach_anew(self) -> None:
        self._environment = self._reach.environment(self._service_port)
        self._session.report_changed()

    def _take_time(self, unix_s: int) -> None:
        self._clock.set_server_time(unix_s)
        self._time_corrected()

    # -------------------------------------------------------------- what may be done now

    def refusal(self) -> Refusal | None:
        """Why nobody is served now, or None: the owner's word first, then the line."""
        refusal = self._controls.refusal()
        if refusal is None and self._host.headroom_permille == 0:
            refusal = line_busy("The device is too hot or too busy.", 60, "device")
        if refusal is None and self._sharing.budget_bps < USEFUL_BPS_MIN:
            refusal = line_busy("The household is using the line.", 10, "household")
        return refusal

    def _with_headroom(self, bps: int) -> int:
        """What processor and temperature leave of a budget."""
        return bps * self._host.headroom_permille // FULL

    def _follow_permission(self) -> None:
        """Fill only while the owner shares the line, and while the disk may be written to."""
        if self._controls.refusal() is not None:
            self._runner.pause()
        elif not self._may_write():
            # On a disk that wears live streams are in memory, or nowhere.
            self._runner.pause(WRITTEN_ENOUGH, WRITING if self._holdings.disk.wears else WRITING | {LIVE})
        else:
            self._runner.resume()

    def _may_write(self) -> bool:
        return not day_written_full(self._write_bytes_max, self._controls.usage)

    # -------------------------------------------------------------- loops

    async def _open_service_port(self) -> None:
        """A taken port costs the service, not the agent: the owner still has port M."""
        told = False
        while self._service_port is None:
            try:
                self._service_port = await self._service.start()
            except OSError as error:
                if not told:
                    _log.error("service port %d: %s; trying on", self._config.service.port, error.strerror or error)
                told = True
                await asyncio.sleep(RETRY_PORT_S)
        _log.info("service port %d is open", self._service_port)
        self._service_bound.set()
        self._read_host()
        self._session.report_changed()

    async def _keep_port_open(self) -> None:
        """Nobody is asked to let anybody in before there is a port, and while the owner pauses."""
        await self._service_bound.wait()
        assert self._service_port is not None
        await self._reach.run(self._service_port)

    async def _close_port(self) -> None:
        await self._tasks.stop("ports")
        await self._reach.release()

    async def _follow_up(self) -> None:
        """Count, tell, save, and wake who has work."""
        now = self._clock.monotonic()
        self._controls.take_wan(self._survey.interface)
        self._count()
        if now - self._host_read_at >= READ_HOST_S:
            self._host_read_at = now
            self._read_host()
            self._pulls.drop_idle()
        self._follow_permission()
        if self._shared != (self._controls.refusal() is None):
            # A window of the owner's hours began or ended, the month's bytes are used up, or the line is another one.
            self._shared = not self._shared
            if not self._shared:
                await self._service.stop_transfers()
        if now - self._submitted_at >= SUBMIT_S and self._outbox.waiting():
            self._submitted_at = now
            self._submission.wake()
        self._session.report_changed()

    async def _scrub(self) -> None:
        """Find what the disk has spoilt, a little at a time."""
        while True:
            await asyncio.sleep(SCRUB_S)
            await self._content.scrub_next()

    def _count(self) -> None:
        total = Used(
            self._service.bytes_up_total,
            sum(self._own_bytes()),
            self._host.written_total(),
            refused=self._service.refused_total,
        )
        if total != self._counted:
            self._controls.count(total - self._counted)
            self._counted = total

    def _own_bytes(self) -> tuple[int, int]:
        """On the wire."""
        parts = (self._delay, self._speedtest, self._prober, self._holdings.filler)
        carried = [part.wire_bytes() for part in parts]
        sent = self._pacer.wire_bytes(self._clock.monotonic())
        return sent + sum(up for up, _ in carried), sum(down for _, down in carried)


def _one(addresses: tuple[str, ...]) -> str | None:
    """The service port listens on all addresses or on one."""
    return addresses[0] if addresses else None
