"""What tasks want of devices: read strictly, kept, and matched against what a device has."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest
from delivery_harness import HandLink, Harness, run, running
from device_views import device
from fallow_server.scheduling import filters
from fallow_server.scheduling.filters import Config, placement_refusal
from fallow_server.scheduling.needs import PORTS, REGIONS_MAX, Needs
from fallow_server.scheduling.places import NOWHERE, Place
from fallow_server.scheduling.views import COPY, Demand
from fallow_wire.errors import Malformed
from fallow_wire.fields import decode, encode
from fallow_wire.session import Processor, Task
from fallow_wire.tickets import SERVICES
from hypothesis import given, settings
from hypothesis import strategies as st

COUNTRIES = st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZ", min_size=2, max_size=2)
NEEDS = st.builds(
    Needs,
    st.sampled_from(SERVICES),
    st.integers(0, 2**53 - 1),
    st.integers(0, 2**53 - 1),
    st.integers(0, 2**53 - 1),
    st.integers(0, 100),
    st.sampled_from(PORTS),
    st.lists(COUNTRIES, max_size=REGIONS_MAX).map(tuple),
    st.none() | st.integers(0, 2**53 - 1),
)
JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=5), st.lists, max_leaves=3)


@given(NEEDS)
def test_needs_are_read_as_they_were_written(needs: Needs) -> None:
    assert decode(Needs, encode(needs), strict=True) == needs


@given(st.dictionaries(st.sampled_from([*Needs.__slots__, "region"]), JSON, min_size=1))
def test_anything_else_is_refused_and_nothing_else_happens(given_needs: dict[str, Any]) -> None:
    try:
        found = decode(Needs, given_needs, strict=True)
    except Malformed as error:
        assert error.detail
    else:
        assert {name: encode(found)[name] for name in given_needs} == given_needs


@given(NEEDS, NEEDS)
@settings(max_examples=50)
def test_a_publisher_can_only_ask_for_more_than_the_kind_does(asked: Needs, least: Needs) -> None:
    both = asked.beside(least)
    assert both.service == least.service
    for name in ("bytes", "disk_bytes", "up_bps", "processor_percent"):
        assert getattr(both, name) == max(getattr(asked, name), getattr(least, name))
    assert (both.ports == "none") == (asked.ports == least.ports == "none")
    assert (both.regions, both.price_max) == (asked.regions, asked.price_max)
    assert both.beside(least) == both


def test_each_need_gives_its_own_reason() -> None:
    german = device(place=Place(64496, "DE"))
    refused: list[tuple[str, Any, Needs]] = [
        (filters.SERVICE_OFF, german, Needs("probe")),
        (filters.PLACE_UNKNOWN, device(place=NOWHERE), Needs(regions=("DE",))),
        (filters.ELSEWHERE, german, Needs(regions=("FR", "CN"))),
        (filters.UNREACHABLE, device(service_urls=()), Needs(ports="any")),
        (filters.OTHER_FAMILY, german, Needs(ports="ipv6")),
        (filters.NO_DISK, german, Needs(disk_bytes=1000 * 2**20)),
        (filters.PROCESSOR_BUSY, german, Needs(processor_percent=81)),
        (filters.LINE_TOO_SLOW, german, Needs(up_bps=german.remaining_up_bps + 1)),
        (filters.TOO_FEW_BYTES, german, Needs(bytes=2 * 10_000_000 * 3600 // 8 + 1)),
    ]
    for reason, view, needs in refused:
        assert placement_refusal(view, Demand("t", "", 0, 1, needs=needs, hours=2), Config()) == reason
    left_bps = german.remaining_up_bps
    assert left_bps > 0
    modest = Needs("object", 2 * 10_000_000 * 3600 // 8, 500 * 2**20, left_bps, 80, "ipv4", ("FR", "DE"))
    assert placement_refusal(german, Demand("t", "", 0, 1, needs=modest, hours=2), Config()) is None


def test_what_moves_nothing_wants_no_disk_and_no_port() -> None:
    bare = device(disk_free_bytes=0, service_urls=())
    assert placement_refusal(bare, Demand("t", "", 0, 1, needs=Needs()), Config()) is None
    assert placement_refusal(bare, Demand("t", "a" * 64, 0, 1, needs=Needs()), Config()) == filters.NO_DISK


def test_a_copy_waits_for_a_device_that_meets_the_needs(tmp_path: Path) -> None:
    async def script(server: Harness) -> None:
        weak = await server.device(1)
        object_id = await server.publish(os.urandom(1000), more="&replicas=0")
        body = {"kind": "fill", "object": object_id, "replicas": 1, "needs": {"processor_percent": 95}}
        task = (await server.call("POST", "/v1/tasks", json=body, status=201)).json()
        assert decode(Needs, task["needs"], strict=True) == Needs(processor_percent=95, ports="any")
        await server.round()
        told = (await server.call("GET", f"/v1/tasks/{task['id']}")).json()
        assert (told["state"], told["waiting"]) == ("pending", {"processor-busy": 1})
        await weak.beat(processor=Processor(4, "x86_64", 96, 2**30))
        await server.round()
        assert isinstance(weak.received[-1], Task)

    run(tmp_path / "state", script)


def test_needs_survive_a_restart_and_region_waits_for_a_place(tmp_path: Path) -> None:
    async def script() -> None:
        link = HandLink()
        async with running(tmp_path / "state", link=link) as server:
            object_id = await server.publish(os.urandom(1000), more="&replicas=0")
            needs = {"regions": ["DE"], "price_max": 10**7}
            body = {"kind": "fill", "object": object_id, "replicas": 1, "needs": needs}
            task = (await server.call("POST", "/v1/tasks", json=body, status=201)).json()
        async with running(tmp_path / "state", link=link) as server:
            device = await server.device(1)
            await server.round()
            told = (await server.call("GET", f"/v1/tasks/{task['id']}")).json()
            assert told["needs"] == task["needs"] == encode(Needs(ports="any", regions=("DE",), price_max=10**7))
            assert told["waiting"] == {"place-unknown": 1}
            assert device.received == []

    asyncio.run(script())


@pytest.mark.parametrize(("price_max", "placed"), [(999_999, 0), (1_000_000, 1)])
def test_a_task_waits_while_the_tariff_is_above_its_price_cap(tmp_path: Path, price_max: int, placed: int) -> None:
    async def script(server: Harness) -> None:
        device = await server.device(1)
        object_id = await server.publish(os.urandom(1000), more="&replicas=0")
        body = {"kind": "fill", "object": object_id, "replicas": 1, "needs": {"price_max": price_max}}
        await server.call("POST", "/v1/tasks", json=body, status=201)
        await server.round()
        assert len(device.received) == placed

    run(tmp_path / "state", script)


def test_tasks_from_before_needs_were_kept_are_copies(tmp_path: Path) -> None:
    async def script() -> None:
        link = HandLink()
        async with running(tmp_path / "state", link=link) as server:
            object_id = await server.publish(os.urandom(1000), more="&replicas=1")
            await server.round()
            async with server.database.write() as connection:
                await connection.exec_driver_sql("UPDATE tasks SET needs = NULL, parameters = NULL")
        async with running(tmp_path / "state", link=link) as server:
            (task,) = server.tasks.driver.open_fills(object_id, "publisher-a")
            assert (task.needs, task.parameters) == (COPY, {})

    asyncio.run(script())


def test_what_is_misspelt_is_refused_and_not_passed_over(tmp_path: Path) -> None:
    async def script(server: Harness) -> None:
        object_id = await server.publish(b"x", more="&replicas=0")
        good: dict[str, Any] = {"kind": "fill", "object": object_id}
        for more in (
            {"neds": {}},
            {"needs": {"region": ["DE"]}},
            {"needs": {"regions": ["de"]}},
            {"needs": {"regions": "DE"}},
            {"needs": {"up_bps": -1}},
            {"needs": {"processor_percent": 101}},
            {"needs": None},
            {"parameters": {"x": "y"}},
            {"parameters": {"x": 1}},
        ):
            answer = await server.call("POST", "/v1/tasks", json={**good, **more}, status=400)
            assert answer.problem == "malformed"
            assert {"detail", "remedy"} & answer.json().keys()

    run(tmp_path / "state", script)
