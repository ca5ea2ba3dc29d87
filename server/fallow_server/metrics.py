"""Figures for Prometheus, at ``GET /metrics`` of each application."""

from __future__ import annotations

from collections.abc import Iterable

from aiohttp import web
from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from .fleet.live import Fleet
from .http import Api, Role
from .ledger.app import LedgerService
from .link import Link


class Metrics:
    """A registry of its own, so that two applications in one process do not mix."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        labels = ["method", "route", "status"]
        self._requests = Counter("fallow_requests", "Requests answered.", labels, registry=self.registry)
        self._seconds = Histogram("fallow_request_seconds", "Time to answer.", ["route"], registry=self.registry)

    def add_to(self, api: Api) -> None:
        api.on_answer = self._count
        # A scraper on this machine needs no token; from elsewhere it is the operator's to read.
        api.add("GET", "/metrics", self.show, Role.OPERATOR, loopback=True)

    def _count(self, method: str, route: str, status: int, seconds: float) -> None:
        self._requests.labels(method, route, str(status)).inc()
        if status != 101:  # a session's length says nothing about the server
            self._seconds.labels(route).observe(seconds)

    async def show(self, request: web.Request) -> web.Response:
        return web.Response(body=generate_latest(self.registry), headers={"Content-Type": CONTENT_TYPE_LATEST})


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
    """The fleet and the link, read when asked."""

    def __init__(self, fleet: Fleet, link: Link) -> None:
        self._fleet = fleet
        self._link = link

    def collect(self) -> Iterable[Metric]:
        devices = list(self._fleet.devices())
        reporting = [device.heartbeat for device in devices if device.heartbeat is not None]
        values = {
            "fallow_devices_connected": ("Devices with a session.", len(devices)),
            "fallow_devices_reachable": (
                "Devices that answered a dial-back.",
                sum(bool(d.service_urls) for d in devices),
            ),
            "fallow_devices_paused": ("Devices whose owner paused them.", sum(h.state == "paused" for h in reporting)),
            "fallow_idle_up_bps": ("Idle upload of all devices, bit/s.", sum(h.line.idle_up_bps for h in reporting)),
            "fallow_connections": ("Consumers served by devices now.", sum(h.connections for h in reporting)),
            "fallow_ledger_reached": ("1 when the ledger acknowledged the last time.", int(self._link.trouble is None)),
        }
        for name, (text, value) in values.items():
            yield GaugeMetricFamily(name, text, value)
