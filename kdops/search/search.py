"""Runs a search: asks for trials, trains them together, tracks them, and trains the best again with fresh seeds."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from kdops.config.architectures import MLP
from kdops.config.criterion import Criterion
from kdops.config.methods import LOGITS
from kdops.config.recipes import LATER
from kdops.config.samplers_and_pruners import NLL_OBJECTIVE
from kdops.config.search import STORAGE, SearchSettings
from kdops.config.search_space import METHOD, Value
from kdops.data.dataset import Dataset
from kdops.data.splits import Split, make_split
from kdops.errors import DivergenceError, KdopsError
from kdops.search.figures import history_figure, importance_figure, pareto_figure, slice_figure
from kdops.search.importance import importance_of
from kdops.search.queue import TrialQueue
from kdops.search.trial import Trial
from kdops.search.trials import METRICS, Trials, check_methods, settings_of
from kdops.store.database import store_path
from kdops.store.locks import locked
from kdops.study.study import Study
from kdops.study.training import TrainingExecutor
from kdops.sweeps.model import Model, Sweep
from kdops.sweeps.ranking import rank_key
from kdops.tracking.trial_run import TrialRuns
from kdops.utils.secrets import redact_password
from kdops.verdicts.intervals import mean_interval

JOURNAL = "kdops-search.journal"


def check(settings: SearchSettings, data: Dataset) -> None:
    """Refuse a storage that cannot be used, or a name that another search has, before a run exists.

    Raises:
        UsageError: the search cannot be made; the message has the reason.
    """
    split = make_split(data, settings.transfer, settings.split_seed)
    storage, known = storage_of(settings), _setting(settings, data, split)
    # The folder of our own journal is made once it is needed.
    if _given_storage(settings) or Path(storage).parent.is_dir():
        TrialQueue.check(storage, settings.study_name, settings.space, settings.objectives, known, settings.fresh)


def fresh_seeds(settings: SearchSettings) -> tuple[int, ...]:
    """Return the seeds that the best is trained again with: none of them was any trial's."""
    return tuple(seed + 1 for seed in settings.replicates())


def storage_of(settings: SearchSettings) -> str:
    """Return where the trials are kept: where the caller chose, else in a journal that belongs to the store."""
    if given := _given_storage(settings):
        return given
    return str(store_path(JOURNAL))


def name_of(study: Study[SearchSettings], source: Model) -> str:
    """Name a search by what it is, so that the same command goes on with it, and a fresh one does not."""
    settings = study.settings
    if settings.study_name:
        return settings.study_name
    # Only of a grid it matters which one it is: other samplers may go on with each other's trials.
    grid = settings.sampler if settings.sampler.startswith("grid(") else settings.sampler == "grid"
    setting = {**_setting(settings, study.data, study.split), "source": source.weights[:16]}
    digest = _digest(*setting.items(), str(settings.space), settings.objectives, grid)
    name = f"{settings.dataset}-{settings.role}-{'-'.join(settings.objectives)}-{digest[:10]}"
    return f"{name}-{datetime.now():%Y%m%d-%H%M%S}" if settings.fresh else name


def retrained(study: Study[SearchSettings], sources: Sweep, values: Mapping[str, Value]) -> Sweep:
    """Train the values of a trial with every fresh seed."""
    varied, temperature = study.with_settings(settings_of(study.settings, values)), float(values["temperature"])
    return varied.distill(sources, varied.settings.role, [temperature], seeds=fresh_seeds(study.settings))


def plain_sweep(study: Study[SearchSettings], sources: Sweep) -> Sweep:
    """Train a plain sweep over T with the seed of the trials, and its best again with every fresh seed."""
    settings, role = study.settings, study.settings.role
    sweep = study.distill(sources, role, settings.sweeps[role], seeds=[settings.seed])

    def badness(models: Sweep) -> tuple[float, ...]:
        (model,) = models.records
        main = settings.objectives[0]
        return (model.val_nll,) if main == NLL_OBJECTIVE else rank_key(model, Criterion(by=main))

    _, best = study.retrain(
        [(temperature, sweep.at([temperature])) for temperature in sweep.temperatures],
        badness,
        lambda temperature: study.distill(sources, role, [temperature], seeds=fresh_seeds(settings)),
    )
    return best


class Search:
    """One search of a study.

    Args:
        study: whose data and models are used.
        executor: trains the trials, and has the runs.
        sources: the one model to distill from.

    Attributes:
        name: its name in the storage.
        storage: where the trials are kept.
        remarks: sentences about the result, for the report.
    """

    def __init__(self, study: Study[SearchSettings], executor: TrainingExecutor, sources: Sweep):
        self.study, self.executor, self.sources, self.settings = study, executor, sources, study.settings
        (self.source,) = sources.records
        check_methods(study.settings, self.source, executor.networks)
        self.seed = study.settings.seed
        self.trainset = study.transfer_images(sources.hops)
        self.remarks: list[str] = []
        setting = _setting(study.settings, study.data, study.split)
        setting["source"] = self.source.weights[:16]
        self.storage = storage_of(study.settings)
        self.name = name_of(study, self.source)
        self.queue = self._open(setting)
        if self.queue.finished():
            executor.reporter.write(f"{self.name} goes on: {self.queue.finished()} trials are finished")

    def run(self) -> None:
        """Train trials until there are as many as asked for, those of other processes and earlier starts included.

        Raises:
            KdopsError: as many trials failed as were asked for, or none was completed.
        """
        runs = TrialRuns(self.executor.tracker, self.name, self.trainset, self.source)
        Trials(self.study, self.executor, self.queue, runs, self.source, self.trainset).run()
        if self.queue.best() is None:
            raise KdopsError(f"none of the trials of {self.name} was completed; widen the space or ask for more trials")

    def found(self) -> list[tuple[Trial, Sweep]]:
        """Train what was found again, with every fresh seed, as registered models.

        That is the best trial, or each one on the Pareto front of several objectives. One whose loss stops being
        finite with a fresh seed is passed over; of a single objective the next best takes its place.

        Raises:
            KdopsError: none is left.
        """
        single = len(self.settings.objectives) == 1
        found = []
        for trial in self.queue.ranked() if single else self.queue.front():
            try:
                found.append((trial, retrained(self.study, self.sources, trial.values)))
            except DivergenceError as error:
                self.remarks.append(f"Trial {trial.number} is passed over: {error}.")
            if found and single:
                break
        if not found:
            raise KdopsError(f"no trial of {self.name} could be trained again: {' '.join(self.remarks)}")
        return found

    def plain(self) -> Sweep:
        """Return the best of a plain sweep over T, chosen like the trials and trained with the fresh seeds."""
        return plain_sweep(self.study, self.sources)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Let the processes of one search, on one machine, take turns: what one has trained the next one finds."""
        with locked(f"search-{_digest(self.storage, self.name)}"):
            yield

    def table(self) -> pd.DataFrame:
        """Return one row a trial: number, state, what was tried and what came of it."""
        return pd.DataFrame(
            [
                {
                    "number": trial.number,
                    "state": trial.state,
                    **{d.name: trial.values.get(d.name) for d in self.settings.space.dimensions},
                    **dict(zip(self.settings.objectives, trial.results or (), strict=False)),
                    "again": trial.again,
                    "run_id": trial.run,
                }
                for trial in self.queue.trials()
            ]
        ).convert_dtypes()

    def metric(self) -> str:
        """Return the metric that the main objective is measured by."""
        return METRICS[self.settings.objectives[0]]

    def difference(self, metric: str, found: Sweep, plain: Sweep) -> str:
        """Return how a metric of what was found differs from the sweep's, paired by seed, with its interval."""
        gap = mean_interval(found.table(metric).mean(axis=1) - plain.table(metric).mean(axis=1))
        interval = f" (95 % interval {gap.low:+.4f} to {gap.high:+.4f})" if gap.n > 1 else ""
        return f"{metric}, the best found less the best of the sweep: {gap.mean:+.4f}{interval}, n = {gap.n} seeds."

    def describe_again(self, trial: Trial, models: Sweep) -> str:
        """Return what a trial had on validation, and what the same settings have with fresh seeds."""
        values = ", ".join(f"{name}={_written(value)}" for name, value in trial.values.items())
        measured = zip(self.settings.objectives, trial.results or (), strict=True)
        results = ", ".join(f"{name} {value:.6g}" for name, value in measured)
        again = models.table(self.metric()).mean()
        return f"Trial {trial.number} ({values}) had {results}; with fresh seeds its {self.metric()} is {again:.4f}."

    def counts(self) -> dict[str, int]:
        """Count the trials by their state."""
        states = [trial.state for trial in self.queue.trials()]
        return {state: states.count(state) for state in ("complete", "pruned", "failed", "running")}

    def sentences(self) -> list[str]:
        """Return how many trials there were, what became of them, what mattered, and where they are kept."""
        counts = ", ".join(f"{count} {state}" for state, count in self.counts().items() if count)
        importance = importance_of(self.queue)
        matter = ", ".join(f"{name} {100 * share:.0f} %" for name, share in importance.items())
        return [
            f"Trials of {self.name}: {counts}; all with seed {self.seed}, kept in {redact_password(self.storage)}.",
            *([f"What mattered for {self.settings.objectives[0]}: {matter}."] if matter else []),
            *self.queue.notes,
            *self.remarks,
        ]

    def measured(self) -> dict[str, float]:
        """Return the trials' counts, the best value of the main objective, and what mattered, by name."""
        counts = {f"trials_{state}": float(count) for state, count in self.counts().items()}
        importance = {f"importance_{name}": share for name, share in importance_of(self.queue).items()}
        return {**counts, f"best_{self.settings.objectives[0]}": self.queue.ranked()[0].results[0], **importance}

    def figures(self) -> dict[str, Figure]:
        """Draw the history, what matters, each setting and the front, as far as there is something to draw."""
        drawn = {
            "search-history.png": history_figure(self.queue),
            "search-importance.png": importance_figure(self.queue),
            "search-slice.png": slice_figure(self.queue),
            "search-pareto.png": pareto_figure(self.queue),
        }
        return {name: figure for name, figure in drawn.items() if figure is not None}

    def _open(self, setting: Mapping[str, object]) -> TrialQueue:
        if not _given_storage(self.study.settings):
            Path(self.storage).parent.mkdir(parents=True, exist_ok=True)
        return TrialQueue.open(
            storage=self.storage,
            name=self.name,
            space=self.settings.space,
            objectives=self.settings.objectives,
            sampler=self.settings.sampler,
            pruner=self.settings.pruner,
            seed=self.seed,
            setting=setting,
        )


def _given_storage(settings: SearchSettings) -> str:
    """Return the storage that the caller names; empty for none."""
    return settings.storage or os.environ.get(STORAGE, "")


def _setting(settings: SearchSettings, data: Dataset, split: Split) -> dict[str, object]:
    """Return what must be the same for trials to be compared, beside space, objectives and source."""
    role, recipe = settings.role, settings.recipes[settings.role]
    network = recipe.architecture
    methods = [method.full_text for method in settings.space.methods]
    return {
        "data": data.digest[:16],
        "split": split.digest[:16],
        "role": role,
        "seed": settings.seed,
        "epochs": recipe.epochs,
        "weight_decay": recipe.weight_decay,
        **{name: value for name, value in recipe.as_dict().items() if name in LATER},
        # Searches of earlier versions have none.
        **({METHOD: ",".join(methods)} if [m.name for m in settings.space.methods] != [LOGITS.name] else {}),
        # With brackets and comma, as the searches of earlier versions have it.
        "dropout": f"({network.dropout},)" if isinstance(network, MLP) else str(network),
    }


def _digest(*words: object) -> str:
    return hashlib.sha256(repr(words).encode()).hexdigest()[:32]


def _written(value: Value) -> str:
    """Write a value as the space does, reals in four digits."""
    if isinstance(value, str):
        return value
    return f"{value:.4g}" if isinstance(value, float) else str(value).lower()
