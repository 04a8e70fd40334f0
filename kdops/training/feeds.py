"""What the members of each group are given while they are trained: images or views of them, and source outputs."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from kdops.config.augmentation import LIVE, NONE
from kdops.config.recipes import Recipe
from kdops.data.memmap import Pixels
from kdops.data.views import Views
from kdops.distillation.method import Method, Outputs
from kdops.distillation.sources import Asked, Kept, KeptViews, Live, Reordered
from kdops.models.classifier import Classifier
from kdops.sweeps.model import COPY_SEEDS
from kdops.training.groups import Group, Images
from kdops.utils.random import named_generator


class Feed:
    """What the members of a group are given while they are trained, on the device.

    Args:
        role: name of the random streams.
        method: what those at T > 0 learn; it defines which image's source outputs each image is given.
        labels: the images' own labels, on the device.
        has_source: whether the group's source is learned from; hard labels alone need none.

    Attributes:
        size: how many members the group has.
        order: draws the order of the images, once an epoch.
        sample: the rows of the images that are learned from, ``[N]``; None for all of them.
    """

    def __init__(self, role: str, group: Group, method: Method, labels: Tensor, has_source: bool):
        own = (f"{group.temperatures[0]:g}",) if group.own_order else ()
        self.size, self.order = len(group.temperatures), named_generator("order", role, group.seed, *own)
        self.sample: Tensor | None = None
        if group.bootstrap:
            stream = named_generator("bootstrap", role, group.seed, *own)
            self.sample = torch.randint(len(labels), (len(labels),), generator=stream)
        self.labels = labels if group.labels is None else group.labels.to(labels.device)
        self.source: Kept | Live | KeptViews | Asked | None = None
        if group.source is not None and has_source:
            rows = method.rows(self.labels.cpu(), named_generator("rows", role, group.seed))
            self.source, self.given = group.source.to(labels.device), rows.to(labels.device)
            self.is_own = bool((rows == torch.arange(len(rows))).all())
            self._check()

    @property
    def learned(self) -> Tensor:
        """The labels that an epoch passes over, class numbers ``[N]``."""
        return self.labels if self.sample is None else self.labels[self.sample.to(self.labels.device)]

    def _check(self) -> None:
        """Refuse outputs for views where the images themselves are seen. Raises ValueError if they are."""
        if not isinstance(self.source, Kept | Live):
            raise ValueError("the source's outputs are for views, and the images themselves are seen")

    def enter(self, epoch: int) -> None:
        """Begin an epoch, counted from 0."""

    def seen(self, rows: Tensor, pixels: Pixels) -> Tensor:
        """Return what the members see of some images, given by their rows ``[B]`` in ``pixels``."""
        return pixels[rows]

    def mixed(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return the labels of what some images are mixed with, ``[B]``, and the share that each keeps, ``[B]``."""
        return self.labels[rows], torch.ones(len(rows), device=self.labels.device)

    def outputs(self, rows: Tensor, seen: Tensor) -> Outputs:
        """Return the source's outputs ``[B, ...]`` for some images as the members see them."""
        return self.own_source.at(rows)

    def logits(self, rows: Tensor, seen: Tensor) -> Tensor:
        """Return the source's logits alone."""
        return self.own_source.logits_at(rows)

    @property
    def own_source(self) -> Kept | Live | Reordered:
        """The source's outputs for each image that the method gives it."""
        assert isinstance(self.source, Kept | Live)
        return self.source if self.is_own else Reordered(self.source, self.given)

    def shuffled(self, count: int) -> Tensor:
        """Return the rows of the images in the order of the next epoch, ``[count]``."""
        order = torch.randperm(count, generator=self.order)
        return order if self.sample is None else self.sample[order]


class AugmentedFeed(Feed):
    """The feed of members that see views of their images.

    Args:
        role: as of a feed.
        method: what those at T > 0 learn.
        images: the images, on the device.
        has_source: as of a feed.
        recipe: how images are augmented, and how many views there are.

    Raises:
        ValueError: the source's outputs are not for these views.
    """

    def __init__(self, role: str, group: Group, method: Method, images: Images, has_source: bool, recipe: Recipe):
        self.views, self.count = Views(recipe.augment, images.pixels, group.seed % COPY_SEEDS), recipe.views
        super().__init__(role, group, method, images.labels, has_source)

    def _check(self) -> None:
        if isinstance(self.source, Asked):
            return
        found = (self.source.key, str(len(self.source.logits))) if isinstance(self.source, KeptViews) else ()
        if found != (self.views.key, self.count):
            raise ValueError(
                f"the source's outputs are not for the {self.count} views {self.views.key}, which are seen"
            )

    def enter(self, epoch: int) -> None:
        """Begin an epoch with its view."""
        self.views.enter(epoch if self.count == LIVE else epoch % int(self.count))

    def seen(self, rows: Tensor, pixels: Pixels) -> Tensor:
        """Return the view of some images."""
        return self.views.at(rows)

    def mixed(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return the labels of what some images are mixed with, and the share that each keeps."""
        others, shares = self.views.mixed(rows)
        return self.labels[others], shares

    def outputs(self, rows: Tensor, seen: Tensor) -> Outputs:
        """Return the source's logits for the view that the members see."""
        return Outputs(self.logits(rows, seen))

    def logits(self, rows: Tensor, seen: Tensor) -> Tensor:
        """Return the source's logits for the view that the members see."""
        if isinstance(self.source, KeptViews):
            return self.source.logits[self.views.view][self.given[rows]]
        assert isinstance(self.source, Asked)
        return self.source.compute(seen if self.is_own else self.views.at(self.given[rows]))


def asked_of(net: Classifier) -> Asked:
    """Return a network as a source that is asked about what students see, on the device where it lies."""
    net = net.to(memory_format=net.memory_format)

    @torch.no_grad()
    def asked(images: Tensor) -> Tensor:
        return net(images.contiguous(memory_format=net.memory_format))

    return Asked(asked)


def feeds_of(
    role: str, groups: Sequence[Group], method: Method, images: Images, has_source: bool, recipe: Recipe
) -> list[Feed]:
    """Return the feed of each group; the arguments are those of :class:`AugmentedFeed`."""
    if recipe.augment == NONE:
        return [Feed(role, group, method, images.labels, has_source) for group in groups]
    return [AugmentedFeed(role, group, method, images, has_source, recipe) for group in groups]


def seen_by(feeds: Sequence[Feed], chosen: Sequence[Tensor], pixels: Pixels, batches: int) -> list[Tensor]:
    """Return what the members of each feed see of their rows; where all share one batch, they see the same."""
    found = [feed.seen(rows, pixels) for feed, rows in zip(feeds[:batches], chosen[:batches], strict=True)]
    return found + found[-1:] * (len(feeds) - len(found))
