"""The owner of what streaming is made of."""

from __future__ import annotations

from ..catalogue.config import Config as CatalogueConfig
from ..catalogue.origin import Origin
from ..catalogue.service import CatalogueService
from ..catalogue.sites import Site
from ..clock import Clock
from ..delivery.devices import Devices
from ..tasks.service import TaskService
from .config import Config
from .courier import LIVE, Courier
from .lives import Lives
from .playlists import Playlists, is_playlist


class StreamingService:
    """The catalogue's ``PlaylistSource``, and the tasks' kind ``live``.

    :param origins: what may be asked of origins. The connections are our own: a playlist must not wait for pulls.
    """

    def __init__(
        self,
        config: Config,
        origins: CatalogueConfig,
        catalogue: CatalogueService,
        devices: Devices,
        tasks: TaskService,
        clock: Clock,
        public_url: str,
    ) -> None:
        self._origin = Origin(origins)
        self._playlists = Playlists(config, self._origin, clock)
        self.courier = Courier(catalogue.catalogue, devices, tasks.sources)
        devices.fleet.observers.append(self.courier)
        self.lives = Lives(
            config,
            catalogue.sites,
            catalogue.catalogue,
            self._origin,
            devices,
            self.courier,
            clock,
            tasks.retry_s,
            public_url,
        )
        catalogue.playlists = self
        tasks.offer(LIVE, self.lives)

    async def start(self) -> None:
        """After the catalogue, before the tasks."""
        await self._origin.start()
        await self.lives.start()

    async def close(self) -> None:
        """After the tasks, before the catalogue."""
        await self.lives.close()
        await self._playlists.close()
        await self._origin.close()

    def is_playlist(self, path: str) -> bool:
        return is_playlist(path)

    async def text(self, site: Site, path: str) -> str | None:
        live = await self.lives.text(site.name, path)
        return live if live is not None else await self._playlists.text(site, path)
