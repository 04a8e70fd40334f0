"""What carries out the verbs of a study, in one of two ways.

:class:`~kdops.study.training.TrainingExecutor` trains and stores;
:class:`~kdops.study.dry_run.PlanningExecutor` counts what would be trained.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from kdops.config.criterion import Criterion
from kdops.study.conclusion import Conclusion
from kdops.study.model_index import ModelIndex
from kdops.sweeps import ranking
from kdops.sweeps.company import units_of_companies
from kdops.sweeps.fingerprint import fingerprint
from kdops.sweeps.model import Model, Sweep
from kdops.sweeps.unit import Context, Task, Unit, units_of
from kdops.tracking.datasets import Trainset
from kdops.tracking.model_run import Outcome
from kdops.utils.progress import Reporter

if TYPE_CHECKING:
    from torch.nn import Module

    from kdops.training.stored_networks import Networks

ResultT = TypeVar("ResultT")


class Executor(ABC):
    """Carries out the verbs of one study, or of a part of it.

    Attributes:
        models: the models of this study, by URI and name.
    """

    def __init__(self, index: ModelIndex, reporter: Reporter):
        self.index, self.reporter = index, reporter
        self.models: dict[tuple[str, str], Model] = {}

    def sweep(
        self,
        task: Task,
        sources: Mapping[int, Model | None],
        temperatures: Sequence[float],
        trainset: Trainset,
        context: Context,
    ) -> tuple[Model, ...]:
        """Return the models of a task, seed by seed.

        Args:
            sources: each seed's source; None to learn from labels.
            temperatures: one model each and seed; 0 for hard labels.
        """
        units = self.units(task, sources, temperatures, context)
        if not units:
            return ()
        found = self._models_of(units, trainset, context, sources)
        # A run's text may have rounded the temperature; that of equal fingerprints is the unit's.
        models = tuple(
            replace(found[unit.fingerprint], temperature=unit.record.temperature, seed=unit.record.seed)
            for unit in units
        )
        for unit, model in zip(units, models, strict=True):
            self.index.add(model, unit.fingerprint, unit.training)
        self.use(models)
        return models

    @staticmethod
    def units(
        task: Task, sources: Mapping[int, Model | None], temperatures: Sequence[float], context: Context
    ) -> list[Unit]:
        """Return the units of a task, seed by seed."""
        if task.nets:
            (temperature,) = temperatures
            units = units_of_companies(task, sources, temperature, context)
        else:
            units = units_of(task, sources, temperatures, context.trains_together(task), context)
        return [_marked(unit) for unit in units]

    def use(self, models: Sequence[Model]) -> None:
        """Count models among those of the study."""
        self.models |= {(model.uri, str(model)): model for model in models}

    @abstractmethod
    def stop_if_planned(self) -> None:
        """End the study here if it only plans."""

    @abstractmethod
    def part(self, entry_point: str, title: str) -> AbstractContextManager[Executor]:
        """Open what carries out a part of the study."""

    def chosen(self, models: Sweep, by: Criterion, worst: bool = False) -> Sweep:
        """Choose the best model of each replicate, or the worst; see :mod:`kdops.sweeps.ranking`."""
        return ranking.worst(models, by) if worst else ranking.best(models, by)

    def may_be_best(self, tried: Sequence[Sweep], badness: Callable[[Sweep], Any]) -> list[int]:
        """Return the place of the sweep with the lowest ``badness``, the first of equals."""
        return [min(range(len(tried)), key=lambda place: badness(tried[place]))]

    def any_of(self, ways: Sequence[Callable[[], ResultT]]) -> list[ResultT]:
        """Go the one way that there is, and return its result."""
        return [go() for go in ways]

    @property
    @abstractmethod
    def networks(self) -> Networks:
        """The networks that models are distilled from, or vote with."""

    @abstractmethod
    def adopt(self, model: Model, network: Module) -> Model:
        """Use a network that was loaded elsewhere as that of a model, and return the model with its metrics."""

    @abstractmethod
    def averaged(self, models: Sequence[Model], seed: int) -> Model:
        """Return models of a replicate as one source, whose softened probabilities are averaged."""

    @abstractmethod
    def store(self, outcome: Outcome, write: Callable[..., None]) -> Model:
        """Store a model that was not trained but made from others."""

    @abstractmethod
    def conclude(self, conclusion: Conclusion, context: Context) -> None:
        """End the study with its answer."""

    @abstractmethod
    def _models_of(
        self, units: Sequence[Unit], trainset: Trainset, context: Context, sources: Mapping[int, Model | None]
    ) -> Mapping[str, Model]:
        """Return the model of each unit by its fingerprint; there is one unit at least."""


def _marked(unit: Unit) -> Unit:
    """Return a unit with fingerprints of its own if its source was chosen on test.

    The weights are the same, but a model without the mark is not reused as one that has it, nor the other way around.
    """
    chosen = unit.record.select_on
    if chosen != "test":
        return unit
    return replace(
        unit,
        fingerprint=fingerprint(of=unit.fingerprint, select_on=chosen),
        training=fingerprint(of=unit.training, select_on=chosen),
    )
