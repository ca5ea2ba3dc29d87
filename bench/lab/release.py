"""A crowd of consumers: forked from one process, held at a barrier, and released at one instant.

Python and its modules are loaded once, before the fork, so that the crowd's start costs this computer nothing while the
network is measured. A consumer is a program, or the ``fallow`` command itself, run in its process.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import os
import resource
import signal
import sys
import time
from pathlib import Path
from typing import Any

from .processes import answer, end_with_parent, told

CLONE_NEWNET = 0x40000000
PRELOADED = ("fallow_client.cli", "fallow_client.fetch", "fallow_client.part_file")
"""Imported before the fork: else sixty interpreters would do it at once, in the time that is measured."""


def crowd(path: str) -> None:
    """:param path: JSON: ``members`` of ``{"namespace": full name, "command": [words], "log": path}``, and
    ``seconds_max``, after which who is not done is ended. A command whose first word is ``fallow`` runs in the fork.

    Answers ``true`` when all wait; told anything, releases them and answers
    ``{"cpu_s": of all of them, "members": [[seconds, code], …]}`` where -1 is the code of who was not done.
    """
    wanted = json.loads(Path(path).read_text())
    if any(member["command"][0] == "fallow" for member in wanted["members"]):
        for name in PRELOADED:
            importlib.import_module(name)
    gc.freeze()  # a collection in each fork would copy all of what they share
    barrier, release = os.pipe()
    ready, here = os.pipe()
    numbers: dict[int, int] = {}
    for number, member in enumerate(wanted["members"]):
        child = os.fork()
        if child == 0:
            os.close(release)
            _wait_and_run(member, barrier, here)
        numbers[child] = number
    for _ in numbers:
        assert os.read(ready, 1)
    answer(True)
    told(sys.stdin)
    released = time.monotonic()
    os.close(release)
    members = _await(numbers, released, wanted["seconds_max"])
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    answer({"cpu_s": used.ru_utime + used.ru_stime, "members": members})


def _wait_and_run(member: dict[str, Any], barrier: int, here: int) -> None:
    end_with_parent()
    with open(f"/run/netns/{member['namespace']}", "rb") as entered:
        if ctypes.CDLL(None).setns(entered.fileno(), CLONE_NEWNET) != 0:
            os._exit(126)
    log = os.open(member["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for target, source in ((0, nothing), (1, log), (2, log)):
        os.dup2(source, target)
    os.write(here, b".")
    os.read(barrier, 1)
    command = member["command"]
    if command[0] != "fallow":
        os.execvp(command[0], command)
    from fallow_client.cli import run

    code = run(command[1:], dict(os.environ))
    sys.stdout.flush()
    os._exit(code)


def _await(numbers: dict[int, int], released: float, seconds_max: float) -> list[list[float]]:
    found: list[list[float]] = [[seconds_max, -1] for _ in numbers]

    def end(*_: object) -> None:
        for child in numbers:
            os.kill(child, signal.SIGKILL)

    signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, seconds_max)
    while numbers:
        child, status = os.wait()
        code = os.waitstatus_to_exitcode(status)
        found[numbers.pop(child)] = [time.monotonic() - released, -1 if code < 0 else code]
    signal.setitimer(signal.ITIMER_REAL, 0)
    return found


PARTS = {"crowd": crowd}
