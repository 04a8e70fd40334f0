"""Attacks on the models of a study."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from kdops.config.attacks import parse_attacks
from kdops.data.examples import evenly, examples_of
from kdops.probing.attack import attack_networks, input_gradients
from kdops.study.result_files import results_table
from kdops.sweeps.model import Sweep

if TYPE_CHECKING:
    import pandas as pd

    from kdops.study.study import Study

FAINT = 1e-10
"""Below it a derivative of a probability is as good as none."""

FAINT_GRADIENTS = "faint_gradients"


def attack_sweep(study: Study[Any], models: Sweep, attacks: Mapping[str, str], images: int) -> Sweep:
    """Attack the models of a sweep with test images that lie evenly among all.

    Args:
        study: whose test images are used.
        models: all of one architecture.
        attacks: each attack, such as ``fgsm(epsilon=0.2)``, by the name of its metrics, which the models get:
            ``attack_<name>_success`` ..., see :class:`kdops.probing.attack.Attacked`.
        images: how many.
    """
    pixels, labels = _some(study, images)
    nets: list[Any] = [study.network(model) for model in models.records]
    for name, text in attacks.items():
        (attack,) = parse_attacks(text)
        with study.executor.reporter.bar(f"{name}: {attack} on {len(nets)} models, {len(labels)} images"):
            found = attack_networks(nets, pixels, labels, attack)
        models = _with(models, [one.metrics(name) for one in found])
    return models


def gradient_sweep(study: Study[Any], models: Sweep, images: int) -> Sweep:
    """Measure the share of test images at which no probability has a derivative of ``FAINT``, ``faint_gradients``."""
    pixels, _ = _some(study, images)
    nets: list[Any] = [study.network(model) for model in models.records]
    shares = (input_gradients(nets, pixels) < FAINT).double().mean(dim=1).tolist()
    return _with(models, [{FAINT_GRADIENTS: share} for share in shares])


def _some(study: Study[Any], count: int) -> tuple[torch.Tensor, torch.Tensor]:
    return examples_of(study.data, evenly(study.split.test, count))


def _with(models: Sweep, measured: list[dict[str, float]]) -> Sweep:
    records = tuple(
        replace(model, metrics={**model.metrics, **more}) for model, more in zip(models.records, measured, strict=True)
    )
    return replace(models, records=records)


def attacks_table(sweeps: Mapping[str, Sweep]) -> pd.DataFrame:
    """Return one row a model with all that was measured, the name of its sweep first."""
    table = results_table([model for sweep in sweeps.values() for model in sweep.records])
    table.insert(0, "net", [name for name, sweep in sweeps.items() for _ in sweep.records])
    return table
