"""The modifier ``shuffled``: a method that learns from another image's source outputs. A control."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from kdops.distillation.method import Modifier


@dataclass(frozen=True)
class Shuffled(Modifier):
    """A method whose images have the source's outputs for another image, drawn once for the whole training.

    A gain that survives ``within="class"`` is knowledge of classes, which a table of one row a class would hold; one
    that survives ``within="all"`` is regularization. Each image's outputs are given to exactly one image; that of a
    class with one image only keeps its own.

    Reference: a control of kdops; the method it is set against is that of Hinton, Vinyals and Dean, 2015, or another.

    Attributes:
        within: ``class`` for another image of the same class, ``all`` for any other image.
    """

    within: str = "class"

    def rows(self, labels: Tensor, stream: torch.Generator) -> Tensor:
        """Return the next row of each image in a drawn order, of its class or of all."""
        order = torch.randperm(len(labels), generator=stream)
        kinds = labels if self.within == "class" else torch.zeros_like(labels)
        found = torch.empty_like(order)
        for kind in kinds.unique():
            own = order[kinds[order] == kind]
            found[own] = own.roll(-1)
        return found
