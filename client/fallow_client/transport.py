"""One HTTP API at one address: JSON in and out, problems as errors, sizes and times bounded."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, TypeVar, cast
from urllib.parse import quote, urlsplit

import aiohttp
from fallow_wire.errors import PeerError
from fallow_wire.fields import decode
from fallow_wire.http import Problem
from fallow_wire.limits import MANIFEST_BYTES_MAX, MIB

from .errors import ApiError, BadAnswer, ClientError, SettingsError, Unreachable

T = TypeVar("T")
Self = TypeVar("Self", bound="Api")


@dataclass(frozen=True, slots=True)
class Config:
    """``answer_bytes_max``: the largest answer is a plan, a signed manifest and its tickets. ``pages_max``: of one
    listing, 500 or 1000 items each."""

    connect_s: float = 5.0
    answer_s: float = 30.0
    answer_bytes_max: int = MANIFEST_BYTES_MAX + MIB
    problem_bytes_max: int = 64 * 1024
    pages_max: int = 1000


def problem_of(status: int, reason: str, body: bytes) -> Problem:
    """The problem in an error answer. An answer without one is described by its status."""
    try:
        members = json.loads(body)
    except ValueError:
        members = None
    if not isinstance(members, dict):
        members = {}

    def text(name: str, default: str) -> str:
        value = members.get(name, default)
        return value if isinstance(value, str) else default

    title = text("title", reason or "refused")
    fault = text("fault", "caller" if status < 500 else "here")
    return Problem(status, text("type", f"http-{status}"), title, text("detail", ""), fault, text("remedy", ""))


def reason_of(error: Exception) -> str:
    """A transport error in a few words."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError):  # a ClientConnectorError without an error of the OS
        return f"its certificate is not trusted here ({error.certificate_error})"
    if isinstance(error, aiohttp.ClientConnectorError):
        number = error.os_error.errno
        # Below zero it is of getaddrinfo, whose text only the error itself has.
        return os.strerror(number) if number and number > 0 else error.os_error.strerror or str(error.os_error)
    if isinstance(error, aiohttp.ServerTimeoutError | TimeoutError):
        return "it took too long"
    return str(error) or type(error).__name__


def server_url(text: str) -> str:
    """The address of a scheduler or ledger as the user gave it, without a slash at its end.

    :raises SettingsError: it is none.
    """
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise SettingsError(f"{text} is not a server's address", "give it like http://203.0.113.10:32550")
    return text.rstrip("/")


def path_of(*parts: str) -> str:
    """A path of ``parts``, each escaped, so that a name with ``/`` or ``?`` stays one part."""
    return "/" + "/".join(quote(part, safe="") for part in parts)


class Api:
    """Use it as an async context manager, or give it a session and close that yourself.

    :param base_url: scheme, host and port, with a path prefix where a proxy adds one.
    :param token: sent as ``Authorization: Bearer …``.
    """

    def __init__(
        self,
        base_url: str,
        token: str | None = None,
        *,
        session: aiohttp.ClientSession | None = None,
        config: Config | None = None,
    ) -> None:
        self.base_url = base_url.rstrip("/")
        self.token = token
        self._config = config or Config()
        self._given = session
        self._own: aiohttp.ClientSession | None = None

    async def __aenter__(self: Self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        if self._own is not None:
            await self._own.close()
            self._own = None

    @property
    def session(self) -> aiohttp.ClientSession:
        """The session given, or an own one made at first use, for it binds to the running loop."""
        if self._given is not None:
            return self._given
        if self._own is None:
            self._own = aiohttp.ClientSession()
        return self._own

    def headers(self, extra: Mapping[str, str] | None = None) -> dict[str, str]:
        headers = {"Accept": "application/json", **(extra or {})}
        if self.token is not None:
            headers["Authorization"] = f"Bearer {self.token}"
        return headers

    async def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        data: Any = None,
        answer_s: float | None = None,
    ) -> Any:
        """One request; gives the JSON answer, text where it is not JSON, None where it is empty.

        :raises ApiError: for a status of 300 and above.
        :raises Unreachable: no answer within the limits.
        :raises BadAnswer: an answer larger than the limit, or broken JSON.
        """
        url = self.base_url + path
        timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=self._config.connect_s, sock_read=answer_s or self._config.answer_s
        )
        try:
            async with self.session.request(
                method,
                url,
                json=body,
                data=data,
                params=params,
                headers=self.headers(headers),
                timeout=timeout,
                allow_redirects=False,
            ) as response:
                limit = self._config.answer_bytes_max if response.status < 300 else self._config.problem_bytes_max
                answer = await read_bounded(response, limit, url)
                if response.status >= 300:
                    raise ApiError(problem_of(response.status, response.reason or "", answer), url)
                media_type = response.content_type
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Unreachable(self.base_url, reason_of(error)) from error
        if not answer:
            return None
        try:
            text = answer.decode("utf-8")
            return json.loads(text) if media_type == "application/json" else text
        except ValueError as error:
            raise BadAnswer(url, str(error)) from error

    async def download(self, path: str, file: Path, *, compressed: bool = False) -> None:
        """An answer of any size into ``file``, which is replaced when all of it has come.

        :param compressed: write it as gzip.
        :raises ApiError, Unreachable: as :meth:`call`.
        :raises ClientError: it cannot be written.
        """
        url = self.base_url + path
        partial = file.with_name(file.name + ".part")
        timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=self._config.connect_s, sock_read=self._config.answer_s
        )
        try:
            async with self.session.get(
                url, headers=self.headers(), timeout=timeout, allow_redirects=False
            ) as response:
                if response.status >= 300:
                    answer = await read_bounded(response, self._config.problem_bytes_max, url)
                    raise ApiError(problem_of(response.status, response.reason or "", answer), url)
                with _writer(partial, compressed) as output:
                    async for piece in response.content.iter_any():
                        output.write(piece)
            os.replace(partial, file)
        except (aiohttp.ClientError, TimeoutError) as error:
            raise Unreachable(self.base_url, reason_of(error)) from error
        except OSError as error:
            raise ClientError(f"{partial}: {error.strerror or error}", "name another file") from error
        finally:
            partial.unlink(missing_ok=True)

    async def record(self, cls: type[T], method: str, path: str, body: Any = None, **more: Any) -> T:
        """:meth:`call`, read as record ``cls``; unknown fields are ignored."""
        return read_record(cls, await self.call(method, path, body, **more), self.base_url + path)

    async def pages(self, path: str, member: str, key: str = "id") -> list[Any]:
        """A whole listing, page by page. :param key: of an item; the last one's names where the next page begins."""
        found: list[Any] = []
        seen: set[Any] = set()
        params: dict[str, str] = {}
        for _ in range(self._config.pages_max):
            page = await self.listing(path, member, params=params)
            new = [item for item in page if isinstance(item, dict) and item.get(key) not in seen]
            if not new:
                break
            found += new
            seen |= {item.get(key) for item in new}
            params = {"after": str(new[-1].get(key))}
        return found

    async def listing(self, path: str, member: str, **more: Any) -> list[Any]:
        answer = await self.call("GET", path, **more)
        found = answer.get(member) if isinstance(answer, dict) else answer
        if not isinstance(found, list):
            raise BadAnswer(self.base_url + path, f"a list of {member} is wanted")
        return found

    async def mapping(self, method: str, path: str, body: Any = None, **more: Any) -> dict[str, Any]:
        """:meth:`call` where the answer must be a JSON object."""
        answer = await self.call(method, path, body, **more)
        if not isinstance(answer, dict):
            raise BadAnswer(self.base_url + path, "an object is wanted")
        return answer


def _writer(path: Path, compressed: bool) -> IO[bytes]:
    return cast(IO[bytes], gzip.open(path, "wb")) if compressed else path.open("wb")


async def read_bounded(response: aiohttp.ClientResponse, size_max: int, url: str) -> bytes:
    """:raises BadAnswer: when the body is larger than ``size_max``."""
    body = bytearray()
    async for piece in response.content.iter_any():
        body += piece
        if len(body) > size_max:
            raise BadAnswer(url, f"an answer of more than {size_max} bytes")
    return bytes(body)


def read_record(cls: type[T], value: Any, url: str) -> T:
    try:
        return decode(cls, value, strict=False)
    except PeerError as error:
        raise BadAnswer(url, error.detail) from error
