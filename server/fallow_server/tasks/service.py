"""Network tasks over HTTP, for publishers."""

from __future__ import annotations

from typing import Any

from aiohttp import web
from fallow_wire.fields import decode, one_of

from ..catalogue.objects import Catalogue
from ..clock import Clock
from ..database import Database
from ..delivery.devices import Devices
from ..delivery.tickets import TicketIssuer
from ..http import Api, ApiProblem, Role, json_body, json_response, page_of, principal, refusal
from .config import Config
from .copies import DROP, FILL, SHED, SPREAD, Drops, Fills, Sheds, Spreads
from .driver import TaskDriver
from .kinds import Kind, TaskRequest
from .model import NetworkTask
from .outcomes import Outcomes
from .placing import Placer
from .probes import PROBE, Probes, Resolve, addresses_of
from .sources import Sources
from .states import TaskState
from .store import TaskStore

PAGE_TASKS_MAX = 500


class TaskService:
    """:param public_url: where devices reach the origin. :param resolve: addresses of targets of probes."""

    def __init__(
        self,
        config: Config,
        database: Database,
        catalogue: Catalogue,
        devices: Devices,
        issuer: TicketIssuer,
        clock: Clock,
        public_url: str,
        resolve: Resolve = addresses_of,
    ) -> None:
        self.retry_s = config.retry_s
        self.sources = Sources(config.filters, config.sources_max, devices, issuer, public_url.rstrip("/"))
        self._config = config
        self._clock = clock
        self._store = TaskStore(database)
        self._kinds: dict[str, Kind] = {
            FILL: Fills(config, catalogue, devices, self.sources),
            DROP: Drops(catalogue, devices, self._stop_filling),
            SPREAD: Spreads(config, catalogue, devices, self.sources),
            SHED: Sheds(catalogue, devices, self._stop_filling),
        }
        probes = Probes(config.probes, devices, clock, config.retry_s, resolve)
        self._kinds[PROBE] = probes
        self._outcomes = Outcomes(database)
        placer = Placer(config, devices, self._kinds, {PROBE: probes.homes}, clock, issuer.price)
        self.driver = TaskDriver(config, self._store, self._outcomes, catalogue, devices, self._kinds, placer, clock)

    def offer(self, name: str, kind: Kind) -> None:
        """Tasks of a further kind, before :meth:`start`."""
        self._kinds[name] = kind

    async def start(self) -> None:
        await self.driver.start()

    async def close(self) -> None:
        await self.driver.close()

    def add_routes(self, api: Api) -> None:
        api.add("POST", "/v1/tasks", self.post, Role.PUBLISHER)
        either = (Role.PUBLISHER, Role.OPERATOR)
        api.add("GET", "/v1/tasks", self.get_all, *either)
        api.add("GET", "/v1/tasks/{id}", self.get_one, *either)
        api.add("GET", "/v1/tasks/{id}/results", self.get_results, *either)
        api.add("GET", "/v1/tasks/{id}/why", self.get_why, *either)
        api.add("DELETE", "/v1/tasks/{id}", self.delete, *either)

    async def post(self, request: web.Request) -> web.Response:
        publisher = principal(request).account
        # Strictly: a need that is misspelt would be left out of account, and cost the publisher.
        asked = decode(TaskRequest, await json_body(request), strict=True)
        kind = self._kinds.get(asked.kind)
        if kind is None:
            raise refusal(400, "not-offered", f"{asked.kind} tasks are not offered here")
        now = self._clock.now()
        if asked.deadline is not None and not now < asked.deadline <= now + self._config.lifetime_s_max:
            raise refusal(
                400, "malformed", "deadline is a Unix time to come",
                f"at most {self._config.lifetime_s_max} s from now",
            )  # fmt: skip
        if self.driver.open_count(publisher) >= self._config.publisher_open_max:
            raise refusal(429, "too-many-tasks", "Too many of your tasks are open", remedy="Wait, or cancel some.")
        order = await kind.order(asked, publisher)
        task = await self.driver.create(asked.kind, publisher, order, asked.deadline)
        return json_response(task.described(), status=201)

    async def _stop_filling(self, object_id: str, publisher: str) -> None:
        for task in self.driver.open_fills(object_id, publisher):
            await self.driver.cancel(task)

    async def get_all(self, request: web.Request) -> web.Response:
        """Pages of at most 500 by ``?after=<id>``, oldest first unless ``order=newest``; ``state`` narrows them. An
        operator's are of all publishers, and name them."""
        caller, (after, limit) = principal(request), page_of(request, PAGE_TASKS_MAX)
        newest = one_of("oldest", "newest")(request.query.get("order", "oldest"), "order", True) == "newest"
        states = (
            [TaskState(one_of(*TaskState)(request.query["state"], "state", True))] if "state" in request.query else []
        )
        publisher = None if caller.role is Role.OPERATOR else caller.account
        found = await self._store.listed(publisher, after[:64], limit, newest=newest, states=states)
        tasks = [self.driver.task(task.task_id) or task for task in found]
        return json_response([{**task.described(), **_whose(task, request)} for task in tasks])

    async def get_one(self, request: web.Request) -> web.Response:
        task = await self._of_caller(request)
        return json_response({**await self._described(task), **_whose(task, request)})

    async def get_results(self, request: web.Request) -> web.Response:
        """Pages of at most 500, by device, by ``?after=<device>``."""
        task = await self._of_caller(request)
        after, limit = page_of(request, PAGE_TASKS_MAX)
        return json_response(await self._outcomes.results_of(task.task_id, after[:64], limit))

    async def get_why(self, request: web.Request) -> web.Response:
        """The last decisions, newest first; and how it would be decided now, where more devices are wanted."""
        task = await self._of_caller(request)
        told: dict[str, Any] = {"id": task.task_id, "kind": task.kind, "state": task.state.value}
        told["decisions"] = await self._outcomes.decisions_of(task.task_id)
        sifted = await self.driver.waiting_for(task) if task.is_open else None
        if sifted is not None:
            told["now"] = sifted.told(self._clock.now(), ())
        return json_response(told)

    async def delete(self, request: web.Request) -> web.Response:
        """Cancel. A task that ended keeps its end, and the answer tells it."""
        task = await self._of_caller(request)
        if task.is_open:
            await self.driver.cancel(task)
            await self._kinds[task.kind].cancelled(task)
        return json_response(task.described())

    async def _of_caller(self, request: web.Request) -> NetworkTask:
        """A publisher's own, or any where an operator asks."""
        caller, task_id = principal(request), request.match_info["id"]
        publisher = None if caller.role is Role.OPERATOR else caller.account
        task = self.driver.task(task_id)
        if task is None or publisher not in (None, task.publisher):
            task = await self._store.find(task_id[:64], publisher)
        if task is None:
            raise _not_found()
        return task

    async def _described(self, task: NetworkTask) -> dict[str, Any]:
        described = task.described()
        sifted = await self.driver.waiting_for(task) if task.is_open else None
        if sifted is not None and sifted.refused:
            described["waiting"] = {reason: len(ids) for reason, ids in sorted(sifted.refused.items())}
        return described


def _whose(task: NetworkTask, request: web.Request) -> dict[str, str]:
    """Operators see tasks of many publishers; these know their own."""
    return {"publisher": task.publisher} if principal(request).role is Role.OPERATOR else {}


def _not_found() -> ApiProblem:
    return refusal(404, "not-found", "You have no such task")
