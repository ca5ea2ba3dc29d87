"""The composition root: builds the scheduler and the ledger as configured, runs them, closes them."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import os
import resource
import signal
import socket
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

from aiohttp import web
from fallow_wire.errors import LocalError
from fallow_wire.session import Policy
from sqlalchemy.exc import SQLAlchemyError
from yarl import URL

from . import service_manager
from .accounts.accounts import Accounts
from .accounts.routes import AccountRoutes
from .accounts.signing_in import SigningIn
from .background import Background
from .catalogue.service import CatalogueService
from .clock import Clock
from .common import CommonRoutes
from .config import HttpConfig, ServerConfig
from .console.service import ConsoleService
from .database import Branch, Database
from .delivery.canaries import Canaries
from .delivery.measurements import Measurements
from .delivery.pages import BrowserRoutes
from .delivery.service import DeliveryService
from .fleet.dial_back import DialBacks
from .fleet.live import Fleet
from .fleet.records import DeviceRecords
from .fleet.routes import FleetRoutes
from .fleet.sessions import Sessions
from .fleet.speedtest import SpeedtestRoutes
from .garbage import collect_less, collect_often
from .http import Api
from .ledger.app import LedgerService
from .link import Link, LinkScheduler
from .listening import bind
from .metrics import FleetCollector, LedgerCollector, Metrics
from .outbox import Outbox
from .recording.recorder import Recorder
from .signing import SigningKeys
from .spreading.service import SpreadingService
from .state import StateDirectory
from .streaming.service import StreamingService
from .tasks.service import TaskService
from .tokens import hash_token

BACKLOG = 1024
"""Connections that wait to be accepted: after a restart a whole fleet comes back."""
IDLE_S_MAX = 75
"""Between requests, and before the first one: longer than proxies keep theirs, and short against who only holds."""

_log = logging.getLogger(__name__)


class _ConnectionLog(logging.LoggerAdapter[logging.Logger]):
    """What aiohttp says of connections that speak no HTTP or vanish: for debugging only, as any stranger can make it
    say so at will. Its words name the caller's address, and are left out. Failures of our handlers are logged by
    :class:`~.http.Api`."""

    def log(self, level: int, msg: object, *args: object, **more: Any) -> None:
        super().log(min(level, logging.DEBUG), "a connection failed", **more)


class Scheduler:
    """The scheduler's concerns, wired.

    :param public_url: what devices and consumers are told.
    :param ledger_url: what devices are told of the ledger.
    :param ledger_address: where this process calls the ledger.
    """

    def __init__(
        self,
        config: ServerConfig,
        state: StateDirectory,
        database: Database,
        clock: Clock,
        background: Background,
        public_url: str,
        ledger_url: str,
        ledger_address: str,
    ) -> None:
        self._background = background
        self._clock = clock
        self._policy = config.policy
        self._ledger_url = ledger_url
        self._public_url = public_url
        self.database = database
        self.keys = SigningKeys.load(state.scheduler_keys)
        outbox = Outbox()
        self.accounts = Accounts(config.accounts, database, clock, outbox)
        self.fleet = Fleet()
        records = DeviceRecords(database, clock, outbox)
        # Until the operator says what the scheduler is called, what devices call it is all there is to go by.
        names = (*host_names(public_url), *config.http.names) if config.http.scheduler_url else None
        self.sessions = Sessions(config.session, self.fleet, records, clock, names, self.policy)
        self.dial_backs = DialBacks(config.dial_back, self.fleet, clock)
        self.fleet.observers.append(self.dial_backs)
        self.link = Link(config.link, database, outbox, clock, ledger_address, state.link_token(), self._introduction)
        self.catalogue = CatalogueService(config.catalogue, database, self.keys, clock, state.path, public_url)
        self.delivery = DeliveryService(
            replace(config.delivery, public_url=public_url, ledger_url=ledger_url),
            self.catalogue.catalogue,
            self.fleet,
            self.link,
            self.keys,
            clock,
        )
        self.catalogue.insight = self.delivery
        self.tasks = TaskService(
            config.tasks,
            database,
            self.catalogue.catalogue,
            self.delivery.devices,
            self.delivery.issuer,
            clock,
            public_url,
        )
        self.streaming = StreamingService(
            config.streaming,
            config.catalogue,
            self.catalogue,
            self.delivery.devices,
            self.tasks,
            clock,
            public_url.rstrip("/"),
        )
        self.spreading = SpreadingService(
            config.spreading,
            config.tasks.filters,
            self.catalogue.catalogue,
            self.delivery.devices,
            self.tasks.driver,
            clock,
            state.path,
        )
        self.canaries = Canaries(
            config.canaries,
            self.fleet,
            self.delivery.devices,
            self.catalogue.catalogue,
            self.delivery.issuer,
            self.link,
            Measurements(database, clock),
            clock,
        )
        self._records = config.recording.days > 0
        self.recorder = Recorder(
            config.recording, self.catalogue.catalogue, self.delivery.devices, self.tasks.driver, clock, state.path
        )
        self.delivery.router.demand = self.spreading
        self.delivery.router.routes.append(self.recorder)
        self.api = Api(self.accounts, trusted_proxies=config.http.trusted_proxies)
        self.metrics = Metrics()
        counted = FleetCollector(self.fleet, self.link)
        self.metrics.registry.register(counted)
        self.metrics.before.append(counted.count)
        self.metrics.add_to(self.api)
        CommonRoutes(config.role, database, self.keys, lambda: self.link.trouble).add_to(self.api)
        signing_in = SigningIn(config.accounts, self.accounts, database, clock)
        AccountRoutes(self.accounts, signing_in).add_to(self.api)
        FleetRoutes(self.fleet, records, self.sessions, self.policy, clock).add_to(self.api)
        SpeedtestRoutes(config.speedtest, clock, self.delivery.devices.measured).add_to(self.api)
        self.console = ConsoleService(
            config.console,
            database,
            clock,
            self.accounts,
            self.delivery,
            lambda: self.spreading.demand,
            self.link,
            public_url,
        )
        self.console.add_routes(self.api)
        self.catalogue.add_routes(self.api)
        self.delivery.add_routes(self.api)
        BrowserRoutes(self.delivery.router).add_to(self.api)
        self.tasks.add_routes(self.api)
        self.api.application.on_shutdown.append(self._end_sessions)

    def policy(self) -> Policy:
        wanted = self._policy
        return Policy(
            self.keys.jwks(),
            self._ledger_url,
            heartbeat_s=wanted.heartbeat_s,
            ticket_idle_s=wanted.ticket_idle_s,
            now=self._clock.now(),
            agent=wanted.advice,
        )

    def _introduction(self) -> LinkScheduler:
        return LinkScheduler(self._public_url, self.keys.jwks())

    async def _end_sessions(self, _application: web.Application) -> None:
        await self.sessions.close()

    async def start(self) -> None:
        await self.catalogue.start()
        await self.link.start()
        await self.streaming.start()
        await self.tasks.start()
        await self.spreading.start()
        await self.recorder.start()
        self._background.start("delivery", self.delivery.run())
        self._background.start("link", self.link.run())
        self._background.start("dial-backs", self.dial_backs.run())
        self._background.start("sessions", self.sessions.run())
        self._background.start("heartbeats", self.sessions.read_heartbeats())
        self._background.start("pulse of sessions", self.sessions.keep_pulse())
        self._background.start("lateness", self.metrics.watch_loop())
        self._background.start("spreading", self.spreading.run())
        self._background.start("history", self.console.run())
        self._background.start("canaries", self.canaries.run())
        if self._records:
            self._background.start("recording", self.recorder.run())

    async def close(self) -> None:
        await self.console.close()
        await self.recorder.close()
        await self.spreading.close()
        await self.tasks.close()
        await self.streaming.close()
        await self.delivery.close()
        await self.catalogue.close()
        await self.link.close()


class ServerApp:
    """The server in one of its roles. After :meth:`start`, the URLs and ports say where it is."""

    def __init__(self, config: ServerConfig, clock: Clock | None = None) -> None:
        self._config = config
        self._clock = clock or Clock()
        self._state = StateDirectory(config)
        self._stack = AsyncExitStack()
        self._background = Background()
        self.scheduler: Scheduler | None = None
        self.ledger: LedgerService | None = None
        self.scheduler_port = 0
        self.ledger_port = 0
        self.scheduler_url = config.http.scheduler_url
        self.ledger_url = config.http.ledger_url

    async def start(self) -> None:
        """Bind, migrate, build and serve; all or nothing.

        :raises LocalError: when the state directory, a port or a database is not usable.
        """
        try:
            await self._start()
        except BaseException:
            await self.close()
            raise

    async def _start(self) -> None:
        config = self._config
        self._state.check()
        for descriptor in self._state.lock():
            self._stack.callback(os.close, descriptor)
        urls = self._state.database_urls()
        # Both ports are bound first: with port 0, the URLs are not known before.
        scheduler_sockets: list[socket.socket] = []
        ledger_sockets: list[socket.socket] = []
        if config.with_ledger:
            ledger_sockets, self.ledger_port = self._bind(config.http.ledger_port)
            self.ledger_url = self.ledger_url or default_url(config.http, self.ledger_port)
        if config.with_scheduler:
            scheduler_sockets, self.scheduler_port = self._bind(config.http.scheduler_port)
            self.scheduler_url = self.scheduler_url or default_url(config.http, self.scheduler_port)
        if config.with_ledger:
            database = await self._open(urls.ledger, "ledger")
            keys = SigningKeys.load(self._state.ledger_keys)
            self.ledger = LedgerService(
                replace(config.ledger, public_url=self.ledger_url, trusted_proxies=config.http.trusted_proxies),
                database,
                keys,
                self._clock,
                hash_token(self._state.link_token()),
                config.rewards,
            )
            self._stack.push_async_callback(self.ledger.close)
            await self.ledger.start()
            metrics = Metrics()
            metrics.registry.register(LedgerCollector(self.ledger))
            metrics.add_to(self.ledger.api)
            await self._serve(self.ledger.api, ledger_sockets)
        if config.with_scheduler:
            database = await self._open(urls.scheduler, "scheduler")
            self.scheduler = Scheduler(
                config.awaiting_heartbeats(),
                self._state,
                database,
                self._clock,
                self._background,
                self.scheduler_url,
                self.ledger_url,
                config.link.address or self._ledger_address(),
            )
            self._stack.push_async_callback(self.scheduler.close)
            self._stack.push_async_callback(self._background.close)
            await self.scheduler.start()
            await self._serve(self.scheduler.api, scheduler_sockets)

    def _ledger_address(self) -> str:
        if not self._config.with_ledger:
            return self.ledger_url
        return f"http://{_url_host(self._config.http.host or '127.0.0.1')}:{self.ledger_port}"

    async def _open(self, url: str, branch: Branch) -> Database:
        try:
            database = Database(url)
            self._stack.push_async_callback(database.close)
            await database.migrate(branch)
        except (SQLAlchemyError, OSError, ImportError) as error:
            raise LocalError(f"the {branch}'s database cannot be used: {error}") from error
        return database

    def _bind(self, port: int) -> tuple[list[socket.socket], int]:
        sockets = bind(self._config.http.host, port)
        for one in sockets:
            self._stack.callback(one.close)
        return sockets, sockets[0].getsockname()[1]

    async def _serve(self, api: Api, sockets: list[socket.socket]) -> None:
        runner = web.AppRunner(
            api.application,
            logger=_ConnectionLog(_log, {}),
            access_log=None,  # it would write down consumers' addresses
            keepalive_timeout=IDLE_S_MAX,
            auto_decompress=False,  # no call takes compressed bodies, and a small one can hold a very large one
            shutdown_timeout=self._config.http.stop_s,
        )
        await runner.setup()
        self._stack.push_async_callback(runner.cleanup)
        for one in sockets:
            await web.SockSite(runner, one, backlog=BACKLOG).start()

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT, then stop gracefully; on SIGHUP read the tables of addresses again.

        :raises LocalError: when it could not start, or a background loop died.
        """
        _allow_many_connections()
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        loop.add_signal_handler(signal.SIGHUP, self._reload)
        await self.start()
        collect_less()
        self._background.start("garbage", collect_often())
        try:
            for role, url in (("scheduler", self.scheduler_url), ("ledger", self.ledger_url)):
                if getattr(self, role) is not None:
                    _log.info("%s at %s (port %d)", role, url, getattr(self, f"{role}_port"))
            service_manager.tell(service_manager.READY)
            waits = [
                asyncio.create_task(stop.wait(), name="wait for a signal"),
                asyncio.create_task(self._background.failed.wait(), name="wait for a failure"),
            ]
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            for wait in waits:
                wait.cancel()
        finally:
            _log.info("stopping")
            service_manager.tell(service_manager.STOPPING)
            await self.close()
        if self._background.failed.is_set():
            raise LocalError("a background loop ended; see the log above")

    def _reload(self) -> None:
        if self.scheduler is not None:
            self.scheduler.delivery.router.geography.reload()

    async def close(self) -> None:
        """Stop accepting, end sessions, let requests finish, close the databases."""
        await self._stack.aclose()


def _allow_many_connections() -> None:
    """Each device is a descriptor, and most systems start a process with 1024 although it may have many more."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def default_url(config: HttpConfig, port: int) -> str:
    """What this machine is called when the operator does not say: its address towards the network."""
    return f"http://{_url_host(config.host or primary_address())}:{port}"


def primary_address() -> str:
    """The address of the interface that leads out; 127.0.0.1 without one. Sends nothing."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return "127.0.0.1"
        found: str = probe.getsockname()[0]
        return found


def _url_host(host: str) -> str:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    return f"[{address}]" if address.version == 6 else str(address)


def host_names(url: str) -> tuple[str, ...]:
    """The ``Host`` headers with which ``url`` is called: with its port, and without where that is the scheme's."""
    parsed = URL(url)
    host = _url_host(parsed.host or "")
    with_port = f"{host}:{parsed.port}"
    return (host, with_port) if parsed.is_default_port() else (with_port,)
