"""A server with its console, and synthetic devices: as many rows and live sessions as a test wants, without sockets."""

from __future__ import annotations

from dataclasses import replace

from fallow_server.console.routes import APP
from fallow_server.fleet.live import LiveDevice
from fallow_server.fleet.reachability import REACH, reach_of
from server_world import ServerWorld, heartbeat

BUILT = APP / "index.html"


async def _nowhere(_text: str) -> None:
    raise ConnectionError


def _never(_code: int, _reason: str) -> None:
    return


def device_id(number: int) -> str:
    return f"fd{number:025d}"


async def populate(world: ServerWorld, devices: int, connected: int, homes: int = 100) -> None:
    """Rows of devices of some ``homes``, of which the first ``connected`` have a session, each in its own way."""
    owners = [f"own-{number:03d}" for number in range(homes)]

    def insert(rows: object) -> None:
        many = rows.many  # type: ignore[attr-defined]
        many(
            "INSERT INTO accounts (id, role, name, created_at) VALUES (?, ?, ?, ?)",
            [(owner, "owner", f"Home {owner[4:]}", 1) for owner in owners],
        )
        many(
            "INSERT INTO devices (id, public_key, owner, model, version, state, bound_at, last_seen)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            [
                (
                    device_id(number),
                    "k" * 43,
                    owners[number % homes],
                    ("Raspberry Pi 5", "OpenWrt One")[number % 2],
                    "0.1.0",
                    "active",
                    1_700_000_000 + number,
                    1_700_000_000 + number,
                )
                for number in range(devices)
            ],
        )

    await world.scheduler.database.transact(insert)
    beat = heartbeat()
    for number in range(connected):
        live = LiveDevice(
            device_id(number), owners[number % homes], bytes(32), "192.0.2.1", 1_800_000_000, _nowhere, _never
        )
        live.reach = reach_of(REACH[number % len(REACH)], REACH[-1])
        if live.reach.ipv4 in ("open", "mapped"):
            live.service_urls = (f"http://198.51.100.{number % 250}:32557",)
        live.heartbeat = replace(beat, line=replace(beat.line, idle_up_bps=1_000_000 + 1000 * number), state="active")
        await world.scheduler.fleet.attach(live)
