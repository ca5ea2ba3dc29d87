"""The download's machine: no chunk is lost, no window is exceeded, it always ends."""

from __future__ import annotations

import pytest
from fallow_client.fetch_plan import (
    ORIGIN,
    Abort,
    Command,
    Config,
    Failure,
    Fetch,
    FetchPlan,
    Finish,
    GiveUp,
    Replan,
    TicketSource,
)
from fallow_wire.tickets import unacknowledged_bytes_max
from hypothesis import given, settings
from hypothesis import strategies as st

MIB = 1024 * 1024
FAR_MS = 900_000


def ticket(key: str, device: str | None = None, max_bytes: int = 2**40, until_ms: int = FAR_MS) -> TicketSource:
    return TicketSource(key, device or f"fd-{key}", max_bytes, until_ms)


def fetches(commands: list[Command]) -> list[Fetch]:
    return [command for command in commands if isinstance(command, Fetch)]


def machine_of(chunks: int, *sources: TicketSource, config: Config | None = None, now_ms: int = 0) -> FetchPlan:
    machine = FetchPlan(chunks * MIB, MIB, config=config)
    machine.planned(sources, now_ms)
    return machine


def check(machine: FetchPlan) -> None:
    """The machine does not contradict itself."""
    pending = set(machine._pending)
    for chunk in range(machine.chunk_count):
        assert bool(machine._done[chunk]) + (chunk in pending) + (chunk in machine._active) == 1, f"chunk {chunk}"
    assert len(pending) == len(machine._pending)
    assert all(active.requests for active in machine._active.values())
    assert sum(len(active.requests) for active in machine._active.values()) == len(machine._requests)
    for source in (*machine._devices.values(), machine._origin):
        requests = list(machine._requests.values())
        assert source.in_flight == sum(request.source is source for request in requests), source.key
        assert source.requested >= source.confirmed, f"{source.key} brought more than it was asked for"
        if source is not machine._origin:
            assert source.requested - source.confirmed <= unacknowledged_bytes_max(source.confirmed), source.key


def test_an_empty_object_is_finished_at_once() -> None:
    assert FetchPlan(0, MIB).poll(0) == [Finish()]


def test_a_new_ticket_is_asked_for_two_steps_and_then_for_what_receipts_allow() -> None:
    machine = machine_of(100, ticket("a"))
    first = fetches(machine.poll(0))
    assert [command.chunk for command in first] == [0, 1]
    assert machine.poll(1) == []
    machine.verified(first[0].request, 100)
    assert len(fetches(machine.poll(101))) == 1
    assert machine.unconfirmed("a") == 2 * MIB


def test_the_window_grows_with_what_was_confirmed_up_to_the_depth() -> None:
    machine = machine_of(200, ticket("a"), config=Config(requests_per_source_max=16))
    active = fetches(machine.poll(0))
    widest = 0
    for step in range(150):
        machine.verified(active.pop(0).request, step * 10)
        active += fetches(machine.poll(step * 10))
        widest = max(widest, len(active))
    assert widest == 16  # two steps of 8 MiB, after 64 MiB and more were confirmed


def test_a_ticket_is_not_asked_for_more_than_it_allows_and_a_new_plan_is_wanted_then() -> None:
    machine = machine_of(4, ticket("a", max_bytes=2 * MIB))
    for command in fetches(machine.poll(0)):
        machine.verified(command.request, 10)
    assert machine.poll(3000) == [Replan()]


def test_chunks_spread_over_devices_and_the_origin_is_left_alone() -> None:
    machine = machine_of(8, ticket("a"), ticket("b"), ticket("c"))
    assert [command.source for command in fetches(machine.poll(0))] == ["a", "b", "c", "a", "b"]


def test_the_origin_serves_when_there_is_no_device() -> None:
    machine = machine_of(2)
    assert {command.source for command in fetches(machine.poll(0))} == {ORIGIN}


def test_a_wrong_chunk_bans_the_device_for_later_plans_too() -> None:
    machine = machine_of(3, ticket("a"))
    command = fetches(machine.poll(0))[0]
    machine.failed(command.request, Failure.WRONG, 1)
    machine.planned([ticket("a2", "fd-a"), ticket("b")], 2)
    assert {command.source for command in fetches(machine.poll(2))} == {"b"}


def test_a_refused_request_leaves_the_window_as_it_was() -> None:
    machine = machine_of(3, ticket("a"))
    for command in fetches(machine.poll(0)):
        machine.failed(command.request, Failure.BUSY, 1, retry_after_ms=3000)
    assert machine.unconfirmed("a") == 0
    assert {command.source for command in fetches(machine.poll(2))} == {ORIGIN}
    assert fetches(machine.poll(4000)) != []


def test_at_the_end_a_slow_chunk_is_asked_of_another_and_the_first_answer_counts() -> None:
    machine = machine_of(2, ticket("slow"), ticket("fast"))
    slow, fast = fetches(machine.poll(0))
    machine.answered(slow.request, 50)
    machine.began(slow.request, 50)
    machine.verified(fast.request, 200)
    assert machine.poll(900) == []
    (hedge,) = fetches(machine.poll(1100))
    assert (hedge.source, hedge.chunk) == ("fast", slow.chunk)
    assert machine.verified(hedge.request, 1300) == [Abort(slow.request)]
    assert machine.poll(1301) == [Finish()]
    assert machine.verified(slow.request, 1302) == []


def test_a_single_slow_device_is_helped_by_the_origin_in_the_end() -> None:
    machine = machine_of(1, ticket("slow"))
    (asked,) = fetches(machine.poll(0))
    machine.answered(asked.request, 20)
    assert machine.poll(3999) == []
    assert [command.source for command in fetches(machine.poll(4000))] == [ORIGIN]


def test_with_many_sources_each_is_asked_for_one_chunk_first_where_consumers_begin_with_it() -> None:
    sources = [TicketSource(f"t{n}", f"fd-{n}", 2**40, FAR_MS, first_chunk=5 * n) for n in range(4)]
    machine = machine_of(20, *sources, config=Config(requests_max=4))
    assert [command.chunk for command in fetches(machine.poll(0))] == [0, 5, 10, 15]


def in_part(name: str, first: int, chunks: int) -> TicketSource:
    return TicketSource(name, f"fd-{name}", 2**40, FAR_MS, first_chunk=first, chunks=chunks)


def test_devices_that_hold_it_in_part_are_asked_for_their_stripes() -> None:
    config = Config(requests_first=8, help_permille=0, help_chunks_min=0)
    sources = [in_part(name, 2 * number, 2) for number, name in enumerate("abcd")]
    machine = machine_of(8, *sources, config=config)
    asked = fetches(machine.poll(0))
    assert sorted((one.source, one.chunk) for one in asked) == [
        ("a", 0), ("a", 1), ("b", 2), ("b", 3), ("c", 4), ("c", 5), ("d", 6), ("d", 7),
    ]  # fmt: skip
    check(machine)


def test_a_chunk_of_nobody_here_is_asked_for_when_nothing_else_is_under_way() -> None:
    config = Config(help_permille=0, help_chunks_min=0)
    machine = machine_of(4, in_part("a", 0, 2), in_part("b", 0, 2), config=config)
    asked = fetches(machine.poll(0))
    assert sorted(one.chunk for one in asked) == [0, 1]
    machine.verified(asked[0].request, 100)
    assert fetches(machine.poll(100)) == []
    machine.verified(asked[1].request, 200)
    far = fetches(machine.poll(200))
    assert [one.chunk for one in far] == [2]
    # One at a time: each has to leave the origin for us alone.
    machine.verified(far[0].request, 300)
    assert [one.chunk for one in fetches(machine.poll(300))] == [3]


def test_at_the_end_only_a_device_that_is_for_the_chunk_is_asked_too_until_that_takes_too_long() -> None:
    config = Config(help_permille=0, help_chunks_min=0)
    machine = machine_of(2, in_part("a", 0, 2), in_part("other", 1, 1), config=config)
    asked = {one.chunk: one for one in fetches(machine.poll(0))}
    assert (asked[0].source, asked[1].source) == ("a", "other")
    for one in asked.values():
        machine.answered(one.request, 10)
    machine.began(asked[1].request, 20)
    machine.verified(asked[1].request, 1000)
    assert machine.poll(config.far_after_ms - 1) == []
    assert [(one.source, one.chunk) for one in fetches(machine.poll(config.far_after_ms))] == [("other", 0)]


def test_before_the_end_too_a_chunk_that_waits_is_asked_of_an_idle_device_a_few_at_once() -> None:
    config = Config(requests_first=2, requests_min=2, ties_early_max=1, help_permille=0, help_chunks_min=0)
    machine = machine_of(50, *(ticket(str(number)) for number in range(6)), config=config)
    first, second = fetches(machine.poll(0))
    for one in (first, second):
        machine.answered(one.request, 10)
    assert machine.poll(1999) == []
    (tied,) = fetches(machine.poll(2000))
    assert tied.chunk == first.chunk
    assert tied.source not in (first.source, second.source)
    machine.answered(tied.request, 2010)
    assert machine.poll(4000) == []
    assert machine.began(tied.request, 4100) == [Abort(first.request)]
    assert machine.unconfirmed(first.source) == 0
    check(machine)
    # The one that goes on still counts until it is there; then the other that waits has its turn.
    machine.verified(tied.request, 5000)
    again = fetches(machine.poll(5000))
    assert second.chunk in [one.chunk for one in again] or len(again) == 1
    check(machine)


def test_a_device_that_is_too_busy_for_a_second_request_is_no_worse_for_it() -> None:
    config = Config(requests_first=1, requests_min=1, ties_early_max=1, help_permille=0, help_chunks_min=0)
    machine = machine_of(50, ticket("a"), ticket("b"), config=config)
    (waits,) = fetches(machine.poll(0))
    machine.answered(waits.request, 10)
    for round_ in range(5):
        now_ms = 2000 + 10_000 * round_
        (tied,) = fetches(machine.poll(now_ms))
        assert tied.source == "b"
        machine.failed(tied.request, Failure.BUSY, now_ms + 10, 3000)
        check(machine)
        assert machine.poll(now_ms + 2000) == []
    assert machine.unconfirmed("b") == 0
    machine.verified(waits.request, 60_000)
    assert {one.source for one in fetches(machine.poll(60_000))} <= {"a", "b"}


def test_where_devices_hold_it_in_part_the_origin_helps_at_the_end_alone() -> None:
    config = Config(help_permille=0, help_in_part_permille=200, requests_first=2, requests_min=2)
    machine = machine_of(10, in_part("a", 0, 10), in_part("b", 0, 10), config=config)
    active, now_ms, helped_at = fetches(machine.poll(0)), 0, 0
    while not helped_at:
        for one in active:
            machine.answered(one.request, now_ms + 10)
            machine.began(one.request, now_ms + 1500)
        now_ms += 5000
        for one in active:
            machine.verified(one.request, now_ms)
        active = fetches(machine.poll(now_ms))
        helped_at = now_ms if ORIGIN in [one.source for one in active] else 0
        check(machine)
    assert helped_at == 15_000  # six are there, two asked for, and two left


def crowd_machine(waited_ms: int, rounds: int, config: Config | None = None) -> FetchPlan:
    """After so many chunks of each request that is under way, for whose first byte we waited so long."""
    config = config or Config(help_permille=0, help_chunks_min=0)
    machine = machine_of(200, *(ticket(str(n)) for n in range(16)), config=config)
    now_ms = 0
    active = fetches(machine.poll(now_ms))
    for _ in range(rounds):
        for command in active:
            machine.answered(command.request, now_ms + 20)
            assert machine.began(command.request, now_ms + 20 + waited_ms) == []
        now_ms += 900 + waited_ms
        for command in active:
            machine.verified(command.request, now_ms)
        active = fetches(machine.poll(now_ms))
        check(machine)
    return machine


def test_few_requests_are_under_way_first_and_more_where_nobody_lets_them_wait() -> None:
    assert [crowd_machine(0, rounds).in_flight for rounds in range(4)] == [5, 10, 20, 20]


def test_where_devices_let_requests_wait_there_are_fewer_but_never_one_alone() -> None:
    assert crowd_machine(0, 1).in_flight == 10
    grown = Config(requests_first=8, help_permille=0, help_chunks_min=0)
    assert crowd_machine(500, 3, grown).in_flight == 8
    assert crowd_machine(5000, 1, grown).in_flight == Config().requests_min
    assert crowd_machine(5000, 5, grown).in_flight == Config().requests_min
    assert crowd_machine(26_000, 7, grown).in_flight == 1


def test_at_the_end_a_chunk_that_waits_is_asked_of_an_idle_device_too_and_whichever_begins_goes_on() -> None:
    for first in (0, 1):
        machine = machine_of(2, ticket("a"), ticket("b"), ticket("c"))
        waiting, other = fetches(machine.poll(0))
        machine.answered(waiting.request, 10)
        machine.answered(other.request, 10)
        assert machine.began(other.request, 20) == []
        assert machine.poll(400) == []
        (tied,) = fetches(machine.poll(600))
        assert (tied.chunk, tied.source) == (waiting.chunk, "c")
        both = (waiting, tied)
        assert machine.began(both[first].request, 700) == [Abort(both[1 - first].request)]
        assert machine.unconfirmed(both[1 - first].source) == 0  # it sent nothing, so there is nothing to confirm
        check(machine)
        assert machine.verified(both[first].request, 1500) == []
        machine.verified(other.request, 1500)
        assert machine.poll(1501) == [Finish()]


def test_the_origin_helps_beside_the_requests_that_wait_where_all_devices_are_slow() -> None:
    machine = machine_of(50, *(ticket(str(n)) for n in range(16)))
    active = fetches(machine.poll(0))
    for command in active:
        machine.answered(command.request, 20)
        machine.began(command.request, 4000)
    machine.verified(active[0].request, 5000)
    assert [command.source for command in fetches(machine.poll(5000))] == ["5", ORIGIN]
    check(machine)


def test_a_silent_device_is_passed_over_after_two_round_trips_and_once_in_a_while_only() -> None:
    far = TicketSource("far", "fd-far", 2**40, FAR_MS, rtt_ms=400)
    machine = machine_of(3, far, config=Config(requests_max=4, help_permille=0, help_chunks_min=1))
    first, second = fetches(machine.poll(0))
    assert machine.poll(799) == []
    (help_,) = fetches(machine.poll(800))
    assert (help_.source, help_.chunk) == (ORIGIN, first.chunk)
    # The share is used up: however silent the device is, the origin is left in peace.
    assert machine.poll(3000) == []
    assert [type(one) for one in machine.verified(help_.request, 3100)] == [Abort]
    assert ORIGIN not in [command.source for command in fetches(machine.poll(3900))]
    machine.answered(second.request, 4000)
    check(machine)


def test_a_device_in_a_silent_ones_place_costs_nothing_of_the_origins_help() -> None:
    machine = machine_of(2, ticket("a"), ticket("b"), config=Config(requests_first=1, help_permille=0))
    (first,) = fetches(machine.poll(0))
    (instead,) = fetches(machine.poll(300))
    assert (instead.chunk, {first.source, instead.source}) == (first.chunk, {"a", "b"})
    machine.answered(instead.request, 310)
    machine.began(instead.request, 20_000)  # a crowd: it had others to serve
    assert ORIGIN in [command.source for command in fetches(machine.poll(20_001))]
    check(machine)


def test_an_origin_that_cannot_help_now_is_not_at_fault_and_is_asked_again() -> None:
    machine = machine_of(1, ticket("a"), config=Config(help_chunks_min=1))
    machine.poll(0)
    for attempt in range(20):
        (help_,) = fetches(machine.poll(1000 + 3000 * attempt))
        assert help_.source == ORIGIN
        machine.failed(help_.request, Failure.BUSY, 1001 + 3000 * attempt, retry_after_ms=2000)
        assert machine.poll(1500 + 3000 * attempt) == []
        check(machine)


def test_where_all_devices_are_slow_the_origin_takes_its_share_one_chunk_at_a_time() -> None:
    config = Config(help_permille=100, replan_ms_min=FAR_MS)
    machine = machine_of(30, ticket("a"), ticket("b"), config=config)
    helped = 0
    for turn in range(40):
        commands = fetches(machine.poll(5000 * turn))
        for command in commands:
            machine.answered(command.request, 5000 * turn + 10)
        origin = [command for command in commands if command.source == ORIGIN]
        assert len(origin) <= 1
        helped += len(origin)
        for command in commands:
            machine.verified(command.request, 5000 * turn + 4900)
        check(machine)
        if machine.finished:
            break
    assert machine.finished
    assert helped == 3


def test_output_in_order_is_not_run_ahead_of() -> None:
    machine = machine_of(50, ticket("a"), ticket("b"), config=Config(ahead_chunks_max=3))
    active = fetches(machine.poll(0))
    assert [command.chunk for command in active] == [0, 1, 2]
    machine.verified(active[1].request, 10)
    assert machine.poll(11) == []
    machine.verified(active[0].request, 12)
    assert [command.chunk for command in fetches(machine.poll(13))] == [3, 4]


def test_expiring_tickets_are_replaced_in_time() -> None:
    machine = machine_of(50, ticket("a", until_ms=45_000))
    for command in fetches(machine.poll(0)):
        machine.verified(command.request, 10)
    assert machine.poll(45_000) == [Replan()]
    machine.planned([ticket("b", until_ms=600_000)], 45_100)
    assert {command.source for command in fetches(machine.poll(45_100))} == {"b"}


def test_barren_plans_come_later_and_later() -> None:
    machine = machine_of(10_000)
    asked_at = []
    for now_ms in range(0, 400_000, 250):
        for command in machine.poll(now_ms):
            if isinstance(command, Replan):
                asked_at.append(now_ms)
                machine.planned([], now_ms)
    assert asked_at == [2000, 10_000, 42_000, 170_000]


def test_an_origin_that_keeps_sending_one_wrong_chunk_ends_it() -> None:
    machine = machine_of(2)
    now_ms = 0
    for _ in range(50):
        for command in machine.poll(now_ms):
            if isinstance(command, GiveUp):
                return
            if isinstance(command, Replan):
                machine.replan_failed(now_ms)
            elif isinstance(command, Fetch) and command.chunk == 0:
                machine.failed(command.request, Failure.WRONG, now_ms)
            elif isinstance(command, Fetch):
                machine.verified(command.request, now_ms)
        now_ms += 10_000
    pytest.fail("it went on for ever")


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_whatever_sources_do_no_chunk_is_lost_and_it_ends(data: st.DataObject) -> None:
    chunks = data.draw(st.integers(0, 30), "chunks")
    tail = data.draw(st.integers(1, MIB), "tail")
    size = max(0, (chunks - 1) * MIB + tail) if chunks else 0
    held = data.draw(st.sets(st.integers(0, max(0, chunks - 1)), max_size=chunks), "held") if chunks else set()
    ahead = data.draw(st.none() | st.integers(1, 8), "ahead")
    config = Config(requests_max=data.draw(st.integers(1, 8), "requests"), ahead_chunks_max=ahead)
    machine = FetchPlan(size, MIB, held, config)
    serial = iter(range(10_000))

    def plan(now_ms: int) -> None:
        devices = data.draw(st.lists(st.integers(0, 4), max_size=4, unique=True), "devices")
        offered = [
            ticket(
                f"t{next(serial)}",
                f"fd-{device}",
                data.draw(st.integers(0, 12), "allowed") * MIB,
                now_ms + data.draw(st.integers(1, 60)) * 1000,
            )
            for device in devices
        ]
        machine.planned(offered, now_ms)

    now_ms = 0
    plan(now_ms)
    verified: set[int] = set(held)
    wrong_devices = 0
    active: dict[int, Fetch] = {}
    for turn in range(3000):
        check(machine)
        commands = machine.poll(now_ms)
        for command in commands:
            if isinstance(command, Fetch):
                active[command.request] = command
                chunk_asks = sum(other.chunk == command.chunk for other in active.values())
                assert command.chunk not in verified
                assert chunk_asks <= config.ties_max
                if data.draw(st.booleans(), "a head"):
                    machine.answered(command.request, now_ms)
                if ahead is not None:
                    missing = next(c for c in range(chunks) if c not in verified)
                    assert command.chunk < missing + ahead
            elif isinstance(command, Abort):
                raise AssertionError("poll aborts nothing")
        check(machine)
        if active and turn < 300 and data.draw(st.booleans(), "a first byte"):
            for abort in machine.began(data.draw(st.sampled_from(sorted(active)), "of"), now_ms):
                del active[abort.request]
        check(machine)
        assert len(active) == machine.in_flight <= config.requests_max
        if Finish() in commands:
            assert verified == set(range(chunks))
            return
        if GiveUp() in commands:
            assert not active
            return
        if Replan() in commands:
            if data.draw(st.booleans(), "replan works"):
                plan(now_ms)
            else:
                machine.replan_failed(now_ms)
        now_ms += data.draw(st.sampled_from([1, 250, 3000]), "later") if turn < 300 else 3000
        if active and (turn >= 300 or data.draw(st.booleans(), "an answer")):
            number = data.draw(st.sampled_from(sorted(active)), "which") if turn < 300 else min(active)
            command = active.pop(number)
            outcome = data.draw(st.sampled_from([None, None, None, *Failure]), "outcome") if turn < 300 else None
            if outcome is None:
                verified.add(command.chunk)
                for abort in machine.verified(number, now_ms):
                    assert isinstance(abort, Abort)
                    del active[abort.request]
            else:
                wrong_devices += outcome is Failure.WRONG
                machine.failed(number, outcome, now_ms)
    raise AssertionError("it did not end")


def test_what_a_source_was_asked_for_in_vain_before_it_began_is_taken_off_its_window() -> None:
    machine = machine_of(1, ticket("a"), ticket("b"), ticket("c"))
    (first,) = fetches(machine.poll(0))
    machine.answered(first.request, 10)
    (tied,) = fetches(machine.poll(600))
    assert machine.verified(tied.request, 5000) == [Abort(first.request)]
    assert (machine.unconfirmed(first.source), machine.unconfirmed(tied.source)) == (0, 0)
    check(machine)


def test_who_has_begun_goes_on_though_another_begins() -> None:
    machine = machine_of(1, ticket("a"), ticket("b"), ticket("c"))
    (first,) = fetches(machine.poll(0))
    machine.answered(first.request, 10)
    (tied,) = fetches(machine.poll(600))
    assert machine.began(tied.request, 700) == [Abort(first.request)]
    (third,) = fetches(machine.poll(20_000))  # it sends, but takes too long
    assert machine.began(third.request, 20_100) == []
    assert machine.verified(third.request, 21_000) == [Abort(tied.request)]
    assert machine.unconfirmed(tied.source) == MIB  # some of it was sent, and is never confirmed
    check(machine)


def test_a_chunk_that_nobody_begins_with_is_asked_of_one_device_more_every_two_seconds() -> None:
    machine = machine_of(1, *(ticket(name) for name in "abcdef"))
    asked = fetches(machine.poll(0))
    for now_ms in range(100, 10_000, 100):
        for command in fetches(machine.poll(now_ms)):
            assert now_ms - machine._requests[asked[-1].request].since_ms >= (500 if len(asked) == 1 else 2000)
            asked.append(command)
        machine.answered(asked[-1].request, now_ms)
    assert len({command.source for command in asked}) == len(asked) == Config().ties_max
    assert machine.began(asked[2].request, 10_000) == [Abort(asked[number].request) for number in (0, 1, 3)]
    check(machine)


def test_a_queue_that_was_long_is_not_held_against_a_device_for_good() -> None:
    machine = machine_of(4, ticket("a"), ticket("b"), ticket("c"), config=Config(requests_first=2, requests_max=2))
    slow, quick = fetches(machine.poll(0))
    for command, waited_ms in ((slow, 20_000), (quick, 12_000)):
        machine.answered(command.request, 0)
        machine.began(command.request, waited_ms)
    machine.verified(quick.request, 20_000)  # it sent for 8 s, the other for 4
    machine.verified(slow.request, 24_000)
    # By then the queue that stood before the slow one is gone, and it is the faster one.
    sources = {one.key: one for one in machine._devices.values()}
    assert sources[slow.source].expected_ms(24_000) > sources[quick.source].expected_ms(24_000)
    assert sources[slow.source].expected_ms(60_000) < sources[quick.source].expected_ms(60_000)


def test_a_device_that_breaks_off_before_its_first_byte_has_its_window_back() -> None:
    machine = machine_of(2, ticket("a"), config=Config(failures_max=9))
    now_ms = 0
    for _ in range(4):
        for command in fetches(machine.poll(now_ms)):
            if command.source == "a":
                machine.answered(command.request, now_ms + 10)
                machine.failed(command.request, Failure.BROKEN, now_ms + 14_000)
        assert machine.unconfirmed("a") == 0
        check(machine)
        now_ms += 60_000


def test_silent_devices_that_hold_it_in_part_do_not_keep_a_small_object_from_the_origin() -> None:
    machine = machine_of(4, in_part("a", 0, 4), in_part("b", 0, 4))
    asked = fetches(machine.poll(0))
    for now_ms in range(100, 5000, 100):
        asked += fetches(machine.poll(now_ms))
    assert ORIGIN in [command.source for command in asked]
    check(machine)


def test_a_device_with_a_ticket_of_an_older_plan_too_is_asked_once_for_a_chunk() -> None:
    machine = machine_of(1, ticket("a1", "fd-a"), ticket("b1", "fd-b"))
    (first,) = fetches(machine.poll(0))
    machine.answered(first.request, 10)
    (tied,) = fetches(machine.poll(600))
    machine.answered(tied.request, 610)
    machine.planned([ticket("a2", "fd-a"), ticket("b2", "fd-b")], 700)
    assert fetches(machine.poll(5000)) == []
    check(machine)
