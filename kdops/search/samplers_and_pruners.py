"""How a search chooses the values of its next trial: samplers of Optuna's that any number of processes may share."""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.pruners import BasePruner, MedianPruner, NopPruner
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState

from kdops.config.samplers_and_pruners import PRUNERS
from kdops.config.search_space import Dimension, Space, Value
from kdops.config.specs import parse_spec
from kdops.errors import UsageError
from kdops.sweeps import schema

MOST_GRID = 100_000


def sampler_of(name: str, options: Mapping[str, Any], seed: int, grid: Grid | None) -> BaseSampler:
    """Return the sampler of a search.

    Args:
        name: a key of :data:`kdops.config.samplers_and_pruners.SAMPLERS`.
        options: its options.
        seed: of the search.
        grid: what ``grid`` goes through; no other sampler has one.
    """
    if grid is not None:
        return _Seeded(lambda _: _GridSampler(grid), seed)
    return _Seeded(partial(_tpe, options["startup"]) if name == "tpe" else RandomSampler, seed)


def pruner_of(text: str) -> BasePruner:
    """Return what ends trials early, from the text of the parameter ``pruner``.

    Raises:
        UsageError: it is not one of :data:`kdops.config.samplers_and_pruners.PRUNERS`.
    """
    name, options = parse_spec(text, "pruner", PRUNERS)
    if name == "none":
        return NopPruner()
    # A student is not judged by its first epochs, nor by a handful of others.
    return MedianPruner(n_startup_trials=options["startup"], n_warmup_steps=options["warmup"])


class Grid:
    """The crossings of a grid in an order that is mixed by the seed."""

    def __init__(self, space: Space, points: int, seed: int):
        self.size = space.size(points)
        if self.size > MOST_GRID:
            advice = f"a grid of it has {self.size} points; {MOST_GRID} are allowed: fix settings or name fewer values"
            raise UsageError("space", space, advice)
        free = {dimension.name for dimension in space.free}
        self._grids = [{name: values for name, values in grid.items() if name in free} for grid in space.grids(points)]
        self._order = list(range(self.size))
        random.Random(seed).shuffle(self._order)
        self._text = f"{points} points of a range, seed {seed}"

    def __str__(self) -> str:
        return self._text

    def at(self, place: int) -> dict[str, Value]:
        """Return the free values at a place of the order, which begins again at its end.

        Processes that ask at the same moment may go beyond the end, as beyond any other number of trials.
        """
        rest = self._order[place % self.size]
        for grid in self._grids:
            size = math.prod(map(len, grid.values()))
            if rest < size:
                break
            rest -= size
        values: dict[str, Value] = {}
        for name, axis in grid.items():
            rest, index = divmod(rest, len(axis))
            values[name] = axis[index]
        return values


class _GridSampler(RandomSampler):
    """A sampler that takes the n-th crossing of a grid for the n-th new trial.

    Optuna's own grid forgets failed points, and fails itself after its last one where trials are asked and told.
    """

    def __init__(self, grid: Grid):
        super().__init__()
        self._grid = grid

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Value:
        return self._grid.at(place_of(trial.number, study.get_trials(deepcopy=False)))[param_name]


class _Seeded(BaseSampler):
    """A sampler for each trial, seeded by the trial's number.

    One sampler with one seed would draw the same values in every process, and again after each opening.
    """

    def __init__(self, make: Callable[[int], BaseSampler], seed: int):
        self._make, self._seed = make, seed
        self._number, self._sampler = -1, make(seed)

    def _of(self, trial: FrozenTrial) -> BaseSampler:
        if trial.number != self._number:
            digest = hashlib.sha256(f"{self._seed}/{trial.number}".encode()).digest()
            self._number, self._sampler = trial.number, self._make(int.from_bytes(digest[:4], "little"))
        return self._sampler

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        self._of(trial).before_trial(study, trial)

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self._of(trial).infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Value]:
        return self._of(trial).sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Value:
        return self._of(trial).sample_independent(study, trial, param_name, param_distribution)

    def after_trial(
        self, study: optuna.Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        self._of(trial).after_trial(study, trial, state, values)


def _tpe(startup: int, seed: int) -> TPESampler:
    """Make a TPE sampler that keeps away from what is being tried, since trials are asked for in batches.

    For several objectives too: NSGA-II draws its first generation of 50 at random and is meant for some hundreds of
    trials, which is more than most searches have. TPE looks at the settings jointly where there is one objective, and
    one by one where there are several, which is Optuna's own choice.
    """
    return TPESampler(n_startup_trials=startup, seed=seed, constant_liar=True)


def choose(trial: optuna.Trial, dimension: Dimension) -> None:
    """Let the sampler choose one setting of a trial."""
    if not dimension.is_range:
        trial.suggest_categorical(dimension.name, dimension.values)
    elif dimension.whole:
        trial.suggest_int(dimension.name, int(dimension.low), int(dimension.high), log=dimension.log)
    else:
        trial.suggest_float(dimension.name, dimension.low, dimension.high, log=dimension.log)


def place_of(number: int, trials: Sequence[FrozenTrial]) -> int:
    """Count the new trials before one; what is tried again is noted as it is made, so this never changes."""
    return sum(t.number < number and schema.TRIAL_AGAIN not in t.user_attrs for t in trials)
