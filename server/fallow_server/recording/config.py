"""Settings and limits of the record of decisions, each with its reason."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Config:
    """
    ``days``: that are kept, besides the one under way; a week has one of each kind. 0 records nothing.
    ``bytes_max``: of all days together, each of which may take as much as another. Of a day that takes more, only one
    request in so many is kept.
    """

    days: int = 7
    bytes_max: int = 256 * 2**20
