"""A network of real programs with something to watch, and pages of other sites that use ``fallow.js``."""

from __future__ import annotations

import contextlib
import signal
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

from aiohttp import web
from fallow_client.ledger import Ledger
from fallow_client.scheduler import PublishedObject, Scheduler
from fragile_network import MANY_CONSUMERS, FragileNetwork
from network import Line, until
from playwright.async_api import Page

DEVICES = 3
WAIT_S = 60


class WatchNetwork(FragileNetwork):
    """Three active devices in as many homes, and a publisher with escrow."""

    def __init__(self) -> None:
        super().__init__()
        self.owners: list[str] = []
        self.publisher_token = ""

    async def prepare(self) -> None:
        await self.start_server(MANY_CONSUMERS)
        async with Scheduler(self.scheduler_url, self.operator_token) as operator:
            publisher = await operator.add_account("publisher", "A station")
            owners = [await operator.add_account("owner", f"Home {number}") for number in range(DEVICES)]
        self.publisher_token = publisher.token
        for number, owner in enumerate(owners):
            self.owners.append(owner.id)
            device = await self.start_device(Line(f"device-{number}", 200, 200))
            await self.activate(device, owner.id, owner.token)
        await self.until_reachable()
        async with Ledger(self.ledger_url, self.operator_token) as ledger:

            async def funded() -> bool:
                await ledger.deposit(publisher.id, 10**12)
                return True

            await until("the publisher is known to the ledger", funded, WAIT_S)

    async def publish(self, *paths: Path) -> list[PublishedObject]:
        """The objects, once every device holds them."""
        async with Scheduler(self.scheduler_url, self.publisher_token) as station:
            published = [await station.publish(path, replicas=DEVICES) for path in paths]

            async def placed() -> bool | None:
                held = [(await station.object(one.id))["replicas"] for one in published]
                return True if held == [DEVICES] * len(held) else None

            await until("every device holds the objects", placed, WAIT_S)
        return published

    async def service_url(self) -> str:
        """Of one of the devices."""
        async with Scheduler(self.scheduler_url, self.operator_token) as operator:
            return str((await operator.devices())[0]["service_urls"][0])

    @contextlib.contextmanager
    def frozen(self, name: str) -> Iterator[None]:
        """A device whose line is dead, as far as others see: it takes connections, and says nothing."""
        (process,) = (started.process for started in self.processes if started.name == name)
        process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            process.send_signal(signal.SIGCONT)

    def spoil(self, name: str, object_id: str) -> None:
        """What the device holds of the object is not what it was, and it does not know."""
        (path,) = (self.directory / name).rglob(object_id)
        with path.open("r+b") as file:
            for start in range(0, path.stat().st_size - 2000, 2**20):
                file.seek(start + 1000)
                file.write(b"spoilt")

    async def booked(self) -> Counter[str]:
        """Bytes that consumers' receipts have brought the devices so far."""
        found: Counter[str] = Counter()
        async with Ledger(self.ledger_url, self.operator_token) as ledger:
            entries = [entry for owner in self.owners for entry in await ledger.entries(owner, limit=1000)]
            for jti in {entry["ref"] for entry in entries if entry["kind"] == "settlement"}:
                one = await ledger.settlement(jti)
                if one["tier"] == "countersigned" and one["service"] == "object":
                    found[one["device"]] += one["factors"]["bytes"]
        return found

    async def paid(self, wanted: Counter[str]) -> Counter[str]:
        """What was booked, not before it is as much as ``wanted``."""

        async def enough() -> Counter[str] | None:
            found = await self.booked()
            return found if all(found[device] >= count for device, count in wanted.items()) else None

        return await until("receipts are settled", enough, WAIT_S)


@contextlib.asynccontextmanager
async def site(text: str) -> AsyncIterator[str]:
    """A publisher's web server, of another origin than all others, with one page."""

    async def serve(_request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(text=text, content_type="text/html")

    runner = web.ServerRunner(web.Server(serve))  # type: ignore[arg-type]
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/"
    finally:
        await runner.cleanup()


def page_with_fallow(scheduler_url: str) -> str:
    return f"""<!doctype html><title>A publisher's page</title><script type="module">
import * as fallow from "{scheduler_url}/fallow.js";
window.fallow = fallow;
</script>"""


_HOSTILE = """async ({ base, path }) => {
  const tried = async (address, options) => {
    try {
      const response = await fetch(address, options);
      return response.type === "opaque" ? "unreadable" : response.status;
    } catch {
      return "refused";
    }
  };
  const socket = await new Promise((resolve) => {
    const opened = new WebSocket(base.replace("http", "ws") + path);
    opened.onopen = () => resolve("open");
    opened.onerror = () => resolve("refused");
  });
  return {
    "an object without a ticket": await tried(base + path),
    "an object with cookies": await tried(base + path, { credentials: "include" }),
    "an object with a login": await tried(base + path, { headers: { Authorization: "Bearer x" } }),
    "a change": await tried(base + path, { method: "DELETE" }),
    "another change": await tried(base + path, { method: "PUT", body: "x" }),
    "a receipt of its own": await tried(base + "/v1/receipts", { method: "POST", body: "a.b.c" }),
    "a dial-back": await tried(base + "/v1/dial-back/" + "n".repeat(20)),
    "a dial-back, unseen": await tried(base + "/v1/dial-back/" + "n".repeat(20), { mode: "no-cors" }),
    "anything else": await tried(base + "/v1/status"),
    "a socket": socket,
  };
}"""


async def misused(shown: Page, service_url: str, object_id: str) -> dict[str, Any]:
    """What a page of any site gets out of a service port without a ticket."""
    found: dict[str, Any] = await shown.evaluate(_HOSTILE, {"base": service_url, "path": f"/o/{object_id}/x"})
    return found


_FETCH = """async ({ address, range, abortAfter }) => {
  const events = [];
  const ending = new AbortController();
  const onEvent = (event) => {
    events.push(event);
    if (abortAfter && events.filter((one) => one.type === "bytes").length === abortAfter) ending.abort();
  };
  const textOf = async (blob) => {
    const view = new Uint8Array(await blob.arrayBuffer());
    let text = "";
    for (let at = 0; at < view.length; at += 0x8000) text += String.fromCharCode(...view.subarray(at, at + 0x8000));
    return btoa(text);
  };
  try {
    const blob = await fallow.fetchObject(address, { range, signal: ending.signal, onEvent });
    return { bytes: await textOf(blob), type: blob.type, events };
  } catch (error) {
    return { error: `${error.name}: ${error.message}`, events };
  }
}"""


async def fetched(shown: Page, address: str, **how: Any) -> dict[str, Any]:
    """What ``fetchObject`` gives in a page: ``bytes`` (base64) and ``type``, or ``error``; and its ``events``."""
    await shown.wait_for_function("window.fallow")
    found: dict[str, Any] = await shown.evaluate(_FETCH, {"address": address, **how})
    return found


def bytes_by_source(events: list[dict[str, Any]]) -> Counter[str]:
    found: Counter[str] = Counter()
    for event in events:
        if event["type"] == "bytes":
            found[event["source"]["id"]] += event["bytes"]
    return found
