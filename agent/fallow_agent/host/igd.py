"""The home router's UPnP service (IGD): what it has counted, what its modem can carry, and its ports.

Found by :func:`discover` and asked by :meth:`Igd.call`. Only the router's own address is ever talked to, and never
before activation: whoever calls these is online. What it answers comes from the LAN and is believed only as far as
numbers can be.
"""

from __future__ import annotations

import asyncio
import contextlib
import html
import json
import re
import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address
from urllib.parse import urlsplit

import aiohttp
from fallow_wire.errors import PeerError

WAN_SERVICE = "urn:schemas-upnp-org:service:WAN"
COMMON = "WANCommonInterfaceConfig"
IP, PPP, FIREWALL6 = "WANIPConnection", "WANPPPConnection", "WANIPv6FirewallControl"
"""Services by the name within their type; a router has ``IP`` or ``PPP`` for its ports."""
SERVICES_MAX = 16
ACTIONS_MAX = 64
DISCOVERY_S = 30.0
FRESH_S = 30.0
"""How long a search is good for whoever asks next: a router that was found a moment ago is still there."""
CALL_S = 5.0
ANSWER_BYTES_MAX = 16 * 1024
"""The longest of the actions' answers has a dozen short values."""
VALUES_MAX = 64
_ACTION = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")
_TYPE = re.compile(r"urn:schemas-upnp-org:service:([A-Za-z0-9]{1,64}):(\d{1,2})")
_ERROR = re.compile(r"<(?:\w{1,32}:)?errorCode[^<>]{0,256}>\s{0,64}(\d{1,5})\s{0,64}</")
_VALUE = re.compile(
    r"<(?:\w{1,32}:)?(New\w{1,64}|UniqueID)(?:\s[^<>]{0,256})?>([^<]{0,4096})</(?:\w{1,32}:)?\1\s{0,64}>"
)
_ENVELOPE = (
    '<?xml version="1.0"?>\r\n<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/" '
    's:encodingStyle="http://schemas.xmlsoap.org/soap/encoding/"><s:Body><u:{action} xmlns:u="{type}">{arguments}'
    "</u:{action}></s:Body></s:Envelope>\r\n"
)


class IgdError(PeerError):
    """The router gave no answer that can be used; the text says what it did."""

    slug = "router"


class IgdRefused(IgdError):
    """The router refused an action. ``code`` is that of UPnP, such as 718: the port is taken."""

    slug = "router-refused"

    def __init__(self, action: str, code: int) -> None:
        super().__init__(f"the router refused {action} with error {code}")
        self.code = code


@dataclass(frozen=True, slots=True)
class Service:
    """``name``: such as :data:`COMMON`. ``control_url``: of the router's own address."""

    name: str
    type: str
    control_url: str
    actions: frozenset[str]


@dataclass(frozen=True, slots=True)
class Igd:
    """A router with at least one service. ``own``: this device's address in its network, for port mappings."""

    router: str
    own: str
    services: tuple[Service, ...]

    def service(self, name: str, action: str) -> Service | None:
        """The first one of that name that knows the action."""
        return next((service for service in self.services if service.name == name and action in service.actions), None)

    async def call(
        self, http: aiohttp.ClientSession, service: Service, action: str, arguments: Mapping[str, str] | None = None
    ) -> dict[str, str]:
        """What the router answers: values by name, such as ``{"NewTotalBytesSent": "4711"}``.

        :param http: any session; the request carries nothing of it but its connections.
        :raises IgdRefused: the router's own error code.
        :raises IgdError: no answer, or none that can be used.
        """
        text = "".join(
            f"<{name}>{html.escape(value, quote=False)}</{name}>" for name, value in (arguments or {}).items()
        )
        body = _ENVELOPE.format(action=action, type=service.type, arguments=text).encode()
        headers = {"Content-Type": 'text/xml; charset="utf-8"', "SOAPAction": f'"{service.type}#{action}"'}
        try:
            async with http.post(
                service.control_url,
                data=body,
                headers=headers,
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=CALL_S),
            ) as response:
                answer = await _read(response)
                status = response.status
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise IgdError(f"the router does not answer {action}: {error!r}") from None
        return values_of(action, status, answer)


def values_of(action: str, status: int, answer: str) -> dict[str, str]:
    """The values of an answer, which is a flat list of elements: no XML is parsed for it, and nothing can nest.

    :raises IgdError: as :meth:`Igd.call` does.
    """
    if status != 200:
        found = _ERROR.search(answer)
        if found is not None:
            raise IgdRefused(action, int(found[1]))
        raise IgdError(f"the router answers {action} with HTTP status {status}")
    values: dict[str, str] = {}
    for match in _VALUE.finditer(answer):
        if len(values) >= VALUES_MAX:
            raise IgdError(f"the router answers {action} with more than {VALUES_MAX} values")
        values.setdefault(match[1], html.unescape(match[2]).strip())
    return values


def number(values: Mapping[str, str], name: str) -> int | None:
    """A count among the values, or None where it is missing or none. 20 digits hold 64 bits."""
    text = values.get(name, "")
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 20 else None


async def discover(router: str, own: str) -> Igd | None:
    """The router's services, or None where it has no UPnP. Takes up to :data:`DISCOVERY_S`.

    :param router: its address, as :func:`.routes.home_router` gives it.
    :param own: this device's address on the way to it.
    :raises IgdError: it could not be found out, the text says why; worth another try later.
    """
    program = (sys.executable, "-P", "-m", "fallow_agent.host.igd_discovery", router, own)
    process = await asyncio.create_subprocess_exec(
        *program,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(DISCOVERY_S):
            told, complaint = await process.communicate()
    except TimeoutError:
        raise IgdError(f"the router was not found out about within {DISCOVERY_S:.0f} s") from None
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    if process.returncode != 0:
        last = complaint.decode("utf-8", "replace").strip().rpartition("\n")[2]
        raise IgdError(f"UPnP of the router {router}: {last[:300] or f'exit status {process.returncode}'}")
    services = services_from(told, router)
    return Igd(router, own, services) if services else None


class Finder:
    """:func:`discover`, once for all who ask at the same time or soon after: a search costs a process.

    :param find: has the parameters and the answer of :func:`discover`.
    """

    def __init__(
        self, monotonic: Callable[[], float], find: Callable[[str, str], Awaitable[Igd | None]] = discover
    ) -> None:
        self._monotonic = monotonic
        self._find = find
        self._lock = asyncio.Lock()
        self._found: tuple[str, str, Igd | None, float] | None = None

    async def __call__(self, router: str, own: str) -> Igd | None:
        async with self._lock:
            if self._found is not None:
                of, by, igd, at = self._found
                if (of, by) == (router, own) and self._monotonic() - at < FRESH_S:
                    return igd
            self._found = None
            igd = await self._find(router, own)
            self._found = router, own, igd, self._monotonic()
            return igd


def services_from(told: bytes, router: str) -> tuple[Service, ...]:
    """What :mod:`.igd_discovery` printed, checked again: it read documents that others wrote.

    :raises IgdError: it is not what that program prints.
    """
    try:
        listed = json.loads(told)["services"]
        found = []
        for entry in listed[:SERVICES_MAX]:
            kind, url, actions = entry["type"], entry["control_url"], entry["actions"]
            match = _TYPE.fullmatch(kind)
            if match is not None and is_of_router(url, router):
                known = frozenset(action for action in actions[:ACTIONS_MAX] if _ACTION.fullmatch(action))
                found.append(Service(match[1], kind, url, known))
        return tuple(found)
    except (ValueError, KeyError, TypeError) as error:
        raise IgdError(f"UPnP of the router {router}: {error!r}") from None


def is_of_router(url: str, router: str) -> bool:
    """True for an HTTP URL whose host is the router's address, as digits: a name could be resolved to anything."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return False
    return (
        parts.scheme == "http"
        and parts.hostname == str(IPv4Address(router))
        and parts.username is None
        and parts.password is None
        and port != 0
        and url.isascii()
        and url.isprintable()
        and " " not in url
    )


async def _read(response: aiohttp.ClientResponse) -> str:
    body = bytearray()
    async for piece in response.content.iter_chunked(4096):
        body += piece
        if len(body) > ANSWER_BYTES_MAX:
            raise IgdError(f"the router's answer is larger than {ANSWER_BYTES_MAX} bytes")
    return body.decode("utf-8", "replace")
