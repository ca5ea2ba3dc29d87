"""Where an object is: its address taken apart, and a safe name to keep it under. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from urllib.parse import unquote, urlsplit

from .errors import ClientError

_OBJECT_PATH = re.compile(r"(?P<prefix>.*)/o/(?P<id>[0-9a-f]{64})(?:/(?P<name>[^/]*))?\Z")
_OBJECT_ID = re.compile(r"[0-9a-f]{64}\Z")


@dataclass(frozen=True, slots=True)
class Location:
    """An object at a scheduler. ``name`` is None where only the id is known."""

    scheduler: str
    object_id: str
    name: str | None = None


def location_of(text: str, scheduler: str | None = None) -> Location:
    """From ``http://host/o/<id>/<name>``, or an id with ``scheduler``.

    :raises ClientError: it is neither.
    """
    if _OBJECT_ID.match(text):
        if scheduler is None:
            raise ClientError("an object id alone does not say where it is", "add --scheduler URL")
        return Location(scheduler.rstrip("/"), text)
    parts = urlsplit(text)
    found = _OBJECT_PATH.match(parts.path)
    if parts.scheme not in ("http", "https") or not parts.netloc or found is None:
        raise ClientError(f"{text} is not an object", "give http://host/o/<id>/<name>, or an id and --scheduler")
    base = f"{parts.scheme}://{parts.netloc}{found['prefix']}"
    return Location(base, found["id"], unquote(found["name"]) if found["name"] else None)


def safe_name(name: str, object_id: str) -> str:
    """A file name without a path in it: a server must not choose where we write."""
    last = PurePosixPath(name.replace("\\", "/").replace("\0", "")).name
    return object_id if last in ("", ".", "..") else last
