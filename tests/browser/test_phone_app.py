"""The phone app in a real browser, as a phone has it, with a real device and a real server."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import browsing
import phone_world
from phone_world import CODE, PASSWORD, Home, home
from playwright.async_api import Page, expect

pytestmark = browsing.marks(phone_world.INDEX)

expect.set_options(timeout=30_000)


def script(
    tmp_path: Path, act: Callable[[Home, Page], Awaitable[None]], language: str = "en", **device: object
) -> None:
    async def run() -> None:
        async with (
            browsing.chromium() as browser,
            home(tmp_path, **device) as world,
            browsing.page(browser, language, **browsing.PHONE) as page,
        ):
            page.set_default_timeout(30_000)
            await act(world, page)

    asyncio.run(run())


async def agree(page: Page) -> None:
    await page.get_by_role("radio", name="Half").check()
    await page.get_by_role("checkbox", name="contract").check()
    await page.get_by_role("checkbox", name="I agree").check()
    await page.get_by_role("button", name="Agree and go on").click()


async def create_account(page: Page, login: str = "ada") -> None:
    await page.get_by_role("radio", name="Create an account").check()
    await page.get_by_label("Name", exact=True).fill(login)
    await page.get_by_label("Password").fill(PASSWORD)
    await page.get_by_role("button", name="Create account").click()


def test_from_a_dormant_device_to_one_that_serves(tmp_path: Path) -> None:
    async def act(world: Home, page: Page) -> None:
        await page.goto(world.url)
        await expect(page.get_by_role("heading", level=1)).to_contain_text("idle line")
        await browsing.keep(page, "welcome")
        # Nothing is chosen for the owner, and without a choice nothing goes on.
        assert await page.locator("input:checked").count() == 0
        await page.get_by_role("button", name="Agree and go on").click()
        await expect(page.get_by_role("alert")).to_contain_text("choose above")
        await agree(page)
        await expect(page.get_by_role("heading", level=1)).to_contain_text("at home")
        await browsing.keep(page, "code")
        await page.get_by_label("Setup code").fill(CODE.lower())
        await page.get_by_role("button", name="Go on").click()
        await browsing.keep(page, "account")
        await create_account(page)
        await expect(page.get_by_role("status").first).to_contain_text("Ready to share")
        await world.reachable()
        url = await world.publish()
        await world.consume(url)
        await expect(page.get_by_text("3 MB").first).to_be_visible()
        await browsing.keep(page, "home")
        assert world.agent.limits.upload_percent_max == 50

    script(tmp_path, act)
