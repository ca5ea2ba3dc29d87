"""The command as a person or script meets it: exit codes, one-line errors, kept secrets, both languages."""

from __future__ import annotations

import copy
import errno
import http.server
import io
import json
import stat
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from fallow_client import cli
from fallow_client.commands.operator import micro_points_of
from fallow_client.commands.output import clean, points
from fallow_client.commands.owner import hours_of, seconds_of
from fallow_client.discovery import FoundDevice
from fallow_client.errors import SettingsError
from fallow_client.lan_device import device_url
from fallow_client.messages import TERMS, ZH, Messages, language_of
from fallow_client.sentences import ZH_SENTENCES
from fallow_client.settings import KnownDevice, Profile, Settings, load_settings, save_settings, settings_path
from fallow_wire.fields import encode
from fallow_wire.harm import HarmDay, HarmRecord
from fallow_wire.jws import Kind, sign
from fallow_wire.tariff import LegacyCaps, QualityStep, Tariff, TrustStep
from hypothesis import given
from hypothesis import strategies as st
from support import key

DEVICE_ID = "fd-" + "a" * 24
Answer = tuple[int, str, bytes]


class FakeServer:
    """Answers by method and path; remembers what it was asked."""

    def __init__(self) -> None:
        self.answers: dict[str, Answer] = {}
        self.asked: list[tuple[str, dict[str, str], bytes]] = []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                call = f"{self.command} {self.path.partition('?')[0]}"
                outer.asked.append((call, dict(self.headers), body))
                missing = b'{"type":"not-found","title":"Not found"}'
                status, kind, data = outer.answers.get(call, (404, "application/problem+json", missing))
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_POST = do_DELETE = do_PATCH = answer

            def log_message(self, format: str, *args: Any) -> None:
                return

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        self.thread.start()

    def json(self, call: str, value: Any, status: int = 200) -> None:
        self.answers[call] = (status, "application/json", json.dumps(value).encode())

    def problem(self, call: str, status: int, **members: Any) -> None:
        self.answers[call] = (status, "application/problem+json", json.dumps(members).encode())

    def calls(self) -> list[str]:
        return [call for call, _, _ in self.asked]

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture
def server() -> Iterator[FakeServer]:
    made = FakeServer()
    made.json("GET /v1/health", {"status": "ok", "version": "1", "role": "scheduler"})
    yield made
    made.close()


@pytest.fixture
def environ(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """An environment without anything of the one who runs the tests."""
    for name in ("SCHEDULER", "LEDGER", "TOKEN", "PROFILE", "DEVICE", "LAN_TOKEN", "SETUP_CODE", "CLAIM_TOKEN"):
        monkeypatch.delenv(f"FALLOW_{name}", raising=False)
    return {"FALLOW_HOME": str(tmp_path / "home"), "LANG": "C.UTF-8"}


Fallow = Callable[..., tuple[int, str, str]]


@pytest.fixture
def fallow(environ: dict[str, str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Fallow:
    def call(*arguments: str, stdin: str = "", **more: str) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.stdin", io.StringIO(stdin))
        code = cli.run(list(arguments), environ | more)
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return code, captured.out, captured.err

    return call


def logged_in(environ: dict[str, str], server: FakeServer, profile: str = "default") -> None:
    path = settings_path(environ)
    known = Profile(server.url, server.url, "secret-token")
    save_settings(path, load_settings(path).with_profile(profile, known))


# ------------------------------------------------------------------ secrets


def test_login_keeps_the_token_where_only_its_owner_reads_it(
    fallow: Fallow, server: FakeServer, environ: dict[str, str]
) -> None:
    code, out, err = fallow("login", "--scheduler", server.url, "--token", "-", stdin="secret-token\n")
    assert (code, err) == (cli.OK, "")
    assert "secret-token" not in out
    path = settings_path(environ)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert load_settings(path).profiles["default"] == Profile(server.url, None, "secret-token")
    assert [entry.name for entry in path.parent.iterdir()] == ["config.json"]


def test_a_file_that_others_could_read_is_closed_at_the_next_change(environ: dict[str, str]) -> None:
    path = settings_path(environ)
    save_settings(path, Settings())
    path.chmod(0o644)
    save_settings(path, Settings(devices={DEVICE_ID: KnownDevice("http://x", "lan-token-1")}))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert load_settings(path).devices[DEVICE_ID].lan_token == "lan-token-1"


def test_a_token_goes_only_to_the_server_that_it_is_for(
    fallow: Fallow, server: FakeServer, environ: dict[str, str]
) -> None:
    other = FakeServer()
    other.json("GET /v1/objects", [])
    try:
        logged_in(environ, server)
        assert fallow("objects", "--scheduler", other.url)[0] == cli.OK
        assert "Authorization" not in other.asked[0][1]
        server.json("GET /v1/objects", [])
        assert fallow("objects")[0] == cli.OK
        assert server.asked[0][1]["Authorization"] == "Bearer secret-token"
    finally:
        other.close()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"profiles": 3}', '{"profiles": {"a": {"token": 5}}}', "\xff"])
def test_a_damaged_settings_file_is_named_and_left_alone(fallow: Fallow, environ: dict[str, str], content: str) -> None:
    path = settings_path(environ)
    path.parent.mkdir()
    path.write_bytes(content.encode("latin-1"))
    code, _, err = fallow("objects")
    assert code == cli.FAILED
    assert str(path) in err
    assert path.read_bytes() == content.encode("latin-1")


@pytest.mark.parametrize(
    ("environ_", "expected"),
    [
        ({"FALLOW_HOME": "/f", "XDG_CONFIG_HOME": "/x", "HOME": "/h"}, "/f/config.json"),
        ({"XDG_CONFIG_HOME": "/x", "HOME": "/h"}, "/x/fallow/config.json"),
        ({"HOME": "/h"}, "/h/.config/fallow/config.json"),
    ],
)
def test_where_settings_are(environ_: dict[str, str], expected: str) -> None:
    assert str(settings_path(environ_)) == expected


# ------------------------------------------------------------------ errors and exit codes


def test_nobody_there(fallow: Fallow) -> None:
    code, out, err = fallow("objects", "--scheduler", "http://127.0.0.1:1")
    assert (code, out) == (cli.UNREACHABLE, "")
    assert err == (
        "error: http://127.0.0.1:1 does not answer: Connection refused – "
        "check the address, the network, and that it runs\n"
    )


def test_nothing_known(fallow: Fallow) -> None:
    code, _, err = fallow("objects")
    assert code == cli.FAILED
    assert "fallow login" in err


def test_a_problem_is_one_line_with_what_to_do(fallow: Fallow, server: FakeServer) -> None:
    server.problem(
        "GET /v1/objects", 403, type="wrong-role", title="No", detail="for publishers\x1b[2J", remedy="log in"
    )
    code, _, err = fallow("objects", "--scheduler", server.url)
    assert code == cli.REFUSED
    assert err == "error: No: for publishers\N{REPLACEMENT CHARACTER}[2J – log in\n"


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ((500, "text/html", b"<h1>Internal Server Error</h1>"), cli.SERVER_FAULT),
        ((302, "text/plain", b"elsewhere"), cli.REFUSED),
        ((200, "application/json", b"{"), cli.FAILED),
        ((200, "application/json", b"5"), cli.FAILED),
        ((200, "application/json", b'{"objects": 5}'), cli.FAILED),
        ((200, "text/html", b"a captive portal"), cli.FAILED),
        ((200, "application/json", b"\xff\xfe"), cli.FAILED),
        ((403, "application/problem+json", b'{"type": 5, "title": [], "detail": {}}'), cli.REFUSED),
    ],
)
def test_odd_answers_are_errors_of_one_line(fallow: Fallow, server: FakeServer, answer: Answer, expected: int) -> None:
    server.answers["GET /v1/objects"] = answer
    code, out, err = fallow("objects", "--scheduler", server.url)
    assert (code, out) == (expected, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1


def test_wrong_usage(fallow: Fallow) -> None:
    assert fallow("no-such-command")[0] == cli.USAGE
    assert fallow("fetch")[0] == cli.USAGE
    assert fallow("limits", "--upload-percent", "200", "--device", "127.0.0.1:1")[0] == cli.USAGE
    assert fallow("limits", "--service", "mining=on", "--device", "127.0.0.1:1")[0] == cli.USAGE
    assert fallow("limits", "--hours", "7@25:00-26:00", "--device", "127.0.0.1:1")[0] == cli.USAGE
    assert fallow("operator", "deposit", "acc-1", "1.0000001", "--ledger", "http://127.0.0.1:1")[0] == cli.USAGE


def test_fetch_of_nonsense(fallow: Fallow, tmp_path: Path) -> None:
    assert fallow("fetch", "http://x/y")[0] == cli.FAILED
    assert fallow("fetch", "0" * 64)[0] == cli.FAILED
    assert fallow("fetch", f"http://127.0.0.1:1/o/{'0' * 64}/n")[0] == cli.UNREACHABLE


def test_publishing_what_is_not_there(fallow: Fallow, server: FakeServer, tmp_path: Path) -> None:
    code, _, err = fallow("publish", str(tmp_path / "absent"), "--scheduler", server.url)
    assert code == cli.FAILED
    assert "not a file" in err
    assert server.asked == []


def test_a_published_video_can_be_watched(fallow: Fallow, server: FakeServer, tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    path.write_bytes(b"12345")
    for kind, shown in (("video/mp4", True), ("text/plain", False)):
        url = f"https://fallow.example/o/{'a' * 64}/film.mp4"
        published = {"id": "a" * 64, "name": "film.mp4", "size": 5, "type": kind, "chunks": 1, "url": url}
        server.json("POST /v1/objects", published, 201)
        code, out, _ = fallow("publish", str(path), "--scheduler", server.url, FALLOW_TOKEN="t")
        assert code == 0
        assert (f"https://fallow.example/watch/{'a' * 64}" in out) is shown


def test_publishing_sends_the_file_as_it_is(fallow: Fallow, server: FakeServer, tmp_path: Path) -> None:
    published = {"id": "a" * 64, "name": "a b.bin", "size": 5, "type": "x/y", "chunks": 1, "url": "http://x"}
    server.json("POST /v1/objects", published, 201)
    path = tmp_path / "a b.bin"
    path.write_bytes(b"12345")
    code, out, _ = fallow("publish", str(path), "--scheduler", server.url, "--json", FALLOW_TOKEN="t")
    assert code == cli.OK
    assert json.loads(out)["id"] == "a" * 64
    call, headers, body = server.asked[0]
    assert (call, body, headers["Content-Length"]) == ("POST /v1/objects", b"12345", "5")


def test_a_long_listing_is_read_page_by_page(fallow: Fallow, server: FakeServer, environ: dict[str, str]) -> None:
    logged_in(environ, server)
    server.json("GET /v1/accounts", [{"id": f"acc-{n}", "role": "owner", "name": "n"} for n in range(3)])
    code, out, _ = fallow("operator", "accounts", "list", "--json")
    assert code == cli.OK
    assert len(json.loads(out)) == 3
    assert len(server.asked) == 2


def test_books_that_do_not_reconcile_fail_the_command(
    fallow: Fallow, server: FakeServer, environ: dict[str, str]
) -> None:
    logged_in(environ, server)
    server.json("GET /v1/reconciliation", {"sum": 0, "differences": []})
    assert fallow("operator", "reconcile")[0] == cli.OK
    server.json("GET /v1/reconciliation", {"sum": -1, "differences": []})
    assert fallow("operator", "reconcile")[0] == cli.FAILED


# ------------------------------------------------------------------ activation


def dormant(server: FakeServer) -> None:
    info = {"device_id": DEVICE_ID, "name": "n", "model": "m", "version": "1", "state": "dormant", "terms_version": "1"}
    server.json("GET /v1/device", info | {"setup_code_required": True})
    server.json("POST /v1/activation", {"state": "activating", "lan_token": "lan-token-1"}, 202)
    server.json("GET /v1/activation", {"state": "active"})
    server.json("POST /v1/claims", {"claim_token": "claim-token-1", "expires_at": 1}, 201)


def test_no_consent_no_activation(fallow: Fallow, server: FakeServer, environ: dict[str, str]) -> None:
    logged_in(environ, server, "owner")
    dormant(server)
    code, _, err = fallow("activate", "--device", server.url, "--setup-code", "x", stdin="n\n")
    assert code == cli.FAILED
    assert "Terms 1, in short" in err
    assert server.calls() == ["GET /v1/device"]


def test_activation_keeps_the_lan_token_for_later_commands(
    fallow: Fallow, server: FakeServer, environ: dict[str, str]
) -> None:
    logged_in(environ, server, "owner")
    dormant(server)
    code, out, _ = fallow("activate", "--device", server.url, "--setup-code", "AB-CD", "--accept-terms", "--json")
    assert (code, json.loads(out)["state"]) == (cli.OK, "active")
    sent = json.loads(next(body for call, _, body in server.asked if call == "POST /v1/activation"))
    assert sent["consent"] == {"terms_version": "1", "accepted": True}
    assert (sent["claim_token"], sent["setup_code"]) == ("claim-token-1", "AB-CD")
    server.json("POST /v1/pause", {"state": "paused"})
    assert fallow("pause")[0] == cli.OK
    assert server.asked[-1][1]["Authorization"] == "Bearer lan-token-1"


def test_a_failed_activation_says_why(fallow: Fallow, server: FakeServer, environ: dict[str, str]) -> None:
    logged_in(environ, server, "owner")
    dormant(server)
    error = {
        "type": "claim-expired",
        "title": "Expired",
        "status": 403,
        "detail": "the claim is too old",
        "remedy": "r",
    }
    server.json("GET /v1/activation", {"state": "dormant", "error": error})
    code, _, err = fallow("activate", "--device", server.url, "--setup-code", "x", "--accept-terms")
    assert (code, err) == (cli.FAILED, "error: the activation failed: the claim is too old – r\n")


def test_a_device_without_a_token_tells_how_to_get_one(fallow: Fallow, server: FakeServer) -> None:
    dormant(server)
    code, _, err = fallow("status", "--device", server.url)
    assert code == cli.FAILED
    assert "fallow pair" in err


def test_clearing_and_setting_limits(fallow: Fallow, server: FakeServer) -> None:
    server.json("PATCH /v1/limits", {"upload_percent_max": 50})
    code, _, _ = fallow(
        "limits", "--device", server.url, "--upload-percent", "50", "--clear", "hours", FALLOW_LAN_TOKEN="t"
    )
    assert code == cli.OK
    assert json.loads(server.asked[-1][2]) == {"upload_percent_max": 50, "hours": None}


# ------------------------------------------------------------------ languages and help


def every_command(
    command: click.Command, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    yield path, command
    if isinstance(command, click.Group):
        for name, inner in command.commands.items():
            yield from every_command(inner, (*path, name))


# ------------------------------------------------------------------ tasks

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


@pytest.mark.parametrize("path", [path for path, _ in every_command(cli.fallow)], ids=" ".join)
@pytest.mark.parametrize("lang", ["C", "zh_CN.UTF-8"])
def test_help_of_everything(fallow: Fallow, path: tuple[str, ...], lang: str) -> None:
    code, out, _ = fallow(*path, "--help", LANG=lang)
    assert code == cli.OK
    assert out.startswith("Usage: fallow")


def test_every_help_text_is_in_the_chinese_catalogue() -> None:
    missing = set()
    for _, command in every_command(cli.fallow):
        texts = [(command.help or "").partition("\n\n")[0]]
        texts += [parameter.help or "" for parameter in command.params if isinstance(parameter, click.Option)]
        missing |= {text for text in texts if text and text not in ZH}
    assert missing == set()


def test_translations_keep_the_places_of_values() -> None:
    for english, chinese in ZH.items():
        assert places(english) == places(chinese), english


def places(text: str) -> list[str]:
    return sorted(part.partition("}")[0] for part in text.split("{")[1:])


def test_translating_leaves_the_english_commands_alone() -> None:
    before = cli.fallow.commands["fetch"].help
    Messages("zh").localised(copy.deepcopy(cli.fallow))
    assert cli.fallow.commands["fetch"].help == before
    assert "{version}" not in Messages("zh")(TERMS, version="1")


@pytest.mark.parametrize(
    ("environ_", "language"),
    [
        ({}, "en"),
        ({"LANG": "zh_CN.UTF-8"}, "zh"),
        ({"LANG": "zh_CN.UTF-8", "LC_ALL": "C"}, "en"),
        ({"LANG": "de_DE", "LC_MESSAGES": "zh_TW"}, "zh"),
        ({"LANG": "de_DE"}, "en"),
    ],
)
def test_languages(environ_: dict[str, str], language: str) -> None:
    assert language_of(environ_) == language


def test_every_command_that_prints_has_json() -> None:
    for path, command in every_command(cli.fallow):
        if not isinstance(command, click.Group):
            assert "json" in {parameter.name for parameter in command.params}, path


# ------------------------------------------------------------------ a first login


def test_a_wrong_token_is_refused_at_login(fallow: Fallow, server: FakeServer, environ: dict[str, str]) -> None:
    server.problem("GET /v1/devices", 401, type="bad-token", title="The token is not known here")
    server.json("GET /v1/health", {"status": "ok", "role": "all", "version": "1"})
    code, _, err = fallow("login", "--scheduler", server.url, "--token", "wrong")
    assert code == cli.REFUSED
    assert "not known" in err
    assert not settings_path(environ).exists()


def test_a_role_without_devices_may_log_in(fallow: Fallow, server: FakeServer, environ: dict[str, str]) -> None:
    server.problem("GET /v1/devices", 403, type="forbidden", title="The token's role may not do this")
    server.json("GET /v1/health", {"status": "ok", "role": "all", "version": "1"})
    assert fallow("login", "--scheduler", server.url + "/", "--token", "good")[0] == cli.OK
    assert load_settings(settings_path(environ)).profiles["default"].scheduler == server.url


@pytest.mark.parametrize("address", ["foo", "127.0.0.1:32550", "ftp://x", "http://", "http://x/?a=b"])
def test_what_is_no_address_is_said_at_once(fallow: Fallow, address: str) -> None:
    for arguments in (("login", "--token", "x"), ("objects",)):
        code, _, err = fallow(*arguments, "--scheduler", address)
        assert code == cli.FAILED
        assert f"{address} is not a server's address – give it like http://" in err


def test_scheduler_and_ledger_are_not_taken_for_each_other(
    fallow: Fallow, server: FakeServer, environ: dict[str, str]
) -> None:
    server.json("GET /v1/health", {"status": "ok", "role": "ledger", "version": "1"})
    assert "is not a Fallow scheduler" in fallow("login", "--scheduler", server.url, "--token", "x")[2]
    server.json("GET /v1/health", {"status": "ok", "role": "scheduler", "version": "1"})
    assert (
        "is not a Fallow ledger"
        in fallow("login", "--scheduler", server.url, "--ledger", server.url, "--token", "x")[2]
    )
    server.problem("GET /v1/health", 404, title="Not Found")
    code, _, err = fallow("login", "--scheduler", server.url, "--token", "x")
    assert (code, "is not a Fallow scheduler" in err) == (cli.FAILED, True)
    assert not settings_path(environ).exists()


def test_without_a_terminal_the_token_comes_from_standard_input(fallow: Fallow, server: FakeServer) -> None:
    server.json("GET /v1/health", {"status": "ok"})
    assert fallow("login", "--scheduler", server.url, stdin="good\n")[0] == cli.OK
    code, _, err = fallow("login", "--scheduler", server.url)
    assert (code, "the token is empty" in err) == (cli.FAILED, True)


def test_a_claim_for_the_page_of_the_device(fallow: Fallow, server: FakeServer, environ: dict[str, str]) -> None:
    logged_in(environ, server, "owner")
    server.json("POST /v1/claims", {"claim_token": "fc_12345678", "expires_at": 1_800_000_000}, 201)
    code, out, _ = fallow("claim")
    assert code == cli.OK
    assert "fc_12345678" in out
    assert server.url in out


# ------------------------------------------------------------------ screens


def test_a_lost_scheduler_is_told_in_words(fallow: Fallow, server: FakeServer, environ: dict[str, str]) -> None:
    dormant(server)
    save_settings(settings_path(environ), Settings(devices={DEVICE_ID: KnownDevice(server.url, "lan-token-1")}))
    problem = {
        "type": "scheduler-away",
        "title": "The scheduler cannot be reached",
        "detail": "Connect call failed",
        "remedy": "Nothing is lost; the device goes on trying.",
    }
    server.json("GET /v1/status", {"state": "active", "uplink": {"connected": False, "error": problem}})
    out = fallow("status")[1]
    assert "The scheduler cannot be reached; Nothing is lost; the device goes on trying" in out
    assert "{" not in out
    chinese = fallow("status", LANG="zh_CN.UTF-8")[1]
    assert "无法连接调度服务器" in chinese
    assert "已激活" in chinese


def test_how_the_port_is_open_or_what_to_do_is_shown(
    fallow: Fallow, server: FakeServer, environ: dict[str, str]
) -> None:
    dormant(server)
    save_settings(settings_path(environ), Settings(devices={DEVICE_ID: KnownDevice(server.url, "lan-token-1")}))
    port = {"protocol": "tcp", "port": 40000, "family": "ipv4", "address": "11.22.33.44", "mapped_by": "pcp"}
    seen = {"addresses": ["11.22.33.44"], "ipv4": "mapped", "ipv6": "unknown", "urls": ["http://11.22.33.44:40000"]}
    status = {"state": "active", "environment": {"service_ports": [port]}, "ports": {"seen": seen}}
    server.json("GET /v1/status", status)
    assert "11.22.33.44:40000; opened by your router: PCP" in fallow("status")[1]
    assert "由您的路由器开放：PCP" in fallow("status", LANG="zh_CN.UTF-8")[1]
    problem = {
        "type": "no-port-protocol",
        "title": "Your router offers neither UPnP nor PCP",
        "remedy": "Turn UPnP or PCP on in your router, or: Forward TCP 32557 to this device, 192.168.1.5, in your "
        "router's settings.",
    }
    server.json("GET /v1/status", {"state": "active", "ports": {"advice": problem}})
    assert "Your router offers neither UPnP nor PCP; Turn UPnP or PCP on" in fallow("status")[1]
    chinese = fallow("status", LANG="zh_CN.UTF-8")[1]
    assert "您的路由器既不提供 UPnP 也不提供 PCP" in chinese
    assert "把 TCP 32557 转发到本设备 192.168.1.5" in chinese


def test_the_do_no_harm_record_is_shown_and_its_signature_is_checked(
    fallow: Fallow, server: FakeServer, environ: dict[str, str]
) -> None:
    dormant(server)
    save_settings(settings_path(environ), Settings(devices={DEVICE_ID: KnownDevice(server.url, "lan-token-1")}))
    device = key(1)
    did = device.public.device_id()
    days = (
        HarmDay("2026-11-22", 1800, 2, 2, 140, 90, 30, 1, 21_000, 20_000, 0),
        HarmDay("2026-11-23", 5400, 1, 1, 40, 40, 30, 1, 24_000, 20_000, 0),
    )
    token = sign(Kind.HARM, HarmRecord(did, device.public.jwk(), 1, days), device, kid=did)
    server.json("GET /v1/status", {"state": "active", "do_no_harm": token})
    out = fallow("status")[1]
    for shown in (f"2 days, signed by {did}", "2.0", "60 ms, at most 90 ms", "+2.5 ms"):
        assert shown in out
    assert f"2 天，由 {did} 签名" in fallow("status", LANG="zh_CN.UTF-8")[1]
    header, payload, signature = token.split(".")
    server.json("GET /v1/status", {"state": "active", "do_no_harm": f"{header}.{payload}.{'A' * len(signature)}"})
    assert "not to be believed" in fallow("status")[1]


def test_the_status_tells_what_holds_the_device_back(
    fallow: Fallow, server: FakeServer, environ: dict[str, str]
) -> None:
    dormant(server)
    save_settings(settings_path(environ), Settings(devices={DEVICE_ID: KnownDevice(server.url, "lan-token-1")}))
    status = {
        "state": "active",
        "refusal": {"type": "paused", "detail": "The line costs money by the byte (wwan0)."},
        "processor": {"temperature_c": 81},
        "headroom_permille": 400,
        "flash": {"written_bytes_today": 2**20, "bytes_max": 500 * 2**20},
        "connections": {"open": 3, "max": 100, "refused_today": 7},
    }
    server.json("GET /v1/status", status)
    lines = [" ".join(line.split()) for line in fallow("status")[1].splitlines()]
    for line in (
        "Serves nobody The line costs money by the byte (wwan0)",
        "Processor and heat leave 40 %",
        "Temperature 81 °C",
        "Connections 3 / 100",
        "Turned away today 7",
        "Written today 1.0 MiB / 500.0 MiB",
    ):
        assert line in lines
    chinese = fallow("status", LANG="zh_CN.UTF-8")[1]
    assert "线路按流量计费（wwan0）" in chinese
    assert "今日写入" in chinese

    server.json("GET /v1/status", {"state": "active", "flash": {"written_bytes_today": 0, "bytes_max": None}})
    lines = [" ".join(line.split()) for line in fallow("status")[1].splitlines()]
    assert {"Serves nobody –", "Temperature –", "Written today 0 B"} <= set(lines)


def test_the_status_tells_of_the_last_speed_test(fallow: Fallow, server: FakeServer, environ: dict[str, str]) -> None:
    dormant(server)
    save_settings(settings_path(environ), Settings(devices={DEVICE_ID: KnownDevice(server.url, "lan-token-1")}))

    def shown(speedtest: Any, **more: str) -> str:
        server.json("GET /v1/status", {"state": "active", "speedtest": speedtest})
        return " ".join(fallow("status", **more)[1].split())

    done = {"state": "done", "up_bps": 20_100_000, "down_bps": 99_000_000, "measured_at": 1_800_000_000}
    assert "Speed test" not in shown(None)
    assert "Speed test running" in shown({"state": "running"})
    assert "Speed test ↑ 20.1 Mbit/s ↓ 99.0 Mbit/s 2027-01-1" in shown({**done, "counts": True})
    assert "– it was used meanwhile" in shown({**done, "counts": False})
    error = {"title": "This device has tested its line a short while ago"}
    assert "测速 本设备不久前刚测过速" in shown({"state": "failed", "error": error}, LANG="zh_CN.UTF-8")


def test_a_pause_tells_until_when(fallow: Fallow, server: FakeServer, environ: dict[str, str]) -> None:
    dormant(server)
    save_settings(settings_path(environ), Settings(devices={DEVICE_ID: KnownDevice(server.url, "lan-token-1")}))
    server.json("POST /v1/pause", {"state": "paused", "paused_until": 1_800_000_000})
    out = fallow("pause", "--for", "2h")[1]
    assert "Paused until  20" in out
    assert "暂停至" in fallow("pause", LANG="zh_CN.UTF-8")[1]


def test_a_deposit_is_told_in_points(fallow: Fallow, server: FakeServer, environ: dict[str, str]) -> None:
    logged_in(environ, server)
    server.json("POST /v1/deposits", {"id": "1", "micro_points": 10**9, "escrow": 3 * 10**9, "publisher": "pub-1"}, 201)
    out = fallow("operator", "deposit", "pub-1", "1000")[1]
    assert [line.split() for line in out.splitlines()] == [
        ["Publisher", "pub-1"],
        ["Deposited", "1000"],
        ["Escrow", "3000"],
    ]


def test_in_a_narrow_terminal_an_id_stays_whole(
    fallow: Fallow, server: FakeServer, environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    logged_in(environ, server)
    found = [
        {"id": "a" * 64, "name": "x", "size": 1, "type": "text/plain", "replicas_wanted": 2, "chunks": 1, "url": "u"}
    ]
    server.json("GET /v1/objects", found)
    monkeypatch.setattr("fallow_client.commands.output.WIDTH_OF_FILES", 80)
    out = fallow("objects")[1]
    assert f"Object    {'a' * 64}" in out
    assert "Size      1 B" in out


def test_refusals_are_chinese_where_the_catalogue_has_them() -> None:
    say = Messages("zh").sentence
    assert say("The setup code is wrong: 4 tries are left") == "设置码错误：还可以尝试 4 次"
    assert say("http://127.0.0.1:9 does not answer: Connection refused") == "http://127.0.0.1:9 没有应答：连接被拒绝"
    assert say("no token: nobody knows: this") == "no token: nobody knows: this"
    assert Messages("en").sentence("The setup code is wrong: x") == "The setup code is wrong: x"


def test_each_sentence_has_the_places_of_its_translation() -> None:
    for english, chinese in ZH_SENTENCES.items():
        assert english.count("{}") == chinese.count("{}"), english


def test_a_full_disk_is_not_a_matter_of_rights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(SettingsError) as caught:
        save_settings(tmp_path / "config.json", Settings())
    assert caught.value.remedy == "free some space"


# ------------------------------------------------------------------ small things


@given(st.integers(1, 2**53 - 1))
def test_points_are_read_as_they_are_shown(micro_points: int) -> None:
    assert micro_points_of(points(micro_points)) == micro_points


@given(st.text())
def test_what_others_say_cannot_steer_the_terminal(text: str) -> None:
    assert clean(text).isprintable()


def test_hours() -> None:
    assert hours_of("0-4,6@22:00-06:00") == {"days": [0, 1, 2, 3, 4, 6], "start_min": 1320, "end_min": 360}
    assert hours_of("5@00:00-24:00") == {"days": [5], "start_min": 0, "end_min": 1440}
    for wrong in ("", "7@1:00-2:00", "1@24:00-25:00", "4-1@00:00-01:00", "1@00:00-00:00", "1 00:00-01:00"):
        with pytest.raises(click.BadParameter):
            hours_of(wrong)


def test_durations() -> None:
    assert [seconds_of(text) for text in ("30s", "90m", "2h", "31d")] == [30, 5400, 7200, 31 * 86400]
    for wrong in ("", "5", "h", "0s", "32d", "-1h", "1.5h", "9" * 5000 + "d"):
        with pytest.raises(click.BadParameter):
            seconds_of(wrong)


@pytest.mark.parametrize(
    ("address", "url"),
    [
        ("192.168.1.1", "http://192.168.1.1:32556"),
        ("192.168.1.1:80", "http://192.168.1.1:80"),
        ("fallow-abcd.local", "http://fallow-abcd.local:32556"),
        ("fd00::1", "http://[fd00::1]:32556"),
        ("[fd00::1]:80", "http://[fd00::1]:80"),
        ("http://x/", "http://x"),
    ],
)
def test_addresses_of_devices(address: str, url: str) -> None:
    assert device_url(address) == url


def test_settings_errors_are_named(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(SettingsError):
        save_settings(blocked / "config.json", Settings())


def test_a_device_with_a_new_address_is_found_again(
    fallow: Fallow, server: FakeServer, environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    dormant(server)
    server.json("POST /v1/resume", {"state": "active"})
    old = Settings(devices={DEVICE_ID: KnownDevice("http://127.0.0.1:1", "lan-token-1")})
    save_settings(settings_path(environ), old)
    port = server.server.server_address[1]
    found = FoundDevice(DEVICE_ID, "fallow-aaaa.local", ("127.0.0.1",), int(port), "active")

    async def find_devices() -> list[FoundDevice]:
        return [found]

    monkeypatch.setattr("fallow_client.commands.context.find_devices", find_devices)
    assert fallow("resume")[0] == cli.OK
    assert server.asked[-1][1]["Authorization"] == "Bearer lan-token-1"


def test_another_device_at_the_old_address_gets_no_token(
    fallow: Fallow, server: FakeServer, environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    dormant(server)
    old = Settings(devices={"fd-" + "b" * 24: KnownDevice(server.url, "lan-token-1")})
    save_settings(settings_path(environ), old)

    async def find_devices() -> list[FoundDevice]:
        return []

    monkeypatch.setattr("fallow_client.commands.context.find_devices", find_devices)
    assert fallow("resume")[0] == cli.FAILED
    assert all("Authorization" not in headers for _, headers, _ in server.asked)


def test_activate_means_the_dormant_device(
    fallow: Fallow, server: FakeServer, environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where an active one of the same home is known already: the second device of an owner."""
    dormant(server)
    other = "fd-" + "b" * 24
    save_settings(settings_path(environ), Settings(devices={other: KnownDevice("http://127.0.0.1:1", "lan-token-1")}))
    port = int(server.server.server_address[1])

    async def find_devices() -> list[FoundDevice]:
        return [
            FoundDevice(other, "fallow-bbbb.local", ("127.0.0.1",), 1, "active"),
            FoundDevice(DEVICE_ID, "fallow-aaaa.local", ("127.0.0.1",), port, "dormant"),
        ]

    monkeypatch.setattr("fallow_client.commands.context.find_devices", find_devices)
    _, _, err = fallow("activate", stdin="n\n")
    assert "the terms were not accepted" in err
    assert server.calls() == ["GET /v1/device"]


# ------------------------------------------------------------------ redemptions and statements


def known_device(environ: dict[str, str], server: FakeServer) -> None:
    server.json("GET /v1/device", {"device_id": DEVICE_ID, "name": "n", "model": "m", "version": "1", "state": "active",
                                   "setup_code_required": True, "terms_version": "1"})  # fmt: skip
    path = settings_path(environ)
    save_settings(path, load_settings(path).with_device(DEVICE_ID, KnownDevice(server.url, "lan-token")))


def test_a_lost_answer_is_asked_for_again_under_the_same_key(
    fallow: Fallow, server: FakeServer, environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from fallow_client.commands import earnings

    monkeypatch.setattr(earnings, "REDEEM_WAITS_S", (0.0, 0.0))
    known_device(environ, server)
    away = {"type": "ledger-away", "title": "The ledger cannot be asked now"}
    server.problem("POST /v1/redemptions", 503, **away)
    code, _, err = fallow("redeem", "r1")
    assert code == cli.FAILED
    keys = [headers["Idempotency-Key"] for call, headers, _ in server.asked if call == "POST /v1/redemptions"]
    assert len(keys) == 2
    assert len(set(keys)) == 1
    assert f"fallow redeem r1 --key {keys[0]}" in err
    server.json("POST /v1/redemptions", {"id": "x", "reward": "r1", "micro_points": 1, "state": "reserved"}, 201)
    code, out, _ = fallow("redeem", "r1", "--key", keys[0])
    assert code == cli.OK
    assert server.asked[-1][1]["Idempotency-Key"] == keys[0]
    assert "reserved" in out


def test_a_refusal_is_not_asked_again(fallow: Fallow, server: FakeServer, environ: dict[str, str]) -> None:
    known_device(environ, server)
    server.problem("POST /v1/redemptions", 409, type="out-of-stock", title="This reward is used up")
    code, _, err = fallow("redeem", "r1", LANG="zh_CN.UTF-8")
    assert code == cli.REFUSED
    assert "该奖励已兑完" in err
    assert server.calls().count("POST /v1/redemptions") == 1


def test_redemptions_show_their_codes(fallow: Fallow, server: FakeServer, environ: dict[str, str]) -> None:
    known_device(environ, server)
    redeemed = {"id": "x", "micro_points": 2_000_000, "state": "fulfilled", "code": "COFFEE", "created_at": 1}
    server.json("GET /v1/redemptions", [redeemed])
    _, out, _ = fallow("redemptions")
    assert "COFFEE" in out
    assert "已兑现" in fallow("redemptions", LANG="zh_CN.UTF-8")[1]


def statement_of(server: FakeServer, signer: Any, published: Any) -> str:
    from fallow_wire.batches import Head
    from fallow_wire.fields import encode
    from fallow_wire.jws import Kind, sign
    from fallow_wire.keys import JwkSet
    from fallow_wire.statements import Statement

    statement = Statement("own-1", "2026-10", 1, 2, True, {"held": 1}, {"held": 1}, (), (), Head(1, "a" * 64, 1), 3)
    token = sign(Kind.STATEMENT, statement, signer)
    server.json("GET /.well-known/jwks.json", encode(JwkSet((published.public.jwk(with_kid=True),))))
    server.answers["GET /v1/accounts/me/statements/2026-10"] = (200, "text/html", f"<p>{token}</p>".encode())
    return token


def test_a_statement_is_written_only_with_the_ledgers_signature(
    fallow: Fallow, server: FakeServer, environ: dict[str, str], tmp_path: Path
) -> None:
    from support import key

    logged_in(environ, server)
    token = statement_of(server, key(1), key(1))
    file = tmp_path / "october.html"
    code, out, _ = fallow("statements", "2026-10", "--format", "html", "-o", str(file))
    assert (code, file.read_text()) == (cli.OK, f"<p>{token}</p>")
    assert "verified" in out
    code, _, err = fallow("statements", "2026-10", "--format", "html", "-o", str(tmp_path / "none" / "x"))
    assert (code, "-o" in err) == (cli.FAILED, True)
    for text in (b"<p>nothing signed</p>", token.replace("a", "b").encode()):
        server.answers["GET /v1/accounts/me/statements/2026-10"] = (200, "text/html", text)
        code, _, err = fallow("statements", "2026-10", "--format", "html")
        assert code == cli.FAILED
    statement_of(server, key(2), key(1))
    assert fallow("statements", "2026-10", "--format", "html")[0] == cli.FAILED
    server.json("GET /v1/accounts/me/statements", [{"month": "2026-10", "complete": True}])
    assert "2026-10" in fallow("statements")[1]


def test_a_settlement_is_told_with_what_it_would_have_been(
    fallow: Fallow, server: FakeServer, environ: dict[str, str]
) -> None:
    logged_in(environ, server)
    factors = {"bytes": 2**30, "rate": 10**6, "quality": 1000, "scarcity": 1000, "weight": 500}
    other = {"if": "countersigned", "micro_points": 10**6, "more_permille": 1000}
    server.json(
        "GET /v1/settlements/j",
        {"booked_at": 1, "device": DEVICE_ID, "service": "object", "tier": "legacy", "factors": factors,
         "micro_points": 500_000, "otherwise": [other], "not_told": [], "matures_at": 2, "late_at": 3,
         "reversed": {"micro_points": 250_000, "reason": "made up", "at": 2}},
    )  # fmt: skip
    _, out, _ = fallow("settlement", "j")
    assert "1 (+100.0 %)" in out
    assert "0.25: made up" in out
    assert "若下载者签名回执" in fallow("settlement", "j", LANG="zh_CN.UTF-8")[1]


def test_codes_come_from_a_file(fallow: Fallow, server: FakeServer, environ: dict[str, str], tmp_path: Path) -> None:
    logged_in(environ, server)
    server.json("POST /v1/rewards", {"id": "r"}, 201)
    server.json("POST /v1/rewards/r/stock", {"id": "r", "stock": 4})
    codes, empty = tmp_path / "codes", tmp_path / "empty"
    codes.write_text("A\n\n B \n")
    empty.write_text("\n")
    assert fallow("operator", "rewards", "add", "Coffee", "2", "--codes", str(codes), "--terms", "t")[0] == cli.OK
    assert json.loads(server.asked[-1][2]) == {
        "title": "Coffee",
        "micro_points": 2 * 10**6,
        "codes": ["A", "B"],
        "terms": "t",
    }
    assert fallow("operator", "rewards", "stock", "r", "--codes", str(codes))[0] == cli.OK
    assert json.loads(server.asked[-1][2]) == {"codes": ["A", "B"]}
    assert fallow("operator", "rewards", "stock", "r", "--codes", str(empty))[0] == cli.FAILED
    assert fallow("operator", "rewards", "stock", "r")[0] == cli.USAGE


def test_reports_watch_the_books(fallow: Fallow, server: FakeServer, environ: dict[str, str]) -> None:
    logged_in(environ, server)
    yesterday = int(time.time()) // 86_400 - 1
    report = {"day": yesterday, "sound": True, "supply": 10**9, "places": {"escrow": 10**9}, "unaccounted": 0,
              "difference_count": 0, "redemptions": {"reserved": 0, "unknown": 1, "for_operator": 0}}  # fmt: skip
    for reports, code, said in (
        ([report], cli.OK, ""),
        ([report | {"sound": False, "unaccounted": 7}, report], cli.FAILED, "do not reconcile"),
        ([report | {"day": yesterday - 5}], cli.FAILED, "is old"),
        ([], cli.FAILED, "no report yet"),
    ):
        server.json("GET /v1/reports", reports)
        found, out, err = fallow("operator", "reports")
        assert (found, said in err) == (code, True)
        assert bool(reports) == ("1000" in out)
        assert fallow("operator", "reports", "--json")[0] == code


def test_restores_are_listed_and_reviewed(fallow: Fallow, server: FakeServer, environ: dict[str, str]) -> None:
    logged_in(environ, server)
    restore = {"at": 1_800_000_000, "backup_at": 1_799_990_000, "entries": 9, "hash": "a" * 64}
    gap = {"device": DEVICE_ID, "expected": 3, "seen": 7, "noted_at": 1_800_000_001}
    server.json("GET /v1/restores", {"restores": [restore], "gaps": [gap]})
    out = fallow("operator", "restores")[1]
    assert "1800000000" in out
    assert DEVICE_ID in out
    server.json("POST /v1/restores/1800000000/review", restore | {"reviewed_at": 1_800_000_002})
    assert fallow("operator", "restores", "reviewed")[0] == cli.OK
    assert fallow("operator", "restores", "reviewed", "1800000000")[0] == cli.OK
    server.json("GET /v1/restores", {"restores": [], "gaps": []})
    assert fallow("operator", "restores", "reviewed")[0] == cli.FAILED


DIFF = {
    "from_at": 0, "until_at": 604800, "settlements": 30, "paid": 3_000_000, "would": 3_500_000, "capped": 0,
    "owner_count": 2,
}  # fmt: skip


def test_a_proposed_tariff_is_compared_page_by_page(
    fallow: Fallow, server: FakeServer, environ: dict[str, str], tmp_path: Path
) -> None:
    logged_in(environ, server)
    file = tmp_path / "spring.json"
    file.write_text('{"valid_from": 9, "rates": {}}')
    first = {"owner": "a", "settlements": 10, "paid": 1_000_000, "would": 1_100_000, "more_permille": 100}
    second = {"owner": "b", "settlements": 20, "paid": 2_000_000, "would": 2_400_000, "more_permille": 200}
    pages = [
        (202, {"done_permille": 500}),
        (200, {**DIFF, "owners": [first], "next": "a"}),
        (200, {**DIFF, "owners": [second]}),
    ]
    server.answers["POST /v1/tariffs/diff"] = answers = Pages(pages)  # type: ignore[assignment]
    code, out, _ = fallow("operator", "tariff", "diff", str(file))
    assert code == cli.OK
    assert answers.left == []
    assert "3.5 (+16.7 %)" in out
    assert [line.split()[0] for line in out.splitlines()[-2:]] == ["b", "a"], "the largest change first"
    assert {json.loads(body)["valid_from"] for _, _, body in server.asked if b"valid_from" in body} == {9}
    assert "POST /v1/tariffs" not in server.calls(), "nothing is published"
    server.json("POST /v1/tariffs/diff", {**DIFF, "owners": [first, second]})
    told = json.loads(fallow("operator", "tariff", "diff", str(file), "--json")[1])
    assert told["owners"] == [first, second]
    assert "按新费率应得" in fallow("operator", "tariff", "diff", str(file), LANG="zh_CN.UTF-8")[1]


class Pages(tuple[int, str, bytes]):
    """One answer after another."""

    left: list[tuple[int, Any]]

    def __new__(cls, pages: list[tuple[int, Any]]) -> Pages:
        made = super().__new__(cls, (0, "", b""))
        made.left = list(pages)
        return made

    def __iter__(self) -> Iterator[Any]:
        status, value = self.left.pop(0)
        return iter((status, "application/json", json.dumps(value).encode()))


def test_tariffs_are_published_and_listed(
    fallow: Fallow, server: FakeServer, environ: dict[str, str], tmp_path: Path
) -> None:
    logged_in(environ, server)
    file, broken = tmp_path / "spring.json", tmp_path / "broken.json"
    file.write_text('{"valid_from": 9}')
    server.json("POST /v1/tariffs", {"id": "f" * 64, "tariff": {"version": 2}}, 201)
    assert fallow("operator", "tariff", "publish", str(file))[0] == cli.OK
    assert json.loads(server.asked[-1][2]) == {"valid_from": 9}
    for text in ("{", "[1]"):
        broken.write_text(text)
        asked = len(server.asked)
        assert fallow("operator", "tariff", "publish", str(broken))[0] == cli.FAILED
        assert len(server.asked) == asked
    server.problem("POST /v1/tariffs", 409, type="not-prospective", title="A tariff can only be made for the future")
    code, _, err = fallow("operator", "tariff", "publish", str(file), LANG="zh_CN.UTF-8")
    assert code == cli.REFUSED
    assert "费率只能对将来生效" in err
    found = [{"id": "f" * 64, "version": 2, "valid_from": 9, "tariff": "x"}]
    server.answers["GET /v1/tariffs"] = Pages([(200, found), (200, [])])
    assert "f" * 64 in fallow("operator", "tariff", "list")[1]


def test_a_tariff_is_shown_with_every_factor(fallow: Fallow, server: FakeServer, environ: dict[str, str]) -> None:
    logged_in(environ, server)
    hours = (1000,) * 18 + (1250,) * 4 + (1000,) * 2
    quality = (QualityStep(500, 1000), QualityStep(0, 800))
    caps, trust = LegacyCaps(2**30, 2**40), (TrustStep(5, 500),)
    tariff = Tariff(2, 9, {"object": 10**6}, {"legacy": 500}, caps, trust, quality, {"DE": hours, "*": (900,) * 24})
    signer = key(7)
    keys = {"keys": [encode(signer.public.jwk(with_kid=True))]}
    server.json("GET /.well-known/jwks.json", keys)
    server.json("GET /v1/tariffs/current", {"id": tariff.tariff_id(), "tariff": sign(Kind.TARIFF, tariff, signer)})
    _, out, _ = fallow("operator", "tariff", "show")
    assert "00–18 1000 ‰, 18–22 1250 ‰, 22–24 1000 ‰ (UTC)" in out
    for told in ("From 5 agreeing audits on", "From 50 % of the promised rate on", "Scarcity: elsewhere", "1.0 GiB"):
        assert told in out
    assert "达到承诺速率的 50 % 起" in fallow("operator", "tariff", "show", LANG="zh_CN.UTF-8")[1]


REVIEW = {
    "id": "r1", "owner": "owner-1", "device": DEVICE_ID, "reason": "unlikely-pair", "state": "open", "at": 86400,
    "changed_at": 2,
    "detail": "one consumer received 40 of its 40 deliveries from the devices of this line, where the other consumers "
    "of the same objects received 50.0% of theirs",
}  # fmt: skip


def test_reviews_are_read_and_decided(fallow: Fallow, server: FakeServer, environ: dict[str, str]) -> None:
    logged_in(environ, server)
    server.json("GET /v1/reviews", [REVIEW])
    server.json("GET /v1/reviews/r1", {**REVIEW, "held": 1_500_000})
    server.json("POST /v1/reviews/r1/resolution", {**REVIEW, "state": "upheld", "micro_points": 1_500_000})
    _, out, _ = fallow("operator", "reviews")
    assert "1970-01-02" in out
    assert "undecided" in out
    _, out, _ = fallow("operator", "reviews", "show", "r1")
    assert "40 of its 40" in out
    assert "1.5" in out
    _, out, _ = fallow("operator", "reviews", "decide", "r1", "upheld")
    assert json.loads(server.asked[-1][2]) == {"outcome": "upheld"}
    assert "upheld" in out
    assert fallow("operator", "reviews", "decide", "r1", "perhaps")[0] == cli.USAGE
    chinese = fallow("reviews", LANG="zh_CN.UTF-8")[1]
    assert "某下载者的交付中有 40 次（共 40 次）" in chinese
    assert "待裁定" in chinese
    server.json("GET /v1/reviews", [])
    assert "Nothing looks wrong." in fallow("reviews")[1]
    assert json.loads(fallow("reviews", "--json")[1]) == []


def test_what_canaries_found_is_told(fallow: Fallow, server: FakeServer, environ: dict[str, str]) -> None:
    logged_in(environ, server)
    found = {"device": DEVICE_ID, "jti": "j", "bytes": 0, "agreed": False, "reason": "answered 404", "at": 1}
    server.json("GET /v1/audits", [found, found | {"bytes": 2**20, "agreed": True, "reason": ""}])
    _, out, _ = fallow("operator", "audits", "--device", DEVICE_ID)
    assert "answered 404" in out
    assert "1.0 MiB" in out
    assert "应答为 404" in fallow("operator", "audits", LANG="zh_CN.UTF-8")[1]
    assert json.loads(fallow("operator", "audits", "--json")[1])[0] == found


def test_a_settlement_is_clawed_back_with_a_reason(fallow: Fallow, server: FakeServer, environ: dict[str, str]) -> None:
    logged_in(environ, server)
    taken = {"jti": "j", "micro_points": 250_000, "reason": "made up", "entry_seq": 1, "at": 2}
    server.json("POST /v1/settlements/j/clawback", taken, 201)
    _, out, _ = fallow("operator", "clawback", "j", "made up", "--key", "k")
    assert "0.25" in out
    _, headers, body = server.asked[-1]
    assert (headers["Idempotency-Key"], json.loads(body)) == ("k", {"reason": "made up"})
    title = "Nothing of this settlement is held any more"
    server.problem("POST /v1/settlements/j/clawback", 409, type="already-vested", title=title)
    code, _, err = fallow("operator", "clawback", "j", "x", LANG="zh_CN.UTF-8")
    assert code == cli.REFUSED
    assert "该结算已没有暂时保留的积分" in err
