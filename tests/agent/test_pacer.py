"""The pacer: shares, what the sockets are told, and the bytes that really pass."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from fallow_agent.line import pacer as module
from fallow_agent.line.pacer import SO_MAX_PACING_RATE, UNPACED, Pacer, payload_bytes_per_s
from hypothesis import given
from hypothesis import strategies as st
from support import PATIENCE_S


def nothing() -> None:
    pass


@contextmanager
def sockets(count: int) -> Iterator[list[socket.socket]]:
    """Unconnected TCP sockets: enough for options."""
    made = [socket.socket() for _ in range(count)]
    try:
        yield made
    finally:
        for sock in made:
            sock.close()


@contextmanager
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """A TCP connection over the loopback: who sends, who receives."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        sender = socket.create_connection(listener.getsockname())
        receiver = listener.accept()[0]
    with sender, receiver:
        yield sender, receiver


def filled(sender: socket.socket) -> int:
    """Bytes that the socket has taken, until it took no more."""
    taken = 0
    sender.setblocking(False)
    while True:
        try:
            taken += sender.send(bytes(100_000))
        except BlockingIOError:
            return taken


def told(sock: socket.socket) -> int:
    raw = sock.getsockopt(socket.SOL_SOCKET, SO_MAX_PACING_RATE, 4)
    return int(struct.unpack("=I", raw)[0])


kernel_only = pytest.mark.skipif(not Pacer().by_kernel, reason="this kernel does not pace")


def test_a_share_is_payload_without_headers() -> None:
    assert payload_bytes_per_s(8 * 1046, 1) == 1000
    assert payload_bytes_per_s(8 * 1046, 4) == 250
    assert payload_bytes_per_s(100, 0) == 11


@kernel_only
def test_equal_shares_follow_comings_goings_and_the_rate() -> None:
    async def run() -> None:
        with sockets(3) as (a, b, c):
            pacer = Pacer()
            pacer.set_rate(8 * 1_046_000)
            first = pacer.join(a, nothing)
            assert told(a) == 1_000_000
            second = pacer.join(b, nothing)
            # Nothing is left until the budget is divided anew, and the kernel would hold the transfer up for longer.
            assert (second.allowance(1000, 0.0), told(b)) == (0, UNPACED)
            pacer.set_rate(8 * 1_046_000)  # divides at once, as the timer would
            assert (told(a), told(b)) == (500_000, 500_000)
            pacer.set_rate(8 * 523_000)
            assert (told(a), told(b)) == (250_000, 250_000)
            first.leave()
            first.leave()
            pacer.set_rate(8 * 523_000)
            assert told(b) == 500_000
            assert pacer.transfers == 1
            pacer.set_rate(0)
            assert told(b) == module.PACED_BYTES_PER_S_MIN  # never 0, which the kernel takes for no limit
            pacer.join(c, nothing)
            assert told(c) == UNPACED  # as above
            pacer.set_rate(8 * 1_046_000)
            assert told(c) == told(b) == 500_000

    asyncio.run(run())


@kernel_only
def test_others_are_divided_by_the_timer() -> None:
    async def run() -> None:
        with sockets(2) as (a, b):
            pacer = Pacer()
            pacer.set_rate(8 * 1_046_000)
            pacer.join(a, nothing)
            pacer.join(b, nothing)
            assert told(a) == 1_000_000
            while told(a) != 500_000:  # noqa: ASYNC110 - the kernel's option has no event
                await asyncio.sleep(0)

    asyncio.run(run())


@kernel_only
def test_a_large_share_leaves_the_kernel_and_comes_back() -> None:
    async def run() -> None:
        with sockets(1) as (a,):
            pacer = Pacer()
            pacer.set_rate(10**10)
            share = pacer.join(a, nothing)
            assert told(a) == UNPACED
            pacer.set_rate(8 * 1_046_000)
            assert told(a) == 1_000_000
            assert share.allowance(10**9, 0.0) == module.SLICE_BYTES_MAX
            pacer.set_rate(10**10)
            assert told(a) == UNPACED

    asyncio.run(run())


def test_zero_gives_nothing_and_rising_wakes() -> None:
    async def run() -> None:
        for by_kernel in (True, False):
            with sockets(1) as (a,):
                woken: list[int] = []
                pacer = Pacer(by_kernel=by_kernel and Pacer().by_kernel)
                share = pacer.join(a, lambda woken=woken: woken.append(1))  # type: ignore[misc]
                assert (share.allowance(100, 5.0), share.delay_s(100)) == (0, None)
                pacer.set_rate(10**6)
                assert woken == [1]
                assert share.allowance(100, 5.0) == 100
                pacer.set_rate(0)
                assert share.allowance(100, 99.0) == 0

    asyncio.run(run())


@given(
    st.integers(10**5, 10**9),
    st.lists(st.tuples(st.integers(1, 10**6), st.floats(0, 0.05, allow_nan=False)), min_size=1, max_size=40),
)
def test_the_bucket_never_gives_more_than_rate_and_one_burst(rate_bps: int, steps: list[tuple[int, float]]) -> None:
    async def run() -> None:
        with sockets(1) as (a,):
            pacer = Pacer(by_kernel=False)
            pacer.set_rate(rate_bps)
            now, given_bytes = 1000.0, 0
            per_s = payload_bytes_per_s(rate_bps, 1)
            burst = max(module.BURST_BYTES_MIN, per_s * module.BURST_S)
            for wanted, passed in steps:
                share = pacer.join(a, nothing)  # each a new transfer on the same socket, which must gain nothing
                now += passed
                allowed = share.allowance(wanted, now)
                assert 0 <= allowed <= wanted
                if not allowed:
                    delay = share.delay_s(wanted)
                    assert delay is not None
                    now += delay + 1e-9
                    allowed = share.allowance(wanted, now)
                    assert allowed > 0
                share.sent(allowed)
                given_bytes += allowed
                share.leave()
                assert given_bytes <= burst + per_s * (now - 1000.0) + 1

    asyncio.run(run())


def send_for(pacer: Pacer, rate_bps: int, size: int) -> float:
    """Seconds that ``size`` bytes take through a real connection, sent as the service port sends them."""

    async def run(sender: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        pacer.prepare(sender)
        pacer.set_rate(rate_bps)
        share = pacer.join(sender, nothing)
        view = memoryview(bytes(size))
        while view:
            allowed = share.allowance(len(view), loop.time())
            if not allowed:
                await asyncio.sleep(share.delay_s(len(view)) or 0)
                continue
            await loop.sock_sendall(sender, view[:allowed])
            share.sent(allowed)
            view = view[allowed:]
        share.leave()
        # The queue still drains, at the pace.
        sender.shutdown(socket.SHUT_WR)

    took: list[float] = []

    def receive(receiver: socket.socket) -> None:
        import time

        began = time.monotonic()
        while receiver.recv(1 << 20):
            pass
        took.append(time.monotonic() - began)

    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()) as sender:
        receiver, _ = listener.accept()
        with receiver:
            sender.setblocking(False)
            thread = threading.Thread(target=receive, args=(receiver,))
            thread.start()
            asyncio.run(run(sender))
            thread.join()
    return took[0]


@pytest.mark.parametrize("make", [Pacer, lambda: Pacer(by_kernel=False)], ids=["kernel", "bucket"])
def test_real_bytes_keep_the_rate(make: Callable[[], Pacer]) -> None:
    # 4 MB at 4 MB/s of payload: a second, less the kernel's first ten packets, which are never paced and have up to
    # 64 KiB each on the loopback, or the bucket's first burst.
    assert send_for(make(), 8 * 1_046_000 * 4, 4_000_000) > 0.75


@kernel_only
def test_what_was_sent_is_what_the_kernel_put_on_the_wire() -> None:
    async def run() -> None:
        with pair() as (sender, receiver):
            pacer = Pacer()
            pacer.prepare(sender)
            pacer.set_rate(10**9)
            started: list[int] = []
            pacer.on_start = lambda: started.append(1)
            share = pacer.join(sender, nothing)
            assert started == [1]
            assert pacer.wire_bytes(0.0) == 0
            # The receiver does not read: part of it waits in our socket, and is not on the wire yet.
            taken = 0
            sender.setblocking(False)
            while True:
                try:
                    count = sender.send(bytes(100_000))
                except BlockingIOError:
                    break
                share.sent(count)
                taken += count
            on_wire = pacer.wire_bytes(1.0)
            assert 0 < on_wire < taken
            share.leave()
            receiver.settimeout(PATIENCE_S)
            left = taken
            while left:
                left -= len(receiver.recv(left))
            assert taken < pacer.wire_bytes(2.0) < taken * 1.2
            assert pacer.wire_bytes(3.0) == pacer.wire_bytes(4.0)

    asyncio.run(run())


@kernel_only
def test_an_ended_transfer_keeps_its_part_until_its_socket_is_empty() -> None:
    async def run() -> None:
        with pair() as (sender, receiver), sockets(2) as (other, newcomer):
            pacer = Pacer()
            pacer.prepare(sender)
            pacer.set_rate(8 * 1_046_000)
            pacer.join(other, nothing)
            share = pacer.join(sender, nothing)
            taken = filled(sender)
            share.leave()
            assert pacer.transfers == 1
            pacer.set_rate(8 * 1_046_000)
            assert (told(other), told(sender)) == (500_000, 500_000)
            pacer.set_rate(8 * 104_600)  # the household wants the line: what still drains gives way too
            assert (told(other), told(sender)) == (50_000, 50_000)
            pacer.set_rate(10**9)
            # Somebody new gets its part or, until it is divided anew, nothing: a crumb would hold the kernel up.
            assert pacer.join(newcomer, nothing).allowance(1000, 0.0) == 0
            receiver.settimeout(PATIENCE_S)
            while taken:
                taken -= len(receiver.recv(taken))
            pacer.set_rate(8 * 1_046_000)
            assert told(other) == told(newcomer) == 500_000

    asyncio.run(run())


@kernel_only
def test_the_part_of_an_ended_transfer_is_the_others_as_soon_as_its_socket_is_empty() -> None:
    async def run() -> None:
        with pair() as (sender, receiver), sockets(1) as (other,):
            pacer = Pacer()
            pacer.prepare(sender)
            pacer.set_rate(8 * 10 * 1_046_000)
            share = pacer.join(sender, nothing)
            pacer.join(other, nothing)
            taken = filled(sender)
            share.leave()
            while told(other) != 5_000_000:  # noqa: ASYNC110 - the kernel's option has no event
                await asyncio.sleep(0)
            receiver.setblocking(False)
            loop = asyncio.get_running_loop()
            async with asyncio.timeout(PATIENCE_S):
                while taken:
                    taken -= len(await loop.sock_recv(receiver, taken))
                while told(other) != 10_000_000:  # noqa: ASYNC110 - as above; nobody sets the rate anew
                    await asyncio.sleep(0.001)

    asyncio.run(run())


@kernel_only
def test_what_a_closed_socket_still_had_to_send_is_counted_at_the_budgets_rate() -> None:
    async def run() -> None:
        with pair() as (sender, _):
            pacer = Pacer()
            pacer.set_rate(8 * 1000)
            share = pacer.join(sender, nothing)
            sender.setblocking(False)
            try:
                while True:
                    share.sent(sender.send(bytes(100_000)))
            except BlockingIOError:
                pass
            share.leave()
            before = pacer.wire_bytes(10.0)
            sender.close()
            assert pacer.wire_bytes(11.0) == before + 1000
            assert pacer.wire_bytes(12.0) == before + 2000

    asyncio.run(run())


def test_without_the_kernels_word_what_was_handed_over_counts_with_headers() -> None:
    async def run() -> None:
        with pair() as (sender, _):
            pacer = Pacer(by_kernel=False)
            pacer.set_rate(10**6)
            pacer.join(sender, nothing).sent(1000)
            assert pacer.wire_bytes(1.0) == 1046

    asyncio.run(run())
