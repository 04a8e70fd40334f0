"""The family ``tree``: soft decision trees.

Source: Frosst and Hinton, "Distilling a Neural Network Into a Soft Decision Tree", 2017. An inner node i sends an image
to its right with probability p_i = sigmoid(beta (x w_i + b_i)), a leaf l has one distribution Q^l over the classes for
all images, and P^l(x) is the probability that image x reaches it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kdops.config.families import EMBEDDING, Shape
from kdops.config.tree import LEAF, Tree
from kdops.models.classifier import Tap

SMALLEST = 1e-12
"""Added to the shares of a node's two sides, so that one that no image reaches has finite logarithms."""


class SoftTree(nn.Module):
    """A soft decision tree.

    While it is trained it returns m_k = sum_l P^l log Q^l_k as logits. The loss of the paper is the leaves' mean cross
    entropy with the targets, -sum_l P^l sum_k T_k log Q^l_k = -sum_k T_k m_k. The cross entropy of the logits is that
    and logsumexp(m), which the term ``leaves`` takes away: the sum is the loss of the paper for hard labels, and for
    soft ones at T = 1; weighted and tempered labels are refused. Any method of logits has something to work on. The
    term ``balance`` is its penalty.

    Attributes:
        shares: ``[nodes, 2]``, running means of the probability that an image reaches the left and the right child of
            each inner node while the tree was trained.
    """

    shares: Tensor

    def __init__(self, inputs: int, classes: int, tree: Tree):
        super().__init__()
        self.tree, nodes = tree, 2**tree.depth - 1
        self.filters = nn.Linear(inputs, nodes)
        self.leaves = nn.Linear(nodes + 1, classes, bias=False)
        self.paths = Tap(EMBEDDING)
        self.register_buffer("shares", torch.zeros(nodes, 2))

    def forward(self, images: Tensor) -> Tensor:
        """Return logits ``[N, classes]`` of normalized images ``[N, C, H, W]``: logarithms of probabilities."""
        levels = self.levels(images.flatten(1))
        paths = self.paths(levels[-1])
        of_leaves = F.log_softmax(self.leaves.weight.float(), dim=0)
        if self.training:
            logits = F.linear(paths, of_leaves).float()
            if torch.is_grad_enabled():
                agreement = -logits.logsumexp(dim=1).mean()
                self.own_terms = {"leaves": agreement.view(1), "balance": self._penalty(levels).view(1)}
            return logits
        if self.tree.predict == LEAF:
            return of_leaves.t()[paths.argmax(dim=1)]
        return F.linear(paths, of_leaves.exp()).clamp_min(torch.finfo(torch.float32).tiny).log()

    def levels(self, inputs: Tensor) -> list[Tensor]:
        """Return the probabilities of reaching the nodes of each level below the root, ``[N, 2^level]``."""
        values = self.tree.beta * self.filters(inputs).float()
        sides = torch.stack([-values, values], dim=2).sigmoid()
        # Split, not sliced: the gradient of each slice would be as large as all of them.
        first, *others = sides.split([2**level for level in range(self.tree.depth)], dim=1)
        levels = [first.flatten(1)]
        for own in others:
            levels.append((levels[-1].unsqueeze(2) * own).flatten(1))
        return levels

    def _penalty(self, levels: Sequence[Tensor]) -> Tensor:
        """Return the penalty of uneven nodes, one value, and go on with the running means.

        -penalty sum_i 2^-d (log a_i + log(1 - a_i)) / 2, where d is the node's depth and a_i the share of what reaches
        it that goes right, over about 2^d batches.
        """
        weight = torch.cat([values.new_full((2**level, 1), 2.0**-level) for level, values in enumerate(levels)])
        share = torch.cat(list(levels), dim=1).mean(dim=0).view(-1, 2)
        latest = torch.lerp(self.shares, share, weight)
        with torch.no_grad():
            self.shares.copy_(latest)
        latest = latest + SMALLEST
        sides = (latest / latest.sum(dim=1, keepdim=True)).log().sum(dim=1, keepdim=True)
        return -self.tree.penalty * (weight * sides).sum() / 2


def build_tree(architecture: Tree, shape: Shape, classes: int) -> nn.Module:
    """Return a tree; its leaves' values start as those of a dense layer do."""
    return SoftTree(math.prod(shape), classes, architecture)
