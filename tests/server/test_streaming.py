"""Playlists of a site, as a player meets them, against a real origin."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

from delivery_harness import Harness, origin_server, run
from encoder import Encoder
from fallow_server.catalogue.config import Config

OPEN = Config(disk_free_bytes_min=0, allow_private_addresses=True, object_bytes_max=2**21)
FILM = "#EXTM3U\n#EXT-X-TARGETDURATION:6\n#EXTINF:6,\n{}\n#EXT-X-ENDLIST\n"
GROWING = "#EXTM3U\n#EXT-X-TARGETDURATION:6\n#EXT-X-MEDIA-SEQUENCE:{0}\n#EXTINF:6,\nseg{0}.ts\n"


def with_origin(tmp_path: Path, script: Callable[[Harness, Encoder, str], Any], folder: str = "/media/") -> None:
    async def inner(server: Harness) -> None:
        encoder = Encoder()
        async with origin_server(encoder) as url:
            await server.call("POST", "/v1/sites", json={"name": "tv", "origin": url + folder}, status=201)
            await script(server, encoder, url)

    run(tmp_path / "state", inner, catalogue=OPEN)


def test_a_film_plays_from_the_site_and_then_from_its_objects(tmp_path: Path) -> None:
    async def script(server: Harness, encoder: Encoder, url: str) -> None:
        encoder.files = {"/media/a/index.m3u8": FILM.format("one.ts"), "/media/a/one.ts": b"video"}
        answer = await server.call("GET", "/s/tv/a/index.m3u8", who=None, status=200)
        assert answer.body.decode() == FILM.format("/s/tv/a/one.ts")
        assert answer.headers["Content-Type"].startswith("application/vnd.apple.mpegurl")
        assert answer.headers["Access-Control-Allow-Origin"] == "*"
        assert answer.headers["Cache-Control"] == "no-store"
        assert (await server.call("HEAD", "/s/tv/a/index.m3u8", who=None, status=200)).body == b""
        first = await server.call("GET", "/s/tv/a/one.ts", who=None, status=302)
        assert first.headers["Location"] == url + "/media/a/one.ts"
        await server.catalogue.mirror.idle()
        second = await server.call("GET", "/s/tv/a/one.ts", who=None, status=302)
        assert second.headers["Location"].startswith(server.url + "/o/")
        # The playlist itself is never an object: what it names would be sought beside the wrong address.
        assert [one["name"] for one in (await server.call("GET", "/v1/objects")).json()] == ["one.ts"]

    with_origin(tmp_path, script)


def test_addresses_are_those_of_where_the_origin_led(tmp_path: Path) -> None:
    async def script(server: Harness, encoder: Encoder, url: str) -> None:
        encoder.files["/media/there/index.m3u8"] = FILM.format("one.ts")
        answer = await server.call("GET", "/s/tv/moved/index.m3u8", who=None, status=200)
        assert "/s/tv/media/there/one.ts" in answer.body.decode()

    with_origin(tmp_path, script, folder="/")


def test_many_players_ask_the_origin_once_while_it_is_fresh(tmp_path: Path) -> None:
    async def script(server: Harness, encoder: Encoder, url: str) -> None:
        encoder.files["/media/live.m3u8"] = GROWING.format(1)
        calls = [server.call("GET", "/s/tv/live.m3u8", who=None, status=200) for _ in range(20)]
        assert len({answer.body for answer in await asyncio.gather(*calls)}) == 1
        assert len(encoder.asked) == 1
        encoder.files["/media/live.m3u8"] = GROWING.format(2)
        server.clock.seconds += 2.9
        assert b"seg1.ts" in (await server.call("GET", "/s/tv/live.m3u8", who=None, status=200)).body
        server.clock.seconds += 0.1
        assert b"seg2.ts" in (await server.call("GET", "/s/tv/live.m3u8", who=None, status=200)).body
        encoder.files["/media/film.m3u8"] = FILM.format("x.ts")
        encoder.headers = {"Cache-Control": "max-age=100"}
        await server.call("GET", "/s/tv/film.m3u8", who=None, status=200)
        server.clock.seconds += 99
        await server.call("GET", "/s/tv/film.m3u8", who=None, status=200)
        assert encoder.asked.count("/media/film.m3u8") == 1
        server.clock.seconds += 1
        await server.call("GET", "/s/tv/film.m3u8", who=None, status=200)
        assert encoder.asked.count("/media/film.m3u8") == 2

    with_origin(tmp_path, script)


def test_what_is_no_playlist_is_the_origins_to_answer(tmp_path: Path) -> None:
    async def script(server: Harness, encoder: Encoder, url: str) -> None:
        encoder.files["/media/page.m3u8"] = "<html>"
        for name in ("page", "missing"):
            for _ in range(3):
                answer = await server.call("GET", f"/s/tv/{name}.m3u8", who=None, status=302)
                assert answer.headers["Location"] == f"{url}/media/{name}.m3u8"
            assert encoder.asked.count(f"/media/{name}.m3u8") == 1
        encoder.files["/media/missing.m3u8"] = GROWING.format(1)
        server.clock.seconds += 5
        await server.call("GET", "/s/tv/missing.m3u8", who=None, status=200)
        # A query may ask for another playlist.
        answer = await server.call("GET", "/s/tv/missing.m3u8?start=5", who=None, status=302)
        assert answer.headers["Location"] == f"{url}/media/missing.m3u8?start=5"

    with_origin(tmp_path, script)


def test_an_origin_that_fails_for_a_moment_does_not_stop_players(tmp_path: Path) -> None:
    async def script(server: Harness, encoder: Encoder, url: str) -> None:
        encoder.files["/media/live.m3u8"] = GROWING.format(1)
        await server.call("GET", "/s/tv/live.m3u8", who=None, status=200)
        encoder.broken = True
        server.clock.seconds += 30
        await server.call("GET", "/s/tv/live.m3u8", who=None, status=200)
        server.clock.seconds += 40
        await server.call("GET", "/s/tv/live.m3u8", who=None, status=302)
        # What is gone is gone at once.
        encoder.broken = False
        server.clock.seconds += 5
        await server.call("GET", "/s/tv/live.m3u8", who=None, status=200)
        encoder.files.clear()
        server.clock.seconds += 5
        await server.call("GET", "/s/tv/live.m3u8", who=None, status=302)

    with_origin(tmp_path, script)


def test_a_player_that_leaves_does_not_take_the_playlist_from_the_others(tmp_path: Path) -> None:
    async def script(server: Harness, encoder: Encoder, url: str) -> None:
        encoder.files["/media/live.m3u8"] = GROWING.format(1)
        encoder.gate = asyncio.Event()
        one = asyncio.create_task(server.call("GET", "/s/tv/live.m3u8", who=None))
        await encoder.arrived.wait()
        other = asyncio.create_task(server.call("GET", "/s/tv/live.m3u8", who=None, status=200))
        one.cancel()
        await asyncio.gather(one, return_exceptions=True)
        encoder.gate.set()
        await other
        assert len(encoder.asked) == 1

    with_origin(tmp_path, script)
