"""Probes: what a publisher may have devices measure, and what they say of it.

A probe is read from the ``parameters`` of a task, by the scheduler when it is handed in and by the device before it
runs: neither trusts the other to have looked.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated
from urllib.parse import urlsplit

from .addresses import LOCAL_SUFFIXES, is_literal, is_public
from .errors import Malformed
from .fields import integer, items, one_of, record, text

TCP, HTTP, DNS = "tcp", "http", "dns"
TESTS = (TCP, HTTP, DNS)
FAMILIES = ("any", "ipv4", "ipv6")
PORTS = (80, 443, 8080, 8443)
"""Those of the web. Knocking at others (mail, shells, databases) would get homes onto lists of attackers."""
COUNT_MAX = 5
"""Measurements of one probe, for a median."""
HOST_CHARS_MAX = 253
PATH_CHARS_MAX = 1024
ADDRESSES_MAX = 8
"""That an answer of a name server is told of."""
AVOID = "avoid"
"""A parameter that the scheduler adds: the public address of the device's home, which its router may answer at."""

_NAME = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)(\.(?!-)[A-Za-z0-9_-]{1,63}(?<!-))+\Z")
_PATH = re.compile(r"/[!-~]*\Z")
_KNOWN = frozenset({"test", "target", "port", "family", "count"})


@dataclass(frozen=True, slots=True)
class Probe:
    """``host``: a name, or a public address. ``path``: of an HTTP probe, with its query; ``secure``: by TLS. A DNS
    probe has no port (0), and its ``family`` says which records are asked for."""

    test: str
    host: str
    port: int = 0
    path: str = "/"
    secure: bool = False
    family: str = "any"
    count: int = 1


@dataclass(frozen=True, slots=True)
class Attempt:
    """One measurement, times in ms from its beginning of each; what it did not come to is absent.

    ``addresses``: what the name resolved to in a DNS probe, else the address that was connected to. ``secured_ms``: of
    the TLS handshake. ``first_byte_ms``: from the request to the first byte of the answer. ``status``: of HTTP.
    ``bytes``: read of the answer, head included, of which no more than its beginning is. ``error``: why it ended early.
    """

    addresses: Annotated[tuple[str, ...], items(text(64, 2), ADDRESSES_MAX)] = ()
    lookup_ms: Annotated[int | None, integer()] = None
    connect_ms: Annotated[int | None, integer()] = None
    secured_ms: Annotated[int | None, integer()] = None
    first_byte_ms: Annotated[int | None, integer()] = None
    total_ms: Annotated[int | None, integer()] = None
    status: Annotated[int | None, integer(100, 999)] = None
    bytes: Annotated[int | None, integer()] = None
    error: (
        Annotated[
            str | None,
            one_of(
                "no-such-name", "no-name-server", "connection-refused", "unreachable", "timed-out", "broken-off",
                "tls-failed", "certificate", "not-http",
            ),
        ]
    ) = None  # fmt: skip


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """``measured_at``: Unix seconds by the device's clock, which the scheduler has set."""

    measured_at: Annotated[int, integer()]
    attempts: Annotated[tuple[Attempt, ...], items(record(Attempt), COUNT_MAX, 1)]


def read_probe(parameters: Mapping[str, str]) -> Probe:
    """The probe that a task's parameters ask for: ``test`` (tcp, http, dns), ``target`` (host, URL, name), ``port``
    (of tcp), ``family`` (any, ipv4, ipv6), ``count``.

    :raises Malformed: naming what is wrong, as which it refuses targets that are private by their spelling. What a name
        resolves to is looked at where it is resolved.
    """
    unknown = parameters.keys() - _KNOWN - {AVOID}
    if unknown:
        raise Malformed(f"parameters: unknown {min(unknown)[:64]!r}; there are {', '.join(sorted(_KNOWN))}")
    test = _one_of("test", parameters.get("test", ""), TESTS)
    target = parameters.get("target", "")
    family = _one_of("family", parameters.get("family", "any"), FAMILIES)
    count = _number("count", parameters.get("count", "1"), range(1, COUNT_MAX + 1))
    if test == HTTP:
        return _read_http(target, family, count, parameters)
    if test == TCP:
        port = _number("port", parameters.get("port", "443"), PORTS)
        return Probe(TCP, _host(target), port, family=family, count=count)
    if "port" in parameters:
        raise Malformed("parameters.port: a dns probe has none")
    name = _host(target)
    if is_literal(name):
        raise Malformed("parameters.target: a name is wanted, not an address")
    return Probe(DNS, name, family=family, count=count)


def _read_http(target: str, family: str, count: int, parameters: Mapping[str, str]) -> Probe:
    if "port" in parameters:
        raise Malformed("parameters.port: is part of the address of an http probe")
    try:
        parts = urlsplit(target)
        port = parts.port
    except ValueError:
        raise Malformed("parameters.target: an http or https address is wanted") from None
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    if parts.scheme not in ("http", "https") or "@" in parts.netloc or "#" in target or not _PATH.match(path):
        raise Malformed("parameters.target: an http or https address without user, spaces and # is wanted")
    if len(path) > PATH_CHARS_MAX:
        raise Malformed(f"parameters.target: its path has more than {PATH_CHARS_MAX} characters")
    secure = parts.scheme == "https"
    port = _number("target", str((443 if secure else 80) if port is None else port), PORTS)
    return Probe(HTTP, _host(parts.hostname or ""), port, path, secure, family, count)


def _host(text: str) -> str:
    """In lower case, without the last dot. :raises Malformed: it is private, or no host."""
    host = text.strip("[]").removesuffix(".").lower()
    if is_literal(host):
        if not is_public(host):
            raise Malformed("parameters.target: is not a public address")
    elif len(host) > HOST_CHARS_MAX or not _NAME.match(host):
        raise Malformed("parameters.target: a host of the public internet is wanted, in ASCII")
    elif host.endswith(LOCAL_SUFFIXES):
        raise Malformed("parameters.target: is a name of private networks")
    return host


def _one_of(name: str, value: str, values: tuple[str, ...]) -> str:
    if value not in values:
        raise Malformed(f"parameters.{name}: one of {', '.join(values)} is wanted")
    return value


def _number(name: str, text: str, allowed: range | tuple[int, ...]) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and int(text) in allowed):
        raise Malformed(f"parameters.{name}: one of the numbers {', '.join(map(str, allowed))} is wanted")
    return int(text)
