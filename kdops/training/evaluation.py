"""What trained networks predict, and how good that is. Nothing here trains or logs."""

from __future__ import annotations

import copy
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
from kdops.utils.memory import malloc_keeps_pages

__all__ = ["METRICS", "agreement", "compute_logits", "expected_calibration_error", "measure", "measure_members"]


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
    """

    compute: Callable[[Tensor, Tensor], float]
    parts: tuple[str, ...] = ("test",)
    of_vote: bool = False


def measure(logits: Tensor, labels: Tensor, part: str) -> dict[str, float]:
    """Return each metric of :data:`METRICS` that is measured on some part of the data, by ``<part>_<name>``.

    Args:
        logits: ``[N, classes]``.
        labels: ``[N]`` class numbers.
        part: ``val`` or ``test``.
    """
    return {f"{part}_{name}": one.compute(logits, labels) for name, one in METRICS.items() if part in one.parts}


def accuracy(logits: Tensor, labels: Tensor) -> float:
    """Return the share of images whose class is predicted."""
    return (logits.argmax(dim=1) == labels).double().mean().item()


def balanced_accuracy(logits: Tensor, labels: Tensor) -> float:
    """Return the mean recall of the classes that occur."""
    right = logits.argmax(dim=1) == labels
    count = torch.bincount(labels, minlength=logits.shape[1])
    recall = torch.bincount(labels, weights=right.double(), minlength=logits.shape[1])[count > 0] / count[count > 0]
    return recall.mean().item()


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
    "balanced_accuracy": Metric(balanced_accuracy, of_vote=True),
    "nll": Metric(negative_log_likelihood, ("val", "test")),
    "ece": Metric(expected_calibration_error),
}
"""What every trained network is measured by, by name."""


def agreement(logits: Tensor, source_logits: Tensor) -> float:
    """Return the share of images ``[N]`` on which both choose the same class (fidelity, Stanton et al., 2021)."""
    return (logits.argmax(dim=1) == source_logits.argmax(dim=1)).double().mean().item()


@torch.no_grad()
def measure_members(networks: JointNetworks, images: Images, with_nll: bool = False) -> dict[str, list[float]]:
    """Measure networks that are being trained, without dropout.

    Args:
        networks: the networks.
        images: what they are not trained on; as they are, or prepared by the networks.
        with_nll: measure the mean cross entropy with the labels too, in nats.

    Returns:
        ``val_accuracy`` and ``val_nll``, one value for each member.
    """
    networks.training = False
    right, nll, block = [], [], networks.most_images
    for start in range(0, len(images.labels), block):
        part, labels = images.pixels[start : start + block], images.labels[start : start + block]
        logits = networks.logits([part] * networks.batches)
        right.append((logits.argmax(dim=-1) == labels).sum(dim=1))
        if with_nll:
            each = F.cross_entropy(logits.flatten(0, 1), labels.repeat(len(logits)), reduction="none")
            nll.append(each.view(len(logits), -1).double().sum(dim=1))
    sums = {VAL_ACCURACY: right, VAL_NLL: nll}
    return {name: (torch.stack(own).sum(dim=0) / len(images.labels)).tolist() for name, own in sums.items() if own}
