"""Registered origins, and which of their paths are held."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from ..clock import Clock
from ..database import Database
from ..http import refusal
from . import tables
from .config import Config
from .names import path_below
from .origin import Validators


@dataclass(frozen=True, slots=True)
class Site:
    """An origin that may be pulled from: ``http(s)://host[:port]/path/``."""

    name: str
    publisher: str
    origin: str
    created_at: int


@dataclass(frozen=True, slots=True)
class MirroredPath:
    """A path that is held as an object, and until when (Unix seconds) the origin need not be asked."""

    object_id: str
    validators: Validators
    fresh_until: int


class Sites:
    """Rows of sites and mirrored paths."""

    def __init__(self, config: Config, database: Database, clock: Clock) -> None:
        self._config = config
        self._database = database
        self._clock = clock

    async def add(self, name: str, publisher: str, origin: str) -> tuple[Site, bool]:
        """:returns: the site, and whether it is new. :raises ApiProblem: 409 when the name stands for another."""
        had = await self.find(name)
        if had is not None:
            if (had.publisher, had.origin) == (publisher, origin):
                return had, False
            raise refusal(409, "site-exists", "A site of this name exists", remedy="Choose another name.")
        if len(await self.listed(publisher)) >= self._config.sites_max:
            raise refusal(409, "too-many-sites", "You have as many sites as are allowed", remedy="Delete one first.")
        site = Site(name, publisher, origin, self._clock.now())
        try:
            async with self._database.write() as connection:
                await connection.execute(
                    insert(tables.sites).values(
                        name=name, publisher=publisher, origin=origin, created_at=site.created_at
                    )
                )
        except IntegrityError:
            raise refusal(409, "site-exists", "A site of this name exists", remedy="Choose another name.") from None
        return site, True

    async def find(self, name: str) -> Site | None:
        async with self._database.read() as connection:
            query = select(tables.sites).where(tables.sites.c.name == name)
            row = (await connection.execute(query)).mappings().one_or_none()
            return None if row is None else Site(**row)

    async def listed(self, publisher: str) -> list[Site]:
        async with self._database.read() as connection:
            query = select(tables.sites).where(tables.sites.c.publisher == publisher).order_by(tables.sites.c.name)
            return [Site(**row) for row in (await connection.execute(query)).mappings()]

    async def above(self, publisher: str, url: str) -> Site | None:
        """The publisher's own site that ``url`` is below."""
        for site in await self.listed(publisher):
            if path_below(site.origin, url) is not None:
                return site
        return None

    async def remove(self, name: str, publisher: str) -> list[str] | None:
        """Forget a site.

        :returns: the objects that its paths stood for, which may be let go of; None when the publisher has no such
            site.
        """
        async with self._database.write() as connection:
            paths = select(tables.mirrored.c.object_id).where(tables.mirrored.c.site == name).distinct()
            objects = list((await connection.execute(paths)).scalars())
            own = delete(tables.sites).where(tables.sites.c.name == name, tables.sites.c.publisher == publisher)
            return objects if (await connection.execute(own)).rowcount else None

    async def held(self, site: str, path: str) -> MirroredPath | None:
        async with self._database.read() as connection:
            query = select(tables.mirrored).where(tables.mirrored.c.site == site, tables.mirrored.c.path == path)
            row = (await connection.execute(query)).mappings().one_or_none()
        if row is None:
            return None
        return MirroredPath(row["object_id"], Validators(row["etag"], row["last_modified"]), row["fresh_until"])

    async def count(self, site: str) -> int:
        async with self._database.read() as connection:
            query = select(func.count()).select_from(tables.mirrored).where(tables.mirrored.c.site == site)
            return int((await connection.execute(query)).scalar_one())

    async def hold(self, site: Site, path: str, held: MirroredPath) -> str | None:
        """Let ``path`` stand for an object. :returns: the object that it stood for before, when it is another."""
        values = {
            "object_id": held.object_id,
            "publisher": site.publisher,
            "etag": held.validators.etag,
            "last_modified": held.validators.last_modified,
            "fresh_until": held.fresh_until,
        }
        key = (tables.mirrored.c.site == site.name, tables.mirrored.c.path == path)
        async with self._database.write() as connection:
            before = (await connection.execute(select(tables.mirrored.c.object_id).where(*key))).scalar_one_or_none()
            if before is None:
                await connection.execute(insert(tables.mirrored).values(site=site.name, path=path, **values))
            else:
                await connection.execute(update(tables.mirrored).where(*key).values(**values))
        return before if before is not None and before != held.object_id else None

    async def let_go(self, site: str, path: str) -> str | None:
        """Forget one path. :returns: the object that it stood for."""
        key = (tables.mirrored.c.site == site, tables.mirrored.c.path == path)
        async with self._database.write() as connection:
            before = (await connection.execute(select(tables.mirrored.c.object_id).where(*key))).scalar_one_or_none()
            await connection.execute(delete(tables.mirrored).where(*key))
        return before
