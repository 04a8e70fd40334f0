"""The method ``fsp``: how a layer of the source flows into the next one, then its softened outputs."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kdops.distillation.layers_first import LayersFirst
from kdops.distillation.maps import MapMethod
from kdops.distillation.method import Step


@dataclass(frozen=True)
class FlowDistillation(MapMethod, LayersFirst):
    r"""Two phases within the recipe's epochs: ``flow``, and ``task``, which has the loss of ``logits``.

    *flow*: each layer with the next one is a pair, and the two networks' matrices of each pair are to be equal
    (equations 1 and 2):

    .. math::
        G_{ij}(x) = \frac{1}{h w} \sum_{s,t} F^1_{s,t,i}(x) F^2_{s,t,j}(x), \qquad
        L = \sum_{pairs} \|G^T - G^S\|_F^2

    the mean over the batch. Where the two maps of a pair differ in size the larger is pooled.
    *task*: ``alpha · T² · CE(source softened, student softened) + (1 - alpha) · CE(labels)``. The paper learns labels
    alone here, the default.

    The paper needs as many channels in both networks. Where a layer of the student has another number, its maps go
    through a convolution of 1x1, without bias, which is trained beside it and dropped in the end.

    Reference: Yim, Joo, Bae and Kim, "A Gift from Knowledge Distillation: Fast Optimization, Network Minimization and
    Transfer Learning", CVPR 2017.

    Attributes:
        pool: ``max`` or ``average``.
        share: share of the epochs that the first phase has.
        alpha: weight of the soft term in the second.
        t_squared: multiply the soft term by T².
    """

    alpha: float | Tensor = 0.0
    pool: str = "max"

    first = "flow"

    def adapter(self, own: tuple[int, ...], source: tuple[int, ...]) -> nn.Module:
        """Return a convolution where the numbers of channels differ."""
        return nn.Identity() if own[0] == source[0] else nn.Conv2d(own[0], source[0], 1, bias=False)

    def layer_loss(self, step: Step, modules: nn.Module) -> Tensor:
        """Return the loss of the phase ``flow``."""
        assert isinstance(modules, nn.ModuleList)
        layers = [(adapt(own), source) for adapt, (own, source) in zip(modules, self.maps(step), strict=True)]
        flows = [[self._flow(*pair) for pair in pairwise(maps)] for maps in zip(*layers, strict=True)]
        each = [(own - source).square().sum(dim=(1, 2)).mean() for own, source in zip(*flows, strict=True)]
        return torch.stack(each).sum()

    def _flow(self, first: Tensor, second: Tensor) -> Tensor:
        """Return the matrix ``[B, C, D]`` of maps ``[B, C, H, W]`` and ``[B, D, h, w]``."""
        sides = min(first.shape[-2], second.shape[-2]), min(first.shape[-1], second.shape[-1])
        pool = F.adaptive_max_pool2d if self.pool == "max" else F.adaptive_avg_pool2d
        first, second = (one if one.shape[-2:] == sides else pool(one, sides) for one in (first, second))
        return first.flatten(2) @ second.flatten(2).mT / (sides[0] * sides[1])
