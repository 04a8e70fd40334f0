"""The method ``ofd``: what goes into the activations of the source, as far as it may pass them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from kdops.config.architectures import BEFORE
from kdops.distillation.maps import MapMethod, same_sides
from kdops.distillation.method import SourceOutputs, Step
from kdops.utils.hardware import finest_float


@dataclass(frozen=True)
class FeatureOverhaul(MapMethod):
    r"""``CE(labels) + weight · sum over layers of 2^(l - L) · d(max(t, m), r(s))``; T has no part in it.

    t and s are what goes into an activation of source and student, r is a convolution of 1x1, and m, of each channel,
    the mean of the source's negative t over all training images (equations 2 and 3). With the sum over channels and
    places, and the mean over the batch,

    .. math::
        d(t, s) = \sum_i \begin{cases} 0 & s_i \le t_i \le 0 \\ (t_i - s_i)^2 & \text{else} \end{cases}

    The paper's networks have batch normalization, from whose values m is computed, and one behind r; those of kdops
    have none, and m is measured. Where maps differ in size the larger is averaged over areas. r is dropped in the end.

    Reference: Heo, Kim, Yun, Park, Kwak and Choi, "A Comprehensive Overhaul of Feature Distillation", ICCV 2019.

    Attributes:
        weight: of the sum.
    """

    at: tuple[str, ...] = (f"stage1{BEFORE}", f"stage2{BEFORE}")
    weight: float = 0.001

    vanishes = False

    def adapter(self, own: tuple[int, ...], source: tuple[int, ...]) -> nn.Module:
        """Return the convolution and the margins of a layer."""
        return _Connector(own[0], source[0])

    def prepare(self, modules: nn.Module, source: SourceOutputs, labels: Tensor) -> None:
        """Measure the margins over all training images."""
        margins = dict(modules.named_buffers()).values()
        kind = finest_float(labels.device)
        totals = [torch.zeros(2, *own.shape, dtype=kind, device=labels.device) for own in margins]
        for rows in torch.arange(len(labels), device=labels.device).split(IMAGES_AT_ONCE):
            found = source.at(rows).features
            for total, (_, tap) in zip(totals, self.layers, strict=True):
                negative = found[tap].clamp(max=0).to(kind)
                total += torch.stack([own.sum(dim=(0, 2, 3)).view(-1, 1, 1) for own in (negative, negative < 0)])
        for own, (total, count) in zip(margins, totals, strict=True):
            own.copy_(total / count.clamp_min(1))

    def terms(self, step: Step, modules: nn.Module) -> Mapping[str, Tensor]:
        """Return the term ``maps``."""
        assert isinstance(modules, nn.ModuleList)
        each = [layer(*pair) for layer, pair in zip(modules, self.maps(step), strict=True)]
        halves = [own * 2.0 ** (number + 1 - len(each)) for number, own in enumerate(each)]
        return {"maps": self.weight * torch.stack(halves).sum().unsqueeze(0)}


IMAGES_AT_ONCE = 512


class _Connector(nn.Module):
    margin: Tensor

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.connector = nn.Conv2d(inputs, outputs, 1)
        self.register_buffer("margin", torch.zeros(outputs, 1, 1))

    def forward(self, own: Tensor, source: Tensor) -> Tensor:
        """Return the partial squared distance: the sum over channels and places, the mean over the batch."""
        own, source = same_sides(self.connector(own), torch.maximum(source, self.margin))
        counts = (own > source) | (source > 0)
        return ((source - own).square() * counts).sum(dim=(1, 2, 3)).mean()
