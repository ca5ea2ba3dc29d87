"""What a device's store makes of a trace of requests: SIEVE, which it uses, beside LRU, FIFO and the clairvoyant bound.

``--data DIR``: a folder with ``web_traces/web07.trace.xz`` (requests for the product pages of a web shop; big-endian
32-bit ids). Without it requests are drawn from a Zipf law with new objects coming in: synthetic, and said so.
Objects are all of one size here; a store holds 0.3, 1, 3 and 10 % of those that are asked for.

``miss_over_fifo.SHARE_POLICY``, the share in ‰ of the objects: misses, by those of FIFO on the same requests.
"""

from __future__ import annotations

import array
import heapq
import itertools
import lzma
import random
import sys
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path

from fallow_agent.edge.sieve import SecondHit, Sieve
from harness import Figure, arguments, publish

SHARES = (0.003, 0.01, 0.03, 0.10)
REQUESTS = 76_000
"""As many as the recorded trace has, about."""
QUICK_REQUESTS = 20_000


def recorded(path: Path) -> list[str]:
    ids = array.array("i", lzma.decompress(path.read_bytes()))
    if sys.byteorder == "little":
        ids.byteswap()
    return [str(one) for one in ids]


def synthetic(count: int) -> list[str]:
    """A third of the requests are for objects that are asked for once; the rest by Zipf's law with exponent 0.9."""
    draw = random.Random(1)
    weights = list(itertools.accumulate(1 / rank**0.9 for rank in range(1, 5001)))
    popular = draw.choices(range(5000), cum_weights=weights, k=count)
    return [f"once-{number}" if draw.random() < 1 / 3 else str(one) for number, one in enumerate(popular)]


def sieve_misses(requests: Sequence[str], room: int, admission: SecondHit | None = None) -> int:
    sieve, misses = Sieve(), 0
    for name in requests:
        if name in sieve:
            sieve.visit(name)
            continue
        misses += 1
        if admission is not None and not admission.admits(name):
            continue
        if len(sieve) >= room:
            victim = sieve.victim()
            assert victim is not None
            sieve.remove(victim)
        sieve.add(name)
    return misses


def queue_misses(requests: Sequence[str], room: int, *, moves: bool) -> int:
    """LRU where a hit moves to the end, else FIFO."""
    held: OrderedDict[str, None] = OrderedDict()
    misses = 0
    for name in requests:
        if name in held:
            if moves:
                held.move_to_end(name)
            continue
        misses += 1
        if len(held) >= room:
            held.popitem(last=False)
        held[name] = None
    return misses


def clairvoyant_misses(requests: Sequence[str], room: int) -> int:
    """Belady's: what is asked for again last, or never, goes."""
    following = [len(requests)] * len(requests)
    last: dict[str, int] = {}
    for place in range(len(requests) - 1, -1, -1):
        following[place] = last.get(requests[place], len(requests))
        last[requests[place]] = place
    due: dict[str, int] = {}
    latest: list[tuple[int, str]] = []
    misses = 0
    for place, name in enumerate(requests):
        if name not in due:
            misses += 1
            while len(due) >= room:
                when, victim = heapq.heappop(latest)
                if due.get(victim) == -when:
                    del due[victim]
        due[name] = following[place]
        heapq.heappush(latest, (-following[place], name))
    return misses


POLICIES: dict[str, Callable[[Sequence[str], int], int]] = {
    "sieve": sieve_misses,
    "sieve_second_hit": lambda requests, room: sieve_misses(requests, room, SecondHit()),
    "lru": lambda requests, room: queue_misses(requests, room, moves=True),
    "clairvoyant": clairvoyant_misses,
}


def main() -> None:
    options = arguments(__doc__ or "").parse_args()
    trace = options.data / "web_traces" / "web07.trace.xz" if options.data else None
    if trace is not None and trace.exists():
        requests, source = recorded(trace), "requests of a web shop"
    else:
        requests, source = synthetic(QUICK_REQUESTS if options.quick else REQUESTS), "synthetic requests"
    different = len(set(requests))
    figures = []
    for share in SHARES:
        room = max(1, int(share * different))
        fifo = queue_misses(requests, room, moves=False)
        for name, misses_of in POLICIES.items():
            ratio = misses_of(requests, room) / fifo
            goal = ("<= 1", ratio <= 1) if name == "sieve" else ("", None)
            case = f"miss_over_fifo.{share * 1000:.0f}permille_{name}"
            figures.append(Figure(case, ratio, "ratio", ratio, ratio, *goal, f"FIFO: {fifo}"))
    note = f"{source}: {len(requests)} for {different} objects."
    publish("eviction", figures, quick=options.quick, notes=[note])


if __name__ == "__main__":
    main()
