"""What every bench shares: arguments, the table, the description of the machine, and the result file.

A bench makes :class:`Figure` values and hands them to :func:`publish`. Results go to ``bench/results/<name>.json``.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True, slots=True)
class Figure:
    """One published number. ``low`` and ``high`` are its spread; ``goal`` is in words of ``unit``, such as ``<= 1.3``.

    ``against``: the peer or limit that was measured in the same run. ``id``: a case among several is ``id.case``.
    """

    id: str
    value: float
    unit: str
    low: float
    high: float
    goal: str = ""
    met: bool | None = None
    against: str = ""


def ratios(
    figure_id: str, ours: Sequence[float], theirs: Sequence[float], goal_max: float | None, against: str
) -> Figure:
    """The median of the ratios of interleaved rounds, with the lowest and the highest."""
    found = sorted(a / b for a, b in zip(ours, theirs, strict=True))
    value = statistics.median(found)
    if goal_max is None:
        return Figure(figure_id, value, "ratio", found[0], found[-1], against=against)
    return Figure(figure_id, value, "ratio", found[0], found[-1], f"<= {goal_max}", value <= goal_max, against)


def arguments(description: str) -> argparse.ArgumentParser:
    """``--quick`` (within 60 s, and marked as such) and ``--data DIR`` (recorded inputs); benches may add more."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help="end within 60 s; the result is marked as quick")
    parser.add_argument("--data", type=Path, help="folder of recorded inputs")
    return parser


def machine() -> str:
    """Processor, cores, memory, kernel and Python, in one line."""
    model = platform.machine()
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith(("model name", "Model")):
                model = line.partition(":")[2].strip()
                break
        memory_gib = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    except (OSError, ValueError):
        memory_gib = 0.0
    return (
        f"{model}, {os.cpu_count()} cores, {memory_gib:.0f} GiB, "
        f"{platform.system()} {platform.release()}, Python {platform.python_version()}"
    )


def publish(name: str, figures: Sequence[Figure], *, quick: bool, notes: Sequence[str] = ()) -> Path:
    """Print the table and write the result file."""
    rows = [("figure", "value", "low", "high", "unit", "goal", "met", "against")]
    for figure in figures:
        met = "" if figure.met is None else ("yes" if figure.met else "NO")
        numbers = (f"{figure.value:.3g}", f"{figure.low:.3g}", f"{figure.high:.3g}")
        rows.append((figure.id, *numbers, figure.unit, figure.goal, met, figure.against))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    print(f"\n{name}{' (quick)' if quick else ''}: {machine()}")
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    for note in notes:
        print(note)
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    content = {"name": name, "machine": machine(), "quick": quick, "figures": [asdict(figure) for figure in figures]}
    path.write_text(json.dumps({**content, "notes": list(notes)}, indent=1, ensure_ascii=False) + "\n", "utf-8")
    return path
