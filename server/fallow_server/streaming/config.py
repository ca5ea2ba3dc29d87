"""Settings and limits of streaming, each with its reason."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Config:
    """
    ``playlist_fresh_s``: how long a playlist that is complete is believed when the origin says nothing; its own
    ``max-age`` is taken up to ``playlist_fresh_s_max``. One that grows is asked again after half of a segment.
    ``playlist_stale_s_max``: so much longer it is still shown while the origin does not answer.
    ``playlist_refused_s``: how long an address is left alone after it gave none; an encoder starts any second.
    ``playlists_bytes_max``: of all that are kept.
    ``fetches_max``: of playlists at once; further players are sent to the origin.
    ``live_streams_max``: followed at once; each is asked for twice in a segment's length, and pulled whole.
    ``live_playlists_max``: of one stream, its qualities and languages together.
    ``live_devices``, ``live_devices_max``: that carry a stream when its publisher says nothing, and at most.
    ``live_window_s``: the newest so many seconds are held by devices, in memory; what is older is at the site.
    ``live_wait_s_max``: how long a player waits for a stream's first segment to be ready.
    ``live_retry_s``: how long an origin that does not give the stream's first playlist is left alone.
    ``segment_bytes_max``: ten seconds of 25 Mbit/s.
    """

    playlist_fresh_s: int = 60
    playlist_fresh_s_max: int = 300
    playlist_stale_s_max: int = 60
    playlist_refused_s: int = 5
    playlists_bytes_max: int = 64 * 2**20
    fetches_max: int = 64
    live_streams_max: int = 16
    live_playlists_max: int = 8
    live_devices: int = 4
    live_devices_max: int = 64
    live_window_s: int = 60
    live_wait_s_max: float = 10
    live_retry_s: float = 2
    segment_bytes_max: int = 32 * 2**20
