"""The attack ``pgd``: steps along the sign of the gradient within a box around the image."""

from __future__ import annotations

import torch
from torch import Tensor

from kdops.probing.victims import Goal, Victims, per_image
from kdops.utils.random import named_generator

__all__ = ["pgd"]


def pgd(victims: Victims, images: Tensor, goal: Goal, *, epsilon: float, iterations: int) -> Tensor:
    """Walk from a random point of the box that epsilon makes around an image, and return into it after each step.

    Source: Madry, Makelov, Schmidt, Tsipras and Vladu, "Towards Deep Learning Models Resistant to Adversarial Attacks",
    2018, section 2.1, with the loss of Carlini and Wagner on logits, which has a gradient where the softmax has none.

    Args:
        victims: the networks.
        images: ``[M, N, C, H, W]`` in [0, 1].
        goal: what is wanted.
        epsilon: half the side of the box, above 0.
        iterations: steps, of ``2.5 epsilon / iterations`` each.

    Returns:
        Changed images ``[M, N, C, H, W]``: where the goal was reached on the way, that point.
    """
    low, high = (images - epsilon).clamp_min(0), (images + epsilon).clamp_max(1)
    noise = torch.rand(images.shape[1:], generator=named_generator("start of pgd"))
    changed = low + noise * (high - low)
    found, step = images.clone(), 2.5 * epsilon / iterations
    done = torch.zeros(images.shape[:2], dtype=torch.bool)
    for _ in range(iterations):
        changed = torch.clamp(changed - step * victims.gradient(changed, goal.margin).sign(), low, high)
        reached = goal.reached(victims.classes(changed)) & ~done
        found = torch.where(per_image(reached), changed, found)
        done |= reached
        if bool(done.all()):
            break
    return torch.where(per_image(done), found, changed)
