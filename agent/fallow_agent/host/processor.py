"""Processor, memory and temperature."""

from __future__ import annotations

import os
import platform
from typing import Any

import psutil  # type: ignore[import-untyped]
from fallow_wire.session import Processor

from .headroom import CoreTimes, ProcessorTimes

TEMPERATURE_C_RANGE = (1, 150)
"""Sensors that read outside are broken or not connected."""


class ProcessorReader:
    """Spare processor time since the reading before: all programs' time counts as used, the household's too."""

    def __init__(self) -> None:
        self._cores = os.cpu_count() or 1
        self._arch = (platform.machine() or "unknown")[:32]
        _spare_percent()  # the first call starts the interval

    def read(self) -> Processor:
        return Processor(self._cores, self._arch, _spare_percent(), memory_free_bytes(), temperature_c())


def _spare_percent() -> int:
    """0 where the kernel does not tell (Android hides /proc/stat): what is not known is not promised."""
    try:
        return max(0, min(100, int(100.5 - psutil.cpu_percent(None))))
    except (OSError, RuntimeError):
        return 0


def memory_free_bytes() -> int:
    try:
        return int(psutil.virtual_memory().available)
    except (OSError, RuntimeError):
        return 0


def temperature_c() -> int | None:
    """The hottest sane sensor in °C; None where there is none."""
    sensors = getattr(psutil, "sensors_temperatures", None)
    if sensors is None:
        return None
    low, high = TEMPERATURE_C_RANGE
    try:
        readings = [entry.current for entries in sensors().values() for entry in entries]
    except (OSError, ValueError, RuntimeError):
        return None
    sane = [reading for reading in readings if reading is not None and low <= reading <= high]
    return round(max(sane)) if sane else None


def processor_times() -> ProcessorTimes | None:
    """None where the kernel does not tell."""
    try:
        cores = psutil.cpu_times(percpu=True)
    except (OSError, RuntimeError):
        return None
    own = os.times()
    own_s = own.system + (0.0 if os.nice(0) > 0 else own.user)  # the kernel books niced user time apart
    return ProcessorTimes(tuple(_core_times(core) for core in cores), own_s)


def _core_times(core: Any) -> CoreTimes:
    # Guests' time is in that of user programs already.
    total_s = sum(value for name, value in core._asdict().items() if not name.startswith("guest"))
    waiting_s = core.idle + getattr(core, "iowait", 0.0) + getattr(core, "nice", 0.0)
    return CoreTimes(total_s, waiting_s, getattr(core, "softirq", 0.0))
