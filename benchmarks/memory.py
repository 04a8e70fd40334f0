"""How much memory a sweep on GTSRB takes: the peak of child processes.

    python -m benchmarks.memory MEMBERS IMAGES

trains that many students for one epoch and prints its peak resident memory in bytes, as JSON.
"""

from __future__ import annotations

import json
import resource
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.children import printed
from benchmarks.pairs import Figure, Options

__all__ = ["measure"]

MEBIBYTE = 1 << 20


def measure(options: Options) -> Iterator[Figure]:
    """Measure 0, 29 and 290 members; with none the images are made and normalized all the same."""
    rounds = []
    for _ in range(options.pairs):
        with tempfile.TemporaryDirectory(prefix="kdops-benchmark-") as folder:
            given = [
                printed(["-m", "benchmarks.memory", str(members), str(options.images)], Path(folder))["peak"]
                for members in (0, 29, 290)
            ]
        rounds.append(given)
    middle = sorted(rounds)[len(rounds) // 2]
    told = ", ".join(f"{m} members {b / MEBIBYTE:,.0f} MiB" for m, b in zip((0, 29, 290), middle, strict=True))
    yield Figure("memory", "peak with 290 members / with 29", tuple(r[2] / r[1] for r in rounds), "below 10", told)
    each = tuple((r[2] - r[1]) / 261 / MEBIBYTE for r in rounds)
    yield Figure("memory", "MiB a further member; weights, gradient and AdamW's two means are 2.4", each)


def peak_of(members: int, images: int) -> int:
    """Train so many students and give this process's peak resident memory in bytes."""
    from benchmarks.loops import normalized
    from benchmarks.work import TEMPERATURES, prepare, sweep

    work = prepare(images)
    if members:
        sweep(work, TEMPERATURES, range(members // len(TEMPERATURES)))
    else:
        normalized(work)
    return _peak()


def _peak() -> int:
    """Return this process's peak resident memory in bytes."""
    status = Path("/proc/self/status")
    if status.exists():
        # The system's ``ru_maxrss`` begins with the peak of the process that started this one.
        return int(status.read_text().partition("VmHWM:")[2].split()[0]) * 1024
    # macOS counts in bytes, others in KiB.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


if __name__ == "__main__":
    print(json.dumps({"peak": peak_of(int(sys.argv[1]), int(sys.argv[2]))}))
