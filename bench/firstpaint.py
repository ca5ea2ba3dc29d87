"""How soon the phone app is there on an old phone, and what watching costs the device.

The real program, activated at a real ``fallow-server``, on this machine; Chromium as a phone with a processor four
times slower (``Emulation.setCPUThrottlingRate``) and a network of 1.6 Mbit/s down, 0.75 up and 150 ms for each answer
(``Network.emulateNetworkConditions``), each visit with an empty cache, as a phone that the device knows.

``first_paint_s`` is the browser's first contentful paint, from the navigation on; ``live_s`` when the line's picture
stands, ``welcome_s`` the first contentful paint of a dormant device. ``memory_growth_mb`` is how much more ``Rss`` an
agent has, at most, while five pages watch than before it ever served one; ``cpu_share_watched`` its processor
meanwhile, as a share of one core. ``app_kb`` is all that the device serves of the app, gzipped.
"""

from __future__ import annotations

import asyncio
import shutil
import sys
import tempfile
import time
from pathlib import Path

from footprint import LAN, activate, cpu_s, figure, memory_mb, programs
from harness import arguments, publish

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
import browsing
from playwright.async_api import Browser

APP = Path(__file__).parent.parent / "agent" / "fallow_agent" / "lan" / "app"
PAGE = f"http://127.0.0.1:{LAN}/"
SLOWER = 4
NETWORK = {"offline": False, "latency": 150, "downloadThroughput": 1_600_000 / 8, "uploadThroughput": 750_000 / 8}
ROUNDS, QUICK_ROUNDS = 9, 3
SETTLE_S, WATCH_S, QUICK_WATCH_S = 8.0, 40.0, 10.0
WATCHERS = 5
FIRST_PAINT_S_MAX, GROWTH_MB_MAX, APP_KB_MAX = 1.5, 3.0, 80.0

PAINTED = """() => new Promise((done) => {
  new PerformanceObserver((list) => {
    for (const one of list.getEntries()) if (one.name === "first-contentful-paint") done(one.startTime);
  }).observe({ type: "paint", buffered: true });
})"""


async def visit(browser: Browser, token: str | None) -> tuple[float, float]:
    """Seconds to the first contentful paint, and to the live picture (0 for a dormant device)."""
    async with browsing.page(browser, **browsing.PHONE) as page:
        if token is not None:
            await page.add_init_script(f"localStorage.setItem('fallow.token', {token!r})")
        session = await page.context.new_cdp_session(page)
        await session.send("Network.enable")
        await session.send("Network.setCacheDisabled", {"cacheDisabled": True})
        await session.send("Network.emulateNetworkConditions", NETWORK)
        await session.send("Emulation.setCPUThrottlingRate", {"rate": SLOWER})
        await page.goto(PAGE, wait_until="commit")
        painted: float = await page.evaluate(PAINTED)
        if token is None:
            return painted / 1000, 0.0
        await page.locator(".line-picture polyline").wait_for(state="attached")
        live: float = await page.evaluate("performance.now()")
        return painted / 1000, live / 1000


async def watched(browser: Browser, pid: int, token: str, watch_s: float) -> tuple[float, float]:
    """By how many MB the agent grows while pages watch, and its share of a processor."""
    await asyncio.sleep(SETTLE_S)
    before = memory_mb(pid)["Rss"]
    contexts = []
    for _ in range(WATCHERS):
        context = await browser.new_context(**browsing.PHONE)
        contexts.append(context)
        page = await context.new_page()
        await page.add_init_script(f"localStorage.setItem('fallow.token', {token!r})")
        await page.goto(PAGE)
        await page.locator(".line-picture polyline").wait_for(state="attached")
    most, began, used = 0.0, time.monotonic(), cpu_s(pid)
    while time.monotonic() - began < watch_s:
        most = max(most, memory_mb(pid)["Rss"])
        await asyncio.sleep(0.5)
    share = (cpu_s(pid) - used) / (time.monotonic() - began)
    for context in contexts:
        await context.close()
    return most - before, share


async def watching(pid: int, operator: str, watch_s: float) -> tuple[float, float]:
    async with browsing.chromium() as browser:
        return await watched(browser, pid, await asyncio.to_thread(activate, operator), watch_s)


async def visiting(operator: str, rounds: int) -> tuple[list[float], list[tuple[float, float]]]:
    async with browsing.chromium() as browser:
        welcome = [(await visit(browser, None))[0] for _ in range(rounds)]
        token = await asyncio.to_thread(activate, operator)
        return welcome, [await visit(browser, token) for _ in range(rounds)]


def app_kb() -> float:
    """Gzipped, all files together; what no phone gets unpacked counts as it is."""
    files = [path for path in APP.rglob("*") if path.is_file()]
    packed = {path.with_suffix("") for path in files if path.suffix == ".gz"}
    return sum(path.stat().st_size for path in files if path not in packed) / 1000


def main() -> None:
    options = arguments(__doc__ or "").parse_args()
    rounds, watch_s = (QUICK_ROUNDS, QUICK_WATCH_S) if options.quick else (ROUNDS, WATCH_S)
    if browsing.CHROMIUM is None or not (APP / "index.html").is_file():
        raise SystemExit("Chromium and the built app are needed: apt install chromium; make web")
    work = Path(tempfile.mkdtemp(prefix="fallow-firstpaint-"))
    try:
        for part in ("watching", "visiting"):
            (work / part).mkdir()
        with programs(work / "watching") as (pid, operator):
            growth, share = asyncio.run(watching(pid, operator, watch_s))
        with programs(work / "visiting") as (_, operator):
            welcome, visits = asyncio.run(visiting(operator, rounds))
    finally:
        shutil.rmtree(work, ignore_errors=True)
    paints, lives = zip(*visits, strict=True)
    publish(
        "firstpaint",
        [
            figure("first_paint_s", list(paints), "s", FIRST_PAINT_S_MAX),
            figure("welcome_s", welcome, "s", FIRST_PAINT_S_MAX),
            figure("live_s", list(lives), "s"),
            figure("memory_growth_mb", [growth], "MB", GROWTH_MB_MAX),
            figure("cpu_share_watched", [share], "cores"),
            figure("app_kb", [app_kb()], "kB", APP_KB_MAX),
        ],
        quick=options.quick,
    )


if __name__ == "__main__":
    main()
