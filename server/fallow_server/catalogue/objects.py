"""Who publishes what: the rows of the catalogue, and how bytes become an object."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from fallow_wire.errors import TooLarge
from fallow_wire.jws import Kind, sign
from sqlalchemy import delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from ..clock import Clock
from ..database import Database
from ..http import ApiProblem, refusal
from ..signing import SigningKeys
from . import tables
from .blobs import Blobs, Finished, Incoming
from .config import Config

SLICE_BYTES = 2**20
"""Received bytes go to the disk and through the hashes in slices of this size."""
CACHE_OBJECTS_MAX = 10_000
CACHE_S = 30
"""Other processes may share the database; what they change is seen after this time at most."""
QUERY_IDS_MAX = 500
"""Ids in one query; SQLite takes 999 parameters everywhere."""

_HELD = (
    "SELECT blobs.type, blobs.size, sha256, publisher, name FROM blobs JOIN objects USING (object_id)"
    " WHERE object_id = ? ORDER BY objects.created_at, publisher"
)

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class HeldObject:
    """An object whose bytes are here. ``names``: each publisher's name for it, the earliest publisher first."""

    object_id: str
    type: str
    size: int
    sha256: str
    names: tuple[tuple[str, str], ...]

    def publisher_of(self, name: str) -> str:
        """Who pays for a request under ``name``: whoever named it so, else who was first."""
        return next((publisher for publisher, known in self.names if known == name), self.names[0][0])


@dataclass(frozen=True, slots=True)
class PublishedObject:
    """One publisher's object. ``replicas``: copies on devices that are wanted."""

    object_id: str
    publisher: str
    name: str
    type: str
    size: int
    replicas: int
    created_at: int


@dataclass(frozen=True, slots=True)
class Publication:
    """What is published, but for the bytes. ``mirrored``: by a mirror, which may let go of it again."""

    publisher: str
    name: str
    media_type: str
    replicas: int
    mirrored: bool = False


class CatalogueObserver(Protocol):
    """Told after the database has it."""

    async def published(self, object_id: str, publisher: str, size_bytes: int, replicas: int) -> None: ...

    async def removed(self, object_id: str, publisher: str) -> None:
        """Nobody publishes it any longer; ``publisher`` was the last."""


class Catalogue:
    """Objects, their manifests and bytes."""

    def __init__(self, config: Config, database: Database, blobs: Blobs, keys: SigningKeys, clock: Clock) -> None:
        self.config = config
        self.blobs = blobs
        self.observers: list[CatalogueObserver] = []
        self._database = database
        self._keys = keys
        self._clock = clock
        # Held while a file and its row appear or go together.
        self._changing = asyncio.Lock()
        self._cache: OrderedDict[str, tuple[float, HeldObject]] = OrderedDict()
        self._arriving: dict[str, int] = {}
        self._uploads = 0

    async def start(self) -> None:
        """Remove what a crash left: unfinished uploads, and files without a row."""
        await self.blobs.run(self.blobs.open)
        on_disk = await self.blobs.run(lambda: list(self.blobs.held()))
        known = await self.known(on_disk)
        for object_id in on_disk:
            if object_id not in known:
                _log.warning("object %s has bytes and no row; its file is removed", object_id)
                await self.blobs.run(lambda object_id=object_id: self.blobs.remove(object_id))  # type: ignore[misc]

    # -------------------------------------------------------------- reading

    async def find(self, object_id: str) -> HeldObject | None:
        """The object, or None when nobody publishes it here."""
        now = self._clock.monotonic()
        cached = self._cache.get(object_id)
        if cached is not None and now - cached[0] < CACHE_S:
            self._cache.move_to_end(object_id)
            return cached[1]
        rows = await self._database.ask(lambda rows: rows.all(_HELD, (object_id,)))
        if not rows:
            return None
        kind, size, sha256 = rows[0][:3]
        found = HeldObject(object_id, kind, size, sha256, tuple((publisher, name) for *_, publisher, name in rows))
        self._cache[object_id] = (now, found)
        if len(self._cache) > CACHE_OBJECTS_MAX:
            self._cache.popitem(last=False)
        return found

    async def manifest(self, object_id: str) -> str | None:
        """The signed manifest as it was made."""
        async with self._database.read() as connection:
            query = select(tables.blobs.c.manifest).where(tables.blobs.c.object_id == object_id)
            found: str | None = (await connection.execute(query)).scalar_one_or_none()
            return found

    async def listed(self, publisher: str, after: str | None, limit: int) -> list[PublishedObject]:
        """The publisher's objects in the order of their ids, those after ``after``."""
        query = _published().where(tables.objects.c.publisher == publisher)
        if after is not None:
            query = query.where(tables.objects.c.object_id > after)
        async with self._database.read() as connection:
            rows = await connection.execute(query.order_by(tables.objects.c.object_id).limit(limit))
            return [PublishedObject(**row) for row in rows.mappings()]

    async def own(self, object_id: str, publisher: str) -> PublishedObject | None:
        query = _published().where(tables.objects.c.object_id == object_id, tables.objects.c.publisher == publisher)
        async with self._database.read() as connection:
            row = (await connection.execute(query)).mappings().one_or_none()
            return None if row is None else PublishedObject(**row)

    async def wanted(self) -> list[PublishedObject]:
        """Every object of which copies are wanted; once, with the publisher who wants the most."""
        query = _published().where(tables.objects.c.replicas > 0).order_by(tables.objects.c.replicas)
        async with self._database.read() as connection:
            rows = (await connection.execute(query)).mappings().all()
        return list({row["object_id"]: PublishedObject(**row) for row in rows}.values())

    async def replicas(self, object_ids: Iterable[str]) -> dict[str, int]:
        """Of those of ``object_ids`` of which copies are wanted: how many, by the publisher who wants the most."""
        ids = list(object_ids)
        own = tables.objects.c
        found: dict[str, int] = {}
        async with self._database.read() as connection:
            for start in range(0, len(ids), QUERY_IDS_MAX):
                part = ids[start : start + QUERY_IDS_MAX]
                query = (
                    select(own.object_id, func.max(own.replicas))
                    .where(own.object_id.in_(part), own.replicas > 0)
                    .group_by(own.object_id)
                )
                found.update((object_id, most) for object_id, most in await connection.execute(query))
        return found

    async def unused_mirrored(self) -> list[tuple[str, str]]:
        """Object and publisher of what was mirrored and no path stands for."""
        own = tables.objects.c
        paths = select(tables.mirrored.c.path).where(
            tables.mirrored.c.object_id == own.object_id, tables.mirrored.c.publisher == own.publisher
        )
        async with self._database.read() as connection:
            rows = await connection.execute(
                select(own.object_id, own.publisher).where(own.mirrored.is_(True), ~paths.exists())
            )
            return [(row.object_id, row.publisher) for row in rows]

    async def known(self, object_ids: Iterable[str]) -> set[str]:
        """Those of ``object_ids`` that somebody publishes."""
        ids = list(object_ids)
        found: set[str] = set()
        async with self._database.read() as connection:
            for start in range(0, len(ids), QUERY_IDS_MAX):
                part = ids[start : start + QUERY_IDS_MAX]
                query = select(tables.objects.c.object_id).where(tables.objects.c.object_id.in_(part))
                found.update((await connection.execute(query)).scalars())
        return found

    # -------------------------------------------------------------- changing

    async def want(self, object_id: str, publisher: str, replicas: int) -> None:
        """Remember how many copies the publisher wants."""
        async with self._database.write() as connection:
            await connection.execute(
                update(tables.objects)
                .where(tables.objects.c.object_id == object_id, tables.objects.c.publisher == publisher)
                .values(replicas=replicas)
            )

    async def publish(
        self, body: AsyncIterator[bytes], publication: Publication, declared_bytes: int | None
    ) -> tuple[PublishedObject, bool]:
        """Take an object in; the bytes pass through about 2 MiB of memory.

        :param body: pieces of any size. What it raises is passed on, and nothing is left behind.
        :param declared_bytes: as the sender announced, or None.
        :returns: the object, and whether it is new for this publisher.
        :raises ApiProblem: over a limit, too slow, or shorter than declared.
        """
        if self._uploads >= self.config.uploads_max:
            raise refusal(
                503, "too-many-uploads", "Too many uploads are under way", fault="here",
                remedy="Try again in a minute.", headers={"Retry-After": "60"},
            )  # fmt: skip
        self._uploads += 1
        try:
            return await self._take_in(body, publication, declared_bytes)
        finally:
            self._uploads -= 1

    async def _take_in(
        self, body: AsyncIterator[bytes], publication: Publication, declared_bytes: int | None
    ) -> tuple[PublishedObject, bool]:
        publisher = publication.publisher
        async with self._database.read() as connection:
            used = await _used_bytes(connection, publisher)
        self._check_room(publisher, used, declared_bytes or 0)
        incoming = await self.blobs.run(lambda: self.blobs.incoming(publication.media_type))
        counted = 0
        try:
            async for piece in _slices(body, self.config.stall_s_max):
                counted += len(piece)
                self._arriving[publisher] = self._arriving.get(publisher, 0) + len(piece)
                self._check_room(publisher, used, 0, incoming.size + len(piece))
                await self.blobs.run(lambda piece=piece: incoming.write(piece))  # type: ignore[misc]
            if declared_bytes is not None and counted != declared_bytes:
                raise refusal(400, "cut-short", "The body is shorter than announced", remedy="Send it again.")
            finished = await self.blobs.run(incoming.finish)
            return await self._commit(incoming, finished, publication)
        except TooLarge as error:
            raise _too_large(error.detail) from None
        finally:
            left = self._arriving.get(publisher, 0) - counted
            if left > 0:
                self._arriving[publisher] = left
            else:
                self._arriving.pop(publisher, None)
            incoming.discard()

    def _check_room(self, publisher: str, used: int, declared_bytes: int, size: int = 0) -> None:
        if max(size, declared_bytes) > self.config.object_bytes_max:
            raise _too_large(f"an object has at most {self.config.object_bytes_max} bytes here")
        if used + self._arriving.get(publisher, 0) + declared_bytes > self.config.publisher_bytes_max:
            raise self._over_quota()
        if self.blobs.free_bytes() - declared_bytes < self.config.disk_free_bytes_min:
            raise refusal(
                507, "disk-full", "The server has no room for this", fault="here",
                remedy="The operator must free or add disk space.",
            )  # fmt: skip

    def _over_quota(self) -> ApiProblem:
        return refusal(
            413, "quota-exceeded", "Your objects take all the room you have here",
            f"the limit is {self.config.publisher_bytes_max} bytes",
            remedy="Delete objects that are no longer needed, or ask the operator for more room.",
        )  # fmt: skip

    async def _commit(
        self, incoming: Incoming, finished: Finished, publication: Publication
    ) -> tuple[PublishedObject, bool]:
        object_id, size, now = finished.object_id, finished.manifest.size, self._clock.now()
        key = (tables.objects.c.object_id == object_id, tables.objects.c.publisher == publication.publisher)
        async with self._changing:
            async with self._database.read() as connection:
                known = await _exists(connection, tables.blobs.c.object_id == object_id)
            token = ""
            if not known:
                token = await self.blobs.run(lambda: sign(Kind.MANIFEST, finished.manifest, self._keys.current))
            if not known or not self.blobs.path(object_id).exists():
                # The file first: a row must never name bytes that are not there. A crash in between is swept at start.
                await self.blobs.run(lambda: self.blobs.keep(incoming, object_id))
            try:
                async with self._database.write() as connection:
                    had = (await connection.execute(select(tables.objects).where(*key))).mappings().one_or_none()
                    if had is None:
                        used = await _used_bytes(connection, publication.publisher)
                        if used + size > self.config.publisher_bytes_max:
                            raise self._over_quota()
                    if not known:
                        await connection.execute(
                            insert(tables.blobs).values(
                                object_id=object_id,
                                type=finished.manifest.type,
                                size=size,
                                sha256=finished.sha256,
                                manifest=token,
                                created_at=now,
                            )
                        )
                    values = _merged(had, publication)
                    if had is None:
                        keys = {"object_id": object_id, "publisher": publication.publisher}
                        await connection.execute(
                            insert(tables.objects).values(**keys, **values, size=size, created_at=now)
                        )
                    else:
                        await connection.execute(update(tables.objects).where(*key).values(**values))
            except BaseException:
                if not known:
                    await self.blobs.run(lambda: self.blobs.remove(object_id))
                raise
            self._cache.pop(object_id, None)
        published = PublishedObject(
            object_id,
            publication.publisher,
            values["name"],
            finished.manifest.type,
            size,
            values["replicas"],
            now if had is None else had["created_at"],
        )
        for observer in self.observers:
            await observer.published(object_id, published.publisher, size, published.replicas)
        return published, had is None

    async def withdraw(self, object_id: str, publisher: str, *, only_unused_mirrored: bool = False) -> bool:
        """The publisher's object goes; with the last publisher the bytes go too, here and on devices.

        :param only_unused_mirrored: leave it when it was uploaded, or when a mirrored path still stands for it.
        :returns: whether there was something to withdraw.
        """
        key = (tables.objects.c.object_id == object_id, tables.objects.c.publisher == publisher)
        async with self._changing:
            async with self._database.write() as connection:
                query = delete(tables.objects).where(*key)
                if only_unused_mirrored:
                    paths = select(tables.mirrored.c.path).where(
                        tables.mirrored.c.object_id == object_id, tables.mirrored.c.publisher == publisher
                    )
                    query = query.where(tables.objects.c.mirrored.is_(True), ~paths.exists())
                if (await connection.execute(query)).rowcount == 0:
                    return False
                last = not await _exists(connection, tables.objects.c.object_id == object_id)
                if last:
                    await connection.execute(delete(tables.blobs).where(tables.blobs.c.object_id == object_id))
            self._cache.pop(object_id, None)
            if last:
                await self.blobs.run(lambda: self.blobs.remove(object_id))
        if last:
            for observer in self.observers:
                await observer.removed(object_id, publisher)
        return True


def _merged(had: Mapping[Any, Any] | None, publication: Publication) -> dict[str, Any]:
    """The row of an object, new or published again: a mirror never renames or takes over what was uploaded."""
    if had is not None and publication.mirrored and not had["mirrored"]:
        return {"name": had["name"], "replicas": had["replicas"], "mirrored": False}
    return {"name": publication.name, "replicas": publication.replicas, "mirrored": publication.mirrored}


def _published() -> Any:
    own, blob = tables.objects.c, tables.blobs.c
    return select(own.object_id, own.publisher, own.name, blob.type, own.size, own.replicas, own.created_at).join(
        tables.blobs, blob.object_id == own.object_id
    )


async def _exists(connection: AsyncConnection, condition: Any) -> bool:
    return (await connection.execute(select(1).where(condition).limit(1))).one_or_none() is not None


async def _used_bytes(connection: AsyncConnection, publisher: str) -> int:
    query = select(func.coalesce(func.sum(tables.objects.c.size), 0)).where(tables.objects.c.publisher == publisher)
    return int((await connection.execute(query)).scalar_one())


async def _slices(body: AsyncIterator[bytes], stall_s: float) -> AsyncIterator[bytearray]:
    """The pieces of ``body`` gathered to slices of 1 MiB.

    :raises ApiProblem: when the next piece does not come within ``stall_s``.
    """
    gathered = bytearray()
    pieces = aiter(body)
    while True:
        try:
            async with asyncio.timeout(stall_s):
                piece = await anext(pieces)
        except StopAsyncIteration:
            break
        except TimeoutError:
            raise refusal(408, "too-slow", "The bytes stopped coming", f"nothing for {stall_s:g} s") from None
        gathered += piece
        if len(gathered) >= SLICE_BYTES:
            yield gathered
            gathered = bytearray()
    if gathered:
        yield gathered


def _too_large(detail: str) -> ApiProblem:
    return refusal(413, "too-large", "The object is too large", detail, remedy="Publish it in parts.")
