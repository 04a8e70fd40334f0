"""A study: the verbs that a pipeline is written in.

``train`` and ``distill`` give sweeps of tracked models. What is already there is reused; what is not is trained, all
that can be in one pass, and stored as soon as it is done.

PyTorch, and what needs it, is imported where something must be trained, measured or stored: it takes seconds, and a
study that finds all its models there needs none of it, unless they vote.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from kdops.config.methods import LOGITS, ChosenMethod
from kdops.config.settings import HARD, Settings
from kdops.data import dataset as datasets
from kdops.data.splits import make_split
from kdops.errors import UsageError
from kdops.store.database import CHECKPOINTS, folded_log, store_address, store_path
from kdops.store.faults import explained, explained_faults, first_line
from kdops.store.liveness import name_process
from kdops.store.locks import exclusive
from kdops.study.checks import check_networks
from kdops.study.failure import CurrentSweep, failure_note, told_failure
from kdops.study.results import write_results
from kdops.study.summary import about, note, setting, show
from kdops.sweeps import model as records
from kdops.sweeps import schema
from kdops.sweeps.model import COPY_SEEDS, Model, Sweep
from kdops.sweeps.plan import Plan
from kdops.sweeps.unit import Context, Task, Unit, cut_off_with, digest_of_pass, lock_keys, units_of
from kdops.tracking.known_models import KnownModels
from kdops.tracking.stored_study import StoredStudy
from kdops.tracking.tracker import Outcome, Tracker, Trainset
from kdops.training.checkpoint import Checkpoints
from kdops.utils.hardware import resolve_device
from kdops.utils.progress import Reporter
from kdops.verdicts.answer import Answer

if TYPE_CHECKING:
    from torch.nn import Module

    from kdops.models.classifier import Classifier
    from kdops.packaging.folder import Packager
    from kdops.training.local import LocalEngine, Measured

__all__ = ["Study", "load_data", "open_study"]


def load_data(settings: Settings, reporter: Reporter | None = None) -> datasets.Dataset:
    """Load the data of a study; a bar on the terminal shows how far it is."""
    with (reporter or Reporter()).bar(f"load {settings.dataset}") as bar:
        return datasets.load(settings.origin, settings.data_root, bar)


@contextmanager
def open_study(entry_point: str, settings: Settings, data: datasets.Dataset | None = None) -> Iterator[Study]:
    """Open a study, and end its run whatever happens.

    Args:
        entry_point: the study's name.
        settings: its settings; with ``dry_run`` nothing is trained or written.
        data: its data; loaded if left out.
    """
    with explained_faults(store_address()), folded_log(store_address()):
        name_process()
        reporter = Reporter()
        data = data or load_data(settings, reporter)
        check_networks(settings, data)
        split = make_split(data, settings.transfer, settings.split_seed, settings.hops())
        context = Context(settings, data, split, resolve_device(settings.device))
        title, about = _title(entry_point, settings), {"owner": settings.owner, "notes": settings.notes}
        tracker = None if settings.dry_run else Tracker(entry_point, data, split, title, about)
        with _ended(tracker) as ended:
            if tracker and (others := tracker.registry.of_other_data()):
                reporter.say(
                    f"the registry has {others} models of other data called {data.name}: none of them is used, and "
                    "champion is now the best on these data; name=... keeps data of your own apart"
                )
            yield ended(Study(context, tracker, reporter))


class Study:
    """One execution of an entry point.

    Args:
        context: settings, data, split and device.
        tracker: its runs; None for a dry run, which trains and writes nothing.
        reporter: where progress is told.
        whole: the study that this one is a part of; they share the models, and what was computed.
    """

    def __init__(self, context: Context, tracker: Tracker | None, reporter: Reporter, whole: Study | None = None):
        self.context, self.tracker, self.reporter, self.whole = context, tracker, reporter, whole
        self.settings, self.split = context.settings, context.split
        self.models: dict[tuple[str, str], Model] = {}
        self._bench: LocalEngine | None = None
        self._unvaried: Study | None = None
        self.answer: Answer | None = None
        self.is_concluded = False
        """The answer is on the run."""
        if whole is not None:
            self.plan, self._checkpoints = whole.plan, whole._checkpoints
            self._known, self._there = whole._known, whole._there
            self._packagers, self._alone, self._underway = whole._packagers, whole._alone, whole._underway
            return
        self.plan = Plan(context.data.shape, len(context.data.classes), context.device)
        self._checkpoints = Checkpoints(store_path(CHECKPOINTS), not self.settings.fresh) if tracker else None
        self._alone: set[str] = set()
        self._there = KnownModels(context.data, context.split)
        self._known: dict[str, Model] = {}
        self._packagers: dict[str, Packager] = {}
        self._underway = CurrentSweep()
        self.look()

    @property
    def bench(self) -> LocalEngine:
        """Where models are trained and measured; made once it is asked for, one for a study and all its parts."""
        if self._bench is None:
            self._bench = self._new_bench()
        return self._bench

    def look(self, chain: str = "") -> None:
        """Look for what is in the store by now: other studies may have made what this one wants next.

        Args:
            chain: only for models that came this way; empty for all.
        """
        found = self._there.look(chain)
        for key, record in ({} if self.settings.fresh else found).items():
            self._known.setdefault(key, record)

    @contextmanager
    def part(self, entry_point: str) -> Iterator[Study]:
        """Open a study within this one: a run below this one's, with the same settings, data and models."""
        tracker = self.tracker and self.tracker.below(entry_point, _title(entry_point, self.settings))
        with _ended(tracker) as ended:
            part = ended(Study(self.context, tracker, self.reporter, self))
            try:
                yield part
            finally:
                self.models |= part.models

    def varied(self, **changes: object) -> Study:
        """Return this study with other settings for what it trains next; its runs and models are this one's.

        Args:
            **changes: settings by name, see :class:`~kdops.config.settings.Settings`.
        """
        other = copy.copy(self)
        other.settings = replace(self.settings, **changes)
        other.context = replace(self.context, settings=other.settings)
        other._bench, other._unvaried = None, self
        return other

    def train(self, role: str, stream: str = "") -> Sweep:
        """Train a role on the teacher's images and hard labels, once for each replicate.

        Args:
            role: what is trained.
            stream: its random streams, where they are not the role's; see :meth:`distill`.
        """
        none = dict.fromkeys(self.settings.replicates())
        task = _task(role, stream, "teacher images", self.settings.order)
        return self._sweep(task, none, (HARD,), self.split.teacher, 0)

    def distill(
        self,
        sources: Sweep,
        role: str,
        temperatures: Sequence[float],
        *,
        predictions: bool = False,
        order: str = "",
        copies: int = 0,
        hop: int | None = None,
        seeds: Sequence[int] = (),
        stream: str = "",
    ) -> Sweep:
        """Distill each replicate's source into a role at every temperature.

        Args:
            sources: one model for each replicate.
            role: what is trained.
            temperatures: the temperatures; 0 trains on hard labels, on the same images and schedule.
            predictions: at T = 0 the hard labels are the source's predictions, not the images' own.
            order: the batch order of a replicate's members, where it is not the one of the settings.
            copies: so many models of each temperature, which differ in their seed only; see ``COPY_SEEDS``.
            hop: which distillation's images are used, where not those of the next one after the sources'.
            seeds: train these from the single source, where its models are not one for each source.
            stream: their random streams, where they are not the role's; the settings have a recipe of this name too.
        """
        by_seed = {record.seed: record for record in sources.records}
        if len(by_seed) != len(sources.records):
            raise ValueError("distill takes one source for each replicate; choose with best() first")
        if copies:
            by_seed = {
                seed + COPY_SEEDS * number: record for seed, record in by_seed.items() for number in range(copies)
            }
        if seeds:
            (source,) = sources.records
            by_seed = dict.fromkeys(seeds, source)
        trainset = self.transfer_images(sources.hops if hop is None else hop)
        task = _task(role, stream, trainset.what, order or self.settings.order, predictions, self.settings.method)
        return self._sweep(task, by_seed, tuple(temperatures), trainset.rows, sources.hops + 1)

    def transfer_images(self, hop: int) -> Trainset:
        """Return the images of a distillation: of the first one, hop 0, those that a teacher's students learn from.

        Raises:
            KdopsError: the hops are to have fresh images each, and the split has none for this one.
        """
        if self.settings.transfer == "fresh":
            # The part's name tells the images of one hop from those of another.
            return Trainset(self.split.hop(hop), f"hop {hop + 1} images")
        return Trainset(self.split.hop(min(hop, len(self.split.transfers) - 1)), "transfer images")

    def best(self, models: Sweep) -> Sweep:
        """Choose the best model of each replicate, on validation unless the settings say test."""
        return records.best(models, self.settings.select_on)

    def worst(self, models: Sweep) -> Sweep:
        """Choose the worst model of each replicate, on validation unless the settings say test."""
        return records.worst(models, self.settings.select_on)

    def conclude(
        self,
        title: str,
        answer: Callable[[], Answer],
        *,
        figures: Callable[[], dict[str, object]] | None = None,
        finish: Callable[[Path], None] | None = None,
    ) -> None:
        """End the study: results, figures, answer and note on its run, a table on the terminal.

        What is said is given as functions, since a dry run has no numbers to say it with: it tells the plan.

        Args:
            title: what the note is headed with where there is no verdict.
            answer: the closing table, the verdict and the findings.
            figures: Matplotlib figures by file name.
            finish: writes further files into the folder that becomes the run's artifacts.
        """
        if self.tracker is None:
            for line in self.plan.lines() if self.whole is None else ():
                print(line)
            return
        with self.reporter.bar("register, draw and write"):
            self._underway.end()
            # First of all: an answer may store a model that it makes.
            self.answer = given = answer()
            models = self._told_apart()
            for role in sorted({record.role for record in models}):
                self.tracker.registry.crown(role)
            reused = [record.uri for record in models if record.reused]
            basis = setting(self.settings, self.context.data, self.split)
            tags = {
                schema.NOTE: "\n\n".join(
                    [note(given.word or title, given.rows, given.sentences, basis), *self._about()]
                ),
                schema.SELECT_ON: self.settings.select_on,
                **({schema.REUSED: schema.fitted(reused)} if reused else {}),
                **({schema.VERDICT: given.word} if given.word else {}),
            }
            with TemporaryDirectory(prefix="kdops-") as folder:
                drawn = figures() if figures else {}
                context = self.context
                write_results(Path(folder), models, context.settings, context.data, context.split, drawn)
                given.write(Path(folder), self.tracker.entry_point, title)
                self.tracker.log(tags=tags, metrics=given.statistics, artifacts=Path(folder))
            self.is_concluded = True
            if finish:
                with TemporaryDirectory(prefix="kdops-") as folder:
                    finish(Path(folder))
                    self.tracker.log(artifacts=Path(folder))
            self.tracker.finish()
        sentences = list(given.sentences)
        if reused:
            sentences.append(f"{len(reused)} of {len(models)} models were there already and were reused.")
        show(given.rows, sentences, self.tracker.parent)

    def measure(self) -> dict[str, object]:
        """Return what findings are measured by: the margin, and whether the data are the paper's."""
        return {"margin": self.settings.margin, "same_data": self.settings.dataset == "gtsrb"}

    def net(self, record: Model) -> Module:
        """Return the network of a stored model, in ``eval()``."""
        return self.bench.net(record)

    def known(self, role: str) -> list[Model]:
        """Return every finished and registered model of a role, of this data and split."""
        return list({record.uri: record for record in self._there.records.values() if record.role == role}.values())

    def find(self, uri: str) -> Model | None:
        """Return a finished model of this data and split by its URI."""
        return self._there.records.get(uri) or self._known.get(uri)

    def use(self, records: Sequence[Model]) -> None:
        """Count models that were not asked for by a sweep among those of the study."""
        self.models |= {(record.uri, str(record)): record for record in records}

    def stored(self) -> StoredStudy:
        """Read this study back from the store, as far as it is there."""
        return self.tracker.stored()

    def store(self, outcome: Outcome, write: Callable[..., None]) -> Model:
        """Store a model that was not trained but made from others, unless it is there already."""
        with exclusive([outcome.fingerprint], self.reporter.say):
            if outcome.fingerprint not in self._known:
                self.look(outcome.record.chain)
            if outcome.fingerprint not in self._known:
                self._known[outcome.fingerprint] = self.tracker.commit(outcome, write)
        record = self._known[outcome.fingerprint]
        self.models[record.uri, str(record)] = record
        return record

    def _sweep(
        self,
        task: Task,
        sources: Mapping[int, Model | None],
        temperatures: Sequence[float],
        rows,
        hops: int,
    ) -> Sweep:
        """Return the models of a task: those that are there, and those that are trained now."""
        role, trainset = task.known_as, Trainset(rows, task.part)
        together = self.context.trains_together(task)
        units = units_of(task, sources, temperatures, together, self.context)
        there, missing = self._sorted(units)
        names, absent = ([unit.fingerprint for unit in some] for some in (units, missing))
        self.plan.add(role, self.settings.recipes[task.role], len(rows), names, absent)
        if self.settings.dry_run:
            # Models to come have neither URI nor weights; their fingerprint stands for both, so sources stay apart.
            there |= {
                unit.fingerprint: replace(unit.record, uri=unit.fingerprint, weights=unit.fingerprint)
                for unit in missing
            }
        elif missing:
            there = self._make(units, missing, together, trainset)
        else:
            self._forget(units, there)
        # A later sweep of this study may ask for the same models again, also where it trains afresh.
        for unit in units:
            record = there[unit.fingerprint]
            self._known[unit.fingerprint] = self._known[unit.training] = self._known[record.uri] = record
        given = [there[unit.fingerprint] for unit in units]
        self.models |= {(record.uri, str(record)): record for record in given}
        if not self.settings.dry_run:
            self.reporter.say(_told(role, given, sources))
        return Sweep(tuple(given), hops)

    def _new_bench(self) -> LocalEngine:
        if self._unvaried is not None:
            return self._unvaried.bench.varied(self.context)
        if self.whole is not None:
            return self.whole.bench
        from kdops.training.local import LocalEngine

        load_weights = self.tracker.load_weights if self.tracker else _no_weights
        return LocalEngine(self.context, load_weights, self._program, self._checkpoints)

    def _forget(self, units: Sequence[Unit], stored: Mapping[str, Model]) -> None:
        """Remove the checkpoints of units that are stored: whoever stored them may have been killed before it could."""
        if self._checkpoints:
            for digest in {stored[unit.fingerprint].fleet_digest or digest_of_pass([unit]) for unit in units}:
                self._checkpoints.remove(digest)

    def _sorted(self, units: Sequence[Unit]) -> tuple[dict[str, Model], list[Unit]]:
        """Return the models of units that are there, by fingerprint, and the units that are missing."""
        found = {unit.fingerprint: self._find(unit) for unit in units}
        there = {key: record for key, record in found.items() if record is not None}
        return there, [unit for unit in units if unit.fingerprint not in there]

    def _make(
        self, units: Sequence[Unit], missing: Sequence[Unit], together: bool, trainset: Trainset
    ) -> dict[str, Model]:
        """Train what is missing of a sweep, unless another study makes it meanwhile; give all of the sweep."""
        with exclusive(lock_keys(missing, self.context), self.reporter.say):
            for chain in {unit.record.chain for unit in missing}:
                self.look(chain)
            there, missing = self._sorted(units)
            if not missing:
                return there
            seeds = cut_off_with(missing, list(there.values()), units) if together else set()
            wanted = {unit.fingerprint for unit in missing}
            chosen = [unit for unit in units if unit.fingerprint in wanted or unit.record.seed in seeds]
            self._underway.begin(units, there)
            for fingerprint, record in self._train(chosen, wanted, trainset):
                there[fingerprint] = record
            self._underway.end()
            return there

    def _told_apart(self) -> tuple[Model, ...]:
        """Return the models of this study; those that an earlier part of the whole study has are reused here."""
        earlier = self.whole.models if self.whole else {}
        return tuple(replace(record, reused=record.reused or key in earlier) for key, record in self.models.items())

    def _find(self, unit: Unit) -> Model | None:
        """Return a unit's model if it is there: trained in the very same pass, or else in another fleet."""
        return self._known.get(unit.fingerprint) or self._known.get(unit.training)

    def failed(self, reason: str, status: str) -> None:
        """End the study without a verdict, and say on its run, and of a whole study on the terminal, what it has."""
        self.tracker.fail(reason, status)
        told = told_failure(self._told_apart(), self._underway)
        if not self.is_concluded:
            self.tracker.describe("\n\n".join([failure_note(reason, told), *self._about()]))
        if self.whole is None:
            for sentence in told:
                self.reporter.say(sentence)

    def _about(self) -> list[str]:
        return about(self.settings.owner, self.settings.notes)

    def _train(self, units: Sequence[Unit], missing: set[str], trainset: Trainset) -> Iterator[tuple[str, Model]]:
        """Train units, and give those that are missing by fingerprint, each as soon as it is stored."""
        task = units[0].task
        # What was trained in one pass is told on every run: it decides what is trained again after a cut.
        fleet = ()
        if self.context.trains_together(task):
            fleet = tuple(sorted({unit.record.seed for unit in units}))
        if not self.context.architecture_of(task.role).is_counted:
            self._ready(task.role, len(units))
        with self.reporter.bar(f"train {len(units)} x {task.known_as}") as bar:
            for batch in self.bench.train(units, trainset.rows, bar):
                wanted = [measured for measured in batch if measured.unit.fingerprint in missing]
                told = {"fleet": fleet}
                if len(batch) > 1 or fleet:
                    told["fleet_digest"] = digest_of_pass([measured.unit for measured in batch])
                for measured, record in self._store(task.known_as, wanted, told, trainset):
                    yield measured.unit.fingerprint, record

    def _store(
        self, role: str, batch: Sequence[Measured], told: Mapping[str, object], trainset: Trainset
    ) -> Iterator[tuple[Measured, Model]]:
        from kdops.models.classifier import digest_of

        with self.reporter.bar(f"log {len(batch)} x {role}") as bar:
            for number, measured in enumerate(batch, start=1):
                unit, trained = measured.unit, measured.trained
                outcome = Outcome(
                    replace(unit.record, metrics=measured.metrics, weights=digest_of(trained.state), **told),
                    unit.fingerprint,
                    unit.training,
                    (unit.source,) if unit.source else (),
                    trainset,
                    trained.history,
                    trained.seconds,
                    measured.finished,
                )
                packager = self._packager(unit.record.params["architecture"], measured.net)
                write = partial(packager.write, state=trained.state)
                stored = self.tracker.commit(outcome, write)
                self.bench.keep(stored, trained.state)
                bar(number, len(batch))
                yield measured, stored

    def _ready(self, role: str, models: int) -> None:
        """See that a network of others can be stored before it is trained, and say that it is trained alone.

        Raises:
            UsageError: it cannot be exported.
        """
        architecture = str(self.context.architecture_of(role))
        try:
            self._packager(architecture, self.bench.example(role))
        except Exception as error:
            raise UsageError(
                role, architecture, f"cannot be exported by torch.export: {first_line(error, 200)}"
            ) from error
        if models > 1 and architecture not in self._alone:
            self._alone.add(architecture)
            self.reporter.say(
                f"{architecture} cannot be trained as one fleet: its models are trained one after another"
            )

    def _program(self, record: Model) -> Module:
        from kdops.packaging.external import load_classifier

        return load_classifier(record.uri, self.context.data, "source")

    def _packager(self, architecture: str, net: Classifier) -> Packager:
        from kdops.packaging.folder import Packager

        if architecture not in self._packagers:
            metadata = {**self.context.data.metadata, "architecture": architecture}
            self._packagers[architecture] = Packager(net, self.context.data.shape, metadata)
        return self._packagers[architecture]


@contextmanager
def _ended(tracker: Tracker | None) -> Iterator[Callable[[Study], Study]]:
    """End a study's run whatever happens within; what it gives is told of the study once there is one."""
    made: list[Study] = []

    def told(study: Study) -> Study:
        made.append(study)
        return study

    try:
        yield told
    except BaseException as error:
        if tracker:
            interrupted = isinstance(error, KeyboardInterrupt)
            reason = "interrupted" if interrupted else str(explained(error, store_address()) or error)
            end = made[0].failed if made else tracker.fail
            end(reason or type(error).__name__, "KILLED" if interrupted else "FAILED")
        raise


def _title(entry_point: str, settings: Settings) -> str:
    seeds = "1 seed" if settings.seeds == 1 else f"{settings.seeds} seeds"
    entry_point += f" {settings.subject}" if settings.subject else ""
    return f"{entry_point} {settings.dataset} {settings.transfer} {seeds}"


def _task(
    role: str, stream: str, part: str, order: str, predictions: bool = False, method: ChosenMethod = LOGITS
) -> Task:
    own = stream not in ("", role)
    return Task(stream if own else role, part, order, predictions, role if own else "", method)


def _no_weights(record: Model) -> dict:
    raise RuntimeError(f"a dry run reads no weights, but {record} was asked for")


def _told(role: str, found: Sequence[Model], sources: Mapping[int, Model | None]) -> str:
    """Return what a sweep gave, and what it was distilled from."""
    models = f"{len(found)} {role} model{'s' if len(found) != 1 else ''}"
    given = {source.seed: source for source in sources.values() if source is not None}.values()
    if given:
        first = next(iter(given))
        levels = ", ".join(f"{source.temperature:g}" for source in given)
        plain = first.role == "teacher" or math.isnan(first.temperature)
        models += f" from the {first.role}" + ("" if plain else f" (T = {levels})")
    reused = sum(record.reused for record in found)
    again = f", {reused} of them reused" if reused else ""
    accuracies = {f"{record.metrics['test_accuracy']:.4f}" for record in found}
    return f"{models}{again}, test accuracy {' to '.join(sorted({min(accuracies), max(accuracies)}))}"
