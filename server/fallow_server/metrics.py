"""Figures for Prometheus, at ``GET /metrics`` of each application."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable

from aiohttp import web
from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from .fleet.live import Fleet
from .fleet.totals import Totals, totals_of
from .http import Api, Role
from .ledger.app import LedgerService
from .link import Link

LATE_EVERY_S = 0.5
LATE_BUCKETS_S = (0.002, 0.005, 0.02, 0.05, 0.1, 0.5, 2.0)


class Metrics:
    """A registry of its own, so that two applications in one process do not mix."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        labels = ["method", "route", "status"]
        self._requests = Counter("fallow_requests", "Requests answered.", labels, registry=self.registry)
        self._seconds = Histogram("fallow_request_seconds", "Time to answer.", ["route"], registry=self.registry)
        self._late = Histogram(
            "fallow_loop_late_seconds",
            "By how much the event loop was late, twice a second.",
            buckets=LATE_BUCKETS_S,
            registry=self.registry,
        )
        self._answered: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}
        self.before: list[Callable[[], Awaitable[None]]] = []
        """Awaited before the figures are read, for what takes too long to be counted in one go."""

    def add_to(self, api: Api) -> None:
        api.on_answer = self._count
        # A scraper on this machine needs no token; from elsewhere it is the operator's to read.
        api.add("GET", "/metrics", self.show, Role.OPERATOR, loopback=True)

    def _count(self, method: str, route: str, status: int, seconds: float) -> None:
        key = (method, route, status)
        known = self._answered.get(key)
        if known is None:  # to look for labels takes longer than to count
            known = self._requests.labels(method, route, str(status)), self._seconds.labels(route)
            self._answered[key] = known
        requests, duration = known
        requests.inc()
        if status != 101:  # a session's length says nothing about the server
            duration.observe(seconds)

    async def show(self, request: web.Request) -> web.Response:
        return web.Response(body=await self.text(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def text(self) -> bytes:
        for prepare in self.before:
            await prepare()
        return generate_latest(self.registry)

    async def watch_loop(self) -> None:
        """Measure how late the loop is, by its own work or because the machine is busy, until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + LATE_EVERY_S
            await asyncio.sleep(LATE_EVERY_S)
            self._late.observe(max(0.0, loop.time() - due))


class LedgerCollector(Collector):
    """The ledger's last daily report, and what providers contradicted, read when asked."""

    def __init__(self, ledger: LedgerService) -> None:
        self._ledger = ledger

    def collect(self) -> Iterable[Metric]:
        report = self._ledger.reports.last
        contradicted = self._ledger.fulfilment.contradicted
        yield GaugeMetricFamily(
            "fallow_redemptions_contradicted", "Providers' answers against what was resolved.", contradicted
        )
        if report is None:
            return
        values = {
            "fallow_books_sound": ("1 when everything recomputed in the last daily report.", int(report["sound"])),
            "fallow_books_unaccounted_micro_points": ("Should be 0.", report["unaccounted"]),
            "fallow_books_differences": ("Should be 0.", report["difference_count"]),
            "fallow_books_reported_at": ("When the last daily report was made, Unix seconds.", report["at"]),
            "fallow_supply_micro_points": ("All points that were ever deposited.", report["supply"]),
            "fallow_redemptions_unknown": ("Of which nobody knows what became.", report["redemptions"]["unknown"]),
        }
        for name, (text, value) in values.items():
            yield GaugeMetricFamily(name, text, value)


class FleetCollector(Collector):
    """The fleet and the link; of the fleet what :meth:`count` found."""

    def __init__(self, fleet: Fleet, link: Link) -> None:
        self._fleet = fleet
        self._link = link
        self._totals = Totals()

    async def count(self) -> None:
        """Look at all devices, some at a time."""
        self._totals = await totals_of(self._fleet)

    def collect(self) -> Iterable[Metric]:
        totals = self._totals
        values = {
            "fallow_devices_connected": ("Devices with a session.", len(self._fleet)),
            "fallow_devices_reachable": ("Devices that answered a dial-back.", totals.reachable),
            "fallow_devices_paused": ("Devices whose owner paused them.", totals.paused),
            "fallow_idle_up_bps": ("Idle upload of all devices, bit/s.", totals.idle_up_bps),
            "fallow_connections": ("Consumers served by devices now.", totals.connections),
            "fallow_ledger_reached": ("1 when the ledger acknowledged the last time.", int(self._link.trouble is None)),
        }
        for name, (text, value) in values.items():
            yield GaugeMetricFamily(name, text, value)
