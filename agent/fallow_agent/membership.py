"""What the lifecycle's commands do: enrol, go online, serve, hand over the last proofs, forget.

Everything of the outside world is loaded and built only here and after the owner's consent: a dormant agent has no
client, no session and no service port.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
import sqlite3
from collections.abc import Callable
from typing import TYPE_CHECKING

import aiohttp
from fallow_wire.keys import PrivateKey

from .clock import Clock
from .config import Config
from .controls import LIMITS, Controls
from .driver import LIFE
from .lan.pairing import PHONES
from .lan.points import CACHE, LedgerAccess
from .life import LEAVING, Life
from .lifecycle import (
    EnrolmentDelayed,
    EnrolmentRefused,
    EnrolmentSucceeded,
    Erased,
    Event,
    ProofsHandedOver,
)
from .line import HOUSEHOLD_SETTINGS
from .outward import Outward, is_private
from .policy import POLICY, PolicyInForce
from .store import Settings
from .supervision import Tasks

if TYPE_CHECKING:
    from .online import Online

_log = logging.getLogger(__name__)

FORGOTTEN = (LIFE, POLICY, LIMITS, PHONES, CACHE, *HOUSEHOLD_SETTINGS)
"""Settings that belong to the owner. What the line has used this month, the setup code and the outbox stay."""


class Membership:
    """The performer of :mod:`.driver`'s commands."""

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
        tasks: Tasks,
        life: Callable[[], Life],
        handle: Callable[[Event], Life],
        announce: Callable[[str], None],
        time_corrected: Callable[[], None],
        forget: Callable[[], None],
    ) -> None:
        """:param handle: takes the events that end enrolment, draining and erasing.
        :param announce: tells the LAN the state.
        :param time_corrected: called after the scheduler has told the time.
        :param forget: forgets what the LAN side knows of the owner."""
        self._config = config
        self._key = key
        self._version = version
        self._clock = clock
        self._connection = connection
        self._settings = settings
        self._controls = controls
        self._tasks = tasks
        self._life = life
        self._handle = handle
        self._announce = announce
        self._time_corrected = time_corrected
        self._forget = forget
        self._http: aiohttp.ClientSession | None = None
        self._ledger_http: aiohttp.ClientSession | None = None
        self._online: Online | None = None

    # -------------------------------------------------------------- for others

    @property
    def http(self) -> aiohttp.ClientSession:
        """For the scheduler, whom the owner has named; only for use after the owner's consent."""
        if self._http is None:
            self._http = aiohttp.ClientSession(headers=self._headers(), cookie_jar=aiohttp.DummyCookieJar())
        return self._http

    @property
    def ledger_http(self) -> aiohttp.ClientSession:
        """For the ledger, whom the scheduler has named: it must not lie in the owner's home."""
        if self._config.filling.private_sources or is_private(self._life().scheduler or ""):
            return self.http
        if self._ledger_http is None:
            self._ledger_http = Outward().session(headers=self._headers())
        return self._ledger_http

    def _headers(self) -> dict[str, str]:
        return {"User-Agent": f"fallow-agent/{self._version}"}

    @property
    def online(self) -> Online | None:
        """What runs while the device is active or paused."""
        return self._online

    def ledger_access(self) -> LedgerAccess | None:
        """Where to ask for the owner's points; None while there is no owner."""
        enrolled = self._life().enrolled
        if enrolled is None:
            return None
        policy = PolicyInForce(self._settings, enrolled.policy).policy
        return LedgerAccess(policy.ledger, enrolled.owner, enrolled.ledger_token)

    def apply_limits(self) -> None:
        """The owner's limits have changed."""
        if self._online is not None:
            self._online.apply_limits()

    def network_changed(self) -> None:
        """The way to the internet is another, or back."""
        if self._online is not None:
            self._online.network_changed()

    async def close(self) -> None:
        """Stop everything, saved as it is: the next start goes on from there."""
        await self._tasks.stop("enrolment", "drain")
        if self._online is not None:
            await self._online.close()
            self._online = None
        await self._close_http()

    async def _close_http(self) -> None:
        for http in (self._http, self._ledger_http):
            if http is not None:
                await http.close()
        self._http = self._ledger_http = None

    # -------------------------------------------------------------- commands

    def announce(self, state: str) -> None:
        self._announce(state)

    def start_enrolment(self, scheduler: str, claim_token: str, after_s: int) -> None:
        # The one before has posted the event that led here and is about to end.
        self._tasks.replace("enrolment", self._enrol(scheduler, claim_token, after_s))

    async def stop_enrolment(self) -> None:
        await self._tasks.stop("enrolment")
        await self._close_http()

    async def _enrol(self, scheduler: str, claim_token: str, after_s: int) -> None:
        from .uplink.enrolment import EnrolmentRefused as Refused
        from .uplink.enrolment import SchedulerUnreachable, enrol

        await asyncio.sleep(after_s)
        try:
            enrolled = await enrol(
                self.http,
                scheduler,
                self._key,
                claim_token,
                self._config.model,
                self._version,
                self._clock.now(),
            )
        except Refused as error:
            self._handle(EnrolmentRefused(claim_token, error.problem))
        except SchedulerUnreachable as error:
            self._handle(EnrolmentDelayed(claim_token, error.problem))
        else:
            self._handle(EnrolmentSucceeded(claim_token, enrolled))

    async def connect(self) -> None:
        from .online import Online

        assert self._online is None
        self._online = Online(
            self._config,
            key=self._key,
            version=self._version,
            clock=self._clock,
            connection=self._connection,
            settings=self._settings,
            controls=self._controls,
            life=self._life,
            http=self.http,
            ledger_http=self.ledger_http,
            tasks=self._tasks,
            content_dir=self._config.content_dir,
            time_corrected=self._time_corrected,
        )
        await self._online.start()

    async def disconnect(self) -> None:
        if self._online is not None:
            self._online.seal_all()
            await self._online.close()
            self._online = None

    def start_service(self) -> None:
        if self._online is not None:
            self._online.start_service()

    async def stop_service(self) -> None:
        if self._online is not None:
            await self._online.stop_service()

    def drain(self) -> None:
        self._tasks.start("drain", self._drain())

    async def _drain(self) -> None:
        from .proofs.submission import hand_over

        enrolled = self._life().enrolled
        assert enrolled is not None
        policy = PolicyInForce(self._settings, enrolled.policy).policy
        await hand_over(self._connection, self.ledger_http, policy.ledger, self._key)
        self._handle(ProofsHandedOver())

    async def erase(self) -> None:
        await self._tasks.stop("drain")
        if self._life().state != LEAVING:
            return
        await self._unbind()
        await asyncio.to_thread(shutil.rmtree, self._config.content_dir, ignore_errors=True)
        for name in (POLICY, *HOUSEHOLD_SETTINGS):
            self._settings.delete(name)
        self._forget()
        await self._close_http()
        self._handle(Erased())

    async def _unbind(self) -> None:
        from .uplink.enrolment import SchedulerUnreachable, unbind

        life = self._life()
        assert life.enrolled is not None
        assert life.scheduler is not None
        enrolled = life.enrolled
        try:
            await unbind(self.http, life.scheduler, enrolled.device_id, enrolled.ledger_token)
        except SchedulerUnreachable as error:
            # Leaving waits for nobody: the scheduler sees the device gone, and its owner can remove it there.
            _log.warning("the scheduler was not told that the device left: %s", error.detail)
