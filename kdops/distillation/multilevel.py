"""The method ``multilevel``: softened outputs at several temperatures, and their products over images and classes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from kdops.distillation.closed_form import through_softmax, with_gradient_by
from kdops.distillation.method import Method, Step


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
        logits, (batch, classes) = step.student.logits, step.student.logits.shape[1:]
        with torch.no_grad():
            # All temperatures at once: [levels, M, 2, classes, B], and of one value [levels, M, 1, 1].
            at = torch.stack([factor * step.temperature for factor in self.factors])
            both = torch.stack([logits.mT, step.source.logits.mT], dim=1)
            logs = torch.log_softmax(both / at.unsqueeze(2), dim=-2)
            softened = logs.exp()
            own, source = softened.unbind(2)
            soft = (source * logs.select(2, 0)).sum(dim=(-2, -1)) * at.flatten(1).square() / -batch
            source -= own
            products = _Products.of(softened.flatten(2, 3))
            losses = (soft, products.of_images() / batch, products.of_classes() / classes)

        def gradient(*factors: Tensor) -> Tensor:
            by_soft, by_images, by_classes = (factor / len(at) for factor in factors)
            slopes = products.slopes(by_images / (at * batch), by_classes / (at * classes))
            slopes = through_softmax(slopes, own).addcmul_(source, by_soft * at / -batch)
            return slopes.sum(dim=0).mT

        weights = (self.instance, self.batch, self.classes)
        means = (loss.mean(dim=0) for loss in losses)
        terms = dict(zip(("instance", "batch", "classes"), zip(weights, means, strict=True), strict=True))
        return with_gradient_by(logits, terms, gradient)


@dataclass(frozen=True)
class _Products:
    """The products of classes over the images, of the student's softened outputs S and the source's, T.

    With E = S - T and P = S + T = 2 S - E the difference of products is (E P' + P E') / 2, so that no matrix of B x B
    is needed, and nothing cancels where E is small.

    Attributes:
        pair: S and -E, one under the other, ``[levels, M, 2 classes, B]``.
        of_own: S S', ``[levels, M, classes, classes]``.
        between: E S'.
        of_apart: E E'.
        gaps: S S' - T T'.
    """

    pair: Tensor
    of_own: Tensor
    between: Tensor
    of_apart: Tensor
    gaps: Tensor

    @classmethod
    def of(cls, pair: Tensor) -> _Products:
        """Return the products, all of them blocks of one."""
        of_own, of_apart = (half.chunk(2, dim=-1) for half in (pair @ pair.mT).chunk(2, dim=-2))
        between = -of_apart[0]
        return cls(pair, of_own[0], between, of_apart[1], between + between.mT - of_apart[1])

    def of_images(self) -> Tensor:
        """Return the squares of the differences of the images' products, added up, ``[levels, M]``."""
        mixed = 2 * self.between - self.of_apart
        of_sums = 4 * self.of_own - 2 * (self.between + self.between.mT) + self.of_apart
        return (self.of_apart * of_sums).addcmul_(mixed, mixed.mT).sum(dim=(-2, -1)) / 2

    def of_classes(self) -> Tensor:
        """Return the squares of the differences of the classes' products, added up, ``[levels, M]``."""
        return self.gaps.square().sum(dim=(-2, -1))

    def slopes(self, by_images: Tensor, by_classes: Tensor) -> Tensor:
        """Return the gradient by S of both sums times these factors, ``[levels, M, 1, 1]``."""
        # Of the images: 4 E (P'S) / 2 + 4 P (E'S) / 2, of which P'S = 2 S'S - E'S.
        of_own = (4 * by_images * self.between.mT).addcmul_(4 * by_classes, self.gaps)
        return torch.cat([of_own, 4 * by_images * (self.between.mT - self.of_own)], dim=-1) @ self.pair
