"""What of a live stream is held and shown, as a script of playlists and times."""

from __future__ import annotations

from fallow_server.streaming.playlist import Playlist, read_playlist
from fallow_server.streaming.window import Held, Window
from hypothesis import given
from hypothesis import strategies as st

AT = "https://origin.test/live/index.m3u8"
TARGET_S = 4


def playlist(first: int, count: int, *, ended: bool = False, more: str = "") -> Playlist:
    lines = ["#EXTM3U", f"#EXT-X-TARGETDURATION:{TARGET_S}", f"#EXT-X-MEDIA-SEQUENCE:{first}"]
    for number in range(first, first + count):
        lines += [more, "#EXTINF:4,", f"{number}.ts"]
    return read_playlist("\n".join([*lines, *(["#EXT-X-ENDLIST"] if ended else [])]).encode(), AT)


def window(seconds: float = 60) -> Window:
    return Window(seconds, lambda url: "elsewhere" not in url)


def numbers(held: list[Held]) -> list[int]:
    return [one.segment.sequence for one in held]


def pulled(held: list[Held], at: float) -> None:
    for one in held:
        one.object_id, one.pulled_at = f"object {one.segment.sequence}", at


def nowhere(object_id: str) -> bool:
    return False


def everywhere(object_id: str) -> bool:
    return True


def test_each_segment_is_wanted_once_and_only_the_newest() -> None:
    live = window(seconds=20)
    assert numbers(live.take(playlist(10, 6), 0)) == [11, 12, 13, 14, 15]
    assert numbers(live.take(playlist(10, 6), 1)) == []
    assert numbers(live.take(playlist(12, 6), 2)) == [16, 17]
    assert live.poll_s == 2
    assert live.hold_s == 2 * 20 + TARGET_S


def test_one_segment_is_held_however_long_it_is() -> None:
    assert numbers(window(seconds=1).take(playlist(3, 4), 0)) == [6]


def test_players_see_what_devices_have() -> None:
    live = window()
    first = live.take(playlist(0, 3), 0)
    assert live.shown(0, everywhere) == 0
    pulled(first[:2], at=1)
    assert live.shown(1, nowhere) == 0
    assert live.shown(1, everywhere) == 2
    assert live.shown(1, lambda object_id: object_id != "object 0") == 0, "a playlist has no holes"
    assert live.objects() == {f"https://origin.test/live/{number}.ts": f"object {number}" for number in (0, 1)}


def test_nobody_waits_for_slow_devices_or_origins() -> None:
    live = window()
    held = live.take(playlist(0, 3), 0)
    pulled(held[:1], at=1)
    held[1].failed = True
    assert live.shown(1 + TARGET_S - 0.1, nowhere) == 0
    assert live.shown(1 + TARGET_S, nowhere) == 2
    assert live.shown(2 * TARGET_S - 0.1, nowhere) == 2
    assert live.shown(2 * TARGET_S, nowhere) == 3


def test_what_cannot_be_held_is_shown_at_once() -> None:
    live = window()
    text = f"#EXTM3U\n#EXT-X-TARGETDURATION:{TARGET_S}\n#EXTINF:4,\nhttps://elsewhere.test/0.ts\n"
    assert live.take(read_playlist(text.encode(), AT), 0) == []
    assert live.shown(0, nowhere) == 1
    ranges = playlist(0, 2, more="#EXT-X-BYTERANGE:10@0")
    assert live.take(ranges, 0) == []
    assert live.shown(0, nowhere) == 2


def test_a_name_that_is_used_again_is_another_segment() -> None:
    live = window(seconds=8)
    text = "#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXT-X-MEDIA-SEQUENCE:{}\n#EXTINF:4,\na.ts\n"
    pulled(live.take(read_playlist(text.format(1).encode(), AT), 0), at=0)
    again = live.take(read_playlist(text.format(2).encode(), AT), 4)
    assert numbers(again) == [2]
    assert live.objects() == {}


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(1, 8), st.booleans(), st.integers(0, 10)), max_size=12),
    st.floats(1, 100),
)
def test_what_was_shown_stays_shown_while_devices_hold_it(
    steps: list[tuple[int, int, bool, int]], window_s: float
) -> None:
    live, now, first, last_shown = window(window_s), 0.0, 0, -1
    end = 0
    for slid, count, comes, passed in steps:
        first += slid
        end = max(end, first + count)  # an origin takes nothing back
        fresh = live.take(playlist(first, end - first), now)
        if comes:
            pulled(fresh, now)
        now += passed
        shown = first + live.shown(now, everywhere) - 1
        assert shown >= min(last_shown, end - 1)
        last_shown = max(last_shown, shown)
        assert all(one.startswith("object") for one in live.objects().values())
