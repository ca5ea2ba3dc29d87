"""Placement and routing as scripts of values."""

from __future__ import annotations

from dataclasses import replace

from device_views import device
from fallow_server.scheduling import filters
from fallow_server.scheduling.assignment import assign
from fallow_server.scheduling.filters import Config, Request, explain, placement_refusal, routing_refusal, url_for
from fallow_server.scheduling.routing import assumed_bps
from fallow_server.scheduling.scores import score
from fallow_server.scheduling.views import Demand, DeviceView
from hypothesis import given, settings
from hypothesis import strategies as st

OBJECT = "a" * 64
MIB = 2**20
CONFIG = Config()


def demand(replicas: int = 2, size: int = 100 * MIB, **changes: object) -> Demand:
    return replace(Demand("t", OBJECT, size, replicas), **changes)  # type: ignore[arg-type]


def test_each_placement_filter_gives_its_own_reason() -> None:
    bad = {
        filters.HELD: device(held=frozenset({OBJECT})),
        filters.UNREACHABLE: device(service_urls=()),
        filters.PAUSED: device(state="paused"),
        filters.SERVICE_OFF: device(services=frozenset({"live"})),
        filters.STALE: device(heartbeat_age_s=46),
        filters.NO_DISK: device(disk_free_bytes=100 * MIB),
        filters.TOO_HOT: device(temperature_c=81),
        filters.PROCESSOR_BUSY: device(spare_percent=1),
        filters.LINE_TOO_SLOW: device(forecast_idle_up_bps=(10,) * 24),
    }
    for reason, view in bad.items():
        assert placement_refusal(view, demand(), CONFIG) == reason
    assert placement_refusal(device(7), demand(excluded=frozenset({device(7).device_id})), CONFIG) == "failed-before"
    assert placement_refusal(device(), demand(), CONFIG) is None
    assert explain(bad.values(), demand(), CONFIG) == dict.fromkeys(sorted(bad), 1)


def test_each_routing_filter_gives_its_own_reason() -> None:
    held = frozenset({OBJECT})
    request = Request(OBJECT, family="ipv4")
    bad = {
        filters.NOT_HELD: device(),
        filters.UNREACHABLE: device(held=held, service_urls=()),
        filters.OTHER_FAMILY: device(held=held, service_urls=("http://[2001:db8::1]:32557",)),
        filters.PAUSED: device(held=held, state="paused"),
        filters.SERVICE_OFF: device(held=held, services=frozenset()),
        filters.STALE: device(held=held, heartbeat_age_s=100),
        filters.FULL: device(held=held, connections=90, routed_requests=10),
        filters.LINE_BUSY: device(held=held, routed_bps=14_800_000),
    }
    for reason, view in bad.items():
        assert routing_refusal(view, request, CONFIG) == reason
    assert routing_refusal(device(1, held=held), request, CONFIG) is None


def test_a_consumer_gets_an_address_of_its_own_family() -> None:
    both = device(service_urls=("http://203.0.113.5:1", "http://[2001:db8::1]:2"))
    assert url_for(both, "ipv4") == "http://203.0.113.5:1"
    assert url_for(both, "ipv6") == "http://[2001:db8::1]:2"
    assert url_for(device(), "ipv6") == "http://203.0.113.5:32557"
    assert url_for(device(service_urls=("http://a.example:1",)), "ipv4") == "http://a.example:1"


def test_copies_go_to_the_best_of_different_homes_first() -> None:
    fast_twin = device(2, owner="owner-1", forecast_idle_up_bps=(90_000_000,) * 24)
    fast = device(1, forecast_idle_up_bps=(95_000_000,) * 24)
    slow = device(3, forecast_idle_up_bps=(1_000_000,) * 24)
    chosen = [a.device_id for a in assign([demand(2)], [slow, fast_twin, fast], CONFIG)]
    assert chosen == [fast.device_id, slow.device_id]
    chosen = [a.device_id for a in assign([demand(3)], [slow, fast_twin, fast], CONFIG)]
    assert chosen == [fast.device_id, slow.device_id, fast_twin.device_id]


def test_an_owner_that_has_a_copy_counts() -> None:
    held = device(1, held=frozenset({OBJECT}))
    again = demand(1, holders=frozenset({held.device_id}), owners=frozenset({"owner-1"}))
    twin = device(2, owner="owner-1", forecast_idle_up_bps=(90_000_000,) * 24)
    assert [a.device_id for a in assign([again], [held, twin, device(3)], CONFIG)] == [device(3).device_id]


def test_a_round_spreads_over_equals() -> None:
    devices = [device(n) for n in range(10)]
    demands = [Demand(f"t{n}", f"{n:064x}", 50 * MIB, 1) for n in range(10)]
    assert len({a.device_id for a in assign(demands, devices, CONFIG)}) == 10


def test_bytes_under_way_count_against_the_disk() -> None:
    view = device(committed_bytes=950 * MIB)
    assert placement_refusal(view, demand(size=40 * MIB), CONFIG) == filters.NO_DISK
    assert score(device(committed_bytes=500 * MIB), MIB).value < score(device(), MIB).value


def test_a_small_object_takes_little_of_the_line() -> None:
    assert assumed_bps(15_000, 15, 10_000_000) == 8_000
    assert assumed_bps(10**12, 15, 10_000_000) == 10_000_000


views = st.builds(
    device,
    st.integers(0, 30),
    owner=st.sampled_from(["a", "b", "c"]),
    state=st.sampled_from(["active", "active", "paused"]),
    heartbeat_age_s=st.integers(0, 90),
    service_urls=st.sampled_from([("http://203.0.113.5:1",), ("http://203.0.113.6:1",), ()]),
    disk_free_bytes=st.integers(0, 300 * MIB),
    committed_bytes=st.integers(0, 100 * MIB),
    own_up_bps=st.integers(0, 30_000_000),
    held=st.sampled_from([frozenset(), frozenset({OBJECT})]),
)
demands_of = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 80 * MIB)), max_size=8)


@settings(max_examples=150, deadline=None)
@given(st.lists(views, max_size=12, unique_by=lambda v: v.device_id), demands_of)
def test_assignment_never_breaks_a_filter_or_a_disk(devices: list[DeviceView], wanted: list[tuple[int, int]]) -> None:
    demands = [Demand(f"t{n}", f"{n:064x}", size, replicas) for n, (replicas, size) in enumerate(wanted)]
    by_id = {view.device_id: view for view in devices}
    taken: dict[str, int] = {}
    pairs = set()
    counts: dict[str, int] = {}
    for found in assign(demands, devices, CONFIG):
        wish = demands[int(found.task_id[1:])]
        assert placement_refusal(by_id[found.device_id], wish, CONFIG) is None
        taken[found.device_id] = taken.get(found.device_id, 0) + found.size_bytes
        assert (found.task_id, found.device_id) not in pairs
        pairs.add((found.task_id, found.device_id))
        counts[found.task_id] = counts.get(found.task_id, 0) + 1
    for device_id, size in taken.items():
        assert size + CONFIG.disk_reserve_bytes <= by_id[device_id].disk_room_bytes
    for wish in demands:
        assert counts.get(wish.task_id, 0) <= wish.replicas
