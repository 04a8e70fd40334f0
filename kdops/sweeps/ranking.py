"""The order of models, the best first: which one a study, the registry and an ensemble choose."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from kdops.config.criterion import VALIDATION, Criterion
from kdops.errors import KdopsError
from kdops.sweeps import schema
from kdops.sweeps.metrics import VAL_BASELINE
from kdops.sweeps.model import Model, Sweep


def rank_key(model: Model, by: Criterion = VALIDATION) -> tuple[float, float]:
    """Return what models are ranked by, lower being better: highest score, then lowest loss.

    An unknown loss comes last. What decides between equal models is up to the caller, which adds it: the temperature
    within a sweep (see :func:`best`), the registered name and the version in the registry (``Model.place``).

    Raises:
        KdopsError: the model has no such score.
    """
    score, loss = (model.metrics.get(name, math.nan) for name in (by.metric, by.loss))
    if math.isnan(score):
        raise KdopsError(f"{model.name or model} has no {by.metric}, so it cannot be ranked")
    return -score, math.inf if math.isnan(loss) else loss


BALANCED = Criterion(by="balanced_accuracy")


def shipping_criterion(model: Model) -> Criterion:
    """Return what the registry chooses by: accuracy, or balanced accuracy where classes differ much in size."""
    return BALANCED if schema.is_uneven(model) else VALIDATION


def shipping_key(model: Model) -> tuple[float, float]:
    """Return what the registry ranks models by, lower being better; see :func:`shipping_criterion`."""
    return rank_key(model, shipping_criterion(model))


def shipping_order(models: Sequence[Model]) -> list[Model]:
    """Return models of one data set and split as the registry prefers them, the best first.

    Where the balanced accuracy is known of some only, a model of which it is not known comes first if it is more
    accurate than the best of those, and than always answering the largest class; otherwise it comes last.
    """
    in_order = sorted(models, key=lambda model: (*shipping_key(model), *model.place))
    known = [model for model in in_order if schema.is_uneven(model)]
    unknown = [model for model in in_order if not schema.is_uneven(model)]
    bar = max(known[0].val_accuracy, known[0].metrics[VAL_BASELINE]) if known else -math.inf
    first = [model for model in unknown if model.val_accuracy > bar]
    last = [model for model in unknown if not model.val_accuracy > bar]
    return [*first, *known, *last]


def ranked(models: Sequence[Model], by: Criterion = VALIDATION) -> list[Model]:
    """Return models in the order of :func:`best`, the best first."""
    return sorted(models, key=lambda model: (*rank_key(model, by), model.temperature))


def best(models: Sweep, by: Criterion = VALIDATION) -> Sweep:
    """Return the best model of each replicate: highest score, then lowest loss, then lowest temperature."""
    return replace(models, records=tuple(ranked(models.of_seed(seed), by)[0] for seed in models.seeds))


def worst(models: Sweep, by: Criterion = VALIDATION) -> Sweep:
    """Return the worst model of each replicate, by the same order as :func:`best`."""
    return replace(models, records=tuple(ranked(models.of_seed(seed), by)[-1] for seed in models.seeds))


def mean_rank(models: Sweep, by: Criterion = VALIDATION) -> tuple[float, ...]:
    """Return what settings are compared by: the mean of :func:`rank_key` over models."""
    keys = [rank_key(record, by) for record in models.records]
    # The rounding noise of a sum must not choose between equals.
    return tuple(round(sum(values) / len(keys), 12) for values in zip(*keys, strict=True))


def best_temperature(models: Sweep, by: Criterion = VALIDATION) -> float:
    """Return the temperature above zero that is best over all replicates: mean score, mean loss, then the lower."""
    return min(models.temperatures, key=lambda temperature: (*mean_rank(models.at([temperature]), by), temperature))


def chosen_on(models: Sweep, by: str) -> Sweep:
    """Return models with what they were chosen on, if it was ``test``: what is distilled from them is marked too."""
    if by != "test":
        return models
    return replace(models, records=tuple(replace(record, select_on=by) for record in models.records))
