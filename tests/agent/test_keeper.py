"""The service port's keeper: what it asks whom for, when, and what it gives back."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from fallow_agent.config import Config
from fallow_agent.host.environment import ServiceConfig
from fallow_agent.host.igd import Finder, Igd, IgdError, IgdRefused, Service
from fallow_agent.ports import keeper
from fallow_agent.ports.keeper import Keeper
from fallow_agent.ports.opening import (
    LIFETIME_S,
    NO_ADDRESS,
    Ask,
    Grant,
    Granted,
    Outcome,
    Refused,
    Silent,
    Taken,
)
from fallow_agent.ports.place import Place
from fallow_agent.ports.port_control import Way
from fallow_agent.ports.reach import Reach
from fallow_agent.ports.upnp import Upnp
from fallow_wire.session import Reachability
from support import key

PORT, OUTSIDE = 32557, "11.22.33.44"
WAY = Way("192.168.1.1", "192.168.1.5", ("192.168.1.1", "192.168.1.5"))
WAY6 = Way("fe80::1", "2a0e::5", WAY.over_ipv4, "eth0")
HOME = Place({"ipv4": WAY.own, "ipv6": WAY6.own}, {"ipv4": WAY, "ipv6": WAY6})


class FakeMeans:
    """Answers what the test says; ``asked`` hears of every question."""

    by = "pcp"

    def __init__(self) -> None:
        self.asked: asyncio.Queue[tuple[str, int, Ask]] = asyncio.Queue()
        self.released: list[tuple[str, Ask]] = []
        self.answer: Callable[[Way, Ask], Awaitable[Outcome]] = self.grant

    async def grant(self, way: Way, ask: Ask) -> Outcome:
        return Granted(Grant("pcp", OUTSIDE, ask.port, LIFETIME_S))

    async def ask(self, way: Way, port: int, ask: Ask) -> Outcome:
        self.asked.put_nowait((way.family, port, ask))
        return await self.answer(way, ask)

    async def release(self, way: Way, port: int, ask: Ask) -> None:
        self.released.append((way.family, ask))


@dataclass
class World:
    means: FakeMeans = field(default_factory=FakeMeans)
    place: Place = HOME
    now: float = 0.0
    changes: int = 0

    def __post_init__(self) -> None:
        self.changed = asyncio.Event()
        means = {"ipv4": (self.means,), "ipv6": (self.means,)}
        self.keeper = Keeper(means, look=lambda: self.place, monotonic=lambda: self.now, changed=self._change)

    def _change(self) -> None:
        self.changes += 1
        self.changed.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            await self.changed.wait()
            self.changed.clear()


def play(act: Callable[[World], Awaitable[None]]) -> None:
    async def run() -> None:
        world = World()
        running = asyncio.create_task(world.keeper.run(PORT, (PORT, 40000)))
        try:
            await act(world)
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    asyncio.run(asyncio.wait_for(run(), 20))


def test_both_families_are_opened_and_given_back() -> None:
    async def act(world: World) -> None:
        await world.until(lambda: len(world.keeper.grants()) == 2)
        assert [world.means.asked.get_nowait() for _ in range(2)] == [
            ("ipv4", PORT, Ask("pcp", PORT)),
            ("ipv6", PORT, Ask("pcp", PORT)),
        ]
        await world.keeper.release()
        assert world.keeper.grants() == {}
        assert world.means.released == [("ipv4", Ask("pcp", PORT)), ("ipv6", Ask("pcp", PORT))]

    play(act)


def test_what_was_being_asked_for_is_given_back_too() -> None:
    async def run() -> None:
        world = World(place=Place({"ipv4": WAY.own}, {"ipv4": WAY}))
        never = asyncio.Event()

        async def hang(way: Way, ask: Ask) -> Outcome:
            await never.wait()
            return Silent()

        world.means.answer = hang
        running = asyncio.create_task(world.keeper.run(PORT, (PORT,)))
        await world.means.asked.get()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await world.keeper.release()
        assert world.means.released == [("ipv4", Ask("pcp", PORT))]
        await world.keeper.release()
        assert len(world.means.released) == 1, "once is enough"

    asyncio.run(asyncio.wait_for(run(), 20))


def test_a_router_that_does_not_take_it_back_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeper, "RELEASE_S", 0.0)

    async def act(world: World) -> None:
        await world.until(lambda: len(world.keeper.grants()) == 2)

        async def hang(way: Way, port: int, ask: Ask) -> None:
            await asyncio.Event().wait()

        world.means.release = hang  # type: ignore[method-assign]
        await world.keeper.release()
        assert world.keeper.grants() == {}

    play(act)


def test_doubt_asks_again_once_a_minute_at_most() -> None:
    async def act(world: World) -> None:
        await world.until(lambda: len(world.keeper.grants()) == 2)
        for _ in range(2):
            world.means.asked.get_nowait()
        world.now = 100.0
        world.keeper.doubt()
        assert {(await world.means.asked.get())[0] for _ in range(2)} == {"ipv4", "ipv6"}
        world.keeper.doubt()
        world.now = 100.0 + keeper.DOUBT_S
        world.keeper.doubt()
        await world.means.asked.get()
        await world.means.asked.get()
        assert world.means.asked.empty(), "the second doubt came too soon"

    play(act)


def test_a_router_that_began_anew_is_asked_for_both_families() -> None:
    async def act(world: World) -> None:
        world.keeper.told(WAY, 5000)
        await world.until(lambda: len(world.keeper.grants()) == 2)
        for _ in range(2):
            world.means.asked.get_nowait()
        world.now = 600.0
        world.keeper.told(WAY, 5600)
        world.now = 1200.0
        world.keeper.told(WAY, 3)
        assert {(await world.means.asked.get())[0] for _ in range(2)} == {"ipv4", "ipv6"}
        assert world.means.asked.empty()

    play(act)


def test_a_new_router_is_asked_and_the_old_ones_grant_is_not_counted_on() -> None:
    async def act(world: World) -> None:
        await world.until(lambda: len(world.keeper.grants()) == 2)
        refused = asyncio.Event()

        async def refuse(way: Way, ask: Ask) -> Outcome:
            refused.set()
            return Refused("not authorized")

        world.means.answer = refuse
        other = Way("192.168.2.1", "192.168.2.5", ("192.168.2.1", "192.168.2.5"))
        world.place = Place({"ipv4": other.own}, {"ipv4": other})
        world.keeper.doubt()  # which has it look at once
        await refused.wait()
        await world.until(lambda: world.keeper.opening("ipv4").rounds == 1)  # type: ignore[union-attr]
        assert world.keeper.grants() == {}
        assert world.keeper.opening("ipv4").refusals == (("pcp", "not authorized"),)  # type: ignore[union-attr]

    play(act)


# ------------------------------------------------------------------ UPnP

ALL = frozenset(
    {"AddPortMapping", "DeletePortMapping", "GetSpecificPortMappingEntry", "GetExternalIPAddress"}
)  # fmt: skip
PINHOLES = frozenset({"AddPinhole", "UpdatePinhole", "DeletePinhole"})
Answer = dict[str, str] | int | None
"""Values, an error code, or silence."""


@dataclass(frozen=True, slots=True)
class FakeIgd(Igd):
    """Answers from ``answers``, by action; those that are not there succeed without values."""

    answers: dict[str, Answer] = field(default_factory=dict)
    calls: list[tuple[str, dict[str, str]]] = field(default_factory=list)

    async def call(self, http: Any, service: Service, action: str, arguments: Any = None) -> dict[str, str]:
        self.calls.append((action, dict(arguments or {})))
        answer = self.answers.get(action, {})
        if answer is None:
            raise IgdError("no answer")
        if isinstance(answer, int):
            raise IgdRefused(action, answer)
        if action == "AddPortMapping" and "only-permanent" in answer and arguments["NewLeaseDuration"] != "0":
            raise IgdRefused(action, 725)
        return answer


def ask_upnp(igd: Igd | None, ask: Ask, way: Way = WAY) -> tuple[Outcome, Upnp]:
    async def find(router: str, own: str) -> Igd | None:
        assert (router, own) == WAY.over_ipv4
        return igd

    async def run() -> tuple[Outcome, Upnp]:
        upnp = Upnp(find)
        try:
            return await upnp.ask(way, PORT, ask), upnp
        finally:
            await upnp.close()

    return asyncio.run(run())


def igd(
    answers: dict[str, Answer] | None = None, actions: frozenset[str] = ALL, name: str = "WANIPConnection"
) -> FakeIgd:
    ports = Service(name, f"urn:schemas-upnp-org:service:{name}:1", "http://192.168.1.1:5000/ctl", actions)
    firewall6 = "WANIPv6FirewallControl"
    pinholes = Service(firewall6, f"urn:schemas-upnp-org:service:{firewall6}:1", "http://192.168.1.1:5000/fw", PINHOLES)
    known: dict[str, Answer] = {
        "GetSpecificPortMappingEntry": 714,
        "GetExternalIPAddress": {"NewExternalIPAddress": OUTSIDE},
    }
    return FakeIgd("192.168.1.1", "192.168.1.5", (ports, pinholes), known | (answers or {}))


ANOTHERS: Answer = {"NewInternalClient": "192.168.1.9", "NewInternalPort": "32557"}
OURS: Answer = {"NewInternalClient": "192.168.1.5", "NewInternalPort": "32557"}


@pytest.mark.parametrize(
    ("router", "outcome"),
    [
        (None, Silent()),
        (igd(), Granted(Grant("upnp", OUTSIDE, PORT, LIFETIME_S))),
        (igd(name="WANPPPConnection"), Granted(Grant("upnp", OUTSIDE, PORT, LIFETIME_S))),
        (igd({"GetSpecificPortMappingEntry": OURS}), Granted(Grant("upnp", OUTSIDE, PORT, LIFETIME_S))),
        (igd({"GetSpecificPortMappingEntry": ANOTHERS}), Taken()),
        (igd({"AddPortMapping": 718}), Taken()),
        (igd({"AddPortMapping": 606}), Refused("not authorized")),
        (igd({"AddPortMapping": 501}), Refused("error 501")),
        (igd({"AddPortMapping": 501, "GetExternalIPAddress": {"NewExternalIPAddress": ""}}), Refused(NO_ADDRESS)),
        (
            igd({"AddPortMapping": 501, "GetExternalIPAddress": {"NewExternalIPAddress": "100.64.0.2"}}),
            Refused(NO_ADDRESS),
        ),
        (igd({"AddPortMapping": {"only-permanent": ""}}), Granted(Grant("upnp", OUTSIDE, PORT, 0))),
        (igd({"GetExternalIPAddress": 501}), Granted(Grant("upnp", None, PORT, LIFETIME_S))),
        (igd({"GetExternalIPAddress": {"NewExternalIPAddress": "x"}}), Granted(Grant("upnp", None, PORT, LIFETIME_S))),
        (igd({"AddPortMapping": None}), Silent()),
        (igd(actions=frozenset()), Refused("it opens no ports")),
    ],
)
def test_a_port_by_upnp(router: FakeIgd | None, outcome: Outcome) -> None:
    found, _ = ask_upnp(router, Ask("upnp", PORT))
    assert found == outcome
    if isinstance(outcome, Taken) and router is not None and "AddPortMapping" not in router.answers:
        assert "AddPortMapping" not in [action for action, _ in router.calls], "another's port was asked for"


def test_only_the_own_port_is_deleted() -> None:
    for entry, deleted in ((ANOTHERS, False), (OURS, True), (714, True)):
        router = igd()
        _, upnp = ask_upnp(router, Ask("upnp", PORT))
        router.answers["GetSpecificPortMappingEntry"] = entry

        async def release(upnp: Upnp = upnp) -> None:
            await upnp.release(WAY, PORT, Ask("upnp", PORT))
            await upnp.close()

        asyncio.run(release())
        assert ("DeletePortMapping" in [action for action, _ in router.calls]) is deleted


def test_a_pinhole_is_renewed_by_its_number_and_made_anew_where_the_router_forgot() -> None:
    router = igd({"AddPinhole": {"UniqueID": "7"}})
    found, _ = ask_upnp(router, Ask("upnp", PORT), WAY6)
    assert found == Granted(Grant("upnp", None, PORT, LIFETIME_S, "7"))
    arguments = dict(router.calls[-1][1])
    assert (arguments["InternalClient"], arguments["InternalPort"], arguments["Protocol"]) == ("2a0e::5", "32557", "6")
    ask_upnp(router, Ask("upnp", PORT, "7"), WAY6)
    assert router.calls[-1] == ("UpdatePinhole", {"UniqueID": "7", "NewLeaseTime": str(LIFETIME_S)})
    router.answers["UpdatePinhole"] = 704
    router.answers["AddPinhole"] = {"UniqueID": "8"}
    found, _ = ask_upnp(router, Ask("upnp", PORT, "7"), WAY6)
    assert found == Granted(Grant("upnp", None, PORT, LIFETIME_S, "8"))


def test_a_search_serves_all_who_ask_soon_after() -> None:
    searches, now = [], 0.0

    async def search(router: str, own: str) -> Igd | None:
        searches.append(router)
        await asyncio.sleep(0)
        return None if router == "192.168.1.1" else igd()

    async def run() -> None:
        nonlocal now
        find = Finder(lambda: now, search)
        assert await asyncio.gather(find(*WAY.over_ipv4), find(*WAY.over_ipv4)) == [None, None]
        assert len(searches) == 1
        assert await find("192.168.2.1", "192.168.2.5") is not None
        now = 31.0
        await find("192.168.2.1", "192.168.2.5")
        assert searches == ["192.168.1.1", "192.168.2.1", "192.168.2.1"]

    asyncio.run(run())


# ------------------------------------------------------------------ all of it


def reach(service: ServiceConfig, scheduler: str = "http://11.22.33.1:32550", place: Place = HOME) -> Reach:
    async def nobody(router: str, own: str) -> Igd | None:
        raise AssertionError("somebody was searched for")

    config = dataclasses.replace(Config(name="box", model="Pi"), service=service)
    find = Finder(lambda: 0.0, nobody)
    return Reach(
        config, "0.1.0", scheduler, key(1), find, monotonic=lambda: 0.0, changed=lambda: None, look=lambda: place
    )


@pytest.mark.parametrize(
    ("service", "scheduler"),
    [
        (ServiceConfig(open_ports=False), "http://11.22.33.1:32550"),
        (ServiceConfig(advertise_port=8000), "http://11.22.33.1:32550"),
        (ServiceConfig(advertise_address=OUTSIDE), "http://11.22.33.1:32550"),
        (ServiceConfig(bind=("127.0.0.1",)), "http://11.22.33.1:32550"),
        (ServiceConfig(), "http://127.0.0.1:32550"),
        (ServiceConfig(), "http://localhost:32550"),
        (ServiceConfig(), "http://[::1]:32550"),
    ],
)
def test_nobody_is_asked_where_the_owner_has_forwarded_or_nothing_needs_to_be_opened(
    service: ServiceConfig, scheduler: str
) -> None:
    asyncio.run(asyncio.wait_for(reach(service, scheduler).run(PORT), 20))


def test_a_port_forwarded_by_hand_is_what_is_told() -> None:
    (told,) = reach(ServiceConfig(advertise_port=8000)).environment(PORT).service_ports
    assert (told.port, told.address, told.mapped_by) == (8000, "192.168.1.5", "manual")
    both = ServiceConfig(advertise_address="2a0e::9", advertise_port=8000)
    (told,) = reach(both).environment(PORT).service_ports
    assert (told.port, told.family, told.address) == (8000, "ipv6", "2a0e::9")
    assert reach(ServiceConfig()).environment(None).service_ports == ()
    with pytest.raises(ValueError, match="not-an-address"):
        ServiceConfig(advertise_address="not-an-address")


def test_a_home_is_known_by_what_it_claims_and_by_what_the_scheduler_saw() -> None:
    found = reach(ServiceConfig(open_ports=False))
    found.take(Reachability((OUTSIDE, "2a0e::5"), "blocked", "blocked"))
    assert {OUTSIDE, "2a0e::5"} <= {*found.outside()}


def test_the_owner_sees_what_the_scheduler_found() -> None:
    found = reach(ServiceConfig(open_ports=False))
    found.environment(PORT)
    assert found.status() == {}
    found.take(Reachability((OUTSIDE,), "blocked", "unknown"))
    assert found.environment(PORT).nat == "private"
    status = found.status()
    assert status["seen"] == {"addresses": [OUTSIDE], "ipv4": "blocked", "ipv6": "unknown", "urls": []}
    assert status["advice"]["type"] == "port-closed"
