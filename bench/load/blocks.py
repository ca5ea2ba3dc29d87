"""How long the event loop was held."""

from __future__ import annotations

import asyncio
import gc
import time
from typing import Any

TICK_S = 0.001
KEPT = 5


class Blocks:
    """Ticks each millisecond and notes by how much each comes late, but no more than the processor time that this
    process used meanwhile: others on this machine may hold the core as well."""

    def __init__(self) -> None:
        self.longest_s: list[float] = []
        self.over_20ms = 0
        self.garbage_s = [0.0, 0.0, 0.0]
        self._began = 0.0
        self._task = asyncio.create_task(self._tick(), name="blocks")
        gc.callbacks.append(self._collected)

    async def _tick(self) -> None:
        while True:
            began, used = time.monotonic(), time.process_time()
            await asyncio.sleep(TICK_S)
            late = min(time.monotonic() - began - TICK_S, time.process_time() - used)
            self.over_20ms += late > 0.020
            self.longest_s = sorted([*self.longest_s, late], reverse=True)[:KEPT]

    def _collected(self, phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            self._began = time.thread_time()
        else:
            generation = info["generation"]
            self.garbage_s[generation] = max(self.garbage_s[generation], time.thread_time() - self._began)

    def end(self) -> dict[str, Any]:
        self._task.cancel()
        gc.callbacks.remove(self._collected)
        return {"longest_s": self.longest_s, "over_20ms": self.over_20ms, "garbage_s": self.garbage_s}
