"""A dry run: the executor that trains nothing and writes nothing, and counts what would be trained."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, NoReturn

from kdops.config.architectures import parse_architecture
from kdops.study.conclusion import Conclusion
from kdops.study.executor import Executor
from kdops.study.index import ModelIndex
from kdops.sweeps.dry_run import Plan
from kdops.sweeps.model import Model, Sweep
from kdops.sweeps.ranking import ranked
from kdops.sweeps.unit import Context, Unit
from kdops.tracking.datasets import Trainset
from kdops.tracking.model_run import Outcome
from kdops.utils.progress import Reporter

if TYPE_CHECKING:
    from torch.nn import Module

__all__ = ["Planned", "PlanningExecutor"]


class Planned(Exception):
    """A dry run is at a point where a study would need numbers: all that it would train is in its plan."""


class PlanningExecutor(Executor):
    """Plans what a study would train.

    A planned model has its fingerprint for URI and weights, so that sources stay apart. It has no metrics: of planned
    models the one at the lowest temperature is taken for the best, the one at the highest for the worst, and a model
    that is there for better than a planned one. So where a choice decides which models there are, as many are counted
    as if the best, the best distilled and the worst were all different.

    Args:
        plan: what sweeps are added to.
        index: the models that are there.
        reporter: where progress is reported.
    """

    def __init__(self, plan: Plan, index: ModelIndex, reporter: Reporter):
        super().__init__(index, reporter)
        self.plan = plan

    def stop_if_planned(self) -> NoReturn:
        """End the study, or the part of it: its plan is complete."""
        raise Planned

    @contextmanager
    def part(self, entry_point: str, title: str) -> Iterator[PlanningExecutor]:
        """Plan a part of the study; it ends with its plan, and the study goes on."""
        part = PlanningExecutor(self.plan, self.index, self.reporter)
        with suppress(Planned):
            yield part
        self.models |= part.models

    def best(self, models: Sweep, by: str) -> Sweep:
        """Choose the best model of each replicate that is there, else the planned one at the lowest temperature."""
        return _chosen(models, lambda own: _best(own, by))

    def worst(self, models: Sweep, by: str) -> Sweep:
        """Choose the planned model of each replicate at the highest temperature, else the worst that is there."""
        return _chosen(models, lambda own: _worst(own, by))

    def adopt(self, model: Model, network: Module) -> None:
        """Use a network that was loaded elsewhere as that of a model: a plan needs none."""

    def network(self, model: Model) -> NoReturn:
        """Refuse to load a network.

        Raises:
            RuntimeError: always.
        """
        raise RuntimeError(f"a dry run loads no networks, but that of {model} was asked for")

    def measure(self, network: Module) -> dict[str, float]:
        """Return no metrics: a plan needs none."""
        return {}

    def store(self, outcome: Outcome, write: Callable[..., None]) -> NoReturn:
        """Stop: what would be stored is made from numbers."""
        raise Planned

    def conclude(self, conclusion: Conclusion, context: Context) -> NoReturn:
        """Stop: a plan has no answer."""
        raise Planned

    def _models_of(
        self, units: Sequence[Unit], trainset: Trainset, context: Context, sources: Mapping[int, Model | None]
    ) -> Mapping[str, Model]:
        self.index.look(units)
        there, missing = self.index.sort(units)
        task, absent = units[0].task, [unit.fingerprint for unit in missing]
        recipe = context.settings.recipes[task.role]
        by_net: dict[str, list[str]] = {}
        for unit in units:
            by_net.setdefault(unit.record.architecture, []).append(unit.fingerprint)
        for net, own in by_net.items():
            planned_recipe = recipe.replace(architecture=parse_architecture(net)) if task.nets else recipe
            self.plan.add(task.known_as, planned_recipe, len(trainset.rows), own, absent)
        planned = {
            unit.fingerprint: replace(unit.record, uri=unit.fingerprint, weights=unit.fingerprint) for unit in missing
        }
        return {**there, **planned}


def _chosen(models: Sweep, choose: Callable[[Sequence[Model]], Model]) -> Sweep:
    return replace(models, records=tuple(choose(models.of_seed(seed)) for seed in models.seeds))


def _best(models: Sequence[Model], by: str) -> Model:
    there = [model for model in models if model.metrics]
    return ranked(there, by)[0] if there else min(models, key=_temperature)


def _worst(models: Sequence[Model], by: str) -> Model:
    planned = [model for model in models if not model.metrics]
    return max(planned, key=_temperature) if planned else ranked(models, by)[-1]


def _temperature(model: Model) -> float:
    return model.temperature
