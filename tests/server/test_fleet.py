"""Reachability: which addresses are tried, and who is believed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web
from fallow_server.fleet.addresses import Target, dial_back_targets, may_connect, parse_address
from fallow_server.fleet.dial_back import DialBackConfig, DialBacks
from fallow_server.fleet.live import Fleet, LiveDevice
from fallow_server.fleet.rate import Bucket
from fallow_wire.addresses import is_public
from fallow_wire.fields import encode
from fallow_wire.keys import PrivateKey
from fallow_wire.session import DialBack, Reachability, ServicePort, sign_dial_back
from hypothesis import given, settings
from hypothesis import strategies as st
from server_world import Answer, FakeDevice, MovableClock, ServerWorld, heartbeat, running_server
from support import PATIENCE_S, key


def port(number: int, address: str = "127.0.0.1", protocol: str = "tcp") -> ServicePort:
    return ServicePort(protocol, number, "ipv6" if ":" in address else "ipv4", address, "none")


@pytest.mark.parametrize(
    ("claimed", "session", "expected"),
    [
        ("8.8.8.8", "8.8.8.8", ["http://8.8.8.8:32557"]),
        ("192.168.1.5", "8.8.8.8", ["http://8.8.8.8:32557"]),  # behind NAT
        ("1.1.1.1", "8.8.8.8", ["http://8.8.8.8:32557"]),  # a third party is never knocked on
        ("127.0.0.1", "8.8.8.8", ["http://8.8.8.8:32557"]),
        ("::ffff:8.8.8.8", "8.8.8.8", ["http://8.8.8.8:32557"]),
        ("2606:4700::1111", "2606:4700::1111", ["http://[2606:4700::1111]:32557"]),
        ("example.org", "8.8.8.8", ["http://8.8.8.8:32557"]),
        ("10.0.0.1", "10.0.0.1", []),
        ("127.0.0.1", "127.0.0.1", []),
        ("::1", "::1", []),
        ("::ffff:127.0.0.1", "::ffff:127.0.0.1", []),
        ("169.254.169.254", "169.254.169.254", []),
        ("fe80::1", "fe80::1", []),
        ("2002:7f00:1::1", "2002:7f00:1::1", []),
        ("0.0.0.0", "0.0.0.0", []),
        ("100.64.0.1", "100.64.0.1", []),
        ("8.8.8.8", "", []),
    ],
)
def test_only_the_public_address_of_the_session_is_tried(claimed: str, session: str, expected: list[str]) -> None:
    found = dial_back_targets((port(32557, claimed),), (session,), allow_private=False)
    assert [target.url() for target in found] == expected


def test_private_addresses_where_they_are_allowed() -> None:
    ports = (port(32557, "10.0.0.9"), port(32557, "1.1.1.1"), port(32557, "169.254.169.254"), port(40000, "fd00::1"))
    found = dial_back_targets(ports, ("192.168.1.1",), allow_private=True)
    assert [target.url() for target in found] == [
        "http://10.0.0.9:32557",
        "http://192.168.1.1:32557",
        "http://[fd00::1]:40000",
    ]


def test_a_port_is_tried_only_at_an_address_of_its_family() -> None:
    ports = (port(40001, "192.168.1.5"), port(32557, "2606:4700::2"))
    for session, expected in (("8.8.8.8", "http://8.8.8.8:40001"), ("2606:4700::2", "http://[2606:4700::2]:32557")):
        assert [target.url() for target in dial_back_targets(ports, (session,), allow_private=False)] == [expected]
    both = dial_back_targets(ports, ("8.8.8.8", "2606:4700::2"), allow_private=False)
    assert [target.url() for target in both] == ["http://8.8.8.8:40001", "http://[2606:4700::2]:32557"]
    named = ServicePort("tcp", 32557, "ipv6", "example.org", "none")
    assert dial_back_targets((named,), ("8.8.8.8",), allow_private=False) == ()


def test_ports_of_other_services_are_never_tried() -> None:
    ports = [port(number, "8.8.8.8") for number in (1, 22, 25, 53, 80, 443, 1023, 1024)]
    ports.append(port(5000, "8.8.8.8", "udp"))
    found = dial_back_targets(tuple(ports), ("8.8.8.8",), allow_private=False)
    assert [target.port for target in found] == [80, 443, 1024]
    many = tuple(port(2000 + n, "8.8.8.8") for n in range(16))
    assert len(dial_back_targets(many, ("8.8.8.8",), allow_private=False)) == 4


@given(st.ip_addresses())
@settings(max_examples=200)
def test_nothing_but_public_unicast_without_permission(address: object) -> None:
    parsed = parse_address(str(address))
    assert parsed is not None
    # The one judge of what is public, for devices' addresses as for origins and targets of probes.
    assert may_connect(parsed, allow_private=False) == is_public(str(parsed))
    if parsed.is_link_local or parsed.is_multicast or parsed.is_unspecified:
        assert not may_connect(parsed, allow_private=True)


@given(st.lists(st.tuples(st.floats(0, 10), st.integers(1, 3)), max_size=50))
@settings(max_examples=100)
def test_a_bucket_never_gives_more_than_burst_and_rate(steps: list[tuple[float, int]]) -> None:
    bucket, now, taken = Bucket(5, 2, 0), 0.0, 0
    for wait_s, amount in steps:
        now += wait_s
        taken += amount if bucket.take(amount, now) else 0
        assert taken <= 5 + 2 * now + 1e-6


class Listener:
    """A service port that answers dial-backs as told."""

    def __init__(self) -> None:
        self.port = 0
        self.asked: asyncio.Queue[str] = asyncio.Queue()
        self.answer: Callable[[str], web.StreamResponse] = lambda nonce: web.Response(status=404)


@asynccontextmanager
async def listener() -> AsyncIterator[Listener]:
    found = Listener()

    async def dial_back(request: web.Request) -> web.StreamResponse:
        found.asked.put_nowait(request.match_info["nonce"])
        return found.answer(request.match_info["nonce"])

    application = web.Application()
    application.router.add_get("/v1/dial-back/{nonce}", dial_back)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    found.port = runner.addresses[0][1]
    try:
        yield found
    finally:
        await runner.cleanup()


def signed_by(device: PrivateKey) -> Callable[[str], web.StreamResponse]:
    return lambda nonce: web.json_response(encode(sign_dial_back(nonce, device)))


LAB = {"allow_private_addresses": True, "unreachable_interval_s": 0, "reachable_interval_s": 0}
"""Tested again at once."""


async def service_urls(world: ServerWorld, device: FakeDevice, wanted: tuple[str, ...]) -> None:
    """Wait until the device's service_urls are ``wanted``, as observers hear it."""
    changed = asyncio.Event()

    class Observer:
        async def reported(self, device_id: str) -> None:
            changed.set()

        async def connected(self, device_id: str) -> None: ...
        async def lost(self, device_id: str) -> None: ...
        async def task_status(self, device_id: str, status: object) -> None: ...
        async def content_changed(self, device_id: str) -> None: ...

    observer = Observer()
    world.scheduler.fleet.observers.append(observer)
    async with asyncio.timeout(PATIENCE_S):
        while (live := world.scheduler.fleet.get(device.device_id)) is None or live.service_urls != wanted:
            await changed.wait()
            changed.clear()
    world.scheduler.fleet.observers.remove(observer)


async def told(device: FakeDevice) -> Reachability:
    """The next finding that the device hears of: there is one only when it is news."""
    while not isinstance(message := await device.receive(), Reachability):
        assert isinstance(message, DialBack)
    return message


def test_a_port_that_signs_the_nonce_is_reachable_until_it_stops(tmp_path: Path) -> None:
    async def run() -> None:
        async with running_server(tmp_path, dial_back=LAB) as world, listener() as service:
            owner = await world.account("owner")
            device = await world.new_device(key(1), owner["token"])
            service.answer = signed_by(key(1))
            await device.send(heartbeat(port(service.port)))
            asked = await device.receive()
            assert isinstance(asked, DialBack)
            assert await service.asked.get() == asked.nonce, "the session hears of the nonce that the port is asked"
            url = f"http://127.0.0.1:{service.port}"
            await service_urls(world, device, (url,))
            (listed,) = (await world.call("GET", "/v1/devices", owner["token"])).json
            assert (listed["reachable"], listed["reachability"]) == (True, "open")
            assert await told(device) == Reachability(("127.0.0.1",), "open", "unknown", (url,))
            service.answer = lambda nonce: web.Response(status=503)
            await service_urls(world, device, ())
            assert await told(device) == Reachability(("127.0.0.1",), "blocked", "unknown")
            service.answer = signed_by(key(1))
            await service_urls(world, device, (f"http://127.0.0.1:{service.port}",))
            # It names another port, where nobody listens.
            await device.send(heartbeat(port(1024)))
            await service_urls(world, device, ())

    asyncio.run(run())


def test_an_address_of_the_other_family_counts_once_the_device_has_called_from_it() -> None:
    """Nothing is dialled here: these are other people's addresses."""

    async def nothing(*_: object) -> None:
        return None

    async def run() -> None:
        fleet, clock = Fleet(), MovableClock()
        dial_backs = DialBacks(DialBackConfig(), fleet, clock)
        live = LiveDevice("fd-a", "own-1", key(1).public.raw, "8.8.8.8", 0, nothing, lambda *_: None)
        await fleet.attach(live)
        live.heartbeat = heartbeat(port(40001, "192.168.1.5"), port(32557, "2606:4700::2"))

        async def tried(address: str | None = None) -> list[str]:
            if address is not None:
                await fleet.came_from(live, address, clock.monotonic() + 3600)
            return [target.url() for target in dial_backs._targets(live)]

        session, other = "http://8.8.8.8:40001", "http://[2606:4700::2]:32557"
        assert await tried() == [session], "a claim alone makes nobody knock"
        assert await tried("9.9.9.9") == [session], "one address of a family, the session's"
        assert await tried("2606:4700::2") == [session, other]
        clock.moved_s += 3601
        assert await tried() == [session], "an hour later it may be another home's"
        assert await tried("fd00::1") == [session], "a private one is not dialled"

    asyncio.run(run())


def test_a_device_shows_an_address_by_calling_from_it(tmp_path: Path) -> None:
    async def run() -> None:
        async with running_server(tmp_path, http={"trusted_proxies": ["127.0.0.1"]}) as world:
            enrolled = await world.enrol(key(1), await world.claim((await world.account("owner"))["token"]))
            token = enrolled.json["ledger_token"]

            async def call_from(address: str) -> Answer:
                return await world.call("POST", "/v1/session/address", token, headers={"X-Forwarded-For": address})

            refused = await call_from("2606:4700::2")
            assert (refused.status, refused.slug) == (409, "no-session")
            device = await world.connect(key(1))
            assert (await call_from("2606:4700::2")).json == {"address": "2606:4700::2"}
            live = world.scheduler.fleet.get(device.device_id)
            assert live is not None
            now = world.scheduler.dial_backs._clock.monotonic()
            assert live.addresses(now) == ("127.0.0.1", "2606:4700::2")

    asyncio.run(run())


def test_other_answers_are_not_believed(tmp_path: Path) -> None:
    async def run() -> None:
        async with running_server(tmp_path, dial_back=LAB) as world, listener() as service:
            device = await world.new_device(key(1), (await world.account("owner"))["token"])
            good = signed_by(key(1))
            answers: list[Callable[[str], web.StreamResponse]] = [
                signed_by(key(2)),
                lambda nonce: good("A" * 32),
                lambda nonce: web.Response(text="x" * 5000),
                lambda nonce: web.Response(text="[]"),
                lambda nonce: web.Response(status=302, headers={"Location": f"http://127.0.0.1:{service.port}/"}),
                lambda nonce: web.json_response(
                    {**encode(sign_dial_back(nonce, key(2))), "device_id": key(1).public.device_id()}
                ),
            ]
            for answer in answers:
                service.answer = answer
                await device.send(heartbeat(port(service.port)))
                await service.asked.get()
                await service.asked.get()  # so the first answer has been judged
                live = world.scheduler.fleet.get(device.device_id)
                assert live is not None
                assert live.service_urls == ()

    asyncio.run(run())


def test_private_addresses_are_left_alone_by_default(tmp_path: Path) -> None:
    async def run() -> None:
        async with running_server(tmp_path) as world, listener() as service:
            device = await world.new_device(key(1), (await world.account("owner"))["token"])
            service.answer = signed_by(key(1))
            live = world.scheduler.fleet.get(device.device_id)
            assert live is not None
            await device.send(heartbeat(port(service.port)))
            assert await told(device) == Reachability(("127.0.0.1",), "unknown", "unknown")
            assert world.scheduler.dial_backs._targets(live) == ()
            assert service.asked.empty()

    asyncio.run(run())


def test_devices_are_listed_to_their_owner_and_the_operator(tmp_path: Path) -> None:
    async def run() -> None:
        async with running_server(tmp_path) as world:
            one, two = await world.account("owner"), await world.account("owner")
            for number, owner in ((1, one), (2, one), (3, two)):
                await world.enrol(key(number), await world.claim(owner["token"]))
            seen = {}
            for name, token in (("one", one["token"]), ("two", two["token"]), ("all", world.operator_token)):
                seen[name] = {device["device_id"] for device in (await world.call("GET", "/v1/devices", token)).json}
            ids = [key(number).public.device_id() for number in (1, 2, 3)]
            assert seen == {"one": set(ids[:2]), "two": {ids[2]}, "all": set(ids)}
            page = (await world.call("GET", "/v1/devices?limit=1", world.operator_token)).json
            assert [device["device_id"] for device in page] == [min(ids)]

    asyncio.run(run())


def test_targets_are_values() -> None:
    assert Target("::1", 80).url() == "http://[::1]:80"
