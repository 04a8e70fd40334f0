"""A dry run: the executor that trains nothing and writes nothing, and counts what would be trained."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NoReturn

from kdops.config.architectures import parse_architecture
from kdops.config.criterion import Criterion
from kdops.study.conclusion import Conclusion
from kdops.study.executor import Executor, ResultT
from kdops.study.mixtures import describe_mixture, equal_shares
from kdops.study.model_index import ModelIndex
from kdops.sweeps.model import Model, Sweep
from kdops.sweeps.outcomes import Fork, PlannedUnit, possible_models
from kdops.sweeps.plan import Plan
from kdops.sweeps.ranking import ranked
from kdops.sweeps.unit import Context, Task, Unit
from kdops.tracking.datasets import Trainset
from kdops.tracking.model_run import Outcome
from kdops.utils.progress import Reporter

if TYPE_CHECKING:
    from torch.nn import Module


class Planned(Exception):
    """A dry run is at a point where a study would need numbers: all that it would train is in its plan."""


class PlanningExecutor(Executor):
    """Plans what a study would train.

    What is there is chosen from as in training. Where a choice depends on models that are not there, what is distilled
    from it is planned from the choice itself, see :mod:`kdops.sweeps.outcomes`.
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

    def chosen(self, models: Sweep, by: Criterion, worst: bool = False) -> Sweep:
        """Choose the best model of each replicate, or the worst, or plan with that choice."""
        return replace(models, records=tuple(self._one(models.of_seed(seed), by, worst) for seed in models.seeds))

    def may_be_best(self, tried: Sequence[Sweep], badness: Callable[[Sweep], Any]) -> list[int]:
        """Return the places of all that may turn out to be the best."""
        best = min((sweep for sweep in tried if _is_measured(sweep.records)), key=badness, default=None)
        return [place for place, sweep in enumerate(tried) if sweep is best or not _is_measured(sweep.records)]

    def any_of(self, ways: Sequence[Callable[[], ResultT]]) -> list[ResultT]:
        """Plan ways of which a study goes one, depending on outcomes, and return the result of each."""
        if len(ways) == 1:
            return [ways[0]()]
        fork, results = Fork(len(ways)), []
        for number, go in enumerate(ways):
            with self.plan.way(fork, number):
                results.append(go())
        return results

    @property
    def networks(self) -> NoReturn:
        """No networks: raises RuntimeError."""
        raise RuntimeError("a dry run loads no networks; call stop_if_planned() before the first one is asked for")

    def adopt(self, model: Model, network: Module) -> Model:
        """Return the model without metrics: a plan needs neither them nor the network."""
        return replace(model, metrics={})

    def averaged(self, models: Sequence[Model], seed: int) -> Model:
        """Return models of a replicate as one source, which is there if all of them are."""
        source = describe_mixture(models, equal_shares(len(models)), seed)
        nodes = tuple(map(self.plan.node, models))
        if all(isinstance(node, Model) for node in nodes):
            return source
        parts = tuple(one.uri if isinstance(node, Model) else node for one, node in zip(models, nodes, strict=True))
        return self.plan.named(source, PlannedUnit(parts))

    def store(self, outcome: Outcome, write: Callable[..., None]) -> NoReturn:
        """Stop: what would be stored is made from numbers."""
        raise Planned

    def conclude(self, conclusion: Conclusion, context: Context) -> NoReturn:
        """Stop: a plan has no answer."""
        raise Planned

    def _models_of(
        self, units: Sequence[Unit], trainset: Trainset, context: Context, sources: Mapping[int, Model | None]
    ) -> Mapping[str, Model]:
        task = units[0].task
        temperatures = list(dict.fromkeys(unit.record.temperature for unit in units))
        there, missing = self._sorted(units)
        # The same units whatever the weights of their sources.
        blank = self.units(
            task, {s: one and replace(one, weights="") for s, one in sources.items()}, temperatures, context
        )
        later = self._there_later(task, sources, temperatures, context) if missing else {}
        planned: dict[str, list[PlannedUnit]] = {}
        models = {}
        for unit, plain in zip(units, blank, strict=True):
            model = there.get(unit.fingerprint)
            node = self.plan.node(model) if model else None
            if not isinstance(node, PlannedUnit):
                source = self.plan.node(unit.source) if unit.source else None
                found = later.get(plain.training, {})
                if isinstance(node, Model):
                    found = {unit.source.uri if unit.source else "": node}
                node = PlannedUnit(plain.training, source, found)
            models[unit.fingerprint] = model or self.plan.named(unit.record, node)
            planned.setdefault(unit.record.architecture, []).append(node)
        recipe = context.settings.recipes[task.role]
        for net, own in planned.items():
            of_net, kept = recipe.replace(architecture=parse_architecture(net)), len(task.keep_epochs)
            self.plan.add(task.known_as, of_net, len(trainset.rows), own, kept)
        return models

    def _sorted(self, units: Sequence[Unit]) -> tuple[dict[str, Model], list[Unit]]:
        self.index.look([unit for unit in units if unit.source is None or self.plan.node(unit.source) is unit.source])
        return self.index.sort(units)

    def _there_later(
        self, task: Task, sources: Mapping[int, Model | None], temperatures: Sequence[float], context: Context
    ) -> Mapping[str, Mapping[str, Model]]:
        """Return what is there already of each model that a source may turn out to be.

        Returns:
            By the digest of a unit without its source: the models by the URI of their source.
        """
        found: dict[str, dict[str, Model]] = {}
        candidates = {
            seed: [
                replace(model, select_on=source.select_on) for model in possible_models(self.plan.node(source)).values()
            ]
            for seed, source in sources.items()
            if source is not None and self.plan.node(source) is not source
        }
        for place in range(max(map(len, candidates.values()), default=0)):
            given = {seed: models[place] for seed, models in candidates.items() if place < len(models)}
            plain = {seed: replace(model, weights="") for seed, model in given.items()}
            units = self.units(task, given, temperatures, context)
            there, _ = self._sorted(units)
            for unit, one in zip(units, self.units(task, plain, temperatures, context), strict=True):
                model = there.get(unit.fingerprint)
                if model is not None and unit.source is not None and self.plan.node(model) is model:
                    found.setdefault(one.training, {})[unit.source.uri] = model
        return found

    def _one(self, models: Sequence[Model], by: Criterion, worst: bool) -> Model:
        if len(models) == 1 or _is_measured(models):
            return ranked(models, by)[-1 if worst else 0] if len(models) > 1 else models[0]
        return self.plan.choose(models, by, worst)


def _is_measured(models: Sequence[Model]) -> bool:
    return all(model.metrics for model in models)
