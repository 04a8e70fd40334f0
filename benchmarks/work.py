"""What the training benchmarks train: the paper's students and teacher in the shapes of GTSRB."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from benchmarks.passes import train
from kdops.config.datasets import DATASETS
from kdops.config.recipes import Recipe
from kdops.distillation.logits import LogitDistillation
from kdops.distillation.sources import Kept
from kdops.models.classifier import Classifier, build, pixel_statistics
from kdops.training.trainer import Group, Images, PassInputs, Trained
from kdops.utils.random import named_generator

__all__ = [
    "CLASSES",
    "SHAPE",
    "TEMPERATURES",
    "Work",
    "everything",
    "flops_of_forward",
    "flops_of_student",
    "flops_of_teacher",
    "fresh",
    "prepare",
    "sweep",
]

SHAPE, CLASSES = (3, 32, 32), 43
TEMPERATURES = tuple(float(t) for t in range(1, 30))
VALIDATION = 0.1


@dataclass(frozen=True, eq=False)
class Work:
    """Images, and what a source says of them.

    Attributes:
        images: trained on.
        validation: measured after the epoch.
        statistics: mean and deviation of each channel.
        source: the teacher, untrained: its speed is the same.
        source_logits: what it gives for ``images``, ``[N, classes]``.
        what: which images these are.
        device: where all of it lies.
    """

    images: Images
    validation: Images
    statistics: tuple[Tensor, Tensor]
    source: Classifier
    source_logits: Tensor
    what: str
    device: str

    def recipe(self, role: str = "student", **changes: object) -> Recipe:
        """Return the recipe of a role on GTSRB, for one epoch."""
        return DATASETS["gtsrb"].recipes[role].replace(epochs=1, **changes)

    def inputs(self, role: str = "student") -> PassInputs:
        """Return what a pass of a role is given."""
        return PassInputs(role, self.images, self.validation, CLASSES, self.statistics, self.device)

    def cut(self, count: int) -> Work:
        """Return the same with the first images only."""
        images = Images(self.images.pixels[:count], self.images.labels[:count])
        values = {**self.__dict__, "images": images, "source_logits": self.source_logits[:count]}
        return Work(**values)


def prepare(count: int, device: str = "cpu", logits: bool = False) -> Work:
    """Make the work: GTSRB where ``KDOPS_DATA_ROOT`` has it, else random pixels of the same shape.

    Args:
        count: images to train on.
        device: where.
        logits: let the source really see the images, which takes minutes for many; else they are drawn.
    """
    pixels, labels, what = _real(count) if os.environ.get("KDOPS_DATA_ROOT") else _drawn(count)
    count = min(count, round(len(labels) / (1 + VALIDATION)))
    parts = (Images(pixels[rows].to(device), labels[rows].to(device)) for rows in (slice(count), slice(count, None)))
    return _work(*parts, what, device, logits)


def everything(transfer: str, device: str = "cpu") -> tuple[Work, Images]:
    """Return all of GTSRB that a teacher learns from with this transfer setting, and the test images."""
    from kdops.data import dataset as data
    from kdops.data.splits import make_split

    found = data.load("gtsrb")
    split = make_split(found, transfer, 0)
    images, validation, test = (
        Images(torch.from_numpy(np.array(found.images[rows])), torch.from_numpy(found.labels[rows])).to(device)
        for rows in (split.teacher, split.validation, split.test)
    )
    return _work(images, validation, f"all of GTSRB, transfer={transfer}", device), test


def _work(images: Images, validation: Images, what: str, device: str = "cpu", logits: bool = False) -> Work:
    statistics, count = pixel_statistics(images.pixels.cpu()), len(images.labels)
    source = build(
        DATASETS["gtsrb"].recipes["teacher"].architecture, SHAPE, CLASSES, *statistics, named_generator("benchmark")
    )
    source = source.to(device).eval()
    if logits:
        with torch.no_grad():
            given = torch.cat([source(part) for part in images.pixels.split(256)])
    else:
        given = 4 * torch.randn(count, CLASSES, generator=named_generator("benchmark", "logits")).to(device)
    return Work(images, validation, statistics, source, given, what, device)


def fresh(work: Work, recipe: Recipe, temperature: float, role: str = "student") -> Classifier:
    """Build a net that starts as kdops' own member of this temperature does."""
    words = ("init", role, 0, f"{temperature:g}")
    return build(recipe.architecture, SHAPE, CLASSES, *work.statistics, named_generator(*words)).to(work.device)


def sweep(
    work: Work, temperatures: Sequence[float] = TEMPERATURES, seeds: Sequence[int] = (0,), **changes: object
) -> list[Trained]:
    """Train students as kdops does: all temperatures of a seed in one pass, with kept source outputs."""
    groups = [Group(seed, tuple(temperatures), Kept(work.source_logits)) for seed in seeds]
    return list(train(work.recipe(**changes), groups, work.inputs(), LogitDistillation()))


def flops_of_student(hidden: int = 50) -> int:
    """Count the floating point operations of one training step of one image: two a multiply-add.

    The products of the forward pass, of the weights' gradients, and of the hidden layer's gradient; the images'
    own gradient is not needed and not counted, nor is anything that is no matrix product.
    """
    first, second = math.prod(SHAPE) * hidden, hidden * CLASSES
    return 2 * (2 * first + 3 * second)


def flops_of_forward(hidden: int = 50) -> int:
    """Count the floating point operations of one image's forward pass, as :func:`flops_of_student` does."""
    return 2 * (math.prod(SHAPE) * hidden + hidden * CLASSES)


def flops_of_teacher(work: Work) -> int:
    """Count the floating point operations of one training step of one image, as :func:`flops_of_student` does.

    Three times the forward pass, less the gradient of the images, which is not needed.
    """
    recipe = work.recipe("teacher")
    first = 2 * SHAPE[0] * 9 * recipe.architecture.filters * SHAPE[1] * SHAPE[2]
    return 3 * recipe.architecture.flops(SHAPE, CLASSES) - first


def _drawn(count: int) -> tuple[Tensor, Tensor, str]:
    many, stream = count + math.ceil(VALIDATION * count), named_generator("benchmark", "pixels")
    pixels = torch.randint(0, 256, (many, *SHAPE), dtype=torch.uint8, generator=stream)
    return pixels, torch.randint(0, CLASSES, (many,), generator=stream), f"{count} random images"


def _real(count: int) -> tuple[Tensor, Tensor, str]:
    from kdops.data import dataset as data
    from kdops.data.splits import make_split

    found = data.load("gtsrb")
    split = make_split(found, "disjoint", 0)
    count = min(count, len(split.transfers[0]))
    rows = np.concatenate([split.transfers[0][:count], split.validation[: math.ceil(VALIDATION * count)]])
    return torch.from_numpy(np.array(found.images[rows])), torch.from_numpy(found.labels[rows]), f"{count} of GTSRB"
