"""Files that ``make web`` has built for browsers, held in memory and sent compressed."""

from __future__ import annotations

import functools
import gzip
import hashlib
import mimetypes
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web
from fallow_wire.http import not_modified

GZIP_BYTES_MIN = 1024
FILES_MAX = 200
"""Of a build; it has some ten."""
FOREVER = "public, max-age=31536000, immutable"
"""For files whose names change with what is in them."""


@dataclass(frozen=True, slots=True)
class BuiltFile:
    media_type: str
    plain: bytes
    etag: str

    def answer(self, request: web.Request, headers: Mapping[str, str]) -> web.Response:
        """The file, compressed for callers that take it; 304 for those that have it."""
        # Weak, for it stands for both forms.
        sent = {**headers, "ETag": f"W/{self.etag}", "Vary": "Accept-Encoding"}
        if not_modified(request.headers.get("If-None-Match"), self.etag):
            return web.Response(status=304, headers=sent)
        body = self.plain
        if len(body) >= GZIP_BYTES_MIN and "gzip" in request.headers.get("Accept-Encoding", ""):
            body, sent["Content-Encoding"] = _packed(body), "gzip"
        charset = "utf-8" if self.media_type.startswith("text/") else None
        return web.Response(body=body, content_type=self.media_type, charset=charset, headers=sent)


@functools.lru_cache(FILES_MAX)
def _packed(plain: bytes) -> bytes:
    """Made when it is first asked for, and kept."""
    return gzip.compress(plain, mtime=0)


def read_built(path: Path) -> BuiltFile | None:
    """The file; None where nothing was built."""
    if not path.is_file():
        return None
    plain = path.read_bytes()
    etag = f'"{hashlib.sha256(plain).hexdigest()[:32]}"'
    return BuiltFile(mimetypes.guess_type(path.name)[0] or "application/octet-stream", plain, etag)


def read_all_built(directory: Path) -> dict[str, BuiltFile]:
    """All files of a directory, by name."""
    names = sorted(path for path in directory.glob("*") if path.is_file())[:FILES_MAX]
    return {path.name: built for path in names if (built := read_built(path)) is not None}
