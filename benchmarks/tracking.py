"""What tracking costs: the share of a digits study and of a GTSRB sweep that goes to MLflow, and seconds a model.

    python -m benchmarks.tracking study SEEDS
    python -m benchmarks.tracking sweep ROUNDS

run one ``transitivity`` study on digits, or so many sweeps on GTSRB, in the current folder and print where the seconds
went, as JSON.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from benchmarks.children import printed
from benchmarks.pairs import Figure, Options

__all__ = ["measure", "where_seconds_go"]

CALLS = (
    "create_run",
    "create_logged_model",
    "finalize_logged_model",
    "log_inputs",
    "log_outputs",
    "log_batch",
    "create_model_version",
    "set_logged_model_tags",
    "set_terminated",
)
"""The calls of MLflow's client that store a model."""


def measure(options: Options) -> Iterator[Figure]:
    """Measure studies in child processes, each in a fresh store."""
    rounds = []
    for number in range(options.pairs):
        with tempfile.TemporaryDirectory(prefix="kdops-benchmark-") as folder:
            rounds.append(printed(["-m", "benchmarks.tracking", "study", str(options.seeds)], Path(folder)))
        print(f"  round {number + 1} of {options.pairs}: {rounds[-1]['all']:.1f} s", file=sys.stderr)
    models = int(rounds[0]["models"])
    middle = sorted(rounds, key=lambda one: one["all"])[len(rounds) // 2]
    named = {"write": "model folders", "train": "training", "conclude": "figures, champions, results"}
    parts = {named.get(name, name): s for name, s in middle.items() if name not in ("all", "models", "commit")}
    table = ", ".join(f"{name} {s:.1f}" for name, s in sorted(parts.items(), key=lambda part: -part[1])[:8])
    told = f"{models} models in {middle['all']:.1f} s without imports; seconds: {table}"
    yield Figure("tracking", "storing / whole study", tuple(r["commit"] / r["all"] for r in rounds), "", told)
    each = tuple(r["commit"] / r["models"] for r in rounds)
    yield Figure("tracking", "seconds to store a model, everything included", each, "at most 0.3")
    if os.environ.get("KDOPS_DATA_ROOT"):
        with tempfile.TemporaryDirectory(prefix="kdops-benchmark-") as folder:
            found = printed(["-m", "benchmarks.tracking", "sweep", str(options.pairs)], Path(folder))
        shares = tuple(commit / whole for commit, whole in zip(found["commit"], found["all"], strict=True))
        told = f"30 students, all of a transfer=disjoint half, 10 epochs, {min(found['all']):.0f} s and more"
        yield Figure("tracking", "storing / whole sweep of GTSRB", shares, "at most 0.1", told)


def sweeps_of_gtsrb(rounds: int) -> dict[str, list[float]]:
    """Train and store the paper's students several times and give the seconds of each sweep, and of its storing.

    The teacher is trained for an epoch only, once; its time does not count.
    """
    from kdops.config.settings import HARD, Settings
    from kdops.study.open import open_study
    from kdops.tracking.tracker import Tracker

    spent: Counter[str] = Counter()
    _timed(Tracker, "commit", spent)
    found: dict[str, list[float]] = {"all": [], "commit": []}
    for number in range(rounds):
        # Another rate each time, a millionth apart, so that nothing is there already.
        rate = f"student={2e-3 + 1e-6 * number:g}"
        settings = Settings.parse("students", dataset="gtsrb", seeds="1", epochs="teacher=1", learning_rate=rate)
        with open_study("students", settings) as study:
            teachers = study.train("teacher")
            spent.clear()
            started = time.perf_counter()
            study.distill(teachers, "student", [HARD, *settings.sweeps["student"]])
            found["all"].append(time.perf_counter() - started)
            found["commit"].append(spent["commit"])
    return found


def where_seconds_go(seeds: int) -> dict[str, float]:
    """Run a study in the current folder and give the seconds of its parts; ``commit`` has those of MLflow's calls."""
    from mlflow import MlflowClient

    from kdops.config.settings import Settings
    from kdops.packaging.folder import Packager
    from kdops.study.study import Study
    from kdops.tracking import model_run
    from kdops.tracking.tracker import Tracker
    from kdops.training.local import LocalEngine
    from pipelines import transitivity

    spent: Counter[str] = Counter()
    for owner, name in (
        (Tracker, "commit"),
        (Packager, "write"),
        (Study, "conclude"),
        (model_run, "put_files"),
        *((MlflowClient, call) for call in CALLS),
    ):
        _timed(owner, name, spent)
    _timed_steps(LocalEngine, "run", spent)
    settings = Settings.parse("transitivity", seeds=str(seeds))
    started = time.perf_counter()
    transitivity.main(settings)
    return {"all": time.perf_counter() - started, "models": spent.pop("commit calls"), **_seconds(spent)}


def _seconds(spent: Counter[str]) -> dict[str, float]:
    return {name: value for name, value in spent.items() if not name.endswith(" calls")}


def _timed(owner: object, name: str, spent: Counter[str]) -> None:
    real = getattr(owner, name)

    def timed(*given, **named):
        started = time.perf_counter()
        try:
            return real(*given, **named)
        finally:
            spent[name] += time.perf_counter() - started
            spent[f"{name} calls"] += 1

    setattr(owner, name, timed)


def _timed_steps(owner: type, name: str, spent: Counter[str]) -> None:
    """Time a generator by its own steps, without what is done between them."""
    real = getattr(owner, name)

    def timed(*given, **named):
        steps = real(*given, **named)
        while True:
            started = time.perf_counter()
            try:
                step = next(steps)
            except StopIteration:
                return
            finally:
                spent[name] += time.perf_counter() - started
            yield step

    setattr(owner, name, timed)


if __name__ == "__main__":
    print(json.dumps({"study": where_seconds_go, "sweep": sweeps_of_gtsrb}[sys.argv[1]](int(sys.argv[2]))))
