"""The attack ``cw0`` of Carlini and Wagner: the fewest pixels."""

from __future__ import annotations

import torch
from torch import Tensor

from kdops.probing.cw import Found, descend, slope
from kdops.probing.cw2 import cw2, euclidean, first_step, squared, weight_of_linear
from kdops.probing.victims import Goal, Victims, per_image

__all__ = ["cw0"]

SEARCHES = 4
"""Weights that are tried for the image that the attack begins with."""

ABOVE = 8.0
"""The weight of the margin, in what a linear classifier needs: reaching the goal comes first, how near is secondary."""


def cw0(victims: Victims, images: Tensor, goal: Goal, *, iterations: int) -> Tensor:
    """Reach the goal with ever fewer pixels: those whose change contributes least are taken away again and again.

    Source: Carlini and Wagner, "Towards Evaluating the Robustness of Neural Networks", 2017, section VI.B; a pixel
    contributes gradient times change, summed over its channels. Half of the pixels are taken away at once, and where
    that fails half as many, down to a single one, in place of one after another.

    Args:
        victims: the networks.
        images: ``[M, N, C, H, W]`` in [0, 1].
        goal: what is wanted.
        iterations: steps for each set of pixels.

    Returns:
        Changed images ``[M, N, C, H, W]``; those for which nothing is found are as they were.
    """

    def fewest(margin: Tensor, gradient: Tensor) -> Tensor:
        room = torch.where(gradient > 0, images, 1 - images)
        gains = (gradient.abs() * room).sum(dim=2).flatten(2).sort(dim=2, descending=True).values.cumsum(dim=2)
        return (gains < margin.unsqueeze(2)).sum(dim=2).float()

    goal = goal.aimed(victims, images, fewest)
    margin, gradient = slope(victims, images, goal)
    pixels = images[0, 0, 0].numel()
    result = cw2(victims, images, goal, iterations=iterations, searches=SEARCHES)
    kept = mask = torch.ones_like(images[:, :, :1], dtype=torch.bool)
    above = torch.full(images.shape[:2], ABOVE)
    removed = torch.full(images.shape[:2], pixels)
    active = reached = goal.reached(victims.classes(result))
    while bool(active.any()):
        change = result - images
        worth = (victims.gradient(result, goal.margin) * change).sum(dim=2, keepdim=True).abs()
        changed = kept & (change.abs().amax(dim=2, keepdim=True) > 0)
        left = changed.flatten(2).sum(dim=2)
        removed = torch.minimum(torch.where(reached, removed, removed // 2), left // 2).clamp(min=1)
        ranks = worth.masked_fill(~changed, -1.0).flatten(2).argsort(dim=2).argsort(dim=2).view_as(worth)
        mask = changed & (ranks >= per_image(pixels - left + removed))
        own = Found(images)
        own_gradient = gradient * mask
        weight, step = above * weight_of_linear(margin, own_gradient), first_step(margin, own_gradient)
        start = torch.where(mask, result, images)
        descend(victims, images, goal, own, start, weight, step, squared, euclidean, iterations, mask)
        reached = own.distance.isfinite() & active
        result = torch.where(per_image(reached), own.images, result)
        kept = torch.where(per_image(reached), mask, kept)
        above = torch.where(reached, above, 2 * above)
        # Where no single pixel can be spared, or none was needed, the attack is at its end.
        active = active & (left > 0) & (reached | (removed > 1))
    return result
