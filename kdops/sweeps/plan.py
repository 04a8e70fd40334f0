"""The plan that a dry run prints: which models, about how long, how much disk."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial

from kdops.config.criterion import Criterion
from kdops.config.engines import LOCAL
from kdops.config.recipes import Recipe
from kdops.models.size import network_size
from kdops.sweeps.model import Model
from kdops.sweeps.outcomes import Choice, Fork, Node, PlannedUnit, Request, Tally, tallies
from kdops.utils.hardware import load_and_cores, matrix_speed
from kdops.utils.text import duration

EFFICIENCY = {"mlp": 0.5, "cnn": 0.6}
"""Share of the measured matrix speed that training reaches; convolutions count forward operations alike."""
STEP_SECONDS = {"mlp": 2.5e-3, "cnn": 12e-3}
"""What a step costs beside its arithmetic; it decides where the networks are tiny."""
TRACKING_SECONDS = 0.15
"""What logging and registering one model costs on a local store."""
MODEL_BYTES = 60_000
"""What a stored model takes beside its weights, which are stored twice."""
EPOCH_BYTES = 2_000
"""What the weights after an epoch take beside these."""


@dataclass(frozen=True)
class Step:
    """One sweep of the plan, or the trials of a search, whose models are not stored.

    Attributes:
        role: what is trained.
        recipe: how.
        images: on how many images.
        trials: how many of them there are; 0 for a sweep.
        kept: after how many epochs the weights of each are kept.
        unit: what they are called: images or rows.
    """

    role: str
    recipe: Recipe
    images: int
    trials: int = 0
    kept: int = 0
    unit: str = "images"

    @property
    def text(self) -> str:
        """Its line, without counts."""
        return f"{self.role} {self.recipe.architecture} on {self.images} {self.unit}"


class Plan:
    """Adds up the sweeps of a study.

    A model that is not there has a URI of its own in the plan, so that what is distilled from it stays apart.

    Args:
        unit: what the examples are called: images or rows.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        classes: int,
        device: str,
        engine: str = LOCAL,
        workers: int = 1,
        unit: str = "images",
    ):
        self.shape, self.classes, self.device, self.unit = shape, classes, device, unit
        self.engine, self.workers = engine, workers
        self.steps: list[Step] = []
        self._nodes: dict[str, Node] = {}
        self._choices: dict[object, Model] = {}
        self._requests: list[Request] = []
        self._taken: tuple[tuple[Fork, int], ...] = ()
        self._fork_begins = 0

    def add(self, role: str, recipe: Recipe, images: int, units: Sequence[PlannedUnit], kept: int = 0) -> None:
        """Add a sweep; a model that an earlier sweep of the plan has is not counted again.

        Args:
            role: what is trained.
            recipe: how.
            images: on how many images.
            units: its models.
            kept: after how many epochs the weights of each are kept.
        """
        place = self._place(Step(role, recipe, images, kept=kept, unit=self.unit))
        self._requests += [Request(place, unit, self._taken) for unit in units]

    def _place(self, step: Step) -> int:
        """Return the place of a step; the ways of a fork share those that look alike."""
        if self._taken:
            for place in range(self._fork_begins, len(self.steps)):
                if self.steps[place].text == step.text:
                    return place
        self.steps.append(step)
        return len(self.steps) - 1

    def add_trials(self, role: str, recipe: Recipe, images: int, trials: int) -> None:
        """Add the trials of a search.

        Args:
            role: what is searched for.
            recipe: of a trial in the middle of the space.
            images: on how many images.
        """
        self.steps.append(Step(f"trial of a {role}, such as", recipe, images, trials, unit=self.unit))

    def named(self, record: Model, node: Node) -> Model:
        """Return a model of the plan, to be distilled from."""
        uri = f"planned:{len(self._nodes)}"
        self._nodes[uri] = node
        return replace(record, uri=uri, weights=uri, metrics={})

    def node(self, model: Model) -> Node:
        """Return what a model is in the plan: itself, if it is there."""
        return self._nodes.get(model.uri, model)

    def choose(self, models: Sequence[Model], by: Criterion, worst: bool) -> Model:
        """Return the model of a choice; it has the lowest temperature that it may have."""
        key = (*(model.uri for model in models), by, worst)
        if key not in self._choices:
            lowest = min(models, key=lambda model: model.temperature)
            self._choices[key] = self.named(lowest, Choice(tuple(map(self.node, models)), by, worst))
        return self._choices[key]

    @contextmanager
    def way(self, fork: Fork, number: int) -> Iterator[None]:
        """Count what is added within only for one way of a fork."""
        before = self._taken
        if not number:
            self._fork_begins = len(self.steps)
        self._taken = (*before, (fork, number))
        try:
            yield
        finally:
            self._taken = before

    def lines(self) -> list[str]:
        """Return it in lines, the last one with the sums; what depends on outcomes is a range, from least to most."""
        groups = tallies(self._requests)
        lines = []
        for place, step in enumerate(self.steps):
            models, missing, there = (
                _span(groups, partial(count, place)) for count in (_models_at, _missing_at, _there_at)
            )
            if step.trials:
                models = missing = _text(step.trials, step.trials)
            if models != "0":
                lines.append(f"{models} x {step.text}, {missing} to train, {there} already there")
        speed = matrix_speed(self.device)
        ends = [[end(group, key=_missing) for group in groups] for end in (min, max)]
        models, missing = _span(groups, lambda tally: sum(tally.models.values())), _span(groups, _missing)
        depending = ", depending on which models are best" if " to " in models + missing else ""
        times, sizes = zip(*(self._costs(outcome, speed) for outcome in ends), strict=True)
        load, cores = load_and_cores()
        # Whoever else wants a core gets as much of it as the training.
        share = min(1.0, cores / (load + 1)) if self.device == "cpu" else 1.0
        took = list(dict.fromkeys(map(duration, (times[0], times[1] / share))))
        busy = f", the more at its load of {load:.1f} on {cores} cores," if share < 1 and len(took) > 1 else ""
        where = "" if self.engine == LOCAL else f" with engine={self.engine} and workers={self.workers}"
        return [
            *lines,
            f"{models} models, {missing} to train{depending}: about {' to '.join(took)}{busy} on this machine{where}, "
            f"{_text(*(round(size / 1e6) for size in sizes))} MB of disk",
        ]

    def _costs(self, outcome: Sequence[Tally], speed: float) -> tuple[float, float]:
        """Return the seconds and the bytes of an outcome."""
        seconds = disk = 0.0
        for place, step in enumerate(self.steps):
            missing = sum(tally.missing[place] for tally in outcome)
            training, tracking = (
                self._seconds(step, missing + step.trials, speed),
                (missing + step.trials) * TRACKING_SECONDS,
            )
            if self.engine == LOCAL or step.trials:
                seconds += training + tracking
            else:
                # One network is of one worker, and beside them the study stores one model after the other.
                seconds += max(training / min(self.workers, max(missing, 1)), tracking)
            parameters = network_size(step.recipe.architecture, self.shape, self.classes).parameters
            disk += missing * (8 * parameters + MODEL_BYTES + step.kept * (4 * parameters + EPOCH_BYTES))
        return seconds, disk

    def _seconds(self, step: Step, missing: int, speed: float) -> float:
        recipe = step.recipe
        # Stacked networks are taken for dense ones, those of others for convolutional ones.
        family = "mlp" if recipe.architecture.stacks else "cnn"
        # Backwards costs twice the forward pass, once in a first layer, whose input needs no gradient.
        known = network_size(recipe.architecture, self.shape, self.classes)
        # What cannot be counted has at least the two operations of each parameter.
        work = (2.2 if family == "mlp" else 3.0) * (known.flops or 2 * known.parameters)
        arithmetic = work * step.images * recipe.epochs * missing / (speed * EFFICIENCY[family])
        steps = recipe.epochs * -(-step.images // recipe.batch_size)
        passes = missing if family == "cnn" else min(missing, 1)
        return arithmetic + passes * steps * STEP_SECONDS[family]


def _models_at(place: int, tally: Tally) -> int:
    return tally.models[place]


def _missing_at(place: int, tally: Tally) -> int:
    return tally.missing[place]


def _there_at(place: int, tally: Tally) -> int:
    return tally.models[place] - tally.missing[place]


def _missing(tally: Tally) -> int:
    return sum(tally.missing.values())


def _span(groups: Sequence[Sequence[Tally]], count: Callable[[Tally], int]) -> str:
    """Return a count over all outcomes: the least, and the most if it differs."""
    return _text(*(sum(end(map(count, group)) for group in groups) for end in (min, max)))


def _text(low: int, high: int) -> str:
    return str(low) if low == high else f"{low} to {high}"
