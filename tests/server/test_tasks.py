"""Network tasks: placed, followed, replaced, expired, and remembered over a restart."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest
from delivery_harness import ALICE, BOB, HandDevice, HandLink, Harness, run, running
from fallow_server.tasks import messages
from fallow_server.tasks.states import (
    TASK_OPEN,
    PlacementState,
    TaskEvent,
    TaskState,
    next_placement,
    next_task,
)
from fallow_wire.manifest import verify_manifest
from fallow_wire.session import Cancel, Disk, Task
from fallow_wire.tickets import verify_ticket
from support import PATIENCE_S

MIB = 2**20


async def tasks_of(server: Harness, who: str = ALICE) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await server.call("GET", "/v1/tasks", who=who)).json()
    return found


async def only_task(server: Harness) -> dict[str, Any]:
    found = await tasks_of(server)
    assert len(found) == 1
    task: dict[str, Any] = (await server.call("GET", f"/v1/tasks/{found[0]['id']}", status=200)).json()
    return task


def last_task(device: HandDevice) -> Task:
    message = device.received[-1]
    assert isinstance(message, Task)
    return message


def test_ends_are_final() -> None:
    for state in TaskState:
        for event in TaskEvent:
            assert state in TASK_OPEN or next_task(state, event) is state
    for state in (PlacementState.DONE, PlacementState.FAILED, PlacementState.CANCELLED):
        for status in ("accepted", "running", "done", "failed", "cancelled"):
            assert next_placement(state, status) is state


def test_publishing_places_two_copies_and_follows_them(tmp_path: Path) -> None:
    async def script(server: Harness) -> None:
        devices = {device.id: device for device in [await server.device(n) for n in (1, 2, 3)]}
        object_id = await server.publish(os.urandom(MIB), "film.mp4")
        await server.round()
        task = await only_task(server)
        assert (task["kind"], task["object"], task["state"], task["replicas"]) == ("fill", object_id, "placed", 2)
        chosen = [devices[placement["device"]] for placement in task["placements"]]
        assert len(chosen) == 2
        assert sum(len(device.received) for device in devices.values()) == 2
        sent = last_task(chosen[0])
        assert (sent.id, sent.kind, sent.object) == (task["id"], "fill", object_id)
        assert sent.manifest is not None
        verify_manifest(sent.manifest, server.keys.public_keys(), object_id)
        assert [source.url for source in sent.sources] == [f"{server.url}/o/{object_id}/film.mp4?source=origin&fill=1"]
        await chosen[0].says(task["id"], "accepted")
        await chosen[1].says(task["id"], "running", 1000)
        await server.round()
        task = await only_task(server)
        assert task["state"] == "running"
        assert sorted(p["state"] for p in task["placements"]) == ["placed", "running"]
        assert sorted(p["bytes_done"] for p in task["placements"]) == [0, 1000]
        for device in chosen:
            await device.says(task["id"], "done", MIB)
            await device.holds(object_id)
        await server.round()
        task = (await server.call("GET", f"/v1/tasks/{task['id']}")).json()
        assert (task["state"], {p["state"] for p in task["placements"]}) == ("done", {"done"})
        told = (await server.call("GET", f"/v1/objects/{object_id}")).json()
        assert (told["replicas"], told["replicas_wanted"]) == (2, 2)

    run(tmp_path / "state", script)


def test_nobody_is_asked_where_no_copies_are_wanted(tmp_path: Path) -> None:
    async def script(server: Harness) -> None:
        device = await server.device(1)
        await server.publish(b"x", more="&replicas=0")
        await server.publish(b"", "empty")
        await server.round()
        assert await tasks_of(server) == []
        assert device.received == []

    run(tmp_path / "state", script)


def test_a_device_fills_from_another_with_a_ticket_in_its_own_name(tmp_path: Path) -> None:
    async def script(server: Harness) -> None:
        holder = await server.device(1)
        object_id = await server.publish(os.urandom(MIB), more="&replicas=1")
        await server.round()
        await holder.holds(object_id)
        await server.round()
        filler = await server.device(2)
        await server.call("POST", "/v1/tasks", json={"kind": "fill", "object": object_id, "replicas": 2}, status=201)
        await server.round()
        first, origin = last_task(filler).sources
        assert first.url == f"http://203.0.113.1:32557/o/{object_id}/file.bin"
        assert origin.ticket is None
        assert first.ticket is not None
        ticket = verify_ticket(first.ticket, server.keys.public_keys().get).value
        assert (ticket.aud, ticket.svc, ticket.max_bytes, ticket.odds) == (holder.id, "fill", MIB, 1000)
        assert ticket.sub.startswith(f"{filler.id}.")
        assert ticket.cnf is not None
        assert ticket.cnf.jwk == filler.key.public.jwk()
        assert len(holder.received) == 1

    run(tmp_path / "state", script)


def test_without_escrow_a_device_fills_from_the_origin(tmp_path: Path) -> None:
    async def script(server: Harness) -> None:
        server.link.escrow[ALICE] = 0
        object_id = await server.publish(os.urandom(MIB))
        await server.device(1, object_id)
        filler = await server.device(2)
        await server.round()
        assert len(last_task(filler).sources) == 1

    run(tmp_path / "state", script)


def test_a_failure_is_tried_elsewhere_and_not_for_ever(tmp_path: Path) -> None:
    async def script(server: Harness) -> None:
        devices = [await server.device(n) for n in range(1, 9)]
        await server.publish(os.urandom(1000), more="&replicas=1")
        tried = []
        for _ in range(6):
            await server.round()
            task = await only_task(server)
            if task["state"] == "failed":
                break
            open_now = [p["device"] for p in task["placements"] if p["state"] == "placed"]
            assert len(open_now) == 1
            tried.append(open_now[0])
            device = next(one for one in devices if one.id == open_now[0])
            await device.says(task["id"], "failed", reason="chunk-mismatch")
        assert len(set(tried)) == len(tried) == 4
        task = await only_task(server)
        assert task["state"] == "failed"
        assert "chunk-mismatch" in task["reason"]

    run(tmp_path / "state", script)


def test_the_only_device_is_asked_again_after_a_while(tmp_path: Path) -> None:
    async def script(server: Harness) -> None:
        device = await server.device(1)
        await server.publish(b"x" * 100, more="&replicas=1")
        await server.round()
        task = await only_task(server)
        await device.says(task["id"], "failed", reason="no-disk")
        await server.round()
        task = await only_task(server)
        assert (task["state"], task["waiting"]) == ("pending", {"failed-before": 1})
        server.clock.seconds += 601
        await device.beat()
        await server.round()
        assert (await only_task(server))["state"] == "placed"
        assert len(device.received) == 2

    run(tmp_path / "state", script)


def test_a_task_waits_for_a_device_that_can(tmp_path: Path) -> None:
    async def script(server: Harness) -> None:
        small = await server.device(1, disk=Disk(2**20, 2**20, 2**30, "sd"))
        paused = await server.device(2, state="paused")
        await server.publish(os.urandom(MIB))
        await server.round()
        task = await only_task(server)
        assert (task["state"], task["placements"], task["waiting"]) == ("pending", [], {"no-disk": 1, "paused": 1})
        await paused.beat(state="active")
        await server.round()
        assert (await only_task(server))["state"] == "placed"
        assert small.received == []

    run(tmp_path / "state", script)


def test_one_disk_is_not_promised_twice(tmp_path: Path) -> None:
    async def script(server: Harness) -> None:
        device = await server.device(1, disk=Disk(20 * MIB, 0, 2**30, "sd"))
        for number in range(4):
            await server.publish(os.urandom(2 * MIB), f"{number}", more="&replicas=1")
        await server.round()
        assert len(device.received) == 2

    run(tmp_path / "state", script)


def test_a_device_that_is_gone_is_replaced(tmp_path: Path) -> None:
    async def script(server: Harness) -> None:
        first = await server.device(1)
        await server.publish(os.urandom(1000), more="&replicas=1")
        await server.round()
        assert len(first.received) == 1
        second = await server.device(2)
        await first.leave()
        server.clock.seconds += 599
        await second.beat()
        await server.round()
        assert second.received == []
        server.clock.seconds += 2
        await second.beat()
        await server.round()
        assert len(second.received) == 1
        task = await only_task(server)
        states = {p["device"]: (p["state"], p.get("reason")) for p in task["placements"]}
        assert states == {first.id: ("failed", "device-gone"), second.id: ("placed", None)}

    run(tmp_path / "state", script)


def test_a_device_that_comes_back_is_sent_its_task_again(tmp_path: Path) -> None:
    async def script(server: Harness) -> None:
        device = await server.device(1)
        object_id = await server.publish(os.urandom(1000), more="&replicas=1")
        await server.round()
        await device.says(last_task(device).id, "running", 10)
        await device.leave()
        await server.round()
        await device.connect()
        await server.round()
        assert [message.id for message in device.received if isinstance(message, Task)] == [
            last_task(device).id,
            last_task(device).id,
        ]
        await device.leave()
        await device.connect(object_id)
        await server.round()
        assert (await only_task(server))["state"] == "done"

    run(tmp_path / "state", script)


def test_a_message_that_is_lost_is_sent_again_and_then_elsewhere(tmp_path: Path) -> None:
    async def script(server: Harness) -> None:
        device = await server.device(1)
        device.deaf = True
        await server.publish(os.urandom(1000), more="&replicas=1")
        await server.round()
        device.deaf = False
        server.clock.seconds += 61
        await device.beat()
        await server.round()
        assert len(device.received) == 1
        reasons = []
        for _ in range(8):
            server.clock.seconds += 121
            await device.beat()
            await server.round()
            reasons += [p["reason"] for p in (await only_task(server))["placements"] if "reason" in p]
        assert set(reasons) == {"no-answer"}
        assert len(device.received) == 4

    run(tmp_path / "state", script)


def test_a_task_ends_with_its_deadline(tmp_path: Path) -> None:
    async def script(server: Harness) -> None:
        object_id = await server.publish(os.urandom(1000), more="&replicas=0")
        device = await server.device(1)
        body = {"kind": "fill", "object": object_id, "replicas": 2, "deadline": server.clock.now() + 100}
        task = (await server.call("POST", "/v1/tasks", json=body, status=201)).json()
        await server.round()
        assert last_task(device).deadline == body["deadline"]
        server.clock.seconds += 100
        await server.round()
        assert (await server.call("GET", f"/v1/tasks/{task['id']}")).json()["state"] == "expired"
        assert isinstance(device.received[-1], Cancel)
        await device.says(task["id"], "done")
        await server.round()
        assert (await server.call("GET", f"/v1/tasks/{task['id']}")).json()["state"] == "expired"

    run(tmp_path / "state", script)


def test_cancelling_tells_the_device_and_stays_cancelled(tmp_path: Path) -> None:
    async def script(server: Harness) -> None:
        device = await server.device(1)
        await server.publish(os.urandom(1000), more="&replicas=1")
        await server.round()
        task = await only_task(server)
        assert (await server.call("DELETE", f"/v1/tasks/{task['id']}", who=BOB)).status == 404
        cancelled = (await server.call("DELETE", f"/v1/tasks/{task['id']}", status=200)).json()
        assert cancelled["state"] == "cancelled"
        assert isinstance(device.received[-1], Cancel)
        assert (await server.call("DELETE", f"/v1/tasks/{task['id']}", status=200)).json()["state"] == "cancelled"
        server.clock.seconds += 1000
        await device.beat()
        await server.round()
        assert len(await tasks_of(server)) == 1

    run(tmp_path / "state", script)


def test_a_device_that_takes_nothing_holds_up_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def script(server: Harness) -> None:
        monkeypatch.setattr(messages, "PATIENCE_S", 0.01)
        slow = await server.device(1)
        takes, taking = asyncio.Event(), slow._send

        async def send(text: str) -> None:
            await takes.wait()
            await taking(text)

        assert slow.live is not None
        slow.live._send = send
        first = await server.publish(os.urandom(1000), "first.bin", more="&replicas=1")
        # The round ends though the message is still under way, and the next ones begin no second one.
        await server.round()
        other = await server.device(2)
        second = await server.publish(os.urandom(1000), "second.bin", more="&replicas=2")
        await server.round()
        await server.round()
        await asyncio.wait_for(other.heard.wait(), PATIENCE_S)
        assert [message.object for message in other.received if isinstance(message, Task)] == [second]
        assert not slow.received
        takes.set()
        while len(slow.received) < 2:
            slow.heard.clear()
            await asyncio.wait_for(slow.heard.wait(), PATIENCE_S)
        assert [message.object for message in slow.received if isinstance(message, Task)] == [first, second]

    run(tmp_path / "state", script)


def test_deleting_an_object_drops_it_from_devices(tmp_path: Path) -> None:
    async def script(server: Harness) -> None:
        object_id = await server.publish(os.urandom(1000), more="&replicas=0")
        here = await server.device(1, object_id)
        away = await server.device(2, object_id)
        await server.round()
        await away.leave()
        await server.call("DELETE", f"/v1/objects/{object_id}", status=204)
        await server.round()
        dropped = last_task(here)
        assert (dropped.kind, dropped.object) == ("drop", object_id)
        await here.holds()
        await here.says(dropped.id, "done")
        await server.round()
        assert (await only_task(server))["state"] == "done"
        await away.connect(object_id)
        await server.round()
        assert (last_task(away).kind, last_task(away).object) == ("drop", object_id)
        await away.holds()
        await server.round()
        assert len(away.received) == 1

    run(tmp_path / "state", script)


def test_deleting_while_devices_fill_stops_them(tmp_path: Path) -> None:
    async def script(server: Harness) -> None:
        device = await server.device(1)
        object_id = await server.publish(os.urandom(1000), more="&replicas=1")
        await server.round()
        await server.call("DELETE", f"/v1/objects/{object_id}", status=204)
        assert isinstance(device.received[-1], Cancel)
        # It was quicker than the message.
        await device.holds(object_id)
        await server.round()
        assert (last_task(device).kind, last_task(device).object) == ("drop", object_id)

    run(tmp_path / "state", script)


def test_a_drop_task_keeps_the_object_and_stops_copies(tmp_path: Path) -> None:
    async def script(server: Harness) -> None:
        device = await server.device(1)
        object_id = await server.publish(os.urandom(1000), more="&replicas=1")
        await server.round()
        await device.holds(object_id)
        await server.round()
        task = (await server.call("POST", "/v1/tasks", json={"kind": "drop", "object": object_id}, status=201)).json()
        await server.round()
        await device.holds()
        await server.round()
        assert (await server.call("GET", f"/v1/tasks/{task['id']}")).json()["state"] == "done"
        server.clock.seconds += 2000
        await device.beat()
        await server.round()
        assert len([m for m in device.received if isinstance(m, Task) and m.kind == "fill"]) == 1
        assert (await server.call("GET", f"/o/{object_id}/x", who=None)).status == 200

    run(tmp_path / "state", script)


def test_lost_copies_are_made_again(tmp_path: Path) -> None:
    async def script(server: Harness) -> None:
        first = await server.device(1)
        object_id = await server.publish(os.urandom(1000), more="&replicas=1")
        await server.round()
        await first.holds(object_id)
        await server.round()
        second = await server.device(2)
        await first.leave()
        server.clock.seconds += 300
        await second.beat()
        await server.round()
        assert second.received == []
        server.clock.seconds += 901
        await second.beat()
        await server.round()
        assert last_task(second).object == object_id

    run(tmp_path / "state", script)


def test_bad_requests_and_other_people(tmp_path: Path) -> None:
    async def script(server: Harness) -> None:
        object_id = await server.publish(b"x", more="&replicas=0")
        empty = await server.publish(b"", "empty")
        good: dict[str, Any] = {"kind": "fill", "object": object_id}
        for body, status in (
            ({}, 400),
            ({**good, "kind": "probe"}, 400),
            ({**good, "kind": "live"}, 400),
            ({**good, "object": "x"}, 400),
            ({**good, "object": "f" * 64}, 404),
            ({**good, "replicas": 0}, 400),
            ({**good, "replicas": 65}, 400),
            ({**good, "deadline": server.clock.now()}, 400),
            ({**good, "deadline": 2**53 - 1}, 400),
            ({**good, "object": empty}, 400),
        ):
            assert (await server.call("POST", "/v1/tasks", json=body)).status == status, body
        assert (await server.call("POST", "/v1/tasks", json=good, who=BOB)).status == 404
        task = (await server.call("POST", "/v1/tasks", json=good, status=201)).json()
        assert (await server.call("GET", f"/v1/tasks/{task['id']}", who=BOB)).status == 404
        assert (await server.call("GET", "/v1/tasks/x")).status == 404
        assert await tasks_of(server, BOB) == []
        for who in (None, "owner-1", "operator-1"):
            assert (await server.call("POST", "/v1/tasks", json=good, who=who)).status in (401, 403)

    run(tmp_path / "state", script)


def test_a_device_cannot_speak_for_another(tmp_path: Path) -> None:
    async def script(server: Harness) -> None:
        chosen = await server.device(1)
        await server.publish(os.urandom(1000), more="&replicas=1")
        await server.round()
        liar = await server.device(2)
        await liar.says(last_task(chosen).id, "done")
        await liar.says("made-up", "done")
        await server.round()
        assert (await only_task(server))["state"] == "placed"
        assert server.tasks.driver._statuses == {}

    run(tmp_path / "state", script)


@pytest.mark.parametrize("when", ["before placing", "placed", "running"])
def test_tasks_survive_a_restart(tmp_path: Path, when: str) -> None:
    async def script() -> None:
        link = HandLink()
        async with running(tmp_path / "state", link=link) as server:
            if when != "before placing":
                device = await server.device(1)
            object_id = await server.publish(os.urandom(1000), more="&replicas=1")
            await server.round()
            task = await only_task(server)
            if when == "running":
                await device.says(task["id"], "running", 5)
                await server.round()
        async with running(tmp_path / "state", link=link) as server:
            assert (await only_task(server))["id"] == task["id"]
            device = await server.device(1)
            await server.round()
            assert last_task(device).id == task["id"]
            assert len(device.received) == 1
            await device.holds(object_id)
            await server.round()
            assert (await only_task(server))["state"] == "done"
        async with running(tmp_path / "state", link=link) as server:
            assert (await only_task(server))["state"] == "done"
            assert server.tasks.driver.task(task["id"]) is None

    asyncio.run(script())


def test_a_device_that_never_comes_back_after_a_restart_is_replaced(tmp_path: Path) -> None:
    async def script() -> None:
        async with running(tmp_path / "state") as server:
            await server.device(1)
            await server.publish(os.urandom(1000), more="&replicas=1")
            await server.round()
        async with running(tmp_path / "state") as server:
            other = await server.device(2)
            await server.round()
            assert other.received == []
            server.clock.seconds += 601
            await other.beat()
            await server.round()
            assert len(other.received) == 1

    asyncio.run(script())


def test_the_worker_places_by_itself(tmp_path: Path) -> None:
    async def script(server: Harness) -> None:
        device = await server.device(1)
        await server.publish(os.urandom(1000), more="&replicas=1")
        async with asyncio.timeout(PATIENCE_S):
            await device.heard.wait()
        assert last_task(device).kind == "fill"

    run(tmp_path / "state", script)
