"""What the owner can do where nobody reaches the service port from outside, in a problem's words. Pure."""

from __future__ import annotations

import ipaddress

from fallow_wire.http import Problem

from ..host.routes import HOME
from . import IPV4
from .claims import Situation
from .opening import NO_ADDRESS

_NAMES = {"pcp": "PCP", "natpmp": "NAT-PMP", "upnp": "UPnP"}
_UNTIL_THEN = "Until then the device only gets tasks that need no connection from outside."


def advice(now: Situation) -> Problem | None:
    """The first thing to be done, or None: it is reached, or it is not known yet that it is not."""
    if now.reached:
        return None
    blocked4 = now.seen is not None and now.seen.ipv4 == "blocked"
    blocked = blocked4 or (now.seen is not None and now.seen.ipv6 == "blocked")
    if now.manual is not None:
        return _forwarded_in_vain(now.manual.port, now) if blocked else None
    if now.nat() == "carrier" or (now.seen is not None and now.seen.ipv4 == "carrier"):
        return _shared(now)
    if now.router is not None:
        if now.grants.get(IPV4) is not None and blocked4:
            return _mapped_in_vain(now)
        if now.grants.get(IPV4) is None and now.asks:
            return _not_granted(now) if now.rounds else None
        if now.grants.get(IPV4) is None and blocked:
            return _forward(now)
    return _firewall(now, by_ipv4=blocked4) if blocked else None


def _shared(now: Situation) -> Problem:
    if now.external is not None and any(ipaddress.ip_address(now.external) in net for net in HOME):
        return _problem(
            "second-router",
            "There is a second router before yours",
            f"Your router's address, {now.external}, is not one of the internet.",
            f"Forward TCP {now.grants[IPV4].port} in that router to yours, or have it work as a mere modem (bridge "
            "mode). If you have only one router, ask your provider for a public IPv4 address.",
        )
    if any(why == NO_ADDRESS for _, why in now.refusals):
        return _problem(
            "no-public-address",
            "Your router has no public address: your provider shares one among homes (carrier-grade NAT), or there is "
            "a second router before yours",
            "It says so itself, and refuses to open the port.",
            "If there is a second router, such as a box of your provider's, have it work as a mere modem (bridge "
            f"mode); if there is none, ask your provider for a public IPv4 address. {_UNTIL_THEN}",
        )
    return _problem(
        "carrier-nat",
        "Your provider shares its address among homes (carrier-grade NAT)",
        "Nobody on the internet can begin a connection to your home over IPv4.",
        f"Ask your provider for a public IPv4 address. {_UNTIL_THEN}",
    )


def _forward(now: Situation) -> Problem:
    return _problem(
        "port-closed",
        "The port is closed at your router",
        "The device's configuration says not to ask the router for it.",
        _by_hand(now),
    )


def _not_granted(now: Situation) -> Problem:
    if not now.refusals:
        return _problem(
            "no-port-protocol",
            "Your router offers neither UPnP nor PCP",
            "So the device cannot have it open the port.",
            f"Turn UPnP or PCP on in your router, or: {_by_hand(now)}",
        )
    said = ", ".join(f"{_NAMES[by]}: {why}" for by, why in now.refusals)
    return _problem(
        "port-refused",
        "Your router refuses to open the port",
        f"It says: {said}.",
        f"Allow this device to open ports in your router's settings, or: {_by_hand(now)}",
    )


def _by_hand(now: Situation) -> str:
    return f"Forward TCP {now.port} to this device, {now.own.get(IPV4, 'at its address')}, in your router's settings."


def _mapped_in_vain(now: Situation) -> Problem:
    grant = now.grants[IPV4]
    return _problem(
        "port-open-in-vain",
        "Your router has opened the port, and it is not reached all the same",
        f"TCP {grant.port} was opened by {_NAMES[grant.by]}.",
        "Look for a firewall on this device, in your router or at your provider that stops connections from outside.",
    )


def _forwarded_in_vain(port: int, now: Situation) -> Problem:
    return _problem(
        "forwarded-in-vain",
        "The forwarded port is not reached",
        f"The device's configuration says that TCP {port} is forwarded to it.",
        f"Forward TCP {port} to port {now.port} of this device, or take advertise_port and advertise_address out of "
        "its configuration.",
    )


def _firewall(now: Situation, *, by_ipv4: bool) -> Problem:
    if now.firewall:
        return _problem(
            "port-open-in-vain",
            "The port is open in this device's firewall, and it is not reached all the same",
            f"TCP {now.port} was opened for the time in which the device runs.",
            "Look for a firewall before this device or at your provider that stops connections from outside.",
        )
    where = "in the firewall of this device" if by_ipv4 else "for IPv6 in your router's firewall"
    return _problem(
        "firewall",
        "A firewall keeps connections from outside away",
        "The device opens its own firewall only on OpenWrt.",
        f"Open TCP {now.port} {where}.",
    )


def _problem(slug: str, title: str, detail: str, remedy: str) -> Problem:
    return Problem(503, slug, title, detail, "upstream", remedy)
