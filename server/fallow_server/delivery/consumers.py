"""How many tickets one consumer may ask for, and for how many bytes."""

from __future__ import annotations

from collections import OrderedDict

from ..clock import Clock
from ..fleet.rate import Bucket
from .config import Config
from .pseudonym import prefix_of


class ConsumerLimit:
    """Token buckets for each address prefix, in bounded memory."""

    def __init__(self, config: Config, clock: Clock) -> None:
        self._config = config
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[Bucket, Bucket]] = OrderedDict()

    def allows(self, address: str, tickets: int) -> bool:
        """True when the consumer may have so many more tickets now."""
        now = self._clock.monotonic()
        return self._of(address, now)[0].take(tickets, now)

    def allows_bytes(self, address: str, size: int) -> bool:
        """True when the consumer's tickets may allow so many more bytes now."""
        now = self._clock.monotonic()
        return self._of(address, now)[1].take(size, now)

    def _of(self, address: str, now: float) -> tuple[Bucket, Bucket]:
        key, config = prefix_of(address), self._config
        if key not in self._buckets:
            self._buckets[key] = (
                Bucket(config.consumer_tickets_burst, config.consumer_tickets_per_s, now),
                Bucket(config.consumer_bytes_burst, config.consumer_bytes_per_s, now),
            )
            if len(self._buckets) > config.consumers_max:
                self._buckets.popitem(last=False)
        self._buckets.move_to_end(key)
        return self._buckets[key]
