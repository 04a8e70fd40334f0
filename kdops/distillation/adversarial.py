"""The company method ``adversarial``: nets learn from each other's outputs, and to have each other's last maps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from kdops.config.architectures import Architecture
from kdops.distillation.company import CompanyMethod, Turn, divergence_from_peers
from kdops.distillation.method import Step

SLOPE = 0.2
"""Of the leaky ReLU below zero."""


@dataclass(frozen=True)
class AdversarialMaps(CompanyMethod):
    r"""The loss of ``mutual``, by one optimizer, and by another one maps that a discriminator takes for another net's.

    For net k and a net j that it learns from, with last maps F, a discriminator D and a 1x1 convolution r where their
    channels differ:

    .. math:: L_D = (1 - D(F_j))^2 + D(r(F_k))^2, \qquad L_k = (1 - D(r(F_k)))^2

    means over the map and the batch. D is a convolution, batch normalization, leaky ReLU, a convolution and a sigmoid;
    it and r are dropped from what is stored. Net k learns from the net before it and the first from the last
    (``cyclic``), or each from all others.

    Reference: Chung, Park, Kim and Kwak, "Feature-map-level Online Adversarial Knowledge Distillation", ICML 2020.

    Attributes:
        weight: of the term ``peers``.
        temperature: T of the outputs.
        rate: highest learning rate of the second optimizer.
        decay: its decoupled weight decay, a step.
        cyclic: whether each net has one that it learns maps from.
    """

    weight: float = 1.0
    temperature: float = 3.0
    rate: float = 2e-5
    decay: float = 0.1
    cyclic: bool = True

    def terms(self, step: Step, modules: nn.Module) -> Mapping[str, Tensor]:
        """Return the term ``peers``, that of ``mutual``."""
        return {"peers": self.weight * divergence_from_peers(step)}

    def pairs(self, nets: int) -> list[tuple[int, int]]:
        """Return for each discriminator the net that is to deceive it, and the one whose maps are real."""
        if self.cyclic:
            return [(own, (own - 1) % nets) for own in range(nets)]
        return [(own, other) for own in range(nets) for other in range(nets) if other != own]

    def taps(self, nets: Sequence[Architecture]) -> tuple[str, ...]:
        """Return the last map of each net."""
        return tuple(f"stage{len(net.maps())}" for net in nets)

    def beside(self, shapes: Sequence[tuple[int, ...]]) -> nn.ModuleDict:
        """Return for each pair the convolution r, or nothing in its place, and the discriminator."""
        pairs = [(shapes[own][0], shapes[other][0]) for own, other in self.pairs(len(shapes))]
        transfers = nn.ModuleList(nn.Identity() if own == other else nn.Conv2d(own, other, 1) for own, other in pairs)
        return nn.ModuleDict({"transfers": transfers, "judges": nn.ModuleList(_judge(other) for _, other in pairs)})

    def turns(self) -> tuple[Turn, ...]:
        """Return the step of the discriminators, and that of the nets against them."""
        # Of two images at least, since a discriminator normalizes by the batch.
        return (
            Turn("discriminators", self.judged, ("judges",), nets=False, rate=self.rate, decay=self.decay, least=2),
            Turn("maps", self.deceived, ("transfers",), nets=True, rate=self.rate, decay=self.decay, least=2),
        )

    def judged(self, maps: Sequence[Tensor], modules: nn.ModuleDict) -> Tensor:
        """Return the loss of all discriminators, one value."""
        losses = []
        for (own, other), transfer, judge in self._each(maps, modules):
            real, fake = judge(maps[other].detach()), judge(transfer(maps[own].detach()).detach())
            losses.append((1 - real).square().mean() + fake.square().mean())
        return torch.stack(losses).sum()

    def deceived(self, maps: Sequence[Tensor], modules: nn.ModuleDict) -> Tensor:
        """Return the loss of each net, ``[K]``, the mean over those that it learns from."""
        losses: list[list[Tensor]] = [[] for _ in maps]
        for (own, _), transfer, judge in self._each(maps, modules):
            losses[own].append((1 - judge(transfer(maps[own]))).square().mean())
        return torch.stack([torch.stack(each).mean() for each in losses])

    def _each(self, maps: Sequence[Tensor], modules: nn.ModuleDict) -> Iterator[tuple[tuple[int, int], Any, Any]]:
        """Return each pair with its convolution and its discriminator."""
        lists = (cast("nn.ModuleList", modules[name]) for name in ("transfers", "judges"))
        return zip(self.pairs(len(maps)), *lists, strict=True)


def _judge(channels: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(channels, channels, 3, padding=1),
        nn.BatchNorm2d(channels),
        nn.LeakyReLU(SLOPE),
        nn.Conv2d(channels, 1, 3, padding=1),
        nn.Sigmoid(),
    )
