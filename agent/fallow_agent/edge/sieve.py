"""What goes first when room is wanted: SIEVE (Zhang et al., NSDI 2024). Pure.

Objects stand in the order in which they came. One that is asked for is only marked. A hand goes from the oldest to the
newest and round again: it unmarks what it finds marked, and what it finds unmarked goes. New objects come in at the
head, so what was asked for again stays where it is, and what was asked for once is out soon: half of the objects that
anybody asks a cache for are never asked for again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass


@dataclass(slots=True)
class _Node:
    name: str
    visited: bool = False
    newer: _Node | None = None
    older: _Node | None = None


class Sieve:
    """Every step but :meth:`victim` takes the same time whatever is held; that one as long as it unmarks.

    :param names: oldest first, none of them marked; the hand begins at the oldest. Marks are not kept over a restart:
        they are worth a round of the hand.
    """

    def __init__(self, names: Iterable[str] = ()) -> None:
        self._nodes: dict[str, _Node] = {}
        self._newest: _Node | None = None
        self._oldest: _Node | None = None
        self._hand: _Node | None = None
        for name in names:
            self.add(name)

    def __len__(self) -> int:
        return len(self._nodes)

    def __contains__(self, name: str) -> bool:
        return name in self._nodes

    def __iter__(self) -> Iterator[str]:
        """Oldest first."""
        node = self._oldest
        while node is not None:
            yield node.name
            node = node.newer

    def add(self, name: str) -> None:
        """It came just now; nothing happens when it is there."""
        if name in self._nodes:
            return
        node = self._nodes[name] = _Node(name, older=self._newest)
        if self._newest is not None:
            self._newest.newer = node
        self._newest = node
        self._oldest = self._oldest or node

    def visit(self, name: str) -> None:
        """It was asked for."""
        node = self._nodes.get(name)
        if node is not None:
            node.visited = True

    def remove(self, name: str) -> None:
        """It is gone; nothing happens when it is not there."""
        node = self._nodes.pop(name, None)
        if node is None:
            return
        if self._hand is node:
            self._hand = node.newer
        if node.older is not None:
            node.older.newer = node.newer
        else:
            self._oldest = node.newer
        if node.newer is not None:
            node.newer.older = node.older
        else:
            self._newest = node.older

    def victim(self, may_go: Callable[[str], bool] = lambda name: True) -> str | None:
        """What goes next; it stays until :meth:`remove`. The hand stands on it.

        :param may_go: what must stay is passed over, and keeps its mark.
        :returns: None when all must stay.
        """
        node = self._hand or self._oldest
        # Twice around is enough: the first round takes the marks away.
        for _ in range(2 * len(self._nodes)):
            assert node is not None
            if may_go(node.name):
                if not node.visited:
                    self._hand = node
                    return node.name
                node.visited = False
            node = node.newer or self._oldest
        self._hand = node
        return None


class SecondHit:
    """Admission where flash wears: what is asked for the first time is not worth a write; the second time it is.

    :param remembered_max: names; the oldest is forgotten first.
    """

    def __init__(self, remembered_max: int = 4096) -> None:
        self._remembered_max = remembered_max
        self._seen: dict[str, None] = {}

    def admits(self, name: str) -> bool:
        """Whether to write it now. Each call is one request."""
        if name in self._seen:
            del self._seen[name]
            return True
        self._seen[name] = None
        if len(self._seen) > self._remembered_max:
            del self._seen[next(iter(self._seen))]
        return False
