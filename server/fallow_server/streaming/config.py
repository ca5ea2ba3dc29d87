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
    """

    playlist_fresh_s: int = 60
    playlist_fresh_s_max: int = 300
    playlist_stale_s_max: int = 60
    playlist_refused_s: int = 5
    playlists_bytes_max: int = 64 * 2**20
    fetches_max: int = 64
