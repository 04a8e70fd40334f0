"""Which registered models are worth shipping: how good, how quick, how large, and which none other beats in all."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from kdops.reporting.terminal import PlainTable, Side, plain_console
from kdops.sweeps.metrics import TEST_ACCURACY, VAL_ACCURACY, VAL_BALANCED_ACCURACY, VAL_BASELINE
from kdops.sweeps.model import Model
from kdops.sweeps.ranking import shipping_criterion
from kdops.utils.text import csv_text
from kdops.verdicts.intervals import wilson_interval

CSV_COLUMNS = (
    *("model", "champion", "front", "role", "dataset", "chain", "architecture", "temperature", "seed", "transfer"),
    *("split", VAL_ACCURACY, "val_low", "val_high", TEST_ACCURACY, "test_low", "test_high"),
    *("latency_seconds", "size_bytes", "parameters", "flops"),
)
"""The columns of the CSV."""


@dataclass(frozen=True)
class ServingCost:
    """What was measured of an architecture.

    Attributes:
        latency: seconds a call for one image, on one thread of this machine.
        size: bytes of a stored model.
    """

    latency: float
    size: int


@dataclass(frozen=True)
class Candidate:
    """A model that could be shipped.

    Attributes:
        model: the model.
        measured: of a network like it; None where none could be loaded.
        front: no other of its group is at least as good in accuracy on validation, latency and parameters, and better
            in one of them.
    """

    model: Model
    measured: ServingCost | None
    front: bool

    @property
    def milliseconds(self) -> float:
        """The latency for one image; nan where it could not be measured."""
        return 1000 * self.measured.latency if self.measured else math.nan

    def interval(self, part: str) -> tuple[float, float] | None:
        """Return Wilson's interval over the images of ``val`` or ``test``; None where their number is unknown."""
        accuracy, images = getattr(self.model, f"{part}_accuracy"), self.model.images.get(part, 0)
        return wilson_interval(accuracy, images) if images and 0 <= accuracy <= 1 else None


@dataclass(frozen=True)
class Group:
    """Models that may be compared: chosen on the same images.

    Attributes:
        transfer: their transfer setting.
        split: digest of their split.
        candidates: the best by validation first.
    """

    transfer: str
    split: str
    candidates: tuple[Candidate, ...]

    @property
    def baseline(self) -> float:
        """What always answering the largest class reaches on validation; nan where classes hardly differ in size."""
        known = [one.model.metrics[VAL_BASELINE] for one in self.candidates if VAL_BASELINE in one.model.metrics]
        return known[0] if known else math.nan


Size = tuple[str, int | None, int | None]
"""The architecture of a network, its parameters and its operations."""


def size_of(model: Model) -> Size:
    """Return what models share that cost the same: of one architecture they may take images of different sizes."""
    return model.architecture, model.parameters, model.flops


def group_candidates(models: Sequence[Model], measured: Mapping[Size, ServingCost]) -> list[Group]:
    """Put models into groups that may be compared, and find the front of each.

    Args:
        models: of one data set, the best by validation first.
        measured: by :func:`size_of`.

    Returns:
        The largest group first.
    """
    groups: dict[tuple[str, str], list[Model]] = {}
    for model in models:
        groups.setdefault((model.transfer, model.split), []).append(model)
    found = []
    for (transfer, split), own in sorted(groups.items(), key=lambda item: -len(item[1])):
        front = _front([_badness(model, measured.get(size_of(model))) for model in own])
        candidates = [Candidate(m, measured.get(size_of(m)), f) for m, f in zip(own, front, strict=True)]
        found.append(Group(transfer, split, tuple(candidates)))
    return found


def _badness(model: Model, measured: ServingCost | None) -> tuple[float, float, float]:
    """Return what is better when smaller; what is unknown is nan."""
    parameters = math.nan if model.parameters is None else float(model.parameters)
    score = model.metrics.get(shipping_criterion(model).metric, math.nan)
    return -score, measured.latency if measured else math.nan, parameters


def _front(points: Sequence[tuple[float, ...]]) -> list[bool]:
    """Return for each point whether it is on the Pareto front, smaller being better; a point with a nan never is."""
    known = {point for point in points if not any(map(math.isnan, point))}
    best = {p for p in known if not any(q != p and all(a <= b for a, b in zip(q, p, strict=True)) for q in known)}
    return [point in best for point in points]


BALANCED = "balanced"
"""The column of groups whose classes differ much in size: the balanced accuracy on validation."""

COLUMNS = (
    "model",
    "chain",
    "T",
    "seed",
    BALANCED,
    "val",
    "95 % over images",
    "test",
    "95 % over images",
    "ms",
    "kB",
    "parameters",
    "architecture",
)


SHOWN = 50
"""The rows of a group on the terminal, beside its Pareto front and champion."""


def show_candidates(groups: Sequence[Group]) -> None:
    """Print each group as a table: the best candidates by validation, its Pareto front and its champion."""
    console = plain_console()
    for group in groups:
        heading = f"transfer {group.transfer or 'unknown'}, split {group.split[:12]}"
        console.print(heading, markup=False)
        uneven = not math.isnan(group.baseline)
        if uneven:
            console.print(
                f"Classes differ much in size: always answering the largest is right on {group.baseline:.4f} of "
                "validation, so the choice is by balanced accuracy, the mean recall of the classes.",
                markup=False,
            )
        columns: list[tuple[str, Side]] = [
            (name, "left" if name in ("model", "chain", "architecture") else "right")
            for name in COLUMNS
            if uneven or name != BALANCED
        ]
        shown = [c for n, c in enumerate(group.candidates) if n < SHOWN or c.front or c.model.champion]
        PlainTable(columns, [_cells(one, uneven) for one in shown]).print(console)
        if more := len(group.candidates) - len(shown):
            console.print(f"{more} more; all of them: kdops candidates --csv", markup=False)
        console.print()
    by = " or ".join(sorted({"val" if math.isnan(group.baseline) else BALANCED for group in groups})) or "val"
    console.print(
        f"+ Pareto front: none of its group is at least as good in {by}, ms and parameters, and better in one.\n"
        f"val and test are accuracies, and the choice is by {by}; "
        "intervals (Wilson) are over the images of one model.\n"
        "ms: one image, one thread, measured now on this machine, once for each architecture and size of images. "
        "kB: all of its files.",
        markup=False,
    )
    if len(groups) > 1:
        console.print("Models of different splits or transfer settings are not compared with each other.", markup=False)


def _cells(candidate: Candidate, uneven: bool) -> list[str]:
    model, measured = candidate.model, candidate.measured
    balanced = model.metrics.get(VAL_BALANCED_ACCURACY, math.nan)
    return [
        f"{'+' if candidate.front else ' '} {model.name}{' *' if model.champion else ''}",
        model.chain,
        "-" if math.isnan(model.temperature) else f"{model.temperature:g}",
        str(model.seed),
        *(["-" if math.isnan(balanced) else f"{balanced:.4f}"] if uneven else []),
        f"{model.val_accuracy:.4f}",
        _bounds(candidate.interval("val")),
        f"{model.test_accuracy:.4f}",
        _bounds(candidate.interval("test")),
        f"{1000 * measured.latency:.3f}" if measured else "-",
        f"{measured.size / 1000:.0f}" if measured else "-",
        "-" if model.parameters is None else str(model.parameters),
        model.architecture or "-",
    ]


def _bounds(interval: tuple[float, float] | None) -> str:
    return "-" if interval is None else f"{interval[0]:.4f} to {interval[1]:.4f}"


def candidates_csv(groups: Sequence[Group]) -> str:
    """Return the candidates as CSV, numbers in full; accuracies' intervals are over images."""
    rows = []
    for group in groups:
        for candidate in group.candidates:
            model, measured = candidate.model, candidate.measured
            row = {name: getattr(model, name) for name in CSV_COLUMNS if hasattr(model, name)}
            row |= {"model": model.uri, "champion": str(model.champion).lower(), "front": str(candidate.front).lower()}
            for part in ("val", "test"):
                low, high = candidate.interval(part) or (None, None)
                row |= {f"{part}_low": low, f"{part}_high": high}
            row |= {"latency_seconds": measured.latency, "size_bytes": measured.size} if measured else {}
            rows.append([row.get(name) for name in CSV_COLUMNS])
    return csv_text(CSV_COLUMNS, rows)
