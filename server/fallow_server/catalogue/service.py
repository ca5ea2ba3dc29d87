"""Objects and sites over HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Protocol

from aiohttp import ClientConnectionError, web
from fallow_wire.encoding import is_hex
from fallow_wire.fields import text
from fallow_wire.limits import CHUNK_BYTES

from ..clock import Clock
from ..database import Database
from ..http import Api, ApiProblem, Role, json_response, principal, record_body, refusal
from ..signing import SigningKeys
from .blobs import Blobs
from .config import Config
from .mirror import Mirror
from .names import (
    ORIGIN_CHARS_MAX,
    clean_origin,
    clean_path,
    is_site_name,
    last_segment,
    media_type,
    name_fault,
    path_below,
    quoted,
)
from .objects import Catalogue, Publication, PublishedObject
from .origin import Origin
from .sites import Site, Sites

PAGE_OBJECTS_MAX = 1000
PLAYLIST_TYPE = "application/vnd.apple.mpegurl"
_ASK_AGAIN = {"Cache-Control": "no-store"}
"""Where a path leads may change by the minute, so no cache may keep it."""


@dataclass(frozen=True, slots=True)
class PullRequest:
    """``POST /v1/objects`` without a name in the address."""

    origin_url: Annotated[str, text(2048, 8)]
    name: Annotated[str | None, text(255, 1)] = None


@dataclass(frozen=True, slots=True)
class SiteRequest:
    name: Annotated[str, text(64, 1)]
    origin: Annotated[str, text(ORIGIN_CHARS_MAX, 8)]


class Insight(Protocol):
    """What the publisher is told of an object beyond the catalogue: copies on devices, and whether escrow is there."""

    def replicas_of(self, object_id: str) -> int: ...

    async def is_funded(self, publisher: str) -> bool: ...


class PlaylistSource(Protocol):
    """What of a site is a playlist of a video: it is written anew for players, see :mod:`fallow_server.streaming`."""

    def is_playlist(self, path: str) -> bool: ...

    async def text(self, site: Site, path: str) -> str | None:
        """None when players are to ask the origin."""


class CatalogueService:
    """The catalogue's routes, and the owner of its collaborators.

    :param directory: the state directory; bytes go to ``blobs`` in it.
    :param public_url: how this server is reached, without a trailing slash.
    """

    def __init__(
        self, config: Config, database: Database, keys: SigningKeys, clock: Clock, directory: Path, public_url: str
    ) -> None:
        self._config = config
        self._public_url = public_url.rstrip("/")
        self.blobs = Blobs(directory / "blobs")
        self.catalogue = Catalogue(config, database, self.blobs, keys, clock)
        self.sites = Sites(config, database, clock)
        self.origin = Origin(config)
        self.mirror = Mirror(config, self.catalogue, self.sites, self.origin, clock)
        self.insight: Insight | None = None
        self.playlists: PlaylistSource | None = None

    async def start(self) -> None:
        await self.catalogue.start()
        await self.origin.start()

    async def close(self) -> None:
        await self.mirror.close()
        await self.origin.close()
        self.blobs.close()

    def add_routes(self, api: Api) -> None:
        publisher = Role.PUBLISHER
        api.add("POST", "/v1/objects", self.post_object, publisher, body_bytes_max=None)
        api.add("GET", "/v1/objects", self.get_objects, publisher)
        api.add("GET", "/v1/objects/{id}", self.get_object, publisher)
        api.add("DELETE", "/v1/objects/{id}", self.delete_object, publisher)
        api.add("POST", "/v1/sites", self.post_site, publisher)
        api.add("GET", "/v1/sites", self.get_sites, publisher)
        api.add("DELETE", "/v1/sites/{name}", self.delete_site, publisher)
        api.add("GET", "/v1/manifests/{id}", self.get_manifest, Role.ANYONE, cross_origin=True)
        for method in ("GET", "HEAD"):
            api.add(method, "/s/{name}/{path:.*}", self.get_mirrored, Role.ANYONE, cross_origin=True)

    # -------------------------------------------------------------- objects

    async def post_object(self, request: web.Request) -> web.Response:
        publisher = principal(request).account
        replicas = self._replicas(request.query.get("replicas"))
        name = request.query.get("name")
        if name is not None:
            _check_name(name)
            publication = Publication(publisher, name, media_type(request.headers.get("Content-Type")), replicas)
            published, new = await self.catalogue.publish(_body(request), publication, request.content_length)
        elif request.content_type == "application/json":
            published, new = await self._pull(await record_body(request, PullRequest), publisher, replicas)
        else:
            raise refusal(
                400, "name-missing", "The object needs a name", remedy="Send the bytes to /v1/objects?name=<name>."
            )
        return json_response(self._describe(published), status=201 if new else 200)

    async def _pull(self, wanted: PullRequest, publisher: str, replicas: int) -> tuple[PublishedObject, bool]:
        site = await self.sites.above(publisher, wanted.origin_url)
        if site is None:
            raise refusal(
                400, "not-below-site", "The address is not below a site of yours",
                remedy="Register its origin with POST /v1/sites first. Query strings are not taken.",
            )  # fmt: skip
        name = wanted.name or last_segment(path_below(site.origin, wanted.origin_url) or "")
        _check_name(name)
        async with self.origin.fetch(site.origin, wanted.origin_url) as file:
            publication = Publication(publisher, name, file.media_type, replicas)
            return await self.catalogue.publish(file.pieces(), publication, file.size)

    def _replicas(self, asked: str | None) -> int:
        if asked is None:
            return self._config.replicas
        if not asked.isascii() or not asked.isdigit() or int(asked[:6]) > self._config.replicas_max:
            raise refusal(400, "malformed", "replicas is a number", f"from 0 to {self._config.replicas_max}")
        return int(asked)

    async def get_objects(self, request: web.Request) -> web.Response:
        """Pages of at most 1000 by ``?after=<id>&limit=``."""
        after = request.query.get("after")
        limit = request.query.get("limit", str(PAGE_OBJECTS_MAX))
        if (after is not None and not is_hex(after, 64)) or not limit.isascii() or not limit.isdigit():
            raise refusal(400, "malformed", "after is an object id and limit a number")
        count = max(1, min(PAGE_OBJECTS_MAX, int(limit[:6])))
        found = await self.catalogue.listed(principal(request).account, after, count)
        return json_response([self._describe(published) for published in found])

    async def get_object(self, request: web.Request) -> web.Response:
        publisher = principal(request).account
        found = await self.catalogue.own(object_id_of(request), publisher)
        if found is None:
            raise not_found()
        described = self._describe(found)
        if self.insight is not None:
            described["replicas"] = self.insight.replicas_of(found.object_id)
            described["funded"] = await self.insight.is_funded(publisher)
        return json_response(described)

    async def delete_object(self, request: web.Request) -> web.Response:
        if not await self.catalogue.withdraw(object_id_of(request), principal(request).account):
            raise not_found()
        return web.Response(status=204)

    async def get_manifest(self, request: web.Request) -> web.Response:
        object_id = object_id_of(request)
        manifest = await self.catalogue.manifest(object_id)
        if manifest is None:
            raise not_found()
        return web.Response(
            text=manifest,
            content_type="application/jwt",
            headers={"Cache-Control": "public, max-age=86400"},
        )

    def _describe(self, published: PublishedObject) -> dict[str, Any]:
        return {
            "id": published.object_id,
            "name": published.name,
            "size": published.size,
            "type": published.type,
            "chunks": -(-published.size // CHUNK_BYTES),
            "url": f"{self._public_url}/o/{published.object_id}/{quoted(published.name)}",
            "replicas_wanted": published.replicas,
            "created_at": published.created_at,
        }

    # -------------------------------------------------------------- sites

    async def post_site(self, request: web.Request) -> web.Response:
        asked = await record_body(request, SiteRequest)
        origin = clean_origin(asked.origin)
        if not is_site_name(asked.name):
            raise refusal(400, "malformed", "A site's name is made of a-z, 0-9, dots and hyphens", "at most 64")
        if origin is None:
            raise refusal(
                400, "malformed", "The origin is not an address that can be mirrored",
                remedy="Give http(s)://host[:port]/path without user, query or fragment.",
            )  # fmt: skip
        if (self._public_url + "/").startswith(origin) or origin.startswith(self._public_url + "/"):
            raise refusal(400, "own-origin", "This server cannot be its own origin")
        site, new = await self.sites.add(asked.name, principal(request).account, origin)
        return json_response(self._describe_site(site), status=201 if new else 200)

    async def get_sites(self, request: web.Request) -> web.Response:
        found = await self.sites.listed(principal(request).account)
        return json_response([self._describe_site(site) for site in found])

    async def delete_site(self, request: web.Request) -> web.Response:
        publisher = principal(request).account
        objects = await self.sites.remove(request.match_info["name"], publisher)
        if objects is None:
            raise refusal(404, "not-found", "You have no such site")
        for object_id in objects:
            await self.catalogue.withdraw(object_id, publisher, only_unused_mirrored=True)
        return web.Response(status=204)

    def _describe_site(self, site: Site) -> dict[str, Any]:
        return {
            "name": site.name,
            "origin": site.origin,
            "url": f"{self._public_url}/s/{site.name}/",
            "created_at": site.created_at,
        }

    async def get_mirrored(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        site = await self.sites.find(name)
        if site is None:
            raise refusal(404, "not-found", "There is no such site")
        raw = request.raw_path.partition("?")[0].removeprefix(f"/s/{name}/")
        query = request.rel_url.raw_query_string
        path = clean_path(raw)
        if path is None and (raw.rstrip("/") and clean_path(raw.rstrip("/")) is None):
            raise refusal(400, "bad-path", "This path cannot be asked of an origin", remedy="Leave out dot segments.")
        object_id = None
        if path is not None and not query:
            if self.playlists is not None and self.playlists.is_playlist(path):
                text = await self.playlists.text(site, path)
                if text is not None:
                    return web.Response(text=text, content_type=PLAYLIST_TYPE, headers=_ASK_AGAIN)
            else:
                object_id = await self.mirror.object_of(site, path)
        if path is not None and object_id is not None:
            location = f"{self._public_url}/o/{object_id}/{quoted(last_segment(path))}"
        else:
            location = site.origin + raw + (f"?{query}" if query else "")
        return web.Response(status=302, headers={"Location": location, **_ASK_AGAIN})


def object_id_of(request: web.Request) -> str:
    """The object id in the path. :raises ApiProblem: 404 when it is not one, for then nothing has it."""
    object_id = request.match_info["id"]
    if not is_hex(object_id, 64):
        raise not_found()
    return object_id


def not_found() -> ApiProblem:
    return refusal(404, "not-found", "There is no such object here", remedy="Check the id; it may have been deleted.")


def _check_name(name: str) -> None:
    fault = name_fault(name)
    if fault is not None:
        raise refusal(400, "bad-name", "The object's name cannot be used", fault)


async def _body(request: web.Request) -> AsyncIterator[bytes]:
    try:
        async for piece in request.content.iter_any():
            yield piece
    except (ClientConnectionError, ConnectionError):
        # Nobody reads this answer; what matters is that the upload ends here and leaves nothing.
        raise refusal(400, "cut-short", "The client went away during the upload") from None
