"""The softened cross entropy and its weight, which several methods use."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["soft_cross_entropy", "soft_weight"]


def soft_cross_entropy(source_logits: Tensor, logits: Tensor, temperature: Tensor | float) -> Tensor:
    """Return the cross entropy of the softened outputs, the class axis reduced.

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


def soft_weight(alpha: float | Tensor, t_squared: bool | Tensor, temperature: Tensor) -> Tensor:
    """Return the weight of each member's soft term, ``[M]``: ``alpha``, times T² where that is wanted.

    T² keeps the gradient of the soft term at the same size for all temperatures (Hinton et al., section 2).

    Args:
        alpha: for all members, or for each, ``[M]``.
        t_squared: likewise.
        temperature: ``[M, 1, 1]``.
    """
    flat = temperature.flatten()
    scale = torch.ones_like(flat) if t_squared is False else flat.square()
    if isinstance(t_squared, Tensor):
        scale = torch.where(t_squared, scale, torch.ones_like(scale))
    return (alpha.to(scale.dtype) if isinstance(alpha, Tensor) else alpha) * scale
