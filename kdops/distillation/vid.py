"""The method ``vid``: layers of the source as a student's own can tell them, each channel with a variance."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kdops.distillation.maps import MapMethod, same_sides
from kdops.distillation.method import Step


@dataclass(frozen=True)
class VariationalInformation(MapMethod):
    r"""``CE(labels) + weight · sum over layers of -log q(t | s)``; the temperature has no part in it.

    q is a Gaussian for each value t of a layer of the source, whose mean is a function of the student's layer s, three
    convolutions of 1x1 with ReLU between them, and whose variance is learned for each channel (equations 5 and 6):

    .. math::
        -\log q = \frac12 \left(\log \sigma_c^2 + \frac{(t - \mu(s))^2}{\sigma_c^2}\right), \qquad
        \sigma_c^2 = \log(1 + e^{a_c}) + eps

    the mean over the batch, channels and places, without the constant; so it may be negative. Where maps differ in
    size the larger is averaged over areas. Convolutions and variances are dropped in the end.

    Reference: Ahn, Hu, Damianou, Lawrence and Dai, "Variational Information Distillation for Knowledge Transfer", CVPR
    2019.

    Attributes:
        weight: of the sum.
        variance: the variance that each channel begins with.
        eps: the least variance.
        channels: of the convolutions in between; 0 for those of the source.
    """

    weight: float = 1.0
    variance: float = 5.0
    eps: float = 1e-5
    channels: int = 0

    vanishes = False

    def adapter(self, own: tuple[int, ...], source: tuple[int, ...]) -> nn.Module:
        """Return the convolutions and variances of a layer."""
        return _Gaussian(own[0], self.channels or source[0], source[0], self.variance, self.eps)

    def terms(self, step: Step, modules: nn.Module) -> Mapping[str, Tensor]:
        """Return the term ``information``."""
        assert isinstance(modules, nn.ModuleList)
        each = [layer(*pair) for layer, pair in zip(modules, self.maps(step), strict=True)]
        return {"information": self.weight * torch.stack(each).sum().unsqueeze(0)}


class _Gaussian(nn.Module):
    def __init__(self, inputs: int, middle: int, outputs: int, variance: float, eps: float):
        super().__init__()
        sizes = ((inputs, middle), (middle, middle), (middle, outputs))
        first, second, third = (nn.Conv2d(*size, 1) for size in sizes)
        self.mean = nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), third)
        self.eps = eps
        above = max(variance - eps, eps)
        # The inverse of softplus, which for large values would overflow as log(exp(v) - 1).
        self.a = nn.Parameter(torch.full((outputs, 1, 1), above + math.log(-math.expm1(-above))))

    def forward(self, own: Tensor, source: Tensor) -> Tensor:
        """Return the mean of -log q over all values."""
        mean, source = same_sides(self.mean(own), source)
        variance = F.softplus(self.a) + self.eps
        return ((source - mean).square() / variance + variance.log()).mean() / 2
