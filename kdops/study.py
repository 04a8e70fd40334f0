"""A study: the verbs that a pipeline is written in.

``train`` and ``distill`` give sweeps of tracked models. What is already there is reused; what is not is trained, all
that can be in one pass, and stored as soon as it is done.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from kdops import data as datasets
from kdops import records
from kdops.bench import Bench, Measured
from kdops.closing import Row, note, setting, show
from kdops.config import HARD, Settings
from kdops.device import resolve_device
from kdops.lookup import known_models
from kdops.ownrun import name_process
from kdops.plan import Plan
from kdops.progress import Reporter
from kdops.records import ModelRecord, Sweep
from kdops.results import write_results
from kdops.splits import make_split
from kdops.tracking import Outcome, Tracker, Trainset
from kdops.units import Context, Unit, cut_off_with, digest_of_pass, units_of
from kdops.verdicts import Verdict

__all__ = ["Study", "open_study"]


@contextmanager
def open_study(entry_point: str, settings: Settings) -> Iterator[Study]:
    """Open a study, and end its run whatever happens.

    Args:
        entry_point: the study's name.
        settings: its settings; with ``dry_run`` nothing is trained or written.
    """
    name_process()
    reporter = Reporter()
    with reporter.bar(f"load {settings.dataset}") as bar:
        data = datasets.load(settings.dataset, settings.data_root, bar)
    split = make_split(data, settings.transfer, settings.split_seed)
    context = Context(settings, data, split, resolve_device(settings.device))
    if settings.dry_run:
        yield Study(context, None, reporter)
        return
    seeds = "1 seed" if settings.seeds == 1 else f"{settings.seeds} seeds"
    tracker = Tracker(entry_point, data, split, f"{entry_point} {data.name} {settings.transfer} {seeds}")
    try:
        yield Study(context, tracker, reporter)
    except KeyboardInterrupt:
        tracker.fail("interrupted", "KILLED")
        raise
    except BaseException as error:
        tracker.fail(str(error) or type(error).__name__)
        raise


class Study:
    """One execution of an entry point.

    Args:
        context: settings, data, split and device.
        tracker: its runs; None for a dry run, which trains and writes nothing.
        reporter: where progress is told.
    """

    def __init__(self, context: Context, tracker: Tracker | None, reporter: Reporter):
        self.context, self.tracker, self.reporter = context, tracker, reporter
        self.settings, self.split = context.settings, context.split
        self.plan = Plan(context.settings, context.data.shape, len(context.data.classes), context.device)
        self.bench = Bench(context, tracker.load_weights if tracker else _no_weights)
        self.models: dict[tuple[str, str], ModelRecord] = {}
        self._known = {} if self.settings.fresh else known_models(context.data, context.split)

    def train(self, role: str) -> Sweep:
        """Train a role on the teacher's images and hard labels, once for each replicate."""
        none = dict.fromkeys(self.settings.replicates())
        return self._sweep(role, none, (HARD,), Trainset(self.split.teacher, "teacher images"), 0)

    def distill(self, sources: Sweep, role: str, temperatures: Sequence[float]) -> Sweep:
        """Distil each replicate's source into a role at every temperature.

        Args:
            sources: one model for each replicate.
            role: what is trained.
            temperatures: the temperatures; 0 trains on hard labels, on the same images and schedule.
        """
        by_seed = {record.seed: record for record in sources.records}
        if len(by_seed) != len(sources.records):
            raise ValueError("distill takes one source for each replicate; choose with best() first")
        hop = sources.hops
        # Every hop has the same images unless each is to have fresh ones; then the part's name tells them apart.
        part = f"hop {hop + 1} images" if self.settings.transfer == "fresh" else "transfer images"
        return self._sweep(role, by_seed, tuple(temperatures), Trainset(self.split.hop(hop), part), hop + 1)

    def best(self, models: Sweep) -> Sweep:
        """Choose the best model of each replicate, on validation unless the settings say test."""
        return records.best(models, self.settings.select_on)

    def worst(self, models: Sweep) -> Sweep:
        """Choose the worst model of each replicate, on validation unless the settings say test."""
        return records.worst(models, self.settings.select_on)

    def conclude(
        self,
        title: str,
        *,
        rows: Callable[[], Sequence[Row]],
        verdict: Callable[[], Verdict] | None = None,
        figures: Callable[[], dict[str, object]] | None = None,
    ) -> None:
        """End the study: results, figures, verdict and note on the parent run, a table on the terminal.

        What is said is given as functions, since a dry run has no numbers to say it with: it tells the plan.

        Args:
            title: what the note is headed with where there is no verdict.
            rows: the closing table.
            verdict: the answer with its statistics.
            figures: Matplotlib figures by file name.
        """
        if self.tracker is None:
            for line in self.plan.lines():
                print(line)
            return
        with self.reporter.bar("register, draw and write"):
            models = tuple(self.models.values())
            for role in sorted({record.role for record in models}):
                self.tracker.registry.crown(role)
            answer, table = verdict() if verdict else None, rows()
            sentences = [claim.sentence for claim in answer.claims] if answer else []
            reused = [record.uri for record in models if record.reused]
            basis = setting(self.settings, self.context.data, self.split)
            tags = {
                "mlflow.note.content": note(answer.word if answer else title, table, sentences, basis),
                "kdops.select_on": self.settings.select_on,
                **({"kdops.reused": _fitted(reused)} if reused else {}),
                **({"kdops.verdict": answer.word} if answer else {}),
            }
            with TemporaryDirectory(prefix="kdops-") as folder:
                drawn = figures() if figures else {}
                write_results(Path(folder), models, self.settings, self.context.data, self.split, drawn)
                self.tracker.finish(tags=tags, metrics=answer.statistics if answer else {}, artifacts=Path(folder))
        if reused:
            sentences = [*sentences, f"{len(reused)} of {len(models)} models were there already and were reused."]
        show(table, sentences, self.tracker.parent)

    def _sweep(
        self,
        role: str,
        sources: Mapping[int, ModelRecord | None],
        temperatures: Sequence[float],
        trainset: Trainset,
        hops: int,
    ) -> Sweep:
        """Give the models of a role: those that are there, and those that are trained now."""
        together = self.bench.trains_together(role)
        units = units_of(role, sources, temperatures, trainset.what, together, self.context)
        there = {unit.fingerprint: self._known[unit.fingerprint] for unit in units if unit.fingerprint in self._known}
        missing = [unit for unit in units if unit.fingerprint not in there]
        self.plan.add(role, len(trainset.rows), len(units), len(missing))
        if self.settings.dry_run:
            # Models to come have no weights yet; their fingerprint stands for them, so that sources stay apart.
            there |= {unit.fingerprint: replace(unit.record, weights=unit.fingerprint) for unit in missing}
        elif missing:
            seeds = cut_off_with(missing, list(there.values()), units) if together else set()
            wanted = {unit.fingerprint for unit in missing}
            chosen = [unit for unit in units if unit.fingerprint in wanted or unit.record.seed in seeds]
            there |= self._train(role, chosen, wanted, trainset)
        # A later sweep of this study may ask for the same models again, also where it trains afresh.
        self._known |= there
        found = [there[unit.fingerprint] for unit in units]
        self.models |= {(record.uri, str(record)): record for record in found}
        if not self.settings.dry_run:
            self.reporter.say(_told(role, found, sources))
        return Sweep(tuple(found), hops)

    def _train(self, role: str, units: Sequence[Unit], missing: set[str], trainset: Trainset) -> dict[str, ModelRecord]:
        """Train units, and store those that are missing as soon as they are done."""
        # What was trained in one pass is told on every run: it decides what is trained again after a cut.
        told = {}
        if self.bench.trains_together(role):
            fleet = tuple(sorted({unit.record.seed for unit in units}))
            told = {"fleet": fleet, "fleet_digest": digest_of_pass(units)}
        stored = {}
        with self.reporter.bar(f"train {len(units)} x {role}") as bar:
            for batch in self.bench.train(role, units, trainset.rows, trainset.what, bar):
                wanted = [measured for measured in batch if measured.unit.fingerprint in missing]
                for measured, record in self._store(role, wanted, told, trainset):
                    stored[measured.unit.fingerprint] = record
        return stored

    def _store(
        self, role: str, batch: Sequence[Measured], told: Mapping[str, object], trainset: Trainset
    ) -> Iterator[tuple[Measured, ModelRecord]]:
        with self.reporter.bar(f"log {len(batch)} x {role}") as bar:
            for number, measured in enumerate(batch, start=1):
                record = replace(measured.unit.record, metrics=measured.metrics, **told)
                unit, trained = measured.unit, measured.trained
                outcome = Outcome(record, trained, unit.fingerprint, unit.source, trainset, measured.finished)
                stored = self.tracker.commit(outcome, measured.net)
                self.bench.keep(stored, measured.trained.state)
                bar(number, len(batch))
                yield measured, stored


def _no_weights(record: ModelRecord) -> dict:
    raise RuntimeError(f"a dry run reads no weights, but {record} was asked for")


def _fitted(uris: Sequence[str], limit: int = 7900) -> str:
    """Join URIs into a tag; MLflow's tags end at 8,000 characters, and ``results.csv`` has them all."""
    text = " ".join(uris)
    return text if len(text) <= limit else f"{text[:limit].rsplit(' ', 1)[0]} ..."


def _told(role: str, found: Sequence[ModelRecord], sources: Mapping[int, ModelRecord | None]) -> str:
    """Say what a sweep gave, and what it was distilled from."""
    models = f"{len(found)} {role} model{'s' if len(found) != 1 else ''}"
    given = [source for source in sources.values() if source is not None]
    if given:
        levels = ", ".join(f"{source.temperature:g}" for source in given)
        models += f" from the {given[0].role}" + ("" if given[0].role == "teacher" else f" (T = {levels})")
    reused = sum(record.reused for record in found)
    again = f", {reused} of them reused" if reused else ""
    accuracies = {f"{record.metrics['test_accuracy']:.4f}" for record in found}
    return f"{models}{again}, test accuracy {' to '.join(sorted({min(accuracies), max(accuracies)}))}"
