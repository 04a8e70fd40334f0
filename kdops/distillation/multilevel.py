"""The method ``multilevel``: softened outputs at several temperatures, and their products over images and classes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from kdops.distillation.method import Method, Step
from kdops.distillation.softening import as_weight, with_gradient


@dataclass(frozen=True)
class MultiLevelDistillation(Method):
    r"""``CE(labels) + mean over T of (instance · T² · CE + batch · L_B + classes · L_C)``.

    With the softened outputs of a batch as a matrix Y ``[B, C]`` of source and student (equations 5 to 8):

    .. math::
        L_B = \frac1B \| Y^S Y^{S\top} - Y^T Y^{T\top} \|_F^2, \qquad
        L_C = \frac1C \| Y^{S\top} Y^S - Y^{T\top} Y^T \|_F^2

    CE is the cross entropy of the softened outputs. The temperatures are that of the member times ``factors``: at T = 4
    the paper's 2 to 6. The authors' code has masks for images and classes of low confidence, but multiplies means by
    them, so that nothing is left out; this has none. Their weakly and strongly distorted views of an image are left
    out here, since a source's outputs are kept.

    Reference: Jin, Wang and Lin, "Multi-Level Logit Distillation", CVPR 2023.

    Attributes:
        instance: weight of the outputs of each image.
        batch: weight of the products of images.
        classes: weight of the products of classes.
        factors: by which T is multiplied, one for each temperature.
    """

    instance: float | Tensor = 1.0
    batch: float | Tensor = 1.0
    classes: float | Tensor = 1.0
    factors: tuple[float, ...] = (0.5, 0.75, 1.0, 1.25, 1.5)

    def terms(self, step: Step, modules: nn.Module) -> Mapping[str, Tensor]:
        """Return the terms ``instance``, ``batch`` and ``classes``."""
        logits, batch = step.student.logits, step.labels.shape[1]
        with torch.no_grad():
            # All temperatures at once, and images last, as the longer axis: [levels, M, C, B].
            at = torch.stack([factor * step.temperature for factor in self.factors])
            own, source = (torch.log_softmax(z.mT.contiguous() / at, dim=-2) for z in (logits, step.source.logits))
            source.exp_()
            soft = -at.square().flatten(1) * (source * own).sum(dim=(-2, -1)) / batch
            own.exp_()
            apart = own - source
            found = [(soft, apart * (at / batch)), *(_through_softmax(one, own, at) for one in _products(own, apart))]
        weights = {"instance": self.instance, "batch": self.batch, "classes": self.classes}
        return {
            name: as_weight(weight, logits) * with_gradient(logits, loss.mean(dim=0), slope.mean(dim=0).mT)
            for (name, weight), (loss, slope) in zip(weights.items(), found, strict=True)
        }


def _products(own: Tensor, apart: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield L_B and L_C, each ``[levels, M]``, with the gradient by the student's softened outputs ``[.., C, B]``.

    With E = S - T and P = S + T the difference of products is (E P' + P E') / 2, so that no matrix of B x B is needed.
    All products of S and E over the images are blocks of one; those with P = 2 S - E follow.
    """
    classes, batch = own.shape[-2:]
    both = torch.cat([apart, own], dim=-2)
    blocks = both @ both.mT
    of_apart, between = blocks[..., :classes, :].split(classes, dim=-1)
    of_own = blocks[..., classes:, classes:]
    mixed = 2 * between - of_apart
    of_sums = 4 * of_own - 2 * (between + between.mT) + of_apart
    crossed = of_apart * of_sums + mixed * mixed.mT
    # E (P'S) + P (E'S), of which P'S = 2 S'S - E'S.
    slope = torch.cat([2 * (of_own - between.mT), 2 * between.mT], dim=-1) @ both
    yield crossed.sum(dim=(-2, -1)) / (2 * batch), slope * (2 / batch)
    gaps = (mixed + mixed.mT) / 2
    yield gaps.square().sum(dim=(-2, -1)) / classes, gaps @ own * (4 / classes)


def _through_softmax(found: tuple[Tensor, Tensor], own: Tensor, at: Tensor) -> tuple[Tensor, Tensor]:
    """Return a loss with its gradient by the logits, of one with its gradient by the softened outputs."""
    loss, slope = found
    return loss, (slope - (slope * own).sum(dim=-2, keepdim=True)) * own / at
