"""Pulling from a publisher's origin: only below a registered site, only from public addresses, never a cut file."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from urllib.parse import urljoin, urlsplit

import aiohttp
from aiohttp.resolver import ThreadedResolver
from yarl import URL

from ..http import ApiProblem, refusal
from .addresses import AddressRefused, GuardedResolver, refused_literal
from .config import Config
from .names import media_type, path_below

REDIRECTS_MAX = 3
PIECE_BYTES = 256 * 1024
CONNECT_S_MAX = 10
CONNECTIONS_MAX = 16
VALIDATOR_CHARS_MAX = 256

_MAX_AGE = re.compile(r"(?:^|[,\s])(s-maxage|max-age)=\"?([0-9]{1,9})", re.IGNORECASE)
_NOT_STORED = re.compile(r"(?:^|[,\s])(no-store|private)\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Validators:
    """What the origin said a file's version is, for asking whether it is still that."""

    etag: str | None = None
    last_modified: str | None = None


@dataclass(frozen=True, slots=True)
class OriginFile:
    """The origin's answer. ``unchanged``: 304, there are no bytes. ``max_age_s``: as it said, or None."""

    unchanged: bool
    media_type: str
    size: int | None
    validators: Validators
    max_age_s: int | None
    storable: bool
    response: aiohttp.ClientResponse

    def pieces(self) -> AsyncIterator[bytes]:
        return _pieces(self.response)


async def _pieces(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    try:
        async for piece in response.content.iter_chunked(PIECE_BYTES):
            yield piece
    except (aiohttp.ClientError, TimeoutError) as error:
        raise _failed(str(error) or type(error).__name__) from None


class Origin:
    """Fetches from origins. :meth:`start` and :meth:`close` frame its use."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._session: aiohttp.ClientSession | None = None

    async def start(self) -> None:
        inner = ThreadedResolver()
        connector = aiohttp.TCPConnector(
            resolver=inner if self._config.allow_private_addresses else GuardedResolver(inner),
            use_dns_cache=False,
            limit=CONNECTIONS_MAX,
        )
        timeout = aiohttp.ClientTimeout(
            total=self._config.pull_s_max, sock_connect=CONNECT_S_MAX, sock_read=self._config.stall_s_max
        )
        # Encodings are refused, not undone: an object is the bytes that the origin names, and a bomb stays packed.
        self._session = aiohttp.ClientSession(
            connector=connector,
            timeout=timeout,
            trust_env=False,
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"Accept-Encoding": "identity", "User-Agent": "fallow"},
            skip_auto_headers=("Accept",),
        )

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    @asynccontextmanager
    async def fetch(self, site_origin: str, url: str, known: Validators | None = None) -> AsyncIterator[OriginFile]:
        """Ask for ``url``, which must be below ``site_origin``, and follow redirects that stay below it.

        :raises ApiProblem: 400 for an address that may not be asked, 502 for what the origin did.
        """
        assert self._session is not None, "start() comes first"
        headers = {}
        if known is not None and known.etag:
            headers["If-None-Match"] = known.etag
        if known is not None and known.last_modified:
            headers["If-Modified-Since"] = known.last_modified
        response = await self._ask(self._session, site_origin, url, headers)
        try:
            yield self._read_head(response, asked=bool(headers))
        finally:
            # Not drained for another request: an origin could go on for hours.
            response.close()

    async def _ask(
        self, session: aiohttp.ClientSession, site_origin: str, url: str, headers: dict[str, str]
    ) -> aiohttp.ClientResponse:
        for _ in range(REDIRECTS_MAX + 1):
            if path_below(site_origin, url) is None:
                raise refusal(
                    400, "not-below-site", "The address is not below a registered site", url[:256],
                    remedy="Register its origin with POST /v1/sites first; redirects must stay below it too.",
                )  # fmt: skip
            if not self._config.allow_private_addresses and refused_literal(urlsplit(url).hostname or ""):
                raise _private()
            try:
                response = await session.get(URL(url, encoded=True), headers=headers, allow_redirects=False)
            except aiohttp.ClientConnectorError as error:
                if isinstance(error.os_error, AddressRefused):
                    raise _private() from None
                raise _failed(str(error)) from None
            except (aiohttp.ClientError, TimeoutError, ValueError) as error:
                raise _failed(str(error) or type(error).__name__) from None
            if response.status not in (301, 302, 303, 307, 308):
                return response
            target = response.headers.get("Location", "")
            response.close()
            try:
                url = urljoin(url, target)
            except ValueError:
                raise _failed("a redirect leads to what is no address") from None
        raise _failed(f"more than {REDIRECTS_MAX} redirects")

    def _read_head(self, response: aiohttp.ClientResponse, *, asked: bool) -> OriginFile:
        unchanged = asked and response.status == 304
        if response.status != 200 and not unchanged:
            raise _failed(f"the origin answered {response.status}")
        if response.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise _failed("the origin sends an encoding that was not asked for")
        chunked = "chunked" in response.headers.get("Transfer-Encoding", "").lower()
        if not unchanged and response.content_length is None and not chunked:
            raise _failed("the origin tells neither a length nor chunks: a cut file would look whole")
        cache = response.headers.get("Cache-Control", "")
        ages = {name.lower(): int(value) for name, value in _MAX_AGE.findall(cache)}
        return OriginFile(
            unchanged,
            media_type(response.headers.get("Content-Type")),
            response.content_length,
            Validators(_short(response, "ETag"), _short(response, "Last-Modified", 64)),
            ages.get("s-maxage", ages.get("max-age")),
            not _NOT_STORED.search(cache) and response.headers.get("Vary", "").strip() != "*",
            response,
        )


def _short(response: aiohttp.ClientResponse, name: str, chars_max: int = VALIDATOR_CHARS_MAX) -> str | None:
    value = response.headers.get(name)
    return value if value and len(value) <= chars_max else None


def _private() -> ApiProblem:
    return refusal(
        400, "address-refused", "The origin's address is not public",
        remedy="Origins must be on the public internet, unless the operator allows private addresses.",
    )  # fmt: skip


def _failed(detail: str) -> ApiProblem:
    return refusal(
        502, "origin-failed", "The origin did not give the file", detail[:256], fault="upstream",
        remedy="Check that the address works without a login, then try again.",
    )  # fmt: skip
