"""Hosts of their own, in network namespaces: what several tests across a network share. Needs root and iproute2."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

WAIT_S = 60
Link = tuple[str, str, str, str, str, str]
"""Namespace, device and address with prefix length of one end, then of the other."""


def marks(*programs: str) -> list[pytest.MarkDecorator]:
    """What a module of such tests is marked with. :param programs: needed besides ``ip``."""
    packages = {"ip": "iproute2", "tc": "iproute2", "nft": "nftables", "miniupnpd": "miniupnpd-nftables"}
    lacking = [
        pytest.mark.skipif(shutil.which(name) is None, reason=f"needs {name} ({packages.get(name, name)})")
        for name in ("ip", *programs)
    ]
    root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to make network namespaces")
    return [pytest.mark.processes, root, *lacking]


def names(*hosts: str) -> tuple[str, ...]:
    """Full names, which no other run uses."""
    return tuple(f"fallow-{os.getpid()}-{host}" for host in hosts)


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


def inside(namespace: str, *command: str) -> list[str]:
    return ["ip", "netns", "exec", namespace, *command]


def run(namespace: str, *command: str, given: str = "") -> str:
    """What a command prints there; it must succeed."""
    done = subprocess.run(inside(namespace, *command), input=given, capture_output=True, text=True, timeout=WAIT_S)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


def call(namespace: str, method: str, url: str, body: Any = None, token: str = "", **headers: str) -> tuple[int, Any]:
    """Status and JSON body by curl; status 0 when there is no answer."""
    command = ["curl", "-sS", "--max-time", "10", "-o", "-", "-w", "\n%{http_code}", "-X", method, url]
    for name, value in headers.items():
        command += ["-H", f"{name.replace('_', '-')}: {value}"]
    if token:
        command += ["-H", f"Authorization: Bearer {token}"]
    if body is not None:
        command += ["-H", "Content-Type: application/json", "-d", json.dumps(body)]
    done = subprocess.run(inside(namespace, *command), capture_output=True, text=True)
    text, _, status = done.stdout.rpartition("\n")
    return int(status or 0), json.loads(text) if text.startswith(("{", "[")) else text


def until(probe: Callable[[], Any], wait_s: float = WAIT_S) -> Any:
    """The first truthy answer of ``probe``; these are other processes, so there is no event to wait for."""
    end = time.monotonic() + wait_s
    while time.monotonic() < end:
        found = probe()
        if found:
            return found
        time.sleep(0.1)
    raise AssertionError("not in time")


@contextlib.contextmanager
def hosts(namespaces: Sequence[str], links: Sequence[Link], *, ipv6: bool = False) -> Iterator[None]:
    """Namespaces and the wires between them, gone at the end.

    :param ipv6: without it, every packet that is counted is somebody's.
    """
    try:
        for namespace in namespaces:
            ip("netns", "add", namespace)
            if not ipv6:
                off = ("net.ipv6.conf.all.disable_ipv6=1", "net.ipv6.conf.default.disable_ipv6=1")
                run(namespace, "sysctl", "-qw", *off)
            run(namespace, "ip", "link", "set", "lo", "up")
        for left, near, near_address, right, far, far_address in links:
            ip("link", "add", near, "netns", left, "type", "veth", "peer", "name", far, "netns", right)
            for namespace, device, address in ((left, near, near_address), (right, far, far_address)):
                run(namespace, "ip", "address", "add", address, "dev", device)
                run(namespace, "ip", "link", "set", device, "up")
        yield
    finally:
        for namespace in namespaces:
            subprocess.run(["ip", "netns", "delete", namespace], capture_output=True)
