"""Playlists of sites: fetched from the origin when a player asks, kept while they are fresh, written anew.

A playlist never becomes an object: players resolve what it names against the address that it came from, and that must
be the scheduler's. Its segments are ordinary paths of the site, which the mirror holds and devices serve.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from ..catalogue.names import path_below
from ..catalogue.origin import Origin, Validators
from ..catalogue.sites import Site
from ..clock import Clock
from ..http import ApiProblem
from .config import Config
from .playlist import PLAYLIST_BYTES_MAX, Link, NotPlayable, Playlist, Use, read_playlist

SUFFIXES = (".m3u8", ".m3u")
ENTRY_BYTES = 1024
"""What a kept playlist takes besides its text, about; a refusal takes no more."""
FRESH_S_MIN, FRESH_S_MAX = 1.0, 10.0
"""Of a playlist that grows."""

_log = logging.getLogger(__name__)
_Key = tuple[str, str, str]


def is_playlist(path: str) -> bool:
    return path.lower().endswith(SUFFIXES)


def through(site: Site) -> Callable[[Link], str]:
    """Where players find what a playlist of ``site`` names: below the site, or else on the origin itself."""

    def locate(link: Link) -> str:
        path = path_below(site.origin, link.url)
        if path is None or link.use is Use.ORIGIN or (link.use is Use.PLAYLIST) != is_playlist(path):
            return link.url
        return f"/s/{site.name}/{path}"

    return locate


def playlists_below(site: Site, playlist: Playlist) -> list[str]:
    """Paths of the playlists below the site that a multivariant one names."""
    below = (path_below(site.origin, url) for url in playlist.playlists())
    return [path for path in below if path is not None and is_playlist(path)]


@dataclass(frozen=True, slots=True)
class Fetched:
    """A playlist as the origin gave it. ``max_age_s``: as it said, or None."""

    playlist: Playlist
    validators: Validators
    max_age_s: int | None


async def fetch_playlist(origin: Origin, site: Site, path: str, known: Validators | None = None) -> Fetched | None:
    """The playlist at ``path`` of ``site`` now; None when it is still the one of ``known``.

    :raises ApiProblem: for what the origin did. :raises NotPlayable: it is none that can be rewritten.
    """
    async with origin.fetch(site.origin, site.origin + path, known) as file:
        if file.unchanged:
            return None
        data = bytearray()
        async for piece in file.pieces():
            data += piece
            if len(data) > PLAYLIST_BYTES_MAX:
                raise NotPlayable(f"a playlist has at most {PLAYLIST_BYTES_MAX} bytes")
        # A long one takes tens of milliseconds: not in the loop.
        playlist = await asyncio.to_thread(read_playlist, bytes(data), str(file.response.url))
        return Fetched(playlist, file.validators, file.max_age_s)


@dataclass(frozen=True, slots=True)
class _Kept:
    """``text`` None: the origin gave none. Times are monotonic."""

    text: str | None
    fresh_until: float
    usable_until: float

    @property
    def size(self) -> int:
        return ENTRY_BYTES + len(self.text or "")


class Playlists:
    """Each is fetched by one task at a time, for all who ask meanwhile."""

    def __init__(self, config: Config, origin: Origin, clock: Clock) -> None:
        self._config = config
        self._origin = origin
        self._clock = clock
        self._kept: OrderedDict[_Key, _Kept] = OrderedDict()
        self._kept_bytes = 0
        self._fetches: dict[_Key, asyncio.Task[None]] = {}

    async def close(self) -> None:
        fetches = list(self._fetches.values())
        for fetch in fetches:
            fetch.cancel()
        await asyncio.gather(*fetches, return_exceptions=True)

    async def text(self, site: Site, path: str) -> str | None:
        """The playlist for players; None when they are to ask the origin itself.

        :param path: as :func:`~fallow_server.catalogue.names.clean_path` gives it.
        """
        key = (site.name, site.origin, path)
        kept = self._kept.get(key)
        if kept is None or self._clock.monotonic() >= kept.fresh_until:
            fetch = self._fetches.get(key)
            if fetch is None:
                if len(self._fetches) >= self._config.fetches_max:
                    return None
                fetch = asyncio.create_task(self._fetch(site, path, key), name=f"playlist {site.name}/{path}"[:128])
                self._fetches[key] = fetch
                fetch.add_done_callback(lambda _: self._fetches.pop(key, None))
            # A player that goes away does not end the fetch of the others.
            await asyncio.shield(fetch)
            kept = self._kept.get(key)
        if kept is None or self._clock.monotonic() >= kept.usable_until:
            return None
        self._kept.move_to_end(key)
        return kept.text

    async def _fetch(self, site: Site, path: str, key: _Key) -> None:
        try:
            fetched = await fetch_playlist(self._origin, site, path)
            assert fetched is not None, "nothing was known"
            text = await asyncio.to_thread(fetched.playlist.written, through(site))
        except (ApiProblem, NotPlayable) as error:
            why = error.problem.detail if isinstance(error, ApiProblem) else error.detail
            _log.info("%s of site %s goes to the origin: %s", path, site.name, why)
            self._refused(key, answered=isinstance(error, NotPlayable) or "answered 4" in why)
            return
        now = self._clock.monotonic()
        fresh_until = now + self._fresh_s(fetched)
        self._keep(key, _Kept(text, fresh_until, fresh_until + self._config.playlist_stale_s_max))

    def _refused(self, key: _Key, *, answered: bool) -> None:
        """:param answered: the origin has none (any longer); else it may only be away for a moment."""
        now = self._clock.monotonic()
        again_at = now + self._config.playlist_refused_s
        kept = self._kept.get(key)
        if kept is not None and kept.text is not None and not answered and now < kept.usable_until:
            self._keep(key, _Kept(kept.text, again_at, kept.usable_until))
        else:
            self._keep(key, _Kept(None, again_at, again_at))

    def _keep(self, key: _Key, kept: _Kept) -> None:
        before = self._kept.pop(key, None)
        self._kept[key] = kept
        self._kept_bytes += kept.size - (before.size if before is not None else 0)
        while self._kept_bytes > self._config.playlists_bytes_max:
            self._kept_bytes -= self._kept.popitem(last=False)[1].size

    def _fresh_s(self, fetched: Fetched) -> float:
        playlist = fetched.playlist
        if not playlist.ended and not playlist.is_multivariant:
            return min(FRESH_S_MAX, max(FRESH_S_MIN, playlist.target_s / 2))
        if fetched.max_age_s is None:
            return self._config.playlist_fresh_s
        return min(self._config.playlist_fresh_s_max, max(FRESH_S_MIN, fetched.max_age_s))
