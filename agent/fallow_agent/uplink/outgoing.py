"""What the scheduler has yet to be told. Pure.

Only the newest word about each task and object counts: while a session is slow or held back, words about the same
thing replace one another, so that what waits is bounded by the number of things, not by how often they change.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from itertools import islice

from fallow_wire.limits import CONTENT_IDS_MAX
from fallow_wire.session import Content, TaskStatus


class Held(Enum):
    WHOLE = "whole"
    PART = "part"
    NOT = "not"


class Outgoing:
    """Contents go before statuses: a task is not done before its object is known to be there."""

    def __init__(self) -> None:
        self._held: dict[str, Held] = {}
        self._snapshot = False
        self._statuses: dict[str, TaskStatus] = {}

    def begin(self, held: Iterable[str], partial: Iterable[str], statuses: Iterable[TaskStatus]) -> None:
        """A session opens: the scheduler shall know what is held, whole and in part, and how its tasks stand."""
        self._held = dict.fromkeys(partial, Held.PART) | dict.fromkeys(held, Held.WHOLE)
        self._snapshot = True
        self._statuses = {status.id: status for status in statuses}

    def add(self, message: TaskStatus | Content) -> None:
        if isinstance(message, TaskStatus):
            self._statuses[message.id] = message
            return
        self._held.update(dict.fromkeys(message.added, Held.WHOLE))
        self._held.update(dict.fromkeys(message.partial, Held.PART))
        self._held.update(dict.fromkeys(message.dropped, Held.NOT))

    def clear(self) -> None:
        self.begin((), (), ())
        self._snapshot = False

    def __len__(self) -> int:
        """Things to be told of."""
        return self._snapshot + len(self._held) + len(self._statuses)

    def take(self) -> TaskStatus | Content:
        """The next message; there must be something to tell.

        A content message names at most ``CONTENT_IDS_MAX`` ids in all, and only the first of a session is a snapshot.
        """
        if not self._snapshot and not self._held:
            return self._statuses.pop(next(iter(self._statuses)))
        ids = tuple(islice(self._held, CONTENT_IDS_MAX))
        held = {object_id: self._held.pop(object_id) for object_id in ids}
        added, partial, dropped = (
            tuple(object_id for object_id in ids if held[object_id] is state)
            for state in (Held.WHOLE, Held.PART, Held.NOT)
        )
        snapshot, self._snapshot = self._snapshot, False
        return Content(added, dropped, snapshot, partial)
