"""Processes of a laboratory: the real programs, and parts, which are functions of ours in a process in a namespace.

A part reads JSON values from standard input, a line each, and may answer in the same way on standard output. It ends
when the bench does, however that ends. ``python -m lab.processes NAME VALUE…`` is how one is started.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from .network import Network

HERE = Path(__file__).parent.parent
BIN = Path(sys.executable).parent
PR_SET_PDEATHSIG = 1
STOP_S_MAX = 15
WAIT_S = 60
URGENT = 1
"""Priority, above all ordinary processes, of parts that do little and measure time: else they measure this computer."""


class Part:
    """One end of a running part."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def say(self, value: Any) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(value) + "\n")

    def hear(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"a part ended: {' '.join(map(str, self._process.args))}")
        return json.loads(line)

    def ask(self, value: Any) -> Any:
        self.say(value)
        return self.hear()


class Processes:
    """Everything that was started; ended in reverse order when the block ends. Each has its log in ``work``."""

    def __init__(self, network: Network, work: Path) -> None:
        self._network = network
        self._work = work
        self._started: list[subprocess.Popen[str]] = []

    def __enter__(self) -> Processes:
        return self

    def __exit__(self, *error: object) -> None:
        for process in reversed(self._started):
            process.terminate()
        for process in self._started:
            try:
                process.wait(STOP_S_MAX)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def start(self, name: str | None, *command: str, answers: bool = False) -> subprocess.Popen[str]:
        """:param name: the namespace; None for none, with the rights to enter any."""
        with (self._work / f"process-{len(self._started)}.log").open("w") as log:
            process = subprocess.Popen(
                command if name is None else self._network.inside(name, *command),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE if answers else log,
                stderr=log,
                text=True,
                bufsize=1,
                cwd=HERE,
                # Ctrl-C is for the bench, which ends the others in order.
                start_new_session=True,
            )
        self._started.append(process)
        return process

    def part(self, name: str | None, part: str, *values: str) -> Part:
        return Part(self.start(name, sys.executable, "-m", "lab.processes", part, *values, answers=True))


def until(what: str, probe: Callable[[], Any], seconds: float = WAIT_S) -> Any:
    """Look until ``probe`` gives something; other processes cannot wake us."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := probe():
            return found
        time.sleep(0.1)
    raise SystemExit(f"{what}: not within {seconds:.0f} s")


def urgent() -> None:
    """This process comes before all ordinary ones, where the system allows it."""
    with contextlib.suppress(PermissionError):
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(URGENT))


def end_with_parent() -> None:
    """This process is asked to end when the one that started it has ended, however that ends."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


# ------------------------------------------------------------------ inside of a part


def told(given: IO[str]) -> Any:
    """The next value, or None at the end."""
    line = given.readline()
    return json.loads(line) if line else None


def answer(value: Any) -> None:
    print(json.dumps(value), flush=True)


def main() -> None:
    from . import delay, ledbat, loads, release, swarm

    end_with_parent()
    name, *values = sys.argv[1:]
    parts: dict[str, Callable[..., None]] = {
        **loads.PARTS,
        **ledbat.PARTS,
        **release.PARTS,
        **swarm.PARTS,
        "delay": delay.delay,
    }
    with contextlib.suppress(KeyboardInterrupt):
        parts[name](*values)


if __name__ == "__main__":
    main()
