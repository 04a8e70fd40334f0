"""What the commands take in a store of ten thousand models, beside a small store: seconds, and the peak of memory."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

from benchmarks.children import environment, run
from benchmarks.copied_store import copy_studies
from benchmarks.pairs import Figure, Options

__all__ = ["measure"]

MODELS = 10_000
MEBIBYTE = 1 << 20
KDOPS = ("-c", "import sys; from kdops.cli.app import main; sys.exit(main())")
FIRST = ("students", "--seeds", "1", "--temperatures", "1-29", "--epochs", "10")
"""The study that both stores have, and that the large one has copies of."""

COMMANDS = {
    "predict, one image": ("predict", "kdops-digits-student/3", "one.png"),
    "runs": ("runs",),
    "runs --role teacher": ("runs", "--role", "teacher"),
    "candidates": ("candidates",),
    "a new study of four models": ("students", "--seeds", "1", "--temperatures", "1,4", "--epochs", "1", "--seed"),
    "gc": ("gc",),
}
AIMS = {"predict, one image": "1", "runs --role teacher": "5", "candidates": "5", "a new study of four models": "3"}


def measure(options: Options) -> Iterator[Figure]:
    """Measure each command in both stores, in turn, in processes of their own."""
    with tempfile.TemporaryDirectory(prefix="kdops-benchmark-") as made:
        small, large = Path(made) / "small", Path(made) / "large"
        for folder in (small, large):
            folder.mkdir()
            (folder / "one.png").write_bytes(_image())
            run([*KDOPS, *FIRST], folder)
        models = copy_studies(large, MODELS)
        size = (large / "mlflow.db").stat().st_size / MEBIBYTE
        print(f"  {models:,} models, a database of {size:,.0f} MiB", file=sys.stderr)
        for what, arguments in COMMANDS.items():
            rounds = [
                [_once(folder, arguments, 1000 + number) for folder in (small, large)]
                for number in range(options.pairs)
            ]
            yield _figure(what, rounds, models)


def _figure(what: str, rounds: list[list[tuple[float, float]]], models: int) -> Figure:
    """Return the seconds that the large store takes more, with what both take."""
    more = tuple(large[0] - small[0] for small, large in rounds)
    (small, small_peak), (large, large_peak) = (sorted(store)[len(rounds) // 2] for store in zip(*rounds, strict=True))
    told = f"seconds more; {small:.1f} s and {large:.1f} s, at most {small_peak:,.0f} MiB and {large_peak:,.0f} MiB"
    print(f"  {what}: {told}", file=sys.stderr)
    return Figure("store", f"{what}: {models:,} models - 31 models", more, AIMS.get(what, ""), told)


def _once(folder: Path, arguments: tuple[str, ...], seed: int) -> tuple[float, float]:
    """Run a command and return its seconds and the peak of its memory in MiB, that of its children included."""
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
    return time.perf_counter() - started, usage.ru_maxrss * unit / MEBIBYTE


def _image() -> bytes:
    """Return an image file of 8 x 8 gray pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = struct.pack(">IIBBBBB", 8, 8, 8, 0, 0, 0, 0)
    pixels = zlib.compress((b"\0" + bytes(range(0, 256, 32))) * 8)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
