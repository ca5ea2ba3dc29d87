"""Asks the home router for a port by UPnP: a mapping (IPv4), or a pinhole in its firewall (IPv6)."""

from __future__ import annotations

import ipaddress
from collections.abc import Awaitable, Callable, Mapping

import aiohttp

from ..host.igd import FIREWALL6, IP, PPP, Igd, IgdError, IgdRefused, Service, number
from . import IPV4, UPNP
from .claims import nat_of
from .opening import LIFETIME_S, NO_ADDRESS, Ask, Grant, Granted, Outcome, Refused, Silent, Taken
from .port_control import Way

NOT_AUTHORIZED, NO_SUCH_PINHOLE, CONFLICT, ONLY_PERMANENT = 606, 704, 718, 725
"""Of UPnP's error codes."""
_REASONS = {NOT_AUTHORIZED: "not authorized", 702: "its IPv6 firewall is off", 703: "pinholes are not allowed"}
_TCP = "6"
DESCRIPTION = "Fallow"
"""What the router shows beside the port in its own pages."""


class Upnp:
    """:param find: gives a router's services, by its address and the device's own."""

    by = UPNP

    def __init__(self, find: Callable[[str, str], Awaitable[Igd | None]]) -> None:
        self._find = find
        self._http: aiohttp.ClientSession | None = None
        self._igd: Igd | None = None

    async def ask(self, way: Way, port: int, ask: Ask) -> Outcome:
        try:
            igd = await self._router(way)
            if igd is None:
                return Silent()
            return await (self._map(igd, port, ask) if way.family == IPV4 else self._pinhole(igd, way, port, ask))
        except IgdRefused as error:
            if error.code == CONFLICT:
                return Taken()
            return Refused(_REASONS.get(error.code, f"error {error.code}"))
        except IgdError:
            self._igd = None  # it may have moved its service: it is looked for again
            return Silent()

    async def release(self, way: Way, port: int, ask: Ask) -> None:
        if self._igd is None:
            return
        try:
            if way.family == IPV4:
                service = _connection(self._igd, "DeletePortMapping")
                # Only what is this device's own: the port may be another's, had the router forgotten us.
                if service is not None and await self._is_own(self._igd, service, port, ask.port) is not False:
                    await self._call(self._igd, service, "DeletePortMapping", _entry(ask.port))
            elif ask.handle:
                service = self._igd.service(FIREWALL6, "DeletePinhole")
                if service is not None:
                    await self._call(self._igd, service, "DeletePinhole", {"UniqueID": ask.handle})
        except IgdError:
            pass  # what has an end ends by itself

    async def close(self) -> None:
        if self._http is not None:
            await self._http.close()
            self._http = None

    # -------------------------------------------------------------- the two kinds

    async def _map(self, igd: Igd, port: int, ask: Ask) -> Outcome:
        service = _connection(igd, "AddPortMapping")
        if service is None:
            return Refused("it opens no ports")
        if await self._is_own(igd, service, port, ask.port) is False:
            return Taken()
        try:
            lifetime_s = await self._add(igd, service, port, ask.port)
        except IgdRefused as error:
            outside = await self._external_address(igd, service)
            if error.code != CONFLICT and (outside is None or nat_of(outside) != "none"):
                return Refused(NO_ADDRESS)
            raise
        return Granted(Grant(UPNP, await self._external_address(igd, service), ask.port, lifetime_s))

    async def _add(self, igd: Igd, service: Service, port: int, external_port: int) -> int:
        """Gives the lease; 0 where the router knows only those without an end."""
        arguments = {
            **_entry(external_port),
            "NewInternalPort": str(port),
            "NewInternalClient": igd.own,
            "NewEnabled": "1",
            "NewPortMappingDescription": DESCRIPTION,
            "NewLeaseDuration": str(LIFETIME_S),
        }
        try:
            await self._call(igd, service, "AddPortMapping", arguments)
            return LIFETIME_S
        except IgdRefused as error:
            if error.code != ONLY_PERMANENT:
                raise
        await self._call(igd, service, "AddPortMapping", {**arguments, "NewLeaseDuration": "0"})
        return 0

    async def _is_own(self, igd: Igd, service: Service, port: int, external_port: int) -> bool | None:
        """Whether the external port leads to ours; None where it leads nowhere, or the router does not say."""
        action = "GetSpecificPortMappingEntry"
        if action not in service.actions:
            return None
        try:
            found = await self._call(igd, service, action, _entry(external_port))
        except IgdRefused:
            return None
        return found.get("NewInternalClient") == igd.own and number(found, "NewInternalPort") == port

    async def _external_address(self, igd: Igd, service: Service) -> str | None:
        try:
            found = await self._call(igd, service, "GetExternalIPAddress", {})
            address = ipaddress.IPv4Address(found.get("NewExternalIPAddress", ""))
        except (IgdRefused, ValueError):
            return None
        return None if address.is_unspecified else str(address)

    async def _pinhole(self, igd: Igd, way: Way, port: int, ask: Ask) -> Outcome:
        if ask.handle:
            service = igd.service(FIREWALL6, "UpdatePinhole")
            arguments = {"UniqueID": ask.handle, "NewLeaseTime": str(LIFETIME_S)}
            try:
                if service is not None:
                    await self._call(igd, service, "UpdatePinhole", arguments)
                    return Granted(Grant(UPNP, None, port, LIFETIME_S, ask.handle))
            except IgdRefused as error:
                if error.code != NO_SUCH_PINHOLE:
                    raise
        service = igd.service(FIREWALL6, "AddPinhole")
        if service is None:
            return Refused("it opens no IPv6 ports")
        arguments = {
            "RemoteHost": "",
            "RemotePort": "0",
            "InternalClient": way.own,
            "InternalPort": str(port),
            "Protocol": _TCP,
            "LeaseTime": str(LIFETIME_S),
        }
        found = await self._call(igd, service, "AddPinhole", arguments)
        return Granted(Grant(UPNP, None, port, LIFETIME_S, found.get("UniqueID", "")))

    # -------------------------------------------------------------- the router

    async def _router(self, way: Way) -> Igd | None:
        if self._igd is None or (self._igd.router, self._igd.own) != way.over_ipv4:
            self._igd = await self._find(*way.over_ipv4)
        return self._igd

    async def _call(self, igd: Igd, service: Service, action: str, arguments: Mapping[str, str]) -> dict[str, str]:
        if self._http is None:
            self._http = aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar())
        return await igd.call(self._http, service, action, arguments)


def _connection(igd: Igd, action: str) -> Service | None:
    return igd.service(IP, action) or igd.service(PPP, action)


def _entry(external_port: int) -> dict[str, str]:
    return {"NewRemoteHost": "", "NewExternalPort": str(external_port), "NewProtocol": "TCP"}
