"""The distance to the internet, where the kernel cannot make it: a delay line between two TUN devices. One process.

A packet read from either device is written to the other one after the delay, in order. Run as a part of the laboratory
(see ``processes``), outside of all namespaces: it enters the two one after another and keeps only the devices.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import select
import struct
import time
from collections import deque
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path

from .processes import urgent

TUNSETIFF = 0x400454CA
IFF_TUN, IFF_NO_PI = 0x0001, 0x1000
CLONE_NEWNET = 0x40000000
PACKET_BYTES_MAX = 2048
BATCH = 64
"""Packets read at once from one side before the other one gets its turn."""
NAP_S = 0.0004
"""Slept in each turn: packets of that time are read together and leave together, and the processor is spared."""
QUEUE_PACKETS_MAX = 20_000
"""More than 1 Gbit/s at 20 ms; beyond that, packets are dropped as by any router."""
REPORT_S = 1.0
ERROR_STEP_S, ERROR_STEPS = 0.0001, 1000


def attach(namespace: str, device: str) -> int:
    """A file of the TUN device, which must exist in the namespace. The caller is in that namespace from then on."""
    libc = ctypes.CDLL(None, use_errno=True)
    with open(f"/run/netns/{namespace}", "rb") as entered:
        if libc.setns(entered.fileno(), CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), f"cannot enter {namespace}")
    tun = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(tun, TUNSETIFF, struct.pack("16sH22x", device.encode(), IFF_TUN | IFF_NO_PI))
    return tun


class Errors:
    """How late packets left, in steps of 0.1 ms; written over and over to a file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._steps = [0] * (ERROR_STEPS + 1)

    def add(self, late_s: float) -> None:
        self._steps[min(ERROR_STEPS, int(late_s / ERROR_STEP_S))] += 1

    def write(self) -> None:
        draft = self._path.with_suffix(".new")
        draft.write_text(" ".join(map(str, self._steps)))
        draft.replace(self._path)


def read_errors(path: Path) -> list[int]:
    """Packets by how late they left."""
    return [int(word) for word in path.read_text().split()]


def added_ms(before: Sequence[int], after: Sequence[int], share: float) -> float:
    """The quantile of what the delay line itself added between two readings, rounded up to its steps."""
    counts = [last - first for first, last in zip(before, after, strict=True)]
    reached = accumulate(counts)
    return next(step for step, count in enumerate(reached, 1) if count >= share * sum(counts)) * ERROR_STEP_S * 1000


def delay(near: str, far: str, device: str, one_way_ms: str, path: str) -> None:
    """Until killed. :param near, far: full names of the namespaces. :param path: where errors are counted."""
    ends = [attach(namespace, device) for namespace in (near, far)]
    urgent()
    delay_s, errors = float(one_way_ms) / 1000, Errors(Path(path))
    waiting: list[deque[tuple[float, bytes]]] = [deque(), deque()]
    sides = ((ends[0], ends[1], waiting[0]), (ends[1], ends[0], waiting[1]))
    read, write, now = os.read, os.write, time.monotonic
    report_at = now() + REPORT_S
    while True:
        due = min((queue[0][0] for queue in waiting if queue), default=report_at)
        select.select(ends, [], [], max(0.0, due - now() - NAP_S))
        time.sleep(NAP_S)
        for source, target, queue in sides:
            try:
                for _ in range(BATCH):
                    packet = read(source, PACKET_BYTES_MAX)
                    if len(queue) < QUEUE_PACKETS_MAX:
                        queue.append((now() + delay_s, packet))
            except BlockingIOError:
                pass  # all that was there is read
            at = now()
            while queue and queue[0][0] <= at + NAP_S / 2:
                due, packet = queue.popleft()
                write(target, packet)
                errors.add(max(0.0, at - due))
        if now() >= report_at:
            errors.write()
            report_at = now() + REPORT_S
