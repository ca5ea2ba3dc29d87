"""Names, media types and paths as publishers and consumers write them. Pure."""

from __future__ import annotations

import re
import unicodedata
from urllib.parse import quote, unquote, urlsplit

NAME_BYTES_MAX = 255
"""What file systems take for one name: downloads keep it."""
PATH_CHARS_MAX = 1024
ORIGIN_CHARS_MAX = 512
DEFAULT_TYPE = "application/octet-stream"

_TYPE = re.compile(r"[a-z0-9!#$&^_.+-]{1,63}/[a-z0-9!#$&^_.+-]{1,63}\Z")
_CHARSET = re.compile(r"charset=\"?([a-z0-9_.-]{1,40})\"?\Z")
_SITE = re.compile(r"[a-z0-9]([a-z0-9.-]{0,62}[a-z0-9])?\Z")
_HOST = re.compile(r"\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")
_RAW_PATH = re.compile(r"([A-Za-z0-9._~!$&'()*+,;=:@/-]|%[0-9A-Fa-f]{2})*\Z")


def name_fault(name: str) -> str | None:
    """What is wrong with an object's name, or None. A name is one path segment that every system can store."""
    if not name or name in (".", ".."):
        return "a name is wanted"
    if "/" in name or "\\" in name:
        return "a name is one path segment, without / and \\"
    if any(unicodedata.category(character) in ("Cc", "Cs") or character in "\ufffe\uffff" for character in name):
        return "a name has no control characters"
    if len(name.encode("utf-8")) > NAME_BYTES_MAX:
        return f"a name has at most {NAME_BYTES_MAX} bytes of UTF-8"
    return None


def media_type(header: str | None) -> str:
    """The media type as a manifest keeps it: lower case, at most a charset with it; octets where it says nothing."""
    essence, _, rest = (header or "").lower().partition(";")
    essence = essence.strip()
    if not _TYPE.match(essence):
        return DEFAULT_TYPE
    for parameter in rest.split(";"):
        found = _CHARSET.match(parameter.strip())
        if found:
            return f"{essence}; charset={found[1]}"
    return essence


def quoted(name: str) -> str:
    """A name as a path segment of a URL."""
    return quote(name, safe="")


def is_site_name(name: str) -> bool:
    return _SITE.match(name) is not None


def clean_path(raw: str) -> str | None:
    """A percent-encoded path below a site, without a leading slash, exactly as the origin is to be asked for it.

    None for what may not pass: dot segments in any spelling, empty segments, control characters, encoded slashes and
    backslashes, or more than 1024 characters. An empty path or a trailing slash names no file, so None as well.
    """
    if not raw or len(raw) > PATH_CHARS_MAX or not _RAW_PATH.match(raw):
        return None
    for segment in raw.split("/"):
        if name_fault(unquote(segment, errors="surrogateescape")) is not None:
            return None
    return raw


def last_segment(path: str) -> str:
    """The name of the file that a clean path ends in."""
    return unquote(path.rpartition("/")[2], errors="surrogateescape")


def clean_origin(text: str) -> str | None:
    """An origin as it is stored: ``http(s)://host[:port]/path/``, host in lower case; None when it is not one.

    No user, query or fragment, and no dot segments.
    """
    if len(text) > ORIGIN_CHARS_MAX:
        return None
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        return None
    netloc = parts.netloc.lower()
    host = netloc.rpartition(":")[0] if port is not None else netloc
    if parts.scheme not in ("http", "https") or parts.query or parts.fragment or "?" in text or "#" in text:
        return None
    if not _HOST.fullmatch(host):
        return None
    if port == {"http": 80, "https": 443}[parts.scheme]:
        netloc = host
    path = parts.path.strip("/")
    if path and clean_path(path) is None:
        return None
    return f"{parts.scheme}://{netloc}/{path + '/' if path else ''}"


def path_below(origin: str, url: str) -> str | None:
    """The clean path of ``url`` below ``origin`` (as :func:`clean_origin` gives it), or None when it is not below."""
    try:
        parts = urlsplit(url)
        default = {"http": 80, "https": 443}.get(parts.scheme)
        netloc = parts.netloc.lower()
        if default is not None and parts.port == default:
            netloc = netloc.rpartition(":")[0]
    except ValueError:
        return None
    if parts.query or parts.fragment:
        return None
    same = f"{parts.scheme}://{netloc}{parts.path}"
    return clean_path(same[len(origin) :]) if same.startswith(origin) else None
