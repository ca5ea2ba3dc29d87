"""The home router: what its counters say of the household, whether they are believed, its answers, its address."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import psutil  # type: ignore[import-untyped]
import pytest
from aiohttp import web
from fallow_agent.host.igd import (
    ANSWER_BYTES_MAX,
    COMMON,
    Igd,
    IgdError,
    IgdRefused,
    Service,
    discover,
    is_of_router,
    number,
    services_from,
    values_of,
)
from fallow_agent.host.netifd import l3_device
from fallow_agent.host.routes import DefaultRoute, default_routes, home_router, parsed, parsed6
from fallow_agent.line.capacity import Estimate
from fallow_agent.line.counters import advance
from fallow_agent.line.meter import Rates, wan_of
from fallow_agent.line.router import CHECK_BYTES, GAP_S_MAX, RouterMeter, RouterTraffic, Totals
from fallow_agent.line.router_watch import RouterWatch
from hypothesis import given
from hypothesis import strategies as st
from support import PATIENCE_S

MB = 1_000_000
EMPTY = RouterTraffic()

# ------------------------------------------------------------------ counters


@pytest.mark.parametrize(
    ("before", "now", "elapsed", "counted"),
    [
        (100, 100, 1.0, 0),
        (100, 350, 1.0, 250),
        (2**32 - 50, 200, 1.0, 250),
        (2**64 - 50, 200, 1.0, 250),
        (5 * 2**32, 0, 1.0, None),  # begun anew: a wrap at 64 bits would be 18 EB
        (10_000, 0, 1.0, None),  # begun anew: a wrap at 32 bits would be 34 Gbit/s
        (0, 10**10, 1.0, None),
        (0, 0, 0.0, None),
        (0, 10, -1.0, None),
    ],
)
def test_a_wrap_is_told_from_a_new_beginning(before: int, now: int, elapsed: float, counted: int | None) -> None:
    assert advance(before, now, elapsed, 1_000_000_000) == counted


@given(st.integers(0, 2**64 - 1), st.integers(0, 12_500_000), st.sampled_from([2**32, 2**64]))
def test_a_wrap_loses_nothing(start: int, sent: int, word: int) -> None:
    assert advance(start % word, (start + sent) % word, 1.0, 100_000_000) == sent


# ------------------------------------------------------------------ what follows from the router's counters


@dataclass
class Script:
    """A router and our own traffic; ``read`` is one asking."""

    traffic: RouterTraffic = EMPTY
    at: float = 50.0
    up: int = 0
    down: int = 0
    own_up: int = 0
    own_down: int = 0

    def read(self, seconds: float = 1.0, *, up: int = 0, down: int = 0, own_up: int = 0, own_down: int = 0) -> None:
        """After ``seconds`` in which the router counted ``up`` and ``down``, and we ourselves sent and received."""
        self.at += seconds
        self.up, self.down = (self.up + up) % 2**32, (self.down + down) % 2**32
        self.own_up, self.own_down = self.own_up + own_up, self.own_down + own_down
        self.traffic = self.traffic.after(Totals(self.at, self.up, self.down), self.own_up, self.own_down)


def test_the_household_is_what_the_router_counts_without_ours() -> None:
    script = Script()
    for _ in range(4):
        script.read(up=500_000, down=2 * MB, own_up=250_000)
    assert script.traffic.credible
    assert script.traffic.total == Rates(4_000_000, 16_000_000)
    assert script.traffic.household == Rates(2_000_000, 16_000_000)
    script.read(up=250_000, own_up=250_000)
    assert script.traffic.household == Rates(0, 0)


def test_nothing_is_said_before_the_counters_have_moved_twice() -> None:
    script = Script(up=2**31)
    for _ in range(3):
        script.read()
    assert (script.traffic.total, script.traffic.credible) == (None, False)
    script.read(up=MB)  # since when, nobody knows
    assert (script.traffic.total, script.traffic.credible) == (None, True)
    script.read(up=MB)
    assert script.traffic.total == Rates(8_000_000, 0)


def test_a_router_that_counts_every_five_seconds_is_asked_less_and_read_right() -> None:
    script = Script()
    for _ in range(5):
        for _ in range(4):
            script.read(1.0, own_up=125_000)
        script.read(1.0, up=5 * 250_000, own_up=125_000)
    assert script.traffic.pace_s == pytest.approx(5.0)
    assert script.traffic.ask_again_s == 2.0
    assert script.traffic.total == Rates(2_000_000, 0)
    assert script.traffic.household == Rates(1_000_000, 0)
    script.read(1.0)
    assert script.traffic.total == Rates(2_000_000, 0)  # no news


def test_a_burst_after_silence_is_not_spread_over_the_silence() -> None:
    script = Script()
    for _ in range(3):
        script.read(up=100_000)
    for _ in range(40):
        script.read()
    assert script.traffic.total == Rates(0, 0)
    script.read(up=2_500_000)
    assert script.traffic.household == Rates(20_000_000, 0)


def test_what_was_ours_before_a_silence_does_not_hide_the_household_after_it() -> None:
    script = Script()
    for _ in range(6):
        script.read(up=MB, own_up=MB)
    for _ in range(3):
        script.read()
    script.read(up=300_000)
    assert script.traffic.household == Rates(2_400_000, 0)


def test_our_own_ramp_is_not_mistaken_for_the_household_where_the_clocks_are_apart() -> None:
    """The router shows at each reading what it had counted a second before."""
    script, sent = Script(), [0, 0, 0]
    rates = [250_000, 250_000, 250_000, 2_000_000, 2_000_000, 2_000_000, 250_000, 250_000, 250_000]
    seen = []
    for rate in rates:
        sent.append(rate)
        script.read(up=sent[-2], own_up=rate)
        seen.append(script.traffic.household)
    assert all(household in (None, Rates(0, 0)) for household in seen)


def test_a_wrap_at_32_bits_is_no_gap() -> None:
    script = Script(up=2**32 - 3 * MB // 2)
    for _ in range(4):
        script.read(up=MB)
    assert script.traffic.total == Rates(8_000_000, 0)


@pytest.mark.parametrize("reason", ["reboot", "no answer", "our counters anew", "clock"])
def test_after_a_break_counting_begins_anew(reason: str) -> None:
    script = Script(up=100 * MB)
    for _ in range(3):
        script.read(up=MB, own_up=1000)
    assert script.traffic.total is not None
    if reason == "reboot":
        script.up = 0
        script.read(up=10)
    elif reason == "no answer":
        script.read(GAP_S_MAX + 1, up=50 * MB)
    elif reason == "our counters anew":
        script.own_up = 0
        script.read(up=MB)
    else:
        script.read(-5.0, up=MB)
    assert (script.traffic.total, script.traffic.household) == (None, None)
    for _ in range(3):
        script.read(up=MB)
    assert script.traffic.total == Rates(8_000_000, 0)


def test_a_router_that_stands_still_while_we_send_is_not_believed() -> None:
    script = Script(up=12345)
    for _ in range(20):
        script.read(own_up=CHECK_BYTES // 8)
    assert not script.traffic.credible
    assert script.traffic.household is None


def test_a_router_that_stops_counting_loses_its_credit_and_gets_it_back() -> None:
    script = Script()
    for _ in range(5):
        script.read(up=MB, own_up=MB)
    assert script.traffic.credible
    for _ in range(10):
        script.read(own_up=MB)
    assert (script.traffic.credible, script.traffic.household) == (False, None)
    for _ in range(20):
        script.read(up=MB, own_up=MB)
    assert script.traffic.credible


def test_a_router_whose_offloading_hides_our_bytes_from_its_counters_is_not_believed() -> None:
    script = Script()
    for _ in range(20):
        script.read(up=50_000, own_up=MB)
    assert not script.traffic.credible


steps = st.lists(
    st.tuples(
        st.floats(0.0, 70.0), st.integers(0, 2**32), st.integers(0, 2**32), st.integers(0, 10**7), st.integers(0, 10**7)
    ),
    max_size=40,
)


@given(steps)
def test_whatever_a_router_answers_the_household_is_a_part_of_the_total(
    readings: list[tuple[float, int, int, int, int]],
) -> None:
    script = Script()
    for seconds, up, down, own_up, own_down in readings:
        script.read(seconds, up=up, down=down, own_up=own_up, own_down=own_down)
        total, household = script.traffic.total, script.traffic.household
        assert (total is None) == (household is None)
        if total is not None and household is not None:
            assert 0 <= household.up_bps <= total.up_bps
            assert 0 <= household.down_bps <= total.down_bps
        assert 1.0 <= script.traffic.ask_again_s <= 2.0


# ------------------------------------------------------------------ the router's answers


def answer(action: str, **values: str) -> str:
    inner = "".join(f"<{name}>{value}</{name}>" for name, value in values.items())
    return (
        '<?xml version="1.0"?><s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body>'
        f'<u:{action}Response xmlns:u="urn:schemas-upnp-org:service:{COMMON}:1">{inner}</u:{action}Response>'
        "</s:Body></s:Envelope>"
    )


FAULT = "<s:Fault><detail><UPnPError><errorCode>718</errorCode></UPnPError></detail></s:Fault>"


def test_values_are_taken_by_name() -> None:
    text = answer("X", NewA="1", NewB=" a &amp; b ", NewC="")
    assert values_of("X", 200, text) == {"NewA": "1", "NewB": "a & b", "NewC": ""}
    assert values_of("X", 200, '<u:NewA dt:dt="ui4">7</u:NewA>') == {"NewA": "7"}
    assert values_of("X", 200, "<NewA>1</NewB><NewA><NewB>2</NewB></NewA>") == {"NewB": "2"}
    with pytest.raises(IgdRefused, match="718") as refused:
        values_of("AddPortMapping", 500, FAULT)
    assert refused.value.code == 718
    with pytest.raises(IgdError, match="404"):
        values_of("X", 404, "nothing")
    with pytest.raises(IgdError, match="more than"):
        values_of("X", 200, "".join(f"<New{at}>1</New{at}>" for at in range(65)))


@given(
    st.text() | st.lists(st.sampled_from(["<NewA>", "</NewA>", "<u:", "1", " ", "&#x9;", "<errorCode>"])).map("".join)
)
def test_no_answer_breaks_the_reader(text: str) -> None:
    assert all(name.startswith("New") for name in values_of("X", 200, text))
    with pytest.raises(IgdError):
        values_of("X", 500, text)


def test_a_count_is_digits() -> None:
    values = {"a": "4294967295", "b": "-1", "c": "1e5", "d": "1" * 21, "e": "\u0661", "f": ""}
    assert [number(values, name) for name in "abcdefg"] == [4294967295, None, None, None, None, None, None]


Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class Router:
    """A router on the loopback whose every answer is ``handler``'s."""

    http: aiohttp.ClientSession
    url: str
    handler: Handler | None = None
    actions: tuple[str, ...] = ()

    def meter(self, *actions: str) -> RouterMeter:
        service = Service(COMMON, f"urn:schemas-upnp-org:service:{COMMON}:1", self.url, frozenset(actions))
        return RouterMeter(self.http, Igd("127.0.0.1", "127.0.0.1", (service,)), iter(range(1000)).__next__)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        assert self.handler is not None
        self.actions = (*self.actions, request.headers["SOAPAction"].strip('"').partition("#")[2])
        return await self.handler(request)

    def says(self, **values: str) -> None:
        async def handler(request: web.Request) -> web.StreamResponse:
            return web.Response(text=answer(self.actions[-1], **values), content_type="text/xml")

        self.handler = handler


def at_router(scene: Callable[[Router], Awaitable[None]]) -> Callable[[], None]:
    """A test that plays ``scene`` at a router of its own."""

    async def play() -> None:
        application = web.Application()
        runner = web.AppRunner(application)
        async with aiohttp.ClientSession() as http:
            router = Router(http, "")
            application.router.add_post("/control", router.handle)
            await runner.setup()
            try:
                site = web.TCPSite(runner, "127.0.0.1", 0)
                await site.start()
                router.url = f"http://127.0.0.1:{runner.addresses[0][1]}/control"
                await scene(router)
            finally:
                await runner.cleanup()

    return lambda: asyncio.run(asyncio.wait_for(play(), PATIENCE_S))


STANDARD = ("GetTotalBytesSent", "GetTotalBytesReceived")


@at_router
async def test_counters_are_read_by_the_standards_actions(router: Router) -> None:
    router.says(NewTotalBytesSent="4294967295", NewTotalBytesReceived="7")
    meter = router.meter(*STANDARD)
    assert meter.counts
    assert await meter.read() == Totals(0.5, 4294967295, 7)
    assert router.actions == STANDARD


@at_router
async def test_counters_are_read_by_one_call_in_64_bits_where_there_is_one(router: Router) -> None:
    big = {"NewX_AVM_DE_TotalBytesSent64": str(2**40), "NewX_AVM_DE_TotalBytesReceived64": str(2**41)}
    router.says(NewTotalBytesSent="1", NewTotalBytesReceived="2", **big)
    meter = router.meter("GetAddonInfos", *STANDARD)
    assert await meter.read() == Totals(0.5, 2**40, 2**41)
    router.says(NewTotalBytesSent="1", NewTotalBytesReceived="2")
    assert (await meter.read()).up == 1
    assert router.actions == ("GetAddonInfos", "GetAddonInfos")


@at_router
async def test_an_announced_action_that_is_not_there_is_asked_once(router: Router) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        if router.actions[-1] == "GetAddonInfos":
            return web.Response(status=500, text=FAULT.replace("718", "401"))
        return web.Response(text=answer("X", NewTotalBytesSent="5", NewTotalBytesReceived="6"))

    router.handler = handler
    meter = router.meter("GetAddonInfos", *STANDARD)
    assert (await meter.read()).down == 6
    assert (await meter.read()).down == 6
    assert router.actions.count("GetAddonInfos") == 1


@at_router
async def test_a_router_without_counters_says_so(router: Router) -> None:
    meter = router.meter("GetCommonLinkProperties")
    assert not meter.counts
    with pytest.raises(IgdError, match="no byte counters"):
        await meter.read()
    router.says(NewTotalBytesSent="many")
    with pytest.raises(IgdError, match="no byte counters"):
        await router.meter(*STANDARD).read()


@at_router
async def test_the_modems_rates_are_asked_for(router: Router) -> None:
    router.says(
        NewWANAccessType="DSL",
        NewLayer1UpstreamMaxBitRate="11000000",
        NewLayer1DownstreamMaxBitRate="54300000",
        NewPhysicalLinkStatus="Up",
    )
    found = await router.meter("GetCommonLinkProperties").capacity()
    assert found == ([Estimate(11_000_000, "upnp")], [Estimate(54_300_000, "upnp")])
    assert await router.meter(*STANDARD).capacity() == ([], [])
    router.says(NewWANAccessType="DSL")
    assert await router.meter("GetCommonLinkProperties").capacity() == ([], [])


@at_router
async def test_a_redirect_is_not_followed_and_a_long_answer_not_read(router: Router) -> None:
    async def redirect(request: web.Request) -> web.StreamResponse:
        raise web.HTTPFound("/elsewhere")

    router.handler = redirect
    with pytest.raises(IgdError, match="302"):
        await router.meter(*STANDARD).read()

    async def long(request: web.Request) -> web.StreamResponse:
        return web.Response(text="<NewTotalBytesSent>1</NewTotalBytesSent>" + " " * ANSWER_BYTES_MAX)

    router.handler = long
    with pytest.raises(IgdError, match="larger"):
        await router.meter(*STANDARD).read()


@at_router
async def test_a_router_that_is_away_is_an_error_of_its_own_kind(router: Router) -> None:
    gone = Igd("127.0.0.1", "127.0.0.1", (Service(COMMON, "x", "http://127.0.0.1:1/", frozenset(STANDARD)),))
    with pytest.raises(IgdError, match="does not answer"):
        await RouterMeter(router.http, gone, lambda: 0.0).read()


# ------------------------------------------------------------------ whose word it is


@pytest.mark.parametrize(
    ("url", "of_router"),
    [
        ("http://192.168.1.1:5000/ctl", True),
        ("http://192.168.1.1/", True),
        ("https://192.168.1.1/", False),
        ("http://192.168.1.10/", False),
        ("http://192.168.1.1@evil.example/", False),
        ("http://evil@192.168.1.1/", False),
        ("http://192.168.1.1.evil.example/", False),
        ("http://router.lan/", False),
        ("http://192.168.257/", False),
        ("http://3232235777/", False),
        ("http://[::ffff:192.168.1.1]/", False),
        ("http://192.168.1.1:99999/", False),
        ("http://192.168.1.1:0/", False),
        ("http://192.168.1.1/a\r\nHost: x", False),
        ("http://[", False),
        ("//192.168.1.1/", False),
        ("", False),
    ],
)
def test_only_the_routers_own_address_is_the_routers(url: str, of_router: bool) -> None:
    assert is_of_router(url, "192.168.1.1") is of_router


def entry(
    url: str = "http://192.168.1.1/c", kind: str = f"urn:schemas-upnp-org:service:{COMMON}:1"
) -> dict[str, object]:
    return {"type": kind, "control_url": url, "actions": ["GetTotalBytesSent", "<x>", "a" * 65]}


def test_what_the_discovery_tells_is_checked_again() -> None:
    told = {"services": [entry(), entry("http://192.168.1.66/c"), entry(kind="urn:evil:1"), entry(kind='urn:"><x>')]}
    found = services_from(json.dumps(told).encode(), "192.168.1.1")
    assert found == (
        Service(COMMON, f"urn:schemas-upnp-org:service:{COMMON}:1", "http://192.168.1.1/c", frozenset({STANDARD[0]})),
    )
    igd = Igd("192.168.1.1", "192.168.1.2", found)
    assert igd.service(COMMON, "GetTotalBytesSent") is found[0]
    assert igd.service(COMMON, "GetTotalBytesReceived") is None
    for broken in (b"", b"[]", b'{"services": 3}', b'{"services": [{}]}', b'{"services": [{"type": 1}]}'):
        with pytest.raises(IgdError):
            services_from(broken, "192.168.1.1")


def route(gateway: str | None, metric: int = 0, interface: str = "eth0") -> DefaultRoute:
    return DefaultRoute(metric, interface, gateway)


@pytest.mark.parametrize(
    ("routes", "router_address"),
    [
        ([route("192.168.1.1")], "192.168.1.1"),
        ([route("10.0.0.138"), route("192.168.1.1", 10)], "10.0.0.138"),
        ([route("fe80::1"), route("192.168.1.1")], "192.168.1.1"),
        ([route("100.64.0.1")], None),
        ([route("84.1.2.3")], None),
        ([route("192.0.2.1")], None),
        ([route("84.1.2.3"), route("192.168.1.1", 10)], None),
        ([route("169.254.1.1")], None),
        ([route(None, interface="pppoe-wan")], None),
        ([], None),
    ],
)
def test_a_home_router_has_a_private_address(routes: list[DefaultRoute], router_address: str | None) -> None:
    assert home_router(routes) == router_address


ROUTES = """Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT
wlan0\t00000000\t0101A8C0\t0003\t0\t0\t600\t00000000\t0\t0\t0
eth0\t00000000\t0201A8C0\t0003\t0\t0\t100\t00000000\t0\t0\t0
eth1\t00000000\t0301A8C0\t0203\t0\t0\t0\t00000000\t0\t0\t0
eth0\t0001A8C0\t00000000\t0001\t0\t0\t100\t00FFFFFF\t0\t0\t0
ppp0\t00000000\t00000000\t0001\t0\t0\t700\t00000000\t0\t0\t0
bad0\t00000000\tnonsense\t0001\t0\t0\t700\t00000000\t0\t0\t0
"""


def test_default_routes_are_read_with_their_gateways(tmp_path: Path) -> None:
    text = ROUTES
    if sys.byteorder == "big":
        text = text.replace("0101A8C0", "C0A80101").replace("0201A8C0", "C0A80102")
    assert sorted(parsed(text)) == [
        route("192.168.1.2", 100, "eth0"),
        route("192.168.1.1", 600, "wlan0"),
        route(None, 700, "ppp0"),
    ]
    (tmp_path / "route").write_text(text)
    assert [found.interface for found in default_routes(tmp_path / "route", tmp_path / "none")] == [
        "eth0",
        "wlan0",
        "ppp0",
    ]


@given(st.text() | st.lists(st.sampled_from([*ROUTES.split(), "\n", "0" * 32, "00"])).map(" ".join))
def test_no_table_breaks_the_reader(text: str) -> None:
    for found in (*parsed(text), *parsed6(text)):
        assert found.interface


def test_the_network_daemons_word_needs_a_default_route_that_agrees_or_none_at_all() -> None:
    routes = [route("192.168.1.1", 10, "eth0"), route("10.0.0.1", 20, "wwan0")]
    assert wan_of(routes, None) == "eth0"
    assert wan_of(routes, "wwan0") == "wwan0"
    assert wan_of(routes, "gone0") == "eth0"
    assert wan_of([], "pppoe-wan") == "pppoe-wan"
    assert wan_of([], None) is None


def test_netifds_answer_names_the_device_while_it_is_up() -> None:
    status = {"up": True, "l3_device": "pppoe-wan", "device": "eth1"}
    assert l3_device(json.dumps(status).encode()) == "pppoe-wan"
    for changed in (
        {"up": False},
        {"l3_device": "../x"},
        {"l3_device": 5},
        {"l3_device": "a" * 16},
        {"l3_device": ".."},
    ):
        assert l3_device(json.dumps(status | changed).encode()) is None
    assert l3_device(b"") is None
    assert l3_device(b"[]") is None


def test_a_search_that_is_called_off_leaves_no_process_behind() -> None:
    def searching() -> list[str]:
        return [" ".join(child.cmdline()) for child in psutil.Process().children()]

    async def play() -> None:
        search = asyncio.create_task(discover("127.0.0.1", "127.0.0.1"), name="search")
        while not any("igd_discovery" in command for command in searching()):
            assert not search.done(), "it ended before it was seen"
            await asyncio.sleep(0.01)
        search.cancel()
        with pytest.raises(asyncio.CancelledError):
            await search
        assert not any("igd_discovery" in command for command in searching())

    asyncio.run(asyncio.wait_for(play(), PATIENCE_S))


# ------------------------------------------------------------------ following it


class Ended(Exception):
    """The scene is over."""


@dataclass
class Home:
    """A home whose time passes when somebody sleeps."""

    router: Router
    gateway: str | None = "192.168.1.1"
    now: float = 0.0
    ends_at: float = 20.0
    searches: tuple[float, ...] = ()
    nothing: bool = False

    in_use: bool = True
    taken: int = 0

    def take(self, watch: RouterWatch) -> None:
        self.taken += 1

    async def find(self, router_address: str, own: str) -> Igd | None:
        self.searches = (*self.searches, self.now)
        if self.nothing:
            return None
        actions = frozenset((*STANDARD, "GetCommonLinkProperties"))
        service = Service(COMMON, f"urn:schemas-upnp-org:service:{COMMON}:1", self.router.url, actions)
        return Igd(router_address, own, (service,))

    async def sleep(self, seconds: float) -> None:
        self.now += seconds
        if self.now >= self.ends_at:
            raise Ended

    async def play(self) -> RouterWatch:
        watch = RouterWatch(
            self.router.http,
            lambda: (0, 0),
            lambda: self.now,
            take=self.take,
            in_use=lambda: self.in_use,
            router=lambda: self.gateway,
            own_address=lambda: "192.168.1.2",
            find=self.find,
            sleep=self.sleep,
        )
        with pytest.raises(Ended):
            await watch.run()
        return watch


def counting(router: Router) -> None:
    """A router that has sent 1 MB more at each asking, and whose modem does 11 and 54.3 Mbit/s."""
    sent = [0]

    async def handler(request: web.Request) -> web.StreamResponse:
        sent[0] += MB if router.actions[-1] == "GetTotalBytesSent" else 0
        modem = {"NewWANAccessType": "DSL", "NewPhysicalLinkStatus": "Up"}
        rates_ = {"NewLayer1UpstreamMaxBitRate": "11000000", "NewLayer1DownstreamMaxBitRate": "54300000"}
        counts = {"NewTotalBytesSent": str(sent[0]), "NewTotalBytesReceived": "9"}
        return web.Response(text=answer("X", **modem, **rates_, **counts))

    router.handler = handler


@at_router
async def test_a_router_is_found_and_followed(router: Router) -> None:
    counting(router)
    home = Home(router)
    watch = await home.play()
    assert watch.traffic.household == Rates(8_000_000, 0)
    assert home.taken == 21  # at the beginning, and after each of the 20 readings
    assert (watch.up, watch.down) == ([Estimate(11_000_000, "upnp")], [Estimate(54_300_000, "upnp")])
    assert home.searches == (0.0,)
    assert router.actions.count("GetCommonLinkProperties") == 1


@at_router
async def test_a_device_that_is_the_router_asks_nobody(router: Router) -> None:
    home = Home(router, gateway=None, ends_at=10_000.0)
    watch = await home.play()
    assert (home.searches, router.actions, watch.traffic.household) == ((), (), None)


@at_router
async def test_a_line_that_is_not_shared_is_watched_less_closely(router: Router) -> None:
    counting(router)
    home = Home(router, in_use=False, ends_at=60.0)
    watch = await home.play()
    assert router.actions.count("GetTotalBytesSent") == 4
    assert watch.traffic.credible


@at_router
async def test_a_router_without_upnp_is_searched_ever_more_rarely(router: Router) -> None:
    home = Home(router, nothing=True, ends_at=1000.0)
    await home.play()
    assert home.searches == (0.0, 60.0, 180.0, 420.0, 900.0)


@at_router
async def test_a_router_that_stops_answering_is_looked_for_again(router: Router) -> None:
    async def broken(request: web.Request) -> web.StreamResponse:
        return web.Response(status=500)

    router.handler = broken
    home = Home(router, ends_at=200.0)
    watch = await home.play()
    assert home.searches == (0.0, 65.0, 190.0)
    assert not watch.traffic.credible


@at_router
async def test_another_router_is_asked_in_its_own_name(router: Router) -> None:
    counting(router)
    home = Home(router, ends_at=90.0)
    sleep = home.sleep

    async def move(seconds: float) -> None:
        await sleep(seconds)
        if home.now >= 30.0:
            home.gateway = "192.168.2.1"

    home.sleep = move  # type: ignore[method-assign]
    watch = await home.play()
    assert home.searches == (0.0, 60.0)
    assert watch.igd is not None
    assert watch.igd.router == "192.168.2.1"
