"""Video for benches and tests: made by ffmpeg, served by an origin, played by ffmpeg as by any ordinary player.

What a player was sent by whom is read from its own log of requests, and what it received from the digests of the
packets that it demuxed.
"""

from __future__ import annotations

import asyncio
import re
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from urllib.parse import urlsplit

from aiohttp import web

PLAYLIST = "index.m3u8"
SHOWN = 6
"""Segments in a live playlist."""
FFMPEG = ("ffmpeg", "-hide_banner", "-nostdin")
_REQUEST = re.compile(rb"request: (?:GET|HEAD) (\S+) HTTP.*?Host: (\S+)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Segment:
    name: str
    duration: str
    data: bytes


PLAIN = ("mpeg2video", "mp2")
BROWSERS = ("libx264", "aac")
"""What browsers play."""


def encode(directory: Path, seconds: int, kbps: int, codecs: tuple[str, str] = PLAIN) -> list[Segment]:
    """A test picture and a tone, in segments of one second.

    :param codecs: ffmpeg's, of picture and sound.
    """
    picture, sound = codecs
    made = subprocess.run(
        [
            *(*FFMPEG, "-v", "error", "-f", "lavfi", "-i", f"testsrc2=size=320x180:rate=10:duration={seconds}"),
            *("-f", "lavfi", "-i", f"sine=frequency=440:duration={seconds}", "-c:v", picture, "-g", "10"),
            *("-b:v", f"{kbps}k", "-minrate", f"{kbps}k", "-maxrate", f"{kbps}k", "-bufsize", f"{kbps}k"),
            *("-c:a", sound, "-pix_fmt", "yuv420p", "-f", "hls", "-hls_time", "1"),
            *("-hls_list_size", "0", "-hls_playlist_type", "vod"),
            *("-hls_segment_filename", str(directory / "seg%03d.ts"), str(directory / PLAYLIST)),
        ],
        check=False,
        capture_output=True,
    )
    if made.returncode:
        raise RuntimeError(f"ffmpeg could not encode: {made.stderr.decode('utf-8', 'replace').strip()}")
    lines = (directory / PLAYLIST).read_text().splitlines()
    return [
        Segment(name, before, (directory / name).read_bytes())
        for before, name in pairwise(lines)
        if before.startswith("#EXTINF") and not name.startswith("#")
    ]


@dataclass(slots=True)
class Origin:
    """A publisher's web server: the whole video at ``film/index.m3u8``, and live as far as ``published`` says at
    ``live/index.m3u8``. ``asked``: the paths of all requests with the program that asked."""

    segments: list[Segment]
    published: int = 0
    over: bool = False
    asked: list[tuple[str, str]] = field(default_factory=list)
    url: str = ""

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        folder, _, name = request.path.strip("/").partition("/")
        program = request.headers.get("User-Agent", "").partition("/")[0]
        self.asked.append((request.path, program))
        for_pages = {"Access-Control-Allow-Origin": "*"}
        if name == PLAYLIST:
            text = self._playlist(folder)
            return web.Response(text=text, content_type="application/vnd.apple.mpegurl", headers=for_pages)
        for number, segment in enumerate(self.segments):
            if segment.name == name and (folder == "film" or number < self.published):
                return web.Response(body=segment.data, content_type="video/mp2t", headers=for_pages)
        return web.Response(status=404)

    def _playlist(self, folder: str) -> str:
        first, end = (0, len(self.segments)) if folder == "film" else (max(0, self.published - SHOWN), self.published)
        lines = ["#EXTM3U", "#EXT-X-VERSION:3", "#EXT-X-TARGETDURATION:1", f"#EXT-X-MEDIA-SEQUENCE:{first}"]
        for segment in self.segments[first:end]:
            lines += [segment.duration, segment.name]
        if folder == "film" or self.over:
            lines.append("#EXT-X-ENDLIST")
        return "\n".join(lines) + "\n"

    async def broadcast(self, until: int) -> None:
        """Publish a segment every second, up to number ``until``."""
        while self.published < until:
            await asyncio.sleep(1)
            self.published += 1

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[str]:
        runner = web.ServerRunner(web.Server(self))  # type: ignore[arg-type]
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}/"
        try:
            yield self.url
        finally:
            await runner.cleanup()


@dataclass(frozen=True, slots=True)
class Played:
    """What a player did. ``first``: the name of its first segment. ``packets``: digest of each, in order of arrival.
    ``from_devices``, ``from_elsewhere``: bytes of segments by who sent them. ``failed``: its complaints of segments
    that did not come."""

    first: str
    packets: tuple[str, ...]
    from_devices: int
    from_elsewhere: int
    failed: tuple[str, ...]

    @property
    def share(self) -> float:
        total = self.from_devices + self.from_elsewhere
        return self.from_devices / total if total else 0.0


class Player:
    """ffmpeg as a player: it opens the address with its defaults and takes what comes."""

    def __init__(self, process: asyncio.subprocess.Process, out: Path, log: Path) -> None:
        self._process = process
        self._out = out
        self._log = log

    @classmethod
    async def open(cls, url: str, directory: Path, name: str) -> Player:
        out, log = directory / f"{name}.packets", directory / f"{name}.log"
        with log.open("wb") as errors:
            process = await asyncio.create_subprocess_exec(
                *(*FFMPEG, "-y", "-v", "debug", "-i", url, "-map", "0", "-c", "copy", "-f", "framemd5", str(out)),
                stdin=asyncio.subprocess.DEVNULL,
                stderr=errors,
            )
        return cls(process, out, log)

    def requests(self) -> list[tuple[str, str]]:
        """Host and path of each so far."""
        return [(host.decode(), path.decode()) for path, host in _REQUEST.findall(self._log.read_bytes())]

    async def ends(self) -> int:
        return await self._process.wait()

    async def stop(self) -> None:
        if self._process.returncode is None:
            self._process.kill()
            await self._process.wait()

    def played(self, sizes: dict[str, int]) -> Played:
        """:param sizes: of segments by name."""
        requests = self.requests()
        devices = sum(sizes[_name(path)] for _, path in requests if "ticket=" in path)
        wanted = {(host, path) for host, path in requests if "ticket=" not in path and _name(path) in sizes}
        # A redirect costs a request of its own, so what was asked for counts once, by its first address.
        total = sum(sizes[name] for name in {_name(path) for _, path in wanted})
        complaints = [line for line in self._log.read_text("utf-8", "replace").splitlines() if "Failed to open" in line]
        first = next(_name(path) for _, path in requests if _name(path) in sizes)
        return Played(first, packets_in(self._out), devices, max(0, total - devices), tuple(complaints))


def packets_of(directory: Path, segments: list[Segment]) -> tuple[str, ...]:
    """Of some of the segments that :func:`encode` made in ``directory``, before anybody carries them."""
    lines = [line for segment in segments for line in (segment.duration, segment.name)]
    playlist = directory / "reference.m3u8"
    playlist.write_text("\n".join(["#EXTM3U", "#EXT-X-TARGETDURATION:1", *lines, "#EXT-X-ENDLIST", ""]))
    out = directory / "reference.packets"
    subprocess.run(
        [*FFMPEG, "-y", "-v", "error", "-i", str(playlist), "-map", "0", "-c", "copy", "-f", "framemd5", str(out)],
        check=True,
        capture_output=True,
    )
    return packets_in(out)


def packets_in(file: Path) -> tuple[str, ...]:
    """Stream and digest of each packet; times are left out, for they begin where a player does."""
    lines = (line.split(",") for line in file.read_text().splitlines() if line and not line.startswith("#"))
    return tuple(f"{parts[0].strip()} {parts[-1].strip()}" for parts in lines)


def _name(path: str) -> str:
    return urlsplit(path).path.rpartition("/")[2]
