"""The console in a real browser: its main tasks, in both languages, and what a hostile page can do with its cookie."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from aiohttp import web
from browsing import DESKTOP, PHONE, accessible, chromium, keep, marks, page
from console_world import BUILT, device_id, populate
from fallow_server.delivery.router import Routing
from fallow_server.scheduling.places import NOWHERE
from playwright.async_api import Browser, Page, expect
from server_world import ServerWorld, running_server

pytestmark = marks(BUILT)

WAIT_MS = 60_000
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
            await expect(shown.get_by_role("alert")).to_contain_text("请一分钟后再用正确的令牌登录")

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


OPERATOR_PAGES = ("", "fleet", "tasks", "objects", "sites", "ledger", "reviews", "tariffs", "rewards", "accounts")
PUBLISHER_PAGES = ("", "objects", "sites", "tasks")


async def settled(shown: Page) -> None:
    await expect(shown.locator(".loading")).to_have_count(0)
    await expect(shown.locator("#content h1")).to_be_visible()


async def publisher_with_things(world: ServerWorld) -> str:
    """A publisher with an object, a site, a task and points; gives the token."""
    publisher = await world.account("publisher", "Films & more")
    token = publisher["token"]
    await world.told()
    deposit = {"publisher": publisher["id"], "micro_points": 5_000_000}
    headers = {"Idempotency-Key": "first"}
    answer = await world.call("POST", "/v1/deposits", world.operator_token, ledger=True, json=deposit, headers=headers)
    assert answer.status == 201, answer.body
    published = await world.call("POST", "/v1/objects?name=film.mp4", token, data=b"film" * 100_000)
    assert published.status == 201, published.body
    site = {"name": "pub", "origin": "https://downloads.example.org/pub/"}
    assert (await world.call("POST", "/v1/sites", token, json=site)).status == 201
    task = {"kind": "fill", "object": published.json["id"], "replicas": 2}
    assert (await world.call("POST", "/v1/tasks", token, json=task)).status == 201
    return token


async def suspect(world: ServerWorld, number: int = 7) -> str:
    """A review of a device that waits for a decision; gives the device."""
    assert world.app.ledger is not None
    device = device_id(number)
    detail = "one consumer took 91 % of what 12 devices had to serve"
    row = (f"review-{number}", "own-007", device, "unlikely-pair", detail, "open", 1_790_000_000, 1_790_000_000)
    marks = ", ".join("?" * len(row))
    statement = f"INSERT INTO reviews (id, owner, device, reason, detail, state, at, changed_at) VALUES ({marks})"
    await world.app.ledger._database.transact(lambda rows: rows.run(statement, row))
    return device


def test_each_page_is_accessible_on_a_phone_and_a_desk_in_both_languages(tmp_path: Path) -> None:
    phone = {**PHONE, "viewport": {"width": 360, "height": 740}}

    async def script(world: ServerWorld, browser: Browser) -> None:
        await populate(world, 24, 16, homes=8)
        publisher = await publisher_with_things(world)
        await suspect(world)
        for number in range(12):
            await history(world, number)
        task = f"tasks/{(await world.call('GET', '/v1/tasks', world.operator_token)).json[0]['id']}"
        for token, pages, who in (
            (world.operator_token, (*OPERATOR_PAGES, task), "operator"),
            (publisher, PUBLISHER_PAGES, "publisher"),
        ):
            for look, settings in (
                ("phone-en-light", {**phone, "language": "en", "color_scheme": "light"}),
                ("desk-zh-dark", {**DESKTOP, "language": "zh", "color_scheme": "dark"}),
            ):
                async with signed_in(world, browser, token, **settings) as shown:
                    for place in pages:
                        await shown.evaluate("(place) => { location.hash = `#/${place}`; }", place)
                        await settled(shown)
                        # What is said by the other look is the same but for words and colours.
                        await accessible(shown, *(["color-contrast"] if "dark" in look else []))
                        wide = await shown.evaluate("document.documentElement.scrollWidth - window.innerWidth")
                        assert wide <= 0, f"{place} is wider than the screen by {wide} px ({look})"
                        name = "task" if place is task else place or "start"
                        await keep(shown, f"console-{who}-{name}-{look}")

    in_console(tmp_path, script)


def test_a_task_is_cancelled_by_its_publisher_and_by_an_operator(tmp_path: Path) -> None:
    async def script(world: ServerWorld, browser: Browser) -> None:
        publisher = await publisher_with_things(world)

        async def open_tasks() -> list[str]:
            told = (await world.call("GET", "/v1/tasks", world.operator_token)).json
            return [one["id"] for one in told if one["state"] in ("pending", "placed", "running")]

        first = (await open_tasks())[0]
        for token, told in ((world.operator_token, 1), (publisher, 0)):
            if token == publisher:
                body = {"kind": "fill", "object": (await world.call("GET", "/v1/objects", publisher)).json[0]["id"]}
                made = await world.call("POST", "/v1/tasks", publisher, json={**body, "replicas": 3})
                assert made.status == 201, made.body
                first = made.json["id"]
            async with signed_in(world, browser, token, f"tasks/{first}", language="zh", **DESKTOP) as shown:
                await shown.get_by_role("button", name="取消此任务").click()
                dialog = shown.get_by_role("dialog")
                await expect(dialog.get_by_text("对方会看到它已被取消")).to_have_count(told)
                await accessible(shown)
                await keep(shown, f"console-cancel-{told}")
                await dialog.get_by_role("button", name="关闭").click()
                assert first in await open_tasks(), "nothing ends without the second word"
                await shown.get_by_role("button", name="取消此任务").click()
                await dialog.get_by_role("button", name="确认取消").click()
                await expect(shown.locator("h1")).to_contain_text("已取消")
                await expect(shown.get_by_role("button", name="取消此任务")).to_have_count(0)
                assert first not in await open_tasks()

    in_console(tmp_path, script)


async def history(world: ServerWorld, number: int) -> None:
    """Five minutes of which devices took over the more, the later they were."""
    sink, transfer = world.scheduler.console.history, world.scheduler.delivery.transfer
    for _ in range(50):
        sink.routed(Routing("0" * 64, 10**8, 10**8, NOWHERE, [], None))
    transfer.sent_bytes += 10**8 * (40 - 3 * number)
    await sink.write(int(time.time()) - 300 * (12 - number))


def test_a_file_is_published_by_drag_and_drop(tmp_path: Path) -> None:
    data = bytes(range(256)) * 12_288  # 3 MiB

    async def script(world: ServerWorld, browser: Browser) -> None:
        other = await publisher_with_things(world)
        mine = (await world.account("publisher", "mine"))["token"]
        await world.told()
        async with signed_in(world, browser, mine, "objects", **DESKTOP) as shown:
            await expect(shown.get_by_text("No file yet.")).to_be_visible()  # the other's are not shown
            dropped = await shown.evaluate_handle(
                """() => {
                    const data = new DataTransfer();
                    const bytes = Uint8Array.from({length: 3145728}, (_, index) => index % 256);
                    data.items.add(new File([bytes], "a & b.bin", {type: "application/x-test"}));
                    data.items.add(new File([], "x".repeat(300)));
                    return data;
                }"""
            )
            await shown.locator(".drop").dispatch_event("drop", {"dataTransfer": dropped})
            uploads = shown.get_by_role("list", name="Uploads").get_by_role("listitem")
            await expect(uploads.nth(0)).to_contain_text("published, 3.15 MB")
            await expect(uploads.nth(1)).to_contain_text("The object's name cannot be used")
            row = shown.get_by_role("region", name="Published files").get_by_role("row", name="a & b.bin")
            await expect(row).to_contain_text("application/x-test")
            await keep(shown, "console-upload")
            url = await row.get_by_role("link").get_attribute("href")
            async with world.http.get(f"{url}?source=origin") as response:
                assert await response.read() == data
            # Nothing of the other publisher's is to be had, and no page of operators.
            assert await shown.get_by_role("link", name="Fleet").count() == 0
            theirs = (await world.call("GET", "/v1/tasks", other)).json[0]["id"]
            await shown.goto(f"{world.url}/console/#/tasks/{theirs}")
            await expect(shown.get_by_text("You have no such task").first).to_be_visible()
            await shown.goto(f"{world.url}/console/#/objects")
            await shown.get_by_role("button", name="Delete a & b.bin").click()
            await shown.get_by_role("dialog").get_by_role("button", name="Delete").click()
            await expect(shown.get_by_text("No file yet.")).to_be_visible()
            async with world.http.get(f"{url}?source=origin") as response:
                assert response.status == 404

    in_console(tmp_path, script)


def test_an_operator_decides_and_publishes(tmp_path: Path) -> None:
    async def script(world: ServerWorld, browser: Browser) -> None:
        await populate(world, 10, 10)
        device = await suspect(world)
        async with signed_in(world, browser, world.operator_token, "reviews", **DESKTOP) as shown:
            await shown.get_by_role("button", name=f"Uphold against {device}").click()
            dialog = shown.get_by_role("dialog")
            await expect(dialog).to_contain_text("12 devices")
            await expect(dialog).to_contain_text("Points still held")
            await accessible(shown)
            await dialog.get_by_role("button", name="Uphold").click()
            await expect(shown.get_by_text("Upheld: 0 points went back.")).to_be_visible()
            reviews = (await world.call("GET", "/v1/reviews", world.operator_token, ledger=True)).json
            assert [one["state"] for one in reviews] == ["upheld"]

            await shown.get_by_role("link", name="Tariff").click()
            await shown.get_by_label("files").fill("1.25")
            publish = shown.get_by_role("button", name="Publish this tariff")
            await expect(shown.get_by_role("row", name="rates.object")).to_contain_text("1250000")
            await expect(publish).to_have_count(0)  # not before it was compared
            await shown.get_by_role("button", name="Compare with last week").click()
            await expect(shown.get_by_text("Nothing was settled in the last week.")).to_be_visible()
            await accessible(shown)
            await keep(shown, "console-tariff-diff")
            await shown.get_by_label("files").fill("1.5")
            await expect(publish).to_have_count(0)  # another one
            await shown.get_by_role("button", name="Compare with last week").click()
            await publish.click()
            await expect(shown.get_by_role("region", name="Tariffs, newest first")).to_contain_text("announced")
            tariffs = (await world.call("GET", "/v1/tariffs", ledger=True)).json
            assert len(tariffs) == 2

            await shown.get_by_role("link", name="Rewards").click()
            await shown.get_by_label("Title").fill("A month of coffee")
            await shown.get_by_label("Price in points").fill("12.5")
            await shown.get_by_label("How many there are").fill("3")
            await shown.get_by_role("button", name="Offer it").click()
            offered = shown.get_by_role("region", name="Offered").get_by_role("row", name="A month of coffee")
            await expect(offered).to_contain_text("12.5")
            rewards = (await world.call("GET", "/v1/rewards", ledger=True)).json
            assert [(one["micro_points"], one["stock"]) for one in rewards] == [(12_500_000, 3)]

    in_console(tmp_path, script)


def test_what_is_shown_changes_without_loading_again(tmp_path: Path) -> None:
    async def script(world: ServerWorld, browser: Browser) -> None:
        await suspect(world)
        async with page(browser, **DESKTOP) as shown:
            shown.set_default_timeout(WAIT_MS)
            await shown.clock.install()  # its time passes when the test says so
            await shown.goto(f"{world.url}/console#/reviews")
            await shown.locator("input[type=password]").fill(world.operator_token)
            await shown.locator("button[type=submit]").click()
            rows = shown.get_by_role("region", name="Devices that look wrong").locator("tbody tr")
            await expect(rows).to_have_count(1)
            await suspect(world, 8)
            async with shown.expect_response(lambda answer: "/reviews?" in answer.url) as answered:
                await shown.clock.run_for(16_000)
            assert (await answered.value).status == 200
            await expect(rows).to_have_count(2)
            async with shown.expect_response(lambda answer: "/reviews?" in answer.url) as answered:
                await shown.clock.run_for(16_000)
            assert (await answered.value).status == 304  # nothing is sent that is there already
            # Its session ends elsewhere: the page says so by itself.
            await world.scheduler.database.transact(lambda rows: rows.run("DELETE FROM console_sessions"))
            await shown.clock.run_for(16_000)
            await expect(shown.get_by_text("You are no longer signed in.")).to_be_visible()

    in_console(tmp_path, script)


def test_an_account_is_made_and_gets_points_by_keys_alone(tmp_path: Path) -> None:
    async def script(world: ServerWorld, browser: Browser) -> None:
        async with signed_in(world, browser, world.operator_token, "accounts", language="zh", **DESKTOP) as shown:
            await shown.get_by_label("角色").first.focus()
            await shown.keyboard.press("ArrowDown")
            await shown.keyboard.press("Tab")
            await shown.keyboard.type("电影")
            await shown.keyboard.press("Enter")
            secret = shown.locator(".secret code")
            await expect(secret).to_contain_text("fp_")
            made = (await world.call("GET", "/console/accounts?q=电影", world.operator_token)).json["accounts"][0]
            assert made["role"] == "publisher"
            await world.told()
            await shown.get_by_role("button", name="电影").focus()
            await shown.keyboard.press("Enter")
            await shown.get_by_role("dialog").get_by_label("积分", exact=True).fill("250")
            await shown.keyboard.press("Enter")
            await expect(shown.get_by_role("dialog")).to_contain_text("250 积分已存入")
            await accessible(shown)
            await keep(shown, "console-deposit-zh")
            booked = await world.call("GET", f"/v1/accounts/{made['id']}", world.operator_token, ledger=True)
            assert booked.json["escrow"] == 250_000_000
            # The new token lets its owner in, and who signs in by keys comes to the content at once.
            token = await secret.inner_text()
        async with signed_in(world, browser, token, **DESKTOP) as shown:
            await settled(shown)
            await shown.reload()
            await settled(shown)
            await shown.keyboard.press("Tab")
            await expect(shown.get_by_role("button", name="Skip to the content")).to_be_focused()
            await shown.keyboard.press("Enter")
            await expect(shown.locator("#content")).to_be_focused()

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
