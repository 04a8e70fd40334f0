"""The ledger of a search: which trials were asked for, by which process, and what they came to. Optuna keeps it.

Several processes may ask and tell at once, die, and be started again. The ledger counts so that each trial that is
wanted is finished once: a failed trial's values are tried once more, and a trial that was asked for too much, because
two processes asked at the same moment, is withdrawn before anything is trained.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import random
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import optuna
import sqlalchemy
from filelock import FileLock
from matplotlib import get_backend, pyplot, rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FormatStrFormatter, LogLocator, NullLocator
from optuna.distributions import BaseDistribution
from optuna.exceptions import DuplicatedStudyError, UpdateFinishedTrialError
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import FrozenTrial, TrialState
from optuna.visualization import matplotlib as plots
from sqlalchemy.engine import make_url

from kdops.addresses import without_password
from kdops.checks import one_of
from kdops.errors import KdopsError, UsageError
from kdops.process import ProcessName
from kdops.space import OBJECTIVES, PRUNERS, SAMPLERS, Dimension, Space, Value

__all__ = ["Ledger", "Trial"]

FORMAT = 1
"""Raised when what a ledger notes in a study changes its meaning."""

# What is noted in Optuna's user attributes: of the study, and of a trial.
SEARCH = "kdops.search"
PROCESS = "kdops.process"
AGAIN = "kdops.again"
WITHDRAWN = "kdops.withdrawn"
RUN = "kdops.run"
HOPELESS = "kdops.hopeless"

SURPLUS = "surplus"
VOID = "void"
ATTEMPTS = 2
GRID_POINTS = 3
MOST_GRID = 100_000
NAMELESS_SECONDS = 300.0
"""A trial names its process within a moment. One that has no name after this long was asked by a process that was
killed before it could."""
NOTING_SECONDS = 5.0
FEWEST_FOR_IMPORTANCE = 10

SILENT = logging.NullHandler()
"""Without any handler Python would write warnings to the terminal all the same."""

STATES = {"complete": TrialState.COMPLETE, "pruned": TrialState.PRUNED, "failed": TrialState.FAIL}
NAMES = {TrialState.RUNNING: "running", **{state: name for name, state in STATES.items()}}
FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)


@dataclass(frozen=True)
class Trial:
    """One trial of a search.

    Attributes:
        number: counts from 0; numbers that are missing were never tried.
        values: of every setting of the space, the fixed ones too; empty where its process died before it chose.
        state: ``running``, ``complete``, ``pruned`` or ``failed``.
        results: one for each objective, of a complete trial; None of any other.
        again: the number of the failed trial whose values it tries once more; None for new values.
        run: the tracked run that was named for it; empty for none.
    """

    number: int
    values: Mapping[str, Value]
    state: str = "running"
    results: tuple[float, ...] | None = None
    again: int | None = None
    run: str = ""


class Ledger:
    """The trials of one search; make it with :meth:`open`.

    Attributes:
        space: what the search looks through.
        objectives: what it looks for, a key of :data:`kdops.space.OBJECTIVES`; the first one is the main one.
        prunes: whether :meth:`should_prune` may ever say yes.
        notes: sentences for the caller about what was asked for and is done otherwise.
        ended: the trials of dead processes that this one told as failed.
    """

    def __init__(self, study: optuna.Study, space: Space, objectives: tuple[str, ...], grid: _Grid | None):
        self.space, self.objectives = space, objectives
        self._study, self._grid = study, grid
        self._asked: dict[int, optuna.Trial] = {}
        self._sign = 1.0 if OBJECTIVES[objectives][0] == "minimize" else -1.0
        self.prunes = not isinstance(study.pruner, optuna.pruners.NopPruner)
        self.notes: tuple[str, ...] = ()
        self.ended: list[Trial] = []

    @classmethod
    def open(
        cls,
        *,
        storage: str,
        name: str,
        space: Space,
        objectives: tuple[str, ...] = ("accuracy",),
        sampler: str = "tpe",
        pruner: str = "none",
        seed: int = 0,
        points: int = GRID_POINTS,
        setting: Mapping[str, object] | None = None,
    ) -> Ledger:
        """Open a search, a new one or one that was begun.

        Args:
            storage: the path of a journal, a file of JSON lines that many processes may share, or the URL of a
                database server (``postgresql://...``). The processes of a new SQLite file get into each other's way.
            name: of the study.
            space: what to look through.
            objectives: what to look for, see :func:`kdops.space.parse_objectives`.
            sampler: ``tpe``, ``random`` or ``grid``. It may change from one opening to the next, but not to or from
                a grid.
            pruner: ``median`` or ``none``; several objectives are never pruned.
            seed: a trial's values follow from the seed, its number and the trials before it, so that a search that
                was stopped goes on as it would have.
            points: so many values of each range make the grid.
            setting: what else must be the same for trials to be compared, plain values by name.

        Raises:
            UsageError: the storage cannot be opened, or the name is taken by another search; for an unknown sampler,
                pruner or objective, and for a grid that is too large.
        """
        one_of("sampler", sampler, SAMPLERS)
        one_of("pruner", pruner, PRUNERS)
        if objectives not in OBJECTIVES:
            known = "; ".join(map(",".join, OBJECTIVES))
            raise UsageError("objective", ",".join(objectives), f"must be one of: {known}")
        if not name.strip():
            raise UsageError("study_name", "(empty)", "must name the study")
        # Optuna's lines would stand between ours; who wants them can still add a handler of their own.
        optuna.logging.disable_default_handler()
        logging.getLogger("optuna").addHandler(SILENT)
        notes = []
        if len(objectives) > 1 and pruner != "none":
            notes.append(f"Nothing is pruned, since there are several objectives ({', '.join(objectives)}).")
            pruner = "none"
        grid = _Grid(space, points, seed) if sampler == "grid" else None
        samplers = {"tpe": _tpe, "random": RandomSampler, "grid": lambda _: _GridSampler(grid)}
        with _quiet():
            study = _study(
                _storage(storage),
                name,
                objectives,
                {
                    "format": FORMAT,
                    "space": str(space),
                    "objectives": ",".join(objectives),
                    "grid": str(grid) if grid else "none",
                    **(setting or {}),
                },
            )
            study.sampler = _Seeded(samplers[sampler], seed)
            # A student is not judged by its first epochs, nor by a handful of others.
            study.pruner = (
                optuna.pruners.MedianPruner(n_startup_trials=10, n_warmup_steps=3)
                if pruner == "median"
                else optuna.pruners.NopPruner()
            )
        ledger = cls(study, space, objectives, grid)
        ledger.notes = tuple(notes)
        return ledger

    @staticmethod
    def check(
        storage: str,
        name: str,
        space: Space,
        objectives: tuple[str, ...],
        setting: Mapping[str, object] | None = None,
    ) -> None:
        """Refuse a storage that cannot be opened, and a name that another search has; nothing is written.

        Args:
            storage: as for :meth:`open`.
            name: of the study; empty where it is not named yet.
            space: what to look through.
            objectives: what to look for.
            setting: what else must be the same, as far as it is known yet.

        Raises:
            UsageError: says what is wrong.
        """
        optuna.logging.disable_default_handler()
        with _quiet():
            opened = _storage(storage, make=False)
            if opened is None or name not in optuna.get_all_study_names(opened):
                return
            noted = optuna.load_study(storage=opened, study_name=name).user_attrs.get(SEARCH)
        _same(name, noted, {"space": str(space), "objectives": ",".join(objectives), **(setting or {})})

    def wanted(self, total: int) -> int:
        """Count the trials that are still to be asked for, so that ``total`` are finished in the end.

        Complete and pruned trials are finished; running ones of processes that are not surely gone count as if they
        were. A grid has no more than its crossings, and of those that failed twice none.
        """
        trials = self._trials()
        missing = max(total - len(_counted(trials)), 0)
        if self._grid:
            waiting = sum(t.state == TrialState.WAITING for t in trials)
            fresh = sum(AGAIN not in t.user_attrs for t in trials)
            missing = min(missing, max(self._grid.size - fresh, 0) + waiting + len(self._to_try_again(trials)))
        return missing

    def ask(self, count: int, total: int) -> list[Trial]:
        """Ask for trials to run now: the values of failed ones first, those of dead processes too, then new ones.

        Args:
            count: so many at most.
            total: how many finished trials the search shall have; never more are asked for than are still wanted.

        Returns:
            The trials, each to be told (:meth:`tell`) by this process.
        """
        asked: list[Trial] = []
        while len(asked) < count:
            # Looked for each time, so that what a process leaves as it dies is tried again and not replaced.
            self.end_stale()
            self._enqueue_failed()
            if self.wanted(total) == 0:
                break
            trial = self._begin(total)
            if trial is not None:
                asked.append(trial)
        return asked

    def end_stale(self) -> list[int]:
        """Tell as failed the running trials of processes that are surely gone; give their numbers.

        Of a process on another host nothing is known: its trials stay as they are.
        """
        ended = []
        for number in sorted(_gone(self._trials())):
            try:
                self._study.tell(number, state=TrialState.FAIL)
            except (ValueError, UpdateFinishedTrialError):
                # Another process ended it at the same moment.
                continue
            ended.append(number)
        self.ended += [self._plain(trial) for trial in self._trials() if trial.number in ended]
        return ended

    def waits_for(self) -> list[int]:
        """Give the numbers of the trials that other processes run, as far as these are not surely gone."""
        trials = self._trials()
        gone, own = _gone(trials), str(ProcessName.own())
        return [
            t.number
            for t in trials
            if t.state == TrialState.RUNNING and t.number not in gone and t.user_attrs.get(PROCESS) != own
        ]

    def open_trials(self) -> list[int]:
        """Give the numbers of the trials that this process asked for and has not told."""
        return sorted(self._asked)

    def name_run(self, number: int, run: str) -> None:
        """Note the tracked run of a running trial.

        Raises:
            KdopsError: this process did not ask for the trial.
        """
        self._own(number).set_user_attr(RUN, run)

    def report(self, number: int, epoch: int, value: float) -> None:
        """Note the main objective of a running trial after an epoch; only the first value of an epoch counts.

        With several objectives nothing is noted, since nothing is pruned.

        Raises:
            KdopsError: this process did not ask for the trial, or it is finished.
        """
        trial = self._own(number)
        if len(self.objectives) == 1:
            try:
                with _quiet():
                    trial.report(value, epoch)
            except UpdateFinishedTrialError:
                raise KdopsError(f"trial {number} is finished; nothing more can be reported") from None

    def should_prune(self, number: int) -> bool:
        """Say whether a trial does worse than half of the complete ones did at its last reported epoch.

        Raises:
            KdopsError: this process did not ask for the trial.
        """
        trial = self._own(number)
        return self.prunes and trial.should_prune()

    def tell(self, number: int, values: Sequence[float] | None, state: str, again: bool = True) -> None:
        """Say what became of a trial. Telling the same again changes nothing.

        Args:
            number: of the trial.
            values: one for each objective, finite, where it is complete; else None.
            state: ``complete``, ``pruned`` or ``failed``.
            again: whether the values of a failed one are worth another try; they are not where they are at fault.

        Raises:
            KdopsError: there is no such trial or it is told already otherwise; the values do not fit.
        """
        if state not in STATES:
            raise KdopsError(f"trial {number}: unknown state {state!r}; there are {', '.join(STATES)}")
        results = None if values is None else tuple(float(value) for value in values)
        if (results is None) is (state == "complete"):
            raise KdopsError(f"trial {number}: a complete trial has values, and no other has")
        if results is not None and (len(results) != len(self.objectives) or not all(map(math.isfinite, results))):
            raise KdopsError(f"trial {number}: needs a finite value for each of {', '.join(self.objectives)}")
        try:
            with _quiet():
                if not again and number in self._asked:
                    self._asked[number].set_user_attr(HOPELESS, True)
                self._study.tell(number, results, STATES[state])
        except (ValueError, UpdateFinishedTrialError):
            told = next((t for t in self._trials() if t.number == number), None)
            if told is None or told.state == TrialState.WAITING:
                raise KdopsError(f"trial {number}: was never asked for") from None
            if (told.state, self._results(told)) != (STATES[state], results):
                raise KdopsError(f"trial {number}: is told already as {NAMES[told.state]}") from None
        self._asked.pop(number, None)

    def trials(self) -> list[Trial]:
        """Give every trial that was begun, by number."""
        return [
            self._plain(trial)
            for trial in self._trials()
            if trial.state != TrialState.WAITING and WITHDRAWN not in trial.user_attrs
        ]

    def best(self) -> Trial | None:
        """Give the complete trial that is best in the main objective (of equals the first); None if there is none."""
        return next(iter(self.ranked()), None)

    def better(self, value: float, than: Trial | None) -> bool:
        """Say whether a value of the main objective is better than a trial's; anything is better than None."""
        return than is None or self._sign * value < self._sign * than.results[0]

    def finished(self) -> int:
        """Count the complete and the pruned trials."""
        return sum(trial.state in FINISHED for trial in self._trials())

    def ranked(self) -> list[Trial]:
        """Give the complete trials in the order of :meth:`best`, the best first."""
        complete = [trial for trial in self.trials() if trial.state == "complete"]
        return sorted(complete, key=lambda trial: (self._sign * trial.results[0], trial.number))

    def front(self) -> list[Trial]:
        """Give the complete trials that no other one beats in every objective (Pareto's front), by number."""
        return sorted(map(self._plain, self._study.best_trials), key=lambda trial: trial.number)

    def importance(self) -> dict[str, float] | None:
        """Give how much each free setting matters for the main objective, the most first; the parts add up to 1.

        Estimated by PED-ANOVA (Watanabe, Bansal and Hutter, 2023). None with fewer than ten complete trials, where
        nothing is free, or where all did equally well.
        """
        results = [trial.results[0] for trial in self.trials() if trial.state == "complete"]
        if len(results) < FEWEST_FOR_IMPORTANCE or len(set(results)) < 2 or not self.space.free:
            return None
        with _quiet():
            return dict(optuna.importance.get_param_importances(self._study, **self._judged(len(results))))

    def history_figure(self) -> Figure | None:
        """Draw the main objective over the trials and the best so far; None without complete trials."""
        return self._figure(plots.plot_optimization_history, **self._target())

    def slice_figure(self) -> Figure | None:
        """Draw the main objective over each free setting; None without complete trials or free settings."""
        if not self.space.free:
            return None
        return self._figure(plots.plot_slice, **self._target())

    def importance_figure(self) -> Figure | None:
        """Draw :meth:`importance`; None where it gives none."""
        if self.importance() is None:
            return None
        complete = sum(trial.state == "complete" for trial in self.trials())
        return self._figure(plots.plot_param_importances, target_name=self.objectives[0], **self._judged(complete))

    def pareto_figure(self) -> Figure | None:
        """Draw the objectives against each other, the front marked; None for one objective or no complete trials."""
        if len(self.objectives) == 1:
            return None
        return self._figure(plots.plot_pareto_front, target_names=list(self.objectives))

    def _begin(self, total: int) -> Trial | None:
        """Begin one trial; None where it turns out to be one too many, and is withdrawn."""
        with _quiet():
            trial = self._study.ask()
            trial.set_user_attr(PROCESS, str(ProcessName.own()))
            reason = self._one_too_many(trial.number, total)
            if reason:
                trial.set_user_attr(WITHDRAWN, reason)
                self._study.tell(trial.number, state=TrialState.FAIL)
                return None
            for dimension in self.space.free:
                _choose(trial, dimension)
        self._asked[trial.number] = trial
        return self._plain(trial)

    def _enqueue_failed(self) -> None:
        """Let the values of failed trials be asked for next.

        Two processes may do so for one trial at once; of the two that come of it the second one is withdrawn.
        """
        for number, attempt, values in self._to_try_again(self._trials()):
            with _quiet():
                self._study.enqueue_trial(values, {AGAIN: {"of": number, "attempt": attempt, "values": values}})

    def _one_too_many(self, number: int, total: int) -> str | None:
        """Say why a trial that was just begun must not be run; None if it may.

        Every process sees the trials in one order, so of those that are asked for at the same moment only the first
        ones stay.
        """
        trials = self._trials()
        earlier = [t for t in trials if t.number < number]
        again = next(t for t in trials if t.number == number).user_attrs.get(AGAIN)
        if again and any(t.user_attrs.get(AGAIN, {}).get("of") == again["of"] for t in earlier):
            return VOID
        if self._grid and not again and sum(AGAIN not in t.user_attrs for t in earlier) >= self._grid.size:
            return VOID
        waiting = sum(t.state == TrialState.WAITING for t in earlier)
        return SURPLUS if len(_counted(earlier)) + waiting >= total else None

    def _to_try_again(self, trials: Sequence[FrozenTrial]) -> list[tuple[int, int, dict[str, Value]]]:
        """Give the number of each failed trial that is to be tried again, which attempt that will be, its values."""
        done = {t.user_attrs[AGAIN]["of"] for t in trials if AGAIN in t.user_attrs}
        found = []
        for trial in trials:
            withdrawn = trial.user_attrs.get(WITHDRAWN)
            attempt = trial.user_attrs.get(AGAIN, {}).get("attempt", 1) + (withdrawn is None)
            lost = trial.number in done or withdrawn == VOID or HOPELESS in trial.user_attrs or attempt > ATTEMPTS
            if trial.state != TrialState.FAIL or lost:
                continue
            values = self._chosen(trial, trials)
            if values is not None:
                found.append((trial.number, attempt, values))
        return found

    def _chosen(self, trial: FrozenTrial, trials: Sequence[FrozenTrial]) -> dict[str, Value] | None:
        """Give the free values of a trial; None where it ended before all were chosen."""
        if AGAIN in trial.user_attrs:
            return trial.user_attrs[AGAIN]["values"]
        if self._grid:
            return self._grid.at(_place(trial.number, trials))
        names = [dimension.name for dimension in self.space.free]
        return {name: trial.params[name] for name in names} if set(names) <= set(trial.params) else None

    def _own(self, number: int) -> optuna.Trial:
        if number not in self._asked:
            raise KdopsError(f"trial {number} is not one that this process asked for and has not told yet")
        return self._asked[number]

    def _trials(self) -> list[FrozenTrial]:
        return self._study.get_trials(deepcopy=False)

    def _plain(self, trial: FrozenTrial | optuna.Trial) -> Trial:
        """Give a trial without Optuna's types."""
        chosen = {**self.space.fixed, **trial.params}
        names = [dimension.name for dimension in self.space.dimensions]
        return Trial(
            number=trial.number,
            values={name: chosen[name] for name in names} if set(names) <= set(chosen) else {},
            state=NAMES[getattr(trial, "state", TrialState.RUNNING)],
            results=self._results(trial) if isinstance(trial, FrozenTrial) else None,
            again=trial.user_attrs.get(AGAIN, {}).get("of"),
            run=trial.user_attrs.get(RUN, ""),
        )

    @staticmethod
    def _results(trial: FrozenTrial) -> tuple[float, ...] | None:
        # Optuna gives a pruned trial its last report as a value.
        return tuple(trial.values) if trial.state == TrialState.COMPLETE else None

    def _judged(self, complete: int) -> dict[str, object]:
        """Give Optuna's options for the importance: what sets the best trials apart from the others.

        The best are a tenth of the trials but at least five, fewer would say nothing. A target counts as better the
        lower it is, whatever the study's direction.
        """
        evaluator = optuna.importance.PedAnovaImportanceEvaluator(target_quantile=max(0.1, 5 / complete))
        return {"evaluator": evaluator, "target": lambda trial: self._sign * trial.values[0]}

    def _target(self) -> dict[str, object]:
        """Give Optuna's options for drawing the main objective; of a single one it also draws the best so far."""
        target = {} if len(self.objectives) == 1 else {"target": _main}
        return {**target, "target_name": self.objectives[0]}

    def _figure(self, draw: Callable, **options: object) -> Figure | None:
        """Let Optuna draw by Agg and leave pyplot as it was."""
        if self.best() is None:
            return None
        before = get_backend()
        with _quiet(), rc_context({"figure.constrained_layout.use": True}):
            pyplot.switch_backend("agg")
            try:
                axes = draw(self._study, **options)
                figure = (axes if hasattr(axes, "figure") else axes.flat[0]).figure
                pyplot.close(figure)
            finally:
                if before != get_backend():
                    pyplot.switch_backend(before)
        FigureCanvasAgg(figure)
        for axes in figure.axes:
            if axes.get_xscale() == "log":
                # Plain numbers at 1, 2 and 5: there is little room, and a range may have no power of ten.
                axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
                axes.xaxis.set_major_formatter(FormatStrFormatter("%g"))
                axes.xaxis.set_minor_locator(NullLocator())
                axes.tick_params(axis="x", labelrotation=90)
        return figure


class _Grid:
    """The crossings of a grid in an order that is mixed by the seed."""

    def __init__(self, space: Space, points: int, seed: int):
        self.size = space.size(points)
        if self.size > MOST_GRID:
            advice = f"a grid of it has {self.size} points; {MOST_GRID} are allowed: fix settings or name fewer values"
            raise UsageError("space", space, advice)
        free = {dimension.name for dimension in space.free}
        self._axes = {name: values for name, values in space.grid(points).items() if name in free}
        self._order = list(range(self.size))
        random.Random(seed).shuffle(self._order)
        self._text = f"{points} points of a range, seed {seed}"

    def __str__(self) -> str:
        return self._text

    def at(self, place: int) -> dict[str, Value] | None:
        """Give the free values at a place of the order; None beyond its end."""
        if place >= self.size:
            return None
        rest, values = self._order[place], {}
        for name, axis in self._axes.items():
            rest, index = divmod(rest, len(axis))
            values[name] = axis[index]
        return values


class _GridSampler(RandomSampler):
    """Gives the n-th new trial the n-th crossing of a grid.

    Optuna's own grid forgets failed points, and fails itself after its last one where trials are asked and told.
    """

    def __init__(self, grid: _Grid):
        super().__init__()
        self._grid = grid

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Value:
        values = self._grid.at(_place(trial.number, study.get_trials(deepcopy=False)))
        assert values is not None, "a trial beyond the end of the grid is withdrawn before it chooses"
        return values[param_name]


class _Seeded(BaseSampler):
    """A sampler for each trial, seeded by the trial's number.

    One sampler with one seed would give the same values in every process, and again after each opening.
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


def _tpe(seed: int) -> TPESampler:
    """Make a TPE sampler that keeps away from what is being tried, since trials are asked for in batches.

    For several objectives too: NSGA-II draws its first generation of 50 at random and is meant for some hundreds of
    trials, which is more than most searches have. TPE looks at the settings jointly where there is one objective, and
    one by one where there are several, which is Optuna's own choice.
    """
    return TPESampler(seed=seed, constant_liar=True)


def _choose(trial: optuna.Trial, dimension: Dimension) -> None:
    """Let the sampler choose one setting of a trial."""
    if not dimension.is_range:
        trial.suggest_categorical(dimension.name, dimension.values)
    elif dimension.whole:
        trial.suggest_int(dimension.name, dimension.low, dimension.high, log=dimension.log)
    else:
        trial.suggest_float(dimension.name, dimension.low, dimension.high, log=dimension.log)


def _place(number: int, trials: Sequence[FrozenTrial]) -> int:
    """Count the new trials before one; what is tried again is noted as it is made, so this never changes."""
    return sum(t.number < number and AGAIN not in t.user_attrs for t in trials)


def _main(trial: FrozenTrial) -> float:
    return trial.values[0]


def _counted(trials: Sequence[FrozenTrial]) -> set[int]:
    """Give the numbers of the trials that are finished, or running and to be finished by their processes."""
    gone = _gone(trials)
    return {
        t.number
        for t in trials
        if WITHDRAWN not in t.user_attrs
        and (t.state in FINISHED or (t.state == TrialState.RUNNING and t.number not in gone))
    }


def _gone(trials: Sequence[FrozenTrial]) -> set[int]:
    """Give the numbers of the running trials whose processes are surely gone."""
    running = [(t, t.user_attrs.get(PROCESS, "")) for t in trials if t.state == TrialState.RUNNING]
    own = ProcessName.own()
    dead = {name for name in {name for _, name in running} if name != str(own) and own.knows_gone(name)}
    latest = datetime.now() - timedelta(seconds=NAMELESS_SECONDS)
    return {t.number for t, name in running if name in dead or (not name and t.datetime_start < latest)}


def _study(storage: BaseStorage, name: str, objectives: tuple[str, ...], identity: dict[str, object]) -> optuna.Study:
    """Make the study, or take the one of that name if it is this search.

    Raises:
        UsageError: it is another one, and how it differs.
    """
    try:
        study = optuna.create_study(storage=storage, study_name=name, directions=OBJECTIVES[objectives])
        study.set_user_attr(SEARCH, identity)
        study.set_metric_names(list(objectives))
        return study
    except DuplicatedStudyError:
        study = optuna.load_study(storage=storage, study_name=name)
    # Who made it a moment ago may not have noted yet what it is.
    deadline = time.monotonic() + NOTING_SECONDS
    while SEARCH not in study.user_attrs and time.monotonic() < deadline and not study.trials:
        time.sleep(0.05)
    if SEARCH not in study.user_attrs and not study.trials:
        # Who made it was killed before it could note anything.
        study.set_user_attr(SEARCH, identity)
    _same(name, study.user_attrs.get(SEARCH), identity)
    return study


def _same(name: str, noted: Mapping[str, object] | None, identity: Mapping[str, object]) -> None:
    """Refuse to take another search for this one.

    Raises:
        UsageError: how they differ.
    """
    if noted is None:
        raise UsageError("study_name", name, "is taken by a study that is no search of kdops; choose another name")
    for what, value in identity.items():
        if noted.get(what) != value:
            taken = f"is taken by a search with another {what} ({noted.get(what)}, not {value}); choose another name"
            raise UsageError("study_name", name, taken)


def _storage(storage: str, make: bool = True) -> BaseStorage | None:
    """Open a journal or a database; None for a journal that is not there and is not to be made.

    Raises:
        UsageError: it cannot be opened.
    """
    try:
        return _database(storage, make) if "://" in storage else _journal(Path(storage), make)
    except UsageError:
        raise
    except Exception as error:
        first = next(iter(str(error).strip().splitlines()), "") or type(error).__name__
        said = without_password(first, storage)
        raise UsageError("storage", without_password(storage), f"cannot be opened: {said}") from None


def _database(url: str, make: bool) -> RDBStorage | None:
    file = make_url(url).database if url.startswith("sqlite") else None
    if not make and file and not Path(file).exists():
        _check_writable(Path(file))
        return None
    engine = sqlalchemy.create_engine(url)
    try:
        tables = set(sqlalchemy.inspect(engine).get_table_names())
    finally:
        engine.dispose()
    # Optuna would put its tables beside those of MLflow and then fail over the version that MLflow noted.
    if "alembic_version" in tables and "studies" not in tables:
        raise ValueError("the database is another program's, such as MLflow's; give the search one of its own")
    if not make and "studies" not in tables:
        return None
    # Processes that make the tables side by side get into each other's way.
    with FileLock(Path(tempfile.gettempdir()) / f"kdops-{hashlib.sha256(url.encode()).hexdigest()[:16]}.lock"):
        return RDBStorage(url)


def _journal(path: Path, make: bool) -> JournalStorage | None:
    if not str(path).strip() or path.is_dir():
        raise ValueError("it must be the path of a file or the URL of a database")
    path = path.absolute()
    _check_writable(path)
    # A lock by creation works on every system; the other one, a link, is not followed from a relative path.
    lock = JournalFileOpenLock(str(path))
    if path.exists() and path.stat().st_size:
        _check_journal(path, lock, make)
    elif not make:
        return None
    return JournalStorage(JournalFileBackend(str(path), lock_obj=lock))


def _check_writable(path: Path) -> None:
    """Refuse a file that cannot be written, or made where it is missing."""
    if not path.absolute().parent.is_dir():
        raise ValueError(f"there is no folder {path.absolute().parent}")
    # A lock is made beside it.
    for place in (path.absolute().parent, path):
        if place.exists() and not os.access(place, os.W_OK):
            raise ValueError(f"{place} cannot be written")


def _check_journal(path: Path, lock: JournalFileOpenLock, mend: bool) -> None:
    """Refuse a file that is no journal, and cut off a last line that was written by half if it is to be mended.

    Optuna would add to either: to a stranger's file, or behind half a line, which no process could read any more.
    """
    with path.open("rb") as file:
        first = file.readline(100_000)
        try:
            entry = json.loads(first)
        except ValueError:
            entry = None
        known = isinstance(entry, dict) and "op_code" in entry and first.endswith(b"\n")
        if not known:
            raise ValueError("the file is no journal of Optuna")
        file.seek(-1, os.SEEK_END)
        if file.read() == b"\n" or not mend:
            return
    lock.acquire()
    try:
        with path.open("r+b") as file:
            whole = file.read().rpartition(b"\n")[0]
            file.truncate(len(whole) + 1)
    finally:
        lock.release()


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Optuna's warnings, which are about Optuna's own versions, from the user."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
