"""What trained networks predict, and how good that is. Nothing here trains or logs."""

from __future__ import annotations

import copy
from collections.abc import Sequence

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

__all__ = ["agreement", "compute_logits", "expected_calibration_error", "measure", "measure_members"]


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


def measure(logits: Tensor, labels: Tensor) -> dict[str, float]:
    """Measure one network.

    Args:
        logits: ``[N, classes]``.
        labels: ``[N]`` class numbers.

    Returns:
        ``accuracy``; ``balanced_accuracy``, the mean recall of the classes that occur; ``nll``, the mean
        negative log-likelihood in nats; ``ece``, see :func:`expected_calibration_error`.
    """
    right = logits.argmax(dim=1) == labels
    count = torch.bincount(labels, minlength=logits.shape[1])
    recall = torch.bincount(labels, weights=right.double(), minlength=logits.shape[1])[count > 0] / count[count > 0]
    return {
        "accuracy": right.double().mean().item(),
        "balanced_accuracy": recall.mean().item(),
        "nll": F.cross_entropy(logits.double(), labels).item(),
        "ece": expected_calibration_error(logits, labels),
    }


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
