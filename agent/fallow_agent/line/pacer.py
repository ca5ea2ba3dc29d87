"""The upload budget, shared equally by the transfers under way.

Where the kernel can (Linux 4.13 and newer), each socket gets its share as ``SO_MAX_PACING_RATE``: TCP itself spaces
the packets, and a new rate counts at once, also for what is queued already. Elsewhere, and for shares that no
household would feel, a token bucket hands out slices, so that no burst is longer than 10 ms of the share. Queues are
kept short with ``TCP_NOTSENT_LOWAT``, because what a socket has queued is no longer ours to hold back.

The pacer also knows what its sockets really sent. What ``sendfile`` took may wait in a socket for 100 ms; counted as
sent, it would look as if the household paused and then burst. So the kernel is asked (:mod:`.tcp_info`).
"""

from __future__ import annotations

import asyncio
import socket
import struct
import weakref
from collections.abc import Callable

from fallow_wire.errors import LocalError

from .tcp_info import Sent, sent_by

SO_MAX_PACING_RATE = 47
TCP_NOTSENT_LOWAT = 25

WIRE_PERMILLE = 1046
"""1448 bytes of payload travel as 1514 on Ethernet (TCP with timestamps, IPv4)."""
QUEUED_BYTES_MAX = 256 * 1024
"""Not yet sent bytes per socket: half of it is a slice that still amortises the wake-up for it."""
KERNEL_BYTES_PER_S_MAX = 50_000_000
"""400 Mbit/s for one transfer. There both ways take the same processor time; above, the kernel's timer for each packet
train soon costs more than sending it, and 10 ms are a burst that such a line carries."""
UNPACED = 2**32 - 1
PACED_BYTES_PER_S_MIN = 1000
"""The kernel takes 0 for no pacing at all; a share of 0 is kept by not sending."""
BURST_S = 0.010
BURST_BYTES_MIN = 1448
"""One packet, or slow shares would never send."""
SLICE_BYTES_MAX = 512 * 1024
DIVIDE_INTERVAL_S = 0.05
"""Comings and goings are gathered for so long: with many small transfers, each start and end would else cost a system
call for every other transfer. Until then a newcomer has what the others leave: a crowd that comes at one instant,
such as for a chunk that has just arrived, would else burst into the line."""

DRAINED_S_MIN = 0.010
"""Sockets of ended transfers are not looked at more often."""


def payload_bytes_per_s(rate_bps: int, transfers: int) -> int:
    """One transfer's share of ``rate_bps`` on the wire, in payload bytes per second."""
    return rate_bps * 1000 // (8 * WIRE_PERMILLE * max(1, transfers))


class Share:
    """One socket's part of the budget. Ask :meth:`allowance` before each slice; :meth:`leave` when a transfer ends.

    It outlives the transfer with its socket, so that many small transfers in a row get no more than a large one.
    """

    def __init__(self, pacer: Pacer, sock: socket.socket) -> None:
        self.wake: Callable[[], None] = _nothing
        self._pacer = pacer
        self._socket = weakref.ref(sock)
        self._bytes_per_s = -1
        self._by_kernel = False
        self._tokens = float("inf")
        self._refilled_at = 0.0
        self.counted = sent_by(sock) if pacer.by_kernel else None
        """What the kernel said last; None where it does not tell."""

    def allowance(self, wanted: int, now: float) -> int:
        """Bytes that may be sent now, out of ``wanted``; 0 means to wait :meth:`delay_s` or for ``wake``.

        :param now: monotonic seconds.
        """
        if self._bytes_per_s <= 0:
            return 0
        wanted = min(wanted, SLICE_BYTES_MAX)
        if self._by_kernel:
            return wanted
        burst = self._burst()
        self._tokens = min(burst, self._tokens + (now - self._refilled_at) * self._bytes_per_s)
        self._refilled_at = now
        # Crumbs would cost a system call each: all that is wanted, or a full burst.
        return int(min(wanted, burst)) if self._tokens >= min(wanted, burst) else 0

    @property
    def bytes_per_s(self) -> int:
        """Its part of the budget, payload; 0 before it has one."""
        return max(0, self._bytes_per_s)

    def delay_s(self, wanted: int) -> float | None:
        """Seconds until :meth:`allowance` gives something, or None while the budget is 0."""
        if self._bytes_per_s <= 0:
            return None
        return max(0.0, (min(wanted, SLICE_BYTES_MAX, self._burst()) - self._tokens) / self._bytes_per_s)

    def sent(self, count: int) -> None:
        self._tokens -= count
        if self.counted is None:
            self._pacer.add_sent(count * WIRE_PERMILLE // 1000)

    def sent_now(self) -> Sent | None:
        """What the kernel has sent; None when the socket is closed. For :class:`Pacer`."""
        sock = self._socket()
        return None if sock is None or sock.fileno() < 0 else sent_by(sock)

    def leave(self) -> None:
        """The transfer has ended; its part goes to the others as soon as its socket is empty. Idempotent."""
        self.wake = _nothing
        self._pacer.remove(self)

    def _burst(self) -> float:
        return max(BURST_BYTES_MIN, self._bytes_per_s * BURST_S)

    def hold(self) -> None:
        """Nothing may be sent until a rate comes. For :class:`Pacer`.

        The kernel, which has nothing of the transfer yet, is told nothing: a lowered rate stays until something has
        been acknowledged at it, 1.5 s later.
        """
        self._bytes_per_s = 0

    def apply(self, bytes_per_s: int) -> None:
        """Take a new rate. For :class:`Pacer`."""
        if bytes_per_s == self._bytes_per_s:
            return
        was_stopped = self._bytes_per_s == 0
        self._bytes_per_s = bytes_per_s
        sock = self._socket()
        if sock is not None and sock.fileno() >= 0 and self._pacer.by_kernel:
            paced_before, self._by_kernel = self._by_kernel, bytes_per_s <= KERNEL_BYTES_PER_S_MAX
            if self._by_kernel or paced_before:
                rate = max(PACED_BYTES_PER_S_MIN, bytes_per_s) if self._by_kernel else UNPACED
                sock.setsockopt(socket.SOL_SOCKET, SO_MAX_PACING_RATE, struct.pack("=I", rate))
        if was_stopped:
            self.wake()


class Pacer:
    """Divides one budget. Rates in bit/s on the wire; it starts at 0, which sends nothing."""

    def __init__(self, *, by_kernel: bool | None = None) -> None:
        """:param by_kernel: None asks the kernel once."""
        self.by_kernel = _kernel_paces() if by_kernel is None else by_kernel
        self._rate_bps = 0
        self._shares: dict[Share, None] = {}
        self._draining: dict[Share, None] = {}
        """Of ended transfers whose sockets still send what they took, up to a quarter of a chunk at the pace of a
        share. They keep their part until then, or all together would send more than the budget."""
        self._by_socket: weakref.WeakKeyDictionary[socket.socket, Share] = weakref.WeakKeyDictionary()
        self._timer: asyncio.TimerHandle | None = None
        self._drained: asyncio.TimerHandle | None = None
        self._sent_bytes = 0
        self._counted: dict[Share, None] = {}
        """Transfers under way, and ended ones whose sockets still send."""
        self._waiting_bytes = 0
        """In sockets that were closed before they had sent it."""
        self._waiting_since = 0.0
        self.on_start: Callable[[], None] = _nothing
        """Called when a transfer begins while there was none."""

    @property
    def rate_bps(self) -> int:
        return self._rate_bps

    @property
    def transfers(self) -> int:
        """Transfers under way."""
        return len(self._shares)

    def set_rate(self, bps: int) -> None:
        """The budget from now on; 0 makes every transfer wait."""
        if bps < 0:
            raise LocalError("a budget is 0 or more")
        self._rate_bps = bps
        self._divide()

    def prepare(self, sock: socket.socket) -> None:
        """Keep the queue of a new connection short."""
        if self.by_kernel:
            sock.setsockopt(socket.IPPROTO_TCP, TCP_NOTSENT_LOWAT, QUEUED_BYTES_MAX)

    def join(self, sock: socket.socket, wake: Callable[[], None]) -> Share:
        """A transfer on ``sock`` begins. ``wake`` is called when a budget of 0 has risen."""
        share = self._by_socket.get(sock)
        if share is None:
            share = self._by_socket[sock] = Share(self, sock)
        share.wake = wake
        if not self._shares:
            self.on_start()
        goes_on = share in self._draining
        self._draining.pop(share, None)
        self._shares[share] = None
        if share.counted is not None:
            self._counted[share] = None
        if not goes_on:
            given = sum(other.bytes_per_s for other in (*self._shares, *self._draining) if other is not share)
            left, part = payload_bytes_per_s(self._rate_bps, 1) - given, self._part()
            # Its part or nothing: after each packet the kernel waits for as long as that takes at the rate of then.
            if left >= part > 0:
                share.apply(part)
            else:
                share.hold()
        self._divide_soon()
        return share

    def remove(self, share: Share) -> None:
        """For :meth:`Share.leave`."""
        if share in self._shares:
            del self._shares[share]
            self._count(share)  # now: nobody can be asked about it once it is closed
            if share.counted is not None and share.counted.waiting_bytes:
                self._draining[share] = None
            self._divide_soon()

    def add_sent(self, wire_bytes: int) -> None:
        """For :meth:`Share.sent`."""
        self._sent_bytes += wire_bytes

    def wire_bytes(self, now: float) -> int:
        """Bytes that all transfers have put on the wire since the start, with headers and what was sent twice.

        :param now: monotonic seconds.
        """
        draining = len(self._draining)
        for share in tuple(self._counted):
            self._count(share)
        if len(self._draining) < draining:
            self._divide_soon()
        # After the look at them: what was closed since the last one had been sending until then.
        elapsed, self._waiting_since = max(0.0, now - self._waiting_since), now
        drained = min(self._waiting_bytes, int(self._rate_bps / 8 * elapsed))
        self._waiting_bytes -= drained
        self._sent_bytes += drained
        return self._sent_bytes

    def _count(self, share: Share) -> None:
        before, sent = share.counted, share.sent_now()
        if before is None:
            return
        if sent is None:
            # Nobody can be asked about a closed socket; it goes on at about the rate that it had.
            self._waiting_bytes += before.waiting_bytes * WIRE_PERMILLE // 1000
        else:
            self._sent_bytes += sent.wire_bytes - before.wire_bytes
            share.counted = sent
        if sent is None or (sent.waiting_bytes == 0 and share not in self._shares):
            self._counted.pop(share, None)
            self._draining.pop(share, None)

    def queueing_ms(self) -> float | None:
        """What our own packets wait, as of the last :meth:`wire_bytes`; None where nobody can tell.

        The least of all transfers: a queue of our line is in the way of each, a queue elsewhere is not.
        """
        waits = [share.counted.queueing_ms for share in self._shares if share.counted is not None]
        return min(waits, default=None)

    def _divide_soon(self) -> None:
        if self._timer is None and self._shares:
            self._timer = asyncio.get_running_loop().call_later(DIVIDE_INTERVAL_S, self._divide)

    def _divide(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for share in tuple(self._draining):
            self._count(share)
        part = self._part()
        for share in (*self._shares, *self._draining):
            share.apply(part)
        self._look_again()

    def _look_again(self) -> None:
        """When the first socket of an ended transfer is likely to be empty, if anybody else is there to get its part.
        Where its consumer has stopped to read it is not, and whoever divides next looks again."""
        if self._drained is not None:
            self._drained.cancel()
            self._drained = None
        counted = ((share.counted, share.bytes_per_s) for share in self._draining)
        waits_s = [sent.waiting_bytes / rate for sent, rate in counted if sent is not None and rate > 0]
        if waits_s and self._shares:
            delay_s = max(DRAINED_S_MIN, min(waits_s))
            self._drained = asyncio.get_running_loop().call_later(delay_s, self._divide_drained)

    def _divide_drained(self) -> None:
        draining = tuple(self._draining)
        for share in draining:
            self._count(share)
        if len(self._draining) < len(draining):
            self._divide()

    def _part(self) -> int:
        return payload_bytes_per_s(self._rate_bps, len(self._shares) + len(self._draining))


def _nothing() -> None:
    pass


def _kernel_paces() -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        try:
            probe.setsockopt(socket.SOL_SOCKET, SO_MAX_PACING_RATE, struct.pack("=I", UNPACED - 1))
            probe.setsockopt(socket.IPPROTO_TCP, TCP_NOTSENT_LOWAT, QUEUED_BYTES_MAX)
        except OSError:
            return False
    return True
