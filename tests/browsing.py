"""A real browser for tests of pages: Debian's Chromium, driven by Playwright, as a phone or as a desktop."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, Page, async_playwright

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
SCREENSHOTS = Path(os.environ.get("FALLOW_SCREENSHOTS", "tests/browser/screenshots"))
"""Where screens are kept to be looked at; not committed."""
AXE = Path(__file__).parents[1] / "web" / "node_modules" / "axe-core" / "axe.min.js"
ARGUMENTS = [
    "--no-sandbox",  # root has no sandbox; the tests only open pages of their own
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PHONE: dict[str, Any] = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
SMALL_PHONE: dict[str, Any] = {**PHONE, "viewport": {"width": 320, "height": 568}}
DESKTOP: dict[str, Any] = {"viewport": {"width": 1280, "height": 800}}


def marks(built: Path) -> list[pytest.MarkDecorator]:
    """What a module of such tests is marked with. :param built: a page that ``make web`` makes."""
    return [
        pytest.mark.skipif(CHROMIUM is None, reason="needs chromium (chromium)"),
        pytest.mark.skipif(not built.is_file(), reason="needs the pages: make web, with Node 20"),
    ]


@contextlib.asynccontextmanager
async def chromium(*arguments: str) -> AsyncIterator[Browser]:
    """:param arguments: further ones of the command line."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=[*ARGUMENTS, *arguments])
        try:
            yield browser
        finally:
            await browser.close()


@contextlib.asynccontextmanager
async def page(browser: Browser, language: str = "en", **settings: Any) -> AsyncIterator[Page]:
    """A page of a reader of its own (no cookies, nothing kept); fails where a script of the page failed."""
    context = await browser.new_context(locale={"en": "en-GB", "zh": "zh-CN"}[language], **settings)
    opened = await context.new_page()
    faults: list[str] = []
    opened.on("pageerror", lambda error: faults.append(str(error)))
    try:
        yield opened
    finally:
        await context.close()
    assert not faults, faults


async def keep(shown: Page, name: str) -> None:
    """Keep the whole page as a picture."""
    await shown.screenshot(path=SCREENSHOTS / f"{name}.png", full_page=True)


async def accessible(shown: Page, *rules: str) -> None:
    """axe finds nothing wrong, by all rules or by ``rules``. Run by the browser itself, as the page's policy lets no
    foreign script in."""
    if not await shown.evaluate("'axe' in window"):
        await shown.evaluate(AXE.read_text(encoding="utf-8"))
    found = await shown.evaluate(
        "(rules) => axe.run(rules.length ? {runOnly: rules} : {}).then((found) => found.violations)", rules
    )
    assert not found, [(one["id"], [node["html"][:200] for node in one["nodes"]]) for one in found]
