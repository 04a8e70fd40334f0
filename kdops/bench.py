"""Where units are trained and measured: the only place that turns rows of a data set into tensors."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from kdops.config import HARD
from kdops.evaluation import agreement, compute_logits, measure
from kdops.fleet import can_stack
from kdops.losses import DistillationLoss
from kdops.models import Classifier, build, pixel_statistics
from kdops.records import ModelRecord
from kdops.training import Group, Images, Trained, train
from kdops.units import Context, Unit

__all__ = ["Bench", "Measured"]


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


class Bench:
    """Trains and measures the units of one study.

    Args:
        context: what the units share.
        load_weights: reads the weights of a stored model.
    """

    def __init__(self, context: Context, load_weights: Callable[[ModelRecord], dict[str, Tensor]]):
        self.context, self.load_weights = context, load_weights
        settings, split = context.settings, context.split
        self.loss = DistillationLoss(settings.alpha, settings.t_squared)
        # Test and validation images have no part in the normalisation.
        seen = np.union1d(split.teacher, np.concatenate(split.transfers))
        self.statistics = pixel_statistics(self._pixels(seen))
        self._weights: dict[str, dict[str, Tensor]] = {}
        self._outputs: dict[tuple[str, str], Tensor] = {}

    def trains_together(self, role: str) -> bool:
        """Say whether a role's networks are trained as one fleet; others are trained one after another."""
        return can_stack(self._build(role))

    def train(
        self, role: str, units: Sequence[Unit], rows: np.ndarray, part: str, progress: Callable[[int, int], None]
    ) -> Iterator[list[Measured]]:
        """Train units of one role, and give them measured, each batch as soon as it is done.

        Args:
            role: their role.
            units: seed by seed.
            rows: the images they are trained on.
            part: the name of those images, by which a source's outputs are kept.
            progress: see :func:`kdops.training.train`.
        """
        context = self.context
        trained = train(
            role,
            context.settings.recipes[role],
            self._groups(units, rows, part),
            self._images(rows),
            self._images(context.split.validation),
            len(context.data.classes),
            self.statistics,
            self.loss,
            device=context.device,
            progress=progress,
        )
        by_place = {unit.place: unit for unit in units}
        for batch in [list(trained)] if self.trains_together(role) else ([one] for one in trained):
            yield self._measured(batch, [by_place[one.seed, one.temperature] for one in batch])

    def keep(self, record: ModelRecord, weights: dict[str, Tensor]) -> None:
        """Keep the weights of a model that was just stored, since it may be a source next."""
        self._weights[record.uri] = weights

    def _measured(self, batch: Sequence[Trained], units: Sequence[Unit]) -> list[Measured]:
        split, device, finished = self.context.split, self.context.device, time.time()
        nets = [self._net(unit.record.role, one.state) for unit, one in zip(units, batch, strict=True)]
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

    def _groups(self, units: Sequence[Unit], rows: np.ndarray, part: str) -> list[Group]:
        groups = []
        for seed in dict.fromkeys(unit.record.seed for unit in units):
            own = [unit for unit in units if unit.record.seed == seed]
            # All that learn from a source learn from the same one; who learns from labels has none.
            source = next((unit.source for unit in own if unit.record.temperature != HARD), None)
            kept = None if source is None else self._logits_of(source, rows, part)
            temperatures = tuple(unit.record.temperature for unit in own)
            groups.append(Group(seed, temperatures, kept, own_order=self.context.settings.order == "own"))
        return groups

    def _logits_of(self, record: ModelRecord, rows: np.ndarray, part: str) -> Tensor:
        """Give a model's logits on some images, computed once for each model and part."""
        key = (record.weights, part)
        if key not in self._outputs:
            if record.uri not in self._weights:
                self._weights[record.uri] = self.load_weights(record)
            net = self._net(record.role, self._weights[record.uri])
            self._outputs[key] = compute_logits([net], self._pixels(rows), self.context.device)[0]
        return self._outputs[key]

    def _net(self, role: str, state: dict[str, Tensor]) -> Classifier:
        net = self._build(role)
        net.load_state_dict(state)
        return net.eval()

    def _build(self, role: str) -> Classifier:
        context = self.context
        architecture = context.settings.recipes[role].architecture
        return build(architecture, context.data.shape, len(context.data.classes), *self.statistics)

    def _images(self, rows: np.ndarray) -> Images:
        return Images(self._pixels(rows), self._labels(rows))

    def _labels(self, rows: np.ndarray) -> Tensor:
        return torch.from_numpy(np.array(self.context.data.labels[rows]))

    def _pixels(self, rows: np.ndarray) -> Tensor:
        return torch.from_numpy(np.array(self.context.data.images[rows]))
