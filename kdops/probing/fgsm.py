"""The attack ``fgsm``: one step along the sign of the gradient."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from kdops.probing.victims import Goal, Victims

__all__ = ["fgsm"]


def fgsm(victims: Victims, images: Tensor, goal: Goal, *, epsilon: float, temperature: float) -> Tensor:
    """Change every value by epsilon along the sign of the gradient of the cross entropy.

    Source: Goodfellow, Shlens and Szegedy, "Explaining and Harnessing Adversarial Examples", 2015, section 4. Where the
    softmax is rounded to 0 and 1 the gradient is zero and the image stays as it is; a temperature brings it back
    (Carlini and Wagner, 2017, section IV).

    Args:
        victims: the networks.
        images: ``[M, N, C, H, W]`` in [0, 1].
        goal: what is wanted.
        epsilon: the step, above 0.
        temperature: logits are divided by it.

    Returns:
        Changed images ``[M, N, C, H, W]``.
    """

    def loss(logits: Tensor) -> Tensor:
        places = goal.chosen.expand(logits.shape[:-1]).flatten()
        each = F.cross_entropy((logits / temperature).flatten(0, 1), places, reduction="none")
        return (each if goal.targets is None else -each).view(logits.shape[:-1])

    return (images + epsilon * victims.gradient(images, loss).sign()).clamp(0, 1)
