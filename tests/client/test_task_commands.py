"""Commands of network tasks: what is asked for, and what is told of it."""

from __future__ import annotations

import json

import pytest
from command_world import DEVICE_ID, FakeServer, Fallow, logged_in
from fallow_client import cli

DECISION = {
    "decided_at": 1_700_000_000,
    "wanted": 2,
    "considered": 12,
    "refused": {"paused": {"devices": 3, "for_example": ["fd-a", "fd-b"]}},
    "candidates": 1,
    "best": [{"device": DEVICE_ID, "chosen": True, "score_permille": {"value": 812, "line": 500}}],
}


def test_a_task_states_its_needs_and_parameters(fallow: Fallow, server: FakeServer, environ: dict[str, str]) -> None:
    logged_in(environ, server)
    made = {"id": "t-1", "kind": "probe", "state": "pending", "needs": {"service": "probe", "regions": ["DE", "AT"]},
            "parameters": {"test": "http"}, "placements": []}  # fmt: skip
    server.json("POST /v1/tasks", made, 201)
    needs = ("--region", "de", "--region", "AT", "--idle-mbps", "1.5", "--disk-gb", "2", "--processor", "20",
             "--ports", "ipv6", "--price-max", "7", "--upload-gb", "0.5")  # fmt: skip
    probe = ("--test", "http", "--target", "https://example.org/", "--count", "3", "--family", "ipv6")
    code, out, err = fallow("tasks", "add", "probe", *needs, *probe, "--replicas", "4", "--parameter", "x=y=z")
    assert (code, err) == (cli.OK, "")
    assert "regions=DE,AT" in out
    assert "test=http" in out
    asked = json.loads(server.asked[-1][2])
    assert asked == {
        "kind": "probe",
        "replicas": 4,
        "needs": {
            "regions": ["DE", "AT"],
            "up_bps": 1_500_000,
            "bytes": 500_000_000,
            "disk_bytes": 2 * 10**9,
            "processor_percent": 20,
            "ports": "ipv6",
            "price_max": 7,
        },
        "parameters": {"test": "http", "target": "https://example.org/", "count": "3", "family": "ipv6", "x": "y=z"},
    }
    assert fallow("tasks", "add", "fill")[0] == cli.USAGE
    assert fallow("tasks", "add", "live")[0] == cli.USAGE
    assert fallow("tasks", "add", "probe", "--parameter", "nonsense")[0] == cli.USAGE


def test_a_live_stream_is_named_by_its_playlist(fallow: Fallow, server: FakeServer, environ: dict[str, str]) -> None:
    logged_in(environ, server)
    address = "https://fallow.example/s/tv/live/index.m3u8"
    made = {"id": "t-1", "kind": "live", "state": "pending", "parameters": {"playlist": "x", "address": address}}
    server.json("POST /v1/tasks", made, 201)
    server.json("GET /v1/tasks", [made])
    code, out, err = fallow("tasks", "add", "live", "--playlist", "https://origin.example/live/index.m3u8")
    assert (code, err) == (cli.OK, "")
    assert address in out
    parameters = {"playlist": "https://origin.example/live/index.m3u8"}
    assert json.loads(server.asked[-1][2]) == {"kind": "live", "parameters": parameters}
    assert "fallow.example" in fallow("tasks", "list")[1]


def test_a_plain_fill_says_no_more_than_before(fallow: Fallow, server: FakeServer, environ: dict[str, str]) -> None:
    logged_in(environ, server)
    server.json("POST /v1/tasks", {"id": "t-1"}, 201)
    assert fallow("tasks", "add", "fill", "--object", "a" * 64)[0] == cli.OK
    assert json.loads(server.asked[-1][2]) == {"kind": "fill", "object": "a" * 64}


@pytest.mark.parametrize(("lang", "reason"), [("C", "paused"), ("zh_CN.UTF-8", "已暂停 (paused)")])
def test_why_names_reasons_and_scores(
    fallow: Fallow, server: FakeServer, environ: dict[str, str], lang: str, reason: str
) -> None:
    logged_in(environ, server)
    told = {"id": "t-1", "kind": "probe", "state": "placed", "decisions": [DECISION], "now": DECISION}
    server.json("GET /v1/tasks/t-1/why", told)
    code, out, err = fallow("tasks", "why", "t-1", LANG=lang)
    assert (code, err) == (cli.OK, "")
    for word in (reason, "fd-a, fd-b", DEVICE_ID, "0.812", "line 0.500"):
        assert out.count(word) >= 2, (word, out)
    assert json.loads(fallow("tasks", "why", "t-1", "--json")[1]) == told
    server.json("GET /v1/tasks/t-1/why", {"id": "t-1", "kind": "drop", "state": "done", "decisions": []})
    assert "done" in fallow("tasks", "why", "t-1")[1]


def test_results_show_what_was_measured(fallow: Fallow, server: FakeServer, environ: dict[str, str]) -> None:
    logged_in(environ, server)
    attempts = [{"addresses": ["198.51.100.7"], "connect_ms": 12, "total_ms": 13}, {"error": "timed-out"}]
    told = [{"device": DEVICE_ID, "measured_at": 1, "country": "DE", "attempts": attempts}]
    server.json("GET /v1/tasks/t-1/results", told)
    code, out, err = fallow("tasks", "results", "t-1")
    assert (code, err) == (cli.OK, "")
    head, first, second = out.splitlines()
    assert head.split() == ["Device", "Country", "Connection", "Whole", "Addresses", "Error"]
    assert first.split() == [DEVICE_ID, "DE", "12", "13", "198.51.100.7", "–"]
    assert "timed-out" in second
    assert json.loads(fallow("tasks", "results", "t-1", "--json")[1]) == told
    server.json("GET /v1/tasks/t-1/results", [])
    assert "No device has measured yet." in fallow("tasks", "results", "t-1")[1]


def test_tasks_are_listed_by_what_they_are_about(fallow: Fallow, server: FakeServer, environ: dict[str, str]) -> None:
    logged_in(environ, server)
    common = {"state": "running", "replicas": 2, "deadline": 1_700_000_000}
    found = [
        {"id": "t-1", "kind": "fill", "object": "a" * 64, **common},
        {"id": "t-2", "kind": "probe", "parameters": {"target": "example.org"}, **common},
    ]
    server.json("GET /v1/tasks", found)
    out = fallow("tasks", "list")[1]
    assert "a" * 64 in out
    assert "example.org" in out
    assert json.loads(fallow("tasks", "--json")[1]) == found
