"""Trains what is missing of a sweep through the engine, and stores each model beside the training of the next ones."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from kdops.config.architectures import parse_architecture
from kdops.config.augmentation import NONE
from kdops.config.engines import LOCAL
from kdops.store.database import store_address, writers
from kdops.study.shared import Shared
from kdops.study.storing import Commits
from kdops.sweeps.model import Model
from kdops.sweeps.unit import Context, Unit
from kdops.tracking.datasets import Trainset
from kdops.tracking.model_run import Outcome
from kdops.tracking.tracker import Tracker
from kdops.utils.progress import Reporter

if TYPE_CHECKING:
    import numpy as np

    from kdops.packaging.folder import Packager
    from kdops.training.order import Done, Order, TrainedModel
    from kdops.training.sweep_orders import Orders


class SweepTraining:
    """Trains and stores the models of a study's sweeps.

    Args:
        tracker: the runs of the study, or of a part of it.
        shared: what it trains with.
    """

    def __init__(self, tracker: Tracker, shared: Shared, reporter: Reporter):
        self.tracker, self.shared, self.reporter = tracker, shared, reporter
        self.networks = shared.networks

    def train(
        self,
        units: Sequence[Unit],
        missing: set[str],
        trainset: Trainset,
        context: Context,
        there: dict[str, Model],
    ) -> None:
        """Train units, and store those that are missing: each is in ``there`` as soon as it is stored."""
        from kdops.training.sweep_orders import TEST_IMAGES, Orders

        task, shared, made = units[0].task, self.shared, dict[str, tuple[Unit, ...]]()
        together = context.trains_together(task)
        recipe = context.settings.recipes[task.role]
        if not recipe.architecture.is_counted:
            shared.packagers.check(task.role, recipe.architecture, lambda: self.networks.build(recipe.architecture))
            self._report_alone(str(recipe.architecture), len(units))

        asked = Orders(context, self.networks, shared.engine, shared.checkpoints)
        # What sees views has its source asked about these.
        given = {} if recipe.augment != NONE else {task.part: trainset.rows}
        ask_sources(asked, units, {**given, TEST_IMAGES: context.split.test}, self.reporter)

        def orders() -> Iterator[Order]:
            for order, own in asked.of(units, trainset.rows):
                made[order.digest] = own
                yield order

        total = len(units) * len(trainset.rows) * recipe.epochs
        with (
            self.reporter.bar(f"train {len(units)} x {task.known_as}") as bar,
            Commits(writers(store_address())) as commits,
            closing(shared.engine.run(orders(), Passed(bar, total, self.reporter.write, commits.check))) as results,
            closing(in_sequence(results, made)) as ordered,
        ):
            for done in ordered:
                own = made.pop(done.digest)
                # What was trained in one pass is on every run.
                pass_seeds = tuple(sorted({unit.record.seed for unit in own})) if together else ()
                digest = "" if len(own) == 1 and not pass_seeds else done.digest
                store = partial(self._store, trainset, done, pass_seeds, digest, there)
                batch = [
                    partial(store, unit, trained, self._packager(unit, trained))
                    for unit, trained in zip(own, done.models, strict=True)
                    if unit.fingerprint in missing
                ]
                commits.put(batch, partial(shared.checkpoints.remove, done.digest))
            commits.finish(lambda left: bar(total, total, f"{left} to log"))

    def _packager(self, unit: Unit, trained: TrainedModel) -> Packager:
        """Return what writes a unit's model; it is made here, since the export of a network is of one thread."""
        architecture = parse_architecture(unit.record.architecture)
        return self.shared.packagers.of(architecture, partial(self.networks.with_weights, architecture, trained.state))

    def _store(
        self,
        trainset: Trainset,
        done: Done,
        pass_seeds: tuple[int, ...],
        pass_digest: str,
        there: dict[str, Model],
        unit: Unit,
        trained: TrainedModel,
        packager: Packager,
        turn: AbstractContextManager[object],
    ) -> None:
        """Store one model, and note that it is there."""
        from kdops.models.classifier import digest_of

        outcome = Outcome(
            replace(
                unit.record,
                metrics=trained.metrics,
                weights=digest_of(trained.state),
                pass_seeds=pass_seeds,
                pass_digest=pass_digest,
            ),
            unit.fingerprint,
            unit.training,
            (unit.source,) if unit.source else (),
            trainset,
            trained.history,
            trained.seconds,
            done.finished,
            done.trained_on,
            trained.kept,
        )
        stored = self.tracker.commit(outcome, partial(packager.write, state=trained.state), turn)
        self.networks.keep(stored, trained.state)
        there[unit.fingerprint] = stored

    def _report_alone(self, architecture: str, models: int) -> None:
        """Report once that the networks of an architecture are trained one by one."""
        if models > 1 and architecture not in self.shared.alone:
            self.shared.alone.add(architecture)
            self.reporter.write(
                f"{architecture} cannot be trained as one fleet: its models are trained one after another"
            )


def ask_sources(orders: Orders, units: Sequence[Unit], parts: Mapping[str, np.ndarray], reporter: Reporter) -> None:
    """Let workers compute what the sources of units say of the images; without workers it is asked as it is needed.

    Args:
        orders: those of the study.
        units: of one task.
        parts: the images by name.
        reporter: where progress is reported.
    """
    if orders.context.settings.engine == LOCAL:
        return
    sources = dict[str, Model]()

    def asked() -> Iterator[Order]:
        for order, source in orders.of_sources(units, parts):
            sources[order.digest] = source
            yield order

    with (
        reporter.bar("ask the sources") as bar,
        closing(orders.engine.run(asked(), Passed(bar, 1, reporter.write))) as results,
    ):
        for done in results:
            for part, logits in done.models[0].state.items():
                orders.networks.keep_logits(sources[done.digest], part, logits)


class Passed:
    """Adds up the images that orders have passed, for one bar over all, and says what an engine notes, once each.

    Args:
        bar: called with (images passed, images in all).
        total: images in all.
        write: writes a line.
        check: called each time; what it raises ends the training.
    """

    def __init__(
        self,
        bar: Callable[[int, int], None],
        total: int,
        write: Callable[[str], None],
        check: Callable[[], None] = lambda: None,
    ):
        self.bar, self.total, self.write, self.check = bar, total, write, check
        self._of: dict[str, int] = {}
        self._notes: set[str] = set()

    def __call__(self, order: str, done: int, _: int, note: str = "") -> None:
        """Add the progress of an order."""
        self.check()
        if note and note not in self._notes:
            self._notes.add(note)
            self.write(note)
        self._of[order] = done
        self.bar(sum(self._of.values()), self.total)


def in_sequence(results: Iterable[Done], asked: Mapping[str, object]) -> Generator[Done, None, None]:
    """Return results in the sequence in which they were asked for, so that versions do not depend on who was quickest.

    Args:
        results: in any sequence; an engine sees that few come before an earlier one.
        asked: the orders whose results were not taken yet, by digest; whoever takes a result removes its order.

    Raises:
        Exception: what the training failed with, also where it is closed while it hands on what was done.
    """
    held: dict[str, Done] = {}
    try:
        for done in results:
            held[done.digest] = done
            while (first := next(iter(asked), "")) in held:
                yield held.pop(first)
    except Exception as error:
        # What is done when another training fails is stored all the same; where that fails too, this error stays.
        with suppress(GeneratorExit):
            yield from held.values()
        raise error
