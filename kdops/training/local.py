"""Where units are trained and measured: the only place that turns rows of a data set into tensors."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import psutil
import torch
from torch import Tensor
from torch.nn import Module

from kdops.config.architectures import Architecture, parse_architecture
from kdops.config.roles import streams_of
from kdops.data.memmap import MappedImages, load_rows
from kdops.distillation.logits import DistillationLoss
from kdops.distillation.sources import Mixture, averaged
from kdops.errors import UsageError
from kdops.models.classifier import Classifier, build, pixel_statistics
from kdops.models.size import network_size
from kdops.sweeps.model import Model
from kdops.sweeps.unit import Context, Unit, digest_of_pass
from kdops.training.checkpoint import Checkpoint, Checkpoints
from kdops.training.evaluation import agreement, compute_logits, measure
from kdops.training.trainer import Group, Images, Trained, train_passes
from kdops.training.trials import TrialPlan, TrialResult, train_trials
from kdops.utils.hardware import num_threads, process_threads, with_threads
from kdops.utils.memory import malloc_keeps_pages

__all__ = ["LocalEngine", "Measured"]


@dataclass(frozen=True)
class Measured:
    """A trained unit.

    Attributes:
        unit: what was trained.
        net: its network.
        trained: its weights and its history.
        metrics: its final metrics.
        finished: when its training ended, in seconds since the epoch.
    """

    unit: Unit
    net: Classifier
    trained: Trained
    metrics: dict[str, float]
    finished: float


class LocalEngine:
    """Trains and measures the units of one study.

    Args:
        context: what the units share.
        load_weights: reads the weights of a stored model.
        load_program: reads a stored model as a program, which needs none of the code that it was written in.
        checkpoints: where long trainings are kept; None for nowhere.
    """

    def __init__(
        self,
        context: Context,
        load_weights: Callable[[Model], dict[str, Tensor]],
        load_program: Callable[[Model], Module],
        checkpoints: Checkpoints | None = None,
    ):
        self.context, self.load_weights, self.load_program = context, load_weights, load_program
        self.checkpoints = checkpoints
        settings, split = context.settings, context.split
        self.loss = DistillationLoss(settings.alpha, settings.t_squared)
        # Test and validation images have no part in the normalization.
        seen = np.union1d(split.teacher, np.concatenate(split.transfers))
        with num_threads(process_threads()):
            self.statistics = pixel_statistics(self._pixels(seen))
        self.foreign: dict[str, Module] = {}
        """The networks that kdops did not build, by URI."""
        self._weights: dict[str, dict[str, Tensor]] = {}
        self._outputs: dict[tuple[str, ...], Tensor] = {}

    def varied(self, context: Context) -> LocalEngine:
        """Return a bench for other settings of the same data and split, which shares what was computed."""
        other = copy.copy(self)
        other.context = context
        other.loss = DistillationLoss(context.settings.alpha, context.settings.t_squared)
        return other

    def _logits_for(self, plans: Sequence[TrialPlan], source: Model, rows: np.ndarray, what: str) -> Tensor:
        """Return the source's logits for trials: ``[N, classes]``, of several sources ``[trials, N, classes]``."""
        if not isinstance(self.net(source), Mixture):
            return self._logits_of(source, rows, what)
        return torch.stack([self._logits_at(source, rows, what, plan.temperature) for plan in plans])

    def _logits_at(self, source: Model, rows: np.ndarray, part: str, temperature: float) -> Tensor:
        """Return what several sources give together at a temperature; on hard labels it has no part."""
        key, net = (source.weights, part, "each"), self.net(source)
        if key not in self._outputs:
            self._outputs[key] = torch.stack([self._foreign_logits(member, rows).float() for member in net.members])
        return averaged(self._outputs[key], net.shares, temperature or 1.0)

    def example(self, role: str) -> Classifier:
        """Return a network of a role as it is before it is trained, to be exported by; its values mean nothing."""
        return self._build(self.context.architecture_of(role))

    def train(
        self, units: Sequence[Unit], rows: np.ndarray, progress: Callable[[int, int], None]
    ) -> Iterator[list[Measured]]:
        """Train units of one task, and give them measured, each batch as soon as it is done.

        Once the next batch is asked for the last one counts as stored: nobody goes on with its checkpoint any more.

        Args:
            units: seed by seed.
            rows: the images they are trained on.
            progress: see :func:`kdops.training.trainer.train_passes`.
        """
        # The number that the fingerprints report, whatever PyTorch itself makes of the machine.
        return with_threads(process_threads(), self._train(units, rows, progress))

    def _train(
        self, units: Sequence[Unit], rows: np.ndarray, progress: Callable[[int, int], None]
    ) -> Iterator[list[Measured]]:
        context, role = self.context, units[0].task.role
        by_place = {unit.place: unit for unit in units}

        def checkpoint_of(members: Sequence[tuple[int, float]]) -> Checkpoint | None:
            return self.checkpoints and self.checkpoints.of(digest_of_pass([by_place[place] for place in members]))

        passes = train_passes(
            streams_of(role),
            context.settings.recipes[role],
            self._groups(units, rows),
            self._images(rows),
            self._images(context.split.validation),
            len(context.data.classes),
            self.statistics,
            self.loss,
            device=context.device,
            progress=progress,
            checkpoint_of=checkpoint_of,
        )
        for batch in passes:
            own = [by_place[one.seed, one.temperature] for one in batch]
            yield self._measured(batch, own)
            if self.checkpoints:
                self.checkpoints.remove(digest_of_pass(own))

    def try_out(
        self,
        plans: Sequence[TrialPlan],
        role: str,
        seed: int,
        source: Model,
        rows: np.ndarray,
        what: str,
        **options: object,
    ) -> Iterator[tuple[int, TrialResult]]:
        """Train the trials of a search, judged on validation images alone.

        Args:
            plans: the trials.
            role: what they are.
            seed: of all of them.
            source: what they are distilled from.
            rows: the images they are trained on.
            what: the name of these images.
            **options: ``after_epoch`` and ``progress``, see :func:`kdops.training.trials.train_trials`.
        """
        results = train_trials(
            streams_of(role),
            plans,
            seed,
            self._logits_for(plans, source, rows, what),
            self._images(rows),
            self._images(self.context.split.validation),
            len(self.context.data.classes),
            self.statistics,
            device=self.context.device,
            **options,
        )
        return with_threads(process_threads(), results)

    def keep(self, record: Model, weights: dict[str, Tensor]) -> None:
        """Keep the weights of a model that was just stored, since it may be a source next."""
        self._weights[record.uri] = weights

    def _measured(self, batch: Sequence[Trained], units: Sequence[Unit]) -> list[Measured]:
        split, device, finished = self.context.split, self.context.device, time.time()
        architecture = self.context.architecture_of(units[0].record.role)
        nets = [self._net(architecture, one.state) for one in batch]
        val = compute_logits(nets, self._pixels(split.validation), device)
        test = compute_logits(nets, self._pixels(split.test), device)
        return [
            Measured(unit, net, one, self._metrics(unit, one, *logits), finished)
            for unit, net, one, *logits in zip(units, nets, batch, val, test, strict=True)
        ]

    def _metrics(self, unit: Unit, one: Trained, val: Tensor, test: Tensor) -> dict[str, float]:
        split = self.context.split
        on_val, on_test = measure(val, self._labels(split.validation)), measure(test, self._labels(split.test))
        metrics = {
            "val_accuracy": on_val["accuracy"],
            "val_nll": on_val["nll"],
            **{f"test_{name}": value for name, value in on_test.items()},
            "train_loss": one.train_loss[-1],
            "train_seconds": one.seconds,
        }
        if unit.source is not None:
            metrics["source_agreement"] = agreement(test, self._logits_of(unit.source, split.test, "test images"))
        return metrics

    def _groups(self, units: Sequence[Unit], rows: np.ndarray) -> list[Group]:
        groups, task = [], units[0].task
        # Who learns predictions has other labels than the rest of its replicate, and so a group of its own.
        for seed, predicted in dict.fromkeys((unit.record.seed, unit.learns_predictions) for unit in units):
            own = [unit for unit in units if (unit.record.seed, unit.learns_predictions) == (seed, predicted)]
            # All that learn from a source learn from the same one; who learns from labels has none.
            source = next((unit.source for unit in own if unit.source is not None), None)
            kept = None if source is None else self._logits_of(source, rows, task.part)
            labels = kept.argmax(dim=1) if predicted else None
            temperatures = tuple(unit.record.temperature for unit in own)
            if source is None or not isinstance(self.net(source), Mixture):
                groups.append(Group(seed, temperatures, kept, task.order == "own", labels))
                continue
            # What several sources give together is another thing at each temperature.
            for t in temperatures:
                soft = self._logits_at(source, rows, task.part, t)
                groups.append(Group(seed, (t,), soft, task.order == "own", labels))
        return groups

    def net(self, record: Model) -> Module:
        """Return the network of a stored model, in ``eval()``."""
        if record.uri in self.foreign:
            return self.foreign[record.uri]
        architecture = parse_architecture(record.params["architecture"])
        if record.uri not in self._weights:
            if not self._is_code_of(record, architecture):
                self.foreign[record.uri] = self.load_program(record)
                return self.foreign[record.uri]
            self._weights[record.uri] = self.load_weights(record)
        return self._net(architecture, self._weights[record.uri])

    def _is_code_of(self, record: Model, architecture: Architecture) -> bool:
        """Return whether the code that a stored model was written in is here and is still the same."""
        if architecture.is_counted:
            return True
        try:
            now = network_size(architecture, self.context.data.shape, len(self.context.data.classes)).code
        except UsageError:
            return False
        return now == record.params.get("code")

    def logits(self, records: Sequence[Model], rows: np.ndarray) -> Tensor:
        """Return the logits ``[models, images, classes]`` of stored models of one architecture on some images."""
        with num_threads(process_threads()):
            return compute_logits([self.net(record) for record in records], self._pixels(rows), self.context.device)

    def metrics_of(self, net: Module) -> dict[str, float]:
        """Measure a network that kdops did not build, on the validation and the test images."""
        found = {}
        for prefix, rows in (("val", self.context.split.validation), ("test", self.context.split.test)):
            told = measure(self._foreign_logits(net, rows), self._labels(rows))
            found |= {f"{prefix}_{name}": value for name, value in told.items()}
        return found

    @torch.no_grad()
    def _foreign_logits(self, net: Module, rows: np.ndarray, block: int = 512) -> Tensor:
        with num_threads(process_threads()), malloc_keeps_pages():
            return torch.cat([net(self._pixels(rows[i : i + block])) for i in range(0, len(rows), block)])

    def _logits_of(self, record: Model, rows: np.ndarray, part: str) -> Tensor:
        """Return a model's logits on some images, computed once for each model and part."""
        key = (record.weights, part)
        if key not in self._outputs:
            net = self.net(record)
            ours = isinstance(net, Classifier)
            self._outputs[key] = self.logits([record], rows)[0] if ours else self._foreign_logits(net, rows)
        return self._outputs[key]

    def _net(self, architecture: Architecture, state: dict[str, Tensor]) -> Classifier:
        net = self._build(architecture)
        net.load_state_dict(state)
        return net.eval()

    def _build(self, architecture: Architecture) -> Classifier:
        context = self.context
        return build(architecture, context.data.shape, len(context.data.classes), *self.statistics)

    def _images(self, rows: np.ndarray) -> Images:
        return Images(self._pixels(rows), self._labels(rows))

    def _labels(self, rows: np.ndarray) -> Tensor:
        return torch.from_numpy(np.array(self.context.data.labels[rows]))

    def _pixels(self, rows: np.ndarray) -> Tensor | MappedImages:
        return load_rows(self.context.data.images, rows, psutil.virtual_memory().available)
