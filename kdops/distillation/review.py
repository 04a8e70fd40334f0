"""The method ``review``: each layer of the source from the student's layer and all those behind it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kdops.distillation.maps import MapMethod
from kdops.distillation.method import Needs, Shapes, Step

SIDES = (4, 2, 1)
"""To which sides maps are averaged for the loss, beside their own."""


@dataclass(frozen=True)
class KnowledgeReview(MapMethod):
    r"""``CE(labels) + w · weight · sum over layers of HCL(f, t)``; the temperature has no part in it.

    From the last layer to the first the student's maps are fused with those that were fused behind them: two attention
    maps, of both by a convolution of 1x1, say how much of each counts at each place. f is a convolution of 3x3 of the
    result (ABF, figure 3). HCL is the mean square of f - t, and that of both averaged to 4 x 4, 2 x 2 and 1 x 1 places,
    as far as maps are larger, with weights that halve from one to the next, over their sum. All is dropped in the end.

    The loss rises from 0 over a share of the training, in the authors' code 20 of 240 epochs. Their convolutions have
    batch normalization, these none.

    Reference: Chen, Liu, Zhao and Jia, "Distilling Knowledge via Knowledge Review", CVPR 2021.

    Attributes:
        weight: of the sum.
        warmup: share of the training over which the loss rises.
        channels: of what is fused; 0 for those of the student's last layer.
    """

    weight: float = 1.0
    warmup: float = 0.08
    channels: int = 0

    vanishes = False

    @property
    def needs(self) -> Needs:
        """The layers of both networks, and the progress of the training."""
        return Needs(super().needs.student, super().needs.source, progress=True)

    def modules(self, student: Shapes, source: Shapes) -> nn.Module:
        """Return the fusion of each layer. Raises UsageError if a layer has no maps."""
        shapes = self.shapes(student, source)
        middle = self.channels or shapes[-1][0][0]
        last = len(shapes) - 1
        return nn.ModuleList(
            _Fusion(own[0], middle, theirs[0], number < last) for number, (own, theirs) in enumerate(shapes)
        )

    def terms(self, step: Step, modules: nn.Module) -> Mapping[str, Tensor]:
        """Return the term ``review``."""
        assert isinstance(modules, nn.ModuleList)
        each, behind = [], None
        for fuse, (own, source) in reversed(list(zip(modules, self.maps(step), strict=True))):
            found, behind = fuse(own, behind, source.shape[-2:])
            each.append(_context_loss(found, source))
        risen = (step.progress / self.warmup).clamp(max=1.0) if self.warmup else 1.0
        return {"review": self.weight * risen * torch.stack(each).sum().unsqueeze(0)}


class _Fusion(nn.Module):
    """Fuses a layer with what was fused behind it.

    Args:
        inputs: channels of the layer.
        middle: channels of what is fused.
        outputs: channels of the source's layer.
        fuses: whether there is something behind it.
    """

    def __init__(self, inputs: int, middle: int, outputs: int, fuses: bool):
        super().__init__()
        self.narrow = nn.Conv2d(inputs, middle, 1, bias=False)
        self.attention = nn.Conv2d(2 * middle, 2, 1) if fuses else None
        self.out = nn.Conv2d(middle, outputs, 3, padding=1, bias=False)

    def forward(self, own: Tensor, behind: Tensor | None, sides: torch.Size) -> tuple[Tensor, Tensor]:
        """Return maps to compare with those of the source, which have ``sides``, and what was fused."""
        own = self.narrow(own)
        if self.attention is not None and behind is not None:
            behind = F.interpolate(behind, own.shape[-2:])
            shares = torch.sigmoid(self.attention(torch.cat([own, behind], dim=1)))
            own = own * shares[:, :1] + behind * shares[:, 1:]
        return self.out(own if own.shape[-2:] == sides else F.interpolate(own, sides)), own


def _context_loss(own: Tensor, source: Tensor) -> Tensor:
    """Return HCL, the hierarchical context loss."""
    height, width = source.shape[-2:]
    gap = whole = own - source
    each, total = [gap.square().mean()], 1.0
    for level, side in enumerate((side for side in SIDES if side < height), start=1):
        # Averages are linear, so those of the difference are the difference of those.
        averaged = F.adaptive_avg_pool2d(whole, side)
        if height % side == 0 and width % side == 0:
            # Of equal areas, so that the next averages are those of these, which are far fewer.
            whole = averaged
        each.append(0.5**level * averaged.square().mean())
        total += 0.5**level
    return torch.stack(each).sum() / total
