"""The table of a run: printed, as JSON, or between two markers of a page."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from benchmarks.pairs import Figure, Options

__all__ = ["BEGIN", "END", "around", "machine", "record", "table"]

BEGIN, END = "<!-- benchmarks: begin -->", "<!-- benchmarks: end -->"
HEAD = ("part", "what", "median", "range", "n", "aim", "behind it")


def machine(options: Options) -> dict[str, object]:
    """Say what it was measured on, and how busy that was."""
    import torch

    told = {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load": round(os.getloadavg()[0], 1),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        **{name: version(name) for name in ("torch", "mlflow")},
        "device": options.device,
    }
    if options.device == "cuda":
        told["device"] = f"cuda ({torch.cuda.get_device_name()})"
    return told


def table(figures: Sequence[Figure]) -> str:
    """Write figures as a Markdown table."""
    rows = [HEAD, ["---"] * len(HEAD), *(figure.cells() for figure in figures)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def record(path: Path, figures: Sequence[Figure], told: dict[str, object]) -> None:
    """Write the table and the machine between the markers of a page.

    Raises:
        ValueError: the page has not both markers, in this order.
    """
    before, after = around(path)
    where = ", ".join(f"{name} {value}" for name, value in told.items())
    path.write_text(f"{before}{BEGIN}\n{table(figures)}\n\nMeasured on: {where}.\n{END}{after}", encoding="utf-8")


def around(path: Path) -> tuple[str, str]:
    """Give what stands before and after the markers of a page.

    Raises:
        ValueError: the page has not both markers, in this order.
    """
    before, begin, rest = path.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{path} must have the lines {BEGIN} and {END}")
    return before, after


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor())
