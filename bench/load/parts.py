"""Processes that the bench starts and asks: a JSON value a line each way, ``{"do": name, …}`` and its answer."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent.parent
LINE_BYTES_MAX = 2**20
"""Of what is asked: thousands of ids of objects."""

Calls = Mapping[str, Callable[..., Awaitable[Any]]]


class Part:
    """``python -m load NAME VALUES…``, bound to one core, with its log in ``log``. Ended with the block."""

    def __init__(self, name: str, *values: str, core: int, log: Path) -> None:
        with log.open("a") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "load", name, *values],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=file, text=True, bufsize=1, cwd=HERE,
            )  # fmt: skip
        self.name = name
        os.sched_setaffinity(self.process.pid, {core})

    def ask(self, what: str, **said: Any) -> Any:
        """:raises SystemExit: when the part has ended, or says that it failed."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps({"do": what, **said}) + "\n")
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"the part {self.name!r} ended")
        told = json.loads(line)
        if "failed" in told:
            raise SystemExit(f"{self.name}: {what}: {told['failed']}")
        return told["answer"]

    def processor_s(self) -> float:
        """User and system time of all its threads so far, of the scheduler's own accounting (ns)."""
        total = 0
        for thread in Path(f"/proc/{self.process.pid}/task").iterdir():
            total += int((thread / "schedstat").read_text().split()[0])
        return total / 1e9

    def resident_kib(self) -> int:
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS"):
                return int(line.split()[1])
        raise SystemExit(f"the part {self.name!r} ended")

    def end(self, how: int = signal.SIGTERM) -> None:
        if self.process.poll() is None:
            self.process.send_signal(how)
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()

    def __enter__(self) -> Part:
        return self

    def __exit__(self, *error: object) -> None:
        self.end()


def many_files() -> None:
    """As many open files as this process may have."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


async def obey(calls: Calls) -> None:
    """Inside of a part: do what is asked on standard input until that ends."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=LINE_BYTES_MAX)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        said = json.loads(line)
        try:
            told = {"answer": await calls[said.pop("do")](**said)}
        except Exception as error:  # noqa: BLE001  # told to who asked
            told = {"failed": f"{type(error).__name__}: {error}"}
        print(json.dumps(told), flush=True)
