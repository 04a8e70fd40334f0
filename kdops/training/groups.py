"""Labeled images, and the groups of members that see them in one order and learn from one source."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from kdops.config.recipe_settings import BALANCED
from kdops.config.recipes import Recipe
from kdops.data.memmap import Pixels
from kdops.distillation.labels import LabelLoss, PartialLabelLoss, TemperedLabelLoss, WeightedLabelLoss
from kdops.distillation.method import Outputs
from kdops.distillation.sources import Asked, Kept, KeptViews, Live

UNLABELED = -1
"""The class number of an image without a label."""


@dataclass(frozen=True)
class Images:
    """Labeled images: uint8 ``[N, C, H, W]``, in memory or in their file, and class numbers ``[N]``."""

    pixels: Pixels
    labels: Tensor

    def to(self, device: torch.device | str) -> Images:
        """Return the same images on another device."""
        return Images(self.pixels.to(device), self.labels.to(device))


@dataclass(frozen=True)
class PassInputs:
    """What a pass is given, whatever its members are and learn.

    Attributes:
        role: name of the random streams.
        images: what is trained on; every group sees all of them in every epoch.
        validation: measured after every epoch, never trained on.
        classes: number of classes.
        statistics: mean and standard deviation of each channel, see :class:`~kdops.models.classifier.Classifier`.
        device: where to train.
        keep_epochs: after these epochs, counted from 1, the weights are kept; 0 is before the first.
    """

    role: str
    images: Images
    validation: Images
    classes: int
    statistics: tuple[Tensor, Tensor]
    device: torch.device | str = "cpu"
    keep_epochs: tuple[int, ...] = ()

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of an image."""
        channels, height, width = self.images.pixels.shape[1:]
        return channels, height, width

    def there(self) -> PassInputs:
        """Return the same with its images on the device."""
        return replace(self, images=self.images.to(self.device), validation=self.validation.to(self.device))


@dataclass(frozen=True)
class Group:
    """Members that share a batch order and a source: one replicate of a sweep.

    Attributes:
        seed: the replicate.
        temperatures: one for each member; 0 means hard labels.
        source: the source's outputs for the training images; None where all members train on labels.
        own_order: draw the batch order from the temperature too.
        labels: the labels that the group learns, class numbers ``[N]``; None for the images' own.
        bootstrap: learn from a sample of the images, as large as they are and drawn with replacement (Breiman, "Bagging
            Predictors", 1996); drawn by the seed, and where the order is by the temperature too.
        head: the source's last layer, which those at T > 0 reuse; empty where none does.
    """

    seed: int
    temperatures: tuple[float, ...]
    source: Kept | Live | KeptViews | Asked | None = None
    own_order: bool = False
    labels: Tensor | None = None
    head: Mapping[str, Tensor] = field(default_factory=dict)
    bootstrap: bool = False

    def apart(self) -> list[Group]:
        """Return one group for each member."""
        return [replace(self, temperatures=(temperature,)) for temperature in self.temperatures]


def batches_of(count: int, size: int, alone: bool) -> list[slice]:
    """Return the batches of an epoch; unless one image may stand alone, a last single one joins those before it."""
    starts = list(range(0, count, size))
    if not alone and len(starts) > 1 and count - starts[-1] == 1:
        starts.pop()
    return [slice(start, stop) for start, stop in zip(starts, [*starts[1:], count], strict=True)]


def label_loss(recipes: Sequence[Recipe], learned: Sequence[Tensor], classes: int) -> LabelLoss:
    """Return the loss of the labels for members, each with its own smoothing, temperature and weights of the classes.

    A balanced weight is N / (classes that are there * images of the class): 1 in the mean over the N labels. Where some
    images have no label, the loss of the others is weighted so that its mean over all images is that over those with
    one.

    Args:
        recipes: of each member; classes are weighted as the first one says.
        learned: the labels that each member learns, class numbers ``[N]``, ``UNLABELED`` where there is none.
    """
    smoothing, balanced = [own.label_smoothing for own in recipes], recipes[0].class_weights == BALANCED
    found, device = LabelLoss(), learned[0].device
    if balanced or any(smoothing):
        weights = torch.ones(len(recipes), classes, device=device)
        if balanced:
            weights = torch.stack([_balanced(own[own >= 0].bincount(minlength=classes)) for own in learned])
        found = WeightedLabelLoss(torch.tensor(smoothing, device=device), weights)
    temperatures = torch.tensor([own.train_temperature for own in recipes], device=device)
    found = found if bool((temperatures == 1).all()) else TemperedLabelLoss(found, temperatures)
    known = torch.stack([(labels >= 0).sum() for labels in learned])
    total = len(learned[0])
    return found if bool((known == total).all()) else PartialLabelLoss(found, total / known)


def _balanced(counts: Tensor) -> Tensor:
    """Return the weight of each class, of the number of its images; 0 where there are none."""
    return torch.where(counts > 0, counts.sum() / ((counts > 0).sum() * counts.clamp_min(1)), 0.0)


def for_members(by_group: Sequence[Tensor], sizes: Sequence[int]) -> Tensor:
    """Repeat each group's ``[B, ...]`` for its members: ``[M, B, ...]``."""
    repeated = [part.expand(size, *part.shape) for part, size in zip(by_group, sizes, strict=True)]
    return repeated[0] if len(repeated) == 1 else torch.cat(repeated)


def joined(by_group: Sequence[Outputs], sizes: Sequence[int]) -> Outputs:
    """Repeat each group's outputs for its members."""
    logits = for_members([one.logits for one in by_group], sizes)
    taps = by_group[0].features
    return Outputs(logits, {tap: for_members([one.features[tap] for one in by_group], sizes) for tap in taps})
