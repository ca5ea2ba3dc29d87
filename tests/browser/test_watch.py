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
from browsing import DESKTOP, chromium, keep, marks, page
from fallow_client.scheduler import PublishedObject
from network import until
from playwright.async_api import Browser, Page
from watch_world import DEVICES, WAIT_S, WatchNetwork, bytes_by_source, fetched, page_with_fallow, site

pytestmark = [
    pytest.mark.processes,
    pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs ffmpeg, to make video"),
    *marks(pages.BUILT / "fallow.js"),
]

SIZE = 14 * 2**20 + 77
RATE = 16
"""The fastest that browsers play."""
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


def encode(path: Path) -> None:
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
    """It plays to its end, mostly from homes, although one of them dies; what the page shows is paid."""
    async with page(browser, **DESKTOP) as shown:
        await shown.goto(f"{network.scheduler_url}/watch/{film.id}")
        await plays(shown, RATE, until_s=5)
        await network.kill("device-1")
        await plays(shown, RATE)
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


def test_objects_and_films_come_from_homes(tmp_path: Path) -> None:
    async def run() -> None:
        content = random.Random(6).randbytes(SIZE)
        (tmp_path / "content.bin").write_bytes(content)
        made = asyncio.create_task(asyncio.to_thread(encode, tmp_path / "film.mp4"))
        async with WatchNetwork() as network, chromium() as browser:
            await network.prepare()
            await made
            published, film = await network.publish(tmp_path / "content.bin", tmp_path / "film.mp4")
            async with site(page_with_fallow(network.scheduler_url)) as url:
                owed = await in_a_publishers_page(browser, url, published.url, content)
                liar = network.devices[0]
                network.spoil(liar.line.name, published.id)
                owed += await from_a_liar(browser, url, published.url, content, liar.device_id)
            del owed["origin"]
            assert await network.paid(owed) == owed
            await a_film(network, browser, film, owed)

    asyncio.run(run())
