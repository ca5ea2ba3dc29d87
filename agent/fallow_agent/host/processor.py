"""Processor, memory and temperature."""

from __future__ import annotations

import os
import platform

import psutil  # type: ignore[import-untyped]
from fallow_wire.session import Processor

TEMPERATURE_C_RANGE = (1, 150)
"""Sensors that read outside are broken or not connected."""


class ProcessorReader:
    """Spare processor time since the reading before: all programs' time counts as used, the household's too."""

    def __init__(self) -> None:
        self._cores = os.cpu_count() or 1
        self._arch = (platform.machine() or "unknown")[:32]
        psutil.cpu_percent(None)  # the first call starts the interval

    def read(self) -> Processor:
        used = psutil.cpu_percent(None)
        spare = max(0, min(100, round(100 - used)))
        return Processor(self._cores, self._arch, spare, psutil.virtual_memory().available, temperature_c())


def temperature_c() -> int | None:
    """The hottest sane sensor in °C; None where there is none."""
    sensors = getattr(psutil, "sensors_temperatures", None)
    if sensors is None:
        return None
    low, high = TEMPERATURE_C_RANGE
    try:
        readings = [entry.current for entries in sensors().values() for entry in entries]
    except (OSError, ValueError):
        return None
    sane = [reading for reading in readings if reading is not None and low <= reading <= high]
    return round(max(sane)) if sane else None
