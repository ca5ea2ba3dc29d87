"""Objects come to real pages from real homes, verified and paid for, while homes die and lie."""

from __future__ import annotations

import asyncio
import base64
import random
import re
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import fallow_server.delivery.pages as pages
import pytest
from browsing import DESKTOP, PHONE, SMALL_PHONE, accessible, chromium, keep, marks, page
from fallow_client.scheduler import PublishedObject, Scheduler
from lab.video import BROWSERS, Origin, encode
from network import until
from playwright.async_api import Browser, Page, Route, expect
from watch_world import DEVICES, WAIT_S, WatchNetwork, bytes_by_source, fetched, misused, page_with_fallow, site

pytestmark = [
    pytest.mark.processes,
    pytest.mark.timeout(600),  # whole networks, on machines that do other things too
    pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs ffmpeg, to make video"),
    *marks(pages.BUILT / "fallow.js"),
]

SIZE = 14 * 2**20 + 77
RATE = 16
"""The fastest that browsers play."""
STREAM_S = 12
"""Segments, of a second each."""
SECURE = "https://fallow.test"
HOSTILE = {
    "an object without a ticket": 403,
    "an object with cookies": "refused",
    "an object with a login": "refused",
    "a change": "refused",
    "another change": "refused",
    "a receipt of its own": 400,
    "a dial-back": "refused",
    "a dial-back, unseen": "unreadable",
    "anything else": "refused",
    "a socket": "refused",
}
"""What a page of any site may do at a service port without a ticket: nothing."""
NO_WEBCRYPTO = "Object.defineProperty(crypto, 'subtle', { value: undefined })"
"""As in a page that came by plain http."""


async def in_a_publishers_page(browser: Browser, url: str, address: str, content: bytes) -> Counter[str]:
    """Whole, in part, broken off; with the platform's cryptography and without. Gives what came from where."""
    came: Counter[str] = Counter()
    for has_webcrypto in (True, False):
        async with page(browser) as shown:
            if not has_webcrypto:
                await shown.add_init_script(NO_WEBCRYPTO)
            loaded: list[str] = []
            shown.on("request", lambda request, loaded=loaded: loaded.append(request.url))
            await shown.goto(url)
            found = await fetched(shown, address)
            assert base64.b64decode(found["bytes"]) == content
            assert found["type"] == "application/octet-stream"
            by_source = bytes_by_source(found["events"])
            assert by_source.total() == SIZE
            assert by_source["origin"] <= 0.2 * SIZE
            assert len(by_source - Counter({"origin": SIZE})) == DEVICES, "all homes serve"
            came += by_source
            # The fallback is loaded where it is needed, and nowhere else.
            assert any("/fallow/pure-" in one for one in loaded) is not has_webcrypto
            if has_webcrypto:
                part = {"first": 3 * 2**20 + 5, "last": 4 * 2**20 + 4}
                found = await fetched(shown, address, range=part)
                assert base64.b64decode(found["bytes"]) == content[part["first"] : part["last"] + 1]
                assert {event["chunk"] for event in found["events"] if event["type"] == "bytes"} == {3, 4}
                came += bytes_by_source(found["events"])
                found = await fetched(shown, address, abortAfter=2)
                assert found["error"].startswith("AbortError")
                came += bytes_by_source(found["events"])
                found = await fetched(shown, re.sub(r"/o/\w+", f"/o/{'0' * 64}", address))
                assert found["error"].startswith("SchedulerError")
    return came


async def without_the_silent(browser: Browser, url: str, address: str, content: bytes, silent: str) -> Counter[str]:
    """A home that takes requests and says nothing is not waited for."""
    async with page(browser) as shown:
        await shown.goto(url)
        found = await fetched(shown, address)
    assert base64.b64decode(found["bytes"]) == content
    came = bytes_by_source(found["events"])
    assert silent not in came
    assert came["origin"] <= 0.2 * SIZE
    return came


async def from_a_liar(browser: Browser, url: str, address: str, content: bytes, liar: str) -> Counter[str]:
    """Its bytes are refused, it is not asked again, and others bring what it should have."""
    async with page(browser) as shown:
        await shown.goto(url)
        found = await fetched(shown, address)
    assert base64.b64decode(found["bytes"]) == content
    came = bytes_by_source(found["events"])
    assert {event["source"]["id"] for event in found["events"] if event["type"] == "refused"} == {liar}
    assert liar not in came
    assert came["origin"] <= 0.2 * SIZE
    return came


def encode_film(path: Path) -> None:
    """A minute and a half of H.264 and AAC, with enough noise in the picture to make 20 MB of it."""
    seconds = 90
    subprocess.run(
        [
            *("ffmpeg", "-v", "error", "-nostdin", "-f", "lavfi"),
            *("-i", f"testsrc2=size=320x180:rate=15:duration={seconds},noise=alls=60:allf=t"),
            *("-f", "lavfi", "-i", f"sine=frequency=440:duration={seconds}"),
            *("-c:v", "libx264", "-preset", "ultrafast", "-g", "30", "-b:v", "1800k", "-pix_fmt", "yuv420p"),
            *("-c:a", "aac", "-b:a", "64k", "-movflags", "+faststart", str(path)),
        ],
        check=True,
    )


_PLAYS = """({ rate, until }) => new Promise((resolve, reject) => {
    const video = document.querySelector("video");
    video.muted = true;
    video.playbackRate = rate;
    const look = () => { if (video.ended || (until && video.currentTime >= until)) resolve(video.currentTime); };
    for (const event of ["timeupdate", "ended"]) video.addEventListener(event, look);
    video.addEventListener("error", () => reject(new Error(video.error.message)));
    video.play().then(look, reject);
})"""


_JUMPS = """(to) => new Promise((resolve) => {
    const video = document.querySelector("video");
    video.pause();
    video.addEventListener("seeked", () => resolve(), { once: true });
    video.currentTime = to;
})"""


async def jumps(shown: Page, to_s: float) -> None:
    """Move the picture; done when it is there."""
    async with asyncio.timeout(WAIT_S):
        await shown.evaluate(_JUMPS, to_s)


async def plays(shown: Page, rate: float, until_s: float | None = None) -> float:
    """Play, faster than a viewer would, up to a second or to the end. Gives where the picture is then."""
    async with asyncio.timeout(WAIT_S):
        at: float = await shown.evaluate(_PLAYS, {"rate": rate, "until": until_s})
    return at


async def shares(shown: Page) -> tuple[dict[str, float], float]:
    """What the page says: MB by home, and by the publisher's server."""
    found = await shown.locator(".sources li").evaluate_all(
        "all => all.map(one => [one.className, one.querySelector('.name').textContent,"
        " parseFloat(one.querySelector('.bytes').textContent)])"
    )
    homes = {name: megabytes for kind, name, megabytes in found if kind != "origin"}
    return homes, sum(megabytes for kind, _, megabytes in found if kind == "origin")


async def a_film(network: WatchNetwork, browser: Browser, film: PublishedObject, owed: Counter[str]) -> None:
    """It plays to its end, over jumps, mostly from homes although one of them dies; what the page shows is paid."""
    async with page(browser, **DESKTOP) as shown:
        await shown.goto(f"{network.scheduler_url}/watch/{film.id}")
        await plays(shown, RATE, until_s=5)
        await network.kill("device-1")
        await jumps(shown, 75)
        await plays(shown, RATE, until_s=77)
        await jumps(shown, 45)
        await plays(shown, RATE)
        await expect(shown.get_by_text("stopped sending; others took over")).to_be_visible()
        await accessible(shown)
        await keep(shown, "watch")
        homes, origin = await shares(shown)
        await shown.goto("about:blank")  # whoever leaves has confirmed what came
    assert sum(homes.values()) >= 0.8 * (sum(homes.values()) + origin)
    assert len(homes) == DEVICES
    # Of what the dead home sent, it can say nothing now.
    (dead,) = (device.device_id for device in network.devices if device.line.name == "device-1")
    said = {round(megabytes, 1) for megabytes in homes.values()}

    async def settled() -> bool | None:
        booked = await network.booked() - owed
        paid = [round(count / 1e6, 1) for device, count in booked.items() if device != dead]
        return True if len(paid) == DEVICES - 1 and set(paid) <= said else None

    await until("what the page shows is paid", settled, WAIT_S)


async def by_https(network: WatchNetwork, browser: Browser, film: PublishedObject) -> None:
    """Homes speak http, so a page that came by https may not ask them: it says so, and the origin serves."""
    asked: list[str] = []

    async def proxy(route: Route) -> None:
        """A TLS proxy before the scheduler, as far as the browser can tell; homes are not on this computer."""
        path = route.request.url.removeprefix(SECURE)
        asked.append(path)
        response = await route.fetch(url=network.scheduler_url + path)
        if path == "/v1/plans":
            text = (await response.text()).replace(network.scheduler_url, SECURE)
            await route.fulfill(response=response, body=text.replace("http://127.0.0.1", "http://192.0.2.7"))
        else:
            await route.fulfill(response=response)

    async with page(browser, "zh", **SMALL_PHONE, color_scheme="dark") as shown:
        said: list[str] = []
        shown.on("console", lambda message: said.append(message.text))
        await shown.route(f"{SECURE}/**", proxy)
        await shown.goto(f"{SECURE}/watch/{film.id}")
        await plays(shown, RATE, until_s=3)
        await expect(shown.get_by_text("浏览器不允许")).to_be_visible()
        await expect(shown.get_by_role("status")).to_have_text("全部来自发布者的服务器")
        homes, origin = await shares(shown)
        assert (sum(homes.values()), origin > 0) == (0, True)
        assert not any("Mixed Content" in one for one in said), "nothing was tried in vain"
        # The browser's own word: this is no invention of ours.
        refused = "fetch('http://192.0.2.7:32557/').then(() => 'open', () => 'refused')"
        assert await shown.evaluate(refused) == "refused"
        assert any("Mixed Content" in one for one in said)
        assert await shown.evaluate("document.documentElement.scrollWidth <= innerWidth")
        await accessible(shown)
        await keep(shown, "watch-https-zh-dark")
        # Tickets that nobody can use are not asked for again, for they lock escrow.
        assert asked.count("/v1/plans") == 1
        again = "import('/fallow.js').then(({ openObject }) => openObject(location.origin + '/o/' + ID + '/x'))"
        await shown.evaluate(f"{again.replace('ID', repr(film.id))}.then((object) => object.close())")
        assert asked.count("/v1/plans") == 1


def test_objects_and_films_come_from_homes(tmp_path: Path) -> None:
    async def run() -> None:
        content = random.Random(6).randbytes(SIZE)
        (tmp_path / "content.bin").write_bytes(content)
        made = asyncio.create_task(asyncio.to_thread(encode_film, tmp_path / "film.mp4"))
        async with WatchNetwork() as network, chromium() as browser:
            await network.prepare()
            await made
            published, film = await network.publish(tmp_path / "content.bin", tmp_path / "film.mp4")
            async with site(page_with_fallow(network.scheduler_url)) as url:
                owed = await in_a_publishers_page(browser, url, published.url, content)
                async with page(browser) as shown:
                    await shown.goto(url)
                    assert await misused(shown, await network.service_url(), published.id) == HOSTILE
                silent = network.devices[2]
                with network.frozen(silent.line.name):
                    owed += await without_the_silent(browser, url, published.url, content, silent.device_id)
                liar = network.devices[0]
                network.spoil(liar.line.name, published.id)
                owed += await from_a_liar(browser, url, published.url, content, liar.device_id)
            del owed["origin"]
            assert await network.paid(owed) == owed
            await by_https(network, browser, film)
            await a_film(network, browser, film, owed)

    asyncio.run(run())


async def watched(network: WatchNetwork, browser: Browser, playlist: str, rate: float) -> tuple[float, float, float]:
    """Where the picture ended, and MB from homes and from elsewhere."""
    async with page(browser, **PHONE) as shown:
        await shown.goto(f"{network.scheduler_url}/watch/stream?playlist={playlist}")
        ended_s = await plays(shown, rate)
        homes, elsewhere = await shares(shown)
        await accessible(shown)
        await keep(shown, playlist.split("/")[1])
        return ended_s, sum(homes.values()), elsewhere


async def a_film_in_segments(network: WatchNetwork, browser: Browser, station: Scheduler, origin: Origin) -> None:
    """The first viewer gets it from its origin, and brings it to homes so; the second from these."""
    ended_s, from_homes, elsewhere = await watched(network, browser, "tv/film/index.m3u8", RATE)
    assert ended_s > STREAM_S - 1
    assert elsewhere > from_homes

    async def placed() -> bool | None:
        found = [await station.object(one["id"]) for one in await station.objects()]
        return True if len(found) == STREAM_S and all(one["replicas"] == 2 for one in found) else None

    await until("homes hold the film", placed, WAIT_S)
    asked = len(origin.asked)
    ended_s, from_homes, elsewhere = await watched(network, browser, "tv/film/index.m3u8", RATE)
    assert ended_s > STREAM_S - 1
    assert from_homes >= 0.8 * (from_homes + elsewhere)
    assert not [path for path, _ in origin.asked[asked:] if path.endswith(".ts")]


async def a_live_stream(network: WatchNetwork, browser: Browser, station: Scheduler, origin: Origin) -> None:
    origin.published = 1
    task = await station.add_task("live", parameters={"playlist": f"{origin.url}live/index.m3u8"}, replicas=DEVICES)

    async def carried() -> bool | None:
        placements = (await station.task(task["id"]))["placements"]
        return True if sum(one["state"] == "running" for one in placements) == DEVICES else None

    await until("homes have joined", carried, WAIT_S)
    await origin.broadcast(4)
    watching = asyncio.create_task(watched(network, browser, "tv/live/index.m3u8", 1))
    await origin.broadcast(STREAM_S)
    origin.over = True
    ended_s, from_homes, elsewhere = await watching
    assert ended_s > STREAM_S - 1
    assert from_homes > elsewhere


def test_streams_come_from_homes(tmp_path: Path) -> None:
    async def run() -> None:
        origin = Origin(encode(tmp_path, STREAM_S, 1500, BROWSERS))
        async with origin.serving() as url, WatchNetwork() as network, chromium() as browser:
            await network.prepare()
            async with Scheduler(network.scheduler_url, network.publisher_token) as station:
                await station.add_site("tv", url)
                await a_film_in_segments(network, browser, station, origin)
                await a_live_stream(network, browser, station, origin)

    asyncio.run(run())
