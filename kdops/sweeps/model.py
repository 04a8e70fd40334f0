"""What is known of a trained model, and of a sweep of them. Plain values: no tensors, no MLflow."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

__all__ = ["COPY_SEEDS", "LABELS", "Model", "Sweep", "best", "ranked", "worst"]

COPY_SEEDS = 1_000_000
"""Copy k of a replicate's model has the replicate's seed and k times this, so that no two seeds meet."""

LABELS = "labels"
"""The source of a model that learned from labels alone."""


@dataclass(frozen=True)
class Model:
    """One model of a study.

    Attributes:
        role: what it is: teacher, student, middle, reversed ...
        seed: its replicate.
        temperature: what it was trained at; 0 for hard labels, nan where there is none (an ensemble).
        chain: the roles it came through, ``teacher>middle>student``.
        source: model URI distilled from, or ``labels``; of an ensemble its members' URIs, parted by spaces.
        uri: its own model URI, ``models:/kdops-digits-student/7``; empty for one that is only planned.
        run_id: its MLflow run.
        model_id: its logged model.
        weights: digest of its weights.
        metrics: final metrics by name.
        params: logged parameters by name.
        fleet: the seeds whose fleets were trained in the same pass; empty for a model trained alone.
        fleet_digest: the digest of all that was trained in that pass.
        reused: it was there before this study.
    """

    role: str
    seed: int
    temperature: float
    chain: str
    source: str
    uri: str
    run_id: str = ""
    model_id: str = ""
    weights: str = ""
    metrics: dict[str, float] = field(default_factory=dict)
    params: dict[str, str] = field(default_factory=dict)
    fleet: tuple[int, ...] = ()
    fleet_digest: str = ""
    reused: bool = False

    def __str__(self) -> str:
        at = "" if math.isnan(self.temperature) else f" T={self.temperature:g}"
        return f"{self.role}{at} seed={self.seed}"


@dataclass(frozen=True)
class Sweep:
    """Models of one role over temperatures and replicates.

    Attributes:
        records: the models.
        hops: how many distillations lie between the first source and these models: 0 for a teacher.
    """

    records: tuple[Model, ...]
    hops: int = 0

    def of_seed(self, seed: int) -> tuple[Model, ...]:
        """Return the models of one replicate."""
        return tuple(record for record in self.records if record.seed == seed)

    @property
    def seeds(self) -> tuple[int, ...]:
        """The replicates, ascending."""
        return tuple(sorted({record.seed for record in self.records}))

    @property
    def temperatures(self) -> tuple[float, ...]:
        """The temperatures above zero, ascending."""
        return tuple(sorted({record.temperature for record in self.records if record.temperature > 0}))

    def hard(self) -> Sweep:
        """Return the models trained on hard labels."""
        return replace(self, records=tuple(record for record in self.records if record.temperature == 0))

    def soft(self) -> Sweep:
        """Return the models trained at a temperature."""
        return replace(self, records=tuple(record for record in self.records if record.temperature > 0))

    def at(self, temperatures: Sequence[float]) -> Sweep:
        """Return the models of some temperatures."""
        return replace(self, records=tuple(record for record in self.records if record.temperature in temperatures))

    def copies_of(self, seed: int) -> tuple[Model, ...]:
        """Return the models of one replicate's copies; see ``COPY_SEEDS``."""
        return tuple(record for record in self.records if (record.seed - seed) % COPY_SEEDS == 0)

    def first(self, replicates: int) -> Sweep:
        """Return the models of the first replicates."""
        seeds = self.seeds[:replicates]
        return replace(self, records=tuple(record for record in self.records if record.seed in seeds))

    def table(self, metric: str = "test_accuracy") -> np.ndarray:
        """Return a metric as ``[replicates, temperatures]``, both ascending, hard labels included.

        With one model a replicate it is ``[replicates, 1]``, whatever their temperatures.

        Raises:
            ValueError: a replicate lacks a temperature that another has.
        """
        if len(self.records) == len(self.seeds):
            # One model a replicate, chosen perhaps at a temperature of its own.
            by_seed = sorted(self.records, key=lambda record: record.seed)
            return np.array([[record.metrics.get(metric, math.nan)] for record in by_seed], dtype=float)
        temperatures = sorted({record.temperature for record in self.records})
        place = {(r.seed, r.temperature): r.metrics.get(metric, math.nan) for r in self.records}
        try:
            return np.array([[place[seed, t] for t in temperatures] for seed in self.seeds], dtype=float)
        except KeyError as missing:
            raise ValueError(f"the sweep lacks the model of (seed, temperature) = {missing}") from None

    def accuracies(self) -> np.ndarray:
        """Return the test accuracy of a sweep with one model a replicate, as ``[replicates]``."""
        (column,) = self.table("test_accuracy").T
        return column


def best(models: Sweep, by: str = "validation") -> Sweep:
    """Return the best model of each replicate: highest accuracy, then lowest loss, then lowest temperature.

    Args:
        models: a sweep.
        by: ``validation``, or ``test`` to mimic the paper.
    """
    return replace(models, records=tuple(min(models.of_seed(seed), key=_badness(by)) for seed in models.seeds))


def ranked(models: Sequence[Model], by: str = "validation") -> list[Model]:
    """Return models in the order of :func:`best`, the best first."""
    return sorted(models, key=_badness(by))


def worst(models: Sweep, by: str = "validation") -> Sweep:
    """Return the worst model of each replicate, by the same order as :func:`best`."""
    return replace(models, records=tuple(max(models.of_seed(seed), key=_badness(by)) for seed in models.seeds))


def _badness(by: str):
    prefix = {"validation": "val", "test": "test"}[by]

    def key(record: Model) -> Sequence[float]:
        accuracy = record.metrics.get(f"{prefix}_accuracy", 0.0)
        return (-accuracy, record.metrics.get(f"{prefix}_nll", math.inf), record.temperature)

    return key
