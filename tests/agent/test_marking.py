"""The Lower-Effort mark as the kernel keeps it, and a kernel that refuses it."""

from __future__ import annotations

import logging
import socket

import pytest
from fallow_agent.line.marking import LOWER_EFFORT_TOS, LowerEffort


def marks(sock: socket.socket) -> list[int]:
    found = [sock.getsockopt(socket.IPPROTO_IP, socket.IP_TOS)]
    if sock.family == socket.AF_INET6:
        found.append(sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS))
    return found


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_both_families_are_marked(family: socket.AddressFamily) -> None:
    with socket.socket(family, socket.SOCK_STREAM) as sock:
        LowerEffort().mark(sock)
        assert set(marks(sock)) == {LOWER_EFFORT_TOS}


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_what_a_marked_port_accepts_is_marked(address: str) -> None:
    with socket.create_server(("", 0), family=socket.AF_INET6, dualstack_ipv6=True) as listener:
        LowerEffort().mark(listener)
        with socket.create_connection((address, listener.getsockname()[1])):
            accepted, _ = listener.accept()
            with accepted:
                assert set(marks(accepted)) == {LOWER_EFFORT_TOS}


def test_a_kernel_that_refuses_is_told_about_once(caplog: pytest.LogCaptureFixture) -> None:
    class Refusing(socket.socket):
        def setsockopt(self, *arguments: object) -> None:  # type: ignore[override]
            raise PermissionError(1, "Operation not permitted")

    marking = LowerEffort()
    with Refusing(socket.AF_INET, socket.SOCK_STREAM) as sock, caplog.at_level(logging.WARNING):
        marking.mark(sock)
        marking.mark(sock)
    assert [record.message for record in caplog.records] == [
        "packets go without the Lower-Effort mark: Operation not permitted"
    ]
