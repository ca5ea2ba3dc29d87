"""Probes on the device: where they may go, how often, what they measure, and what they never touch."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aiohttp import web
from fallow_agent.lan.guard import InterfaceAddress
from fallow_agent.probing import attempts as attempts_module
from fallow_agent.probing import prober as prober_module
from fallow_agent.probing.attempts import READ_BYTES_MAX, Attempts, TargetRefused, error_of
from fallow_agent.probing.home import may_probe
from fallow_agent.probing.pace import PROBES_BURST, PROBES_PER_HOUR_MAX, TARGET_PAUSE_S, Pace
from fallow_agent.probing.prober import IDLE_BPS_MIN, Prober
from fallow_wire.errors import FallowError, Malformed
from fallow_wire.probes import Attempt, Probe
from fallow_wire.session import Task
from support import NOW, PATIENCE_S

HOME = (
    InterfaceAddress("eth0", ipaddress.ip_address("192.168.1.2"), 24),
    InterfaceAddress("eth0", ipaddress.ip_address("2a02:8071:1:2::7"), 64),
    InterfaceAddress("wan", ipaddress.ip_address("93.184.216.34"), 28),
)


@pytest.mark.parametrize(
    ("address", "allowed"),
    [
        ("8.8.8.8", True),
        ("2606:4700::1111", True),
        ("2a02:8071:1:100::1", True),  # the next /56
        ("192.168.1.1", False),
        ("10.0.0.1", False),
        ("100.64.0.1", False),
        ("169.254.169.254", False),
        ("224.0.0.1", False),
        ("127.0.0.1", False),
        ("fe80::1%eth0", False),
        ("93.184.216.35", False),  # beside the device on a public subnet
        ("2a02:8071:1:2::1", False),
        ("2a02:8071:1:ff::1", False),  # another subnet of the home
        ("198.41.0.4", False),  # the home as the internet sees it
        ("::ffff:198.41.0.4", False),
        ("64:ff9b::192.168.1.1", False),
        ("64:ff9b::198.41.0.4", False),  # the home, by a translator
        ("64:ff9b::8.8.8.8", True),
        ("nonsense", False),
    ],
)
def test_probes_go_to_the_internet_and_never_home(address: str, allowed: bool) -> None:
    assert may_probe(address, HOME, ["198.41.0.4", "nonsense"]) is allowed


def test_a_home_measures_seldom_and_each_host_more_seldom_still() -> None:
    pace = Pace(0.0)
    assert [pace.refusal(f"{n}.example", 0.0) for n in range(PROBES_BURST)] == [None] * PROBES_BURST
    assert "an hour at most" in (pace.refusal("x.example", 0.0) or "")
    later = 3600 / PROBES_PER_HOUR_MAX
    assert pace.refusal("x.example", later) is None
    assert "ago" in (pace.refusal("x.example", later + TARGET_PAUSE_S - 1) or "")
    hour = sum(pace.refusal(f"{n}.example", later + n) is None for n in range(3600))
    assert hour <= PROBES_PER_HOUR_MAX + 1


# ------------------------------------------------------------------ measuring; loopback stands for the internet


def measured(
    use: Callable[[Callable[..., Awaitable[Attempt]]], Awaitable[None]],
    handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]] | None = None,
    context: ssl.SSLContext | None = None,
    raw: bytes | None = None,
) -> None:
    """``use`` gets a function that measures at a server on loopback."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(raw or b"")
        writer.close()

    async def main() -> None:
        server: Any
        if handler is not None:
            runner = web.ServerRunner(web.Server(handler))  # type: ignore[arg-type]
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
            port, stop = runner.addresses[0][1], runner.cleanup
        else:
            server = await asyncio.start_server(answer, "127.0.0.1", 0)

            async def stop() -> None:
                server.close()

            port = server.sockets[0].getsockname()[1]
        loop = asyncio.get_running_loop()
        attempts = Attempts(lambda address: address == "127.0.0.1", loop.time)

        async def measure(test: str, **changes: Any) -> Attempt:
            found = await attempts.measure(Probe(test, "127.0.0.1", port, **changes))
            assert found.up_bytes > 0
            assert found.down_bytes > 0
            return found.attempt

        try:
            async with asyncio.timeout(PATIENCE_S):
                await use(measure)
        finally:
            await stop()

    asyncio.run(main())


def test_a_connection_is_timed() -> None:
    async def use(measure: Callable[..., Awaitable[Attempt]]) -> None:
        found = await measure("tcp")
        assert found.addresses == ("127.0.0.1",)
        assert found.connect_ms is not None
        assert found.total_ms is not None
        assert (found.error, found.status, found.first_byte_ms, found.lookup_ms) == (None, None, None, None)

    measured(use, raw=b"")


def test_a_page_is_asked_for_once_and_only_its_beginning_is_read() -> None:
    asked = []

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        asked.append((request.path_qs, dict(request.headers)))
        if request.path == "/redirect":
            return web.Response(status=302, headers={"Location": "/elsewhere"})
        return web.Response(body=b"x" * 10_000_000)

    async def use(measure: Callable[..., Awaitable[Attempt]]) -> None:
        found = await measure("http", path="/a?b=c")
        assert (found.status, found.bytes, found.error) == (200, READ_BYTES_MAX, None)
        assert found.first_byte_ms is not None
        assert (await measure("http", path="/redirect")).status == 302
        assert [path for path, _ in asked] == ["/a?b=c", "/redirect"]
        assert asked[0][1]["User-Agent"] == "fallow-probe"
        assert not {"Cookie", "Authorization", "Referer"} & asked[0][1].keys()

    measured(use, handler)


@pytest.mark.parametrize(
    ("raw", "error"), [(b"", "broken-off"), (b"SSH-2.0-x\r\n", "not-http"), (b"HTTP/1.1 0x\r\n", "not-http")]
)
def test_what_does_not_speak_http_is_told_so(raw: bytes, error: str) -> None:
    async def use(measure: Callable[..., Awaitable[Attempt]]) -> None:
        found = await measure("http")
        assert (found.error, found.status) == (error, None)
        assert found.connect_ms is not None

    measured(use, raw=raw)


def test_a_server_without_tls_fails_there() -> None:
    async def use(measure: Callable[..., Awaitable[Attempt]]) -> None:
        found = await measure("http", secure=True)
        assert (found.error, found.secured_ms) == ("tls-failed", None)

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        return web.Response()

    measured(use, handler)


def test_a_closed_port_is_a_result_and_no_failure() -> None:
    async def main() -> None:
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            attempts = Attempts(lambda address: True, asyncio.get_running_loop().time)
            found = await attempts.measure(Probe("tcp", "127.0.0.1", sock.getsockname()[1]))
        assert (found.attempt.error, found.attempt.connect_ms) == ("connection-refused", None)

    asyncio.run(main())


def test_a_name_with_one_private_address_is_not_touched(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a name server answers that means to reach into the home: one good address, one bad."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        asked = []

        async def getaddrinfo(host: str, port: int, **more: Any) -> list[Any]:
            asked.append(host)
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (ip, port)) for ip in ("8.8.8.8", "192.168.1.1")]

        monkeypatch.setattr(loop, "getaddrinfo", getaddrinfo)
        attempts = Attempts(lambda address: may_probe(address, HOME, ()), loop.time)
        for test in ("tcp", "http", "dns"):
            with pytest.raises(TargetRefused):
                await attempts.measure(Probe(test, "rebound.example", 80))
        assert asked == ["rebound.example"] * 3

    asyncio.run(main())


def test_a_name_is_resolved_once_and_the_checked_address_is_connected_to(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        answers = iter(["127.0.0.1", "192.168.1.1"])

        async def getaddrinfo(host: str, port: int, **more: Any) -> list[Any]:
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (next(answers), port))]

        monkeypatch.setattr(loop, "getaddrinfo", getaddrinfo)
        attempts = Attempts(lambda address: address == "127.0.0.1", loop.time)
        found = (await attempts.measure(Probe("tcp", "once.example", port))).attempt
        assert (found.addresses, found.error) == (("127.0.0.1",), None)
        assert found.lookup_ms is not None
        server.close()

    asyncio.run(main())


def test_errors_have_words() -> None:
    assert error_of(socket.gaierror(socket.EAI_NONAME, "")) == "no-such-name"
    assert error_of(socket.gaierror(socket.EAI_AGAIN, "")) == "no-name-server"
    assert error_of(ssl.SSLCertVerificationError()) == "certificate"
    assert error_of(TimeoutError()) == "timed-out"
    assert error_of(OSError(113, "")) == "unreachable"
    assert error_of(ConnectionResetError(104, "")) == "broken-off"


# ------------------------------------------------------------------ whole probes


class HandClock:
    def __init__(self) -> None:
        self.seconds = 0.0

    def now(self) -> int:
        return NOW + int(self.seconds)

    def monotonic(self) -> float:
        return self.seconds


def prober(idle_bps: Callable[[], int] = lambda: IDLE_BPS_MIN, allowed: bool = True) -> tuple[Prober, HandClock]:
    clock = HandClock()
    return Prober(clock, lambda: allowed, idle_bps, lambda: ["198.41.0.4"], lambda: HOME), clock  # type: ignore[arg-type]


def task(**parameters: str) -> Task:
    return Task("t-1", "probe", deadline=NOW + 100, parameters={"test": "tcp", "target": "8.8.8.8", **parameters})


def test_a_probe_measures_as_often_as_asked_and_counts_its_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prober_module, "BETWEEN_S", 0.0)

    async def measure(self: Attempts, probe: Probe) -> attempts_module.Measured:
        return attempts_module.Measured(Attempt(connect_ms=7), 100, 200)

    monkeypatch.setattr(Attempts, "measure", measure)

    async def main() -> None:
        probes, _ = prober()
        outcome = await probes.do(task(count="3"), lambda count: None)
        assert outcome.result is not None
        assert outcome.result.measured_at == NOW
        assert [one.connect_ms for one in outcome.result.attempts] == [7, 7, 7]
        assert probes.wire_bytes() == (300, 600)
        with pytest.raises(FallowError, match="ago"):
            await probes.do(task(), lambda count: None)

    asyncio.run(main())


@pytest.mark.parametrize(
    "parameters",
    [{"target": "192.168.1.1"}, {"target": "printer.local"}, {"port": "22"}, {"test": "http", "target": "file:///x"}],
)
def test_the_device_looks_for_itself_at_what_it_is_asked(parameters: dict[str, str]) -> None:
    async def main() -> None:
        with pytest.raises(Malformed):
            await prober()[0].do(task(**parameters), lambda count: None)

    asyncio.run(main())


@pytest.mark.parametrize("parameters", [{"target": "198.41.0.4"}, {"target": "1.2.3.4", "avoid": "1.2.3.4"}])
def test_the_homes_own_public_address_is_refused(parameters: dict[str, str]) -> None:
    async def main() -> None:
        probes, _ = prober()
        with pytest.raises(TargetRefused):
            await probes.do(task(**parameters), lambda count: None)
        assert probes.wire_bytes() == (0, 0)

    asyncio.run(main())


def test_an_owner_who_does_not_want_probes_has_none() -> None:
    async def main() -> None:
        probes, _ = prober(allowed=False)
        assert probes.fault(task()) == prober_module.NOT_ALLOWED
        with pytest.raises(FallowError, match="owner"):  # the limits changed while it waited
            await probes.do(task(), lambda count: None)

    asyncio.run(main())


def test_a_probe_waits_for_an_idle_line_until_its_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prober_module, "IDLE_POLL_S", 0.0)

    async def main() -> None:
        asked = []

        def idle_bps() -> int:
            asked.append(clock.seconds)
            clock.seconds += 30
            return IDLE_BPS_MIN - 1

        probes, clock = prober(idle_bps)
        with pytest.raises(FallowError, match="over"):
            await probes.do(task(), lambda count: None)
        assert len(asked) == 4
        assert probes.wire_bytes() == (0, 0)

    asyncio.run(main())
