"""How long all experiments of the paper take, models logged and report written.

    KDOPS_DATA_ROOT=... uv run python -m benchmarks --only paper --device cuda

runs the ``paper`` study once on GTSRB, one replicate and then three, in fresh stores. On two cores that takes five to
ten hours.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.children import run
from benchmarks.pairs import Figure, Options

__all__ = ["measure"]

REPLICATES = (1, 3)

ADD_UP = """
import mlflow
runs = mlflow.search_runs(search_all_experiments=True)
print(len(runs["metrics.train_seconds"].dropna()), runs["metrics.train_seconds"].sum())
"""


def measure(options: Options) -> Iterator[Figure]:
    """Measure the study from outside, and add up what its models say of their training."""
    if not os.environ.get("KDOPS_DATA_ROOT"):
        print("  paper needs GTSRB: give KDOPS_DATA_ROOT", file=sys.stderr)
        return
    for replicates in REPLICATES:
        with tempfile.TemporaryDirectory(prefix="kdops-benchmark-") as folder:
            started = time.perf_counter()
            run(["-m", "pipelines.paper", "--seeds", str(replicates), "--device", options.device], Path(folder))
            whole = time.perf_counter() - started
            models, training = run(["-c", ADD_UP], Path(folder)).split()[-2:]
        what = f"paper on GTSRB, replicates: {replicates}; seconds of training"
        yield Figure("paper", what, (float(training),), "at most 60", f"{models} models; the whole study {whole:.0f} s")
