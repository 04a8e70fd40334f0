"""The table of a run: printed, as JSON, or between two markers of a page."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path

from benchmarks.pairs import Figure, Options

__all__ = ["BEGIN", "END", "around", "machine", "record", "table"]

BEGIN, END = "<!-- benchmarks: begin -->", "<!-- benchmarks: end -->"
HEAD = ("part", "what", "median", "range", "n", "aim", "behind it")


def machine(options: Options) -> dict[str, object]:
    """Return what it was measured on, and how busy that was."""
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
    return "\n".join([*_head(), *(_line(figure.cells()) for figure in figures)])


def record(path: Path, figures: Sequence[Figure], told: dict[str, object]) -> None:
    """Write the table and the machine between the markers of a page; parts that were not measured now stay as they are.

    Raises:
        ValueError: the page has not both markers, in this order.
    """
    before, old, after = around(path)
    measured = list(dict.fromkeys(figure.part for figure in figures))
    rows = {part: [line for line in old.splitlines() if line.startswith(f"| {part} |")] for part in _parts(old)}
    rows |= {part: [_line(figure.cells()) for figure in figures if figure.part == part] for part in measured}
    where = f"{', '.join(measured)}: {', '.join(f'{name} {value}' for name, value in told.items())}."
    machines = [line for parts, line in _machines(old, measured) if parts] + [f"- {where}"]
    content = [*_head(), *(line for lines in rows.values() for line in lines), "", "Measured on", "", *machines]
    path.write_text(before + "\n".join([BEGIN, *content, END]) + after, encoding="utf-8")


def around(path: Path) -> tuple[str, str, str]:
    """Return what stands before, between and after the markers of a page.

    Raises:
        ValueError: the page has not both markers, in this order.
    """
    before, begin, rest = path.read_text(encoding="utf-8").partition(BEGIN)
    old, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{path} must have the lines {BEGIN} and {END}")
    return before, old, after


def _parts(old: str) -> list[str]:
    """Return the parts that a recorded table has, in its order."""
    found = re.findall(r"^\| (\w+) \|", old, re.MULTILINE)
    return [part for part in dict.fromkeys(found) if part != HEAD[0]]


def _machines(old: str, measured: Sequence[str]) -> Iterator[tuple[list[str], str]]:
    """Yield the recorded machines, each with its parts that were not measured anew."""
    for parts, told in re.findall(r"^- ([\w, ]+): (.*)$", old, re.MULTILINE):
        left = [part for part in parts.split(", ") if part not in measured]
        yield left, f"- {', '.join(left)}: {told}"


def _head() -> list[str]:
    return [_line(HEAD), _line(["---"] * len(HEAD))]


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor())
