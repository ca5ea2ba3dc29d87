"""Kinds of tasks have lanes of their own: a long one of one kind holds up nobody of another."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from fallow_agent.uplink.lanes import Outcome
from fallow_agent.uplink.tasks import TaskRunner
from fallow_wire.errors import FallowError
from fallow_wire.probes import Attempt, ProbeResult
from fallow_wire.session import Task, TaskStatus
from support import PATIENCE_S

RESULT = ProbeResult(1, (Attempt(connect_ms=1),))


class HandWork:
    """Ends when the test says so."""

    waiting_bytes_max = 0

    def __init__(self, at_once: int = 1, waiting_max: int = 2) -> None:
        self.at_once = at_once
        self.waiting_max = waiting_max
        self.started: asyncio.Queue[str] = asyncio.Queue()
        self.gates: dict[str, asyncio.Future[Outcome]] = {}

    def fault(self, task: Task) -> str | None:
        return "not like this" if task.deadline == 0 else None

    async def do(self, task: Task, progress: Callable[[int], None]) -> Outcome:
        gate = self.gates[task.id] = asyncio.get_running_loop().create_future()
        self.started.put_nowait(task.id)
        return await gate


class Nothing:
    def has(self, object_id: str) -> bool:
        return False

    def drop(self, object_id: str) -> bool:
        return False


Use = Callable[[TaskRunner, HandWork, HandWork, "asyncio.Queue[TaskStatus]"], Awaitable[None]]


def run(use: Use, at_once: int = 1) -> None:
    async def main() -> None:
        fills, probes = HandWork(), HandWork(at_once)
        sent: asyncio.Queue[TaskStatus] = asyncio.Queue()
        runner = TaskRunner(Nothing(), {"fill": fills, "probe": probes}, sent.put_nowait)
        runner.resume()
        running = asyncio.create_task(runner.run())
        try:
            async with asyncio.timeout(PATIENCE_S):
                await use(runner, fills, probes, sent)
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
        assert all(gate.done() for work in (fills, probes) for gate in work.gates.values()), "work goes on"

    asyncio.run(main())


async def heard(sent: asyncio.Queue[TaskStatus], *wanted: str) -> TaskStatus:
    for status in wanted:
        found = await sent.get()
        assert f"{found.id} {found.status}" == status, found
    return found


def test_a_probe_does_not_wait_for_a_fill_and_brings_its_result() -> None:
    async def use(runner: TaskRunner, fills: HandWork, probes: HandWork, sent: asyncio.Queue[TaskStatus]) -> None:
        runner.take(Task("f", "fill"))
        assert await fills.started.get() == "f"
        runner.take(Task("p", "probe"))
        assert await probes.started.get() == "p"
        probes.gates["p"].set_result(Outcome(result=RESULT))
        last = await heard(sent, "f accepted", "f running", "p accepted", "p running", "p done")
        assert last.result == RESULT
        runner.take(Task("p", "probe"))  # the scheduler had not heard
        assert (await heard(sent, "p done")).result == RESULT

    run(use)


def test_one_kind_may_be_held_back_alone() -> None:
    async def use(runner: TaskRunner, fills: HandWork, probes: HandWork, sent: asyncio.Queue[TaskStatus]) -> None:
        runner.take(Task("f", "fill"))
        await fills.started.get()
        runner.pause("tomorrow", {"fill"})
        await asyncio.wait((fills.gates["f"],))
        assert fills.gates["f"].cancelled()
        runner.take(Task("p", "probe"))
        assert await probes.started.get() == "p"
        assert {status.id: status.reason for status in runner.statuses()} == {"f": "tomorrow", "p": None}
        runner.resume()
        assert await fills.started.get() == "f"

    run(use)


@pytest.mark.parametrize("at_once", [1, 2])
def test_so_many_run_at_once_and_the_rest_wait_their_turn(at_once: int) -> None:
    async def use(runner: TaskRunner, fills: HandWork, probes: HandWork, sent: asyncio.Queue[TaskStatus]) -> None:
        for number in range(at_once):
            runner.take(Task(f"p-{number}", "probe"))
            assert await probes.started.get() == f"p-{number}"
        for number in (7, 8, 9):
            runner.take(Task(f"p-{number}", "probe"))
        assert {status.id: status.status for status in runner.statuses()}["p-9"] == "failed"  # two may wait
        assert probes.started.empty()
        probes.gates["p-0"].set_exception(FallowError("not here"))
        assert await probes.started.get() == "p-7"
        runner.cancel("p-7")
        assert await probes.started.get() == "p-8"
        told = {status.id: (status.status, status.reason) for status in runner.statuses()}
        assert told["p-0"] == ("failed", "not here")
        assert "p-7" not in told

    run(use, at_once)


def test_what_is_wrong_or_unknown_fails_at_once() -> None:
    async def use(runner: TaskRunner, fills: HandWork, probes: HandWork, sent: asyncio.Queue[TaskStatus]) -> None:
        runner.take(Task("p", "probe", deadline=0))
        assert (await heard(sent, "p failed")).reason == "not like this"
        runner.take(Task("l", "live"))
        assert "does not do live" in ((await heard(sent, "l failed")).reason or "")

    run(use)
