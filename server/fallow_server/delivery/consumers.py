"""How many tickets one consumer may ask for."""

from __future__ import annotations

from collections import OrderedDict

from ..clock import Clock
from ..fleet.rate import Bucket
from .config import Config
from .pseudonym import prefix_of


class ConsumerLimit:
    """A token bucket for each address prefix, in bounded memory."""

    def __init__(self, config: Config, clock: Clock) -> None:
        self._config = config
        self._clock = clock
        self._buckets: OrderedDict[str, Bucket] = OrderedDict()

    def allows(self, address: str, tickets: int) -> bool:
        """True when the consumer may have so many more tickets now."""
        key, now = prefix_of(address), self._clock.monotonic()
        bucket = self._buckets.get(key)
        if bucket is None:
            bucket = Bucket(self._config.consumer_tickets_burst, self._config.consumer_tickets_per_s, now)
            self._buckets[key] = bucket
            if len(self._buckets) > self._config.consumers_max:
                self._buckets.popitem(last=False)
        self._buckets.move_to_end(key)
        return bucket.take(tickets, now)
