"""All benchmarks of kdops as one table.

    uv run python -m benchmarks
    uv run python -m benchmarks --only sweep,scaling --json
    uv run python -m benchmarks --record docs/explanation/performance.md

Everything is measured in turn with what it is compared with; docs/explanation/performance.md says how.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from benchmarks.pairs import Figure, Options
from benchmarks.recorded import around, machine, record, table

__all__ = ["PARTS", "main"]

LONG = ("accuracy", "precision", "paper", "store", "methods")
"""Parts that take long, or a graphics processor, and are measured only where they are asked for."""

PARTS = ("sweep", "scaling", "convolution", "tracking", "start", "memory", *LONG)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what is asked for, print it, and give the exit code."""
    given = _parser().parse_args(arguments)
    unknown = set(given.only.split(",")) - set(PARTS)
    if unknown or min(given.pairs, given.images, given.seeds) < 1:
        print(f"benchmarks: only must be of {', '.join(PARTS)}; pairs, images and seeds at least 1", file=sys.stderr)
        return 2
    if given.record:
        try:
            # Not only after minutes of measuring.
            around(Path(given.record))
        except (OSError, ValueError) as error:
            print(f"benchmarks: record: {error}", file=sys.stderr)
            return 2
    options = Options(given.pairs, given.images, given.device, given.seeds)
    figures: list[Figure] = []
    for part in given.only.split(","):
        print(f"{part} ...", file=sys.stderr, flush=True)
        figures += import_module(f"benchmarks.{part}").measure(options)
    told = machine(options)
    if given.json:
        print(json.dumps({"machine": told, "figures": [figure.as_dict() for figure in figures]}, indent=1))
    else:
        print(table(figures))
        print(f"\n{told}")
    if given.record:
        record(Path(given.record), figures, told)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--only", default=",".join(part for part in PARTS if part not in LONG), help=f"some of {', '.join(PARTS)}"
    )
    parser.add_argument(
        "--pairs", type=int, default=Options.pairs, help="how often both things of a ratio are measured"
    )
    parser.add_argument("--images", type=int, default=Options.images, help="images of an epoch of the sweep")
    parser.add_argument("--seeds", type=int, default=Options.seeds, help="replicates of the studies on digits")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="where is trained")
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    parser.add_argument("--record", default="", metavar="PAGE", help="write the table between the markers of this page")
    return parser


if __name__ == "__main__":
    sys.exit(main())
