"""The composition root: opens what the roles need, runs the scheduler and the ledger as configured, closes them."""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import signal
import socket
import sys
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

from aiohttp import web
from fallow_wire.errors import LocalError
from sqlalchemy.exc import SQLAlchemyError

from . import service_manager
from .background import Background
from .clock import Clock
from .config import ServerConfig
from .database import Branch, Database
from .garbage import collect_less, collect_often
from .http import Api
from .ledger.app import LedgerService
from .listening import bind
from .metrics import LedgerCollector, Metrics
from .own_urls import default_url, url_host
from .scheduler import Scheduler
from .signing import SigningKeys
from .state import StateDirectory
from .tokens import hash_token

BACKLOG = 1024
"""Connections that wait to be accepted: after a restart a whole fleet comes back."""
IDLE_S_MAX = 75
"""Between requests, and before the first one: longer than proxies keep theirs, and short against who only holds."""
THREADS_TURN_S = 0.001
"""A thread that computes lets the loop go on after so long. With Python's own 5 ms each wake-up of the loop is so late
for as long as some thread makes, say, the JSON of the record of decisions."""

_log = logging.getLogger(__name__)


class _ConnectionLog(logging.LoggerAdapter[logging.Logger]):
    """What aiohttp says of connections that speak no HTTP or vanish: for debugging only, as any stranger can make it
    say so at will. Its words name the caller's address, and are left out. Failures of our handlers are logged by
    :class:`~.http.Api`."""

    def log(self, level: int, msg: object, *args: object, **more: Any) -> None:
        super().log(min(level, logging.DEBUG), "a connection failed", **more)


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
        return f"http://{url_host(self._config.http.host or '127.0.0.1')}:{self.ledger_port}"

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
        sys.setswitchinterval(THREADS_TURN_S)
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
