"""What the commands take in a store of ten thousand models, beside a small store: seconds, and the peak of memory.

Seconds are those of the processor, which other programs on the machine hardly change; the wall time is told.
"""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.children import environment, run
from benchmarks.pairs import Figure, Options

__all__ = ["compare", "measure"]

MODELS = 10_000
MEBIBYTE = 1 << 20
KDOPS = ("-c", "import sys; from kdops.cli.app import main; sys.exit(main())")
FIRST = ("students", "--seeds", "1", "--temperatures", "1-29", "--epochs", "10")
"""The study that both stores have, and that the large one has copies of."""

ENSEMBLE = ("ensemble", "--seed", "0", "--seeds", "1", "--dry-run", "true")
COPY = "import sys; from pathlib import Path; from benchmarks.copied_store import copy_studies; "
COPY += "print(copy_studies(Path.cwd(), int(sys.argv[1])))"
"""In a process of its own: what a process took is counted as the peak of those that it starts later."""

COMMANDS = {
    "predict, one image": ("predict", "kdops-digits-student/3", "one.png"),
    "runs": ("runs",),
    "runs --role student": ("runs", "--role", "student"),
    "candidates": ("candidates",),
    "lineage of a teacher": ("lineage", "kdops-digits-teacher/1"),
    "the members of an ensemble": ENSEMBLE,
    "a new study of four models": ("students", "--seeds", "1", "--temperatures", "1,4", "--epochs", "1", "--seed"),
    "gc": ("gc",),
}
AIMS = {
    "predict, one image": "at most 1",
    "runs --role student": "at most 5",
    "candidates": "at most 5",
    "a new study of four models": "at most 3",
}
LISTS = ("runs", "runs --role student", "lineage of a teacher", "gc")
"""Commands without PyTorch, which is most of the memory of the others."""


@dataclass(frozen=True)
class Cost:
    """What one run of a command took, that of its children included.

    Attributes:
        seconds: of the processor.
        wall: seconds.
        peak: memory in MiB.
    """

    seconds: float
    wall: float
    peak: float


def measure(options: Options) -> Iterator[Figure]:
    """Measure each command in both stores, in turn, in processes of their own."""
    with tempfile.TemporaryDirectory(prefix="kdops-benchmark-") as made:
        small, large = Path(made) / "small", Path(made) / "large"
        for folder in (small, large):
            folder.mkdir()
            (folder / "one.png").write_bytes(_image())
            run([*KDOPS, *FIRST], folder)
        models = int(run(["-c", COPY, str(MODELS)], large))
        size = (large / "mlflow.db").stat().st_size / MEBIBYTE
        print(f"  {models:,} models, a database of {size:,.0f} MiB", file=sys.stderr)
        yield from compare(small, large, models, options.pairs)


def compare(small: Path, large: Path, models: int, pairs: int) -> Iterator[Figure]:
    """Measure each command in two stores that are there, the larger one of so many models."""
    for what, arguments in COMMANDS.items():
        rounds = [[_once(folder, arguments, 1000 + number) for folder in (small, large)] for number in range(pairs)]
        yield from _figures(what, rounds, models)


def _figures(what: str, rounds: list[list[Cost]], models: int) -> Iterator[Figure]:
    """Yield the seconds that the large store takes more, and the peak of its memory."""
    more = tuple(large.seconds - small.seconds for small, large in rounds)
    small, large = (
        sorted(store, key=lambda cost: cost.seconds)[len(rounds) // 2] for store in zip(*rounds, strict=True)
    )
    both = f"{small.seconds:.1f} and {large.seconds:.1f}, wall {small.wall:.1f} and {large.wall:.1f}"
    told = f"seconds of processor time more; {both}"
    print(f"  {what}: {told}", file=sys.stderr)
    yield Figure("store", f"{what}: {models:,} models - 31 models", more, AIMS.get(what, ""), told)
    peaks = tuple(large.peak for _, large in rounds)
    aim = "below 300" if what in LISTS else ""
    yield Figure("store", f"{what}: MiB with {models:,} models", peaks, aim, f"{small.peak:,.0f} MiB with 31 models")


def _once(folder: Path, arguments: tuple[str, ...], seed: int) -> Cost:
    """Run a command and return what it took."""
    given = [*arguments, str(seed)] if arguments[-1] == "--seed" else list(arguments)
    started = time.perf_counter()
    child = subprocess.Popen(
        [sys.executable, *KDOPS, *given],
        cwd=folder,
        env=environment(folder),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert child.stderr is not None
    said = child.stderr.read()
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise RuntimeError(f"kdops {' '.join(given)}: {said.strip()[-500:]}")
    unit = 1 if sys.platform == "darwin" else 1024
    wall = time.perf_counter() - started
    return Cost(usage.ru_utime + usage.ru_stime, wall, usage.ru_maxrss * unit / MEBIBYTE)


def _image() -> bytes:
    """Return an image file of 8 x 8 gray pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = struct.pack(">IIBBBBB", 8, 8, 8, 0, 0, 0, 0)
    pixels = zlib.compress((b"\0" + bytes(range(0, 256, 32))) * 8)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
