"""What was sent, and what was confirmed, under one ticket. Pure.

Countersigned: every byte sent counts, and never more than two steps go beyond the last receipt. Legacy: nobody
confirms, so only distinct bytes count, and a ticket pays for no byte twice.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right

from fallow_wire.errors import Malformed
from fallow_wire.tickets import Receipt, Ticket, unacknowledged_bytes_max

SPANS_MAX = 1024
"""Separate pieces that are remembered per legacy ticket; bytes of further ones are sent but not counted."""
RESENT_FACTOR = 3
"""A legacy ticket lets its holder fetch the same bytes again (a player seeks, a download starts over), so often."""
RESENT_BYTES_MIN = 4 * 2**20
"""For small objects, whose headers are read over and over."""


class Spans:
    """Distinct bytes as sorted, disjoint spans [start, end)."""

    def __init__(self, spans: tuple[tuple[int, int], ...] = ()) -> None:
        self._starts = [start for start, _ in spans]
        self._ends = [end for _, end in spans]
        self.total = sum(end - start for start, end in spans)

    def as_tuple(self) -> tuple[tuple[int, int], ...]:
        return tuple(zip(self._starts, self._ends, strict=True))

    def missing(self, start: int, end: int) -> int:
        """Bytes of [start, end) that are not in here yet."""
        low = bisect_left(self._ends, start)
        high = bisect_right(self._starts, end)
        held = sum(max(0, min(end, self._ends[i]) - max(start, self._starts[i])) for i in range(low, high))
        return end - start - held

    def add(self, start: int, end: int) -> None:
        """Join [start, end) in; ignored when it would be one separate piece too many."""
        if start >= end:
            return
        low = bisect_left(self._ends, start)
        high = bisect_right(self._starts, end)
        if low == high and len(self._starts) >= SPANS_MAX:
            return
        self.total += self.missing(start, end)
        if low < high:
            start, end = min(start, self._starts[low]), max(end, self._ends[high - 1])
        self._starts[low:high] = [start]
        self._ends[low:high] = [end]


class Account:
    """One ticket's account while it is open. Times in Unix seconds, durations in ms.

    Invariants: ``receipt_bytes <= sent_bytes_max`` and, countersigned,
    ``sent_bytes <= receipt_bytes + unacknowledged_bytes_max(receipt_bytes)``.
    """

    def __init__(self, ticket: Ticket, token: str, now: int) -> None:
        self.ticket = ticket
        self.token = token
        self.countersigned = ticket.tier == "countersigned"
        self.sent_bytes = 0
        """Every byte sent since the program started, and for countersigned tickets before it."""
        self.sent_bytes_max = 0
        """The most that may have been sent: more than ``sent_bytes`` after a crash, when the last count was lost."""
        self.spans = Spans()
        self.receipt: str | None = None
        self.receipt_n = 0
        self.receipt_bytes = 0
        self.started_at = now
        self.touched_at = now
        self.transfers = 0
        self.saved = False
        """True once the outbox holds it."""
        self.dirty = False
        """True while the outbox holds less than is known here."""
        self._served_ms = 0
        self._busy_since_ms = 0

    def resume(
        self,
        *,
        sent: int,
        ms: int,
        started_at: int,
        touched_at: int,
        receipt: tuple[str, int, int] | None,
        spans: tuple[tuple[int, int], ...],
    ) -> None:
        """Continue where the saved account stood. ``receipt`` is its token, ``n`` and ``bytes``."""
        self.saved = True
        self._served_ms, self.started_at, self.touched_at = ms, started_at, touched_at
        if receipt is not None:
            self.receipt, self.receipt_n, self.receipt_bytes = receipt
        if self.countersigned:
            self.sent_bytes = max(sent, self.receipt_bytes)
            # Bytes sent within the last second before a crash were not saved. The window bounds them, and their
            # receipt is as good as any.
            window = self.receipt_bytes + unacknowledged_bytes_max(self.receipt_bytes)
            self.sent_bytes_max = max(self.sent_bytes, window)
        else:
            self.spans = Spans(spans)
            self.sent_bytes = self.sent_bytes_max = self.spans.total

    # ------------------------------------------------------------------ what may be sent

    @property
    def claimed_bytes(self) -> int:
        """What the device claims for it: bytes sent, or distinct bytes; never over what the ticket allows."""
        return min(self.ticket.max_bytes, self.sent_bytes if self.countersigned else self.spans.total)

    @property
    def is_complete(self) -> bool:
        """Nothing more can be earned under this ticket."""
        done = self.receipt_bytes if self.countersigned else self.spans.total
        return done >= self.ticket.max_bytes or self._is_resent_out()

    def _is_resent_out(self) -> bool:
        allowed = self.ticket.max_bytes * RESENT_FACTOR + RESENT_BYTES_MIN
        return not self.countersigned and self.sent_bytes >= allowed

    def covers(self, start: int, length: int) -> bool:
        """True when the ticket still covers the span."""
        if self.is_complete:
            return False
        if self.countersigned:
            return self.receipt_bytes + length <= self.ticket.max_bytes
        return self.spans.total + self.spans.missing(start, start + length) <= self.ticket.max_bytes

    def window(self) -> int:
        """Bytes that may be sent before the next receipt; 0 means to wait for it."""
        if not self.countersigned:
            return self.ticket.max_bytes
        return max(0, self.receipt_bytes + unacknowledged_bytes_max(self.receipt_bytes) - self.sent_bytes)

    # ------------------------------------------------------------------ what happened

    def began(self, now_ms: int) -> None:
        """A transfer under this ticket begins."""
        if self.transfers == 0:
            self._busy_since_ms = now_ms
        self.transfers += 1

    def sent(self, start: int, count: int) -> None:
        """``count`` bytes of the object from ``start`` went to the kernel."""
        self.sent_bytes += count
        self.sent_bytes_max = max(self.sent_bytes_max, self.sent_bytes)
        if not self.countersigned:
            self.spans.add(start, start + count)
        self.dirty = True

    def ended(self, now_ms: int) -> None:
        """A transfer has ended."""
        self.transfers -= 1
        if self.transfers == 0:
            self._served_ms += max(0, now_ms - self._busy_since_ms)
        self.touched_at = now_ms // 1000
        self.dirty = True

    def served_ms(self, now_ms: int) -> int:
        """Time during which at least one transfer was under way."""
        return self._served_ms + (max(0, now_ms - self._busy_since_ms) if self.transfers else 0)

    def confirm(self, receipt: Receipt, token: str, now: int) -> bool:
        """Take a verified receipt; False for one that says nothing new (it crossed a later one).

        :raises Malformed: it confirms bytes that were not sent, or takes back what was confirmed.
        """
        if receipt.bytes > self.sent_bytes_max:
            raise Malformed(f"the receipt confirms {receipt.bytes} bytes; {self.sent_bytes_max} were sent")
        if receipt.n <= self.receipt_n:
            return False
        if receipt.bytes < self.receipt_bytes:
            raise Malformed(f"receipts are cumulative; {self.receipt_bytes} bytes were confirmed before")
        self.receipt, self.receipt_n, self.receipt_bytes = token, receipt.n, receipt.bytes
        self.sent_bytes = max(self.sent_bytes, receipt.bytes)
        self.touched_at = now
        self.dirty = True
        return True
