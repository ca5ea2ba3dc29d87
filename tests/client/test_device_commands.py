"""Commands of an owner at a device: activation, limits, pause, what its status tells, and how it is found again."""

from __future__ import annotations

import json
from typing import Any

import click
import pytest
from command_world import DEVICE_ID, FakeServer, Fallow, logged_in
from fallow_client import cli
from fallow_client.commands.owner import hours_of, seconds_of
from fallow_client.discovery import FoundDevice
from fallow_client.lan_device import device_url
from fallow_client.settings import KnownDevice, Settings, save_settings, settings_path
from fallow_wire.harm import HarmDay, HarmRecord
from fallow_wire.jws import Kind, sign
from support import key


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
