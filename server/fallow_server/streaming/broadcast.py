"""One live stream: its origin is asked for what is new, segments go to devices, and players see what has arrived."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable

from sqlalchemy.exc import IntegrityError

from ..catalogue.names import last_segment, path_below, quoted
from ..catalogue.objects import Catalogue, Publication
from ..catalogue.origin import Origin, OriginFile, Validators
from ..catalogue.sites import Site
from ..clock import Clock
from ..delivery.devices import Devices
from ..http import ApiProblem, refusal
from ..tasks.model import NetworkTask
from .config import Config
from .courier import Courier, Parcel
from .playlist import Link, NotPlayable, Use
from .playlists import fetch_playlist, playlists_below, through
from .window import Held, Window

PULL_ATTEMPTS = 2
PULLS_MAX = 256
"""Segments of one stream that are pulled at once: at its start its playlists have a minute each, in segments of two
seconds. An origin that names more, or new ones with each answer, has players fetch them from itself."""
WAITING_MAX = 1000
"""Players of one stream that wait for its first segment; each looks for it every :data:`TEXT_S`. Further ones are shown
the origin's playlist."""
TEXT_S = 0.2
"""A text for players is made at most so often; thousands of them ask for it."""

_log = logging.getLogger(__name__)


class Broadcast:
    """:param forget: is given each object and until when (Unix seconds) somebody may want it.

    ``trouble``: what keeps the origin's playlist from being read now. ``ended``: all has been shown, and its time is
    over.
    """

    def __init__(
        self,
        config: Config,
        task: NetworkTask,
        site: Site,
        path: str,
        *,
        origin: Origin,
        catalogue: Catalogue,
        devices: Devices,
        courier: Courier,
        clock: Clock,
        forget: Callable[[str, str, int], None],
    ) -> None:
        self.site = site
        self.trouble: str | None = None
        self.ended = False
        self._config = config
        self._task = task
        self._path = path
        self._origin = origin
        self._catalogue = catalogue
        self._devices = devices
        self._courier = courier
        self._clock = clock
        self._forget = forget
        self._windows: dict[str, Window] = {}
        self._texts: dict[str, tuple[float, str | None]] = {}
        self._pulls: set[asyncio.Task[None]] = set()
        self._waiting = 0

    def carries(self, site: str, path: str) -> bool:
        """Whether ``path`` is one of its playlists of segments, or may be, as long as that is not known."""
        return site == self.site.name and (path in self._windows if self._windows else path == self._path)

    async def run(self) -> None:
        """Until the stream is over, or its task."""
        try:
            paths = await self._media_paths()
            async with asyncio.TaskGroup() as follows:
                for path in paths:
                    self._windows[path] = Window(self._config.live_window_s, self._is_below)
                    follows.create_task(self._follow(path, self._windows[path]), name=f"live {path}"[:128])
        except asyncio.CancelledError:
            for pull in self._pulls:
                pull.cancel()
            raise
        finally:
            await asyncio.gather(*self._pulls, return_exceptions=True)
        self.ended = self._task.is_open

    def _is_below(self, url: str) -> bool:
        return path_below(self.site.origin, url) is not None

    async def _media_paths(self) -> list[str]:
        """Of the playlist itself, or of those that it names."""
        while self._task.is_open:
            try:
                fetched = await fetch_playlist(self._origin, self.site, self._path)
            except (ApiProblem, NotPlayable) as error:
                self._note(error)
            else:
                if fetched is None or not fetched.playlist.is_multivariant:
                    return [self._path]
                self._note(None)
                return playlists_below(self.site, fetched.playlist)[: self._config.live_playlists_max]
            await asyncio.sleep(self._config.live_retry_s)
        return []

    def _note(self, error: ApiProblem | NotPlayable | None) -> None:
        why = None
        if error is not None:
            why = error.detail if isinstance(error, NotPlayable) else error.problem.detail or error.problem.title
        if why != self.trouble:
            _log.info("live stream %s of site %s: %s", self._path, self.site.name, why or "the origin gives it again")
            self.trouble = why

    # -------------------------------------------------------------- from the origin

    async def _follow(self, path: str, window: Window) -> None:
        known: Validators | None = None
        over_at: float | None = None
        while self._task.is_open:
            try:
                fetched = await fetch_playlist(self._origin, self.site, path, known)
            except (ApiProblem, NotPlayable) as error:
                self._note(error)
            else:
                self._note(None)
                if fetched is not None:
                    # By a second's precision a playlist that has just grown looks unchanged.
                    known = Validators(fetched.validators.etag) if fetched.validators.etag else None
                    for held in window.take(fetched.playlist, self._clock.monotonic()):
                        self._begin_pull(path, window, held)
            if window.playlist is not None and window.playlist.ended:
                over_at = over_at or self._clock.monotonic() + window.hold_s
                if self._clock.monotonic() >= over_at:
                    return
            await asyncio.sleep(window.poll_s)

    def _begin_pull(self, path: str, window: Window, held: Held) -> None:
        if len(self._pulls) >= PULLS_MAX:
            held.failed = True
            return
        name = f"segment {held.segment.sequence} of {path}"[:128]
        pull = asyncio.create_task(self._pull(window, held), name=name)
        self._pulls.add(pull)
        pull.add_done_callback(self._pulls.discard)

    async def _pull(self, window: Window, held: Held) -> None:
        segment = held.segment
        path = path_below(self.site.origin, segment.url)
        assert path is not None, "only such ones are carried"
        for _ in range(PULL_ATTEMPTS):
            try:
                async with self._origin.fetch(self.site.origin, segment.url) as file:
                    publication = Publication(
                        self._task.publisher, last_segment(path), file.media_type, replicas=0, mirrored=True
                    )
                    pieces = _bounded(file, self._config.segment_bytes_max)
                    published, _new = await self._catalogue.publish(pieces, publication, file.size)
            except (ApiProblem, OSError, IntegrityError) as error:
                _log.info("segment %s of site %s was not pulled: %s", path, self.site.name, error)
                await asyncio.sleep(window.poll_s)
                continue
            until = self._clock.now() + round(window.hold_s)
            self._forget(published.object_id, self._task.publisher, until)
            held.object_id, held.pulled_at = published.object_id, self._clock.monotonic()
            await self._courier.deliver(self._task, Parcel(published, until), segment.sequence, window.poll_s)
            return
        held.failed = True

    # -------------------------------------------------------------- to players

    async def text(self, path: str) -> str | None:
        """The playlist at ``path`` as players may see it now; None when that is nothing yet."""
        if self._waiting >= WAITING_MAX:
            return self._text_now(path)
        self._waiting += 1
        try:
            async with asyncio.timeout(self._config.live_wait_s_max):
                while self.carries(self.site.name, path):
                    text = self._text_now(path)
                    if text is not None:
                        return text
                    await asyncio.sleep(TEXT_S)  # time itself may make it ready
        except TimeoutError:
            pass
        finally:
            self._waiting -= 1
        return None

    def _text_now(self, path: str) -> str | None:
        window = self._windows.get(path)
        if window is None:
            return None
        now = self._clock.monotonic()
        made_at, text = self._texts.get(path, (0.0, None))
        if text is None or now >= made_at + TEXT_S:
            text = self._written(window, now)
            self._texts[path] = (now, text)
        return text

    def _written(self, window: Window, now: float) -> str | None:
        if window.playlist is None:
            return None
        enough = max(1, len(self._courier.carriers(self._task)) // 2)
        count = window.shown(now, lambda object_id: len(self._devices.holder_ids(object_id)) >= enough)
        if not count:
            return None
        elsewhere, objects = through(self.site), window.objects()

        def locate(link: Link) -> str:
            object_id = objects.get(link.url) if link.use is Use.SEGMENT else None
            if object_id is None:
                return elsewhere(link)
            return f"/o/{object_id}/{quoted(last_segment(path_below(self.site.origin, link.url) or ''))}"

        return window.playlist.written(locate, count)


async def _bounded(file: OriginFile, bytes_max: int) -> AsyncIterator[bytes]:
    """:raises ApiProblem: 413 when the segment is larger: devices hold it in memory."""
    size = 0
    async for piece in file.pieces():
        size += len(piece)
        if max(size, file.size or 0) > bytes_max:
            raise refusal(413, "too-large", "The segment is too large", f"a live segment has at most {bytes_max} bytes")
        yield piece
