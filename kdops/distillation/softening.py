"""The softened cross entropy and its weight, which several methods use."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

FEW_CLASSES = 16
"""Below this number of classes PyTorch's own softmax is not vectorized on a CPU."""


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
    return as_weight(alpha, scale) * scale


def as_weight(weight: float | Tensor, values: Tensor) -> float | Tensor:
    """Return a weight in the precision of the values that it is for; a number is rounded to it once, as it is used."""
    return weight.to(values.dtype) if isinstance(weight, Tensor) else weight


def log_softmax(logits: Tensor) -> Tensor:
    """Return :func:`torch.log_softmax` over the last axis, of few classes in a quarter of the time.

    The last bits may differ, so what trained with PyTorch's own does not use this.
    """
    if logits.shape[-1] >= FEW_CLASSES:
        return torch.log_softmax(logits, dim=-1)
    shifted = logits - logits.amax(dim=-1, keepdim=True)
    return shifted - shifted.exp().sum(dim=-1, keepdim=True).log()


def with_gradient(values: Tensor, loss: Tensor, gradient: Tensor) -> Tensor:
    """Return a loss whose gradient is known, where autograd would need far more and smaller steps to find it.

    Args:
        values: what the loss was computed from, ``[M, ...]``.
        loss: ``[M]``, without gradient.
        gradient: of each member's loss by its values, ``[M, ...]``.
    """
    return _Known.apply(values, loss, gradient)


class _Known(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, loss: Tensor, gradient: Tensor) -> Tensor:
        ctx.save_for_backward(gradient)
        return loss.clone()

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = ctx.saved_tensors
        return upstream[0].view(-1, *[1] * (gradient.dim() - 1)) * gradient, None, None
