"""Probes: bounded for whoever is measured, spread over homes, and told to the publisher who asked."""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from delivery_harness import ALICE, BOB, HandDevice, HandLink, Harness, run, running
from fallow_server.tasks.config import Config
from fallow_server.tasks.probes import ProbeConfig
from fallow_server.tasks.rates import Rates
from fallow_wire.fields import encode
from fallow_wire.probes import Attempt, ProbeResult
from fallow_wire.session import Cancel, Task
from hypothesis import given
from hypothesis import strategies as st
from support import NOW

TARGET = "measured.example"
ASKED: dict[str, Any] = {"kind": "probe", "parameters": {"test": "tcp", "target": TARGET}}
RESULT = ProbeResult(NOW, (Attempt(("198.51.100.7",), connect_ms=12, total_ms=12),))


def asked(**changes: Any) -> dict[str, Any]:
    parameters = {**ASKED["parameters"], **changes.pop("parameters", {})}
    return {**ASKED, **changes, "parameters": parameters}


async def post(server: Harness, who: str = ALICE, **changes: Any) -> dict[str, Any]:
    found: dict[str, Any] = (await server.call("POST", "/v1/tasks", who=who, json=asked(**changes), status=201)).json()
    return found


async def told(server: Harness, task: dict[str, Any], what: str = "", who: str = ALICE) -> Any:
    return (await server.call("GET", f"/v1/tasks/{task['id']}{what}", who=who, status=200)).json()


def probed(*devices: HandDevice) -> list[HandDevice]:
    return [one for one in devices if any(isinstance(message, Task) for message in one.received)]


def test_a_probe_is_done_by_some_homes_and_told_by_device(tmp_path: Path) -> None:
    async def script(server: Harness) -> None:
        devices = [await server.device(n) for n in range(1, 6)]
        for one in devices:
            assert one.live is not None
            one.live.service_urls = ()  # nothing comes in: fit for probes all the same
        task = await post(server, replicas=2)
        assert task["replicas"] == 2
        assert task["needs"]["service"] == "probe"
        assert task["deadline"] == NOW + 3600
        await server.round()
        chosen = probed(*devices)
        assert len(chosen) == 2
        sent = chosen[0].received[-1]
        assert isinstance(sent, Task)
        assert (sent.kind, sent.object, sent.manifest) == ("probe", None, None)
        assert sent.parameters == {**ASKED["parameters"], "avoid": "203.0.113.9"}
        await chosen[0].says(task["id"], "running")
        await server.round()
        assert (await told(server, task))["state"] == "running"
        for one in chosen:
            await one.says(task["id"], "done", result=RESULT)
        await server.round()
        found = await told(server, task)
        assert (found["state"], found["parameters"]) == ("done", ASKED["parameters"])
        results = await told(server, task, "/results")
        assert [one["device"] for one in results] == sorted(one.id for one in chosen)
        assert results[0] == {"device": results[0]["device"], **encode(RESULT)}
        first = await told(server, task, "/results?limit=1")
        assert first == results[:1]
        assert await told(server, task, f"/results?after={first[0]['device']}") == results[1:]

    run(tmp_path / "state", script)


def test_one_home_measures_a_target_once(tmp_path: Path) -> None:
    async def script(server: Harness) -> None:
        devices = [await server.device(n, owner="owner-x") for n in (1, 2)]
        task = await post(server, replicas=2)
        await server.round()
        await server.round()
        assert len(probed(*devices)) == 1
        assert (await told(server, task))["waiting"] == {"held": 1, "home-taken": 1}

    run(tmp_path / "state", script)


def test_what_fails_is_measured_elsewhere(tmp_path: Path) -> None:
    async def script(server: Harness) -> None:
        devices = [await server.device(n) for n in (1, 2, 3)]
        task = await post(server, replicas=1)
        await server.round()
        (first,) = probed(*devices)
        await first.says(task["id"], "failed", reason="this home did enough")
        await server.round()
        (second,) = [one for one in probed(*devices) if one is not first]
        await second.leave()
        server.clock.seconds += 601
        for one in devices:
            if one is not second:
                await one.beat()
        await server.round()
        states = {p["device"]: (p["state"], p.get("reason")) for p in (await told(server, task))["placements"]}
        assert states[second.id] == ("failed", "device-gone")
        (third,) = [one for one in devices if states.get(one.id) == ("placed", None)]
        await third.says(task["id"], "done", result=RESULT)
        await server.round()
        assert (await told(server, task))["state"] == "done"

    run(tmp_path / "state", script)


def test_a_probe_without_devices_expires_and_devices_are_told(tmp_path: Path) -> None:
    async def script(server: Harness) -> None:
        device = await server.device(1)
        task = await post(server, replicas=2)
        await server.round()
        await device.says(task["id"], "done", result=RESULT)
        late = await server.device(2)
        await server.round()
        server.clock.seconds += 3600
        await server.round()
        found = await told(server, task)
        assert found["state"] == "expired"
        assert isinstance(late.received[-1], Cancel)
        await late.says(task["id"], "done", result=RESULT)
        await server.round()
        assert [one["device"] for one in await told(server, task, "/results")] == [device.id]

    run(tmp_path / "state", script)


def test_results_survive_restarts_and_come_again_from_devices_that_had_no_answer(tmp_path: Path) -> None:
    async def script() -> None:
        link = HandLink()
        async with running(tmp_path / "state", link=link) as server:
            devices = [await server.device(n) for n in (1, 2)]
            task = await post(server, replicas=2)
            await server.round()
            await devices[0].says(task["id"], "done", result=RESULT)
            await server.round()
            await devices[1].says(task["id"], "done", result=RESULT)
            # killed before the round
        async with running(tmp_path / "state", link=link) as server:
            assert len(await told(server, task, "/results")) == 1
            second = await server.device(2)
            await second.says(task["id"], "done", result=RESULT)
            await server.round()
            assert (await told(server, task))["state"] == "done"
            assert len(await told(server, task, "/results")) == 2
            decisions = (await told(server, task, "/why"))["decisions"]
            assert len(decisions) == 1

    asyncio.run(script())


def test_results_are_forgotten_after_a_week(tmp_path: Path) -> None:
    async def script(server: Harness) -> None:
        device = await server.device(1)
        task = await post(server, replicas=1)
        await server.round()
        await device.says(task["id"], "done", result=RESULT)
        await server.round()
        assert len(await told(server, task, "/results")) == 1
        server.clock.seconds += 7 * 86_400 + 1
        await server.round()
        assert await told(server, task, "/results") == []
        assert (await told(server, task))["state"] == "done"

    run(tmp_path / "state", script)


def test_what_is_about_an_object_keeps_no_results(tmp_path: Path) -> None:
    async def script(server: Harness) -> None:
        device = await server.device(1)
        await server.publish(os.urandom(100), more="&replicas=1")
        await server.round()
        (task,) = (await server.call("GET", "/v1/tasks")).json()
        await device.says(task["id"], "done", result=RESULT)
        await server.round()
        assert await told(server, task, "/results") == []

    run(tmp_path / "state", script)


# ------------------------------------------------------------------ what protects others


@pytest.mark.parametrize(
    ("changes", "status", "slug"),
    [
        ({"parameters": {"target": "192.168.1.1"}}, 400, "malformed"),
        ({"parameters": {"target": "printer.local"}}, 400, "malformed"),
        ({"parameters": {"port": "25"}}, 400, "malformed"),
        ({"parameters": {"speed": "9"}}, 400, "malformed"),
        ({"parameters": {"avoid": "1.2.3.4"}}, 400, "malformed"),
        ({"parameters": {"target": "inside.example"}}, 400, "address-refused"),
        ({"parameters": {"target": "half.example"}}, 400, "address-refused"),
        ({"parameters": {"target": "not.wanted.example"}}, 403, "target-refused"),
        ({"object": "a" * 64}, 400, "malformed"),
        ({"replicas": 51}, 400, "malformed"),
        ({"needs": {"regions": ["Germany"]}}, 400, "malformed"),
    ],
)
def test_what_may_not_be_asked_for(tmp_path: Path, changes: dict[str, Any], status: int, slug: str) -> None:
    async def script(server: Harness) -> None:
        server.names["inside.example"] = ["10.0.0.7"]
        server.names["half.example"] = ["198.41.0.4", "fd00::7"]
        answer = await server.call("POST", "/v1/tasks", json=asked(**changes))
        assert (answer.status, answer.problem) == (status, slug), answer.body
        assert (await server.call("GET", "/v1/tasks")).json() == []

    run(tmp_path / "state", script, tasks=Config(probes=ProbeConfig(targets_refused=("wanted.example",))))


def test_a_publisher_a_target_and_a_network_have_their_hour(tmp_path: Path) -> None:
    limits = ProbeConfig(publisher_per_hour=30, target_per_hour=20, network_per_hour=40)

    async def script(server: Harness) -> None:
        for name in ("a", "b", "c", "d", "e"):
            server.names[f"{name}.example"] = [f"198.41.0.{ord(name)}"]

        async def ask(name: str, count: int, who: str) -> str:
            body = asked(replicas=count, parameters={"target": f"{name}.example", "count": "5"})
            answer = await server.call("POST", "/v1/tasks", who=who, json=body)
            assert answer.status in (201, 429)
            return "" if answer.status == 201 else answer.problem

        assert await ask("a", 4, ALICE) == ""
        assert await ask("b", 3, ALICE) == "too-many-probes"
        assert await ask("a", 1, BOB) == "target-busy"  # over all publishers
        assert await ask("b", 4, BOB) == ""
        assert await ask("c", 1, BOB) == "target-busy"  # another name of the same network
        server.clock.seconds += 3600
        assert await ask("c", 4, BOB) == ""
        # What was refused was not counted.
        assert await ask("d", 2, ALICE) == ""

    run(tmp_path / "state", script, tasks=Config(probes=limits))


def test_a_home_is_not_asked_more_often_than_it_may_be(tmp_path: Path) -> None:
    async def script(server: Harness) -> None:
        device = await server.device(1)
        for number in range(5):
            await post(server, replicas=1, parameters={"target": f"{number}.example"})
        await server.round()
        assert len(device.received) == 3
        waiting = [one for one in (await server.call("GET", "/v1/tasks")).json() if one["state"] == "pending"]
        assert len(waiting) == 2
        assert (await told(server, waiting[0]))["waiting"] == {"home-rested": 1}
        server.clock.seconds += 1200
        await device.beat()
        await server.round()
        assert len({one.id for one in device.received if isinstance(one, Task)}) == 4

    run(tmp_path / "state", script, tasks=Config(probes=ProbeConfig(home_per_hour=3)))


def test_an_operator_may_offer_none(tmp_path: Path) -> None:
    async def script(server: Harness) -> None:
        answer = await server.call("POST", "/v1/tasks", json=ASKED)
        assert (answer.status, answer.problem) == (400, "not-offered")

    run(tmp_path / "state", script, tasks=Config(probes=ProbeConfig(offered=False)))


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.integers(0, 5), st.integers(0, 3)), max_size=60))
def test_rates_never_let_more_pass_and_stay_small(asks: list[tuple[str, int, int]]) -> None:
    rates, now, passed, began = Rates(4, 0.5, names_max=3), 0, dict.fromkeys("abcd", 0), dict.fromkeys("abcd", 0)
    forgotten = False
    for name, seconds, amount in asks:
        now += seconds
        left = rates.left(name, now)
        took = rates.take(name, now, amount)
        assert took == (amount <= left) or amount <= left + 1  # the part of a token that left() rounds off
        passed[name] += amount if took else 0
        forgotten = forgotten or len(set(began)) > 3
        assert len(rates) <= 3
    if len({name for name, _, _ in asks}) <= 3:
        assert all(count <= 4 + now * 0.5 for count in passed.values())


@pytest.mark.parametrize("clock", [0, 2**52])
def test_a_result_by_a_wrong_clock_is_of_now(tmp_path: Path, clock: int) -> None:
    async def script(server: Harness) -> None:
        device = await server.device(1)
        task = await post(server, replicas=1)
        await server.round()
        await device.says(task["id"], "done", result=replace(RESULT, measured_at=clock))
        await server.round()
        (found,) = await told(server, task, "/results")
        assert found["measured_at"] == server.clock.now()

    run(tmp_path / "state", script)


# ------------------------------------------------------------------ why


def test_why_a_task_is_where_it_is(tmp_path: Path) -> None:
    async def script(server: Harness) -> None:
        fit = await server.device(1)
        await server.device(2, state="paused")
        await server.device(3, services=("object", "fill"))
        task = await post(server, replicas=2)
        await server.round()
        why = await told(server, task, "/why")
        assert (why["id"], why["kind"], why["state"]) == (task["id"], "probe", "placed")
        (decision,) = why["decisions"]
        assert (decision["decided_at"], decision["wanted"], decision["considered"]) == (NOW, 2, 3)
        assert {reason: one["devices"] for reason, one in decision["refused"].items()} == {
            "paused": 1, "service-off": 1,
        }  # fmt: skip
        (best,) = decision["best"]
        assert (best["device"], best["chosen"]) == (fit.id, True)
        assert set(best["score_permille"]) == {"value", "line", "processor", "chance"}
        assert why["now"]["refused"]["held"]["for_example"] == [fit.id]
        assert await told(server, task, "/why", who="operator-1") == why
        for who, status in ((BOB, 404), (None, 401), ("owner-1", 403)):
            assert (await server.call("GET", f"/v1/tasks/{task['id']}/why", who=who)).status == status
            assert (await server.call("GET", f"/v1/tasks/{task['id']}/results", who=who)).status == status
        await fit.says(task["id"], "done", result=RESULT)
        await server.call("DELETE", f"/v1/tasks/{task['id']}", status=200)
        after = await told(server, task, "/why")
        assert (after["state"], after["decisions"], "now" in after) == ("cancelled", [decision], False)

    run(tmp_path / "state", script)


def test_copies_are_explained_too_and_only_the_last_decisions_kept(tmp_path: Path) -> None:
    async def script(server: Harness) -> None:
        devices = [await server.device(n) for n in range(1, 9)]
        await server.publish(os.urandom(1000), more="&replicas=2")
        for _ in range(12):
            await server.round()
            (task,) = (await server.call("GET", "/v1/tasks")).json()
            for placement in task["placements"]:
                if placement["state"] == "placed":
                    device = next(one for one in devices if one.id == placement["device"])
                    await device.says(task["id"], "failed", reason="x")
                    break
        why = await told(server, task, "/why")
        assert why["state"] == "failed"
        assert len(why["decisions"]) == 5
        assert why["decisions"][0]["refused"]["failed-before"]["devices"] > 1
        assert "line_mbps" in why["decisions"][0]["best"][0]["score_permille"]

    run(tmp_path / "state", script)


def test_a_price_cap_is_told_as_the_reason(tmp_path: Path) -> None:
    async def script(server: Harness) -> None:
        await server.device(1)
        object_id = await server.publish(os.urandom(1000), more="&replicas=0")
        body = {"kind": "fill", "object": object_id, "replicas": 1, "needs": {"price_max": 1}}
        task = (await server.call("POST", "/v1/tasks", json=body, status=201)).json()
        await server.round()
        assert (await told(server, task))["waiting"] == {"over-price": 1}
        assert (await told(server, task, "/why"))["now"]["refused"]["over-price"]["devices"] == 1

    run(tmp_path / "state", script)


def test_results_of_the_wire_are_what_is_told() -> None:
    failed = replace(RESULT, attempts=(Attempt(error="timed-out"),))
    assert encode(failed) == {"measured_at": NOW, "attempts": [{"addresses": [], "error": "timed-out"}]}
