"""What this server is called: its URLs where the operator says none, and the names that callers use."""

from __future__ import annotations

import ipaddress
import socket

from yarl import URL

from .config import HttpConfig


def default_url(config: HttpConfig, port: int) -> str:
    """What this machine is called when the operator does not say: its address towards the network."""
    return f"http://{url_host(config.host or primary_address())}:{port}"


def primary_address() -> str:
    """The address of the interface that leads out; 127.0.0.1 without one. Sends nothing."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return "127.0.0.1"
        found: str = probe.getsockname()[0]
        return found


def url_host(host: str) -> str:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    return f"[{address}]" if address.version == 6 else str(address)


def host_names(url: str) -> tuple[str, ...]:
    """The ``Host`` headers with which ``url`` is called: with its port, and without where that is the scheme's."""
    parsed = URL(url)
    host = url_host(parsed.host or "")
    with_port = f"{host}:{parsed.port}"
    return (host, with_port) if parsed.is_default_port() else (with_port,)
