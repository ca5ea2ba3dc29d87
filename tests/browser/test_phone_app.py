"""The phone app in a real browser, as a phone has it, with a real device and a real server."""

from __future__ import annotations

import asyncio
import dataclasses
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import browsing
import phone_world
from fallow_agent.app import Agent
from fallow_agent.lan.neighbours import Neighbour
from fallow_agent.life import ACTIVE, DORMANT, PAUSED
from fallow_wire.lan import Limits
from phone_world import CODE, PASSWORD, POINT, Home, home, until
from playwright.async_api import Page, Route, expect
from support import Stopwatch

pytestmark = browsing.marks(phone_world.INDEX)

WAIT_MS = 60_000
APP_BYTES_MAX = 80_000
"""Gzipped, all files together: on a slow phone and a slow network the app is there in a second."""
SEVERAL, EARNED = re.compile(r"(\S+ ){2,}"), re.compile(r": (0\.\d+|[1-9].*) points")
expect.set_options(timeout=WAIT_MS)


def script(
    tmp_path: Path, act: Callable[[Home, Page], Awaitable[None]], language: str = "en", **settings: object
) -> None:
    async def run() -> None:
        async with (
            browsing.chromium() as browser,
            home(tmp_path) as world,
            browsing.page(browser, language, **{**browsing.PHONE, **settings}) as page,
        ):
            page.set_default_timeout(WAIT_MS)
            await act(world, page)

    asyncio.run(run())


async def looked_at(page: Page, name: str) -> None:
    """Every screen is kept as a picture, is accessible, and fits its width."""
    await browsing.keep(page, f"app-{name}")
    await browsing.accessible(page)
    assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{name} is wider than the phone"


def heading(page: Page, text: str) -> Any:
    return expect(page.get_by_role("heading", level=1, name=text))


async def agree(page: Page) -> None:
    await page.get_by_role("radio", name="Half").check()
    await page.get_by_role("checkbox", name="contract").check()
    await page.get_by_role("checkbox", name="I agree").check()
    await page.get_by_role("button", name="Agree and go on").click()


async def activate(page: Page, world: Home) -> None:
    """As an owner does who scanned the label and has no account yet."""
    await page.goto(f"{world.url}#code={CODE}")
    await agree(page)
    await page.get_by_role("radio", name="Create an account").check()
    await page.get_by_label("Name", exact=True).fill("ada")
    await page.get_by_label("Password").fill(PASSWORD)
    await page.get_by_role("button", name="Create account").click()
    await expect(page.get_by_role("button", name="Pause")).to_be_visible()
    await world.reachable()


async def go(page: Page, tab: str) -> None:
    await page.get_by_role("navigation").get_by_role("link", name=tab).click()


async def redeem_once(world: Home, page: Page, reward: str) -> None:
    """The answer to a double tap gets lost, the page is loaded anew, and all the same there is one redemption."""
    sent: list[str | None] = []

    async def lose(route: Route) -> None:
        if route.request.method != "POST":
            await route.fallback()
            return
        sent.append(await route.request.header_value("Idempotency-Key"))
        if len(sent) == 1:
            await route.fetch()  # it reaches the ledger, and its answer nobody
            await route.abort()
            return
        await route.fallback()

    async def known() -> list[dict[str, Any]]:
        operator = world.server.operator_token
        found: list[dict[str, Any]] = (await world.server.call("GET", "/v1/redemptions", operator, ledger=True)).json
        return found

    await page.route("**/v1/redemptions", lose)
    await page.get_by_role("button", name="Redeem A coffee").click()
    await looked_at(page, "redeem")
    await page.get_by_role("dialog").get_by_role("button", name="Redeem").dblclick()
    await expect(page.get_by_role("dialog").get_by_role("alert")).to_contain_text("does not answer")
    assert len(await known()) == 1
    await page.reload()
    await expect(page.get_by_text("the answer got lost")).to_be_visible()
    await expect(page.get_by_role("button", name="Redeem A coffee")).to_be_disabled()
    await looked_at(page, "answer-lost")
    await page.get_by_role("button", name="Ask again").dblclick()
    await expect(page.get_by_role("dialog")).to_contain_text("BEAN-4")
    await looked_at(page, "redeemed")
    await page.get_by_role("button", name="Good").click()
    await expect(page.get_by_text("What you redeemed")).to_be_visible()
    (only,) = await known()
    assert (only["reward"], only["state"]) == (reward, "fulfilled")
    assert len(sent) == 2
    assert sent[0] == sent[1] is not None
    await page.unroute("**/v1/redemptions")


def ledger_is_away(world: Home) -> None:
    access = world.agent._membership.ledger_access()
    assert access is not None
    nowhere = dataclasses.replace(access, url="http://127.0.0.1:9")
    world.agent._points._access = lambda: nowhere


def test_from_a_dormant_device_to_points(tmp_path: Path) -> None:
    async def act(world: Home, page: Page) -> None:
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        await page.goto(world.url)
        await heading(page, "Let your idle line bear fruit").to_be_focused()
        await looked_at(page, "welcome")
        # Nothing is chosen for the owner, and without a choice nothing goes on.
        assert await page.locator("input:checked").count() == 0
        await page.get_by_role("button", name="Agree and go on").click()
        await expect(page.get_by_role("alert")).to_contain_text("choose above")
        assert all(url.startswith(world.url) for url in asked), "nobody but the device is asked before the consent"
        await agree(page)
        await heading(page, "Show that you are at home").to_be_visible()
        await looked_at(page, "code")
        await page.get_by_label("Setup code").fill("ABCD")
        await page.get_by_role("button", name="Go on").click()
        await expect(page.get_by_text("It has eight letters and digits.")).to_be_visible()
        await page.get_by_label("Setup code").fill("0000-0000")
        await page.get_by_role("button", name="Go on").click()
        await page.get_by_label("Name", exact=True).fill("ada")
        await page.get_by_label("Password").fill("not the right one")
        await page.get_by_role("button", name="Sign in").click()
        await expect(page.get_by_role("alert")).to_contain_text("not right")
        await page.get_by_role("radio", name="Create an account").check()
        await page.get_by_label("Password").fill(PASSWORD)
        await looked_at(page, "account")
        await page.get_by_role("button", name="Create account").click()
        # The device refuses the code; the account is made, and the same claim serves once the code is right.
        await expect(page.get_by_role("alert")).to_contain_text("not right")
        assert world.agent.life.state == DORMANT
        await page.get_by_label("Setup code").fill(CODE.lower())
        await page.get_by_role("button", name="Go on").click()
        await expect(page.get_by_text("Ready to share")).to_be_visible()
        assert world.agent.limits.upload_percent_max == 50
        await world.reachable()
        assert await world.consume(await world.publish()) > 0
        await world.settled()
        # Some seconds of the line, so that there is something to look at.
        await expect(page.locator(".line-picture polyline")).to_have_attribute("points", SEVERAL)
        await looked_at(page, "home")

        reward = await world.offer("A coffee", 100, codes=["BEAN-42", "BEAN-43"])
        await go(page, "Points")
        await heading(page, "Points").to_be_focused()
        today = page.locator(".day-bars button").last
        await expect(today).to_have_attribute("aria-label", EARNED)
        await today.click()
        delivery = page.locator(".day .list button").first
        await expect(delivery).to_contain_text("a file")
        await looked_at(page, "points")
        await delivery.click()
        await expect(page.get_by_role("dialog")).to_contain_text("confirmed by the receiver")
        await looked_at(page, "factors")
        await page.get_by_role("button", name="Close").click()
        await redeem_once(world, page, reward)

        # While the ledger is away the last figures stay, and say how old they are.
        ledger_is_away(world)
        world.agent._clock.set_server_time(world.agent.now() + 7200)
        await page.reload()
        await expect(page.get_by_text("These figures are 2 hours old")).to_be_visible()
        await expect(page.locator(".main-fact dd")).not_to_have_text("0")
        await looked_at(page, "ledger-away")

    script(tmp_path, act)


def test_pause_limits_and_leaving(tmp_path: Path) -> None:
    async def act(world: Home, page: Page) -> None:
        await activate(page, world)
        online = world.agent._membership.online
        assert online is not None
        await pause_while_serving(world, page)
        await change_limits(world, page)

        await go(page, "Device")
        await heading(page, "Attic router").to_be_focused()
        await expect(page.get_by_text("None was found.")).to_be_visible()
        await looked_at(page, "device")
        await page.get_by_role("button", name="Leave…").click()
        leave = page.get_by_role("dialog").get_by_role("button", name="Leave")
        await expect(leave).to_be_disabled()
        await page.get_by_role("checkbox", name="Yes, leave and erase.").check()
        await looked_at(page, "leave")
        await leave.click()
        await heading(page, "Let your idle line bear fruit").to_be_visible()
        assert world.agent.life.state == DORMANT
        assert world.agent.limits == Limits()
        assert not (tmp_path / "device" / "content").exists()
        owners = [one async for one in _owners(world)]
        assert len(owners) == 1, "the account, and its points, stay"

    script(tmp_path, act)


async def _owners(world: Home) -> Any:
    for one in (await world.server.call("GET", "/v1/accounts", world.server.operator_token)).json:
        if one["role"] == "owner":
            yield one


async def pause_while_serving(world: Home, page: Page) -> None:
    """One tap ends a transfer under way within a second of its arrival at the device, and turns new ones away."""
    agent = world.agent
    url = await world.publish(40_000_000)
    agent.set_limits(Limits(upload_bps_max=8_000_000))
    arrived: list[float] = []
    request = agent.request
    watch = Stopwatch()

    def watched(event: Any, limits: Limits | None = None) -> Any:
        arrived.append(watch.seconds)
        return request(event, limits)

    agent.request = watched  # type: ignore[method-assign]
    async with aiohttp.ClientSession() as http, http.get(url) as response:
        assert response.url.port != world.server.app.scheduler_port, "it comes from the device"
        await response.content.readexactly(100_000)
        await expect(page.get_by_text("One person is getting a file")).to_be_visible()
        watching = asyncio.create_task(watch.run(), name="stopwatch")
        await page.get_by_role("button", name="Pause").click()
        try:
            await response.content.read()
        except aiohttp.ClientError:
            pass  # cut short, which is what is wanted
        watching.cancel()
        assert watch.seconds - arrived[0] < 1
        await expect(page.get_by_text("Nothing is shared until you say so.")).to_be_visible()
        assert agent.life.state == PAUSED
        async with http.get(response.url) as refused:
            assert refused.status == 503
    await looked_at(page, "paused")
    await page.get_by_role("button", name="in an hour").click()
    await expect(page.get_by_text(re.compile("Nothing is shared until .*[0-9]"))).to_be_visible()
    assert agent.life.countdown is not None
    assert agent.life.countdown.left_s == 3600
    await page.get_by_role("button", name="Resume sharing").click()
    await expect(page.get_by_role("button", name="Pause")).to_be_visible()
    await until("it serves again", lambda: agent.life.state == ACTIVE)


async def change_limits(world: Home, page: Page) -> None:
    """Each limit by touch or keyboard; it counts at once, and the page says what it brings about."""
    agent = world.agent
    online = agent._membership.online
    assert online is not None
    await go(page, "Limits")
    await heading(page, "Limits").to_be_focused()
    await expect(page.get_by_role("checkbox", name="Measurements")).to_be_visible()
    await looked_at(page, "limits")
    share = page.get_by_role("slider", name="Share of your upload")
    await share.focus()
    await page.keyboard.press("Home")
    await expect(page.get_by_text("Nothing is sent, and nothing earned.")).to_be_visible()
    await until("nothing may be sent", lambda: agent.limits.upload_percent_max == 0)
    assert online.refusal() is not None
    await page.keyboard.press("End")
    await until("all may be used", lambda: agent.limits.upload_percent_max == 100)
    await page.get_by_role("radio", name="200 GB").check()
    await until("the month has a cap", lambda: agent.limits.monthly_bytes_max == 200 * 10**9)
    await page.get_by_role("button", name="at night").click()
    await until("nights alone", lambda: len(agent.limits.hours) == 2)
    await expect(page.get_by_text("63 of 168 hours a week")).to_be_visible()
    await page.get_by_role("button", name="Monday 8 to 12 o'clock").click()
    await expect(page.get_by_text("67 of 168 hours a week")).to_be_visible()
    await page.get_by_role("button", name="always").click()
    await until("always again", lambda: agent.limits.hours == ())
    await page.get_by_role("checkbox", name="Measurements").uncheck()
    await until("no measurements", lambda: agent.limits.services.get("probe") is False)
    assert "probe" not in agent._controls.services()


def test_in_chinese_in_the_dark_and_on_a_small_phone(tmp_path: Path) -> None:
    async def act(world: Home, page: Page) -> None:
        owner = await world.server.account("owner")
        await page.goto(f"{world.url}#code={CODE}")
        assert await page.evaluate("location.hash") == "", "the code stays in no history"
        assert await page.evaluate("document.documentElement.lang") == "zh-Hans"
        await looked_at(page, "welcome-zh")
        await page.get_by_role("radio", name="大部分").check()
        for box in await page.get_by_role("checkbox").all():
            await box.check()
        await page.get_by_role("button", name="同意并继续").click()
        # With the key that an operator gave.
        await page.get_by_role("radio", name="我有运营者给的密钥").check()
        await page.get_by_label("密钥", exact=True).fill(owner["token"])
        await looked_at(page, "account-zh")
        await page.get_by_role("button", name="登录").click()
        await expect(page.get_by_text("随时可以共享")).to_be_visible()
        await world.reachable()
        await world.offer("一杯咖啡", 100 * POINT)
        await looked_at(page, "home-zh")
        for tab, title in (("积分", "积分"), ("限额", "限额"), ("设备", "Attic router")):
            await go(page, tab)
            await heading(page, title).to_be_focused()
            await expect(page.get_by_text("正在查找…")).to_have_count(0)
            await expect(page.locator("main .card").nth(1)).to_be_visible()
            await looked_at(page, f"{tab}-zh")
        latin = await page.evaluate("document.querySelector('main').innerText.match(/[a-z]{4,} [a-z]{3,}/gi)")
        assert latin == ["Attic router", "Test box"]
        await page.get_by_role("button", name="English").click()
        await expect(page.get_by_role("button", name="Leave…")).to_be_visible()
        await page.reload()
        await expect(page.get_by_role("button", name="Leave…")).to_be_visible()

    script(tmp_path, act, "zh", color_scheme="dark", **browsing.SMALL_PHONE)


def test_a_second_phone_joins_and_one_that_is_forgotten_is_told(tmp_path: Path) -> None:
    async def act(world: Home, page: Page) -> None:
        await activate(page, world)
        browser = page.context.browser
        assert browser is not None
        async with browsing.page(browser, **browsing.PHONE) as second:
            second.set_default_timeout(WAIT_MS)
            await second.goto(world.url)
            await heading(second, "Add this phone").to_be_visible()
            await looked_at(second, "second-phone")
            await second.goto(f"{world.url}?#code={CODE}")
            await expect(second.get_by_role("button", name="Pause")).to_be_visible()
            await second.get_by_role("button", name="Pause").click()
            # Both see the same device, at once.
            await expect(page.get_by_role("button", name="Resume sharing")).to_be_visible()
            world.agent._pairing.forget_phones()
            await heading(second, "Add this phone").to_be_visible()

    script(tmp_path, act)


def known_to(device: Agent, other: Agent) -> None:
    """What the device would hear of the other by mDNS, which the loopback does not carry."""

    async def neighbours() -> list[Neighbour]:
        told = other.description()
        url = f"http://127.0.0.1:{other.lan_port}/"
        return [Neighbour(told["device_id"], f"{told['model']}.local", url, other.life.state)]

    device.neighbours = neighbours  # type: ignore[method-assign]


def test_one_goes_from_device_to_device_by_touch(tmp_path: Path) -> None:
    async def act(world: Home, page: Page) -> None:
        await activate(page, world)
        lan = dataclasses.replace(phone_world.DEVICE.lan, scheduler=world.server.url)
        async with phone_world.running_agent(tmp_path / "other", lan=lan, name="Cellar box", model="Box") as other:
            known_to(world.agent, other)
            known_to(other, world.agent)
            await page.get_by_role("navigation").get_by_role("link", name="Device").tap()
            await page.get_by_role("link", name="Box not in use yet").tap()
            # Each asks for its own consent and its own code.
            await heading(page, "Let your idle line bear fruit").to_be_visible()
            assert page.url == f"http://127.0.0.1:{other.lan_port}/"
            await agree(page)
            await page.get_by_label("Setup code").fill(CODE)
            await page.get_by_role("button", name="Go on").tap()
            await page.get_by_label("Name", exact=True).fill("ada")
            await page.get_by_label("Password").fill(PASSWORD)
            await page.get_by_role("button", name="Sign in").tap()
            await page.get_by_role("button", name="Pause").tap()
            await until("the second is paused", lambda: other.life.state == PAUSED)
            assert world.agent.life.state == ACTIVE
            await page.get_by_role("navigation").get_by_role("link", name="Device").tap()
            await heading(page, "Cellar box").to_be_visible()
            await looked_at(page, "two-devices")
            # Back at the first, which knows this phone already; and there the other is told as it is now.
            await page.get_by_role("link", name="Test box sharing").tap()
            await expect(page.get_by_role("button", name="Pause")).to_be_visible()
            assert page.url.startswith(world.url)
            await page.get_by_role("navigation").get_by_role("link", name="Device").tap()
            await expect(page.get_by_role("link", name="Box paused")).to_be_visible()

    script(tmp_path, act)


def test_a_device_that_goes_is_told_and_found_again(tmp_path: Path) -> None:
    async def act(world: Home, page: Page) -> None:
        await activate(page, world)
        await page.context.set_offline(True)
        await page.route("**/v1/events", lambda route: route.abort())
        await page.evaluate("dispatchEvent(new Event('online'))")
        await expect(page.get_by_text("The device does not answer.")).to_be_visible()
        await page.unroute("**/v1/events")
        await page.context.set_offline(False)
        await page.evaluate("dispatchEvent(new Event('online'))")
        await expect(page.get_by_text("The device does not answer.")).to_have_count(0)

    script(tmp_path, act)


def test_the_app_is_small_and_its_parts_are_packed() -> None:
    packed = list(phone_world.APP.rglob("*.gz"))
    plain = [path for path in phone_world.APP.rglob("*") if path.is_file() and path.suffix != ".gz"]
    counted = [path for path in plain if not path.with_name(path.name + ".gz").exists()]
    assert packed
    assert sum(path.stat().st_size for path in [*packed, *counted]) <= APP_BYTES_MAX
    index = (phone_world.APP / "index.html").read_text("utf-8")
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\bon\w+=|\bstyle=", index), "the policy allows nothing inline"
