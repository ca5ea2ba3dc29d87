"""Tables of the scheduler's database for the console: searched, filtered, sorted and cut into pages by the database."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..database import Database
from ..rows import Rows
from .rows import query_of


@dataclass(frozen=True, slots=True)
class Listing:
    """What may be asked of a table.

    ``columns``: SQL of what is shown, by name, the first of which orders what is alike. ``source``: after ``FROM``.
    ``searched``: SQL of texts in which a search looks. ``filters``: SQL of what must be equal to a parameter.
    """

    columns: Mapping[str, str]
    source: str
    searched: tuple[str, ...]
    filters: Mapping[str, str] = field(default_factory=dict)
    condition: str = ""
    """Always so; ``?`` in it are the first parameters."""

    async def page(
        self, database: Database, given: Mapping[str, str], parameters: tuple[Any, ...] = ()
    ) -> tuple[int, list[dict[str, Any]]]:
        """How many rows fit a request's parameters, and those of its page.

        :param parameters: for ``condition``.
        :raises Malformed: naming the parameter that is not as it should be.
        """
        first = next(iter(self.columns))
        query = query_of({**given, "sort": given.get("sort") or first}, self.columns, self.filters)
        conditions = [self.condition] if self.condition else []
        values = [*parameters]
        for name, value in query.filters:
            conditions.append(f"{self.filters[name]} = ?")
            values.append(value)
        if query.search:
            like = "%" + query.search.lower().replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_") + "%"
            conditions.append("(" + " OR ".join(f"LOWER({one}) LIKE ? ESCAPE '\\'" for one in self.searched) + ")")
            values += [like] * len(self.searched)
        where = f"WHERE {' AND '.join(conditions)}" if conditions else ""
        direction = "DESC" if query.descending else "ASC"
        order = f"ORDER BY {self.columns[query.sort]} {direction}, {self.columns[first]}"
        selected = ", ".join(self.columns.values())

        def read(rows: Rows) -> tuple[int, list[dict[str, Any]]]:
            total = rows.all(f"SELECT COUNT(*) FROM {self.source} {where}", values)[0][0]
            found = rows.all(
                f"SELECT {selected} FROM {self.source} {where} {order} LIMIT ? OFFSET ?",
                (*values, query.limit, query.page * query.limit),
            )
            return total, [dict(zip(self.columns, row, strict=True)) for row in found]

        return await database.ask(read)


ACCOUNTS = Listing(
    columns={
        "id": "a.id",
        "role": "a.role",
        "name": "a.name",
        "created_at": "a.created_at",
        "tokens": "(SELECT COUNT(*) FROM tokens t WHERE t.account = a.id)",
        "devices": "(SELECT COUNT(*) FROM devices d WHERE d.owner = a.id)",
    },
    source="accounts a",
    searched=("a.id", "a.name"),
    filters={"role": "a.role"},
)

_OBJECTS = {
    "id": "o.object_id",
    "name": "o.name",
    "size": "o.size",
    "type": "b.type",
    "replicas_wanted": "o.replicas",
    "created_at": "o.created_at",
    "publisher": "o.publisher",
    "publisher_name": "a.name",
    "mirrored": "o.mirrored",
}
_SITES = {
    "name": "s.name",
    "origin": "s.origin",
    "created_at": "s.created_at",
    "paths": "(SELECT COUNT(*) FROM mirrored m WHERE m.site = s.name)",
    "publisher": "s.publisher",
    "publisher_name": "a.name",
}
OBJECTS = Listing(
    columns=_OBJECTS,
    source="objects o JOIN blobs b ON b.object_id = o.object_id LEFT JOIN accounts a ON a.id = o.publisher",
    searched=("o.name", "o.object_id"),
    filters={"publisher": "o.publisher"},
)
OBJECTS_OF_ONE = Listing(OBJECTS.columns, OBJECTS.source, OBJECTS.searched, condition="o.publisher = ?")
SITES = Listing(
    columns=_SITES,
    source="sites s LEFT JOIN accounts a ON a.id = s.publisher",
    searched=("s.name", "s.origin"),
    filters={"publisher": "s.publisher"},
)
SITES_OF_ONE = Listing(SITES.columns, SITES.source, SITES.searched, condition="s.publisher = ?")
