"""The ledger's composition root: builds its parts, wires them, runs their loops, closes."""

from __future__ import annotations

import asyncio
import logging

from ..background import uninterrupted
from ..clock import Clock
from ..common import CommonRoutes
from ..database import Database
from ..http import Api
from ..signing import SigningKeys
from .audits import Audits
from .clawback import Clawbacks
from .config import LedgerConfig, RewardsConfig
from .days import Days
from .directory import Directory, LedgerAuthenticator
from .escrow import Escrow
from .export import Export
from .fulfilment import Fulfilment
from .quality import Quality
from .reconciliation import Reconciliation
from .redemptions import Redemptions
from .reports import Reports
from .restored import Restored
from .reviews import Reviews
from .rewards import Rewards
from .roots import Roots
from .settlement import Settlement
from .statements import Statements
from .tariff_diffs import TariffDiffs
from .tariffs import Tariffs
from .vesting import vest

_log = logging.getLogger(__name__)


class LedgerService:
    """The ledger. ``api.application`` is to be served at ``config.public_url``.

    :param database: the ledger's own; it is migrated by :meth:`start` and not closed here.
    :param link_token_hash: of the token that the scheduler shows (:func:`fallow_server.tokens.hash_token`).
    """

    def __init__(
        self,
        config: LedgerConfig,
        database: Database,
        keys: SigningKeys,
        clock: Clock,
        link_token_hash: str,
        rewards: RewardsConfig | None = None,
    ) -> None:
        rewards = rewards or RewardsConfig()
        self._config = config
        self._database = database
        self._keys = keys
        self._clock = clock
        self._escrow = Escrow(database, clock)
        self._tariffs = Tariffs(database, keys, clock)
        self._tariff_diffs = TariffDiffs(database, clock)
        self._quality = Quality(database, clock)
        self._reviews = Reviews(database, clock)
        self._roots = Roots(database, keys, clock)
        self._loops: list[asyncio.Task[None]] = []
        self._trouble: str | None = None
        self.reconciliation = Reconciliation(database)
        self.reports = Reports(database, clock, self.reconciliation)
        self._restored = Restored(database, clock)
        self.fulfilment = Fulfilment(rewards, database, clock)
        authenticator = LedgerAuthenticator(database, link_token_hash)
        self.api = Api(authenticator, trusted_proxies=config.trusted_proxies)
        CommonRoutes("ledger", database, keys, lambda: self._trouble or self.reports.trouble).add_to(self.api)
        for part in (
            Settlement(config, database, keys, clock, self._booked, self._restored),
            Statements(database, keys, clock),
            Days(database, clock),
            Rewards(rewards, database, clock),
            Redemptions(database, clock, self.fulfilment),
            Clawbacks(database, clock),
            Directory(database),
            self._escrow,
            self._tariffs,
            self._tariff_diffs,
            self._roots,
            self._reviews,
            Audits(database, clock),
            Export(database, keys, clock),
            self.reconciliation,
            self.reports,
            self._restored,
        ):
            part.add_routes(self.api)

    async def start(self) -> None:
        """Bring the database to its newest form, make the first tariff of a fresh ledger, start the loops."""
        await self._database.migrate("ledger")
        await self._roots.keep_keys()
        await self._restored.load()
        await self._tariffs.ensure_first()
        await self.fulfilment.start()
        for name, loop in (
            ("ledger-sweep", self._sweep_forever()),
            ("ledger-providers", self.fulfilment.run()),
            ("ledger-reports", self.reports.run()),
        ):
            self._loops.append(asyncio.create_task(loop, name=name))

    async def close(self) -> None:
        """Stop the loops. What they are writing is written first."""
        for task in self._loops:
            task.cancel()
        await asyncio.gather(*self._loops, return_exceptions=True)
        self._loops.clear()
        await self._tariff_diffs.close()
        await self.fulfilment.close()

    async def sweep(self) -> None:
        """What time alone makes due: held points mature, unused reservations return, days get a root and a look."""
        await vest(self._database, self._clock)
        await self._escrow.release()
        await self._roots.close_days()
        await self._quality.look()
        await self._reviews.look()

    async def _sweep_forever(self) -> None:
        while True:
            try:
                await uninterrupted(self.sweep())
                self._trouble = None
            except Exception as error:  # noqa: BLE001
                # The outermost loop: a database that is away now is there again at one of the next rounds.
                self._trouble = f"the sweep fails: {error}"
                _log.exception("the ledger's sweep failed; it will be tried again")
            await asyncio.sleep(self._config.sweep_interval_s)

    async def _booked(self) -> None:
        if self._config.hold_s == 0:
            await vest(self._database, self._clock)
