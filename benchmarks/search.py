"""How much faster a search is that trains its trials together than one that trains them one by one, tracking included.

    uv run python -m benchmarks.search

Both ways make the same trials (drawn at random, none pruned) with the same epochs, and log each as a run of its own;
they take turns. What is timed is the search alone: no imports, no teacher, nothing trained again.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

PAIRS, TRIALS, BATCH = 5, 100, 25


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=PAIRS, help="how often both ways are measured")
    parser.add_argument("--trials", type=int, default=TRIALS, help="trials of a search")
    parser.add_argument("--batch", type=int, default=BATCH, help="trials trained together")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="kdops-benchmark-") as folder:
        os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{folder}/mlflow.db"
        os.chdir(folder)
        search(Path(folder), "warm", 2, 2)
        ratios = []
        for number in range(given.pairs):
            alone = search(Path(folder), f"alone-{number}", given.trials, 1)
            together = search(Path(folder), f"together-{number}", given.trials, given.batch)
            ratios.append(alone / together)
            told = f"one by one {alone:.1f} s, {given.batch} together {together:.1f} s"
            print(f"{given.trials} trials: {told}", flush=True)
    low, middle, high = min(ratios), statistics.median(ratios), max(ratios)
    print(f"{middle:.2f} times faster (median of {len(ratios)} pairs, {low:.2f} to {high:.2f})")


def search(folder: Path, name: str, trials: int, batch: int) -> float:
    """Run a search on digits and give the seconds that its trials took."""
    from kdops.config.settings import Settings
    from kdops.search.open import open_search
    from kdops.study.open import open_study
    from kdops.study.sources import find_source
    from kdops.verdicts.answer import Answer

    settings = Settings.parse(
        "search",
        trials=str(trials),
        batch=str(batch),
        sampler="random",
        pruner="none",
        storage=str(folder / f"{name}.journal"),
        study_name=name,
    )
    with open_study("search", settings) as study:
        found = open_search(study, find_source(study)[0])
        started = time.perf_counter()
        found.run()
        seconds = time.perf_counter() - started
        study.conclude("search", Answer())
    return seconds


if __name__ == "__main__":
    main()
