"""Pictures of the phone app for the documentation, and its icons: ``make screens``. The device and the server are real.

Somebody fetches a file meanwhile, so that the line of the picture is in use.
"""

from __future__ import annotations

import asyncio
import dataclasses
import sys
import tempfile
from pathlib import Path

import aiohttp

HERE = Path(__file__).parent.parent
sys.path.insert(0, str(HERE / "tests"))
import browsing  # noqa: E402  # of the tests
from fallow_wire.lan import Limits  # noqa: E402
from phone_world import CODE, DEVICE, Home, home  # noqa: E402
from playwright.async_api import Browser, Page  # noqa: E402

DOCS = HERE / "docs"
PUBLIC = HERE / "web" / "app" / "public"
BYTES_MAX = 60_000
PHONE = {**browsing.PHONE, "viewport": {"width": 360, "height": 740}}
LINE_S = 18
"""The picture of the line holds a minute."""
UP_MBPS = 60


async def consumer(url: str) -> None:
    """An ordinary download."""
    async with (
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None)) as http,
        http.get(url) as response,
    ):
        async for _ in response.content.iter_chunked(2**16):
            pass


async def activate(world: Home, page: Page) -> None:
    owner = await world.server.account("owner")
    await page.goto(f"{world.url}#code={CODE}")
    await page.locator(".choice input").last.check()
    for box in await page.get_by_role("checkbox").all():
        await box.check()
    await page.locator("button.wide").click()
    await page.get_by_role("radio").last.check()
    await page.locator("input[type=password]").fill(owner["token"])
    await page.locator("button[type=submit]").click()
    await page.locator(".pause").wait_for()
    await world.reachable()


async def keep(page: Page, name: str) -> None:
    path = DOCS / f"app-{name}.png"
    await page.screenshot(path=path)
    if path.stat().st_size > BYTES_MAX:
        raise SystemExit(f"{path} has {path.stat().st_size} bytes; {BYTES_MAX} at most")
    print(path.relative_to(HERE))  # noqa: T201  # it is a command; this is its output


async def show(world: Home, page: Page) -> None:
    await page.goto(world.url)
    await keep(page, "welcome")
    await activate(world, page)
    world.agent.set_limits(Limits(upload_percent_max=80))
    url = await world.publish(150_000_000)
    fetching = asyncio.create_task(consumer(url), name="consumer")
    await asyncio.sleep(LINE_S)
    await page.get_by_text("Sharing right now").wait_for()
    await keep(page, "home")
    fetching.cancel()
    await asyncio.gather(fetching, return_exceptions=True)
    await world.consume(await world.publish(20_000_000))
    await world.settled()
    await world.offer("A coffee", 100)
    await world.offer("A month of the library", 80_000)
    for tab in ("points", "limits"):
        await page.locator(f".tabs a[href='#{tab}']").click()
        await page.locator(".rewards li, .week").first.wait_for()
        await keep(page, tab)


async def draw_icons(browser: Browser) -> None:
    """The icons that telephones want as PNG, from the one that is drawn."""
    for side in (180, 512):
        async with browsing.page(browser, viewport={"width": side, "height": side}) as page:
            await page.goto((PUBLIC / "icon.svg").as_uri())
            await page.screenshot(path=PUBLIC / f"icon-{side}.png")


async def main() -> None:
    line = dataclasses.replace(DEVICE.line, up_mbps=UP_MBPS)
    with tempfile.TemporaryDirectory() as directory:
        async with (
            browsing.chromium() as browser,
            home(Path(directory), line=line, name="Attic router") as world,
            browsing.page(browser, **PHONE) as page,
        ):
            await draw_icons(browser)
            await show(world, page)


if __name__ == "__main__":
    asyncio.run(main())
