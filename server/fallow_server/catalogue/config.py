"""Settings and limits of the catalogue, each with its reason."""

from __future__ import annotations

from dataclasses import dataclass

GIB = 2**30


@dataclass(frozen=True, slots=True)
class Config:
    """
    ``publisher_bytes_max``: what one publisher may keep here, so that one cannot take the disk from all.
    ``object_bytes_max``: of one object; a manifest holds no more than 180 GiB.
    ``disk_free_bytes_min``: the database and the log share the disk, and must never find it full.
    ``uploads_max``: at once; each holds about 2 MiB and a file.
    ``stall_s_max``: without a byte for so long, an upload or a pull is given up.
    ``replicas``: copies on devices when the publisher says nothing; two homes are rarely both away.
    ``replicas_max``: more copies than this no object of one publisher needs.
    ``allow_private_addresses``: origins may be in private networks; for tests and for origins next door.
    ``pull_s_max``: for one pull from an origin.
    ``pulls_max``, ``pulls_waiting_max``: of the mirror, in the background; further ones wait for the next request.
    ``mirror_fresh_s``: how long a mirrored path is believed when the origin says nothing; its own ``max-age`` is
    taken between ``mirror_fresh_s_min`` and ``mirror_fresh_s_max``.
    ``mirror_refused_s``: how long a path is left alone after the origin refused it or the pull failed.
    ``mirror_paths_max``: of one site; anyone may ask for paths, and empty files cost no quota.
    ``sites_max``: of one publisher.
    """

    publisher_bytes_max: int = 100 * GIB
    object_bytes_max: int = 64 * GIB
    disk_free_bytes_min: int = 2 * GIB
    uploads_max: int = 32
    stall_s_max: float = 60
    replicas: int = 2
    replicas_max: int = 64
    allow_private_addresses: bool = False
    pull_s_max: float = 6 * 3600
    pulls_max: int = 4
    pulls_waiting_max: int = 256
    mirror_fresh_s: int = 300
    mirror_fresh_s_min: int = 10
    mirror_fresh_s_max: int = 86_400
    mirror_refused_s: float = 60
    mirror_paths_max: int = 100_000
    sites_max: int = 64
