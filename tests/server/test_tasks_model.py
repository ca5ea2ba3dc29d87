"""A task under any order of events: the rules that hold after each."""

from __future__ import annotations

from fallow_server.tasks.model import NetworkTask, Placement
from fallow_server.tasks.states import TaskEvent, TaskState, attempts_max
from fallow_wire.session import TaskStatus
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

DEVICES = [f"fd-{number:024d}" for number in range(12)]
SIZE, RETRY_S = 1000, 600


class TaskMachine(RuleBasedStateMachine):
    """Copies: whoever is done holds the object, and may drop it again."""

    object_id = "a" * 64

    @initialize(replicas=st.integers(1, 3))
    def begin(self, replicas: int) -> None:
        self.now = 1000
        self.held: set[str] = set()
        self.ended: TaskState | None = None
        self.task = NetworkTask("t", "publisher-a", "fill", self.object_id, SIZE, replicas, 10**9, self.now)

    @rule(seconds=st.integers(1, 700))
    def time_passes(self, seconds: int) -> None:
        self.now += seconds

    @rule(order=st.permutations(DEVICES))
    def round(self, order: list[str]) -> None:
        surplus: list[Placement] = self.task.settle(self.now, self.held)
        assert not surplus or not self.task.is_open
        if not self.task.is_open:
            return
        demand = self.task.demand(
            self.held, [one.device_id for one in self.task.open_placements()], (), self.now, RETRY_S
        )
        free = [one for one in order if one not in demand.holders and one not in demand.excluded]
        for device_id in free[: demand.replicas]:
            self.task.place(device_id, self.now)
        self.task.settle(self.now, self.held)

    @rule(
        device_id=st.sampled_from(DEVICES),
        status=st.sampled_from(["accepted", "running", "done", "failed"]),
        size=st.integers(0, SIZE),
    )
    def device_says(self, device_id: str, status: str, size: int) -> None:
        placement = self.task.placements.get(device_id)
        if placement is not None:
            before = placement.state
            placement.report(TaskStatus("t", status, size, "reason"), self.now)
            assert placement.state is before or placement.changed
            if self.object_id and status == "done" and before.value in ("placed", "accepted", "running"):
                self.held.add(device_id)

    @rule(device_id=st.sampled_from(DEVICES))
    def device_drops(self, device_id: str) -> None:
        self.held.discard(device_id)

    @rule(event=st.sampled_from([TaskEvent.CANCEL, TaskEvent.DEADLINE]), chance=st.integers(0, 9))
    def ends(self, event: TaskEvent, chance: int) -> None:
        if chance == 0:
            self.task.end(event, self.now)

    @invariant()
    def ends_are_final(self) -> None:
        if not hasattr(self, "task"):
            return
        if self.ended is not None:
            assert self.task.state is self.ended
        elif not self.task.is_open:
            self.ended = self.task.state
        if not self.task.is_open:
            assert self.task.open_placements() == []

    @invariant()
    def never_more_than_wanted(self) -> None:
        if not hasattr(self, "task"):
            return
        spent = sum(placement.attempts for placement in self.task.placements.values())
        assert spent <= attempts_max(self.task.replicas)
        assert len(self.task.open_placements()) <= self.task.replicas
        assert self.task.described()["state"] == self.task.state.value


class WorkMachine(TaskMachine):
    """What is about no object: who is done has done it, once and for all."""

    object_id = ""

    @invariant()
    def done_stays_done(self) -> None:
        if not hasattr(self, "task"):
            return
        done = self.task.done_devices()
        assert done >= getattr(self, "done", set())
        self.done = done
        assert len(done) <= self.task.replicas
        if self.task.state is TaskState.DONE:
            assert len(done) == self.task.replicas


TaskMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
test_a_task_under_any_order_of_events = TaskMachine.TestCase
WorkMachine.TestCase.settings = TaskMachine.TestCase.settings
test_a_task_about_no_object_under_any_order_of_events = WorkMachine.TestCase
