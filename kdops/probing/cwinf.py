"""The attack ``cwinf`` of Carlini and Wagner: the least largest change of a value."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from kdops.probing.cw import SIGN, Found, descend, slope
from kdops.probing.cw2 import SMALLEST, largest
from kdops.probing.victims import Goal, Victims, per_image

__all__ = ["cwinf"]

FALL, FINEST = 0.9, 0.997
"""What the bound is multiplied by where it was kept; one that falls less than the second is as low as it gets."""

REACH = 0.1
"""The first step of a value, as a part of the bound."""

MOST_ROUNDS = 60


def cwinf(victims: Victims, images: Tensor, goal: Goal, *, iterations: int) -> Tensor:
    """Find an image that reaches the goal with no value changed by more than a bound, which falls as long as there is.

    Source: Carlini and Wagner, "Towards Evaluating the Robustness of Neural Networks", 2017, section VI.C: what
    exceeds the bound is penalized, the bound falls to 0.9 of it, and each round begins where the last one ended. Here
    the fall is halved where nothing is found, until it is below 0.3 %, in place of an end there.

    Args:
        victims: the networks.
        images: ``[M, N, C, H, W]`` in [0, 1].
        goal: what is wanted.
        iterations: steps for each bound.

    Returns:
        Changed images ``[M, N, C, H, W]``; those for which nothing is found are as they were.
    """
    found = Found(images)
    goal = goal.aimed(victims, images, lambda margin, slope: margin / slope.abs().flatten(2).sum(dim=2))
    margin, gradient = slope(victims, images, goal)
    size = gradient.abs().flatten(2).sum(dim=2).clamp_min(SMALLEST)
    # Beyond the bound a value then always costs more than it gains for the goal, whatever the size of the logits.
    weight = 0.9 / largest(gradient).clamp_min(SMALLEST)
    bound, fall = (2 * margin / size).clamp_max(1.0), torch.full_like(margin, FALL)
    for _ in range(MOST_ROUNDS):
        penalty, step = partial(exceeding, bound=per_image(bound)), REACH * bound
        descend(victims, images, goal, found, found.images, weight, step, penalty, largest, iterations, betas=SIGN)
        known = found.distance.isfinite()
        hopeless = ~known & (bound >= 1)
        # A bound that was kept but for a part of the last fall counts as kept; an image that was wrong before has 0.
        failed = known & (found.distance >= bound * (1 + (1 - fall) / 2))
        fall = torch.where(failed, fall.sqrt(), fall)
        bound = torch.where(known, found.distance * fall, (2 * bound).clamp_max(1.0))
        if bool(((fall > FINEST) | hopeless).all()):
            break
    return found.images


def exceeding(change: Tensor, bound: Tensor) -> Tensor:
    """Return by how much the values of changes ``[M, N, C, H, W]`` exceed a bound, their sum, ``[M, N]``."""
    return (change.abs() - bound).clamp_min(0).flatten(2).sum(dim=2)
