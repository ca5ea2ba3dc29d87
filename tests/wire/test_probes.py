"""Probes are read strictly, by both sides, and name public targets only."""

from __future__ import annotations

from typing import Any

import pytest
from fallow_wire.addresses import is_literal, is_public
from fallow_wire.errors import Malformed
from fallow_wire.probes import COUNT_MAX, PORTS, TESTS, Attempt, Probe, ProbeResult, read_probe
from fallow_wire.session import TaskStatus, read_upward, write
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize(
    ("parameters", "probe"),
    [
        ({"test": "tcp", "target": "Example.ORG."}, Probe("tcp", "example.org", 443)),
        ({"test": "tcp", "target": "[2606:4700::1111]", "port": "80"}, Probe("tcp", "2606:4700::1111", 80)),
        ({"test": "dns", "target": "a.b", "family": "ipv6", "count": "5"}, Probe("dns", "a.b", family="ipv6", count=5)),
        ({"test": "http", "target": "http://a.b"}, Probe("http", "a.b", 80)),
        ({"test": "http", "target": "https://a.b:8443/x?y=1"}, Probe("http", "a.b", 8443, "/x?y=1", True)),
        ({"test": "tcp", "target": "8.8.8.8", "avoid": "203.0.113.9"}, Probe("tcp", "8.8.8.8", 443)),
    ],
)
def test_what_may_be_measured(parameters: dict[str, str], probe: Probe) -> None:
    assert read_probe(parameters) == probe


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"test": "ping", "target": "example.org"},
        {"test": "tcp"},
        {"test": "tcp", "target": "example.org", "port": "25"},
        {"test": "tcp", "target": "example.org", "port": "\u0664\u0664\u0663"},
        {"test": "tcp", "target": "example.org", "count": "6"},
        {"test": "tcp", "target": "example.org", "count": "0"},
        {"test": "tcp", "target": "example.org", "family": "ipx"},
        {"test": "tcp", "target": "example.org", "speed": "9"},
        {"test": "tcp", "target": "router"},
        {"test": "tcp", "target": "printer.local"},
        {"test": "tcp", "target": "exa mple.org"},
        {"test": "tcp", "target": "b\u00fccher.example"},
        {"test": "tcp", "target": "a" * 250 + ".org"},
        {"test": "dns", "target": "8.8.8.8"},
        {"test": "dns", "target": "example.org", "port": "80"},
        {"test": "http", "target": "ftp://example.org/"},
        {"test": "http", "target": "https://user@example.org/"},
        {"test": "http", "target": "https://example.org:22/"},
        {"test": "http", "target": "https://example.org:x/"},
        {"test": "http", "target": "https://example.org/#a"},
        {"test": "http", "target": "https://example.org/a b"},
        {"test": "http", "target": "https://example.org/a\r\nHost: b"},
        {"test": "http", "target": "https://example.org/" + "a" * 1024},
        {"test": "http", "target": "https://[::1"},
        {"test": "http", "target": "https:///x"},
        {"test": "http", "target": "https://example.org/", "port": "443"},
    ],
)
def test_what_may_not(parameters: dict[str, str]) -> None:
    with pytest.raises(Malformed) as caught:
        read_probe(parameters)
    assert "parameters" in caught.value.detail


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "10.1.2.3", "192.168.1.1", "172.16.0.1", "169.254.169.254", "100.64.0.1", "224.0.0.1", "0.0.0.0",
     "255.255.255.255", "[::1]", "[fe80::1]", "[fd00::1]", "[ff02::1]", "[::ffff:10.0.0.1]", "[64:ff9b::10.0.0.1]",
     "[64:ff9b:1::1]", "2130706433", "0177.1", "0x7f.0.0.1", "0x7f000001", "127.1"],
)  # fmt: skip
def test_private_targets_are_seen_through_every_spelling(host: str) -> None:
    assert is_literal(host)
    assert not is_public(host.strip("[]"))
    for test, target in (("tcp", host), ("http", f"http://{host}/"), ("dns", host)):
        with pytest.raises(Malformed):
            read_probe({"test": test, "target": target})


TEXTS = st.text(max_size=30) | st.sampled_from([*TESTS, "https://example.org/", "example.org", "443", "10.0.0.1"])


@given(st.dictionaries(st.sampled_from(["test", "target", "port", "family", "count", "avoid", "x"]), TEXTS))
def test_whatever_is_asked_for_is_a_bounded_probe_or_refused(parameters: dict[str, str]) -> None:
    try:
        probe = read_probe(parameters)
    except Malformed:
        return
    assert probe.test in TESTS
    assert 1 <= probe.count <= COUNT_MAX
    assert probe.port in ((0,) if probe.test == "dns" else PORTS)
    assert is_public(probe.host) or ("." in probe.host and not is_literal(probe.host))
    assert probe.path.isascii()
    assert not set(probe.path) & set(" \r\n")


TIMES = st.none() | st.integers(0, 10**6)
ATTEMPTS: st.SearchStrategy[Any] = st.builds(
    Attempt,
    st.lists(st.ip_addresses().map(str), max_size=8).map(tuple),
    TIMES,
    TIMES,
    TIMES,
    TIMES,
    TIMES,
    st.none() | st.integers(100, 599),
    TIMES,
    st.sampled_from([None, "timed-out", "certificate"]),
)


@given(st.builds(ProbeResult, st.integers(0, 2**40), st.lists(ATTEMPTS, min_size=1, max_size=5).map(tuple)))
def test_results_travel_in_a_task_status(result: ProbeResult) -> None:
    status = TaskStatus("t-1", "done", result=result)
    assert read_upward(write(status)) == status
