"""Compute how long many workers take for many orders, and what the store and the order of results add to it.

    python tools/simulate_workers.py --workers 100 --orders 10000

Time is simulated; the rules are those of kdops/training/worker_pool.py, which stops asking while too many models wait
for an earlier one, and of kdops/study/storing.py, which lets the study wait while too many wait to be stored. An order
is one model here. What a study does for an order and what a store takes are measured in docs/how-to/scaling.md.
"""

from __future__ import annotations

import argparse
import heapq
import random
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from kdops.study.storing import MOST
from kdops.training.engine import held_by

DRIVER = 0.005
"""Seconds of the study for each order, of which a test holds that they are fewer."""


def simulate(workers: int, orders: int, seconds: float, spread: float, rate: float, held: int) -> float:
    """Return the seconds until all orders are carried out and stored.

    Args:
        workers: how many train.
        orders: how many there are.
        seconds: mean of an order.
        spread: standard deviation of the logarithm of an order's seconds.
        rate: models a second that the store takes.
        held: models that are done before an earlier one is, with which no further order is asked for.
    """
    drawn, now, asked, passed = random.Random(0), 0.0, 0, 0
    busy: list[tuple[float, int]] = []
    done: set[int] = set()
    stored: list[float] = []
    while passed < orders:
        while len(busy) < workers and asked < orders and len(done) < held:
            now += DRIVER
            heapq.heappush(busy, (now + seconds * drawn.lognormvariate(-(spread**2) / 2, spread), asked))
            asked += 1
        ended, number = heapq.heappop(busy)
        now = max(now, ended)
        done.add(number)
        while passed in done:
            done.remove(passed)
            if passed >= MOST:
                now = max(now, stored[passed - MOST])
            stored.append(max(now, stored[-1] if stored else 0.0) + 1 / rate)
            passed += 1
    return max(now, stored[-1])


def main() -> None:
    """Print a table: how many times as long as the longer of training and storing alone."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", type=int, default=100)
    parser.add_argument("--orders", type=int, default=10_000)
    given = parser.parse_args()
    workers, orders, spreads = given.workers, given.orders, (0.0, 0.3, 0.6)
    print(
        "| models a second | seconds an order | bound | seconds alone | " + " | ".join(f"spread {s}" for s in spreads)
    )
    for rate in (26.0, 5.0):
        for seconds in (1.0, 5.0, 10.0, 30.0, 60.0):
            alone = max(seconds * orders / workers, orders / rate)
            for held in sorted({64, held_by(workers)}):
                times = [simulate(workers, orders, seconds, spread, rate, held) / alone for spread in spreads]
                print(f"| {rate:g} | {seconds:g} | {held} | {alone:,.0f} | " + " | ".join(f"{t:.2f}" for t in times))


if __name__ == "__main__":
    main()
