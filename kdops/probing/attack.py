"""An attack on trained networks, and how far it came with each.

It evaluates models of one's own: attacks need their weights, and what they find is measured on images whose labels are
known.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from kdops.config.attacks import ATTACKS, Attack
from kdops.probing.cw2 import euclidean, largest
from kdops.probing.victims import LEVELS, Goal, Victims, goal_of
from kdops.utils.hardware import num_threads, process_threads
from kdops.utils.imports import load_place
from kdops.utils.memory import malloc_keeps_pages

__all__ = ["Attacked", "attack_networks", "input_gradients"]


@dataclass(frozen=True, eq=False)
class Attacked:
    """What an attack did to one network. Images that were wrong before are left out of all but the first two.

    Attributes:
        images: how many were attacked, those that were right before.
        wrong_before: how many were not.
        success: the share that reach the goal.
        success_rounded: that do so once they are rounded to uint8, as a deployed model gets them.
        unchanged: the share that came back as they were; a failure, often for want of a gradient.
        l0: pixels changed, the mean over those that reach the goal, as the next two; nan where there are none.
        l2: the Euclidean distance, of values in [0, 1].
        linf: the largest change of a value.
        before: some images that reach the goal, uint8 ``[K, C, H, W]``.
        after: the same changed and rounded.
        classes: the class numbers before and after rounding the changed ones, ``[K, 2]``.
    """

    images: int
    wrong_before: int
    success: float
    success_rounded: float
    unchanged: float
    l0: float
    l2: float
    linf: float
    before: Tensor
    after: Tensor
    classes: Tensor

    def metrics(self, name: str) -> dict[str, float]:
        """Return the metrics of a run by name, ``attack_<name>_success`` ...; what is nan is left out."""
        values = {one: value for one, value in vars(self).items() if isinstance(value, int | float)}
        return {f"attack_{name}_{one}": float(value) for one, value in values.items() if not math.isnan(value)}


DRAWN = 8
"""Images of each network that are kept to be drawn."""

MOST_VALUES = 2**23
"""Values of all images of all networks that are changed at once, which bounds the memory."""


@torch.no_grad()
def attack_networks(nets: Sequence[nn.Module], images: Tensor, labels: Tensor, attack: Attack) -> list[Attacked]:
    """Attack networks of one shape with the same images; dense ones of one architecture as one.

    Args:
        nets: from images in pixel units to logits, in ``eval()``.
        images: uint8 ``[N, C, H, W]``.
        labels: class numbers ``[N]``.
        attack: how.

    Returns:
        The result of each.

    Raises:
        KdopsError: a network gives probabilities, or has no gradient.
    """
    options = dict(attack.options)
    target, run = options.pop("target"), load_place(ATTACKS[attack.name].place)
    victims, size = Victims(nets), max(1, MOST_VALUES // (len(nets) * images[0].numel()))
    found: list[tuple[Tensor, ...]] = []
    with num_threads(process_threads()), malloc_keeps_pages():
        start = 0
        everything = goal_of(labels, victims.count_of_classes(images[:1]), target)
        for part in images.split(size):
            given = (part.float() / LEVELS).expand(len(nets), *part.shape).contiguous()
            goal = everything.of(slice(start, start + len(part)))
            start += len(part)
            right = victims.classes_as_stored(given) == goal.labels
            changed = run(victims, given, goal, **options)
            after = victims.classes_as_stored(changed)
            found.append((changed, right, goal.reached(victims.classes(changed)), goal.reached(after), after))
    joined = [torch.cat(parts, dim=1) for parts in zip(*found, strict=True)]
    return [_attacked(images, labels, *(one[member] for one in joined)) for member in range(len(nets))]


def _attacked(
    images: Tensor, labels: Tensor, changed: Tensor, right: Tensor, reached: Tensor, as_stored: Tensor, after: Tensor
) -> Attacked:
    """Return the result of one network, from values of each image."""
    change = (changed - images.float() / LEVELS).unsqueeze(0)
    values = change.abs().amax(dim=2).flatten(2)[0] > 0
    won = right & reached
    shown = torch.nonzero(right & as_stored).flatten()[:DRAWN]

    def mean(of: Tensor, among: Tensor) -> float:
        return of[among].double().mean().item()

    return Attacked(
        int(right.sum()),
        int((~right).sum()),
        mean(reached, right),
        mean(as_stored, right),
        mean(~values.any(dim=1), right),
        mean(values.sum(dim=1), won),
        mean(euclidean(change)[0], won),
        mean(largest(change)[0], won),
        images[shown],
        (changed[shown] * LEVELS).round().to(torch.uint8),
        torch.stack([labels[shown], after[shown]], dim=1),
    )


@torch.no_grad()
def input_gradients(nets: Sequence[nn.Module], images: Tensor) -> Tensor:
    """Return the largest derivative of any probability by any value of each image, ``[M, N]``.

    Source: Papernot, McDaniel, Wu, Jha and Swami, "Distillation as a Defense to Adversarial Perturbations against Deep
    Neural Networks", 2016, section IV.C: where it is zero an attack that follows the softmax finds no direction.

    Args:
        nets: from images in pixel units to logits, in ``eval()``.
        images: uint8 ``[N, C, H, W]``; the derivatives are by values in [0, 1].
    """
    victims = Victims(nets)
    given = (images.float() / LEVELS).expand(len(nets), *images.shape).contiguous()
    with num_threads(process_threads()), malloc_keeps_pages():
        found = torch.zeros(given.shape[:2])
        for number in range(victims.count_of_classes(images[:1])):
            target = torch.full(images.shape[:1], number)
            gradient = victims.gradient(given, Goal(target, target).probability)
            found = torch.maximum(found, largest(gradient))
    return found
