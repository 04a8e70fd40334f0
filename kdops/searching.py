"""Runs a search: asks for trials, trains them together, tracks them, and trains the best again with fresh seeds."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import mlflow
import pandas as pd
from filelock import FileLock

from kdops.cache import user_cache_folder
from kdops.config import Settings
from kdops.data import Data
from kdops.errors import KdopsError
from kdops.records import Sweep
from kdops.search import Ledger, Trial, shown
from kdops.source import check_source
from kdops.store import sqlite_file
from kdops.study import Study
from kdops.trial_runs import TrialRuns
from kdops.trials import Trials, settings_of

__all__ = ["JOURNAL", "Search", "check", "fresh_seeds", "storage_of"]

JOURNAL = "kdops-search.journal"


def check(settings: Settings, data: Data) -> None:
    """Refuse a source or a storage that cannot be used, or a name that another search has, before a run exists.

    Raises:
        UsageError: says what is wrong.
    """
    search = settings.search
    settings_of(settings, search.space.middle())
    if search.source:
        check_source(search.source, data)
    Ledger.check(storage_of(settings), search.study_name, search.space, search.objectives)


def fresh_seeds(settings: Settings) -> tuple[int, ...]:
    """Give the seeds that the best is trained again with: none of them was any trial's."""
    return tuple(seed + 1 for seed in settings.replicates())


def storage_of(settings: Settings) -> str:
    """Give where the trials are kept: as the settings say, else in a journal beside a local store.

    Beside a server's store nothing can be kept, so the journal lies in the user's cache folder then.
    """
    if settings.search.storage:
        return settings.search.storage
    uri = mlflow.get_tracking_uri()
    database = sqlite_file(uri)
    if database is not None:
        return str(database.absolute().parent / JOURNAL)
    folder = user_cache_folder() / "searches"
    folder.mkdir(parents=True, exist_ok=True)
    return str(folder / f"{_digest(uri)}.journal")


class Search:
    """One search of a study.

    Args:
        study: whose data, runs and models are used.
        sources: the one model to distil from.

    Attributes:
        ledger: its trials; None in a dry run.
        name: its name in the storage.
        storage: where the trials are kept.
    """

    def __init__(self, study: Study, sources: Sweep):
        self.study, self.sources, self.settings = study, sources, study.settings.search
        (self.source,) = sources.records
        self.seed = study.settings.seed
        self.trainset = study.transfer_images(sources.hops)
        setting = self._setting()
        self.storage = storage_of(study.settings)
        self.name = self.settings.study_name or self._own_name(setting)
        self.ledger = None if study.settings.dry_run else self._open(setting)

    def run(self) -> None:
        """Train trials until there are as many as asked for, those of other processes and earlier starts included.

        Raises:
            KdopsError: as many trials failed as were asked for, or none was completed.
        """
        if self.ledger is None:
            changes = settings_of(self.study.settings, self.settings.space.middle())
            recipe = changes["recipes"][self.settings.role]
            self.study.plan.add_trials(self.settings.role, recipe, len(self.trainset.rows), self.settings.trials)
            return
        runs = TrialRuns(self.study.tracker, self.name, self.trainset, self.source)
        Trials(self.study, self.ledger, runs, self.source, self.trainset).run()
        if self.ledger.best() is None:
            raise KdopsError(f"none of the trials of {self.name} was completed; widen the space or ask for more trials")

    def chosen(self) -> list[Trial]:
        """Give the trials worth training again: the best one, or the Pareto front of several objectives.

        A dry run has none, and gives one from the middle of the space.
        """
        if self.ledger is None:
            return [Trial(0, self.settings.space.middle())]
        return [self.ledger.best()] if len(self.settings.objectives) == 1 else self.ledger.front()

    def retrained(self, trial: Trial) -> Sweep:
        """Train a trial again with every fresh seed, as registered models."""
        varied = self.study.varied(**settings_of(self.study.settings, trial.values))
        seeds = fresh_seeds(self.study.settings)
        return varied.distill(self.sources, self.settings.role, [trial.values["temperature"]], seeds=seeds)

    def plain(self) -> Sweep:
        """Give the best of a plain sweep over temperatures, chosen as the trials are, trained with the fresh seeds."""
        role = self.settings.role
        sweep = self.study.distill(self.sources, role, self.study.settings.sweeps[role], seeds=[self.seed])
        (best,) = self.study.best(sweep).records
        return self.study.distill(self.sources, role, [best.temperature], seeds=fresh_seeds(self.study.settings))

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Let the processes of one search, on one machine, take turns: what one has trained the next one finds."""
        with FileLock(Path(tempfile.gettempdir()) / f"kdops-{_digest(self.storage, self.name)}.lock"):
            self.study.look()
            yield

    def table(self) -> pd.DataFrame:
        """Give one row a trial: number, state, what was tried and what came of it."""
        return pd.DataFrame(
            [
                {
                    "number": trial.number,
                    "state": trial.state,
                    **trial.values,
                    **dict(zip(self.settings.objectives, trial.results or (), strict=False)),
                    "again": trial.again,
                    "run_id": trial.run,
                }
                for trial in self.ledger.trials()
            ]
        ).convert_dtypes()

    def counts(self) -> dict[str, int]:
        """Count the trials by their state."""
        states = [trial.state for trial in self.ledger.trials()]
        return {state: states.count(state) for state in ("complete", "pruned", "failed", "running")}

    def sentences(self) -> list[str]:
        """Say how many trials there were, what became of them, what mattered, and where they are kept."""
        counts = ", ".join(f"{count} {state}" for state, count in self.counts().items() if count)
        importance = self.ledger.importance()
        matter = ", ".join(f"{name} {100 * share:.0f} %" for name, share in (importance or {}).items())
        return [
            f"Trials of {self.name}: {counts}; all with seed {self.seed}, kept in {shown(self.storage)}.",
            *([f"What mattered for {self.settings.objectives[0]}: {matter}."] if matter else []),
            *self.ledger.notes,
        ]

    def measured(self) -> dict[str, float]:
        """Give the trials' counts, the best value of the main objective, and what mattered, by name."""
        counts = {f"trials_{state}": float(count) for state, count in self.counts().items()}
        importance = {f"importance_{name}": share for name, share in (self.ledger.importance() or {}).items()}
        return {**counts, f"best_{self.settings.objectives[0]}": self.ledger.best().results[0], **importance}

    def figures(self) -> dict[str, object]:
        """Draw the history, what matters, each setting and the front, as far as there is something to draw."""
        drawn = {
            "search-history.png": self.ledger.history_figure(),
            "search-importance.png": self.ledger.importance_figure(),
            "search-slice.png": self.ledger.slice_figure(),
            "search-pareto.png": self.ledger.pareto_figure(),
        }
        return {name: figure for name, figure in drawn.items() if figure is not None}

    def _open(self, setting: Mapping[str, object]) -> Ledger:
        return Ledger.open(
            storage=self.storage,
            name=self.name,
            space=self.settings.space,
            objectives=self.settings.objectives,
            sampler=self.settings.sampler,
            pruner=self.settings.pruner,
            seed=self.seed,
            setting=setting,
        )

    def _setting(self) -> dict[str, object]:
        """Give what must be the same for trials to be compared, beside space and objectives."""
        settings, context, role = self.study.settings, self.study.context, self.settings.role
        recipe = settings.recipes[role]
        return {
            "data": context.data.digest[:16],
            "split": context.split.digest[:16],
            "source": self.source.weights[:16],
            "role": role,
            "seed": self.seed,
            "epochs": recipe.epochs,
            "weight_decay": recipe.weight_decay,
            "dropout": str(recipe.architecture["dropout"]),
        }

    def _own_name(self, setting: Mapping[str, object]) -> str:
        """Name a search by what it is, so that the same command goes on with it."""
        search = self.settings
        told = _digest(*setting.items(), str(search.space), search.objectives, search.sampler == "grid")
        return f"{self.study.settings.dataset}-{search.role}-{'-'.join(search.objectives)}-{told[:10]}"


def _digest(*words: object) -> str:
    return hashlib.sha256(repr(words).encode()).hexdigest()[:32]
