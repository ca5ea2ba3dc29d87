"""The owner of what streaming is made of."""

from __future__ import annotations

from ..catalogue.config import Config as CatalogueConfig
from ..catalogue.origin import Origin
from ..catalogue.sites import Site
from ..clock import Clock
from .config import Config
from .playlists import Playlists, is_playlist


class StreamingService:
    """The catalogue's ``PlaylistSource``.

    :param catalogue: for what may be asked of origins. The connections are our own: a playlist must not wait for pulls.
    """

    def __init__(self, config: Config, catalogue: CatalogueConfig, clock: Clock) -> None:
        self._origin = Origin(catalogue)
        self._playlists = Playlists(config, self._origin, clock)

    async def start(self) -> None:
        await self._origin.start()

    async def close(self) -> None:
        await self._playlists.close()
        await self._origin.close()

    def is_playlist(self, path: str) -> bool:
        return is_playlist(path)

    async def text(self, site: Site, path: str) -> str | None:
        return await self._playlists.text(site, path)
