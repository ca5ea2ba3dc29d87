"""The command as a person or script meets it: exit codes, one-line errors, kept secrets, both languages."""

from __future__ import annotations

import errno
import json
import stat
from pathlib import Path

import pytest
from command_world import DEVICE_ID, Answer, FakeServer, Fallow, logged_in
from fallow_client import cli
from fallow_client.commands.output import clean
from fallow_client.errors import SettingsError
from fallow_client.settings import KnownDevice, Profile, Settings, load_settings, save_settings, settings_path
from hypothesis import given
from hypothesis import strategies as st


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


def test_a_full_disk_is_not_a_matter_of_rights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(SettingsError) as caught:
        save_settings(tmp_path / "config.json", Settings())
    assert caught.value.remedy == "free some space"


@given(st.text())
def test_what_others_say_cannot_steer_the_terminal(text: str) -> None:
    assert clean(text).isprintable()


def test_settings_errors_are_named(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(SettingsError):
        save_settings(blocked / "config.json", Settings())
