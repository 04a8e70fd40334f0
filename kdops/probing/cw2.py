"""The attack ``cw2`` of Carlini and Wagner: the least Euclidean distance."""

from __future__ import annotations

import torch
from torch import Tensor

from kdops.probing.cw import Found, descend, slope
from kdops.probing.victims import Goal, Victims

__all__ = ["cw2", "euclidean", "first_step", "largest", "squared", "weight_of_linear"]

SMALLEST = 1e-12
"""In place of the squared length of a gradient that is zero; weights stay finite in float32."""

REACH, LONGEST = 0.1, 0.1
"""The first step of a value, as a part of what a linear classifier needs, and at most."""


def cw2(victims: Victims, images: Tensor, goal: Goal, *, iterations: int, searches: int) -> Tensor:
    """Find the nearest image that reaches the goal, by the Euclidean distance.

    Source: Carlini and Wagner, "Towards Evaluating the Robustness of Neural Networks", 2017, section VI.A. The weight
    of the margin is searched as there: times ten until the goal is reached, then halfway, here of the logarithms. The
    first one is the least that would do for a linear classifier, in place of 0.001 for all.

    Args:
        victims: the networks.
        images: ``[M, N, C, H, W]`` in [0, 1].
        goal: what is wanted.
        iterations: steps for each weight.
        searches: weights that are tried.

    Returns:
        Changed images ``[M, N, C, H, W]``; those for which nothing is found are as they were.
    """
    found, goal = Found(images), goal.aimed(victims, images, lambda margin, slope: margin / euclidean(slope))
    margin, gradient = slope(victims, images, goal)
    weight, step = 1.5 * weight_of_linear(margin, gradient), first_step(margin, gradient)
    low, high = torch.zeros_like(weight), torch.full_like(weight, torch.inf)
    for _ in range(searches):
        own = Found(images)
        descend(victims, images, goal, own, images, weight, step, squared, euclidean, iterations)
        reached = own.distance.isfinite()
        found.keep(own.images, own.distance, reached)
        high = torch.where(reached, weight, high)
        low = torch.where(reached, low, weight)
        lower = torch.where(low > 0, (low * high).sqrt(), high / 4)
        weight = torch.where(high.isfinite(), lower, weight * 10)
    return found.images


def squared(change: Tensor) -> Tensor:
    """Return the squared Euclidean length ``[M, N]`` of changes ``[M, N, C, H, W]``."""
    return change.square().flatten(2).sum(dim=2)


def euclidean(change: Tensor) -> Tensor:
    """Return the Euclidean length ``[M, N]`` of changes ``[M, N, C, H, W]``."""
    return squared(change).sqrt()


def weight_of_linear(margin: Tensor, gradient: Tensor) -> Tensor:
    """Return the least weight ``[M, N]`` at which a linear classifier of that gradient is misled: 2 margin / |g|²."""
    return 2 * margin / squared(gradient).clamp_min(SMALLEST)


def first_step(margin: Tensor, gradient: Tensor) -> Tensor:
    """Return the first step of a value, ``[M, N]``: a part of the largest change that a linear classifier needs."""
    return (REACH * margin * largest(gradient) / squared(gradient).clamp_min(SMALLEST)).clamp_max(LONGEST)


def largest(change: Tensor) -> Tensor:
    """Return the largest change of a value, ``[M, N]``, of changes ``[M, N, C, H, W]``."""
    return change.abs().flatten(2).amax(dim=2)
