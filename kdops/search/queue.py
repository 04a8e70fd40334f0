"""The ledger of a search: which trials were asked for, by which process, and what they came to. Optuna keeps it.

Several processes may ask and tell at once, die, and be started again. The ledger counts so that each trial that is
wanted is finished once: a failed trial's values are tried once more, and a trial that was asked for too much, because
two processes asked at the same moment, is withdrawn before anything is trained.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState

from kdops.config.parsing import parse_spec
from kdops.config.search_space import OBJECTIVES, SAMPLERS, Space, Value
from kdops.errors import KdopsError, UsageError
from kdops.search.samplers import AGAIN, Grid, choose, place_of, pruner_of, sampler_of
from kdops.search.storage import check_search, open_search, quiet
from kdops.utils.process import ProcessId

__all__ = ["Trial", "TrialQueue"]

FORMAT = 1
"""Raised when what a ledger notes in a study changes its meaning."""

# What is noted in Optuna's user attributes of a trial, beside AGAIN.
PROCESS = "kdops.process"
WITHDRAWN = "kdops.withdrawn"
RUN = "kdops.run"
HOPELESS = "kdops.hopeless"

SURPLUS = "surplus"
VOID = "void"
ATTEMPTS = 2
NAMELESS_SECONDS = 300.0
"""A trial names its process within a moment. One that has no name after this long was asked by a process that was
killed before it could."""
FEWEST_FOR_IMPORTANCE = 10

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


class TrialQueue:
    """The trials of one search; make it with :meth:`open`.

    Attributes:
        space: what the search looks through.
        objectives: what it looks for, a key of :data:`kdops.config.search_space.OBJECTIVES`; the first one is the
            main one.
        prunes: whether :meth:`should_prune` may ever say yes.
        notes: sentences for the caller about what was asked for and is done otherwise.
        ended: the trials of dead processes that this one told as failed.
    """

    def __init__(self, study: optuna.Study, space: Space, objectives: tuple[str, ...], grid: Grid | None):
        self.space, self.objectives = space, objectives
        self.study, self._grid = study, grid
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
        setting: Mapping[str, object] | None = None,
    ) -> TrialQueue:
        """Open a search, a new one or one that was begun.

        Args:
            storage: the path of a journal, a file of JSON lines that many processes may share, or the URL of a
                database server (``postgresql://...``). The processes of a new SQLite file get into each other's way.
            name: of the study.
            space: what to look through.
            objectives: what to look for, see :func:`kdops.config.search_space.parse_objectives`.
            sampler: ``tpe``, ``random`` or ``grid``, with options as in ``grid(points=5)``. It may change from one
                opening to the next, but not to or from a grid.
            pruner: ``median``, with options as in ``median(startup=20)``, or ``none``; several objectives are never
                pruned.
            seed: a trial's values follow from the seed, its number and the trials before it, so that a search that
                was stopped goes on as it would have.
            setting: what else must be the same for trials to be compared, plain values by name.

        Raises:
            UsageError: the storage cannot be opened, or the name is taken by another search; for an unknown sampler,
                pruner or objective, and for a grid that is too large.
        """
        kind, options = parse_spec(sampler, "sampler", SAMPLERS)
        if objectives not in OBJECTIVES:
            known = "; ".join(map(",".join, OBJECTIVES))
            raise UsageError("objective", ",".join(objectives), f"must be one of: {known}")
        if not name.strip():
            raise UsageError("study_name", "(empty)", "must name the study")
        notes = []
        if len(objectives) > 1 and pruner != "none":
            notes.append(f"Nothing is pruned, since there are several objectives ({', '.join(objectives)}).")
            pruner = "none"
        ends = pruner_of(pruner)
        grid = Grid(space, options["points"], seed) if kind == "grid" else None
        identity = {
            "format": FORMAT,
            "space": str(space),
            "objectives": ",".join(objectives),
            "grid": str(grid) if grid else "none",
            **(setting or {}),
        }
        with quiet():
            study = open_search(storage, name, objectives, identity)
            study.sampler = sampler_of(kind, options, seed, grid)
            study.pruner = ends
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
        with quiet():
            identity = {"space": str(space), "objectives": ",".join(objectives), **(setting or {})}
            check_search(storage, name, identity)

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
        """Return as failed the running trials of processes that are surely gone; give their numbers.

        Of a process on another host nothing is known: its trials stay as they are.
        """
        ended = []
        for number in sorted(_gone(self._trials())):
            try:
                self.study.tell(number, state=TrialState.FAIL)
            except (ValueError, UpdateFinishedTrialError):
                # Another process ended it at the same moment.
                continue
            ended.append(number)
        self.ended += [self._plain(trial) for trial in self._trials() if trial.number in ended]
        return ended

    def waits_for(self) -> list[int]:
        """Return the numbers of the trials that other processes run, as far as these are not surely gone."""
        trials = self._trials()
        gone, own = _gone(trials), str(ProcessId.own())
        return [
            t.number
            for t in trials
            if t.state == TrialState.RUNNING and t.number not in gone and t.user_attrs.get(PROCESS) != own
        ]

    def open_trials(self) -> list[int]:
        """Return the numbers of the trials that this process asked for and has not told."""
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
                with quiet():
                    trial.report(value, epoch)
            except UpdateFinishedTrialError:
                raise KdopsError(f"trial {number} is finished; nothing more can be reported") from None

    def should_prune(self, number: int) -> bool:
        """Return whether a trial does worse than half of the complete ones did at its last reported epoch.

        Raises:
            KdopsError: this process did not ask for the trial.
        """
        trial = self._own(number)
        return self.prunes and trial.should_prune()

    def tell(self, number: int, values: Sequence[float] | None, state: str, again: bool = True) -> None:
        """Report what became of a trial. Telling the same again changes nothing.

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
            with quiet():
                if not again and number in self._asked:
                    self._asked[number].set_user_attr(HOPELESS, True)
                self.study.tell(number, results, STATES[state])
        except (ValueError, UpdateFinishedTrialError):
            told = next((t for t in self._trials() if t.number == number), None)
            if told is None or told.state == TrialState.WAITING:
                raise KdopsError(f"trial {number}: was never asked for") from None
            if (told.state, self._results(told)) != (STATES[state], results):
                raise KdopsError(f"trial {number}: is told already as {NAMES[told.state]}") from None
        self._asked.pop(number, None)

    def trials(self) -> list[Trial]:
        """Return every trial that was begun, by number."""
        return [
            self._plain(trial)
            for trial in self._trials()
            if trial.state != TrialState.WAITING and WITHDRAWN not in trial.user_attrs
        ]

    def best(self) -> Trial | None:
        """Return the complete trial that is best in the main objective (of equals the first); None if there is none."""
        return next(iter(self.ranked()), None)

    def better(self, value: float, than: Trial | None) -> bool:
        """Return whether a value of the main objective is better than a trial's; anything is better than None."""
        return than is None or self._sign * value < self._sign * than.results[0]

    def finished(self) -> int:
        """Count the complete and the pruned trials."""
        return sum(trial.state in FINISHED for trial in self._trials())

    def ranked(self) -> list[Trial]:
        """Return the complete trials in the order of :meth:`best`, the best first."""
        complete = [trial for trial in self.trials() if trial.state == "complete"]
        return sorted(complete, key=lambda trial: (self._sign * trial.results[0], trial.number))

    def front(self) -> list[Trial]:
        """Return the complete trials that no other one beats in every objective (Pareto's front), by number."""
        return sorted(map(self._plain, self.study.best_trials), key=lambda trial: trial.number)

    def importance(self) -> dict[str, float] | None:
        """Return how much each free setting matters for the main objective, the most first; the parts add up to 1.

        Estimated by PED-ANOVA (Watanabe, Bansal and Hutter, 2023). None with fewer than ten complete trials, where
        nothing is free, or where all did equally well.
        """
        results = [trial.results[0] for trial in self.trials() if trial.state == "complete"]
        if len(results) < FEWEST_FOR_IMPORTANCE or len(set(results)) < 2 or not self.space.free:
            return None
        with quiet():
            return dict(optuna.importance.get_param_importances(self.study, **self.importance_options(len(results))))

    def _begin(self, total: int) -> Trial | None:
        """Begin one trial; None where it turns out to be one too many, and is withdrawn."""
        with quiet():
            trial = self.study.ask()
            trial.set_user_attr(PROCESS, str(ProcessId.own()))
            reason = self._one_too_many(trial.number, total)
            if reason:
                trial.set_user_attr(WITHDRAWN, reason)
                self.study.tell(trial.number, state=TrialState.FAIL)
                return None
            for dimension in self.space.free:
                choose(trial, dimension)
        self._asked[trial.number] = trial
        return self._plain(trial)

    def _enqueue_failed(self) -> None:
        """Let the values of failed trials be asked for next.

        Two processes may do so for one trial at once; of the two that come of it the second one is withdrawn.
        """
        for number, attempt, values in self._to_try_again(self._trials()):
            with quiet():
                self.study.enqueue_trial(values, {AGAIN: {"of": number, "attempt": attempt, "values": values}})

    def _one_too_many(self, number: int, total: int) -> str | None:
        """Return why a trial that was just begun must not be run; None if it may.

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
        """Return the number of each failed trial that is to be tried again, which attempt that will be, its values."""
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
        """Return the free values of a trial; None where it ended before all were chosen."""
        if AGAIN in trial.user_attrs:
            return trial.user_attrs[AGAIN]["values"]
        if self._grid:
            return self._grid.at(place_of(trial.number, trials))
        names = [dimension.name for dimension in self.space.free]
        return {name: trial.params[name] for name in names} if set(names) <= set(trial.params) else None

    def _own(self, number: int) -> optuna.Trial:
        if number not in self._asked:
            raise KdopsError(f"trial {number} is not one that this process asked for and has not told yet")
        return self._asked[number]

    def _trials(self) -> list[FrozenTrial]:
        return self.study.get_trials(deepcopy=False)

    def _plain(self, trial: FrozenTrial | optuna.Trial) -> Trial:
        """Return a trial without Optuna's types."""
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

    def importance_options(self, complete: int) -> dict[str, object]:
        """Return Optuna's options for the importance: what sets the best trials apart from the others.

        The best are a tenth of the trials but at least five, fewer would say nothing. A target counts as better the
        lower it is, whatever the study's direction.
        """
        evaluator = optuna.importance.PedAnovaImportanceEvaluator(target_quantile=max(0.1, 5 / complete))
        return {"evaluator": evaluator, "target": lambda trial: self._sign * trial.values[0]}


def _counted(trials: Sequence[FrozenTrial]) -> set[int]:
    """Return the numbers of the trials that are finished, or running and to be finished by their processes."""
    gone = _gone(trials)
    return {
        t.number
        for t in trials
        if WITHDRAWN not in t.user_attrs
        and (t.state in FINISHED or (t.state == TrialState.RUNNING and t.number not in gone))
    }


def _gone(trials: Sequence[FrozenTrial]) -> set[int]:
    """Return the numbers of the running trials whose processes are surely gone."""
    running = [(t, t.user_attrs.get(PROCESS, "")) for t in trials if t.state == TrialState.RUNNING]
    own = ProcessId.own()
    dead = {name for name in {name for _, name in running} if name != str(own) and own.is_dead(name)}
    latest = datetime.now() - timedelta(seconds=NAMELESS_SECONDS)
    return {t.number for t, name in running if name in dead or (not name and t.datetime_start < latest)}
