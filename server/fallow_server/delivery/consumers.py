"""What is remembered of consumers for a while: how much they asked for, and where they were just sent."""

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
        self._buckets: OrderedDict[str, tuple[Bucket, Bucket, Bucket]] = OrderedDict()

    def allows(self, address: str, tickets: int) -> bool:
        """True when the consumer may have so many more tickets now."""
        now = self._clock.monotonic()
        return self._of(address, now)[0].take(tickets, now)

    def allows_bytes(self, address: str, size: int) -> bool:
        """True when the consumer's tickets may allow so many more bytes now."""
        now = self._clock.monotonic()
        return self._of(address, now)[1].take(size, now)

    def allows_crowd(self, address: str) -> bool:
        """True when an object more may be spread because the consumer asks for it."""
        now = self._clock.monotonic()
        return self._of(address, now)[2].take(1, now)

    def _of(self, address: str, now: float) -> tuple[Bucket, Bucket, Bucket]:
        key, config = prefix_of(address), self._config
        if key not in self._buckets:
            self._buckets[key] = (
                Bucket(config.consumer_tickets_burst, config.consumer_tickets_per_s, now),
                Bucket(config.consumer_bytes_burst, config.consumer_bytes_per_s, now),
                Bucket(config.consumer_crowds_burst, config.consumer_crowds_per_s, now),
            )
            if len(self._buckets) > config.consumers_max:
                self._buckets.popitem(last=False)
        self._buckets.move_to_end(key)
        return self._buckets[key]


class LastSent:
    """To which device each consumer was sent last for an object, in bounded memory.

    Whoever asks again within seconds did not get it there: players do so when a segment does not come, downloads when
    they break off. Several behind one address look like one who asks again; they are spread, which harms nobody.
    """

    def __init__(self, config: Config, clock: Clock) -> None:
        self._config = config
        self._clock = clock
        self._sent: OrderedDict[tuple[str, str], tuple[str, float]] = OrderedDict()

    def device(self, address: str, object_id: str) -> str | None:
        device_id, until = self._sent.get((address, object_id), (None, 0.0))
        return device_id if self._clock.monotonic() < until else None

    def note(self, address: str, object_id: str, device_id: str) -> None:
        key, now = (address, object_id), self._clock.monotonic()
        self._sent[key] = (device_id, now + self._config.asked_again_s)
        self._sent.move_to_end(key)
        # Oldest first: an address is kept no longer than it is used.
        while len(self._sent) > self._config.consumers_max or next(iter(self._sent.values()))[1] <= now:
            self._sent.popitem(last=False)
