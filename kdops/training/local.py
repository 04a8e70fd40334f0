"""Where units are trained and measured: the only place that turns rows of a data set into tensors."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import psutil
import torch
from torch import Tensor
from torch.nn import Module

from kdops.config.architectures import Architecture, parse_architecture
from kdops.config.roles import streams_of
from kdops.data.memmap import Pixels, load_rows
from kdops.distillation.method import Method, build_method
from kdops.distillation.sources import KEPT_BYTES, Kept, Live, Mixture, averaged
from kdops.errors import UsageError
from kdops.models.classifier import Classifier, build, pixel_statistics
from kdops.models.size import network_size
from kdops.models.taps import EMBEDDING, check_taps, features_of
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
        split = context.split
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
        return other

    def _logits_for(self, plans: Sequence[TrialPlan], source: Model, rows: np.ndarray, what: str) -> Tensor:
        """Return the source's logits for trials: ``[N, classes]``, of several sources ``[trials, N, classes]``."""
        if not isinstance(self.net(source), Mixture):
            return self._logits_of(source, rows, what)
        return torch.stack([self._logits_at(source, rows, what, plan.temperature) for plan in plans])

    def _logits_at(self, source: Model, rows: np.ndarray, part: str, temperature: float) -> Tensor:
        """Return what several sources give together at a temperature; on hard labels it has no part."""
        key, net = (source.weights, part, "each"), self.net(source)
        assert isinstance(net, Mixture)
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
        context, task = self.context, units[0].task
        method = build_method(task.method)
        groups, ordered = self._groups(units, rows, method)

        def checkpoint_of(members: Sequence[int]) -> Checkpoint | None:
            own = [ordered[number] for number in members]
            return self.checkpoints.of(digest_of_pass(own)) if self.checkpoints else None

        passes = train_passes(
            streams_of(task.role),
            context.settings.recipes[task.role],
            groups,
            self._images(rows),
            self._images(context.split.validation),
            len(context.data.classes),
            self.statistics,
            method,
            device=context.device,
            progress=progress,
            checkpoint_of=checkpoint_of,
        )
        for batch in passes:
            own = [ordered[one.number] for one in batch]
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
        **options: Any,
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

    def adopt(self, record: Model, net: Module) -> None:
        """Use a network that kdops did not build as that of a model."""
        self.foreign[record.uri] = net

    def keep(self, record: Model, weights: dict[str, Tensor]) -> None:
        """Keep the weights of a model that was just stored, since it may be a source next."""
        self._weights[record.uri] = weights

    def _measured(self, batch: Sequence[Trained], units: Sequence[Unit]) -> list[Measured]:
        split, device, finished = self.context.split, self.context.device, time.time()
        architecture = self.context.architecture_of(units[0].task.role)
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
            **{f"loss_{name}": values[-1] for name, values in one.terms.items() if not math.isnan(values[-1])},
        }
        if unit.source is not None:
            metrics["source_agreement"] = agreement(test, self._logits_of(unit.source, split.test, "test images"))
        return metrics

    def _groups(self, units: Sequence[Unit], rows: np.ndarray, method: Method) -> tuple[list[Group], list[Unit]]:
        """Return the groups that units are trained in, and the units in the order of the groups' members."""
        groups: list[Group] = []
        ordered: list[Unit] = []
        task = units[0].task
        # Members that learn predictions have other labels than the rest of their replicate, hence a group of their own.
        for seed, predicted in dict.fromkeys((unit.record.seed, unit.learns_predictions) for unit in units):
            own = [unit for unit in units if (unit.record.seed, unit.learns_predictions) == (seed, predicted)]
            ordered += own
            # All that learn from a source learn from the same one; what learns from labels has none.
            source = next((unit.source for unit in own if unit.source is not None), None)
            kept = None if source is None else self._logits_of(source, rows, task.part)
            labels = kept.argmax(dim=1) if predicted and kept is not None else None
            temperatures = tuple(unit.record.temperature for unit in own)
            apart = task.order == "own"
            if source is None or kept is None:
                groups.append(Group(seed, temperatures, None, apart, labels))
            elif isinstance(self.net(source), Mixture):
                # What several sources give together is another thing at each temperature.
                _refuse_features(source, method, predicted)
                for t in temperatures:
                    groups.append(Group(seed, (t,), Kept(self._logits_at(source, rows, task.part, t)), apart, labels))
            else:
                taps = () if predicted else method.needs.source
                groups.append(Group(seed, temperatures, self._source(source, rows, task.part, taps), apart, labels))
        return groups, ordered

    def _source(self, record: Model, rows: np.ndarray, part: str, taps: Sequence[str]) -> Kept | Live:
        """Return a source's logits for some images, and its features, which are kept or live by their size.

        Raises:
            UsageError: the source is no network of kdops, or lacks a tap.
        """
        logits, net = self._logits_of(record, rows, part), self.net(record)
        if not taps:
            return Kept(logits)
        if not isinstance(net, Classifier):
            raise _logits_only(record)
        check_taps(net, taps, "source")
        pixels = self._pixels(rows)
        one = features_of(net, pixels[torch.zeros(1, dtype=torch.long)], taps)
        if 4 * len(rows) * sum(own.numel() for tap, own in one.items() if tap != EMBEDDING) > KEPT_BYTES:
            device = self.context.device
            # A copy: the network itself is asked for on the CPU.
            moved, seen = copy.deepcopy(net).to(device), pixels.to(device)
            return Live(logits, lambda chosen: features_of(moved, seen[chosen], taps))
        return Kept(logits, {tap: self._features_of(record, rows, part, tap) for tap in taps})

    @torch.no_grad()
    def _features_of(self, record: Model, rows: np.ndarray, part: str, tap: str, block: int = 512) -> Tensor:
        """Return a source's features on some images, computed once for each model, part and tap."""
        key = (record.weights, part, tap)
        if key not in self._outputs:
            net, pixels = self.net(record), self._pixels(rows)
            assert isinstance(net, Classifier)
            with num_threads(process_threads()), malloc_keeps_pages():
                parts = [features_of(net, pixels[i : i + block], (tap,))[tap] for i in range(0, len(rows), block)]
            self._outputs[key] = torch.cat(parts)
        return self._outputs[key]

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
        nets = [net for net in map(self.net, records) if isinstance(net, Classifier)]
        if len(nets) < len(records):
            raise ValueError("the models must all be networks that kdops built")
        with num_threads(process_threads()):
            return compute_logits(nets, self._pixels(rows), self.context.device)

    def metrics_of(self, net: Module) -> dict[str, float]:
        """Measure a network that kdops did not build, on the validation and the test images."""
        found: dict[str, float] = {}
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

    def _pixels(self, rows: np.ndarray) -> Pixels:
        return load_rows(self.context.data.images, rows, psutil.virtual_memory().available)


def _logits_only(record: Model) -> UsageError:
    return UsageError(
        "method", record.uri, "this source has logits only, for it is no network of kdops; a method of logits fits it"
    )


def _refuse_features(record: Model, method: Method, predicted: bool) -> None:
    if method.needs.source and not predicted:
        raise _logits_only(record)
