"""The scheduler's concerns, wired: what is built of what, what runs in the background, and in which order all stops."""

from __future__ import annotations

from dataclasses import replace

from aiohttp import web
from fallow_wire.session import Policy

from .accounts.accounts import Accounts
from .accounts.routes import AccountRoutes
from .accounts.signing_in import SigningIn
from .background import Background
from .catalogue.service import CatalogueService
from .clock import Clock
from .common import CommonRoutes
from .config import ServerConfig
from .console.service import ConsoleService
from .database import Database
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
from .http import Api
from .link import Link, LinkScheduler
from .metrics import FleetCollector, Metrics
from .outbox import Outbox
from .own_urls import host_names
from .recording.recorder import Recorder
from .signing import SigningKeys
from .spreading.service import SpreadingService
from .state import StateDirectory
from .streaming.service import StreamingService
from .tasks.service import TaskService


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
