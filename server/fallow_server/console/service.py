"""The console: pages for operators and publishers, who signs in there, and what only these pages ask for."""

from __future__ import annotations

from ..accounts.accounts import Accounts
from ..clock import Clock
from ..database import Database
from ..delivery.devices import Devices
from ..http import Api
from .config import Config
from .fleet import FleetTable
from .routes import ConsoleRoutes
from .sessions import ConsoleSessions


class ConsoleService:
    """:param secure: browsers reach this server by https."""

    def __init__(
        self,
        config: Config,
        database: Database,
        clock: Clock,
        accounts: Accounts,
        devices: Devices,
        *,
        secure: bool,
    ) -> None:
        self._sessions = ConsoleSessions(config, database, clock, secure=secure)
        self._fleet = FleetTable(database, devices, clock)
        self._routes = ConsoleRoutes(accounts, self._sessions)

    def add_routes(self, api: Api) -> None:
        api.sessions = self._sessions
        for part in (self._routes, self._fleet):
            part.add_to(api)

    async def close(self) -> None:
        self._fleet.close()
