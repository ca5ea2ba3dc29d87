"""The console: pages for operators and publishers, who signs in there, and what only these pages ask for."""

from __future__ import annotations

from collections.abc import Callable

from ..accounts.accounts import Accounts
from ..clock import Clock
from ..database import Database
from ..delivery.service import DeliveryService
from ..http import Api
from ..link import Link
from ..scheduling.demand import Demands
from .capacity import Capacity
from .config import Config
from .fleet import FleetTable
from .history import History
from .ledger import LedgerPassage
from .lists import Lists
from .routes import ConsoleRoutes
from .sessions import ConsoleSessions


class ConsoleService:
    """:param demand: what is counted now. :param public_url: by which browsers reach this server."""

    def __init__(
        self,
        config: Config,
        database: Database,
        clock: Clock,
        accounts: Accounts,
        delivery: DeliveryService,
        demand: Callable[[], Demands],
        link: Link,
        public_url: str,
    ) -> None:
        self._clock = clock
        self._sessions = ConsoleSessions(config, database, clock, secure=public_url.startswith("https:"))
        self._fleet = FleetTable(database, delivery.devices, clock)
        fleet = delivery.devices.fleet
        self.history = History(config, database, fleet, delivery.transfer, clock)
        delivery.router.routes.append(self.history)
        self._parts = (
            ConsoleRoutes(accounts, self._sessions),
            self._fleet,
            self.history,
            Capacity(fleet, demand, clock),
            Lists(database, delivery.replicas_of, public_url.rstrip("/")),
            LedgerPassage(link),
        )

    def add_routes(self, api: Api) -> None:
        api.sessions = self._sessions
        for part in self._parts:
            part.add_to(api)

    async def run(self) -> None:
        """Keep the history, until cancelled."""
        await self.history.run()

    async def close(self) -> None:
        self._fleet.close()
        await self.history.write(self._clock.now())
