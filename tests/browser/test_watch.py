"""Objects come to real pages from real homes, verified and paid for, while homes die and lie."""

from __future__ import annotations

import asyncio
import base64
import random
from collections import Counter
from pathlib import Path

import fallow_server.delivery.pages as pages
import pytest
from browsing import chromium, marks, page
from playwright.async_api import Browser
from watch_world import WatchNetwork, bytes_by_source, fetched, page_with_fallow, site

pytestmark = [pytest.mark.processes, *marks(pages.BUILT / "fallow.js")]

SIZE = 14 * 2**20 + 77
NO_WEBCRYPTO = "Object.defineProperty(crypto, 'subtle', { value: undefined })"
"""As in a page that came by plain http."""


async def in_a_publishers_page(network: WatchNetwork, browser: Browser, url: str, tmp_path: Path) -> None:
    """Whole, in part, broken off; with the platform's cryptography and without; and each byte is paid for."""
    content = random.Random(6).randbytes(SIZE)
    (tmp_path / "content.bin").write_bytes(content)
    published = await network.publish(tmp_path / "content.bin")
    total: Counter[str] = Counter()
    for has_webcrypto in (True, False):
        async with page(browser) as shown:
            if not has_webcrypto:
                await shown.add_init_script(NO_WEBCRYPTO)
            loaded: list[str] = []
            shown.on("request", lambda request, loaded=loaded: loaded.append(request.url))
            await shown.goto(url)
            found = await fetched(shown, published.url)
            assert base64.b64decode(found["bytes"]) == content
            assert found["type"] == "application/octet-stream"
            by_source = bytes_by_source(found["events"])
            assert by_source.total() == SIZE
            assert by_source["origin"] <= 0.2 * SIZE
            assert len(by_source - Counter({"origin": SIZE})) == 3, "all homes serve"
            total += by_source
            # The fallback is loaded where it is needed, and nowhere else.
            assert any("/fallow/pure-" in one for one in loaded) is not has_webcrypto
            if has_webcrypto:
                part = {"first": 3 * 2**20 + 5, "last": 4 * 2**20 + 4}
                found = await fetched(shown, published.url, range=part)
                assert base64.b64decode(found["bytes"]) == content[part["first"] : part["last"] + 1]
                assert {event["chunk"] for event in found["events"] if event["type"] == "bytes"} == {3, 4}
                total += bytes_by_source(found["events"])
                found = await fetched(shown, published.url, abortAfter=2)
                assert found["error"].startswith("AbortError")
                total += bytes_by_source(found["events"])
                found = await fetched(shown, f"{network.scheduler_url}/o/{'0' * 64}/nothing")
                assert found["error"].startswith("SchedulerError")
    del total["origin"]
    assert await network.paid(total) == total


async def from_a_liar(network: WatchNetwork, browser: Browser, url: str, tmp_path: Path) -> None:
    """Its bytes are refused, it is not asked again, and others bring what it should have."""
    content = random.Random(7).randbytes(SIZE)
    (tmp_path / "other.bin").write_bytes(content)
    published = await network.publish(tmp_path / "other.bin")
    liar = network.devices[0]
    network.spoil(liar.line.name, published.id)
    async with page(browser) as shown:
        await shown.goto(url)
        found = await fetched(shown, published.url)
    assert base64.b64decode(found["bytes"]) == content
    assert liar.device_id not in bytes_by_source(found["events"])
    assert {event["source"]["id"] for event in found["events"] if event["type"] == "refused"} == {liar.device_id}
    assert bytes_by_source(found["events"])["origin"] <= 0.2 * SIZE


def test_objects_come_from_homes_to_any_page(tmp_path: Path) -> None:
    async def run() -> None:
        async with WatchNetwork() as network, chromium() as browser:
            await network.prepare()
            async with site(page_with_fallow(network.scheduler_url)) as url:
                await in_a_publishers_page(network, browser, url, tmp_path)
                await from_a_liar(network, browser, url, tmp_path)

    asyncio.run(run())
