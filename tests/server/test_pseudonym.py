"""Consumers' pseudonyms."""

from __future__ import annotations

from delivery_harness import HandClock
from fallow_server.delivery.config import Config
from fallow_server.delivery.consumers import ConsumerLimit
from fallow_server.delivery.pseudonym import Pseudonyms, family_of, prefix_of


def test_prefixes() -> None:
    assert prefix_of("203.0.113.5") == prefix_of("::ffff:203.0.113.5") == "203.0.113.5/32"
    assert prefix_of("2001:db8:1:2:3::4") == prefix_of("2001:db8:1:2::") == "2001:db8:1:2::/64"
    assert prefix_of("fe80::1%eth0") == "fe80::/64"
    assert (family_of("203.0.113.5"), family_of("::ffff:203.0.113.5"), family_of("::1")) == ("ipv4", "ipv4", "ipv6")


def test_the_same_for_a_day_and_then_never_again() -> None:
    clock, drawn = HandClock(), iter([b"a" * 32, b"b" * 32, b"a" * 31 + b"c"])
    names = Pseudonyms(clock, lambda size: next(drawn))
    first = names.of("203.0.113.5")
    assert len(first) == 22
    assert names.of("203.0.113.5") == first != names.of("203.0.113.6")
    clock.seconds = (clock.now() // 86_400 + 1) * 86_400
    second = names.of("203.0.113.5")
    assert second != first
    # Even a clock that goes back does not bring the old key back.
    clock.seconds -= 86_400
    assert names.of("203.0.113.5") not in (first, second)


def test_the_limit_counts_homes_and_forgets_the_oldest() -> None:
    clock = HandClock()
    limit = ConsumerLimit(Config(consumer_tickets_burst=2, consumer_tickets_per_s=1, consumers_max=10), clock)
    assert [limit.allows("2001:db8::1", 1), limit.allows("2001:db8::2", 1), limit.allows("2001:db8::3", 1)] == [
        True,
        True,
        False,
    ]
    assert limit.allows("203.0.113.5", 2)
    for number in range(20):
        limit.allows(f"198.51.100.{number}", 1)
    assert len(limit._buckets) == 10
