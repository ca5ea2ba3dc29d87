"""Finds the home router's UPnP device and its services; a program of its own, run by :mod:`.igd`.

``python -m fallow_agent.host.igd_discovery <router's address> <own address>`` prints one JSON object:
``{"services": [{"type": …, "control_url": …, "actions": […]}]}``, empty where the router has none.

A process apart, because the library and the descriptions that it parses would cost the agent 3 MB for good, and because
what it reads was written by whoever is in the LAN: a parser that fails here takes nothing along. Rules it keeps:

1. Descriptions are fetched from the router's own address only. An answer to the search from another host, or one that
   names another, is passed over; redirects are not followed.
2. Every answer, their number, the time, and the memory and processor of this process are limited.
3. No entity of a document is expanded (defusedxml).
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
from typing import Any

import aiohttp
from async_upnp_client.client import UpnpDevice, UpnpRequester
from async_upnp_client.client_factory import UpnpFactory
from async_upnp_client.const import HttpRequest, HttpResponse
from async_upnp_client.exceptions import UpnpCommunicationError, UpnpError
from async_upnp_client.search import async_search
from defusedxml import DefusedXmlException  # type: ignore[import-untyped]

from .igd import ACTIONS_MAX, SERVICES_MAX, WAN_SERVICE, is_of_router

ANSWER_BYTES_MAX = 256 * 1024
"""A description of a router with everything (FRITZ!Box) has 30 KiB."""
REQUESTS_MAX = 40
"""A description and its services, of two devices that a router has for two versions of the standard."""
LOCATIONS_MAX = 4
REQUEST_S = 5.0
SEARCH_S = 2
"""Routers wait up to the ``MX`` of the search, which the library sets to this, before they answer."""
TOTAL_S = 25.0
MEMORY_BYTES_MAX = 256 * 2**20
CPU_S_MAX = 30
DEVICES = tuple(f"urn:schemas-upnp-org:device:InternetGatewayDevice:{version}" for version in (1, 2))
SSDP_PORT = 1900


class Refused(UpnpCommunicationError):
    """What the rules above do not let through."""


class RouterRequester(UpnpRequester):
    """The library's way to the network: to the router alone, within the limits."""

    def __init__(self, http: aiohttp.ClientSession, router: str) -> None:
        self._http = http
        self._router = router
        self._requests = 0

    async def async_http_request(self, http_request: HttpRequest) -> HttpResponse:
        url = http_request.url
        if not is_of_router(url, self._router):
            raise Refused(f"{url} is not of the router, {self._router}")
        self._requests += 1
        if self._requests > REQUESTS_MAX:
            raise Refused(f"more than {REQUESTS_MAX} documents")
        try:
            async with self._http.request(
                http_request.method,
                url,
                headers=dict(http_request.headers or {}),
                data=http_request.body,
                allow_redirects=False,
            ) as response:
                body = bytearray()
                async for piece in response.content.iter_chunked(16 * 1024):
                    body += piece
                    if len(body) > ANSWER_BYTES_MAX:
                        raise Refused(f"{url} is larger than {ANSWER_BYTES_MAX} bytes")
                return HttpResponse(response.status, response.headers, body.decode("utf-8", "replace"))
        except (aiohttp.ClientError, TimeoutError) as error:
            raise UpnpCommunicationError(f"{url}: {error!r}") from error


async def locations(router: str, own: str) -> list[str]:
    """Where the router says that its description is.

    It is asked directly; only when it does not answer that is the LAN asked as the standard has it, by multicast.
    """
    found: list[str] = []
    first = asyncio.Event()

    async def take(headers: Any) -> None:
        location = headers.get("location") or ""
        if headers.get("_host") != router or not is_of_router(location, router):
            return
        if location not in found and len(found) < LOCATIONS_MAX:
            found.append(location)
        first.set()

    for target in ((router, SSDP_PORT), None):
        searches = [
            asyncio.create_task(async_search(take, SEARCH_S, device, (own, 0), target), name="search")
            for device in DEVICES
        ]
        answered = asyncio.create_task(first.wait(), name="answered")
        # A router has answered for all of its devices soon after the first.
        await asyncio.wait([answered, *searches], timeout=SEARCH_S, return_when=asyncio.FIRST_COMPLETED)
        if first.is_set():
            await asyncio.wait(searches, timeout=0.5)
        for task in (answered, *searches):
            task.cancel()
        for outcome in await asyncio.gather(answered, *searches, return_exceptions=True):
            if isinstance(outcome, Exception):
                raise outcome
        if found:
            break
    return found


def services_of(device: UpnpDevice, router: str) -> list[dict[str, Any]]:
    """Those for the line and for ports, of this device and the ones within it."""
    found = []
    for service in device.all_services:
        if service.service_type.startswith(WAN_SERVICE) and is_of_router(service.control_url, router):
            actions = sorted(service.actions)[:ACTIONS_MAX]
            found.append({"type": service.service_type, "control_url": service.control_url, "actions": actions})
    return found[:SERVICES_MAX]


async def discover(router: str, own: str) -> list[dict[str, Any]]:
    """:raises UpnpError, DefusedXmlException: of the last description, when none could be used."""
    failed: Exception | None = None
    timeout = aiohttp.ClientTimeout(total=REQUEST_S)
    async with aiohttp.ClientSession(timeout=timeout, connector=aiohttp.TCPConnector(limit=1)) as http:
        factory = UpnpFactory(RouterRequester(http, router), non_strict=True)
        found: list[dict[str, Any]] = []
        for location in await locations(router, own):
            try:
                device = await factory.async_create_device(location)
            except (UpnpError, DefusedXmlException, ValueError) as error:
                failed = error
                continue
            found += [service for service in services_of(device, router) if service not in found]
    if failed is not None and not found:
        raise failed
    return found


async def run(router: str, own: str) -> list[dict[str, Any]]:
    async with asyncio.timeout(TOTAL_S):
        return await discover(router, own)


def main() -> None:
    router, own = sys.argv[1:]
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_BYTES_MAX, MEMORY_BYTES_MAX))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_S_MAX, CPU_S_MAX))
    try:
        found = asyncio.run(run(router, own))
    except (UpnpError, DefusedXmlException, ValueError, OSError, TimeoutError) as error:
        raise SystemExit(f"{type(error).__name__}: {error}") from None
    sys.stdout.write(json.dumps({"services": found}) + "\n")


if __name__ == "__main__":
    main()
