"""The queue of a search: which trials were asked for, by which process, and what came of them. Optuna keeps it.

Several processes may ask and tell at once, die, and be started again. As with Optuna itself at least as many trials are
finished as are wanted: processes that ask at the same moment may each ask for the last one. A failed trial's values are
tried once more, those of a process that died too.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState

from kdops.config.methods import LOGITS
from kdops.config.samplers_and_pruners import OBJECTIVES, SAMPLERS
from kdops.config.search import SearchSettings
from kdops.config.search_space import METHOD, Space, Value
from kdops.config.specs import parse_spec
from kdops.errors import UsageError
from kdops.search.dead_processes import of_dead_processes
from kdops.search.samplers_and_pruners import Grid, choose, place_of, pruner_of, sampler_of
from kdops.search.storage import directions_of, find_search, open_search, quiet
from kdops.search.trial import FINISHED, STATES, Trial, read_trial
from kdops.sweeps import schema
from kdops.utils.process import ProcessId

FORMAT = 1
"""Raised when what a queue notes in a study changes its meaning."""

ATTEMPTS = 2


class TrialQueue:
    """The trials of one search; make it with :meth:`open`.

    Attributes:
        space: what the search looks through.
        objectives: what it looks for, a key of :data:`kdops.config.samplers_and_pruners.OBJECTIVES`; the first one is
            the main one.
        prunes: whether :meth:`should_prune` may ever return true.
        notes: sentences for the caller about what was asked for and is done otherwise.
        ended: the trials of dead processes that this one marked as failed.
    """

    def __init__(self, study: optuna.Study, space: Space, objectives: tuple[str, ...], grid: Grid | None):
        self.space, self.objectives = space, objectives
        self.study, self._grid = study, grid
        self._asked: dict[int, optuna.Trial] = {}
        self._nameless: dict[int, float] = {}
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
            objectives: what to look for, see :func:`kdops.config.samplers_and_pruners.parse_objectives`.
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
        notes: tuple[str, ...] = ()
        if len(objectives) > 1 and pruner != "none":
            notes = (f"Nothing is pruned, since there are several objectives ({', '.join(objectives)}).",)
            pruner = "none"
        ends = pruner_of(pruner)
        grid = Grid(space, options["points"], seed) if kind == "grid" else None
        identity = {"format": FORMAT, **_identity(space, objectives, setting), "grid": str(grid) if grid else "none"}
        with quiet():
            study = open_search(storage, name, objectives, identity)
            study.sampler = sampler_of(kind, options, seed, grid)
            study.pruner = ends
        queue = cls(study, space, objectives, grid)
        queue.notes = notes
        return queue

    @staticmethod
    def check(
        storage: str,
        name: str,
        space: Space,
        objectives: tuple[str, ...],
        setting: Mapping[str, object] | None = None,
        is_new: bool = False,
    ) -> None:
        """Refuse a storage that cannot be opened, and a name that another search has; nothing is written.

        Args:
            storage: as for :meth:`open`.
            name: of the study; empty where it is not named yet.
            space: what to look through.
            objectives: what to look for.
            setting: what else must be the same, as far as it is known yet.
            is_new: whether a search that has trials must not be gone on with.

        Raises:
            UsageError: the storage or the name cannot be used; the message has the reason.
        """
        with quiet():
            study = find_search(storage, name, _identity(space, objectives, setting))
            if is_new and study is not None and study.trials:
                problem = f"has {len(study.trials)} trials, and fresh begins another"
                advice = "choose another name, or leave out fresh to go on with it"
                raise UsageError("study_name", name, f"{problem}: {advice}")

    @classmethod
    def as_it_is(cls, storage: str, name: str, settings: SearchSettings) -> TrialQueue:
        """Return a search as far as it was begun, to be read; nothing is written.

        Args:
            storage: as for :meth:`open`.
            name: of the study.
            settings: what is searched for.
        """
        kind, options = parse_spec(settings.sampler, "sampler", SAMPLERS)
        grid = Grid(settings.space, options["points"], settings.seed) if kind == "grid" else None
        with quiet():
            study = find_search(storage, name, {})
            if study is None:
                study = optuna.create_study(directions=directions_of(settings.objectives))
        return cls(study, settings.space, settings.objectives, grid)

    def wanted(self, total: int) -> int:
        """Return how many trials are still to be asked for, so that at least ``total`` are finished in the end.

        Complete and pruned trials are finished; running ones of processes that are not surely gone count as if they
        were. A grid has no more than its crossings, and of those that failed twice none.
        """
        trials = self._trials()
        gone = of_dead_processes(trials, self._nameless)
        alive = [t for t in trials if t.state == TrialState.RUNNING and t.number not in gone]
        missing = max(total - len(alive) - sum(t.state in FINISHED for t in trials), 0)
        if self._grid:
            waiting = sum(t.state == TrialState.WAITING for t in trials)
            fresh = sum(schema.TRIAL_AGAIN not in t.user_attrs for t in trials)
            missing = min(missing, max(self._grid.size - fresh, 0) + waiting + len(self._to_try_again(trials)))
        return missing

    def ask(self, count: int, total: int) -> list[Trial]:
        """Ask for trials to run now: the values of failed ones first, those of dead processes too, then new ones.

        Args:
            count: the most trials to ask for.
            total: how many finished trials the search shall have at least.

        Returns:
            The trials; this process must call :meth:`tell` for each.
        """
        self.end_stale()
        with quiet():
            for number, attempt, values in self._to_try_again(self._trials()):
                self.study.enqueue_trial(
                    dict(values), {schema.TRIAL_AGAIN: {"of": number, "attempt": attempt, "values": values}}
                )
            return [self._begin() for _ in range(min(count, self.wanted(total)))]

    def end_stale(self) -> list[int]:
        """Mark as failed the running trials of processes that are surely gone, and return their numbers.

        Liveness of processes on other hosts is unknown, so their trials are left alone.
        """
        ended = []
        for number in sorted(of_dead_processes(self._trials(), self._nameless)):
            # Another process may have ended it at the same moment.
            with suppress(ValueError, UpdateFinishedTrialError):
                self.study.tell(number, state=TrialState.FAIL)
                ended.append(number)
        self.ended += [self._plain(trial) for trial in self._trials() if trial.number in ended]
        return ended

    def waits_for(self) -> list[int]:
        """Return the numbers of the trials that other processes run, as far as these are not surely gone."""
        trials = self._trials()
        gone, own = of_dead_processes(trials, self._nameless), str(ProcessId.own())
        running = [t for t in trials if t.state == TrialState.RUNNING and t.number not in gone]
        return [t.number for t in running if t.user_attrs.get(schema.PROCESS) != own]

    def open_trials(self) -> list[int]:
        """Return the numbers of the trials that this process asked for and has not finished."""
        return sorted(self._asked)

    def name_run(self, number: int, run: str) -> None:
        """Note the tracked run of a trial that this process runs."""
        self._asked[number].set_user_attr(schema.TRIAL_RUN, run)

    def report(self, number: int, epoch: int, value: float) -> None:
        """Note the main objective of a trial that this process runs, after an epoch.

        With several objectives nothing is noted, since nothing is pruned.
        """
        if len(self.objectives) == 1:
            with quiet():
                self._asked[number].report(value, epoch)

    def should_prune(self, number: int) -> bool:
        """Return whether a trial does worse than half of the complete ones did at its last reported epoch."""
        return self.prunes and self._asked[number].should_prune()

    def tell(self, number: int, values: Sequence[float] | None, state: str, again: bool = True) -> None:
        """Report what became of a trial; for a finished one nothing changes.

        Args:
            number: of the trial.
            values: one for each objective, finite, where it is complete; else None.
            state: ``complete``, ``pruned`` or ``failed``.
            again: whether the values of a failed one are worth another try; they are not where they are at fault.

        Raises:
            ValueError: the values do not fit the state, or there is no such trial.
        """
        if values is not None and not all(map(math.isfinite, values)):
            raise ValueError(f"trial {number}: values must be finite, not {list(values)}")
        with quiet():
            if not again and number in self._asked:
                self._asked[number].set_user_attr(schema.TRIAL_HOPELESS, True)
            self.study.tell(number, values, STATES[state], skip_if_finished=True)
        self._asked.pop(number, None)

    def trials(self) -> list[Trial]:
        """Return every trial that was begun, by number."""
        begun = [trial for trial in self._trials() if trial.state != TrialState.WAITING]
        return [self._plain(trial) for trial in begun if schema.TRIAL_WITHDRAWN not in trial.user_attrs]

    def best(self) -> Trial | None:
        """Return the complete trial that is best in the main objective (of equals the first); None if there is none."""
        return next(iter(self.ranked()), None)

    def badness(self, trial: FrozenTrial) -> float:
        """Return the main objective of a complete trial of Optuna's, lower being better whatever the direction."""
        return self._sign * trial.values[0]

    def better(self, value: float, than: Trial | None) -> bool:
        """Return whether a value of the main objective is better than a trial's; anything is better than None."""
        return than is None or self._sign * value < self._sign * than.results[0]

    def finished(self) -> int:
        """Return how many trials are complete or pruned."""
        return sum(trial.state in FINISHED for trial in self._trials())

    def ranked(self) -> list[Trial]:
        """Return the complete trials in the order of :meth:`best`, the best first."""
        complete = [trial for trial in self.trials() if trial.state == "complete"]
        return sorted(complete, key=lambda trial: (self._sign * trial.results[0], trial.number))

    def front(self) -> list[Trial]:
        """Return the complete trials that no other one beats in every objective (Pareto's front), by number."""
        return sorted(map(self._plain, self.study.best_trials), key=lambda trial: trial.number)

    def _begin(self) -> Trial:
        """Begin one trial: of the values that wait, or of new ones."""
        trial = self.study.ask()
        trial.set_user_attr(schema.PROCESS, str(ProcessId.own()))
        for dimension in self.space.free:
            # The method comes first: the options of others are not chosen.
            if dimension in self.space.of(trial.params):
                choose(trial, dimension)
        self._asked[trial.number] = trial
        return self._plain(trial)

    def _to_try_again(self, trials: Sequence[FrozenTrial]) -> list[tuple[int, int, Mapping[str, Value]]]:
        """Return the number of each failed trial that is to be tried again, which attempt that will be, its values."""
        done = {t.user_attrs[schema.TRIAL_AGAIN]["of"] for t in trials if schema.TRIAL_AGAIN in t.user_attrs}
        found = []
        for trial in trials:
            attempt = trial.user_attrs.get(schema.TRIAL_AGAIN, {}).get("attempt", 1) + 1
            lost = trial.number in done or schema.TRIAL_HOPELESS in trial.user_attrs or attempt > ATTEMPTS
            lost = lost or trial.user_attrs.get(schema.TRIAL_WITHDRAWN) == "void"
            if trial.state == TrialState.FAIL and not lost and (values := self._chosen(trial, trials)) is not None:
                found.append((trial.number, attempt, values))
        return found

    def _chosen(self, trial: FrozenTrial, trials: Sequence[FrozenTrial]) -> Mapping[str, Value] | None:
        """Return the free values of a trial; None where it ended before all were chosen."""
        if schema.TRIAL_AGAIN in trial.user_attrs:
            return trial.user_attrs[schema.TRIAL_AGAIN]["values"]
        if self._grid:
            return self._grid.at(place_of(trial.number, trials))
        return trial.params if self.space.whole(trial.params) else None

    def _trials(self) -> list[FrozenTrial]:
        return self.study.get_trials(deepcopy=False)

    def _plain(self, trial: FrozenTrial | optuna.Trial) -> Trial:
        return read_trial(trial, self.space)


def _identity(space: Space, objectives: tuple[str, ...], setting: Mapping[str, object] | None) -> dict[str, object]:
    """Return what identifies a search, plain values by name."""
    return {"space": str(space), "objectives": ",".join(objectives), METHOD: LOGITS.name, **(setting or {})}
