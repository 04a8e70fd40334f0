"""The attack ``jsma``: two values at a time are set to white, those that move the goal's probability most."""

from __future__ import annotations

import torch
from torch import Tensor

from kdops.probing.victims import Goal, Victims, per_image

__all__ = ["jsma"]


def jsma(victims: Victims, images: Tensor, goal: Goal, *, share: float, temperature: float) -> Tensor:
    """Raise two values to 1 at a time until the goal is reached or a share of the image is changed.

    Source: Papernot, McDaniel, Jha, Fredrikson, Celik and Swami, "The Limitations of Deep Learning in Adversarial
    Settings", 2016, algorithm 3, with the outputs of the softmax and theta = 1. As these sum to 1, the derivatives of
    the other classes sum to minus that of the goal, so the pair of highest saliency is that of the two highest
    derivatives. Where the softmax is rounded to 0 and 1 no pair has one, and the image stays as it is.

    Args:
        victims: the networks.
        images: ``[M, N, C, H, W]`` in [0, 1].
        goal: what is wanted.
        share: of an image's values may be changed, in (0, 1].
        temperature: logits are divided by it.

    Returns:
        Changed images ``[M, N, C, H, W]``.
    """
    changed = images.clone()
    active = ~goal.reached(victims.classes(changed))
    for _ in range(int(share * images[0, 0].numel()) // 2):
        if not bool(active.any()):
            break
        gradient = victims.gradient(changed, lambda logits: goal.probability(logits / temperature))
        # A value that is 1 cannot be raised.
        best = gradient.masked_fill(changed >= 1, -torch.inf).flatten(2).topk(2, dim=2)
        active = active & (best.values.sum(dim=2) > 0)
        raised = changed.flatten(2).scatter(2, best.indices, 1.0).view_as(changed)
        changed = torch.where(per_image(active), raised, changed)
        active = active & ~goal.reached(victims.classes(changed))
    return changed
