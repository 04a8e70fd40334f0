"""What a rule of an optimizer is given to update tensors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Matrices:
    """Which matrices a tensor consists of.

    Attributes:
        count: how many there are, one after another.
        rows: of each, without padding.
        columns: of each, without padding.
        leading: how many axes of the tensor count matrices and rows; the others are columns.
    """

    count: int
    rows: int
    columns: int
    leading: int = 1

    def of(self, tensor: Tensor) -> Tensor:
        """Return the matrices of a tensor, ``[count, rows, columns]``, each with its padding."""
        return tensor.reshape(self.count, -1, math.prod(tensor.shape[self.leading :]))


@dataclass(frozen=True)
class Update:
    """What a rule updates tensors by.

    Attributes:
        tensors: what is updated, in place.
        gradients: of each.
        kept: what the rule keeps of them, one list for each of its names.
        rate: the learning rate.
        decay: the weight decay.
        is_recorded: the step is recorded, to be replayed on a GPU.
        matrices: those that each tensor consists of; empty for a rule that needs none.
    """

    tensors: list[Tensor]
    gradients: list[Tensor]
    kept: Sequence[list[Tensor]]
    rate: Tensor | float
    decay: float
    is_recorded: bool
    matrices: Sequence[Matrices]
