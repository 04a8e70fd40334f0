"""A stored soft decision tree as plain values, to be looked at."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from kdops.errors import UsageError
from kdops.models.classifier import Classifier
from kdops.models.tree import SoftTree
from kdops.packaging.loading import Loaded


@dataclass(frozen=True, eq=False)
class TreeView:
    """What a tree has learned.

    Attributes:
        filters: of each inner node, level after level, ``[nodes, C, H, W]``, for images in pixel units.
        leaves: the distribution of each leaf from left to right, ``[leaves, classes]``.
        classes: the class names.
    """

    filters: np.ndarray
    leaves: np.ndarray
    classes: tuple[str, ...]

    @property
    def depth(self) -> int:
        """Inner nodes on the way to a leaf."""
        return int(math.log2(len(self.leaves)))


@dataclass(frozen=True, eq=False)
class Way:
    """The way of one image to the leaf that it reaches with the greatest probability.

    Attributes:
        image: uint8 ``[C, H, W]``.
        nodes: the inner nodes on the way, by their numbers in :attr:`TreeView.filters`.
        rights: at each of them the probability to go right.
        leaf: the number of the leaf.
        probability: of reaching it.
    """

    image: np.ndarray
    nodes: tuple[int, ...]
    rights: tuple[float, ...]
    leaf: int
    probability: float


def view_of(loaded: Loaded, uri: str) -> TreeView:
    """Return what a tree has learned. Raises UsageError if the model is none of the family ``tree``."""
    net, tree = _tree(loaded, uri)
    filters = tree.filters.weight.detach().view(-1, *loaded.shape) / net.std
    leaves = tree.leaves.weight.detach().softmax(dim=0).t()
    return TreeView(filters.numpy(), leaves.numpy(), loaded.classes)


@torch.inference_mode()
def way_of(loaded: Loaded, uri: str, image: np.ndarray) -> Way:
    """Return the way of an image, uint8 ``[C, H, W]``.

    Raises:
        UsageError: the model is none of the family ``tree``.
    """
    net, tree = _tree(loaded, uri)
    levels = tree.levels(net.normalized(torch.from_numpy(image[None])).flatten(1))
    leaf = int(levels[-1][0].argmax())
    nodes, rights = [], []
    for level, reached in enumerate(levels):
        node = leaf >> (tree.tree.depth - level)
        left, right = reached[0, 2 * node : 2 * node + 2].tolist()
        nodes.append(2**level - 1 + node)
        rights.append(right / (left + right) if left + right > 0 else 0.5)
    return Way(image, tuple(nodes), tuple(rights), leaf, float(levels[-1][0, leaf]))


def _tree(loaded: Loaded, uri: str) -> tuple[Classifier, SoftTree]:
    net = loaded.module
    if not isinstance(net, Classifier) or not isinstance(net.net, SoftTree):
        raise UsageError("model", uri, "must be of the family tree, such as tree(depth=4)")
    return net, net.net
