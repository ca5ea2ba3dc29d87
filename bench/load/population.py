"""The fleet that is simulated, from a seed: keys, reports and holdings are the same in each process and each run."""

from __future__ import annotations

import hashlib
import random
import sqlite3
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from fallow_wire.encoding import base64url
from fallow_wire.keys import PrivateKey
from fallow_wire.session import Disk, Environment, Heartbeat, Line, Processor, ServicePort

SEED = "fallow scale"
MBIT = 1_000_000
OWNER = "ow-scale"
HELD = 20
"""Objects on a device."""
MODELS = ("Raspberry Pi 4 Model B Rev 1.4", "Raspberry Pi 5 Model B Rev 1.0", "GL.iNet GL-MT6000", "x86_64 mini PC")
SYSTEMS = ("Debian GNU/Linux 12 (bookworm)", "OpenWrt 23.05.3", "Ubuntu 24.04.1 LTS")


def key_of(number: int) -> PrivateKey:
    return PrivateKey(hashlib.sha256(f"{SEED} device {number}".encode()).digest())


def loopback_of(number: int) -> str:
    """The address that a simulated device connects from and serves at: each has its own."""
    return f"127.{16 + number // 62_500}.{number // 250 % 250}.{1 + number % 250}"


def public_of(number: int) -> str:
    """For devices without sockets: each on a line of its own. Nothing is ever sent there."""
    return f"{11 + number // 65_536}.{number // 256 % 256}.{number % 256}.7"


def heartbeat(number: int, port: ServicePort | None, draw: random.Random) -> Heartbeat:
    """What a device reports: a line of 10 to 50 Mbit/s up, of which the household leaves most."""
    fixed = random.Random(f"{SEED} heartbeat {number}")
    up = fixed.choice((10, 20, 40, 50)) * MBIT
    down = up * 5
    household_up = draw.randrange(up // 3)
    idle = (up - household_up) * 85 // 100
    return Heartbeat(
        "active",
        Line(
            up, down, "upnp", household_up, draw.randrange(down // 2), draw.randrange(MBIT), draw.randrange(MBIT),
            idle, down // 2 + draw.randrange(MBIT), 12 + draw.randrange(20), 12,
        ),
        tuple(draw.randrange(up * 2 // 3, up) for _ in range(24)),
        Disk(64 * 2**30, draw.randrange(32 * 2**30), 200 * 2**30 + draw.randrange(2**30), fixed.choice(("ssd", "sd"))),
        Processor(4, "aarch64", 70 + draw.randrange(30), 2**31 + draw.randrange(2**30), 45 + draw.randrange(15)),
        Environment(
            () if port is None else (port,), fixed.choice(("none", "private")), fixed.choice(SYSTEMS),
            fixed.choice(MODELS), "0.1.0",
        ),
        ("fill", "object"),
        draw.randrange(3),
        64,
    )  # fmt: skip


def later(beat: Heartbeat, draw: random.Random) -> Heartbeat:
    """The next one of the same device: rates have moved, and all else is as it was."""
    line = beat.line
    household = draw.randrange(line.up_capacity_bps // 3)
    idle = (line.up_capacity_bps - household) * 85 // 100
    moved = replace(line, household_up_bps=household, idle_up_bps=idle, own_up_bps=draw.randrange(MBIT))
    return replace(beat, line=moved)


def held_by(number: int, objects: Sequence[str], count: int = HELD) -> tuple[str, ...]:
    """Some are held by many and most by few: the popularity of rank r is 1/r."""
    draw = random.Random(f"{SEED} content {number}")
    found: set[str] = set()
    top = len(objects)
    while len(found) < min(count, top):
        found.add(objects[int(top ** draw.random()) - 1])
    return tuple(sorted(found))


def register(database: Path, count: int) -> None:
    """Rows for ``count`` devices of one owner, as enrolment leaves them."""
    now = int(time.time())
    connection = sqlite3.connect(database)
    with connection:
        connection.execute("INSERT INTO accounts VALUES (?, 'owner', 'Scale', ?)", (OWNER, now))
        connection.executemany(
            "INSERT INTO devices (id, public_key, owner, model, version, state, bound_at)"
            " VALUES (?, ?, ?, ?, '0.1.0', 'enrolled', ?)",
            (
                (public.device_id(), base64url(public.raw), OWNER, MODELS[number % len(MODELS)], now)
                for number in range(count)
                for public in (key_of(number).public,)
            ),
        )
    connection.close()
