"""The method ``attention``: where in the picture a layer of the source is active."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kdops.distillation.maps import MapMethod, same_sides
from kdops.distillation.method import Step


@dataclass(frozen=True)
class AttentionTransfer(MapMethod):
    r"""``CE(labels) + sum over layers of L``, with attention maps of length 1; the temperature has no part in it.

    An attention map Q has one value a place, the sum over the channels of :math:`|F_c|^p`. With n places and the mean
    over the batch,

    .. math::
        L_{code} = \frac{weight}{n} \left\| \frac{Q_S}{\|Q_S\|_2} - \frac{Q_T}{\|Q_T\|_2} \right\|_2^2, \qquad
        L_{paper} = \frac{weight}{2 n} \left\| \frac{Q_S}{\|Q_S\|_2} - \frac{Q_T}{\|Q_T\|_2} \right\|_2

    where the paper (equation 2) has the norm, and :math:`\beta = 10^3` divided by the values of a batch's maps, and
    the authors' code the mean square. Where the maps of both differ in size, the larger Q is averaged over areas,
    before it is brought to length 1. The source's Q is kept in place of its maps.

    Reference: Zagoruyko and Komodakis, "Paying More Attention to Attention: Improving the Performance of Convolutional
    Neural Networks via Attention Transfer", ICLR 2017.

    Attributes:
        weight: of the differences.
        p: the exponent.
        mode: ``code`` or ``paper``.
    """

    weight: float = 1000.0
    p: float = 2.0
    mode: str = "code"

    @property
    def reduction(self) -> str:
        """The sum over the channels, with its exponent."""
        return f"attention {self.p!r}"

    def reduced(self, values: Tensor) -> Tensor:
        """Return the mean of the powers over the channels, ``[N, H, W]``."""
        return (values.square() if self.p == 2 else values.abs().pow(self.p)).mean(dim=1)

    def terms(self, step: Step, modules: nn.Module) -> Mapping[str, Tensor]:
        """Return the term ``attention``."""
        each = []
        for own, source in self.maps(step):
            pair = same_sides(self.reduced(own), source)
            own, source = (F.normalize(one.flatten(1), dim=1) for one in pair)
            if self.mode == "code":
                each.append((own - source).square().mean())
            else:
                each.append(torch.linalg.vector_norm(own - source, dim=1).mean() / (2 * own.shape[1]))
        return {"attention": self.weight * torch.stack(each).sum().unsqueeze(0)}
