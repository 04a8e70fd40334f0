"""The order of models, the best first: which one a study, the registry and an ensemble choose."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from kdops.errors import KdopsError
from kdops.sweeps.model import METRICS, Model, Sweep


def rank_key(model: Model, by: str = "validation") -> tuple[float, float]:
    """Return what models are ranked by, lower being better: highest accuracy, then lowest loss.

    An unknown loss comes last. What decides between equal models is up to the caller, which adds it: the temperature
    within a sweep (see :func:`best`), the registered name and the version in the registry (``Model.place``).

    Args:
        model: the model.
        by: ``validation``, or ``test`` to mimic the paper.

    Raises:
        KdopsError: the model has no such accuracy.
    """
    prefix = METRICS[by]
    accuracy, loss = (model.metrics.get(f"{prefix}_{name}", math.nan) for name in ("accuracy", "nll"))
    if math.isnan(accuracy):
        raise KdopsError(f"{model.name or model} has no {prefix}_accuracy, so it cannot be ranked")
    return -accuracy, math.inf if math.isnan(loss) else loss


def ranked(models: Sequence[Model], by: str = "validation") -> list[Model]:
    """Return models in the order of :func:`best`, the best first."""
    return sorted(models, key=lambda model: _in_sweep(model, by))


def best(models: Sweep, by: str = "validation") -> Sweep:
    """Return the best model of each replicate: highest accuracy, then lowest loss, then lowest temperature.

    Args:
        models: a sweep.
        by: ``validation``, or ``test`` to mimic the paper.
    """
    return replace(
        models,
        records=tuple(min(models.of_seed(seed), key=lambda model: _in_sweep(model, by)) for seed in models.seeds),
    )


def worst(models: Sweep, by: str = "validation") -> Sweep:
    """Return the worst model of each replicate, by the same order as :func:`best`."""
    return replace(
        models,
        records=tuple(max(models.of_seed(seed), key=lambda model: _in_sweep(model, by)) for seed in models.seeds),
    )


def mean_rank(models: Sweep, by: str = "validation") -> tuple[float, ...]:
    """Return what settings are compared by: the mean of :func:`rank_key` over models."""
    keys = [rank_key(record, by) for record in models.records]
    # The rounding noise of a sum must not choose between equals.
    return tuple(round(sum(values) / len(keys), 12) for values in zip(*keys, strict=True))


def best_temperature(models: Sweep, by: str = "validation") -> float:
    """Return the temperature above zero that is best over all replicates: mean accuracy, mean loss, then the lower.

    Args:
        models: a sweep.
        by: ``validation``, or ``test`` to mimic the paper.
    """
    return min(models.temperatures, key=lambda temperature: (*mean_rank(models.at([temperature]), by), temperature))


def chosen_on(models: Sweep, by: str) -> Sweep:
    """Return models with what they were chosen on, if it was ``test``: what is distilled from them is marked too."""
    if by != "test":
        return models
    return replace(models, records=tuple(replace(record, select_on=by) for record in models.records))


def _in_sweep(model: Model, by: str) -> tuple[float, ...]:
    return *rank_key(model, by), model.temperature
