"""What a web page of somebody else can do to a device of the home it is read in, tried in a real browser: nothing.

The page knows everything but the phone's token: addresses, calls, even the setup code. DNS is in its hand, too.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import browsing
import phone_world
from aiohttp import web
from fallow_agent.life import ACTIVE
from phone_world import CODE, Home, home
from playwright.async_api import Page

pytestmark = browsing.marks(phone_world.INDEX)

WAIT_MS = 60_000
EVIL = "evil.example"

# Each attempt tells what it could read; "" is nothing.
READS = """async ([device, token]) => {
  const tried = {};
  const attempt = async (name, work) => {
    try { tried[name] = (await work()) ?? ""; } catch { tried[name] = ""; }
  };
  for (const path of ["v1/device", "v1/activation", "v1/status", "v1/points", "v1/neighbours", ""]) {
    await attempt(`read /${path}`, async () => (await fetch(device + path)).text());
    await attempt(`opaque /${path}`, async () => (await fetch(device + path, { mode: "no-cors" })).text());
  }
  await attempt("read with a token", async () =>
    (await fetch(device + "v1/status", { headers: { Authorization: `Bearer ${token}` } })).text());
  await attempt("events", () => new Promise((done) => {
    const events = new EventSource(`${device}v1/events?token=${token}`);
    events.addEventListener("status", (event) => done(event.data));
    events.onerror = () => { events.close(); done(""); };
  }));
  await attempt("WebSocket", () => new Promise((done) => {
    const socket = new WebSocket(device.replace("http", "ws") + "v1/events?token=" + token);
    socket.onopen = () => done("open");
    socket.onmessage = (event) => done(event.data);
    socket.onerror = socket.onclose = () => done("");
  }));
  await attempt("script", () => new Promise((done) => {
    const script = document.createElement("script");
    script.src = device + "v1/device";
    script.onload = () => done("loaded");
    script.onerror = () => done("");
    document.head.append(script);
  }));
  await attempt("image", () => new Promise((done) => {
    const image = new Image();
    image.onload = () => done("loaded");
    image.onerror = () => done("");
    image.src = device + "icon.svg";
  }));
  await attempt("frame", () => new Promise((done) => {
    const frame = document.createElement("iframe");
    frame.onload = () => { try { done(frame.contentDocument.body.innerText); } catch { done(""); } };
    frame.src = device;
    document.body.append(frame);
  }));
  return tried;
}"""

# Each tries to change something, with every kind of request that needs no permission and those that do.
WRITES = """async ([device, token, code, server]) => {
  const bodies = {
    "v1/pause": {}, "v1/limits": { upload_percent_max: 1 }, "v1/lan-tokens": { setup_code: code },
    "v1/activation": { scheduler: server, claim_token: "fc_evil", setup_code: code,
                       consent: { terms_version: "1", accepted: true } },
  };
  const answers = [];
  for (const [path, value] of Object.entries(bodies)) {
    const body = JSON.stringify(value);
    const known = { Authorization: `Bearer ${token}` };
    const plain = ["text/plain", "application/json", "application/x-www-form-urlencoded"];
    const requests = [
      ...plain.map((type) => ({ method: "POST", mode: "no-cors", headers: { "Content-Type": type, ...known } })),
      ...plain.map((type) => ({ method: "POST", mode: "cors", headers: { "Content-Type": type } })),
      ...["POST", "PATCH", "DELETE"].map((method) => (
        { method, mode: "cors", headers: { "Content-Type": "application/json", ...known } })),
    ];
    await Promise.all(requests.map(async (request) => {
      try { answers.push(await (await fetch(device + path, { ...request, body })).text()); } catch {}
    }));
    navigator.sendBeacon(device + path, new Blob([body], { type: "text/plain" }));
    const form = document.createElement("form");
    Object.assign(form, { action: device + path, method: "post", enctype: "text/plain", target: "sink" });
    const field = document.createElement("input");
    Object.assign(field, { name: body.slice(0, -1) + ', "x": "', value: '"}' });
    form.append(field);
    document.body.append(form);
    await new Promise((done) => {
      const sink = document.createElement("iframe");
      sink.name = "sink";
      document.body.append(sink);
      let loads = 0;
      sink.onload = () => { loads += 1; if (loads === 1) form.submit(); else { sink.remove(); done(); } };
      sink.src = "about:blank";
    });
  }
  return answers.filter((text) => text !== "");
}"""


async def elsewhere() -> tuple[web.AppRunner, int]:
    """A site of somebody else's."""
    application = web.Application()

    async def show(request: web.Request) -> web.Response:
        return web.Response(
            text="<!doctype html><html><head></head><body>A nice page</body></html>", content_type="text/html"
        )

    application.router.add_get("/", show)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    return runner, runner.addresses[0][1]


def snapshot(world: Home) -> tuple[Any, ...]:
    agent = world.agent
    return agent.life.state, agent.limits, tuple(agent._pairing._phones()), agent.life.enrolled


async def attack(world: Home, page: Page, device: str, token: str) -> None:
    """Everything at once, from the page that is open, against ``device``."""
    before = snapshot(world)
    read = await page.evaluate(READS, [device, token])
    assert {name: text for name, text in read.items() if text} == {}
    assert len(read) > 15
    answers = await page.evaluate(WRITES, [device, token, CODE, world.server.url])
    assert answers == []
    assert snapshot(world) == before


def test_a_page_of_another_origin_neither_reads_nor_changes(tmp_path: Path) -> None:
    async def run() -> None:
        site, port = await elsewhere()
        # evil.example is the page's own site, and by its DNS the device as well.
        rules = f"--host-resolver-rules=MAP {EVIL} 127.0.0.1"
        async with (
            browsing.chromium(rules) as browser,
            home(tmp_path) as world,
            browsing.page(browser, **browsing.PHONE) as page,
        ):
            page.set_default_timeout(WAIT_MS)
            token = world.agent._pairing.add_phone()
            # The device's own page reads with the same calls, so these would tell.
            await page.goto(world.url)
            read = await page.evaluate(READS, [world.url, token])
            assert read["read /v1/device"]
            assert read["read with a token"]
            assert read["events"]
            await page.goto(f"http://{EVIL}:{port}/")
            await attack(world, page, world.url, token)
            # The name that the browser believes to be the page's own leads to the device: it is told that this is not
            # its name, and nothing else.
            rebound = world.url.replace("127.0.0.1", EVIL)
            await attack(world, page, rebound, token)
            answer = await page.goto(rebound)
            assert answer is not None
            assert (answer.status, json.loads(await answer.text())["type"]) == (421, "wrong-host")
            # Not even what runs in this answer, whose origin is the device's own to the browser, reaches it.
            own = "fetch('/v1/device').then((found) => found.text()).catch(() => '')"
            assert await page.evaluate(own) == ""
            # All of this against a device that serves, too.
            owner = await world.server.account("owner")
            answered = await world.server.http.post(
                f"{world.url}v1/activation",
                json={
                    "scheduler": world.server.url,
                    "claim_token": await world.server.claim(owner["token"]),
                    "setup_code": CODE,
                    "consent": {"terms_version": "1", "accepted": True},
                },
            )
            token = (await answered.json())["lan_token"]
            await phone_world.until("it is active", lambda: world.agent.life.state == ACTIVE)
            await page.goto(f"http://{EVIL}:{port}/")
            await attack(world, page, world.url, token)
        await site.cleanup()

    asyncio.run(run())
