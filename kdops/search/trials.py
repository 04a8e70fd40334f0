"""Trains the trials of a search: asks for a batch, trains it stacked, tracks and ends each trial as it finishes."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from kdops.config.augmentation import LIVE, NONE
from kdops.config.criterion import SCORES, Criterion
from kdops.config.engines import LOCAL
from kdops.config.recipe_settings import SETTINGS
from kdops.config.roles import streams_of
from kdops.config.samplers_and_pruners import NLL_OBJECTIVE
from kdops.config.search import SearchSettings
from kdops.config.search_space import Value
from kdops.distillation.method import Shapes, build_method
from kdops.distillation.sources import Asked, Kept, KeptViews
from kdops.errors import KdopsError
from kdops.search.queue import TrialQueue
from kdops.search.trial import Trial
from kdops.search.trial_orders import train_on_workers
from kdops.study.checks import shapes_of
from kdops.study.study import Study
from kdops.study.training import TrainingExecutor
from kdops.sweeps.metrics import TRAIN_LOSS, TRAIN_SECONDS, VAL_ACCURACY, VAL_NLL
from kdops.sweeps.model import Model
from kdops.sweeps.params import FLOPS, PARAMETERS
from kdops.sweeps.unit import Task, Unit, units_of
from kdops.tracking.datasets import Trainset
from kdops.tracking.trial_run import TrialRuns
from kdops.training.groups import PassInputs
from kdops.training.history import DIVERGED, Trained
from kdops.training.stored_networks import Networks
from kdops.training.trials import TrialPlan, train_trials
from kdops.utils.hardware import process_threads, with_threads
from kdops.utils.progress import Progress
from kdops.utils.random import as_global_rng, named_generator

WAIT_SECONDS = 1.0
PATIENCE_SECONDS = 1800.0
"""Seconds that a search waits for trials of other processes that report nothing: one on another host may be gone."""

FEWEST_FAILURES = 10
"""More trials than this, and than were asked for, must fail before a search is given up."""

LOOKS = 10
"""So often a trial is looked at at most, evenly over its epochs."""

METRICS = {NLL_OBJECTIVE: VAL_NLL, **{score: Criterion(by=score).metric for score in SCORES}}
"""The metric of each objective that is measured; the others are counted."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Job:
    """One trial as it is trained and tracked."""

    number: int
    unit: Unit
    plan: TrialPlan


def look_every(epochs: int) -> int:
    """Return every how many epochs a trial is looked at."""
    return math.ceil(epochs / LOOKS)


def settings_of(settings: SearchSettings, values: Mapping[str, Value]) -> SearchSettings:
    """Return the settings that train the values of a trial."""
    role = settings.role
    recipe = settings.recipes[role]
    own = {name: value for name, value in values.items() if name in SETTINGS}
    changed = recipe.replace(architecture=recipe.architecture.varied(values)).with_settings(
        {name: SETTINGS[name].read(value) if isinstance(value, str) else value for name, value in own.items()}
    )
    recipes = {**settings.recipes, role: changed}
    return replace(settings, recipes=recipes, method=settings.space.method_of(values))


def check_methods(settings: SearchSettings, source: Model, networks: Networks) -> None:
    """Refuse a space with a method that cannot learn from the source, or a source that cannot be asked about views.

    Raises:
        UsageError: the source has logits only or lacks a tap, or the method cannot compare its values with the
            student's; or it is no network of kdops, and trials see a view in every epoch.
    """
    space, classes = settings.space, len(networks.data.classes)
    student = settings_of(settings, space.middle()).recipes[settings.role].architecture
    for chosen in space.methods:
        method = build_method(chosen)
        shapes = networks.feature_shapes(source, method) if method.needs.source else {}
        own = shapes_of(student, method.needs.student, settings.role, networks.data)
        with as_global_rng(named_generator("check")):
            method.modules(own, Shapes(classes, shapes))
    recipe = settings.recipes[settings.role]
    if {*space.tried("augment", recipe.augment)} != {NONE} and LIVE in space.tried("views", recipe.views):
        networks.check_live(source)


class Trials:
    """The trials of one search, as this process trains them.

    Args:
        study: whose settings, data and split are used.
        executor: has the networks to distill from, and the engine.
        queue: hands out trials and takes their results.
        runs: where they are tracked.
        source: what they are distilled from.
        trainset: what they are trained on.
    """

    def __init__(
        self,
        study: Study[SearchSettings],
        executor: TrainingExecutor,
        queue: TrialQueue,
        runs: TrialRuns,
        source: Model,
        trainset: Trainset,
    ):
        self.study, self.settings = study, study.settings
        self.shared, self.networks, self.reporter = executor.shared, executor.networks, executor.reporter
        self.queue, self.runs, self.source, self.trainset = queue, runs, source, trainset
        self.seed = study.settings.seed
        self._failed = 0
        self._others: list[int] = []
        self._since = 0.0
        self._best: Trial | None = None
        self._running: dict[int, str] = {}

    def run(self) -> None:
        """Train until the search has as many finished trials as it is to have, and other processes ended theirs.

        Raises:
            KdopsError: as many trials failed as were asked for.
        """
        total = self.settings.trials
        wanted = self.queue.wanted(total)
        with self.reporter.bar(f"search {wanted} trials") as bar:
            while (asked := self.queue.ask(self.settings.batch, total)) or self._waited():
                self._end_orphans()
                if not asked:
                    continue
                self._best = self.queue.best()
                before = wanted - self.queue.wanted(total) - len(asked)
                self._train(
                    [self._job(trial) for trial in asked], partial(self._show_progress, bar, before, len(asked), wanted)
                )
                if self._failed > max(FEWEST_FAILURES, total):
                    name = self.runs.search
                    raise KdopsError(
                        f"{self._failed} trials of {name} failed; narrow the space, its learning_rate first"
                    )

    def _train(self, jobs: Sequence[_Job], progress: Callable[[float], None]) -> None:
        """Train trials in one batch, and record and track each as it ends."""
        try:
            for job in jobs:
                self._running[job.number] = self.runs.begin(job.number, job.unit)
                self.queue.name_run(job.number, self._running[job.number])
            self._train_together(jobs, progress)
        except BaseException:
            self._give_up()
            raise

    def _train_together(self, jobs: Sequence[_Job], progress: Callable[[float], None]) -> None:
        """Train trials together; where that breaks, one by one, so that only the one that breaks fails."""
        try:
            for result in self._results_of(jobs, progress):
                self._end(jobs[result.number], result)
        except (RuntimeError, MemoryError) as error:
            left = [job for job in jobs if job.number in self._running]
            if not left:
                raise
            for job in left:
                if len(jobs) > 1:
                    self._train_together([job], lambda share: None)
                else:
                    self._fail(job, " ".join(str(error).split()) or type(error).__name__)

    def _results_of(self, jobs: Sequence[_Job], progress: Callable[[float], None]) -> Iterator[Trained]:
        """Train trials, judged on validation images alone; yield each as it ends, numbered by its place.

        Whether a trial is pruned depends on what was reported before it, so those of a search that prunes are trained
        here, one pass after another.
        """
        networks, rows = self.networks, self.trainset.rows
        if self.settings.engine != LOCAL and not self.queue.prunes:
            units, plans = [job.unit for job in jobs], [job.plan for job in jobs]
            return train_on_workers(self.shared, units, plans, rows, progress, self.reporter)
        given = networks.images(rows), networks.images(networks.split.validation), len(networks.data.classes)
        results = train_trials(
            [job.plan for job in jobs],
            self.seed,
            self._sources_of(jobs),
            PassInputs(streams_of(self.settings.role), *given, networks.statistics, networks.device),
            after_epoch=partial(self._after_epoch, jobs),
            progress=lambda done, total: progress(done / total),
        )
        return with_threads(process_threads(), results)

    def _sources_of(self, jobs: Sequence[_Job]) -> list[Kept | KeptViews | Asked]:
        """Return the source's outputs for what each trial sees, with the features that its method needs."""
        networks, rows, what = self.networks, self.trainset.rows, self.trainset.what
        kept = networks.kept_at(self.source, rows, what, [job.plan.temperature for job in jobs])
        found: list[Kept | KeptViews | Asked] = []
        for own, job in zip(kept, jobs, strict=True):
            method, taps = job.plan.method, job.plan.method.needs.source
            features = {tap: networks.features_of(self.source, rows, what, tap, method) for tap in taps}
            # Trials that share their source's outputs share a pass.
            if job.plan.recipe.augment == NONE:
                found.append(replace(own, features=features) if taps else own)
            else:
                found.append(networks.seen(self.source, rows, job.plan.recipe, self.seed, job.plan.temperature))
        return found

    def _give_up(self) -> None:
        """Report the trials of this process as failed, so that whoever goes on with the search tries them again."""
        try:
            mine = self.queue.open_trials()
            for number in mine:
                self.queue.tell(number, None, "failed")
            states = {trial.number: trial.state for trial in self.queue.trials()}
            for number, run in self._running.items():
                self.runs.end(run, "interrupted" if number in mine else states[number])
        except Exception as error:
            # What broke the search must stay the error that is reported; the next start ends what is left.
            logger.warning("the trials %s could not be ended: %s", list(self._running), error)

    def _end_orphans(self) -> None:
        """End the runs of trials whose processes are gone; the queue has marked them as failed."""
        while self.queue.ended:
            trial = self.queue.ended.pop()
            if trial.run:
                self.runs.end(trial.run, "interrupted")

    def _after_epoch(
        self, jobs: Sequence[_Job], epochs: Mapping[int, Mapping[str, float]], epoch: int
    ) -> Collection[int]:
        """Report the trials' values after an epoch, and return those that are not worth going on with."""
        # Ten reports are enough to see which trials fall behind; each one is written to the storage.
        if not self.queue.prunes or epoch % look_every(jobs[0].plan.recipe.epochs):
            return ()
        metric = METRICS[self.settings.objectives[0]]
        for index, measured in epochs.items():
            self.queue.report(jobs[index].number, epoch, measured[metric])
        return [index for index in epochs if self.queue.should_prune(jobs[index].number)]

    def _end(self, job: _Job, result: Trained) -> None:
        """Track a trial that has ended, and record its result."""
        state = "failed" if result.ended == DIVERGED else result.ended
        measured = result.history
        whole = sum(all(map(math.isfinite, epoch)) for epoch in zip(*measured.values(), strict=True))
        # Each epoch what a model's run has too, and what the search looks at; the rest at the end.
        names = {TRAIN_LOSS, VAL_ACCURACY, METRICS[self.settings.objectives[0]]}
        history = {name: measured[name][:whole] for name in sorted(names)}
        last = {VAL_NLL: measured[VAL_NLL][whole - 1]} if whole and VAL_NLL not in names else {}
        self.runs.log(self._running[job.number], history, {**last, TRAIN_SECONDS: result.seconds}, result.seconds)
        if state == "failed":
            self._fail(job, f"the loss was no finite number after epoch {len(result.train_loss)}")
            return
        values = self._results(job.unit, result) if state == "complete" else None
        # Told before the run ends: killed in between it leaves a run to be ended, and no trial that counts twice.
        self.queue.tell(job.number, values, state)
        self.runs.end(self._running.pop(job.number), state)
        if values is not None and self.queue.better(values[0], self._best):
            self._best = Trial(job.number, {}, state, tuple(values))

    def _fail(self, job: _Job, error: str) -> None:
        """Mark a trial as failed whose values are at fault, so that they are not tried again."""
        self.queue.tell(job.number, None, "failed", again=False)
        self.runs.end(self._running.pop(job.number), "failed", error)
        self._failed += 1

    def _results(self, unit: Unit, result: Trained) -> list[float]:
        """Return the value of each objective."""
        measured = {name: result.history[metric][-1] for name, metric in METRICS.items()}
        counted = {name: float(unit.record.params[name]) for name in (PARAMETERS, FLOPS)}
        return [{**measured, **counted}[name] for name in self.settings.objectives]

    def _job(self, trial: Trial) -> _Job:
        """Return a trial as the network that a study would train for it alone."""
        context = replace(self.study.context, settings=settings_of(self.settings, trial.values))
        role, temperature = self.settings.role, float(trial.values["temperature"])
        images, method = self.trainset, context.settings.method
        task = Task(role, images.what, self.study.settings.order, method=method, chosen=images.chosen)
        (unit,) = units_of(task, {self.seed: self.source}, [temperature], False, context)
        plan = TrialPlan(context.settings.recipes[role], temperature, build_method(context.settings.method))
        return _Job(trial.number, unit, plan)

    def _waited(self) -> bool:
        """Wait a moment for the trials of other processes; return whether there is still something to wait for."""
        others = self.queue.waits_for()
        if not others or self.queue.finished() >= self.settings.trials:
            return False
        if others != self._others:
            self._others, self._since = others, time.monotonic()
            self.reporter.write(f"waiting for the trials {', '.join(map(str, others))} of other processes")
        if time.monotonic() - self._since > PATIENCE_SECONDS:
            self.reporter.write("nothing was heard of them for long; going on without them")
            return False
        time.sleep(WAIT_SECONDS)
        return True

    def _show_progress(self, bar: Progress, before: int, count: int, wanted: int, share: float) -> None:
        """Move the bar: ``before`` trials are done, and a share of ``count`` more."""
        best, what = self._best, self.settings.objectives[0]
        note = "" if best is None else f"best {what} so far {best.results[0]:.4f} (trial {best.number})"
        bar(before + share * count, wanted, note)
