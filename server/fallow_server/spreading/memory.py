"""The demand over a restart: a file that is written every few minutes and may be lost."""

from __future__ import annotations

import json
import logging
import os
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..scheduling.demand import HOURS, Config, Demands, Saved
from ..scheduling.places import Place

VERSION = 1
_log = logging.getLogger(__name__)


def write(path: Path, saved: Saved) -> None:
    """A line for each pair, after one for the days' shapes; a row at a time, so that other threads have their turn.

    :raises OSError: when it cannot be written; what was there before stays.
    """
    fresh = path.with_suffix(".new")
    with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="ascii") as file:
        file.write(json.dumps({"version": VERSION, "shapes": saved.shapes}) + "\n")
        for (object_id, place), *numbers in zip(saved.pairs, *saved.columns, strict=True):
            file.write(json.dumps([object_id, place.asn, place.country, *numbers]) + "\n")
    fresh.replace(path)


def read(path: Path, config: Config) -> Demands:
    """What was written; nothing where there is no such file, or one that cannot be read: demand shows itself again."""
    try:
        with path.open(encoding="ascii") as file:
            return Demands.restored(config, _saved(file))
    except FileNotFoundError:
        return Demands(config)
    except (OSError, ValueError, TypeError, KeyError) as error:
        _log.warning("%s cannot be read, and demand is counted anew: %s", path, error)
        return Demands(config)


def _saved(lines: Iterator[str]) -> Saved:
    """:raises ValueError, TypeError, KeyError: it is not what :func:`write` writes."""
    head = json.loads(next(lines, "{}"))
    if head["version"] != VERSION:
        raise ValueError(f"version {head['version']} is not known here")
    shapes = [(name, float(since), float(at), _hours(hours)) for name, since, at, hours in head["shapes"]]
    pairs: list[tuple[str, Place]] = []
    columns = tuple(array("d") for _ in Demands.COLUMNS)
    for line in lines:
        object_id, asn, country, *numbers = json.loads(line)
        for column, number in zip(columns, numbers, strict=True):
            column.append(number)
        pairs.append((str(object_id), Place(asn, country)))
    if len(set(pairs)) < len(pairs):
        raise ValueError("a pair is in it twice")
    return Saved(pairs, columns, shapes)


def _hours(found: Any) -> tuple[float, ...]:
    hours = tuple(map(float, found))
    if len(hours) != HOURS:
        raise ValueError(f"a day has {HOURS} hours")
    return hours
