"""One family's port at the home router: whom to ask next, for what, and when. Pure; ``keeper.py`` performs.

Each :class:`Ask` has one outcome, and :meth:`Opening.after` takes it. Rules:

1. What is granted ends by itself: a lease is asked for again at half of its life, and is not counted on beyond its end.
   So asking again is also what notices a router that has forgotten: it makes the mapping anew.
2. A port that is another's is left to it, and another is asked for.
3. Where nothing answers, the pauses between the rounds grow to hours: the home's network is not ours.
"""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass

LIFETIME_S = 3600
"""Asked for. A device that lost its power leaves its port open at the router for so long at most."""
LIFETIME_S_MIN, LIFETIME_S_MAX = 120, 24 * 3600
"""What a router grants is taken as within these: one that says a second is not asked every half second."""
AGAIN_S = 60.0
"""Until the next try while something is held and the router is silent: it may be starting anew."""
REST_S_MIN, REST_S_MAX = 60.0, 6 * 3600.0
PORTS_MAX = 4
"""External ports that are tried: a home in which so many are taken has a router that says no to everything."""
_OTHERS_FROM, _OTHERS = 20000, 30000


@dataclass(frozen=True, slots=True)
class Grant:
    """``by``: the protocol. ``address``: the router's on the outside, None where it did not say.
    ``lifetime_s``: 0 for one that stays until it is released. ``handle``: what the protocol knows it by."""

    by: str
    address: str | None
    port: int
    lifetime_s: int
    handle: str = ""


@dataclass(frozen=True, slots=True)
class Ask:
    """Ask for the external ``port`` by the protocol ``by``; with ``handle`` for the same as before."""

    by: str
    port: int
    handle: str = ""


@dataclass(frozen=True, slots=True)
class Granted:
    grant: Grant


@dataclass(frozen=True, slots=True)
class Taken:
    """The port is another's."""


@dataclass(frozen=True, slots=True)
class Refused:
    """The router answers, and says no; ``why`` is its reason."""

    why: str


NO_ADDRESS = "it has no public address itself"
"""A reason to refuse: while the scheduler is reached through it, that router stands behind another NAT."""


@dataclass(frozen=True, slots=True)
class Silent:
    """Nothing there speaks the protocol, or not now."""


Outcome = Granted | Taken | Refused | Silent


@dataclass(frozen=True, slots=True)
class Opening:
    """``methods``: protocols, in the order in which they are tried. ``ports``: external ones, likewise.

    ``due_at``: when to act next, monotonic. ``refusals``: by protocol, the router's reasons in the round before or in
    the one under way, for the owner.
    """

    methods: tuple[str, ...]
    ports: tuple[int, ...]
    due_at: float
    method: int = 0
    port: int = 0
    grant: Grant | None = None
    ends_at: float = 0.0
    rounds: int = 0
    refusals: tuple[tuple[str, str], ...] = ()

    def next(self) -> Ask:
        """What to do when it is due."""
        if self.grant is not None:
            return Ask(self.grant.by, self.grant.port, self.grant.handle)
        return Ask(self.methods[self.method], self.ports[self.port])

    def after(self, outcome: Outcome, now: float) -> Opening:
        """What follows from the outcome of :meth:`next`."""
        if isinstance(outcome, Granted):
            return self._hold(outcome.grant, now)
        if self.grant is not None:
            if isinstance(outcome, Silent) and now < self.ends_at:
                return dataclasses.replace(self, due_at=min(self.ends_at, now + AGAIN_S))
            return dataclasses.replace(self, grant=None, method=0, port=0, due_at=now)
        match outcome:
            case Taken() if self.port + 1 < len(self.ports):
                return dataclasses.replace(self, port=self.port + 1, due_at=now)
            case Taken():
                return self._on(now, "no port is free")
            case Refused(why):
                return self._on(now, why)
            case Silent():
                return self._on(now, None)

    def hurry(self, now: float) -> Opening:
        """The same, due at once: there is reason to think that the router has forgotten."""
        return dataclasses.replace(self, due_at=min(self.due_at, now))

    def held(self, now: float) -> Grant | None:
        """What may be counted on."""
        return self.grant if self.grant is not None and now < self.ends_at else None

    def _hold(self, grant: Grant, now: float) -> Opening:
        lasting = grant.lifetime_s == 0
        lifetime_s = LIFETIME_S if lasting else min(max(grant.lifetime_s, LIFETIME_S_MIN), LIFETIME_S_MAX)
        return dataclasses.replace(
            self,
            grant=grant,
            ends_at=float("inf") if lasting else now + lifetime_s,
            due_at=now + lifetime_s / 2,
            rounds=0,
            refusals=(),
        )

    def _on(self, now: float, why: str | None) -> Opening:
        """To the next protocol, or to rest."""
        asked = self.methods[self.method]
        refusals = tuple(one for one in self.refusals if one[0] != asked)
        if why is not None:
            refusals += ((asked, why),)
        if self.method + 1 < len(self.methods):
            return dataclasses.replace(self, method=self.method + 1, port=0, due_at=now, refusals=refusals)
        rest_s = min(REST_S_MIN * 2.0 ** min(self.rounds, 30), REST_S_MAX)
        return dataclasses.replace(
            self, method=0, port=0, rounds=self.rounds + 1, due_at=now + rest_s, refusals=refusals
        )


@dataclass(frozen=True, slots=True)
class Epoch:
    """A router's own seconds since it began to remember its mappings, read at ``at`` by our clock."""

    told_s: int
    at: float


def restarted(before: Epoch | None, now: Epoch) -> bool:
    """True when the router has lost its mappings between two readings (RFC 6887, section 8.5)."""
    if before is None:
        return False
    if now.told_s < before.told_s - 1:
        return True
    ours, theirs = now.at - before.at, now.told_s - before.told_s
    return ours + 2 < theirs - theirs / 16 or theirs + 2 < ours - ours / 16


def external_ports(internal: int, seed: bytes) -> tuple[int, ...]:
    """The external ports to ask for: the same number, then others that are this device's own, after a restart too."""
    drawn = hashlib.sha256(b"fallow-ports-v1\n" + seed).digest()
    others = (_OTHERS_FROM + int.from_bytes(drawn[4 * at : 4 * at + 4], "big") % _OTHERS for at in range(PORTS_MAX - 1))
    return tuple(dict.fromkeys((internal, *others)))
