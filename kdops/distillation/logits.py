"""The distillation loss, for one network or for a whole fleet at once."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["DistillationLoss", "MemberLosses", "soft_cross_entropy"]


def soft_cross_entropy(source_logits: Tensor, logits: Tensor, temperature: Tensor | float) -> Tensor:
    """Cross entropy of the softened outputs, the class axis reduced.

    ``- sum_c softmax(z_source / T)_c · log softmax(z / T)_c``, equation (1) of Hinton, Vinyals and Dean,
    "Distilling the Knowledge in a Neural Network", 2015. It differs from the Kullback-Leibler divergence by
    the entropy of the source, so both have the same gradient.

    Args:
        source_logits: ``[..., classes]``.
        logits: ``[..., classes]``.
        temperature: above zero, broadcastable to ``[..., 1]``.

    Returns:
        ``[...]``, in nats.
    """
    target = torch.softmax(source_logits / temperature, dim=-1)
    return -(target * torch.log_softmax(logits / temperature, dim=-1)).sum(dim=-1)


@dataclass(frozen=True, eq=False)
class DistillationLoss:
    """``alpha · T² · CE(source softened, student softened) + (1 - alpha) · CE(labels)``, mean over the batch.

    T² keeps the gradient of the soft term at the same size for all temperatures (Hinton et al., section 2).
    T = 0 means hard labels: the cross entropy with the labels alone, whatever alpha is.

    Attributes:
        alpha: weight of the soft term, in [0, 1]; one for all members, or one for each, ``[M]``.
        t_squared: multiply the soft term by T²; one for all members, or one for each, bool ``[M]``.
    """

    alpha: float | Tensor = 1.0
    t_squared: bool | Tensor = True

    def at(self, temperatures: Tensor) -> MemberLosses:
        """Return the loss of members of these temperatures, ``[M]``, 0 for hard labels.

        All that does not change from step to step is settled here, once: to ask a graphics processor for a value makes
        the program wait for all that it still has to compute.
        """
        hard = temperatures == 0
        softening = torch.where(hard, torch.ones_like(temperatures), temperatures)
        squared = torch.as_tensor(self.t_squared, device=temperatures.device)
        scale = torch.where(squared, softening.square(), torch.ones_like(softening))
        # In double, as Python's own numbers, so that a tensor of one value gives the bits of that value.
        alpha = torch.as_tensor(self.alpha, dtype=torch.float64, device=temperatures.device)
        return MemberLosses(
            softening=softening.view(-1, 1, 1),
            hard=hard.view(-1, 1, 1) if bool(hard.any()) else None,
            soft_weight=torch.where(hard, torch.zeros_like(scale), alpha.to(scale.dtype) * scale),
            label_weight=torch.where(hard, torch.ones_like(scale), (1 - alpha).to(scale.dtype)),
            needs_labels=bool((alpha < 1).any() | hard.any()),
        )

    def __call__(self, logits: Tensor, labels: Tensor, source_logits: Tensor | None, temperatures: Tensor) -> Tensor:
        """Return the loss of every member, see :class:`MemberLosses`; temperatures ``[M]``, 0 for hard labels."""
        return self.at(temperatures)(logits, labels, source_logits)


@dataclass(frozen=True, eq=False)
class MemberLosses:
    """The losses of a fleet's members, whose temperatures are settled.

    Attributes:
        softening: what logits are divided by, ``[M, 1, 1]``; 1 for hard labels.
        hard: which members learn hard labels alone, ``[M, 1, 1]``; None where there are none.
        soft_weight: weight of each member's soft term, ``[M]``.
        label_weight: weight of its cross entropy with the labels, ``[M]``.
        needs_labels: whether any of those weights is not zero.
    """

    softening: Tensor
    hard: Tensor | None
    soft_weight: Tensor
    label_weight: Tensor
    needs_labels: bool

    def __call__(self, logits: Tensor, labels: Tensor, source_logits: Tensor | None) -> Tensor:
        """Return the loss of every member.

        Args:
            logits: ``[M, B, classes]``.
            labels: ``[M, B]`` class numbers.
            source_logits: ``[M, B, classes]``; may be None where all members train on hard labels.

        Returns:
            ``[M]``, each the mean over its batch, in nats.
        """
        on_labels = None
        if source_logits is None or self.needs_labels:
            classes = logits.shape[-1]
            each = F.cross_entropy(logits.reshape(-1, classes), labels.reshape(-1), reduction="none")
            on_labels = each.view(labels.shape).mean(dim=1)
        if source_logits is None:
            return on_labels
        if self.hard is not None:
            # A hard member's soft term is weighted by zero; a source of zeros keeps it finite.
            source_logits = source_logits.masked_fill(self.hard, 0.0)
        soft = self.soft_weight * soft_cross_entropy(source_logits, logits, self.softening).mean(dim=1)
        return soft if on_labels is None else soft + self.label_weight * on_labels
