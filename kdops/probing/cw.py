"""What the three attacks of Carlini and Wagner share: descent on an image within its box.

Source: "Towards Evaluating the Robustness of Neural Networks", 2017, sections V and VI.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from kdops.probing.victims import Goal, Victims, per_image

__all__ = ["SIGN", "Found", "descend", "slope"]

ADAM, SIGN = (0.9, 0.999), (0.0, 0.0)
"""The two decay rates of Adam; without memory its step is the sign of the gradient."""

TINY = 1e-20
"""In place of Adam's 1e-8, since gradients of any size have their steps."""


class Found:
    """The nearest images so far that reach the goal.

    Args:
        images: ``[M, N, C, H, W]`` in [0, 1], which stay where nothing is found.

    Attributes:
        images: likewise.
        distance: of each, ``[M, N]``; infinite where nothing was found.
    """

    def __init__(self, images: Tensor):
        self.images = images.clone()
        self.distance = torch.full(images.shape[:2], torch.inf)

    def keep(self, images: Tensor, distance: Tensor, reached: Tensor) -> None:
        """Keep those that reach the goal at a lower distance."""
        better = reached & (distance < self.distance)
        self.distance = torch.where(better, distance, self.distance)
        self.images = torch.where(per_image(better), images, self.images)


def descend(
    victims: Victims,
    originals: Tensor,
    goal: Goal,
    found: Found,
    start: Tensor,
    weight: Tensor,
    step: Tensor,
    penalty: Callable[[Tensor], Tensor],
    distance: Callable[[Tensor], Tensor],
    iterations: int,
    mask: Tensor | None = None,
    betas: tuple[float, float] = ADAM,
) -> None:
    """Minimize ``penalty(d) + weight · max(margin, 0)`` over the changes d, by Adam, clipped to the box in each step.

    Of the paper's ways to stay in the box this is projected gradient descent, not tanh: values that are 0 or 1, as most
    of a scan, then need no long way before they change. The steps fall to zero, so that few of them end close.

    Args:
        victims: the networks.
        originals: ``[M, N, C, H, W]`` in [0, 1].
        goal: what is wanted.
        found: keeps every image on the way that reaches the goal and is nearer.
        start: where to begin, likewise.
        weight: of the margin, ``[M, N]``.
        step: the length of the first step of a value, ``[M, N]``.
        penalty: of the change d, ``[M, N]``.
        distance: of the change d, ``[M, N]``: what is to be least.
        iterations: steps.
        mask: ``[M, N, 1, H, W]``, which pixels may change; None for all.
        betas: see :data:`ADAM`.
    """
    images, length = start.clone(), per_image(step)
    first, second = torch.zeros_like(images), torch.zeros_like(images)
    for number in range(iterations + 1):
        given = images.requires_grad_()
        with torch.enable_grad():
            change = given - originals
            logits = victims.logits(given)
            margin = goal.margin(logits)
            loss = penalty(change) + weight * margin.clamp_min(0)
            (gradient,) = torch.autograd.grad(loss.sum(), given)
        images = images.detach()
        found.keep(images, distance(change.detach()), goal.reached(logits.detach().argmax(dim=-1)))
        if mask is not None:
            gradient = gradient * mask
        first.lerp_(gradient, 1 - betas[0])
        second.lerp_(gradient.square_(), 1 - betas[1])
        mean, square = (1 - beta ** (number + 1) for beta in betas)
        move = first / mean / (second / square).sqrt_().add_(TINY)
        images = (images - length * (1 - number / iterations) * move).clamp_(0, 1)


def slope(victims: Victims, images: Tensor, goal: Goal) -> tuple[Tensor, Tensor]:
    """Return the margin ``[M, N]`` at some images and its gradient ``[M, N, C, H, W]``.

    What a linear classifier of that slope needs tells where to begin, whatever the size of the logits is.
    """
    with torch.no_grad():
        margin = goal.margin(victims.logits(images)).clamp_min(torch.finfo(torch.float32).tiny)
    return margin, victims.gradient(images, goal.margin)
