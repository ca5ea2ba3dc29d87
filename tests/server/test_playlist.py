"""HLS playlists are read and written anew: what they name is led elsewhere, and nothing else is touched."""

from __future__ import annotations

from urllib.parse import urljoin

import pytest
from fallow_server.catalogue.sites import Site
from fallow_server.streaming.playlist import (
    DURATION_S_MAX,
    LINE_CHARS_MAX,
    PLAYLIST_BYTES_MAX,
    NotPlayable,
    Playlist,
    read_playlist,
)
from fallow_server.streaming.playlists import through
from hypothesis import given
from hypothesis import strategies as st

SITE = Site("film", "publisher-a", "https://origin.test/media/", 0)
AT = "https://origin.test/media/one/index.m3u8"

VIDEO = """#EXTM3U
#EXT-X-VERSION:7
#EXT-X-TARGETDURATION:6
#EXT-X-MEDIA-SEQUENCE:17
#EXT-X-MAP:URI="init.mp4"
#EXT-X-KEY:METHOD=AES-128,URI="key.bin",IV=0x00000000000000000000000000000011
#EXTINF:5.9,A title, with a comma
a.m4s
# a remark
#EXT-X-NEW-TAG:URI="a.m4s"
#EXT-X-DISCONTINUITY
#EXTINF:6,
/media/one/b%20c.m4s
#EXT-X-BYTERANGE:1000@0
#EXTINF:6,
../big.mp4
#EXTINF:4.25
https://elsewhere.test/d.m4s
#EXTINF:6,
e.m4s?token=1
#EXT-X-ENDLIST
"""
REWRITTEN = """#EXTM3U
#EXT-X-VERSION:7
#EXT-X-TARGETDURATION:6
#EXT-X-MEDIA-SEQUENCE:17
#EXT-X-MAP:URI="/s/film/one/init.mp4"
#EXT-X-KEY:METHOD=AES-128,URI="https://origin.test/media/one/key.bin",IV=0x00000000000000000000000000000011
#EXTINF:5.9,A title, with a comma
/s/film/one/a.m4s
# a remark
#EXT-X-NEW-TAG:URI="a.m4s"
#EXT-X-DISCONTINUITY
#EXTINF:6,
/s/film/one/b%20c.m4s
#EXT-X-BYTERANGE:1000@0
#EXTINF:6,
/s/film/big.mp4
#EXTINF:4.25
https://elsewhere.test/d.m4s
#EXTINF:6,
https://origin.test/media/one/e.m4s?token=1
#EXT-X-ENDLIST
"""


def media(*lines: str) -> str:
    return "\n".join(("#EXTM3U", "#EXT-X-TARGETDURATION:6", *lines)) + "\n"


def read(text: str, at: str = AT) -> Playlist:
    return read_playlist(text.encode(), at)


def written(text: str) -> str:
    return read(text).written(through(SITE))


def test_segments_lead_to_the_site_and_the_rest_to_the_origin() -> None:
    assert written(VIDEO) == REWRITTEN
    playlist = read(VIDEO)
    assert (playlist.target_s, playlist.ended, playlist.is_multivariant) == (6, True, False)
    init = "https://origin.test/media/one/init.mp4"
    assert [(one.sequence, one.duration_ms, one.is_range, one.map_url) for one in playlist.segments] == [
        (17, 5900, False, init),
        (18, 6000, False, init),
        (19, 6000, True, init),
        (20, 4250, False, init),
        (21, 6000, False, init),
    ]


def test_a_multivariant_playlist_leads_to_playlists_of_the_site() -> None:
    text = """#EXTM3U
#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="a",NAME="x, y",URI="audio.m3u8"
#EXT-X-MEDIA:TYPE=CLOSED-CAPTIONS,GROUP-ID="cc",NAME="c",INSTREAM-ID="CC1"
#EXT-X-STREAM-INF:BANDWIDTH=1280000,CODECS="avc1,mp4a",AUDIO="a"
low/index.m3u8
#EXT-X-STREAM-INF:BANDWIDTH=2560000
play.php
#EXT-X-I-FRAME-STREAM-INF:BANDWIDTH=86000, URI="low/iframe.m3u8"
#EXT-X-SESSION-KEY:METHOD=SAMPLE-AES,URI="skd://key"
#EXT-X-CONTENT-STEERING:SERVER-URI="/steering",PATHWAY-ID="x"
"""
    playlist = read(text)
    assert playlist.is_multivariant
    assert playlist.playlists() == tuple(
        "https://origin.test/media/one/" + name
        for name in ("audio.m3u8", "low/index.m3u8", "play.php", "low/iframe.m3u8")
    )
    assert written(text) == text.replace('"audio', '"/s/film/one/audio').replace("\nlow", "\n/s/film/one/low").replace(
        '"low', '"/s/film/one/low'
    ).replace("play.php", "https://origin.test/media/one/play.php").replace(
        '"/steering', '"https://origin.test/steering'
    )


def test_a_low_latency_playlist_becomes_an_ordinary_one() -> None:
    text = media(
        "#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,PART-HOLD-BACK=1.0",
        "#EXT-X-PART-INF:PART-TARGET=0.33",
        "#EXTINF:6,",
        "a.ts",
        '#EXT-X-PART:DURATION=0.33,URI="b.0.ts"',
        '#EXT-X-PRELOAD-HINT:TYPE=PART,URI="b.1.ts"',
        '#EXT-X-RENDITION-REPORT:URI="../x.m3u8",LAST-MSN=1',
    )
    assert written(text) == media("#EXTINF:6,", "/s/film/one/a.ts")


def test_a_part_of_a_playlist_ends_behind_its_last_segment() -> None:
    playlist = read(VIDEO)
    first = playlist.written(through(SITE), 1)
    assert first == REWRITTEN[: REWRITTEN.index("# a remark")]
    assert playlist.written(through(SITE), 5) == REWRITTEN
    assert "ENDLIST" not in playlist.written(through(SITE), 4)


def test_the_end_may_stand_anywhere() -> None:
    playlist = read(media("#EXT-X-ENDLIST", "#EXTINF:6,", "a.ts"))
    assert playlist.ended
    assert playlist.written(through(SITE)).endswith("/a.ts\n#EXT-X-ENDLIST\n")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "<html>",
        "#EXTM3U8\n",
        "#EXTM3U\n",
        "#EXTM3U\n#EXTINF:6,\na.ts\n",
        media("a.ts"),
        media("#EXTINF:six,", "a.ts"),
        media("#EXTINF:-1,", "a.ts"),
        media(f"#EXTINF:{DURATION_S_MAX + 1},", "a.ts"),
        media("#EXTINF:6,", "a\0.ts"),
        media("#EXTINF:6,", "a" * LINE_CHARS_MAX + "b"),
        media("#EXTINF:6,", "http://[/a.ts"),
        media('#EXT-X-DEFINE:NAME="x",VALUE="y"', "#EXTINF:6,", "{$x}.ts"),
        media("#EXT-X-MEDIA-SEQUENCE:x"),
        media("#EXTINF:6,", "a.ts", "#EXT-X-MEDIA-SEQUENCE:5"),
        media("#EXTINF:6,", "a.ts", "#EXT-X-STREAM-INF:BANDWIDTH=1", "b.m3u8"),
        # What is not understood here could be the address of a key.
        media("#EXT-X-KEY:METHOD=AES-128,URI=key.bin"),
        media('#EXT-X-KEY:METHOD=AES-128,URI="key.bin'),
        media('#EXT-X-KEY:METHOD=AES-128;URI="key.bin"'),
        media('#EXT-X-KEY:URI="a",URI="b"'),
        media('#EXT-X-MAP:URI=""'),
    ],
)
def test_what_cannot_be_rewritten_is_refused(text: str) -> None:
    with pytest.raises(NotPlayable):
        read(text)


def test_bytes_that_are_refused() -> None:
    with pytest.raises(NotPlayable, match="UTF-8"):
        read_playlist(b"#EXTM3U\n\xff", AT)
    with pytest.raises(NotPlayable, match="bytes"):
        read_playlist(b"#EXTM3U\n" + b"#" * PLAYLIST_BYTES_MAX, AT)
    assert read_playlist(b"\xef\xbb\xbf" + VIDEO.replace("\n", "\r\n").encode(), AT) == read(VIDEO)


NAMES = st.text("abcXYZ019._~-%/?:@ é", min_size=1, max_size=12)
ADDRESSES = NAMES.filter(lambda name: name.strip() and not name.strip().startswith("#"))
TAGS = st.one_of(
    st.just("#EXT-X-DISCONTINUITY"),
    st.just("#EXT-X-PROGRAM-DATE-TIME:2026-11-25T00:00:00Z"),
    st.just("#EXT-X-ENDLIST"),
    st.builds("#{}".format, st.text("abc ,:=\"'é", max_size=20)),
    st.builds('#EXT-X-MAP:URI="{}"'.format, NAMES),
    st.builds('#EXT-X-KEY:METHOD=AES-128,URI="{}"'.format, NAMES),
    st.builds("#EXTINF:{},\n{}".format, st.integers(0, 10), ADDRESSES),
)


@given(st.binary(max_size=200) | st.lists(TAGS, max_size=12).map(lambda lines: media(*lines).encode()))
def test_reading_refuses_or_gives_what_reads_the_same_again(data: bytes) -> None:
    try:
        playlist = read_playlist(data, AT)
    except NotPlayable:
        return
    again = read_playlist(playlist.written(lambda link: link.url).encode(), "https://other.test/x.m3u8")
    assert again == playlist


@given(st.lists(TAGS, max_size=12), st.integers(1, 12))
def test_every_line_stays_or_leads_where_it_should(lines: list[str], count: int) -> None:
    text = media(*lines)
    try:
        playlist = read(text)
    except NotPlayable:
        return
    before = [line.rstrip() for line in text.splitlines() if line.strip() and line != "#EXT-X-ENDLIST"]
    after = playlist.written(through(SITE)).splitlines()
    assert playlist.ended == (after[-1] == "#EXT-X-ENDLIST")
    for old, new in zip(before, after, strict=False):
        if not old.startswith("#"):
            assert urljoin("https://scheduler.test/s/film/one/", new) == urljoin(AT, old.strip()) or new == (
                "/s/film/" + urljoin(AT, old.strip()).removeprefix(SITE.origin)
            )
        elif not old.startswith(("#EXT-X-MAP", "#EXT-X-KEY")):
            assert new == old
        elif old.startswith("#EXT-X-KEY"):
            assert "/s/film" not in new or "/s/film" in old, "a key never leads through the site"
    part = playlist.written(through(SITE), count).splitlines()
    assert part == after[: len(part)]
    kept = [line for line in part if not line.startswith("#")]
    assert len(kept) == min(count, len(playlist.segments))
