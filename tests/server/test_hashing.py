"""Consistent hashing with bounded loads."""

from __future__ import annotations

import math

from fallow_server.scheduling.hashing import LOAD_FACTOR, Ring
from hypothesis import given, settings
from hypothesis import strategies as st

STEPS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["place", "place", "release"]), st.integers(0, 60)),
        st.tuples(st.sampled_from(["add", "remove"]), st.integers(0, 9)),
    ),
    max_size=120,
)


@settings(max_examples=150, deadline=None)
@given(STEPS)
def test_no_device_is_given_more_than_its_bound(steps: list[tuple[str, int]]) -> None:
    ring = Ring()
    placed: dict[str, str] = {}
    devices: set[str] = set()
    for step, number in steps:
        key, device = f"key-{number}", f"fd-{number}"
        if step == "add":
            ring.add(device)
            devices.add(device)
        elif step == "remove":
            lost = {one for one, at in placed.items() if at == device}
            assert ring.remove(device) == lost
            devices.discard(device)
            for one in lost:
                del placed[one]
        elif step == "release":
            ring.release(key)
            placed.pop(key, None)
        else:
            found = ring.place(key)
            assert (found is None) == (not devices)
            if found is not None and key in placed:
                assert found == placed[key]
            elif found is not None:
                placed[key] = found
                assert ring.load(found) <= math.ceil(LOAD_FACTOR * len(placed) / len(devices))
        assert {key: ring.device_of(key) for key in placed} == placed
        assert len(ring) == len(devices)


def test_keys_spread_and_few_move() -> None:
    ring = Ring()
    for number in range(100):
        ring.add(f"fd-{number}")
    keys = [f"key-{number}" for number in range(2000)]
    before = {key: ring.place(key) for key in keys}
    assert max(ring.load(f"fd-{number}") for number in range(100)) <= 25
    lost = ring.remove("fd-7")
    assert lost == {key for key, device in before.items() if device == "fd-7"}
    assert all(ring.device_of(key) == before[key] for key in keys if key not in lost)
    for key in keys:
        ring.place(key)
    moved = sum(ring.device_of(key) != before[key] for key in keys)
    assert moved == len(lost) <= 25
    assert max(ring.load(f"fd-{number}") for number in range(100)) <= 26


def test_what_does_not_fit_is_passed_over() -> None:
    ring = Ring()
    for number in range(5):
        ring.add(f"fd-{number}")
    first = ring.place("key")
    assert first is not None
    second = ring.place("key", lambda device: device != first)
    assert second not in (None, first)
    assert ring.load(first) == 0
    assert ring.place("key") == second
    assert ring.place("key", lambda device: False) is None
    assert ring.device_of("key") is None


def test_two_rings_agree() -> None:
    one, other = Ring(), Ring()
    for number in range(20):
        one.add(f"fd-{number}")
        other.add(f"fd-{19 - number}")
    assert [one.place(f"k{n}") for n in range(50)] == [other.place(f"k{n}") for n in range(50)]
