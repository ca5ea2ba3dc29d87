"""What of a day's deliveries looks made up. Pure.

The scheduler chooses which device serves a consumer, so for a given object each consumer should meet the devices as the
others of its region do. Who fetches from the own devices alone, and lets all other tickets lapse, meets them far too
often: a binomial test says how far. It accuses nobody; it puts a pair in front of an operator, with its reason.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

PAIR_TICKETS_MIN = 5
"""Fewer deliveries of a pair in a day are worth little and prove nothing."""
FALSE_ALARMS_A_DAY = 0.001
"""Pairs of an honest day that may be held against somebody, on average: one in three years."""


Choice = tuple[str, str]
"""An object, and the region that devices were chosen from for it."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """One settled ticket. ``line``: of the device, or the device itself where no line is known; all devices of a line
    count together. ``consumer`` is the pseudonym of that day, ``odds`` the chance, per mille, that the scheduler gave
    to the device, and ``pool`` names the region that it chose from: consumers elsewhere hardly meet these devices, and
    are nothing to compare with."""

    line: str
    consumer: str
    object_id: str
    odds: int | None = None
    pool: str = ""

    @property
    def choice(self) -> Choice:
        """Deliveries of one choice can be compared."""
        return self.object_id, self.pool


@dataclass(frozen=True, slots=True)
class Share:
    """``line`` made ``count`` of the ``deliveries`` of an object, or of all that it served, where routing chooses it
    for a share of ``most`` at most. ``chance``: that of an honest one to make so many."""

    line: str
    count: int
    deliveries: int
    most: float
    chance: float

    def detail(self) -> str:
        """For the operator and the devices' owners."""
        return (
            f"the devices of this line made {self.count} of {self.deliveries} deliveries of what they hold, where the "
            f"choice among the holders gives the strongest of them {self.most:.1%} at most"
        )


@dataclass(frozen=True, slots=True)
class Suspicion:
    """``consumer`` met ``line`` in ``met`` of ``tickets`` deliveries where ``share`` of them was to be expected.

    ``chance``: that of an honest pair to meet so often.
    """

    line: str
    consumer: str
    met: int
    tickets: int
    share: float
    chance: float

    def detail(self) -> str:
        """For the operator and the devices' owners."""
        return (
            f"one consumer received {self.met} of its {self.tickets} deliveries from the devices of this line, where "
            f"the other consumers of the same objects received {self.share:.1%} of theirs"
        )


def unlikely_pairs(deliveries: Iterable[Delivery]) -> list[Suspicion]:
    """The pairs of one day that met too often, the least likely first."""
    of_all: Counter[Choice] = Counter()
    of_line: Counter[tuple[str, Choice]] = Counter()
    of_consumer: dict[str, Counter[Choice]] = defaultdict(Counter)
    met: dict[tuple[str, str], Counter[Choice]] = defaultdict(Counter)
    holders: dict[Choice, set[str]] = defaultdict(set)
    for one in deliveries:
        of_all[one.choice] += 1
        of_line[one.line, one.choice] += 1
        of_consumer[one.consumer][one.choice] += 1
        met[one.line, one.consumer][one.choice] += 1
        holders[one.choice].add(one.line)
    tested = {pair: choices for pair, choices in met.items() if choices.total() >= PAIR_TICKETS_MIN}
    found = []
    for (line, consumer), choices in tested.items():
        expected = 0.0
        for choice, tickets in of_consumer[consumer].items():
            # What the others met. Each holder counts as met once more, so that a rare object proves nothing alone.
            others = of_all[choice] - tickets
            theirs = of_line[line, choice] - choices[choice]
            expected += tickets * (theirs + 1) / (others + len(holders[choice]))
        tickets, count = of_consumer[consumer].total(), choices.total()
        share = min(1.0, expected / tickets)
        chance = binomial_tail(count, tickets, share)
        if chance * len(tested) < FALSE_ALARMS_A_DAY:
            found.append(Suspicion(line, consumer, count, tickets, share, chance))
    return sorted(found, key=lambda one: one.chance)


def unlikely_shares(deliveries: Iterable[Delivery]) -> list[Share]:
    """The lines of one day that made too many of the deliveries of their objects, the least likely first.

    The scheduler wrote into each ticket which share it gave to the device; who makes up deliveries exceeds it. Where it
    is not known, no line of H is chosen for more than 2/H, for a consumer is sent to the better of two drawn at random.
    An object that nobody else served says nothing.
    """
    by_choice: dict[Choice, dict[str, list[int | None]]] = defaultdict(lambda: defaultdict(list))
    for one in deliveries:
        by_choice[one.choice][one.line].append(one.odds)
    tested: list[tuple[str, int, int, float]] = []
    counts: Counter[str] = Counter()
    totals: Counter[str] = Counter()
    expected: dict[str, float] = defaultdict(float)
    for lines in by_choice.values():
        total = sum(map(len, lines.values()))
        for line, found_odds in lines.items():
            known = [odds for odds in found_odds if odds is not None]
            most = sum(known) / len(known) / 1000 if known else 2 / len(lines)
            if most >= 1 or len(lines) == 1:
                continue
            # Of each object, for who makes up deliveries picks those that pay best; and of all of them together.
            tested.append((line, len(found_odds), total, most))
            counts[line] += len(found_odds)
            totals[line] += total
            expected[line] += total * most
    tested += [(line, count, totals[line], expected[line] / totals[line]) for line, count in counts.items()]
    found = []
    for line, count, total, most in tested:
        chance = binomial_tail(count, total, most)
        if chance * len(tested) < FALSE_ALARMS_A_DAY:
            found.append(Share(line, count, total, most, chance))
    return sorted(found, key=lambda one: one.chance)


def binomial_tail(at_least: int, trials: int, share: float) -> float:
    """The chance of ``at_least`` or more successes in ``trials``, each of chance ``share``."""
    if at_least <= 0 or share >= 1:
        return 1.0
    if share <= 0:
        return 0.0
    log_term = (
        math.lgamma(trials + 1)
        - math.lgamma(at_least + 1)
        - math.lgamma(trials - at_least + 1)
        + at_least * math.log(share)
        + (trials - at_least) * math.log1p(-share)
    )
    term = total = 1.0  # in terms of the first, which may be too small for a float
    for successes in range(at_least, trials):
        term *= (trials - successes) / (successes + 1) * share / (1 - share)
        total += term
    return min(1.0, math.exp(min(0.0, log_term + math.log(total))))
