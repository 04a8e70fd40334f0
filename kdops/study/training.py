"""Carries out the verbs of a study by training.

A sweep becomes units. What is there is reused; what is not is trained, the dense networks of a replicate in one pass,
and stored as soon as it is done. PyTorch, and what needs it, is imported where something must be trained, measured or
stored: it takes seconds, and a study that finds all its models there needs none of it, unless they vote.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from kdops.reporting.tables import show_answer
from kdops.store.database import store_address
from kdops.store.faults import explained
from kdops.store.locks import exclusive
from kdops.study.conclusion import Conclusion, log_answer, log_report
from kdops.study.executor import Executor
from kdops.study.failure import describe_failure, failure_note
from kdops.study.mixtures import describe_mixture, equal_shares
from kdops.study.model_index import ModelIndex
from kdops.study.shared import Shared
from kdops.study.summary import about, describe_size, describe_sweep
from kdops.study.sweep_training import SweepTraining
from kdops.sweeps.model import Model
from kdops.sweeps.unit import Context, Unit, digest_of_pass, lock_keys
from kdops.tracking.datasets import Trainset
from kdops.tracking.model_run import Outcome
from kdops.tracking.tracker import Tracker
from kdops.utils.progress import Reporter

if TYPE_CHECKING:
    from torch.nn import Module

    from kdops.training.stored_networks import Networks


class TrainingExecutor(Executor):
    """Trains, stores and registers the models of one study, or of a part of it.

    Args:
        tracker: the runs of the study or of the part.
        shared: what it has in common with the study that it is a part of.
        earlier: the models of the study that it is a part of, as far as there are any.
    """

    def __init__(
        self,
        tracker: Tracker,
        shared: Shared,
        index: ModelIndex,
        reporter: Reporter,
        earlier: Mapping[tuple[str, str], Model] | None = None,
    ):
        super().__init__(index, reporter)
        self.tracker, self.shared = tracker, shared
        self._earlier = earlier or {}
        self._is_concluded = False

    @property
    def networks(self) -> Networks:
        """The networks that models are distilled from, or vote with."""
        return self.shared.networks

    def stop_if_planned(self) -> None:
        """Go on: this study trains."""

    @contextmanager
    def part(self, entry_point: str, title: str) -> Iterator[TrainingExecutor]:
        """Open a run below this one's; a model that an earlier part made counts as reused."""
        tracker = self.tracker.below(entry_point, title)
        part = TrainingExecutor(tracker, self.shared, self.index, self.reporter, self.models)
        with ended(part.fail):
            try:
                yield part
                part.finish()
            finally:
                self.models |= part.models

    def adopt(self, model: Model, network: Module) -> Model:
        """Use a network that was loaded elsewhere as that of a model, and measure it on validation and test images."""
        self.networks.adopt(model, network)
        return replace(model, metrics=self.networks.measure(network))

    def averaged(self, models: Sequence[Model], seed: int) -> Model:
        """Return models of a replicate as one source, measured by its mean probability."""
        from kdops.distillation.sources import Mixture

        shares = equal_shares(len(models))
        return self.adopt(describe_mixture(models, shares, seed), Mixture(list(map(self.networks.of, models)), shares))

    def store(self, outcome: Outcome, write: Callable[..., None]) -> Model:
        """Store a model that was not trained but made from others, unless it is there already."""
        with exclusive([outcome.fingerprint], self.reporter.write):
            model = self.index.of_fingerprint(outcome.fingerprint)
            if model is None:
                self.index.look([outcome])
                model = self.index.of_fingerprint(outcome.fingerprint)
            if model is None:
                model = self.tracker.commit(outcome, write)
                self.index.add(model, outcome.fingerprint)
        self.use([model])
        return model

    def conclude(self, conclusion: Conclusion, context: Context) -> None:
        """Put the answer on the run, end it, and print the closing table."""
        models = self._own_models()
        with self.reporter.bar("register, draw and write"):
            champions = log_answer(self.tracker, models, context, conclusion)
            self._is_concluded = True
            if conclusion.report:
                log_report(self.tracker)
            self.tracker.finish()
        sentences, reused = list(conclusion.answer.sentences), sum(model.reused for model in models)
        if reused:
            sentences.append(f"{reused} of {len(models)} models were there already and were reused.")
        if champions:
            sentences.append(f"Best by validation, alias champion: {', '.join(champions)}; more with: kdops candidates")
        show_answer(conclusion.answer.rows, sentences, self.tracker.parent)

    def finish(self) -> None:
        """End a study that was not concluded: one without an answer."""
        if not self._is_concluded:
            self.tracker.finish()

    def fail(self, reason: str, status: str) -> list[str]:
        """End the study without a verdict, and return in sentences what it has and what it lacks."""
        self.tracker.fail(reason, status)
        sentences = describe_failure(self._own_models(), self.shared.current)
        if not self._is_concluded:
            settings = self.shared.context.settings
            paragraphs = [failure_note(reason, sentences), *about(settings.owner, settings.notes)]
            self.tracker.describe("\n\n".join(paragraphs))
        return sentences

    def _own_models(self) -> tuple[Model, ...]:
        """Return the models of this study; those that an earlier part of the whole study has are reused here."""
        return tuple(replace(model, reused=model.reused or key in self._earlier) for key, model in self.models.items())

    def _models_of(
        self, units: Sequence[Unit], trainset: Trainset, context: Context, sources: Mapping[int, Model | None]
    ) -> Mapping[str, Model]:
        self.index.look(units)
        there, missing = self.index.sort(units)
        if missing:
            there = self._make(units, missing, trainset, context)
        else:
            self._forget(units, there)
        models = [there[unit.fingerprint] for unit in units]
        self.reporter.write(describe_sweep(units[0].task.known_as, models, list(sources.values())))
        if remark := describe_size(models, list(sources.values())):
            self.reporter.write(remark)
        return there

    def _forget(self, units: Sequence[Unit], there: Mapping[str, Model]) -> None:
        """Remove the checkpoints of units that are stored: whoever stored them may have been killed before it could."""
        for digest in {there[unit.fingerprint].pass_digest or digest_of_pass([unit]) for unit in units}:
            self.shared.checkpoints.remove(digest)

    def _make(
        self, units: Sequence[Unit], missing: Sequence[Unit], trainset: Trainset, context: Context
    ) -> dict[str, Model]:
        """Train what is missing of a sweep, unless another study makes it meanwhile; return all of the sweep."""
        together = context.trains_together(units[0].task)
        with exclusive(lock_keys(missing, context), self.reporter.write):
            self.index.look(missing)
            there, missing = self.index.sort(units)
            if not missing:
                return there
            wanted = {unit.fingerprint for unit in missing}
            # What is stacked decides the last bits, so a replicate that lacks a model is trained whole again; only
            # what is missing is stored.
            whole = {unit.replicate for unit in missing} if together else set()
            chosen = [unit for unit in units if unit.fingerprint in wanted or unit.replicate in whole]
            self.shared.current.begin(units, there)
            SweepTraining(self.tracker, self.shared, self.reporter).train(chosen, wanted, trainset, context, there)
            self.shared.current.end()
            return there


@contextmanager
def ended(end: Callable[[str, str], object]) -> Iterator[None]:
    """End a study's run where what is done within fails or is interrupted.

    Args:
        end: called with the reason and the status of the run.
    """
    try:
        yield
    except BaseException as error:
        interrupted = isinstance(error, KeyboardInterrupt)
        reason = "interrupted" if interrupted else str(explained(error, store_address()) or error)
        end(reason or type(error).__name__, "KILLED" if interrupted else "FAILED")
        raise
