"""The loss of the labels: their cross entropy, smoothed, weighted by class or at a temperature as a recipe says."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


class LabelLoss:
    """The cross entropy with the labels."""

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the loss of each image, ``[M, B]``, of logits ``[M, B, classes]`` and class numbers ``[M, B]``."""
        each = F.cross_entropy(logits.reshape(-1, logits.shape[-1]), labels.reshape(-1), reduction="none")
        return each.view(labels.shape)

    def of(self, rows: slice) -> LabelLoss:
        """Return the loss of some members alone."""
        return self


class WeightedLabelLoss(LabelLoss):
    r"""The cross entropy with smoothed labels (Szegedy et al., 2016), weighted by the class of each image.

    .. math:: w_y \Bigl[(1 - \varepsilon) (-\log p_y) + \frac{\varepsilon}{C} \sum_c -\log p_c\Bigr]

    The weights of all images that a member learns have the mean 1; the mean over a batch is not divided by those of its
    images.

    Args:
        smoothing: :math:`\varepsilon` of each member, ``[M]``.
        weights: of each class for each member, ``[M, classes]``.
    """

    def __init__(self, smoothing: Tensor, weights: Tensor):
        self.smoothing, self.weights = smoothing.view(-1, 1), weights

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the loss of each image, ``[M, B]``, of logits ``[M, B, classes]`` and class numbers ``[M, B]``."""
        each = super().__call__(logits, labels)
        uniform = -logits.log_softmax(dim=-1).mean(dim=-1)
        return self.weights.gather(1, labels) * (each + self.smoothing * (uniform - each))

    def of(self, rows: slice) -> LabelLoss:
        """Return the loss of some members alone."""
        return WeightedLabelLoss(self.smoothing[rows], self.weights[rows])


class TemperedLabelLoss(LabelLoss):
    """Another loss of the labels, of logits divided by a temperature.

    Reference: Papernot, McDaniel, Wu, Jha and Swami, "Distillation as a Defense to Adversarial Perturbations against
    Deep Neural Networks", 2016: the first network of defensive distillation.

    Args:
        loss: the other loss.
        temperature: of each member, ``[M]``.
    """

    def __init__(self, loss: LabelLoss, temperature: Tensor):
        self.loss, self.temperature = loss, temperature.view(-1, 1, 1)

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the loss of each image, ``[M, B]``, of logits ``[M, B, classes]`` and class numbers ``[M, B]``."""
        return self.loss(logits / self.temperature, labels)

    def of(self, rows: slice) -> LabelLoss:
        """Return the loss of some members alone."""
        return TemperedLabelLoss(self.loss.of(rows), self.temperature[rows])


class MixedLabelLoss(LabelLoss):
    """Another loss of the labels, of mixed images: that of their own label and of the other image's, by their shares.

    It is the cross entropy with the mixed label, which is linear in the label.

    Reference: Zhang, Cisse, Dauphin and Lopez-Paz, "mixup: Beyond Empirical Risk Minimization", ICLR 2018.

    Args:
        loss: the other loss.
        others: class numbers of the images that are mixed in, ``[M, B]``.
        shares: what each image itself keeps, ``[M, B]``.
    """

    def __init__(self, loss: LabelLoss, others: Tensor, shares: Tensor):
        self.loss, self.others, self.shares = loss, others, shares

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the loss of each image, ``[M, B]``, of logits ``[M, B, classes]`` and class numbers ``[M, B]``."""
        own, other = self.loss(logits, labels), self.loss(logits, self.others)
        return self.shares * own + (1 - self.shares) * other

    def of(self, rows: slice) -> LabelLoss:
        """Return the loss of some members alone."""
        return MixedLabelLoss(self.loss.of(rows), self.others[rows], self.shares[rows])


class PartialLabelLoss(LabelLoss):
    """Another loss of the labels, of those images that have one: 0 where the class number is negative.

    Args:
        loss: the other loss.
        weight: of the images with a label, for each member ``[M]``.
    """

    def __init__(self, loss: LabelLoss, weight: Tensor):
        self.loss, self.weight = loss, weight.view(-1, 1)

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the loss of each image, ``[M, B]``, of logits ``[M, B, classes]`` and class numbers ``[M, B]``."""
        each = self.loss(logits, labels.clamp_min(0)) * self.weight.to(logits.dtype)
        return torch.where(labels >= 0, each, 0.0)

    def of(self, rows: slice) -> LabelLoss:
        """Return the loss of some members alone."""
        return PartialLabelLoss(self.loss.of(rows), self.weight[rows])
