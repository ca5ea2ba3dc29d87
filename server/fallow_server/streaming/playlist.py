"""Reading and rewriting HLS playlists (RFC 8216, and what draft-pantos-hls-rfc8216bis adds). Pure.

A playlist is kept as its lines. What this does not know it leaves as it is; what names another file becomes a
:class:`Link`, which is written anew when the playlist is. Low-latency tags are left out (:data:`LOW_LATENCY`).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import urljoin

from fallow_wire.errors import PeerError

PLAYLIST_BYTES_MAX = 4 * 2**20
"""A film of three hours in segments of two seconds takes some 500 KiB; a week's recording in ones of six fits."""
LINE_CHARS_MAX = 8192
DURATION_S_MAX = 3600
SEQUENCE_MAX = 2**53 - 1

LOW_LATENCY = frozenset(
    {"EXT-X-SERVER-CONTROL", "EXT-X-PART-INF", "EXT-X-PART", "EXT-X-PRELOAD-HINT", "EXT-X-RENDITION-REPORT"}
)
"""Left out, and with them what they promise: parts shorter than a second would all come from the origin, and the
whole segments that devices hold would never be asked for. Such a stream plays as an ordinary one."""

_ATTRIBUTE = re.compile(r"([A-Z0-9-]+)=(\"[^\"]*\"|[^\",]*)(,|\Z)")
_DECIMAL = re.compile(r"[0-9]{1,16}(\.[0-9]{0,16})?")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ufffe\uffff]")


class NotPlayable(PeerError):
    """This is no playlist, or one that cannot be rewritten; the text says which line."""

    slug = "bad-playlist"


class Use(StrEnum):
    """``ORIGIN``: what only the origin may give, such as keys."""

    PLAYLIST = "playlist"
    SEGMENT = "segment"
    MAP = "map"
    ORIGIN = "origin"


@dataclass(frozen=True, slots=True)
class Link:
    """A line that names a file: ``url`` is absolute, ``before`` and ``after`` are what surrounds it."""

    before: str
    url: str
    use: Use
    after: str


@dataclass(frozen=True, slots=True)
class Segment:
    """``lines``: how many lines the playlist has up to its address, that included. ``is_range``: it is a part of its
    file (EXT-X-BYTERANGE). ``map_url``: the file that its decoder needs first; None where that is none or a range."""

    sequence: int
    url: str
    duration_ms: int
    lines: int
    is_range: bool = False
    map_url: str | None = None


@dataclass(frozen=True, slots=True)
class Playlist:
    """``ended``: there will be no further segments. ``is_multivariant``: it names playlists, not segments."""

    lines: tuple[str | Link, ...]
    segments: tuple[Segment, ...] = ()
    target_s: int = 0
    ended: bool = False
    is_multivariant: bool = False

    def playlists(self) -> tuple[str, ...]:
        """Addresses of the playlists that it names, each once."""
        found = (line.url for line in self.lines if isinstance(line, Link) and line.use is Use.PLAYLIST)
        return tuple(dict.fromkeys(found))

    def written(self, locate: Callable[[Link], str], segments_max: int | None = None) -> str:
        """The playlist as text.

        :param locate: what to write for a link.
        :param segments_max: only the first so many segments, at least one; without all of them it has no end.
        """
        kept, whole = self.lines, True
        if segments_max is not None and segments_max < len(self.segments):
            kept, whole = self.lines[: self.segments[segments_max - 1].lines], False
        lines = [line if isinstance(line, str) else line.before + locate(line) + line.after for line in kept]
        if self.ended and whole:
            lines.append("#EXT-X-ENDLIST")
        return "\n".join(lines) + "\n"


_LINKING = {
    "EXT-X-MEDIA": ("URI", Use.PLAYLIST),
    "EXT-X-I-FRAME-STREAM-INF": ("URI", Use.PLAYLIST),
    "EXT-X-MAP": ("URI", Use.MAP),
    "EXT-X-KEY": ("URI", Use.ORIGIN),
    "EXT-X-SESSION-KEY": ("URI", Use.ORIGIN),
    "EXT-X-SESSION-DATA": ("URI", Use.ORIGIN),
    "EXT-X-CONTENT-STEERING": ("SERVER-URI", Use.ORIGIN),
}
_MULTIVARIANT = frozenset({"EXT-X-STREAM-INF", "EXT-X-I-FRAME-STREAM-INF", "EXT-X-MEDIA"})


class _Reader:
    """The lines of one playlist, in order."""

    def __init__(self, base_url: str) -> None:
        self._base_url = base_url
        self.lines: list[str | Link] = []
        self.segments: list[Segment] = []
        self.target_s = 0
        self.ended = False
        self.is_multivariant = False
        self._sequence = 0
        self._duration_ms: int | None = None
        self._is_range = False
        self._map_url: str | None = None

    def take(self, line: str) -> None:
        if not line.startswith("#"):
            if line.strip():
                self._address(line.strip())
            return
        name, _, value = line[1:].partition(":")
        name = name.rstrip()
        if name in LOW_LATENCY:
            return
        if name == "EXT-X-DEFINE":
            raise NotPlayable("it defines variables, which addresses are made of")
        if name == "EXT-X-ENDLIST":
            self.ended = True  # it may stand anywhere, and is written last
            return
        if name in _LINKING:
            self.lines.append(self._linking(line, name, value))
        else:
            self._note(name, value.strip())
            self.lines.append(line)
        self.is_multivariant |= name in _MULTIVARIANT

    def _note(self, name: str, value: str) -> None:
        if name == "EXT-X-TARGETDURATION":
            self.target_s = _integer(name, value, DURATION_S_MAX)
        elif name == "EXT-X-MEDIA-SEQUENCE":
            self._sequence = _integer(name, value, SEQUENCE_MAX)
            if self.segments:
                raise NotPlayable("EXT-X-MEDIA-SEQUENCE stands behind a segment")
        elif name == "EXTINF":
            number = value.partition(",")[0].strip()
            if not _DECIMAL.fullmatch(number) or float(number) > DURATION_S_MAX:
                raise NotPlayable(f"EXTINF: seconds are wanted, not {number[:32]!r}")
            self._duration_ms = round(float(number) * 1000)
        elif name == "EXT-X-BYTERANGE":
            self._is_range = True

    def _linking(self, line: str, name: str, value: str) -> str | Link:
        wanted, use = _LINKING[name]
        start = len(line) - len(value)
        found: dict[str, tuple[int, int]] = {}
        at = 0
        while at < len(value):
            # Blanks behind commas are against the standard, and common.
            at += len(value[at:]) - len(value[at:].lstrip())
            attribute = _ATTRIBUTE.match(value, at)
            if attribute is None:
                raise NotPlayable(f"{name}: attributes are wanted, not {value[at : at + 32]!r}")
            if attribute[1] in found:
                raise NotPlayable(f"{name}: {attribute[1]} stands there twice")
            found[attribute[1]] = attribute.span(2)
            at = attribute.end()
        if name == "EXT-X-MAP":
            self._map_url = None
        if wanted not in found:
            return line
        first, end = found[wanted]
        quoted = value[first:end]
        if len(quoted) < 3 or quoted[0] != '"':
            raise NotPlayable(f"{name}: {wanted} is an address in quotes")
        url = self._absolute(quoted[1:-1])
        if name == "EXT-X-MAP" and "BYTERANGE" not in found:
            self._map_url = url
        return Link(line[: start + first + 1], url, use, line[start + end - 1 :])

    def _address(self, text: str) -> None:
        url = self._absolute(text)
        if self.is_multivariant:
            self.lines.append(Link("", url, Use.PLAYLIST, ""))
            return
        if self._duration_ms is None:
            raise NotPlayable(f"{text[:64]!r} comes without its EXTINF")
        self.lines.append(Link("", url, Use.SEGMENT, ""))
        sequence = self._sequence + len(self.segments)
        self.segments.append(Segment(sequence, url, self._duration_ms, len(self.lines), self._is_range, self._map_url))
        self._duration_ms, self._is_range = None, False

    def _absolute(self, uri: str) -> str:
        try:
            return urljoin(self._base_url, uri)
        except ValueError:
            raise NotPlayable(f"{uri[:64]!r} is no address") from None


def read_playlist(data: bytes, url: str) -> Playlist:
    """Read a playlist that came from ``url``, after redirects.

    :raises NotPlayable: for what is none, and for what cannot be rewritten so that players find everything.
    """
    if len(data) > PLAYLIST_BYTES_MAX:
        raise NotPlayable(f"a playlist has at most {PLAYLIST_BYTES_MAX} bytes")
    try:
        text = data.removeprefix(b"\xef\xbb\xbf").decode("utf-8")
    except UnicodeDecodeError:
        raise NotPlayable("it is not UTF-8") from None
    if _CONTROL.search(text):
        raise NotPlayable("it has control characters")
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    if lines[0].rstrip() != "#EXTM3U":
        raise NotPlayable("its first line is not #EXTM3U")
    reader = _Reader(url)
    for line in lines:
        if len(line) > LINE_CHARS_MAX:
            raise NotPlayable(f"a line has at most {LINE_CHARS_MAX} characters")
        reader.take(line.rstrip())
    if reader.segments and reader.is_multivariant:
        raise NotPlayable("it names both playlists and segments")
    if not reader.is_multivariant and not reader.target_s:
        raise NotPlayable("EXT-X-TARGETDURATION is missing")
    return Playlist(tuple(reader.lines), tuple(reader.segments), reader.target_s, reader.ended, reader.is_multivariant)


def _integer(name: str, value: str, most: int) -> int:
    if not value.isascii() or not value.isdigit() or int(value[:20]) > most:
        raise NotPlayable(f"{name}: a number up to {most} is wanted, not {value[:32]!r}")
    return int(value)
