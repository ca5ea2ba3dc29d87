"""The composition root: builds the agent, wires it, runs it, closes it."""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import signal
import socket
from pathlib import Path
from typing import Any

from aiohttp import web
from fallow_wire.errors import LocalError
from fallow_wire.lan import Limits

from . import lifecycle, memory
from .clock import Clock
from .config import Config, ProcessConfig
from .controls import Controls
from .driver import Driver
from .identity import load_or_create_identity, local_token, make_state_dir, open_private, write_local
from .lan.api import LanApi
from .lan.interfaces import Interfaces
from .lan.middleware import serve
from .lan.neighbours import Neighbour, Neighbours
from .lan.pairing import Pairing
from .lan.points import Points
from .life import Life
from .membership import Membership
from .status import status_of
from .store import DATABASE_FILE, Settings, open_database
from .supervision import Tasks
from .version import agent_version

_log = logging.getLogger(__name__)

LOCK_FILE = "lock"
SETTLED_S = 5.0
ANSWERS_S_MAX = 1.0
"""How long answers under way on port M may take when the agent stops."""


class StateDirInUse(LocalError):
    """Another agent runs with the same state directory."""

    slug = "in-use"


class Agent:
    """One device. It is what port M talks to (:class:`.lan.api.Device`)."""

    def __init__(self, config: Config, clock: Clock | None = None) -> None:
        """Open the state directory and build everything; nothing runs and no socket is open yet.

        :raises LocalError: naming what is wrong with the state directory.
        """
        self._config = config
        self._clock = clock or Clock()
        self._lock = lock_state_dir(config.state_dir)
        self._key = load_or_create_identity(config.state_dir)
        write_local(config.state_dir, self._key)
        self._connection = open_database(config.state_dir / DATABASE_FILE)
        self._settings = Settings(self._connection)
        self._tasks = Tasks()
        self._stopping = asyncio.Event()
        self._device_id = self._key.public.device_id()
        self._version = agent_version()
        self._controls = Controls(self._settings, self._clock, lambda: self.life, config.line.metered)
        self._pairing = Pairing(self._settings, config.lan.setup_code, local_token(self._key))
        names = (f"{socket.gethostname()}.local", f"fallow-{self._device_id[-4:]}.local", *config.lan.names)
        self._interfaces = Interfaces(config.lan.interfaces, names, self._clock.monotonic)
        self._neighbours = Neighbours(self._device_id, self._interfaces.lan, self._clock.monotonic)
        self._announce_state: Any = lambda state: None
        self._membership = Membership(
            config,
            key=self._key,
            version=self._version,
            clock=self._clock,
            connection=self._connection,
            settings=self._settings,
            controls=self._controls,
            tasks=self._tasks,
            life=lambda: self.life,
            handle=lambda event: self._driver.handle(event),
            announce=lambda state: self._announce_state(state),
            time_corrected=lambda: self._driver.time_corrected(),
            forget=self._forget,
        )
        self._driver = Driver(self._settings, self._clock, self._membership)
        self._points = Points(
            self._membership.ledger_access, lambda: self._membership.ledger_http, self._settings, self._clock
        )
        self._runner: web.AppRunner | None = None
        self.listening = asyncio.Event()
        """Set once port M answers at :attr:`lan_port`."""
        self.lan_port = 0

    # -------------------------------------------------------------- what port M asks for

    @property
    def life(self) -> Life:
        return self._driver.life

    @property
    def limits(self) -> Limits:
        return self._controls.limits

    def description(self) -> dict[str, Any]:
        scheduler = self._config.lan.scheduler
        return {
            "device_id": self._device_id,
            "name": self._config.name,
            "model": self._config.model,
            "version": self._version,
            **({} if scheduler is None else {"scheduler": scheduler.rstrip("/")}),
        }

    def now(self) -> int:
        return self._clock.now()

    def request(self, event: lifecycle.Request, limits: Limits | None = None) -> Life:
        if limits is not None:
            lifecycle.step(self.life, event)  # a request that is refused must change nothing
            self.set_limits(limits)
        return self._driver.handle(event)

    def set_limits(self, limits: Limits) -> None:
        self._controls.set_limits(limits)
        self._membership.apply_limits()

    def start_speedtest(self, *, insist: bool) -> None:
        online = self._membership.online
        if online is None:
            raise lifecycle.RequestRefused(lifecycle.not_active(self.life))
        online.start_speedtest(insist=insist)

    def status(self) -> dict[str, Any]:
        return status_of(self.life, self._controls, self._membership.online)

    async def neighbours(self) -> list[Neighbour]:
        return await self._neighbours.find() if self._config.lan.mdns else []

    # -------------------------------------------------------------- running

    async def run(self) -> int:
        """Run until :meth:`stop` or a failure; gives the exit status of the process."""
        try:
            await self._listen()
            self._tasks.start("driver", self._driver.run())
            if self._config.lan.mdns:
                self._start_announcing()
            self._tasks.start("tidying", self._tidy())
            failure = asyncio.ensure_future(self._tasks.failure())
            stopping = asyncio.ensure_future(self._stopping.wait())
            done, waiting = await asyncio.wait((failure, stopping), return_when=asyncio.FIRST_COMPLETED)
            for future in waiting:
                future.cancel()
            return 1 if failure in done else 0
        finally:
            await self.close()

    async def _tidy(self) -> None:
        """Once all is loaded and connected, give back what starting needed."""
        await asyncio.sleep(SETTLED_S)
        memory.release_unused()

    def stop(self) -> None:
        """End :meth:`run` gracefully."""
        self._stopping.set()

    async def close(self) -> None:
        """Stop serving, save everything, say goodbye; within a few seconds."""
        await self._tasks.stop("driver")
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None
        await self._membership.close()
        await self._tasks.stop_all()
        self._controls.save()
        self._connection.close()
        os.close(self._lock)

    async def _listen(self) -> None:
        api = LanApi(self, self._pairing, self._points, self._interfaces)
        lan = self._config.lan
        try:
            self._runner = runner = await serve(api.application(), lan.bind or (None,), lan.port, ANSWERS_S_MAX)
        except OSError as error:
            raise LocalError(f"port M: {error.strerror or error} (lan.bind, lan.port)") from None
        self.lan_port = runner.addresses[0][1]
        self.listening.set()
        _log.info("%s is %s; port M is %d", self._device_id, self.life.state, self.lan_port)

    def _start_announcing(self) -> None:
        from .lan.announce import Announcer

        announcer = Announcer(self._device_id, self.lan_port, self._interfaces.lan, self.life.state)
        self._announce_state = announcer.set_state
        self._tasks.start("announcer", announcer.run())

    def _forget(self) -> None:
        """What the owner leaves behind on the LAN side: phones, limits, points."""
        self._pairing.forget_phones()
        self._controls.forget()
        self._points.forget()

    def network_changed(self) -> None:
        self._membership.network_changed()

    def unlock(self) -> None:
        """The device's button was pressed: setup codes are taken again."""
        _log.info("setup codes are taken again")
        self._pairing.unlock()


def lock_state_dir(state_dir: Path) -> int:
    """Make the directory (mode 0700) and hold its lock; gives the descriptor that holds it.

    :raises StateDirInUse: another process holds it. :raises LocalError: it cannot be made.
    """
    make_state_dir(state_dir)
    try:
        descriptor = open_private(state_dir / LOCK_FILE)
    except OSError as error:
        raise LocalError(f"{state_dir}: {error.strerror}; choose another with --state-dir") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise StateDirInUse(f"{state_dir} is in use by another fallow-agent") from None
    return descriptor


def yield_to_household(config: ProcessConfig) -> None:
    """Lower the priority of the process for processor and disk; where it is not allowed, it stays as it is."""
    import psutil  # type: ignore[import-untyped]

    process = psutil.Process()
    try:
        process.nice(config.nice)
        if config.io_idle:
            process.ionice(psutil.IOPRIO_CLASS_IDLE)
    except (psutil.Error, OSError, AttributeError) as error:
        _log.info("the priority stays as it is: %s", error)


async def run_agent(config: Config) -> int:
    """Run the agent until SIGTERM or SIGINT; gives the exit status.

    SIGUSR1 is the device's button; SIGHUP says that the way to the internet has changed.
    """
    agent = Agent(config)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, agent.stop)
    loop.add_signal_handler(signal.SIGUSR1, agent.unlock)
    loop.add_signal_handler(signal.SIGHUP, agent.network_changed)
    return await agent.run()
