"""Placement over columns: what it must never do, and how near to the best it comes."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

import numpy as np
import pytest
from fallow_server.scheduling.booking import asked_share, bookable_bytes
from fallow_server.scheduling.columns import HOURS, Copies, Fleet, Objects, Pairs
from fallow_server.scheduling.placement import Config, Plan, place, wanted_replicas
from hypothesis import given, settings
from hypothesis import strategies as st

MB = 10**6
CONFIG = Config(copies_max=500)
FREE = replace(CONFIG, overrun_price=0, fill_price=0, disk_price=0, often_requests=1e9)
"""Copies cost nothing, so that a plan's value is what it serves."""


@dataclass(frozen=True)
class Given:
    fleet: Fleet
    objects: Objects
    copies: Copies
    refused: Pairs

    def placed(self, config: Config = CONFIG, seed: int = 1) -> Plan:
        return place(self.fleet, self.objects, self.copies, config, seed, self.refused)


def pairs(found: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([one for one, _ in found], np.int32), np.array([device for _, device in found], np.int32)


def fleet_of(
    forecast_bps: list[float],
    *,
    fit: list[bool] | None = None,
    home: list[int] | None = None,
    region: list[int] | None = None,
    room: list[int] | None = None,
    online: list[float] | None = None,
) -> Fleet:
    count = len(forecast_bps)
    return Fleet(
        fit=np.array(fit or [True] * count),
        home=np.array(home or range(count), np.int32),
        region=np.array(region or [0] * count, np.int32),
        room_bytes=np.array(room or [1000 * MB] * count, np.int64),
        quota_bytes=np.full(count, 1000 * MB, np.int64),
        waiting_bytes=np.zeros(count, np.int64),
        online_share=np.array(online or [1.0] * count, np.float32),
        forecast_up_bps=np.repeat(np.array(forecast_bps, np.float32)[:, None], HOURS, axis=1),
    )


def objects_of(
    sizes: list[int],
    demand: list[list[tuple[int, float]]],
    *,
    replicas: list[int] | None = None,
    nearness: list[list[float]] | None = None,
) -> Objects:
    """``demand``: of each object, regions with bytes asked for in each hour."""
    rows = [row for of_object in demand for row in of_object]
    return Objects(
        size_bytes=np.array(sizes, np.int64),
        replicas=np.array(replicas or [0] * len(sizes), np.int32),
        first_row=np.array([0, *itertools.accumulate(map(len, demand))], np.int32),
        region=np.array([region for region, _ in rows], np.int32),
        demand_bytes=np.repeat(np.array([asked for _, asked in rows], np.float32)[:, None], HOURS, axis=1),
        nearness=np.array(nearness or [[1.0, 0.8], [0.8, 1.0]], np.float32),
    )


def given_of(
    fleet: Fleet,
    objects: Objects,
    copies: list[tuple[int, int]] | None = None,
    refused: list[tuple[int, int]] | None = None,
) -> Given:
    held, by = pairs(copies or [])
    return Given(fleet, objects, Copies(held, by, np.ones(len(held), np.bool_)), Pairs(*pairs(refused or [])))


@st.composite
def anything(draw: st.DrawFn) -> Given:
    devices, objects = draw(st.integers(0, 12)), draw(st.integers(0, 6))
    chance = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    quota = chance.integers(0, 200 * MB, devices)
    rows = chance.integers(0, 4, objects)
    held = sorted(
        {
            (int(one), int(device))
            for one, device in zip(
                chance.integers(0, max(1, objects), 10), chance.integers(0, max(1, devices), 10), strict=True
            )
            if objects and devices
        }
    )
    split = int(chance.integers(0, len(held) + 1))
    held_object, held_device = pairs(held[:split])
    return Given(
        Fleet(
            fit=chance.random(devices) < 0.7,
            home=chance.integers(0, max(1, devices), devices).astype(np.int32),
            region=chance.integers(0, 3, devices).astype(np.int32),
            room_bytes=(quota * chance.random(devices)).astype(np.int64),
            quota_bytes=quota.astype(np.int64),
            waiting_bytes=chance.integers(0, 50 * MB, devices),
            online_share=chance.random(devices).astype(np.float32),
            forecast_up_bps=(chance.random((devices, HOURS)) * draw(st.sampled_from([0, 1e5, 1e7]))).astype(np.float32),
        ),
        Objects(
            size_bytes=chance.integers(1, 80 * MB, objects),
            replicas=chance.integers(0, 4, objects).astype(np.int32),
            first_row=np.concatenate(([0], np.cumsum(rows))).astype(np.int32),
            region=chance.integers(0, 3, rows.sum()).astype(np.int32),
            demand_bytes=(chance.random((rows.sum(), HOURS)) * draw(st.sampled_from([0, 1e6, 1e9]))).astype(np.float32),
            nearness=np.clip(chance.random((3, 3)) + np.eye(3), 0, 1).astype(np.float32),
        ),
        Copies(held_object, held_device, chance.random(split) < 0.5),
        Pairs(*pairs(held[split:])),
    )


@given(anything())
@settings(max_examples=200, deadline=None)
def test_a_plan_keeps_to_what_devices_allow(case: Given) -> None:
    plan = case.placed()
    fills = list(zip(plan.fill_object.tolist(), plan.fill_device.tolist(), strict=True))
    has = set(zip(case.copies.object.tolist(), case.copies.device.tolist(), strict=True))
    failed = set(zip(case.refused.object.tolist(), case.refused.device.tolist(), strict=True))
    assert len(set(fills)) == len(fills)
    assert not set(fills) & (has | failed)
    assert all(case.fleet.fit[device] for _, device in fills)
    taken = np.zeros(len(case.fleet), np.int64)
    np.add.at(taken, plan.fill_device, case.objects.size_bytes[plan.fill_object])
    assert (taken <= case.fleet.room_bytes)[np.unique(plan.fill_device)].all()
    # Nothing is booked beyond the share, or demand beyond what is asked.
    bookable = bookable_bytes(case.fleet.forecast_up_bps, CONFIG.booked_share)
    slack = 1 + bookable * 1e-5
    assert (plan.books.left >= -slack).all()
    assert (plan.books.left <= bookable + slack).all()
    assert (plan.books.wanted >= -slack.max(initial=1)).all()
    assert (plan.books.wanted <= case.objects.demand_bytes * 1.00001).all()


@given(anything())
@settings(max_examples=100, deadline=None)
def test_the_minimum_comes_first_and_is_met_while_there_is_room(case: Given) -> None:
    plan = case.placed()
    wanted = wanted_replicas(case.objects, CONFIG)
    have = np.bincount(case.copies.object, minlength=len(case.objects)) + np.bincount(
        plan.fill_object, minlength=len(case.objects)
    )
    assert (plan.unplaced == np.maximum(0, wanted - have)).all()
    assert sorted(plan.minimum.tolist(), reverse=True) == plan.minimum.tolist()
    taken = np.bincount(plan.fill_device, case.objects.size_bytes[plan.fill_object], len(case.fleet))
    made = set(zip(plan.fill_object.tolist(), plan.fill_device.tolist(), strict=True))
    kept = set(zip(case.copies.object.tolist(), case.copies.device.tolist(), strict=True)) | set(
        zip(case.refused.object.tolist(), case.refused.device.tolist(), strict=True)
    )
    for one in np.flatnonzero(plan.unplaced):
        for device in range(len(case.fleet)):
            free = case.fleet.room_bytes[device] - taken[device] >= case.objects.size_bytes[one]
            assert not (case.fleet.fit[device] and free and (int(one), device) not in made | kept)


@given(anything(), st.integers(0, 2**32 - 1))
@settings(max_examples=50, deadline=None)
def test_the_same_seed_gives_the_same_plan(case: Given, seed: int) -> None:
    config = replace(CONFIG, looked_at_min=3, looked_at_max=6)
    first, second = case.placed(config, seed), case.placed(config, seed)
    assert first.fill_object.tolist() == second.fill_object.tolist()
    assert first.fill_device.tolist() == second.fill_device.tolist()
    assert first.drop_device.tolist() == second.drop_device.tolist()


@given(anything())
@settings(max_examples=100, deadline=None)
def test_drops_leave_what_is_wanted(case: Given) -> None:
    plan = case.placed()
    settled = case.copies.object[case.copies.settled]
    kept = np.bincount(settled, minlength=len(case.objects)) - np.bincount(
        plan.drop_object, minlength=len(case.objects)
    )
    wanted = np.minimum(wanted_replicas(case.objects, CONFIG), np.bincount(settled, minlength=len(case.objects)))
    assert (kept >= wanted).all()
    has = set(zip(settled.tolist(), case.copies.device[case.copies.settled].tolist(), strict=True))
    assert set(zip(plan.drop_object.tolist(), plan.drop_device.tolist(), strict=True)) <= has


# ------------------------------------------------------------------ near the best


def worth(case: Given, made: list[tuple[int, int]], config: Config = CONFIG) -> float:
    """Bytes that a placement serves, each copy booked in the order given."""
    wanted = case.objects.demand_bytes.astype(np.float64)
    left = bookable_bytes(case.fleet.forecast_up_bps, config.booked_share).astype(np.float64)
    asked = asked_share(case.objects, config)
    total = 0.0
    for one, device in made:
        able = left[device] * asked[one]
        rows = range(case.objects.first_row[one], case.objects.first_row[one + 1])
        region = case.fleet.region[device]
        for row in sorted(rows, key=lambda row: -case.objects.nearness[region, case.objects.region[row]]):
            taken = np.minimum(wanted[row], able)
            able -= taken
            left[device] -= taken
            wanted[row] -= taken * case.fleet.online_share[device]
            near = case.objects.nearness[region, case.objects.region[row]]
            total += float(case.fleet.online_share[device] * near * taken.sum())
    return total


def best_gain(case: Given, made: list[tuple[int, int]], config: Config) -> float:
    """Of all further copies, each reckoned anew."""
    before = worth(case, made, config)
    gains = [
        worth(case, [*made, pair], config) - before
        for pair in itertools.product(range(len(case.objects)), range(len(case.fleet)))
        if pair not in made
    ]
    return max(gains, default=0)


@st.composite
def uneven(draw: st.DrawFn) -> Given:
    """Devices and demand that differ by the hour."""
    chance = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    devices, objects = draw(st.integers(1, 5)), draw(st.integers(1, 3))
    rows = [[(region, 1.0) for region in range(int(chance.integers(1, 3)))] for _ in range(objects)]
    fleet = fleet_of(
        [1.0] * devices,
        region=chance.integers(0, 2, devices).tolist(),
        online=chance.uniform(0.5, 1, devices).tolist(),
    )
    given_objects = objects_of(chance.integers(1, 200 * MB, objects).tolist(), rows)
    forecast = chance.uniform(1e3, 3e4, (devices, 1)) * chance.uniform(0.2, 1, (devices, HOURS))
    asked = chance.uniform(0, 9 * MB, (len(given_objects.region), HOURS))
    return given_of(
        replace(fleet, forecast_up_bps=forecast.astype(np.float32)),
        replace(given_objects, demand_bytes=asked.astype(np.float32)),
    )


@given(uneven())
@settings(max_examples=60, deadline=None)
def test_each_step_is_the_best_one(case: Given) -> None:
    made = _fills(case.placed(FREE))
    slack = 1e-5 * case.objects.demand_bytes.sum()
    for step, pair in enumerate(made):
        gain = worth(case, [*made[:step], pair], FREE) - worth(case, made[:step], FREE)
        assert gain >= best_gain(case, made[:step], FREE) - slack
    assert best_gain(case, made, FREE) <= slack


@given(uneven(), st.integers(1, 3))
@settings(max_examples=60, deadline=None)
def test_the_greedy_serves_what_theory_promises(case: Given, count: int) -> None:
    """Half of the best, where copies share devices, and with one object (1 − 1/e) of it (Nemhauser and others)."""
    config = replace(FREE, copies_max=count)
    made = _fills(case.placed(config))
    every = list(itertools.product(range(len(case.objects)), range(len(case.fleet))))
    best = max(
        worth(case, list(order), config)
        for some in itertools.combinations(every, min(count, len(every)))
        for order in itertools.permutations(some)
    )
    promised = 1 - 1 / np.e if len(case.objects) == 1 else 0.5
    assert worth(case, made, config) >= promised * best * (1 - 1e-4)


def test_a_seldom_consumer_wants_as_many_lines_as_a_frequent_one() -> None:
    """One film a day, at 10 Mbit/s while it lasts: three lines of 4 Mbit/s, though one could send as many bytes."""
    film = 2_000 * MB
    fleet = replace(fleet_of([4e6] * 6, room=[10 * film] * 6), quota_bytes=np.full(6, 10 * film, np.int64))
    objects = objects_of([film], [[(0, film / HOURS)]])
    whole = replace(FREE, consumer_bps=0)
    assert len(_fills(given_of(fleet, objects).placed(whole))) == 1
    lasting = given_of(fleet, objects).placed(replace(FREE, consumer_bps=10e6))
    assert len(_fills(lasting)) == 3
    # They are booked with what is served, and not with what is there to serve it.
    booked = (lasting.books.bookable - lasting.books.left).sum()
    assert booked == pytest.approx(film, rel=1e-3)


def test_the_share_in_which_somebody_asks() -> None:
    """Of consumers that come by chance, each at 10 Mbit/s: 1 − exp(−the mean number of them)."""
    mbit_s = 3600 * 10**6 / 8
    objects = objects_of([2_000 * MB, 2_000 * MB, 3 * MB], [[(0, 10 * mbit_s)], [], [(0, 0.8 * mbit_s)]])
    shares = asked_share(objects, Config(consumer_bps=10e6, consumer_s_min=30))[:, 0]
    # The small one is wanted at 0.8 Mbit/s, its 3 MB within half a minute.
    assert shares == pytest.approx([1 - np.exp(-1), 0, 1 - np.exp(-1)], rel=1e-5)


def _fills(plan: Plan) -> list[tuple[int, int]]:
    return list(zip(plan.fill_object.tolist(), plan.fill_device.tolist(), strict=True))
