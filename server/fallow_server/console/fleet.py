"""The fleet for the console: all devices that are known, with what is live of them, looked at every few seconds.

A hundred thousand rows are sorted for a page of fifty. So the table is made once for all who look, in slices on the
loop and the rest in a thread, and no more than a twentieth of the time is spent on it; when nobody looks it is let go.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from aiohttp import web
from fallow_wire.fields import encode

from ..clock import Clock
from ..database import Database
from ..delivery.devices import Devices
from ..fleet.reachability import MAPPED, NOT_KNOWN, OPEN, UNKNOWN
from ..http import Api, Role, refusal
from .answers import tagged
from .rows import CONNECTING, OFFLINE, UNBOUND, DeviceRow, Summary, page_of, query_of, summary_of

DEVICES_MAX = 500_000
"""Rows that are read; some 200 MB, for as long as somebody looks."""
FRESH_S = 4.0
SHARE_MAX = 0.05
"""Of the time, for making the table."""
KEPT_S = 60.0
"""After somebody looked."""
SLICE_DEVICES = 1000
"""Before others have their turn on the loop: some ms."""
OBJECTS_SHOWN_MAX = 200
REACHABLE = frozenset({OPEN, MAPPED})


@dataclass(frozen=True, slots=True)
class _Look:
    """``at_s``: monotonic, when it was begun; ``took_s``: for how long it was made."""

    rows: list[DeviceRow]
    summary: Summary
    at_s: float
    took_s: float
    at: int


class FleetTable:
    def __init__(self, database: Database, devices: Devices, clock: Clock) -> None:
        self._database = database
        self._devices = devices
        self._clock = clock
        self._making = asyncio.Lock()
        self._look: _Look | None = None
        self._forgetting: asyncio.TimerHandle | None = None

    def add_to(self, api: Api) -> None:
        api.add("GET", "/console/fleet", self.page, Role.OPERATOR)
        api.add("GET", "/console/fleet/summary", self.summary, Role.OPERATOR)
        api.add("GET", "/console/devices/{id}", self.device, Role.OPERATOR)

    def close(self) -> None:
        self._forget()

    async def page(self, request: web.Request) -> web.Response:
        """Devices that fit the query, sorted, a page of them, and how many there are."""
        query = query_of(request.query)
        look = await self.look()
        total, rows = await asyncio.to_thread(page_of, look.rows, query)
        return tagged(request, {"total": total, "devices": [row._asdict() for row in rows]})

    async def summary(self, request: web.Request) -> web.Response:
        return tagged(request, (await self.look()).summary)

    async def device(self, request: web.Request) -> web.Response:
        """All that is known of one device now."""
        device_id = request.match_info["id"]
        found = await self._database.ask(lambda rows: rows.all(f"{_QUERY} WHERE d.id = ?", (device_id,)))
        if not found:
            raise refusal(404, "unknown-device", "There is no such device")
        told: dict[str, Any] = self._row(found[0])._asdict()
        live = self._devices.fleet.get(device_id)
        if live is not None:
            reach = live.reach or NOT_KNOWN
            objects = sorted(live.content)
            told |= {
                "connected_at": live.connected_at,
                "service_urls": live.service_urls,
                "reach_ipv4": reach.ipv4,
                "reach_ipv6": reach.ipv6,
                "object_ids": objects[:OBJECTS_SHOWN_MAX],
                "committed_bytes": self._devices.committed.get(device_id, 0),
            }
            if live.heartbeat is not None:
                told["heartbeat"] = encode(live.heartbeat)
        return tagged(request, told)

    async def look(self) -> _Look:
        """The table, a few seconds old at most; older where making it takes long."""
        async with self._making:
            look = self._look
            if look is None or self._clock.monotonic() - look.at_s >= max(FRESH_S, look.took_s / SHARE_MAX):
                look = self._look = await self._make()
            if self._forgetting is not None:
                self._forgetting.cancel()
            self._forgetting = asyncio.get_running_loop().call_later(KEPT_S, self._forget)
            return look

    def _forget(self) -> None:
        if self._forgetting is not None:
            self._forgetting.cancel()
        self._look, self._forgetting = None, None

    async def _make(self) -> _Look:
        started_s, at = self._clock.monotonic(), self._clock.now()
        known = await self._database.ask(lambda rows: rows.all(f"{_QUERY} ORDER BY d.id LIMIT ?", (DEVICES_MAX,)))
        made: list[DeviceRow] = []
        for first in range(0, len(known), SLICE_DEVICES):
            made += [self._row(row) for row in known[first : first + SLICE_DEVICES]]
            await asyncio.sleep(0)
        summary = await asyncio.to_thread(summary_of, made, REACHABLE)
        return _Look(made, summary, started_s, self._clock.monotonic() - started_s, at)

    def _row(self, known: Any) -> DeviceRow:
        device_id, owner, owner_name, model, version, bound_at, last_seen = known
        live = self._devices.fleet.get(device_id)
        if live is None:
            state = OFFLINE if owner is not None else UNBOUND
            return DeviceRow(
                device_id, owner, owner_name, model, version, state, False, UNKNOWN, None, None, 0, 0, 0, bound_at,
                last_seen,
            )  # fmt: skip
        beat, place = live.heartbeat, self._devices.place(device_id)
        return DeviceRow(
            device_id,
            owner,
            owner_name,
            model,
            beat.environment.version if beat is not None else version,
            beat.state if beat is not None else CONNECTING,
            True,
            live.reachability,
            place.country,
            place.asn,
            beat.line.idle_up_bps if beat is not None else 0,
            beat.connections if beat is not None else 0,
            len(live.content),
            bound_at,
            live.last_seen,
        )


_QUERY = (
    "SELECT d.id, d.owner, a.name, d.model, d.version, d.bound_at, d.last_seen"
    " FROM devices d LEFT JOIN accounts a ON a.id = d.owner"
)
