"""Carries out what the lifecycle decides: saves first, then everything else in order, one command after the other."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from typing import Protocol

from fallow_wire.errors import PeerError
from fallow_wire.fields import encode

from .clock import Clock
from .life import Life, read_life
from .lifecycle import (
    COUNTDOWN_SAVE_S,
    Announce,
    ClearTimer,
    Command,
    Connect,
    Disconnect,
    Drain,
    Erase,
    Event,
    LeaveRequested,
    PauseRequested,
    Save,
    SetTimer,
    Started,
    StartEnrolment,
    StartService,
    StopEnrolment,
    StopService,
    TimerElapsed,
    TimerProgress,
    step,
)
from .store import Settings

_log = logging.getLogger(__name__)

LIFE = "life"
"""Name of the setting."""


class Performer(Protocol):
    """What the commands do. Each may be called again after a restart, and none may take longer than seconds."""

    def announce(self, state: str) -> None: ...

    def start_enrolment(self, scheduler: str, claim_token: str, after_s: int) -> None: ...

    async def stop_enrolment(self) -> None: ...

    async def connect(self) -> None: ...

    async def disconnect(self) -> None: ...

    def start_service(self) -> None: ...

    async def stop_service(self) -> None: ...

    def drain(self) -> None: ...

    async def erase(self) -> None: ...


class Driver:
    """Holds the life. :meth:`handle` decides and saves at once; :meth:`run` performs."""

    def __init__(self, settings: Settings, clock: Clock, performer: Performer) -> None:
        self._settings = settings
        self._clock = clock
        self._performer = performer
        self._commands: asyncio.Queue[Command] = asyncio.Queue()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_ends = 0.0
        self._life = self._read()

    @property
    def life(self) -> Life:
        return self._life

    def _read(self) -> Life:
        try:
            return read_life(self._settings.get(LIFE))
        except PeerError as error:
            # Without a readable consent there is none.
            _log.error("the saved state cannot be read (%s); the device is dormant, activate it again", error.detail)
            return Life()

    def handle(self, event: Event) -> Life:
        """The life after ``event``, saved. Its commands are carried out soon.

        :raises RequestRefused: as :func:`.lifecycle.step` does; nothing has changed then.
        """
        before = self._life.state
        life, commands = step(self._life, event)
        for command in commands:
            if isinstance(command, Save):
                self._save(command.life, event)
            else:
                self._commands.put_nowait(command)
        self._life = life
        if life.state != before:
            _log.info("%s → %s (%s)", before, life.state, type(event).__name__)
        return life

    def _save(self, life: Life, event: Event) -> None:
        try:
            self._settings.set(LIFE, encode(life), durable=True)
        except sqlite3.Error as error:
            # Pause and leave hold even on a full disk, for as long as the process lives; all else needs the save.
            if not isinstance(event, (PauseRequested, LeaveRequested)):
                raise
            _log.error("%s could not be saved (%s); make room on the disk", type(event).__name__, error)

    async def run(self) -> None:
        """Start from the saved life and carry out commands until cancelled."""
        self.handle(Started(self._clock.now()))
        try:
            while True:
                await self._perform(await self._commands.get())
        finally:
            self._clear_timer()

    async def _perform(self, command: Command) -> None:
        performer = self._performer
        match command:
            case Announce(state):
                performer.announce(state)
            case StartEnrolment(scheduler, claim_token, after_s):
                performer.start_enrolment(scheduler, claim_token, after_s)
            case StopEnrolment():
                await performer.stop_enrolment()
            case Connect():
                await performer.connect()
            case Disconnect():
                await performer.disconnect()
            case StartService():
                performer.start_service()
            case StopService():
                await performer.stop_service()
            case SetTimer(after_s):
                self._set_timer(after_s)
            case ClearTimer():
                self._clear_timer()
            case Drain():
                performer.drain()
            case Erase():
                await performer.erase()

    # -------------------------------------------------------------- the timer

    def time_corrected(self) -> None:
        """The clock was set: what is left is saved by the new time."""
        if self._timer is not None:
            self._tick()

    def _set_timer(self, after_s: int) -> None:
        self._timer_ends = self._clock.monotonic() + after_s
        self._arm()

    def _clear_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self) -> None:
        self._clear_timer()
        left_s = max(0.0, self._timer_ends - self._clock.monotonic())
        self._timer = asyncio.get_running_loop().call_later(min(left_s, COUNTDOWN_SAVE_S), self._tick)

    def _tick(self) -> None:
        left_s = self._timer_ends - self._clock.monotonic()
        if left_s <= 0:
            self._clear_timer()
            self.handle(TimerElapsed())
            return
        self.handle(TimerProgress(self._clock.now(), int(left_s) + 1))
        self._arm()
