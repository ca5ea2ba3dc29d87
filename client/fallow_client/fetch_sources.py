"""What the machine of :mod:`.fetch_plan` keeps of each source, request and chunk."""

from __future__ import annotations

from dataclasses import dataclass, field

from fallow_wire.tickets import unacknowledged_bytes_max

from .fetch_commands import ORIGIN, Config, TicketSource

ORIGIN_REQUESTS_MAX = 2
"""It has others to serve too."""


@dataclass(slots=True)
class Source:
    """A ticket, or the origin. ``requested`` and ``confirmed`` are bytes; ``last_ms``: what its last chunk took, of
    which ``waited_ms`` until its first byte; it was there at ``done_ms``."""

    key: str
    device_id: str
    max_bytes: int | None = None
    until_ms: int | None = None
    first_chunk: int = 0
    rtt_ms: int | None = None
    chunks: int | None = None
    requested: int = 0
    confirmed: int = 0
    in_flight: int = 0
    failures: int = 0
    rest_until_ms: int = 0
    last_ms: int | None = None
    waited_ms: int = 0
    done_ms: int = 0
    closed: bool = False

    @classmethod
    def of(cls, ticket: TicketSource) -> Source:
        return cls(
            ticket.key, ticket.device_id, ticket.max_bytes, ticket.until_ms, ticket.first_chunk, ticket.rtt_ms,
            ticket.chunks,
        )  # fmt: skip

    @property
    def is_origin(self) -> bool:
        return self.key == ORIGIN

    def fits(self, length: int) -> bool:
        """Whether the ticket allows so much more, and the device sends it before the next receipt."""
        if self.max_bytes is not None and self.requested + length > self.max_bytes:
            return False
        return self.requested + length - self.confirmed <= unacknowledged_bytes_max(self.confirmed)

    def is_free(self, length: int, now_ms: int, config: Config) -> bool:
        """Whether it may be asked for a chunk of ``length`` now."""
        if self.closed or self.rest_until_ms > now_ms or self.in_flight >= self.depth(config):
            return False
        return self.is_origin or self.fits(length)

    def expected_ms(self, now_ms: int) -> int:
        """What a chunk would take: as much as the last one, but the queue that stood before that is shorter by now."""
        return (self.last_ms or 0) - min(self.waited_ms, now_ms - self.done_ms)

    def depth(self, config: Config) -> int:
        """Requests at once: few at a slow source, so that little waits behind it at the end."""
        if self.failures:
            return 1
        if self.is_origin:
            return ORIGIN_REQUESTS_MAX
        if self.last_ms is None or self.last_ms <= config.fast_chunk_ms:
            return config.requests_per_source_max
        return 1 if self.last_ms >= config.slow_chunk_ms else min(2, config.requests_per_source_max)


@dataclass(slots=True)
class Request:
    """``answered_ms``: when the head came. ``waited_ms``: for the first byte after it. ``tied``: the chunk was asked
    for here too because the other had not begun, and whichever begins first goes on."""

    number: int
    source: Source
    chunk: int
    since_ms: int
    answered_ms: int | None = None
    waited_ms: int | None = None
    tied: bool = False
    helping: bool = False


@dataclass(slots=True)
class Chunk:
    """A chunk that is being asked for."""

    requests: list[Request] = field(default_factory=list)


@dataclass(slots=True)
class Window:
    """How many requests are under way at once.

    Devices let requests wait while others are served, and that wait tells how many others there are: more requests of
    ours would only make their queues longer. Where there is none, one more chunk at a time finds what our line takes.
    """

    config: Config
    size: int = 0
    full: bool = False
    """Whether more would have been asked for, the last time."""
    crowded: bool = False
    """Whether the device that began last had others to serve first."""

    def __post_init__(self) -> None:
        self.size = min(self.config.requests_first, self.config.requests_max)

    def began(self, waited_ms: int) -> None:
        """A source began to send, after so long."""
        self.crowded = waited_ms >= self.config.long_wait_ms
        if self.crowded:
            least = 1 if waited_ms >= self.config.deep_wait_ms else self.config.requests_min
            self.size = max(self.size - 1, min(self.size, least))

    def done(self, waited_ms: int) -> None:
        """A chunk is there whose first byte came after so long."""
        if self.full and waited_ms < self.config.short_wait_ms:
            self.size = min(self.size + 1, self.config.requests_max)
