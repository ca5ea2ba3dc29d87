"""The fleet as a table: filtered, sorted and cut into pages, and counted by what it has in common. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from fallow_wire.errors import Malformed

ROWS_PER_PAGE_MAX = 200
ROWS_PER_PAGE = 50
SEARCH_CHARS_MAX = 128
VERSIONS_SHOWN_MAX = 20
OFFLINE, UNBOUND, CONNECTING = "offline", "unbound", "connecting"
"""States beside those of heartbeats: no session; no owner; a session without a heartbeat yet."""


class DeviceRow(NamedTuple):
    """One device. ``country`` and ``asn`` are of its session's address; rates are of its last heartbeat."""

    device_id: str
    owner: str | None
    owner_name: str | None
    model: str
    version: str
    state: str
    connected: bool
    reach: str
    country: str | None
    asn: int | None
    idle_up_bps: int
    connections: int
    objects: int
    bound_at: int | None
    last_seen: int | None


SORTABLE = frozenset(DeviceRow._fields) - {"connected"}
FILTERS = ("state", "reach", "country", "version", "owner")
NOWHERE = "-"
"""Stands for a country that is not known, in filters."""


@dataclass(frozen=True, slots=True)
class Query:
    """``filters``: values by column, of :data:`FILTERS`. ``page`` counts from 0."""

    search: str = ""
    filters: tuple[tuple[str, str], ...] = ()
    sort: str = "device_id"
    descending: bool = False
    page: int = 0
    limit: int = ROWS_PER_PAGE


def query_of(given: Mapping[str, str], sortable: Iterable[str] = SORTABLE, filters: Iterable[str] = FILTERS) -> Query:
    """The query of a request's parameters: ``q``, ``sort`` (``-`` before it: descending), ``page``, ``limit``, filters.

    :raises Malformed: naming the parameter that is not as it should be.
    """
    search = given.get("q", "").strip()
    if len(search) > SEARCH_CHARS_MAX or "\0" in search:
        raise Malformed(f"q: at most {SEARCH_CHARS_MAX} characters")
    sort = given.get("sort", "")
    column = sort.removeprefix("-")
    if sort and column not in sortable:
        raise Malformed(f"sort: one of {', '.join(sorted(sortable))} is wanted")
    chosen = tuple((name, given[name]) for name in filters if given.get(name))
    if any("\0" in value or len(value) > SEARCH_CHARS_MAX for _, value in chosen):
        raise Malformed("a filter has at most 128 characters")
    return Query(
        search,
        chosen,
        column or "device_id",
        sort.startswith("-"),
        _number(given, "page", 0, 10**9),
        max(1, _number(given, "limit", ROWS_PER_PAGE, ROWS_PER_PAGE_MAX)),
    )


def _number(given: Mapping[str, str], name: str, default: int, most: int) -> int:
    value = given.get(name, str(default))
    if not (value.isascii() and value.isdigit() and len(value) < 11 and int(value) <= most):
        raise Malformed(f"{name}: a whole number from 0 to {most} is wanted")
    return int(value)


def page_of(rows: Sequence[DeviceRow], query: Query) -> tuple[int, list[DeviceRow]]:
    """How many rows fit the query, and those of its page. Rows without a value come last in either direction."""
    found = _fitting(rows, query)
    column = DeviceRow._fields.index(query.sort)
    there = [row for row in found if row[column] is not None]
    there.sort(key=lambda row: row[0])
    there.sort(key=_order_of(column), reverse=query.descending)
    first = query.page * query.limit
    page = there[first : first + query.limit]
    if len(page) < query.limit and len(there) < len(found):
        without = [row for row in found if row[column] is None]
        past = max(0, first - len(there))
        page += without[past : past + query.limit - len(page)]
    return len(found), page


def _order_of(column: int) -> Callable[[DeviceRow], Any]:
    def order(row: DeviceRow) -> Any:
        value = row[column]
        return value.casefold() if isinstance(value, str) else value

    return order


def _fitting(rows: Sequence[DeviceRow], query: Query) -> Sequence[DeviceRow]:
    for name, wanted in query.filters:
        column = DeviceRow._fields.index(name)
        value = None if wanted == NOWHERE else wanted
        rows = [row for row in rows if row[column] == value]
    if query.search:
        text = query.search.casefold()
        rows = [row for row in rows if any(text in (part or "").casefold() for part in row[:4])]
    return rows


@dataclass(slots=True)
class CountryRow:
    """Connected devices of one country; None where the tables of addresses do not tell."""

    country: str | None
    connected: int = 0
    reachable: int = 0
    idle_up_bps: int = 0
    connections: int = 0


@dataclass(frozen=True, slots=True)
class Summary:
    """Of all devices. ``by_country``: of those that are connected, the most first."""

    devices: int
    connected: int
    reachable: int
    idle_up_bps: int
    connections: int
    by_country: tuple[CountryRow, ...]
    by_state: dict[str, int]
    by_reach: dict[str, int]
    by_version: dict[str, int]


def summary_of(rows: Iterable[DeviceRow], reachable: frozenset[str]) -> Summary:
    """:param reachable: words of ``reach`` that mean that consumers get there."""
    countries: dict[str | None, CountryRow] = {}
    states: Counter[str] = Counter()
    reaches: Counter[str] = Counter()
    versions: Counter[str] = Counter()
    count = 0
    for row in rows:
        count += 1
        states[row.state] += 1
        if not row.connected:
            continue
        versions[row.version] += 1
        reaches[row.reach] += 1
        found = countries.get(row.country)
        if found is None:
            found = countries[row.country] = CountryRow(row.country)
        found.connected += 1
        found.reachable += row.reach in reachable
        found.idle_up_bps += row.idle_up_bps
        found.connections += row.connections
    ordered = sorted(countries.values(), key=lambda one: (-one.connected, one.country or ""))
    return Summary(
        count,
        sum(one.connected for one in ordered),
        sum(one.reachable for one in ordered),
        sum(one.idle_up_bps for one in ordered),
        sum(one.connections for one in ordered),
        tuple(ordered),
        dict(states.most_common()),
        dict(reaches.most_common()),
        dict(versions.most_common(VERSIONS_SHOWN_MAX)),
    )
