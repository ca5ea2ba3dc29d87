"""The console in a real browser: its main tasks, in both languages, and what a hostile page can do with its cookie."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from aiohttp import web
from browsing import DESKTOP, PHONE, accessible, chromium, keep, marks, page
from console_world import BUILT, populate
from playwright.async_api import Browser, Page, expect
from server_world import ServerWorld, running_server

pytestmark = marks(BUILT)

WAIT_MS = 30_000
expect.set_options(timeout=WAIT_MS)


def in_console(directory: Path, script: Callable[[ServerWorld, Browser], Awaitable[None]]) -> None:
    async def run() -> None:
        async with running_server(directory) as world, chromium() as browser:
            await script(world, browser)

    asyncio.run(run())


@asynccontextmanager
async def signed_in(
    world: ServerWorld, browser: Browser, token: str, place: str = "", **settings: object
) -> AsyncIterator[Page]:
    """A page of somebody who signs in by hand."""
    async with page(browser, **settings) as shown:  # type: ignore[arg-type]
        shown.set_default_timeout(WAIT_MS)
        await shown.goto(f"{world.url}/console#/{place}")
        await shown.locator("input[type=password]").fill(token)
        await shown.locator("button[type=submit]").click()
        await expect(shown.locator("#content")).to_be_visible()
        yield shown


def test_signing_in_and_out(tmp_path: Path) -> None:
    async def script(world: ServerWorld, browser: Browser) -> None:
        async with page(browser, **PHONE) as shown:
            await shown.goto(f"{world.url}/console")
            field, button = shown.get_by_label("Token of your account"), shown.get_by_role("button", name="Sign in")
            await field.fill("fa_" + "A" * 43)
            await button.click()
            await expect(shown.get_by_role("alert")).to_contain_text("The token is not known here")
            await accessible(shown)
            await keep(shown, "console-sign-in")
            owner = await world.account("owner")
            await field.fill(owner["token"])
            await button.click()
            await expect(shown.get_by_role("alert")).to_contain_text("for operators and publishers")
            await field.fill(world.operator_token)
            await button.click()
            await expect(shown.get_by_role("button", name="Sign out")).to_be_visible()
            # The script never sees the secret, and a page that is loaded again is still signed in.
            assert await shown.evaluate("document.cookie") == ""
            await shown.reload()
            await expect(shown.get_by_role("button", name="Sign out")).to_be_visible()
            await shown.get_by_role("button", name="Sign out").click()
            await expect(field).to_be_visible()
            await shown.reload()
            await expect(field).to_be_visible()

    in_console(tmp_path, script)


def test_who_guesses_has_to_wait(tmp_path: Path) -> None:
    async def script(world: ServerWorld, browser: Browser) -> None:
        async with page(browser, "zh", **PHONE) as shown:
            await shown.goto(f"{world.url}/console")
            button = shown.get_by_role("button", name="登录")
            for _ in range(10):
                await shown.get_by_label("账户令牌").fill("fp_" + "B" * 43)
                async with shown.expect_response("**/console/session") as answered:
                    await button.click()
                assert (await answered.value).status == 401
                await expect(button).to_be_enabled()
            await shown.get_by_label("账户令牌").fill(world.operator_token)
            await button.click()
            await expect(shown.get_by_role("alert")).to_contain_text("请几分钟后再用正确的令牌登录")

    in_console(tmp_path, script)


def test_a_fleet_of_a_hundred_thousand_comes_by_pages(tmp_path: Path) -> None:
    async def script(world: ServerWorld, browser: Browser) -> None:
        await populate(world, 100_000, 2_000)
        async with signed_in(world, browser, world.operator_token, "fleet", **DESKTOP) as shown:
            table = shown.get_by_role("region", name="Devices", exact=True)
            rows = table.locator("tbody tr")
            await expect(shown.get_by_text("1 to 50 of 100,000")).to_be_visible()
            await expect(rows).to_have_count(50)
            async with shown.expect_response(lambda answer: "/console/fleet?" in answer.url) as answered:
                await shown.get_by_role("button", name="Next").click()
            assert len(await (await answered.value).body()) < 64 * 1024
            await expect(shown.get_by_text("51 to 100 of 100,000")).to_be_visible()
            await shown.get_by_label("State").select_option("active")
            await expect(shown.get_by_text("1 to 50 of 2,000")).to_be_visible()
            await table.get_by_role("button", name="Idle upload").click()
            await expect(rows.first).to_contain_text("1 Mbit/s")
            await table.get_by_role("button", name="Idle upload").click()
            await expect(rows.first).to_contain_text("3 Mbit/s")
            await accessible(shown)
            await keep(shown, "console-fleet")
            await shown.get_by_label("Search by id, owner or model").fill("home 007")
            await expect(shown.get_by_text("1 to 20 of 20")).to_be_visible()
            await rows.first.get_by_role("link").click()
            await expect(shown.get_by_text("Home 007")).to_be_visible()
            await accessible(shown)
            await keep(shown, "console-device")

    in_console(tmp_path, script)


HOSTILE = """<!doctype html><title>hostile</title>
<iframe name="sink"></iframe>
<form id="plain" method="post" target="sink" enctype="text/plain"></form>
<script>
const tried = async (url, init) => {
  try { const answer = await fetch(url, init); return `${answer.type} ${answer.status} ${await answer.text()}`; }
  catch (error) { return "failed"; }
};
</script>"""


def test_a_hostile_page_has_nothing_of_the_cookie(tmp_path: Path) -> None:
    """Both from another site and from another port of the same host, for which the cookie counts as the same site's."""

    async def script(world: ServerWorld, browser: Browser) -> None:
        async with hostile_server() as port, signed_in(world, browser, world.operator_token, **DESKTOP) as shown:
            cookies = await shown.context.cookies()
            assert [(one["httpOnly"], one["sameSite"]) for one in cookies] == [(True, "Strict")]
            accounts = (await world.call("GET", "/v1/accounts", world.operator_token)).json
            for host in ("127.0.0.1", "localhost"):
                evil = await shown.context.new_page()
                await evil.goto(f"http://{host}:{port}/")
                for path in ("/v1/accounts", "/console/session", "/console/fleet"):
                    for mode in ("cors", "no-cors"):
                        told = await evil.evaluate(
                            "([url, mode]) => tried(url, {credentials: 'include', mode})", [world.url + path, mode]
                        )
                        assert told in ("failed", "opaque 0 "), told
                for headers in ({"Content-Type": "application/json"}, {"X-Fallow-Session": "x"}):
                    told = await evil.evaluate(
                        "([url, headers]) => tried(url, {method: 'POST', credentials: 'include', headers,"
                        " body: JSON.stringify({role: 'operator', name: 'mallory'})})",
                        [f"{world.url}/v1/accounts", headers],
                    )
                    assert told == "failed"
                for path in ("/v1/accounts", "/console/session"):
                    form = await shown.context.new_page()  # what answers a form may be taken for a download
                    await form.goto(f"http://{host}:{port}/")
                    async with form.expect_response(world.url + path) as answered:
                        await form.evaluate(
                            """(url) => {
                                const form = document.getElementById("plain"), field = document.createElement("input");
                                field.name = '{"role": "operator", "name": "mallory", "x": "', field.value = '"}';
                                form.action = url; form.append(field); form.submit();
                            }""",
                            world.url + path,
                        )
                    assert (await answered.value).status in (401, 403)
                    await form.close()
                framed = await evil.evaluate(
                    """(url) => new Promise((done) => {
                        const frame = document.createElement("iframe");
                        frame.onload = () => {
                            try { done(frame.contentDocument ? frame.contentDocument.body.innerText : "foreign"); }
                            catch (error) { done("foreign"); }
                        };
                        frame.src = url; document.body.append(frame);
                    })""",
                    f"{world.url}/console/",
                )
                assert framed == "foreign"
                await evil.close()
            assert (await world.call("GET", "/v1/accounts", world.operator_token)).json == accounts
            await shown.reload()
            await expect(shown.get_by_role("button", name="Sign out")).to_be_visible()

    in_console(tmp_path, script)


@asynccontextmanager
async def hostile_server() -> AsyncIterator[int]:
    async def answer(_request: web.Request) -> web.Response:
        return web.Response(text=HOSTILE, content_type="text/html")

    application = web.Application()
    application.router.add_get("/", answer)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        assert site._server is not None
        yield site._server.sockets[0].getsockname()[1]  # type: ignore[attr-defined]
    finally:
        await runner.cleanup()
