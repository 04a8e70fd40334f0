"""A study: the verbs that a pipeline is written in.

``train`` and ``distill`` give sweeps of tracked models. What is already there is reused; what is not is trained,
all that can be in one pass, and committed at once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch import Tensor

from kdops import data as datasets
from kdops import records
from kdops.closing import Row, note, show
from kdops.config import HARD, Settings
from kdops.data import Data
from kdops.evaluation import agreement, compute_logits, measure
from kdops.fingerprint import code_digest, fingerprint
from kdops.losses import DistillationLoss
from kdops.models import Classifier, build, pixel_statistics
from kdops.plan import Plan
from kdops.progress import Reporter
from kdops.records import LABELS, ModelRecord, Sweep
from kdops.results import write_results
from kdops.splits import Split, check_split, make_split
from kdops.tracking import Outcome, Tracker, Trainset, known_models
from kdops.training import Group, Images, Trained, train
from kdops.verdicts import Verdict

__all__ = ["Study", "open_study"]


STACKED = ("mlp",)
"""The families that train as one fleet; of others each member is trained alone."""


@contextmanager
def open_study(entry_point: str, settings: Settings) -> Iterator[Study]:
    """Open a study, and end its run whatever happens.

    Args:
        entry_point: the study's name.
        settings: its settings; with ``dry_run`` nothing is trained or written.
    """
    reporter = Reporter()
    with reporter.bar(f"load {settings.dataset}") as bar:
        data = datasets.load(settings.dataset, settings.data_root, bar)
    split = make_split(data, settings.transfer, settings.split_seed)
    check_split(data, split)
    study = Study(entry_point, settings, data, split, reporter)
    try:
        yield study
    except KeyboardInterrupt:
        study.fail("interrupted", "KILLED")
        raise
    except BaseException as error:
        study.fail(str(error) or type(error).__name__)
        raise


@dataclass(frozen=True)
class _Job:
    """One member to train: its place in a sweep and all that decides its weights."""

    seed: int
    temperature: float
    source: ModelRecord | None
    chain: str
    fingerprint: str


class Study:
    """One execution of an entry point.

    Args:
        entry_point: the study's name.
        settings: its settings.
        data: the data set.
        split: its split.
        reporter: where progress is told.
    """

    def __init__(self, entry_point: str, settings: Settings, data: Data, split: Split, reporter: Reporter):
        self.entry_point, self.settings, self.data, self.split = entry_point, settings, data, split
        self.reporter = reporter
        self.device = _device(settings.device)
        self.loss = DistillationLoss(settings.alpha, settings.t_squared)
        self.plan = Plan(settings, data.shape, len(data.classes), self.device)
        self.models: list[ModelRecord] = []
        self.started = time.perf_counter()
        seen = np.union1d(split.teacher, np.concatenate(split.transfers))
        self._statistics = pixel_statistics(self._pixels(seen))
        self._weights: dict[str, dict[str, Tensor]] = {}
        self._outputs: dict[tuple[str, str], Tensor] = {}
        self.tracker = None if settings.dry_run else Tracker(entry_point, data, split)
        self._known = {} if settings.fresh else known_models(data, split)

    @property
    def temperatures(self) -> tuple[float, ...]:
        """The temperatures of the sweeps, above zero."""
        return self.settings.temperatures

    def train(self, role: str) -> Sweep:
        """Train a role on the teacher's images and hard labels, once for each replicate."""
        none = dict.fromkeys(self.settings.replicates())
        return self._sweep(role, none, (HARD,), self.split.teacher, "teacher images", 0)

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
        return self._sweep(role, by_seed, tuple(temperatures), self.split.hop(hop), part, hop + 1)

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
            for role in sorted({record.role for record in self.models}):
                self.tracker.registry.crown(role)
            answer, table = verdict() if verdict else None, rows()
            sentences = [claim.sentence for claim in answer.claims] if answer else []
            reused = [record.uri for record in self.models if record.reused]
            tags = {
                "mlflow.note.content": note(answer.word if answer else title, table, sentences, self._setting()),
                **({"kdops.reused": _fitted(reused)} if reused else {}),
                **({"kdops.verdict": answer.word} if answer else {}),
            }
            with TemporaryDirectory(prefix="kdops-") as folder:
                drawn = figures() if figures else {}
                write_results(Path(folder), self.models, self.settings, self.data, self.split, drawn)
                self.tracker.finish(tags=tags, metrics=answer.statistics if answer else {}, artifacts=Path(folder))
        if reused:
            sentences = [
                *sentences,
                f"{len(reused)} of {len(self.models)} models were there already and were reused.",
            ]
        show(table, sentences, self.tracker.parent)

    def fail(self, reason: str, status: str = "FAILED") -> None:
        """End the study without a verdict; what is finished stays."""
        if self.tracker is not None:
            self.tracker.fail(reason, status)

    def _sweep(
        self,
        role: str,
        sources: dict[int, ModelRecord | None],
        temperatures: tuple[float, ...],
        images: np.ndarray,
        part: str,
        hops: int,
    ) -> Sweep:
        """Give the models of a role: those that are there, and those that are trained now."""
        jobs = [
            self._job(role, seed, temperature, source, temperatures, part)
            for seed, source in sources.items()
            for temperature in temperatures
        ]
        there = {job.fingerprint: self._known[job.fingerprint] for job in jobs if job.fingerprint in self._known}
        missing = [job for job in jobs if job.fingerprint not in there]
        self.plan.add(role, len(images), len(jobs), len(missing))
        if missing and self.settings.dry_run:
            there |= {job.fingerprint: self._planned(role, job) for job in missing}
        elif missing:
            there |= self._train_missing(role, jobs, missing, there, images, part)
        found = [there[job.fingerprint] for job in jobs]
        self.models += [record for record in found if record not in self.models]
        self.reporter.say(_told(role, found, part))
        return Sweep(tuple(found), hops)

    def _train_missing(
        self,
        role: str,
        jobs: list[_Job],
        missing: list[_Job],
        there: dict[str, ModelRecord],
        images: np.ndarray,
        part: str,
    ) -> dict[str, ModelRecord]:
        """Train and commit what is missing; what comes one by one is committed one by one."""
        recipe = self.settings.recipes[role]
        stacked = recipe.architecture.family in STACKED
        seeds = _fleets(missing, there) if stacked else ()
        chosen = [job for job in jobs if job.seed in seeds] if stacked else missing
        # Of the seeds to train those that are in this study; what was trained together is told on every run.
        seeds = tuple(seed for seed in seeds if any(job.seed == seed for job in chosen))
        groups = [
            Group(
                seed=seed,
                temperatures=tuple(job.temperature for job in chosen if job.seed == seed),
                source_logits=self._source_logits(_source_of(jobs, seed), images, part),
                own_order=self.settings.order == "own",
            )
            for seed in dict.fromkeys(job.seed for job in chosen)
        ]
        wanted = {(job.seed, job.temperature): job for job in missing}
        committed = {}
        with self.reporter.bar(f"train {len(chosen)} x {role}") as bar:
            trained = train(
                role,
                recipe,
                groups,
                self._images(images),
                self._images(self.split.validation),
                len(self.data.classes),
                self._statistics,
                self.loss,
                device=self.device,
                progress=bar,
            )
            for batch in [list(trained)] if stacked else ([one] for one in trained):
                batch = [one for one in batch if (one.seed, one.temperature) in wanted]
                for job, record in self._commit(role, batch, wanted, seeds, Trainset(images, part)):
                    committed[job.fingerprint] = record
        return committed

    def _commit(
        self,
        role: str,
        batch: list[Trained],
        wanted: dict[tuple[int, float], _Job],
        fleet: tuple[int, ...],
        trainset: Trainset,
    ) -> Iterator[tuple[_Job, ModelRecord]]:
        """Evaluate trained models together and log each."""
        nets = [self._net(role, one.state) for one in batch]
        val = compute_logits(nets, self._pixels(self.split.validation), self.device)
        test = compute_logits(nets, self._pixels(self.split.test), self.device)
        finished = time.time()
        with self.reporter.bar(f"log {len(batch)} x {role}") as bar:
            for number, one in enumerate(batch):
                job = wanted[one.seed, one.temperature]
                record = replace(
                    self._planned(role, job),
                    metrics=self._metrics(one, val[number], test[number], job.source),
                    fleet=fleet,
                )
                outcome = Outcome(record, one, job.fingerprint, job.source, trainset, finished)
                stored = self.tracker.commit(outcome, nets[number])
                self._weights[stored.uri] = one.state
                bar(number + 1, len(batch))
                yield job, stored

    def _metrics(self, one: Trained, val: Tensor, test: Tensor, source: ModelRecord | None) -> dict[str, float]:
        on_val = measure(val, self._labels(self.split.validation))
        on_test = measure(test, self._labels(self.split.test))
        metrics = {
            "val_accuracy": on_val["accuracy"],
            "val_nll": on_val["nll"],
            **{f"test_{name}": value for name, value in on_test.items()},
            "train_loss": one.train_loss[-1],
            "train_seconds": one.seconds,
        }
        if source is not None:
            metrics["source_agreement"] = agreement(test, self._logits_of(source, self.split.test, "test"))
        return metrics

    def _job(
        self,
        role: str,
        seed: int,
        temperature: float,
        source: ModelRecord | None,
        fleet: tuple[float, ...],
        part: str,
    ) -> _Job:
        recipe, settings = self.settings.recipes[role], self.settings
        # On hard labels neither the source nor the soft term reaches the weights.
        source = source if temperature != HARD else None
        chain = f"{source.chain}>{role}" if source else role
        soft = {"source": source.weights, "alpha": settings.alpha, "t_squared": settings.t_squared} if source else {}
        digest = fingerprint(
            role=role,
            seed=seed,
            temperature=temperature,
            recipe=recipe.as_dict(),
            split=self.split.digest,
            part=part,
            order=settings.order,
            soft=soft,
            fleet=fleet if recipe.architecture.family in STACKED else None,
            code=code_digest(),
            torch=torch.__version__,
            threads=torch.get_num_threads(),
            device=self.device,
        )
        return _Job(seed, temperature, source, chain, digest)

    def _planned(self, role: str, job: _Job) -> ModelRecord:
        """Give the record of a model before it is trained."""
        recipe = self.settings.recipes[role]
        shape, classes = self.data.shape, len(self.data.classes)
        return ModelRecord(
            role=role,
            seed=job.seed,
            temperature=job.temperature,
            chain=job.chain,
            source=job.source.uri if job.source else LABELS,
            uri="",
            params={
                "dataset": self.data.name,
                "architecture": str(recipe.architecture),
                "parameters": str(recipe.architecture.parameters(shape, classes)),
                "flops": str(recipe.architecture.flops(shape, classes)),
                "alpha": f"{self.settings.alpha:g}",
                "t_squared": str(self.settings.t_squared).lower(),
                "epochs": str(recipe.epochs),
                "batch_size": str(recipe.batch_size),
                "learning_rate": f"{recipe.learning_rate:g}",
                "weight_decay": f"{recipe.weight_decay:g}",
                "order": self.settings.order,
                "transfer": self.settings.transfer,
                "split_seed": str(self.settings.split_seed),
            },
        )

    def _setting(self) -> str:
        """Say in a sentence on what the study's numbers rest."""
        s, parts = self.settings, self.split
        return (
            f"{self.data.name}: {self.data.notes} Teacher {len(parts.teacher)}, transfer "
            f"{len(parts.hop(0))}, validation {len(parts.validation)}, test {len(parts.test)} images; "
            f"transfer={s.transfer}, alpha={s.alpha:g}, t_squared={str(s.t_squared).lower()}, "
            f"chosen on {s.select_on}; seeds {s.seed} to {s.seed + s.seeds - 1}, split {parts.digest[:12]}."
        )

    def _source_logits(self, source: ModelRecord | None, images: np.ndarray, part: str) -> Tensor | None:
        return None if source is None else self._logits_of(source, images, part)

    def _logits_of(self, record: ModelRecord, rows: np.ndarray, part: str) -> Tensor:
        """Give a model's logits on a part of the data, computed once a model and part."""
        key = (record.weights, part)
        if key not in self._outputs:
            net = self._net(record.role, self._weights_of(record))
            self._outputs[key] = compute_logits([net], self._pixels(rows), self.device)[0]
        return self._outputs[key]

    def _weights_of(self, record: ModelRecord) -> dict[str, Tensor]:
        if record.uri not in self._weights:
            self._weights[record.uri] = self.tracker.load_weights(record)
        return self._weights[record.uri]

    def _net(self, role: str, state: dict[str, Tensor]) -> Classifier:
        architecture = self.settings.recipes[role].architecture
        net = build(architecture, self.data.shape, len(self.data.classes), *self._statistics)
        net.load_state_dict(state)
        return net.eval()

    def _images(self, rows: np.ndarray) -> Images:
        return Images(self._pixels(rows), self._labels(rows))

    def _labels(self, rows: np.ndarray) -> Tensor:
        return torch.from_numpy(np.array(self.data.labels[rows]))

    def _pixels(self, rows: np.ndarray) -> Tensor:
        return torch.from_numpy(np.array(self.data.images[rows]))


def _fleets(missing: Sequence[_Job], there: Mapping[str, ModelRecord]) -> tuple[int, ...]:
    """Give the seeds whose fleets are to be trained in one pass.

    A fleet's last bits depend on all that is trained in its pass. So where a pass was cut off after some of its
    models were committed, it is trained again whole, and only what is missing is committed: the result is that
    of a pass that was never cut off. Seeds that another study finished are left out.
    """
    seeds = {job.seed for job in missing}
    cut_off = [set(record.fleet) for record in there.values() if seeds & set(record.fleet)]
    return tuple(sorted(seeds.union(*cut_off)))


def _source_of(jobs: Sequence[_Job], seed: int) -> ModelRecord | None:
    return next((job.source for job in jobs if job.seed == seed and job.source is not None), None)


def _device(name: str) -> str:
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        from kdops.errors import UsageError

        raise UsageError("device", name, "no CUDA device is at hand; use cpu or auto")
    return name


def _fitted(uris: Sequence[str], limit: int = 7900) -> str:
    """Join URIs into a tag; MLflow's tags end at 8,000 characters, and ``results.csv`` has them all."""
    text = " ".join(uris)
    return text if len(text) <= limit else f"{text[:limit].rsplit(' ', 1)[0]} ..."


def _told(role: str, found: Sequence[ModelRecord], part: str) -> str:
    reused = sum(record.reused for record in found)
    accuracies = [record.metrics["test_accuracy"] for record in found if "test_accuracy" in record.metrics]
    score = f", test accuracy {min(accuracies):.4f} to {max(accuracies):.4f}" if accuracies else ""
    again = f", {reused} of them reused" if reused else ""
    return f"{len(found)} {role} model{'s' if len(found) != 1 else ''} on the {part}{again}{score}"
