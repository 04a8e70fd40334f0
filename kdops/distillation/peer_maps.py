"""What companies have in common whose nets learn each other's last maps, by an optimizer of its own."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from kdops.config.architectures import Architecture
from kdops.distillation.company import CompanyMethod, Turn, divergence_from_peers
from kdops.distillation.method import Step


@dataclass(frozen=True)
class PeerMaps(CompanyMethod, ABC):
    """The loss of ``mutual``, by one optimizer, and by another one a loss of the last maps of pairs of nets.

    Net k learns from the net before it and the first from the last (``cyclic``), or each from all others. Where the
    channels of a pair differ, the learner's map goes through a convolution of 1x1, which is not stored.

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

    @abstractmethod
    def loss(self, own: Tensor, other: Tensor, place: int, modules: nn.ModuleDict) -> Tensor:
        """Return the loss of a net's map, as wide as the other's, against the other's, ``[B, C, H, W]`` both.

        Args:
            own: the learner's map, with gradient.
            other: the map that it learns from.
            place: of the pair among all.
            modules: what is trained beside the nets.
        """

    def terms(self, step: Step, modules: nn.Module) -> Mapping[str, Tensor]:
        """Return the term ``peers``, that of ``mutual``."""
        return {"peers": self.weight * divergence_from_peers(step)}

    def pairs(self, nets: int) -> list[tuple[int, int]]:
        """Return the learner of each pair, and the one whose maps it learns."""
        if self.cyclic:
            return [(own, (own - 1) % nets) for own in range(nets)]
        return [(own, other) for own in range(nets) for other in range(nets) if other != own]

    def taps(self, nets: Sequence[Architecture]) -> tuple[str, ...]:
        """Return the last map of each net."""
        return tuple(f"stage{len(net.maps())}" for net in nets)

    def beside(self, shapes: Sequence[tuple[int, ...]]) -> nn.ModuleDict:
        """Return for each pair the convolution, or nothing in its place."""
        pairs = [(shapes[own][0], shapes[other][0]) for own, other in self.pairs(len(shapes))]
        transfers = nn.ModuleList(nn.Identity() if own == other else nn.Conv2d(own, other, 1) for own, other in pairs)
        return nn.ModuleDict({"transfers": transfers})

    def turns(self) -> tuple[Turn, ...]:
        """Return the step of the nets."""
        return (Turn("maps", self.learned, ("transfers",), nets=True, rate=self.rate, decay=self.decay, least=2),)

    def transferred(self, maps: Sequence[Tensor], modules: nn.ModuleDict) -> list[tuple[int, Tensor, Tensor]]:
        """Return of each pair the learner, its map through the convolution, and the other's map without gradient."""
        each = zip(self.pairs(len(maps)), modules["transfers"].children(), strict=True)
        return [(own, transfer(maps[own]), maps[other].detach()) for (own, other), transfer in each]

    def learned(self, maps: Sequence[Tensor], modules: nn.ModuleDict) -> Tensor:
        """Return the loss of each net, ``[K]``, the mean over those that it learns from."""
        losses: list[list[Tensor]] = [[] for _ in maps]
        for place, (own, fake, real) in enumerate(self.transferred(maps, modules)):
            losses[own].append(self.loss(fake, real, place, modules))
        return torch.stack([torch.stack(each).mean() for each in losses])
