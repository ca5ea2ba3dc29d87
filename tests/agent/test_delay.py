"""Round-trip times: ICMP packets, the choice of hops, and what is made of the answers. Without a network."""

from __future__ import annotations

import struct

from fallow_agent.line.delay import (
    BASE_MINUTES,
    MINUTE_S,
    RECENT_S,
    SILENT_AFTER,
    HopDelay,
    combined,
)
from fallow_agent.line.icmp import (
    COOKIE_BYTES,
    HEADER_BYTES,
    Answer,
    Kind,
    answer,
    checksum,
    echo,
    error,
    without_ip_header,
)
from fallow_agent.line.path import CANDIDATES_MAX, Hop, candidates, in_home
from hypothesis import given
from hypothesis import strategies as st

COOKIE = b"a cookie"
words = st.integers(0, 2**16 - 1)


# ------------------------------------------------------------------ packets


def ip_header(protocol: int = 1, words_of_options: int = 0) -> bytes:
    header = bytes([0x45 + words_of_options, *bytes(8), protocol])
    return header + bytes(10 + 4 * words_of_options)


def packet(kind: int, code: int, rest: bytes) -> bytes:
    """An ICMP packet with a good checksum."""
    unsummed = struct.pack("!BBH", kind, code, 0) + rest
    return struct.pack("!BBH", kind, code, checksum(unsummed)) + rest


def reply_to(request: bytes) -> bytes:
    return packet(0, 0, request[4:])


@given(words, words, st.binary(min_size=COOKIE_BYTES, max_size=COOKIE_BYTES), st.integers(COOKIE_BYTES, 1472))
def test_a_reply_is_known_by_identifier_sequence_and_cookie(
    identifier: int, sequence: int, cookie: bytes, payload_bytes: int
) -> None:
    request = echo(identifier, sequence, cookie, payload_bytes)
    assert len(request) == HEADER_BYTES + payload_bytes
    assert answer(request) is None, "our own request, seen by a raw socket, is no answer"
    assert answer(reply_to(request)) == Answer(Kind.REPLY, identifier, sequence, cookie)


@given(words, words, st.integers(0, 10), st.integers(HEADER_BYTES, 40))
def test_an_error_names_the_echo_that_it_quotes(
    identifier: int, sequence: int, words_of_options: int, quoted_bytes: int
) -> None:
    quoted = ip_header(words_of_options=words_of_options) + echo(identifier, sequence, COOKIE, 64)[:quoted_bytes]
    expired = answer(packet(11, 0, bytes(4) + quoted))
    assert expired == Answer(Kind.EXPIRED, identifier, sequence)
    assert answer(packet(3, 1, bytes(4) + quoted)) == Answer(Kind.UNREACHABLE, identifier, sequence)
    assert answer(packet(11, 1, bytes(4) + quoted)) is None, "a fragment that was not put together"
    assert answer(packet(5, 0, bytes(4) + quoted)) is None, "a redirect"


def test_replies_of_others_and_guesses_are_not_believed() -> None:
    reply = Answer(Kind.REPLY, 1, 2, COOKIE)
    assert reply.by_the_asked("100.64.0.1", "100.64.0.1", COOKIE)
    assert not reply.by_the_asked("100.64.0.2", "100.64.0.1", COOKIE)
    assert not reply.by_the_asked("100.64.0.1", "100.64.0.1", bytes(COOKIE_BYTES))
    assert Answer(Kind.EXPIRED, 1, 2).by_the_asked("100.64.0.2", "100.64.0.1", COOKIE)


def test_an_error_about_something_else_is_no_answer() -> None:
    assert answer(packet(11, 0, bytes(4) + ip_header(protocol=17) + bytes(8))) is None
    assert answer(packet(11, 0, bytes(4) + ip_header() + reply_to(echo(1, 2, COOKIE))[:8])) is None
    assert answer(packet(11, 0, bytes(4) + ip_header() + echo(1, 2, COOKIE)[:7])) is None, "cut off"


@given(st.integers(0, HEADER_BYTES + 23), st.integers(1, 255))
def test_a_changed_byte_is_noticed(at: int, change: int) -> None:
    reply = bytearray(reply_to(echo(1, 2, COOKIE)))
    reply[at] ^= change
    assert answer(bytes(reply)) is None


@given(st.binary(max_size=120), st.integers(0, 255), st.integers(0, 255))
def test_whatever_arrives_is_read_or_refused(data: bytes, kind: int, code: int) -> None:
    """No exception; and what is taken for an answer could be one."""
    inner = without_ip_header(data)
    assert inner is None or len(inner) <= len(data) - 20
    for found in (answer(data), answer(packet(kind, code, data)), error(kind, code, data)):
        assert found is None or (0 <= found.identifier < 2**16 and 0 <= found.sequence < 2**16)
    summed = answer(packet(kind, code, data))
    assert summed is None or (kind, code) in ((0, 0), (11, 0)) or kind == 3


# ------------------------------------------------------------------ hops


def test_addresses_that_providers_share_out_are_not_the_home() -> None:
    assert all(map(in_home, ("192.168.1.1", "10.0.0.1", "172.31.255.1", "169.254.0.1")))
    assert not any(map(in_home, ("100.64.0.1", "172.32.0.1", "198.51.100.1", "8.8.8.8")))


def test_behind_a_router_its_delay_is_the_homes_own() -> None:
    home, tries = candidates(["192.168.1.1", "100.64.0.1", "203.0.113.1"])
    assert home == Hop("192.168.1.1", 1)
    assert tries == (Hop("100.64.0.1", 2), Hop("203.0.113.1", 3))


def test_behind_two_routers_the_second_is_in_the_home_still() -> None:
    home, tries = candidates(["192.168.1.1", "192.168.0.1", None, "203.0.113.1"])
    assert (home, tries) == (Hop("192.168.1.1", 1), (Hop("203.0.113.1", 4),))


def test_on_the_router_itself_nothing_is_the_homes_own() -> None:
    home, tries = candidates(["203.0.113.1", "203.0.113.65"])
    assert home is None
    assert tries == (Hop("203.0.113.65", 2),), "the first may be a modem, whose queue begins behind it"
    far = ["203.0.113.1", "198.18.1.2"]
    assert candidates(far, target="198.18.1.2") == (None, (Hop("203.0.113.1", 1),)), "the scheduler is the internet"
    assert candidates(["198.18.1.2"], target="198.18.1.2") == (None, ())
    assert candidates(["203.0.113.1", None]) == (None, (Hop("203.0.113.1", 1),)), "better than nobody"


def test_a_provider_that_numbers_as_homes_do_is_not_taken_for_the_home() -> None:
    assert candidates(["10.0.0.1", "203.0.113.1"], at_edge=True) == (None, (Hop("203.0.113.1", 2),))
    assert candidates(["10.0.0.1", "10.9.0.1"], at_edge=True) == (None, (Hop("10.9.0.1", 2),))


def test_where_all_addresses_are_private_the_farthest_serves() -> None:
    assert candidates(["192.168.1.1", "10.0.0.1", "10.9.0.1"]) == (Hop("192.168.1.1", 1), (Hop("10.9.0.1", 3),))
    assert candidates(["192.168.1.1", None]) == (Hop("192.168.1.1", 1), ()), "it tells nothing of the line"
    assert candidates([None, "10.0.0.1", "10.9.0.1"])[0] is None, "the second may be the provider's already"


@given(st.lists(st.none() | st.ip_addresses(v=4).map(str), max_size=8))
def test_any_way_gives_hops_that_are_on_it(way: list[str | None]) -> None:
    home, tries = candidates(way)
    assert len(tries) <= CANDIDATES_MAX
    for hop in (*tries, *((home,) if home else ())):
        assert way[hop.ttl - 1] == hop.address
    assert home is None or (in_home(home.address) and home not in tries)


# ------------------------------------------------------------------ delay


def heard(*rtts_ms: float, start: float = 0.0, every: float = 0.15, delay: HopDelay | None = None) -> HopDelay:
    delay = delay or HopDelay()
    for number, rtt_ms in enumerate(rtts_ms):
        delay = delay.after_answer(start + number * every, rtt_ms)
    return delay


def test_a_queue_is_known_of_after_two_answers() -> None:
    delay = heard(20, 20, 20)
    assert delay.queueing_ms(0.3) == 0
    delay = delay.after_answer(0.45, 120)
    assert delay.queueing_ms(0.45) == 0, "one alone is a straggler"
    delay = delay.after_answer(0.60, 110)
    assert delay.queueing_ms(0.60) == 90
    assert (delay.rtt_ms(0.60), delay.base_ms) == (110, 20)


def test_a_single_straggler_among_two_is_none() -> None:
    assert heard(20, 500).queueing_ms(0.15) == 0
    assert heard(20).queueing_ms(0) == 0


def test_the_base_drops_at_once() -> None:
    assert heard(50, 50, 50, 20).base_ms == 20


def test_a_longer_way_is_learnt_within_minutes_and_not_at_once() -> None:
    delay = heard(*[20.0] * 100)
    every, minutes = 3.0, 0.0
    while delay.base_ms == 20:
        minutes += every / 60
        delay = delay.after_answer(15 + minutes * 60, 45)
    assert BASE_MINUTES - 1 <= minutes <= BASE_MINUTES
    assert delay.queueing_ms(15 + minutes * 60) == 0


def test_losses_tell_no_time() -> None:
    delay = heard(20, 60, 60)
    for _ in range(SILENT_AFTER - 1):
        delay = delay.after_loss()
    assert delay.queueing_ms(0.3) == 40
    assert not delay.silent
    assert delay.after_loss().silent
    assert not delay.after_loss().after_answer(3, 20).silent


def test_after_a_suspension_the_base_is_kept_and_nothing_else() -> None:
    delay = heard(20, 60, 60)
    assert delay.queueing_ms(0.3 + RECENT_S + 0.1) is None
    assert delay.base_ms == 20
    assert delay.after_answer(100, 90).queueing_ms(100) == 70, "what was recent before does not count"


@given(st.lists(st.tuples(st.floats(0, 400), st.none() | st.floats(0, 2000)), max_size=60))
def test_it_stays_small_and_never_negative(events: list[tuple[float, float | None]]) -> None:
    delay, now = HopDelay(), 0.0
    for elapsed, rtt_ms in events:
        now += elapsed
        delay = delay.after_loss() if rtt_ms is None else delay.after_answer(now, rtt_ms)
        assert len(delay.minutes) <= BASE_MINUTES
        minutes = [at for at, _ in delay.minutes]
        assert minutes == sorted(set(minutes))
        assert minutes == [] or minutes[-1] - minutes[0] < BASE_MINUTES
        queueing_ms = delay.queueing_ms(now)
        assert queueing_ms is None or 0 <= queueing_ms <= 2000


def test_what_the_home_adds_is_taken_off() -> None:
    provider, home = heard(20, 70, 70), heard(2, 42, 42)
    found = combined(0.3, provider, home, "100.64.0.1")
    assert (found.queueing_ms, found.lan_queueing_ms) == (10, 40)
    assert (found.rtt_ms, found.rtt_base_ms, found.hop, found.reason) == (70, 20, "100.64.0.1", "")
    assert combined(0.3, provider, None, "100.64.0.1").queueing_ms == 50
    assert combined(0.3, provider, HopDelay(), "100.64.0.1").queueing_ms == 50, "a silent one takes nothing off"
    assert combined(0.3, heard(20, 30, 30), home, "100.64.0.1").queueing_ms == 0


def test_a_provider_that_is_silent_leaves_no_reading() -> None:
    found = combined(60, heard(20), heard(2, start=60), "100.64.0.1")
    assert found.queueing_ms is None
    assert "100.64.0.1" in found.reason


def test_minutes_are_of_the_monotonic_clock() -> None:
    assert heard(20, 30, every=MINUTE_S * BASE_MINUTES).base_ms == 30
