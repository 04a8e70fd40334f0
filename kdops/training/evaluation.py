"""What trained networks predict, and how good that is. Nothing here trains or logs."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from kdops.data.memmap import Pixels
from kdops.models.classifier import Classifier
from kdops.sweeps.metrics import VAL_ACCURACY, VAL_NLL
from kdops.training.groups import Images
from kdops.training.joint import JointNetworks
from kdops.training.separate import SeparateModels
from kdops.training.stacked import StackedMLPs, can_stack
from kdops.utils.hardware import finest_float
from kdops.utils.memory import malloc_keeps_pages


@torch.no_grad()
def compute_logits(
    nets: Sequence[Classifier], images: Pixels, device: torch.device | str = "cpu", block: int = 512
) -> Tensor:
    """Compute the logits of networks of one architecture, in ``eval()`` (no dropout).

    Args:
        nets: the networks; dense ones are computed in one pass.
        images: uint8 ``[N, C, H, W]``.
        device: where to compute.
        block: images at a time, which bounds the memory.

    Returns:
        ``[M, N, classes]``, on the CPU.
    """
    engines: Sequence[JointNetworks]
    if can_stack(nets[0]):
        engines = [StackedMLPs([nets], device)]
    else:
        # On another device a copy is computed: the networks themselves are stored next, from the CPU.
        here = torch.device(device).type == "cpu"
        engines = [SeparateModels([[net if here else copy.deepcopy(net)]], device) for net in nets]
    rows = []
    with malloc_keeps_pages():
        for engine in engines:
            engine.training = False
            parts = [engine.logits([images[i : i + block].to(device)]).cpu() for i in range(0, len(images), block)]
            rows.append(torch.cat(parts, dim=1))
    return torch.cat(rows)


@dataclass(frozen=True)
class Metric:
    """What is measured of a trained network.

    Attributes:
        compute: from logits ``[N, classes]`` and class numbers ``[N]`` to the value.
        parts: the images that it is measured on, ``val`` and ``test``; a run has it as ``<part>_<name>``.
        of_vote: whether an ensemble has that of its majority vote; else that of its mean probability.
        classes: the number of classes that it is measured for; 0 for any.
    """

    compute: Callable[[Tensor, Tensor], float]
    parts: tuple[str, ...] = ("test",)
    of_vote: bool = False
    classes: int = 0


def measure(logits: Tensor, labels: Tensor, part: str) -> dict[str, float]:
    """Return each metric of :data:`METRICS` that is defined on some part of the data, by ``<part>_<name>``.

    Args:
        logits: ``[N, classes]``.
        labels: ``[N]`` class numbers.
        part: ``val`` or ``test``.
    """
    measured = {
        f"{part}_{name}": one.compute(logits, labels)
        for name, one in METRICS.items()
        if part in one.parts and one.classes in (0, logits.shape[1])
    }
    return {name: value for name, value in measured.items() if not math.isnan(value)}


def accuracy(logits: Tensor, labels: Tensor) -> float:
    """Return the share of images whose class is predicted."""
    return (logits.argmax(dim=1) == labels).double().mean().item()


def confusion(predicted: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Return how many images ``[N]`` of each class are predicted as each, ``[..., classes, classes]``, labels first.

    Args:
        predicted: class numbers ``[..., N]``.
        labels: class numbers ``[N]``.
    """
    cells = (labels * classes + predicted).view(-1, len(labels))
    places = cells + torch.arange(len(cells), device=cells.device)[:, None] * classes**2
    counts = torch.bincount(places.flatten(), minlength=len(cells) * classes**2)
    return counts.view(*predicted.shape[:-1], classes, classes)


def balanced_accuracy(counts: Tensor) -> Tensor:
    """Return the mean recall of the classes that occur, from confusion matrices ``[..., classes, classes]``."""
    images = counts.sum(dim=-1)
    recall = counts.diagonal(dim1=-2, dim2=-1).to(finest_float(counts.device)) / images.clamp(min=1)
    return recall.sum(dim=-1) / (images > 0).sum(dim=-1)


def macro_f1(counts: Tensor) -> Tensor:
    """Return the mean F1 score of the classes that occur or are predicted, from ``[..., classes, classes]``."""
    both = counts.sum(dim=-1) + counts.sum(dim=-2)
    scores = 2 * counts.diagonal(dim1=-2, dim2=-1).to(finest_float(counts.device)) / both.clamp(min=1)
    return scores.sum(dim=-1) / (both > 0).sum(dim=-1)


FROM_CONFUSION: dict[str, Callable[[Tensor], Tensor]] = {"balanced_accuracy": balanced_accuracy, "macro_f1": macro_f1}
"""What is computed from which classes are taken for which, by name."""


def _of_logits(name: str) -> Callable[[Tensor, Tensor], float]:
    """Return a metric of ``FROM_CONFUSION`` as one of logits ``[N, classes]`` and class numbers ``[N]``."""
    compute = FROM_CONFUSION[name]
    return lambda logits, labels: compute(confusion(logits.argmax(dim=1), labels, logits.shape[1])).item()


def area_under_curve(logits: Tensor, labels: Tensor) -> float:
    """Return the area under the ROC curve of two classes: how often an image of class 1 has the higher score.

    Source: Hanley and McNeil, "The meaning and use of the area under a receiver operating characteristic (ROC) curve",
    1982. Equal scores count as half; nan where a class does not occur.
    """
    scores = (logits[:, 1] - logits[:, 0]).double()
    _, group, sizes = scores.unique(return_inverse=True, return_counts=True)
    ranks = (sizes.cumsum(0).double() - (sizes - 1) / 2)[group]
    positive, count = labels == 1, (labels == 1).sum().item()
    pairs = count * (len(labels) - count)
    return (ranks[positive].sum().item() - count * (count + 1) / 2) / pairs if pairs else math.nan


def negative_log_likelihood(logits: Tensor, labels: Tensor) -> float:
    """Return the mean negative log-likelihood of the labels, in nats."""
    return F.cross_entropy(logits.double(), labels).item()


def expected_calibration_error(logits: Tensor, labels: Tensor, bins: int = 15) -> float:
    """Return the mean gap between confidence and accuracy over equal-width bins of confidence.

    Source: Guo et al., "On Calibration of Modern Neural Networks", 2017, equation (5), with 15 bins.

    Args:
        logits: ``[N, classes]``.
        labels: ``[N]`` class numbers.
        bins: number of bins of (0, 1].
    """
    confidence, predicted = torch.softmax(logits.double(), dim=1).max(dim=1)
    place = (confidence * bins).ceil().long().clamp(1, bins) - 1
    gap = torch.bincount(place, weights=(predicted == labels).double() - confidence, minlength=bins)
    return (gap.abs().sum() / len(labels)).item()


METRICS: dict[str, Metric] = {
    "accuracy": Metric(accuracy, ("val", "test"), of_vote=True),
    **{name: Metric(_of_logits(name), ("val", "test"), of_vote=True) for name in FROM_CONFUSION},
    "auc": Metric(area_under_curve, classes=2),
    "nll": Metric(negative_log_likelihood, ("val", "test")),
    "ece": Metric(expected_calibration_error),
}
"""What every trained network is measured by, by name."""


def agreement(logits: Tensor, source_logits: Tensor) -> float:
    """Return the share of images ``[N]`` on which both choose the same class (fidelity, Stanton et al., 2021)."""
    return (logits.argmax(dim=1) == source_logits.argmax(dim=1)).double().mean().item()


@torch.no_grad()
def measure_members(networks: JointNetworks, images: Images, more: bool = False) -> dict[str, list[float]]:
    """Measure networks that are being trained, without dropout.

    Args:
        images: what they are not trained on; as they are, or prepared by the networks.
        more: measure the mean cross entropy with the labels too, in nats, and what is computed from confusion.

    Returns:
        ``val_accuracy``, and with ``more`` ``val_nll`` and each of ``FROM_CONFUSION``, one value for each member.
    """
    networks.training = False
    right, nll, counts, block = [], [], [], networks.most_images
    for start in range(0, len(images.labels), block):
        part, labels = images.pixels[start : start + block], images.labels[start : start + block]
        logits = networks.logits([part] * networks.batches)
        predicted = logits.argmax(dim=-1)
        right.append((predicted == labels).sum(dim=1))
        if more:
            each = F.cross_entropy(logits.flatten(0, 1), labels.repeat(len(logits)), reduction="none")
            nll.append(each.view(len(logits), -1).to(finest_float(each.device)).sum(dim=1))
            counts.append(confusion(predicted, labels, logits.shape[-1]))
    sums = {VAL_ACCURACY: right, VAL_NLL: nll}
    found = {name: (torch.stack(own).sum(dim=0) / len(images.labels)).tolist() for name, own in sums.items() if own}
    whole = torch.stack(counts).sum(dim=0) if more else None
    return found | {f"val_{name}": own(whole).tolist() for name, own in FROM_CONFUSION.items() if whole is not None}
