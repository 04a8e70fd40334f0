"""How far students are from their sources after an epoch, in numbers that can be compared over temperatures."""

from __future__ import annotations

import torch
from torch import Tensor

from kdops.utils.hardware import finest_float

MEASURED = 256
"""Training images on which it is measured; the training itself passes over all of them in each epoch."""


def measured_rows(count: int) -> Tensor:
    """Return the rows of at most ``MEASURED`` of ``count`` images, evenly spread."""
    few = min(count, MEASURED)
    return torch.arange(few) * count // few


def source_divergence(logits: Tensor, source: Tensor, temperature: Tensor) -> Tensor:
    """Return KL(source || student) of the softened outputs, the mean over images, ``[M]``, in nats.

    Other than the loss it has neither the source's entropy nor a factor T². In double: at a high temperature it is the
    small difference of two outputs that are nearly alike.

    Args:
        logits: of the students, ``[M, N, classes]``.
        source: of their sources, likewise.
        temperature: ``[M, 1, 1]``, above zero.
    """
    own, given = (torch.log_softmax(one.to(finest_float(one.device)) / temperature, dim=-1) for one in (logits, source))
    return torch.linalg.vecdot(given.exp(), given - own).mean(dim=1)
