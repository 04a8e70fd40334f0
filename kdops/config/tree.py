"""The family ``tree``: soft decision trees. No torch here."""

from __future__ import annotations

import math
from dataclasses import dataclass

from kdops.config.families import EMBEDDING, Family, Layer, Shape
from kdops.config.options import Choice, Integer, Real
from kdops.config.specs import Spec

LEAF, MIXTURE = "leaf", "mixture"

DEEPEST = 10
"""Up to so deep trees are trained stacked."""


@dataclass(frozen=True)
class Tree(Family):
    """A full binary tree whose inner nodes send an image left or right with a probability, and whose leaves classify.

    Attributes:
        depth: inner nodes on the way to a leaf; there are 2^depth leaves.
        penalty: the weight of the term by which inner nodes use both of their sides.
        beta: what the filters' values are multiplied by before the sigmoid.
        predict: ``leaf``, the distribution of the leaf that an image reaches with the greatest probability, or
            ``mixture``, the mean of all leaves' distributions.
    """

    depth: int
    penalty: float
    beta: float
    predict: str

    spec = Spec(
        "kdops.models.tree:build_tree",
        depth=Integer(1, 12, default=8),
        penalty=Real(0, 100, default=0.1),
        beta=Real(0, 100, default=1.0, open_low=True),
        predict=Choice((LEAF, MIXTURE), default=LEAF),
    )

    @property
    def stacks(self) -> str:
        """The place of the class that computes many of it in one pass; deeper ones gain nothing by it."""
        return "kdops.training.stacked_modules:StackedModules" if self.depth <= DEEPEST else ""

    def taps(self) -> tuple[str, ...]:
        """Return the probabilities of the leaves, which their distributions are weighted by."""
        return (EMBEDDING,)

    def layers_for(self, shape: Shape, classes: int) -> list[Layer]:
        """Return the filters of all inner nodes as one layer, and the leaves as one."""
        leaves = 2**self.depth
        return [Layer(math.prod(shape), leaves - 1, 1), Layer(leaves, classes, 1)]

    def parameters(self, shape: Shape, classes: int) -> int:
        """Count the trained values; leaves have no biases."""
        return super().parameters(shape, classes) - classes
