"""How long it takes until something happens: the help, a study that has nothing to train, the images."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.children import run
from benchmarks.pairs import Figure, Options, in_turn, seconds_of

__all__ = ["measure"]

TYPER = """import typer
app = typer.Typer(add_completion=False)
app.command()(lambda name="": print(name))
app()
"""
PROJECT = "name: empty\nentry_points:\n  main:\n    command: python -c pass\n"
STUDY = ["students", "--seeds", "1", "--temperatures", "1,4", "--epochs", "1"]
LOAD = """
import time
from kdops.data.dataset import load
s = time.perf_counter()
load("gtsrb")
print(time.perf_counter() - s)
"""


def measure(options: Options) -> Iterator[Figure]:
    """Measure whole processes."""
    with tempfile.TemporaryDirectory(prefix="kdops-benchmark-") as made:
        folder = Path(made)
        (folder / "small.py").write_text(TYPER)
        (folder / "MLproject").write_text(PROJECT)

        def seconds(*arguments: str) -> float:
            return seconds_of(lambda: run(list(arguments), folder))

        kdops = ("-c", "import sys; from kdops.cli.app import main; sys.exit(main())")
        study = [*kdops, *STUDY]
        empty = ("-m", "mlflow", "run", ".", "--env-manager", "local")
        seconds(*study)
        helped, small, again, bare = in_turn(
            options.pairs,
            lambda: seconds(*kdops, "--help"),
            lambda: seconds("small.py", "--help"),
            lambda: seconds(*study),
            lambda: seconds(*empty),
        )
        middle = sorted(helped)[len(helped) // 2]
        ratios = tuple(a / b for a, b in zip(helped, small, strict=True))
        yield Figure("start", "kdops --help / --help of a three-line Typer program", ratios, "1.5", f"{middle:.2f} s")
        more = tuple(a - b for a, b in zip(again, bare, strict=True))
        told = f"seconds, not a ratio; the study {sorted(again)[len(again) // 2]:.1f} s"
        yield Figure("start", "study with nothing to train - mlflow run of an empty one", more, "at most 3", told)
        if os.environ.get("KDOPS_DATA_ROOT"):
            yield from _images(folder, options)


def _images(folder: Path, options: Options) -> Iterator[Figure]:
    """Measure the decoding of GTSRB, once, since it takes a while, and the loading of what was decoded."""
    os.environ["XDG_CACHE_HOME"] = str(folder / "cache")
    decoded = float(run(["-c", LOAD], folder))
    loaded = tuple(float(run(["-c", LOAD], folder)) for _ in range(options.pairs))
    yield Figure("start", "first load of GTSRB, decoding included: seconds", (decoded,), "", "n = 1")
    yield Figure("start", "later loads of GTSRB: seconds", loaded, "at most 0.5", "every byte checked by its digest")
