"""What cheating earns, next to honest work on the same line.

A network in days: honest devices and consumers of two providers, so that half of the objects have enough holders in one
to be routed within it; the routing of the scheduler, canaries of the operator, and one cheater with one line, up to 500
devices that serve nothing, and up to 500 consumer addresses a day. Routing, admission with its caps, prices, holding
and the tests of the review queue are the real code; an operator upholds what they find three days later, which takes
back what is held of the devices of the line and unbinds them. Signatures are left out: no strategy forges any.

Of each strategy the points count that were kept for bytes which nobody received, against what an honest device on such
a line keeps in the same days.
"""

from __future__ import annotations

import itertools
import random
import statistics
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from fallow_server.delivery.capacity import MARGIN_PERMILLE, PAID_TIMES
from fallow_server.ledger.config import LedgerConfig
from fallow_server.ledger.suspicion import Delivery, unlikely_pairs, unlikely_shares
from fallow_server.ledger.tariffs import FIRST_LEGACY_CAPS, FIRST_QUALITY, FIRST_RATES, FIRST_TRUST, FIRST_WEIGHTS
from fallow_server.ledger.verification import DAY_S, HOUR_S, Admission, Booking, Verified
from fallow_server.ledger.vesting import hold_until
from fallow_server.scheduling.holders import Holders
from fallow_server.scheduling.places import Place
from fallow_server.scheduling.routing import choose
from fallow_wire.batches import BatchItem
from fallow_wire.ids import uuid7
from fallow_wire.journal import held_parts
from fallow_wire.keys import PrivateKey
from fallow_wire.tariff import Tariff, price
from fallow_wire.tickets import Confirmation, Ticket
from harness import Figure, arguments, publish

MIB = 2**20
DEVICES, OBJECTS, HOLDERS, CONSUMERS, PROVIDERS = 100, 60, 8, 800, 2
DELIVERIES_A_DAY, CANARIES_A_DAY = 5000, 100
LEGACY_SHARE = 0.15
REVIEW_DAYS = 3
LINE_BPS = 20_000_000
COUNTRY = "DE"
EVENING = range(18, 22)
SCARCITY = tuple(1250 if hour in EVENING else 1000 for hour in range(24))
DEMAND = tuple(3 if hour in EVENING else 1 for hour in range(24))
"""Service is scarce when most is asked for."""
TARIFF = Tariff(1, 0, FIRST_RATES, FIRST_WEIGHTS, FIRST_LEGACY_CAPS, FIRST_TRUST, FIRST_QUALITY, {COUNTRY: SCARCITY})
CONFIG = LedgerConfig("https://ledger.example")
CNF = Confirmation(PrivateKey(bytes(32)).public.jwk())
BEGIN = 1_700_000_000 // DAY_S * DAY_S


@dataclass(slots=True)
class Device:
    """``idle_bps``: what it reports. ``line_bps``: what canaries see of its line. ``serves``: consumers get what they
    ask for."""

    name: str
    line: str
    idle_bps: int
    provider: int
    line_bps: int
    serves: bool = True
    audits: int = 0
    bound: bool = True

    @property
    def lasting_up_bps(self) -> int:
        return min(self.idle_bps, self.line_bps * MARGIN_PERMILLE // 1000)


@dataclass(frozen=True, slots=True)
class Strategy:
    """What the cheater brings. ``devices`` that serve nothing stand beside the real one unless ``real`` is False.

    ``consumers`` a day, each with so many ``requests``; a ticket for another's device lapses. ``legacy``: claims whole
    objects for tickets that nobody countersigns. ``rare``: an object that one honest device holds besides. ``near``:
    its consumers are of its own provider. ``boast``: it says that its line carries so many times what it does.
    ``evening``: all of them come when service is scarce and worth more.
    """

    name: str
    devices: int = 0
    consumers: int = 0
    requests: int = 1
    real: bool = True
    legacy: bool = False
    rare: bool = False
    near: bool = False
    boast: int = 1
    evening: bool = False


STRATEGIES = (
    Strategy("swarm", devices=500, consumers=500, requests=10, real=False, boast=10),
    Strategy("swarm_of_5", devices=5, consumers=500, requests=10, real=False, boast=10),
    Strategy("swarm_legacy", devices=500, consumers=500, requests=10, real=False, legacy=True, boast=10),
    Strategy("legacy_of_honest_consumers", devices=5, real=False, legacy=True),
    Strategy("loyal_consumers", consumers=500, requests=100),
    Strategy("few_loyal_consumers", consumers=5, requests=70),
    Strategy("fresh_consumers", consumers=500),
    *(Strategy(f"fresh_consumers_{count}", consumers=count) for count in (300, 250, 200, 150, 100)),
    Strategy("drip", consumers=30),
    Strategy("boasting_fresh_consumers", consumers=200, boast=10),
    Strategy("rare_object", consumers=500, rare=True, boast=10),
    *(Strategy(f"near_consumers_{count}", consumers=count, near=True) for count in (500, 200, 100)),
    *(Strategy(f"boasting_near_consumers_{count}", consumers=count, near=True, boast=10) for count in (200, 100)),
    Strategy("boasting_fresh_consumers_100", consumers=100, boast=10),
    *(
        Strategy(f"evening_near_consumers_{count}", consumers=count, near=True, boast=10, evening=True)
        for count in (200, 150, 100, 50)
    ),
)


@dataclass(slots=True)
class Network:
    draw: random.Random
    strategy: Strategy | None
    honest: list[Device] = field(default_factory=list)
    own: list[Device] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    holders: list[list[Device]] = field(default_factory=list)
    popularity: list[float] = field(default_factory=list)
    line_hours: dict[tuple[str, int], int] = field(default_factory=dict)
    legacy_days: dict[tuple[str, int], int] = field(default_factory=dict)
    kept: dict[tuple[str, bool], list[tuple[int, int, int | None]]] = field(default_factory=dict)
    """µp with their maturity, by device and whether the bytes were received."""
    days: dict[int, list[Delivery]] = field(default_factory=dict)
    failed: dict[int, set[str]] = field(default_factory=dict)
    index: Holders = field(default_factory=Holders)
    devices: dict[str, Device] = field(default_factory=dict)
    odds: int = 0
    """Per mille, of the last choice, which was made from ``pool``."""
    pool: str = ""
    numbers: Iterator[int] = field(default_factory=itertools.count)

    def __post_init__(self) -> None:
        draw = self.draw
        lines = [round(LINE_BPS * draw.uniform(0.5, 2)) for _ in range(DEVICES)]
        self.honest = [Device(f"h{n}", f"line-h{n}", bps, n % PROVIDERS, bps) for n, bps in enumerate(lines)]
        self.sizes = [min(2048, max(16, round(draw.lognormvariate(4.5, 1)))) * MIB for _ in range(OBJECTS)]
        self.popularity = [1 / (rank + 3) for rank in range(OBJECTS)]
        self.holders = [draw.sample(self.honest, HOLDERS) for _ in range(OBJECTS)]
        self._bring_cheater()
        held: dict[str, set[str]] = {}
        for number, devices in enumerate(self.holders):
            for device in devices:
                held.setdefault(device.name, set()).add(str(number))
        for device in (*self.honest, *self.own):
            self.devices[device.name] = device
            self.index.join(device.name, Place(device.provider, COUNTRY), device.line)
            self.index.hold(device.name, frozenset(held.get(device.name, ())))

    def _bring_cheater(self) -> None:
        draw, chosen = self.draw, self.strategy
        if chosen is None:
            return
        idle = LINE_BPS * chosen.boast
        self.own = [Device(f"c{n}", "line-c", idle, 0, LINE_BPS, serves=False) for n in range(chosen.devices)]
        if chosen.real:
            self.own.append(Device("c-real", "line-c", idle, 0, LINE_BPS))
        if chosen.rare:
            self.holders[-1] = [self.honest[0]]
        # What does not serve can hold everything; the real one holds as much as the others, among it the rare object.
        for device in self.own:
            some = draw.sample(range(OBJECTS), HOLDERS * OBJECTS // DEVICES) if device.serves else range(OBJECTS)
            for number in {*some, *([OBJECTS - 1] if chosen.rare else [])}:
                self.holders[number].append(device)

    def route(self, number: int, provider: int) -> Device | None:
        """The device that the scheduler sends a request for this object to, of a consumer of this provider."""
        found = choose(self.index, str(number), 1, self.devices.get, self.draw.random, Place(provider, COUNTRY))
        if not found:
            return None
        self.odds, self.pool = found[0].odds, found[0].pool
        return found[0].device

    def day(self, day: int) -> None:
        """One day of deliveries, then what the operator decides about the day three days ago."""
        now = BEGIN + day * DAY_S
        self.days[day], self.failed[day] = [], set()
        wanted = self.draw.choices(range(OBJECTS), self.popularity, k=DELIVERIES_A_DAY)
        for number in wanted:
            who = round(abs(self.draw.gauss(0, CONSUMERS / 3)))
            consumer = f"{day}-{who}"
            legacy = self.draw.random() < LEGACY_SHARE
            device = self.route(number, who % PROVIDERS)
            if device is not None and device.serves:
                self.settle(now, device, consumer, number, legacy, received=True)
            elif device is not None and legacy and self.strategy is not None and self.strategy.legacy:
                self.settle(now, device, consumer, number, True, received=False)
        self.cheat(now, day)
        for number in self.draw.choices(range(OBJECTS), self.popularity, k=CANARIES_A_DAY):
            device = self.route(number, self.draw.randrange(PROVIDERS))
            if device is not None:
                device.audits = device.audits + 1 if device.serves else 0
                if not device.serves:
                    self.failed[day].add(device.line)
        self.review(now, day - REVIEW_DAYS)

    def cheat(self, now: int, day: int) -> None:
        chosen = self.strategy
        if chosen is None:
            return
        reachable = [n for n in range(OBJECTS) if any(d in self.holders[n] for d in self.own if d.bound)]
        if chosen.rare:
            reachable = [n for n in reachable if n == OBJECTS - 1]
        for who in range(chosen.consumers if reachable else 0):
            # The largest objects are worth most; ones that are never asked for would stand out to their publisher.
            for number in self.draw.choices(
                reachable, [self.popularity[n] * self.sizes[n] for n in reachable], k=chosen.requests
            ):
                device = self.route(number, 0 if chosen.near else who % PROVIDERS)
                if device is not None and device in self.own:
                    self.settle(now, device, f"{day}-fake-{who}", number, chosen.legacy, received=False)

    def settle(self, now: int, device: Device, consumer: str, number: int, legacy: bool, *, received: bool) -> None:
        """Through the ledger's own admission; the escrow is never at its end here."""
        evening = not received and self.strategy is not None and self.strategy.evening
        (hour,) = (self.draw.choice(EVENING),) if evening else self.draw.choices(range(24), DEMAND)
        at = now + hour * HOUR_S + self.draw.randrange(HOUR_S)
        tier = "legacy" if legacy else "countersigned"
        jti = uuid7(at * 1000 + next(self.numbers) % 1000, self.draw.randbytes(10))
        ticket = Ticket(
            "https://scheduler.example", "fd-" + "a" * 24, jti, consumer, at, at, at + 900, f"{number:064x}", "object",
            tier, self.sizes[number], "publisher-1", "0" * 64,
            "https://ledger.example", None if legacy else CNF, device.line, region=COUNTRY,
            line_bps=PAID_TIMES * device.line_bps * MARGIN_PERMILLE // 1000,
        )  # fmt: skip
        factors = price(ticket, TARIFF, self.sizes[number], device.audits)
        item = BatchItem("ticket", self.sizes[number], 1, at, at)
        points = factors.micro_points()
        verified = Verified(item, ticket, None, ticket.jti, TARIFF, factors, points, device.audits)
        admission = Admission(
            device.name,
            frozenset({"publisher-1"}),
            {},
            {("publisher-1", at // HOUR_S): points},
            self.legacy_days,
            Counter(),  # publishers here are many
            self.line_hours,
            CONFIG.line_bps_max * HOUR_S // 8,
        )
        if isinstance(admission.admit(verified), Booking) and points:
            self.kept.setdefault((device.name, received), []).append((points, *hold_until(CONFIG, at, BEGIN)))
            self.days[at // DAY_S - BEGIN // DAY_S].append(
                Delivery(device.line, consumer, ticket.obj, self.odds, self.pool)
            )

    def review(self, now: int, day: int) -> None:
        """The operator upholds every finding: what is held is taken back, and the device is unbound."""
        if day not in self.days:
            return
        deliveries = self.days.pop(day)
        lines = {one.line for one in unlikely_pairs(deliveries)} | {one.line for one in unlikely_shares(deliveries)}
        lines |= self.failed.pop(day)
        for device in [device for device in (*self.honest, *self.own) if device.line in lines]:
            device.bound = False
            self.index.leave(device.name)
            name = device.name
            for received in (True, False):
                earned = self.kept.get((name, received), [])
                matured = [
                    (amount, at, None)
                    for points, matures_at, late_at in earned
                    for at, amount in held_parts(points, matures_at, late_at)
                    if at <= now
                ]
                if earned:
                    self.kept[name, received] = matured

    def points_of(self, names: set[str], received: bool) -> int:
        return sum(one[0] for name in names for one in self.kept.get((name, received), []))


def simulate(strategy: Strategy | None, seed: int, days: int) -> Network:
    network = Network(random.Random(seed), strategy)
    for day in range(days):
        network.day(day)
    for day in range(days - REVIEW_DAYS, days):
        network.review(BEGIN + (day + REVIEW_DAYS) * DAY_S, day)
    return network


def measure(quick: bool) -> tuple[list[Figure], list[str]]:
    days, seeds = (8, 1) if quick else (30, 3)
    ratios: dict[str, list[float]] = {strategy.name: [] for strategy in STRATEGIES}
    alarms = []
    for seed in range(seeds):
        honest = simulate(None, seed, days)
        alarms.append(sum(not device.bound for device in honest.honest))
        wage = statistics.fmean(honest.points_of({device.name}, True) for device in honest.honest)
        for strategy in STRATEGIES:
            network = simulate(strategy, seed, days)
            gained = network.points_of({device.name for device in network.own}, False)
            ratios[strategy.name].append(gained / wage)
    against = "points of an honest device on such a line"
    values = {name: max(found) for name, found in ratios.items()}
    best = max(values, key=lambda name: values[name])
    figures = [
        Figure(
            "best_cheat_over_honest",
            values[best],
            "ratio",
            min(ratios[best]),
            values[best],
            "< 1",
            values[best] < 1,
            against,
        )
    ]
    for name, found in ratios.items():
        figures.append(
            Figure(f"cheat_over_honest.{name}", max(found), "ratio", min(found), max(found), against=against)
        )
    figures.append(
        Figure("honest_devices_accused", max(alarms), f"of {DEVICES}", min(alarms), max(alarms), "0", max(alarms) == 0)
    )
    return figures, [f"{days} days, {seeds} seeds; the best strategy of {len(STRATEGIES)} is {best}"]


def main() -> None:
    options = arguments(__doc__ or "").parse_args()
    figures, notes = measure(options.quick)
    publish("fraud", figures, quick=options.quick, notes=notes)


if __name__ == "__main__":
    main()
