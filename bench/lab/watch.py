"""How full homes' lines are, second by second, while a crowd runs: where the time goes that a total does not show."""

from __future__ import annotations

import threading
import time
from pathlib import Path

from .network import Home, Network

INTERVAL_S = 1.0
PARTS = 10
"""Of a run that are told in a line; the file has every second."""


class Watch:
    """A thread that looks at the provider's counters, all in one reading, until the block ends."""

    def __init__(self, network: Network, homes: list[Home]) -> None:
        self._network, self._homes = network, homes
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.samples: list[tuple[float, list[int]]] = []
        """Monotonic seconds, and the bytes that came from each home until then."""

    def __enter__(self) -> Watch:
        self._look()
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        self._thread.join()
        self._look()

    def _run(self) -> None:
        while not self._ended.wait(INTERVAL_S):
            self._look()

    def _look(self) -> None:
        counters: dict[str, int] = {}
        for line in self._network.run("isp", "cat", "/proc/net/dev").splitlines():
            device, colon, fields = line.partition(":")
            if colon:
                counters[device.strip()] = int(fields.split()[0])
        self.samples.append((time.monotonic(), [counters[f"home{home.number}"] for home in self._homes]))

    def note(self) -> str:
        """The homes' lines together, in percent of what they carry, part by part of the time."""
        shares = [_share(rates, self._homes) for _, rates in self._rates()]
        parts = min(PARTS, len(shares))
        cut = [shares[len(shares) * part // parts : len(shares) * (part + 1) // parts] for part in range(parts)]
        return " ".join(f"{100 * sum(part) / len(part):.0f}" for part in cut)

    def write(self, path: Path) -> None:
        """Mbit/s of each home, a line for each second."""
        rows = (" ".join([f"{at:.1f}", *(f"{rate:.2f}" for rate in rates)]) for at, rates in self._rates())
        path.write_text("\n".join(rows) + "\n")

    def _rates(self) -> list[tuple[float, list[float]]]:
        """Seconds since the beginning, and Mbit/s until then."""
        began, found = self.samples[0][0], []
        for (before_at, before), (at, sent) in zip(self.samples, self.samples[1:], strict=False):
            scale = 8e-6 / max(0.001, at - before_at)
            found.append((at - began, [(now - then) * scale for then, now in zip(before, sent, strict=True)]))
        return found


def _share(rates: list[float], homes: list[Home]) -> float:
    return sum(rates) / sum(home.line.up_mbps for home in homes)
