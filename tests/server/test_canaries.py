"""The server's canaries: what a device brings is what the ledger hears, and what its line is believed to carry."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from delivery_harness import HandDevice, Harness, origin_server, run
from fallow_server.delivery.canaries import Canaries, CanaryConfig
from fallow_server.delivery.capacity import KEPT_S, PAID_TIMES, Capacities
from fallow_server.delivery.config import Config as DeliveryConfig
from fallow_server.delivery.devices import Devices
from fallow_server.delivery.measurements import Measurements
from fallow_server.link import LedgerRefused, LedgerUnreachable, LinkAudit
from fallow_wire.jws import Kind, parse, split
from fallow_wire.limits import CHUNK_BYTES, MIB
from fallow_wire.tickets import Receipt, Ticket, verify_receipt
from hypothesis import given
from hypothesis import strategies as st

CONTENT = random.Random(1).randbytes(3 * MIB + 5)
COUNTERSIGNED, LEGACY = 1, 5
"""Seeds whose first canary goes with a key, and without."""
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Ledger:
    def __init__(self) -> None:
        self.audits: list[LinkAudit] = []
        self.answer: Exception | None = None

    async def audit(self, found: LinkAudit) -> None:
        if self.answer is not None:
            raise self.answer
        self.audits.append(found)


class Served:
    """A device's service port that does as it should; each byte takes as long as at ``bps``."""

    def __init__(self, harness: Harness, bps: int = 8_000_000) -> None:
        self.harness = harness
        self.bps = bps
        self.tickets: list[Ticket] = []
        self.receipts: list[Receipt] = []

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        if request.path == "/v1/receipts":
            self._take(await request.text())
            return web.Response(status=204)
        self.tickets.append(parse(split(request.query["ticket"], Kind.TICKET), Ticket))
        if "Fallow-Receipt" in request.headers:
            self._take(request.headers["Fallow-Receipt"])
        first, _, last = request.headers["Range"].removeprefix("bytes=").partition("-")
        data = CONTENT[int(first) : int(last) + 1]
        self.harness.clock.seconds += len(data) * 8 / self.bps  # type: ignore[attr-defined]
        return web.Response(status=206, body=data)

    def _take(self, token: str) -> None:
        self.receipts.append(verify_receipt(token, self.tickets[-1]).value)


def looked(
    tmp_path: Path,
    handler: Callable[[Harness], Handler],
    script: Callable[[Harness, Canaries, Ledger, HandDevice, aiohttp.ClientSession], Awaitable[None]],
    seed: int = LEGACY,
) -> None:
    async def whole(harness: Harness) -> None:
        object_id = await harness.publish(CONTENT)
        device = await harness.device(1, object_id)
        ledger = Ledger()
        canaries = Canaries(
            CanaryConfig(),
            harness.fleet,
            harness.delivery.devices,
            harness.catalogue.catalogue,
            harness.delivery.issuer,
            ledger,
            Measurements(harness.database, harness.clock),
            harness.clock,
            random.Random(seed),
        )
        async with origin_server(handler(harness)) as url:
            assert device.live is not None
            device.live.service_urls = (url,)
            await script(harness, canaries, ledger, device, harness.http)

    run(tmp_path / "state", whole)


async def one_look(canaries: Canaries, http: aiohttp.ClientSession) -> int:
    device = canaries.next_due()
    assert device is not None
    fetched = await canaries.look_at(device, http)
    await canaries.tell()
    return fetched


def test_a_canary_without_a_key_is_like_curl(tmp_path: Path) -> None:
    served: list[Served] = []

    def device_of(harness: Harness) -> Handler:
        served.append(Served(harness))
        return served[0]

    async def script(
        harness: Harness, canaries: Canaries, ledger: Ledger, device: HandDevice, http: aiohttp.ClientSession
    ) -> None:
        assert await one_look(canaries, http) == len(CONTENT)
        (ticket,) = served[0].tickets
        assert (ticket.tier, ticket.max_bytes, ticket.odds) == ("legacy", len(CONTENT), 1000)
        assert ledger.audits == [LinkAudit(device.id, ticket.jti, len(CONTENT), True)]
        assert canaries.next_due() is None  # it was just looked at
        harness.clock.seconds += CanaryConfig().interval_s  # type: ignore[attr-defined]
        await one_look(canaries, http)
        assert len(ledger.audits) == 2

    looked(tmp_path, device_of, script)


def test_one_with_a_key_signs_for_what_came(tmp_path: Path) -> None:
    served: list[Served] = []

    def device_of(harness: Harness) -> Handler:
        served.append(Served(harness))
        return served[0]

    async def script(
        harness: Harness, canaries: Canaries, ledger: Ledger, device: HandDevice, http: aiohttp.ClientSession
    ) -> None:
        await one_look(canaries, http)
        tickets, receipts = served[0].tickets, served[0].receipts
        assert {ticket.jti for ticket in tickets} == {ledger.audits[0].jti}
        assert tickets[0].tier == "countersigned"
        assert [receipt.n for receipt in receipts] == [1, 2, 3, 4]
        assert [receipt.bytes for receipt in receipts] == [MIB, 2 * MIB, 3 * MIB, len(CONTENT)]
        assert ledger.audits == [LinkAudit(device.id, tickets[0].jti, len(CONTENT), True)]

    looked(tmp_path, device_of, script, COUNTERSIGNED)


def answering(**response: object) -> Callable[[Harness], Handler]:
    async def handler(request: web.Request) -> web.StreamResponse:
        return web.Response(**response)  # type: ignore[arg-type]

    return lambda _: handler


async def cut_off(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(status=206, headers={"Content-Length": str(len(CONTENT))})
    await response.prepare(request)
    await response.write(CONTENT[: 2 * CHUNK_BYTES])
    assert request.transport is not None
    request.transport.close()
    return response


@pytest.mark.parametrize("seed", [LEGACY, COUNTERSIGNED])
@pytest.mark.parametrize(
    ("handler", "reason"),
    [
        (answering(status=404), "answered 404"),
        (answering(status=200, body=CONTENT), "answered 200"),
        (answering(status=206, body=bytes(len(CONTENT))), ""),
        (answering(status=206, body=CONTENT + b"x"), ""),
        (answering(status=206, body=b""), "fewer bytes"),
    ],
)
def test_what_is_wrong_is_told(tmp_path: Path, handler: Callable[[Harness], Handler], reason: str, seed: int) -> None:
    async def script(
        harness: Harness, canaries: Canaries, ledger: Ledger, device: HandDevice, http: aiohttp.ClientSession
    ) -> None:
        await one_look(canaries, http)
        (audit,) = ledger.audits
        assert (audit.device, audit.agreed) == (device.id, False)
        assert audit.reason
        assert reason in audit.reason
        assert "127.0.0.1" not in audit.reason, "the ledger keeps no address of a device"

    looked(tmp_path, handler, script, seed)


@pytest.mark.parametrize("handler", [answering(status=503), answering(status=429), lambda _: cut_off])
def test_who_is_busy_or_breaks_off_is_left_alone(tmp_path: Path, handler: Callable[[Harness], Handler]) -> None:
    async def script(
        harness: Harness, canaries: Canaries, ledger: Ledger, device: HandDevice, http: aiohttp.ClientSession
    ) -> None:
        await one_look(canaries, http)
        assert ledger.audits == []

    looked(tmp_path, handler, script)


def test_who_left_meanwhile_is_not_blamed(tmp_path: Path) -> None:
    def device_of(harness: Harness) -> Handler:
        async def leaves(request: web.Request) -> web.StreamResponse:
            (live,) = harness.fleet.devices()
            await harness.fleet.detach(live)
            return web.Response(status=404)

        return leaves

    async def script(
        harness: Harness, canaries: Canaries, ledger: Ledger, device: HandDevice, http: aiohttp.ClientSession
    ) -> None:
        await one_look(canaries, http)
        assert ledger.audits == []

    looked(tmp_path, device_of, script)


def test_what_the_ledger_cannot_hear_now_it_hears_later(tmp_path: Path) -> None:
    async def script(
        harness: Harness, canaries: Canaries, ledger: Ledger, device: HandDevice, http: aiohttp.ClientSession
    ) -> None:
        ledger.answer = LedgerUnreachable("away")
        await one_look(canaries, http)
        ledger.answer = None
        await canaries.tell()
        await canaries.tell()
        assert len(ledger.audits) == 1
        ledger.answer = LedgerRefused("no such device")
        harness.clock.seconds += CanaryConfig().interval_s  # type: ignore[attr-defined]
        await one_look(canaries, http)
        ledger.answer = None
        await canaries.tell()
        assert len(ledger.audits) == 1

    looked(tmp_path, answering(status=404), script)


def test_a_boast_counts_no_more_than_was_measured(tmp_path: Path) -> None:
    """400 Mbit/s are reported idle: a usual line is believed, and once it is measured a quarter more than came."""

    async def script(
        harness: Harness, canaries: Canaries, ledger: Ledger, device: HandDevice, http: aiohttp.ClientSession
    ) -> None:
        await device.beat(
            line=replace(device.live.heartbeat.line, idle_up_bps=400_000_000),  # type: ignore[union-attr]
            forecast_idle_up_bps=(400_000_000,) * 24,
        )

        def view_bps() -> tuple[int, int]:
            assert device.live is not None
            view = harness.delivery.devices.view(device.live)
            assert view is not None
            return view.idle_up_bps, max(view.foreseen_up_bps)

        unmeasured = DeliveryConfig().unmeasured_bps
        assert view_bps() == (unmeasured, unmeasured)
        await one_look(canaries, http)
        assert view_bps() == pytest.approx((10_000_000, 10_000_000), abs=10)

    looked(tmp_path, lambda harness: Served(harness, 8_000_000), script)


def test_a_restart_forgets_neither_measurements_nor_whose_turn_it_is(tmp_path: Path) -> None:
    async def script(
        harness: Harness, canaries: Canaries, ledger: Ledger, device: HandDevice, http: aiohttp.ClientSession
    ) -> None:
        await one_look(canaries, http)
        harness.delivery.devices.measured("fd-" + "b" * 24, 4_000_000)  # by a speed test
        await canaries.save()
        devices = Devices(harness.fleet, harness.clock, unmeasured_bps=1)
        kept = Measurements(harness.database, harness.clock)
        after = Canaries(
            CanaryConfig(), harness.fleet, devices, harness.catalogue.catalogue, harness.delivery.issuer, ledger, kept,
            harness.clock,
        )  # fmt: skip
        await after.remember()
        assert devices.capacities.believed_bps(device.id) == pytest.approx(10_000_000, abs=10)
        assert devices.capacities.believed_bps("fd-" + "b" * 24) == 5_000_000
        assert after.next_due() is None
        harness.clock.seconds += KEPT_S + 1  # type: ignore[attr-defined]
        assert await kept.load() == []

    looked(tmp_path, lambda harness: Served(harness, 8_000_000), script)


def test_the_largest_measurement_counts_for_two_weeks() -> None:
    found = Capacities(20)
    assert found.believed_bps("d") == 20
    found.note("d", 8, 0)
    found.note("d", 4, 1)
    assert found.believed_bps("d") == 10
    found.note("d", 4, KEPT_S + 1)
    assert found.believed_bps("d") == 5


Joins = st.lists(
    st.tuples(st.integers(0, 8), st.sampled_from("ab"), st.integers(0, 2), st.integers(1, 100)), max_size=30
)


@given(Joins)
def test_a_home_carries_what_its_best_device_does(joins: list[tuple[int, str, int, int]]) -> None:
    """However many devices stand behind it; and a line what its homes do."""
    found = Capacities(20)
    where: dict[str, tuple[str, str]] = {}
    for number, line, home, bps in joins:
        found.join(f"d{number}", line, f"{line}{home}")
        found.note(f"d{number}", bps, 0)
        where[f"d{number}"] = line, f"{line}{home}"
    for line in "ab":
        homes: dict[str, int] = {}
        for device, (its_line, home) in where.items():
            if its_line == line:
                homes[home] = max(homes.get(home, 0), found.believed_bps(device))
        assert found.line_bps(line) == (PAID_TIMES * sum(homes.values()) if homes else None)
    for device in where:
        found.leave(device)
    assert found.line_bps("a") is None
