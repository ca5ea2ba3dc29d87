"""The pull-through mirror: a site's path leads to an object while it is fresh, and to the origin meanwhile."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict

from sqlalchemy.exc import IntegrityError

from ..clock import Clock
from ..http import ApiProblem
from .config import Config
from .names import last_segment, name_fault
from .objects import Catalogue, Publication
from .origin import Origin, OriginFile
from .sites import MirroredPath, Site, Sites

REFUSED_MAX = 10_000
"""Paths remembered as not worth pulling; the oldest are forgotten first."""

_log = logging.getLogger(__name__)


class Mirror:
    """Each path is pulled by one task at a time; a bounded number waits, and further paths are simply not pulled."""

    def __init__(self, config: Config, catalogue: Catalogue, sites: Sites, origin: Origin, clock: Clock) -> None:
        self._config = config
        self._catalogue = catalogue
        self._sites = sites
        self._origin = origin
        self._clock = clock
        self._slots = asyncio.Semaphore(config.pulls_max)
        self._pulls: dict[tuple[str, str], asyncio.Task[None]] = {}
        self._refused: OrderedDict[tuple[str, str], float] = OrderedDict()

    async def close(self) -> None:
        """Stop the pulls; what they had is discarded."""
        pulls = list(self._pulls.values())
        for pull in pulls:
            pull.cancel()
        await asyncio.gather(*pulls, return_exceptions=True)

    async def idle(self) -> None:
        """Returns when no pull is under way."""
        while self._pulls:
            await asyncio.wait(list(self._pulls.values()))

    async def object_of(self, site: Site, path: str) -> str | None:
        """The object that ``path`` leads to, or None when the consumer is to go to the origin.

        :param path: as :func:`~.names.clean_path` gives it.
        """
        held = await self._sites.held(site.name, path)
        if held is not None and self._clock.now() < held.fresh_until:
            return held.object_id
        self._begin(site, path, held)
        return None

    def _begin(self, site: Site, path: str, held: MirroredPath | None) -> None:
        key = (site.name, path)
        if key in self._pulls or len(self._pulls) >= self._config.pulls_waiting_max:
            return
        refused_until = self._refused.get(key)
        if refused_until is not None and self._clock.monotonic() < refused_until:
            return
        task = asyncio.create_task(self._pull(site, path, held), name=f"pull {site.name}/{path}"[:128])
        self._pulls[key] = task
        task.add_done_callback(lambda _: self._pulls.pop(key, None))

    async def _pull(self, site: Site, path: str, held: MirroredPath | None) -> None:
        key = (site.name, path)
        try:
            async with self._slots:
                await self._bring(site, path, held)
            self._refused.pop(key, None)
        except ApiProblem as error:
            _log.info("%s of site %s is not mirrored: %s", path, site.name, error.problem.detail or error.problem.title)
            self._refuse(key)
            # The origin answered, and does not offer it (any longer): what is held must not outlive it.
            if held is not None and error.problem.type == "origin-failed" and "answered 4" in error.problem.detail:
                await self._forget(site, path)
        except IntegrityError:
            _log.info("site %s or its object went while %s was pulled", site.name, path)
        except OSError as error:
            _log.warning("%s of site %s could not be written: %s", path, site.name, error)
            self._refuse(key)

    def _refuse(self, key: tuple[str, str]) -> None:
        self._refused[key] = self._clock.monotonic() + self._config.mirror_refused_s
        self._refused.move_to_end(key)
        if len(self._refused) > REFUSED_MAX:
            self._refused.popitem(last=False)

    async def _bring(self, site: Site, path: str, held: MirroredPath | None) -> None:
        if held is None and await self._sites.count(site.name) >= self._config.mirror_paths_max:
            self._refuse((site.name, path))
            return
        known = held.validators if held is not None else None
        async with self._origin.fetch(site.origin, site.origin + path, known) as file:
            if held is not None and file.unchanged:
                object_id = held.object_id
            elif not file.storable:
                self._refuse((site.name, path))
                await self._forget(site, path)
                return
            else:
                publication = Publication(
                    site.publisher, _name(path), file.media_type, self._config.replicas, mirrored=True
                )
                published, _ = await self._catalogue.publish(file.pieces(), publication, file.size)
                object_id = published.object_id
            validators = held.validators if held is not None and file.unchanged else file.validators
            fresh_until = self._clock.now() + self._fresh_s(file)
        before = await self._sites.hold(site, path, MirroredPath(object_id, validators, fresh_until))
        if before is not None:
            await self._catalogue.withdraw(before, site.publisher, only_unused_mirrored=True)

    async def _forget(self, site: Site, path: str) -> None:
        before = await self._sites.let_go(site.name, path)
        if before is not None:
            await self._catalogue.withdraw(before, site.publisher, only_unused_mirrored=True)

    def _fresh_s(self, file: OriginFile) -> int:
        if file.max_age_s is None:
            return self._config.mirror_fresh_s
        return min(self._config.mirror_fresh_s_max, max(self._config.mirror_fresh_s_min, file.max_age_s))


def _name(path: str) -> str:
    name = last_segment(path)
    return "file" if name_fault(name) else name
