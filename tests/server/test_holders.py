"""The index of who holds what, against a naive one."""

from __future__ import annotations

import random

from fallow_server.scheduling.holders import DRAWN_MAX, POOL_MIN, Holders
from fallow_server.scheduling.places import NOWHERE, Place
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

OBJECTS = ("a" * 64, "b" * 64, "c" * 64)
PLACES = (
    Place(1, "DE"), Place(1, "DE"), Place(1, "DE"), Place(2, "DE"), Place(1, "FR"), Place(None, "FR"),
    Place(3, None), NOWHERE, Place(4_294_967_295, "ZZ"), Place(9, "AA"), Place(5, "??"),
)  # fmt: skip
DEVICES = tuple(f"fd-{number}" for number in range(12))
LINES = (None, None, None, "x", "y")


class Index(RuleBasedStateMachine):
    """``model``: by device its line, its place and what it holds."""

    def __init__(self) -> None:
        super().__init__()
        self.holders = Holders()
        self.model: dict[str, tuple[str | None, Place, set[str]]] = {}
        self.random = random.Random(1)

    @rule(device=st.sampled_from(DEVICES), place=st.sampled_from(PLACES), line=st.sampled_from(LINES))
    def join(self, device: str, place: Place, line: str | None) -> None:
        self.holders.join(device, place, line)
        self.model.pop(device, None)
        for mate, (of, _, held) in self.model.items():
            if line is not None and of == line:
                self.model[mate] = (of, place, held)
        self.model[device] = (line, place, set())

    @rule(device=st.sampled_from(DEVICES))
    def leave(self, device: str) -> None:
        self.holders.leave(device)
        self.model.pop(device, None)

    @rule(device=st.sampled_from(DEVICES), held=st.sets(st.sampled_from(OBJECTS)))
    def hold(self, device: str, held: set[str]) -> None:
        if device in self.model:
            self.holders.hold(device, frozenset(held))
            line, place, _ = self.model[device]
            self.model[device] = (line, place, held)

    def lines_of(self, object_id: str, fits: object) -> set[str]:
        """Lines of the holders whose place ``fits``; a device without a line is its own."""
        assert callable(fits)
        return {
            line or device for device, (line, place, held) in self.model.items() if object_id in held and fits(place)
        }

    @invariant()
    def it_knows_who_holds_what(self) -> None:
        assert len(self.holders) == len(self.model)
        for object_id in OBJECTS:
            holding = {device for device, (_, _, held) in self.model.items() if object_id in held}
            assert set(self.holders.devices_of(object_id)) == holding
            assert self.holders.count(object_id) == len(holding)
        for device in DEVICES:
            assert self.holders.held_by(device) == (self.model[device][2] if device in self.model else frozenset())

    @invariant()
    def each_pool_holds_the_lines_of_its_region_once(self) -> None:
        consumer, near = Place(1, "DE"), ("FR", "ZZ", "nowhere")
        regions = {
            "as DE/1": lambda place: place == consumer,
            "in DE": lambda place: place.country == "DE",
            "near DE": lambda place: place.country in ("DE", "FR", "ZZ"),
            "all": lambda place: True,
        }
        for object_id in OBJECTS:
            wanted, before = {}, 0
            for name, fits in regions.items():
                lines = self.lines_of(object_id, fits)
                if len(lines) > before and (len(lines) >= POOL_MIN or name == "all"):
                    wanted[name], before = lines, len(lines)
            found = {pool.name: pool for pool in self.holders.pools(object_id, consumer, near)}
            assert list(found) == list(wanted)
            for name, pool in found.items():
                assert pool.lines == len(wanted[name])
                drawn = list(self.holders.drawn(object_id, pool, self.random.random))
                assert len({key for key, _ in drawn}) == len(drawn) == pool.lines
                devices = [device for _, device in drawn]
                assert {self.model[device][0] or device for device in devices if device} == wanted[name]
                assert all(device and object_id in self.model[device][2] for device in devices)


TestIndex = Index.TestCase
TestIndex.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)


def test_of_many_holders_some_are_drawn_all_equally_often() -> None:
    holders, numbers = Holders(), random.Random(7)
    for number in range(500):
        device = f"fd-{number}"
        holders.join(device, Place(number % 5, "DE"), None)
        holders.hold(device, frozenset({OBJECTS[0]}))
    seen = [0] * 500
    for _ in range(1000):
        (pool,) = (one for one in holders.pools(OBJECTS[0], NOWHERE) if one.name == "all")
        drawn = [device for _, device in holders.drawn(OBJECTS[0], pool, numbers.random)]
        assert len(set(drawn)) == DRAWN_MAX
        for device in drawn:
            assert device is not None
            seen[int(device.removeprefix("fd-"))] += 1
    assert min(seen) > 30  # 64 on average
    assert max(seen) < 110


def test_a_line_counts_once_and_its_devices_take_turns() -> None:
    holders, numbers = Holders(), random.Random(3)
    for number in range(40):
        holders.join(f"swarm-{number}", Place(1, "DE"), "line-c")
        holders.hold(f"swarm-{number}", frozenset({OBJECTS[0]}) if number % 2 else frozenset())
    holders.join("honest", Place(1, "DE"), "line-h")
    holders.hold("honest", frozenset({OBJECTS[0]}))
    first = []
    for _ in range(400):
        (pool,) = holders.pools(OBJECTS[0], Place(1, "DE"))
        assert pool.lines == 2
        first.append(next(holders.drawn(OBJECTS[0], pool, numbers.random))[1])
    assert 150 < first.count("honest") < 250
    assert len(set(first)) == 21
