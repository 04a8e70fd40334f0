"""The company method ``adversarial``: nets learn from each other's outputs, and to have each other's last maps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from kdops.distillation.company import Turn
from kdops.distillation.peer_maps import PeerMaps

SLOPE = 0.2
"""Of the leaky ReLU below zero."""


@dataclass(frozen=True)
class AdversarialMaps(PeerMaps):
    r"""The loss of ``mutual``, by one optimizer, and by another one maps that a discriminator takes for another net's.

    For net k and a net j that it learns from, with last maps F, a discriminator D and a 1x1 convolution r where their
    channels differ:

    .. math:: L_D = (1 - D(F_j))^2 + D(r(F_k))^2, \qquad L_k = (1 - D(r(F_k)))^2

    means over the map and the batch. D is a convolution, batch normalization, leaky ReLU, a convolution and a sigmoid;
    it and r are dropped from what is stored.

    Reference: Chung, Park, Kim and Kwak, "Feature-map-level Online Adversarial Knowledge Distillation", ICML 2020.
    """

    def loss(self, own: Tensor, other: Tensor, place: int, modules: nn.ModuleDict) -> Tensor:
        """Return how far the discriminator of the pair is from taking the net's map for the other's."""
        judge = list(modules["judges"].children())[place]
        return (1 - judge(own)).square().mean()

    def beside(self, shapes: Sequence[tuple[int, ...]]) -> nn.ModuleDict:
        """Return the convolution of each pair, and its discriminator."""
        found = super().beside(shapes)
        found["judges"] = nn.ModuleList(_judge(shapes[other][0]) for _, other in self.pairs(len(shapes)))
        return found

    def turns(self) -> tuple[Turn, ...]:
        """Return the step of the discriminators, and that of the nets against them."""
        # Of two images at least, since a discriminator normalizes by the batch.
        judges = Turn("discriminators", self.judged, ("judges",), nets=False, rate=self.rate, decay=self.decay, least=2)
        return (judges, *super().turns())

    def judged(self, maps: Sequence[Tensor], modules: nn.ModuleDict) -> Tensor:
        """Return the loss of all discriminators, one value."""
        pairs = self.transferred([one.detach() for one in maps], modules)
        losses = []
        for (_, fake, real), judge in zip(pairs, modules["judges"].children(), strict=True):
            losses.append((1 - judge(real)).square().mean() + judge(fake.detach()).square().mean())
        return torch.stack(losses).sum()


def _judge(channels: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(channels, channels, 3, padding=1),
        nn.BatchNorm2d(channels),
        nn.LeakyReLU(SLOPE),
        nn.Conv2d(channels, 1, 3, padding=1),
        nn.Sigmoid(),
    )
