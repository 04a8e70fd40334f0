"""The networks under attack as one function of images in [0, 1], and what an attack wants of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from kdops.config.attacks import RANDOM
from kdops.errors import KdopsError
from kdops.models.classifier import Classifier
from kdops.training.stacked import can_stack
from kdops.utils.random import named_generator

__all__ = ["Goal", "Victims", "goal_of", "per_image"]

LEVELS = 255
"""The highest value of a pixel that is stored."""


class Victims:
    """Networks that take images of one shape, in ``eval()``.

    Dense ones of one architecture are computed as one; others one after another.

    Args:
        nets: the networks, each from images ``[N, C, H, W]`` in pixel units to logits ``[N, classes]``.
    """

    def __init__(self, nets: Sequence[nn.Module]):
        self.nets = [net.eval() for net in nets]
        first = self.nets[0]
        self._stacked: Callable[..., Tensor] | None = None
        if len(nets) > 1 and all(isinstance(net, Classifier) and can_stack(net) for net in nets):
            values = stack_module_state(self.nets)

            def one(own: dict[str, Tensor], fixed: dict[str, Tensor], images: Tensor) -> Tensor:
                return functional_call(first, (own, fixed), (images,))

            self._stacked = vmap(one)
            self._values = tuple({name: one.detach() for name, one in part.items()} for part in values)

    def logits(self, images: Tensor) -> Tensor:
        """Return logits ``[M, N, classes]`` of float images ``[M, N, C, H, W]`` in [0, 1], one batch for each network.

        Raises:
            KdopsError: a network gives probabilities: where they are rounded to 0 and 1 no attack finds a direction,
                and the network would look safe.
        """
        pixels = images * LEVELS
        if self._stacked is not None:
            found = self._stacked(*self._values, pixels)
        else:
            found = torch.stack([net(own).float() for net, own in zip(self.nets, pixels, strict=True)])
        if bool((found >= 0).all() & ((found.sum(dim=-1) - 1).abs() < 1e-4).all()):
            raise KdopsError("the model gives probabilities, not logits; an attack needs what goes into its softmax")
        return found

    @torch.no_grad()
    def count_of_classes(self, images: Tensor) -> int:
        """Return the number of classes, from an image ``[1, C, H, W]``."""
        return self.nets[0](images).shape[-1]

    def gradient(self, images: Tensor, objective: Callable[[Tensor], Tensor]) -> Tensor:
        """Return the gradient ``[M, N, C, H, W]`` of an objective ``[M, N]`` of the logits, by each image.

        Raises:
            KdopsError: the outputs do not depend on the pixels in a way that has a gradient.
        """
        with torch.enable_grad():
            given = images.detach().requires_grad_()
            (found,) = torch.autograd.grad(objective(self.logits(given)).sum(), given, allow_unused=True)
        if found is None:
            raise KdopsError("the model has no gradient by its pixels, as tree(predict=leaf); predict=mixture has one")
        return found

    @torch.no_grad()
    def classes(self, images: Tensor) -> Tensor:
        """Return the class numbers ``[M, N]`` of float images ``[M, N, C, H, W]`` in [0, 1]."""
        return self.logits(images).argmax(dim=-1)

    @torch.no_grad()
    def classes_as_stored(self, images: Tensor) -> Tensor:
        """Return the class numbers ``[M, N]`` of images that are rounded to uint8, as a deployed model gets them."""
        pixels = (images * LEVELS).round().to(torch.uint8)
        return torch.stack([net(own).argmax(dim=-1) for net, own in zip(self.nets, pixels, strict=True)])


@dataclass(frozen=True)
class Goal:
    """What an attack wants: any class but the image's own, or one target.

    Attributes:
        labels: the class number of each image, ``[N]``.
        targets: the wanted class of each image, ``[N]``; None for any other one.
        aims: where any class is wanted, the one that is headed for, ``[M, N]``; None for the most probable one.
    """

    labels: Tensor
    targets: Tensor | None = None
    aims: Tensor | None = None

    def margin(self, logits: Tensor) -> Tensor:
        """Return by how much logits ``[M, N, classes]`` miss the goal, ``[M, N]``: below zero where they reach it.

        Source: Carlini and Wagner, "Towards Evaluating the Robustness of Neural Networks", 2017, section V.A, f6.
        """
        own = at(logits, self.chosen)
        other = without(logits, self.chosen, -torch.inf).amax(dim=-1) if self.aims is None else at(logits, self.aims)
        return own - other if self.targets is None else other - own

    def probability(self, logits: Tensor) -> Tensor:
        """Return the probability of the goal under softmax, ``[M, N]``; its gradient is exact also near zero."""
        probabilities = logits.softmax(dim=-1)
        if self.targets is None:
            return without(probabilities, self.labels, 0.0).sum(dim=-1)
        return at(probabilities, self.targets)

    @property
    def chosen(self) -> Tensor:
        """The class number that is looked at: the target, or the label that is to be left."""
        return self.labels if self.targets is None else self.targets

    def of(self, rows: slice) -> Goal:
        """Return the goal of some images."""
        return Goal(self.labels[rows], None if self.targets is None else self.targets[rows])

    def reached(self, classes: Tensor) -> Tensor:
        """Return where class numbers ``[M, N]`` are as wanted."""
        return classes != self.labels if self.targets is None else classes == self.targets

    def aimed(self, victims: Victims, images: Tensor, needed: Callable[[Tensor, Tensor], Tensor]) -> Goal:
        """Return the goal with the class that is nearest by each network's slope, where any class is wanted.

        Source: Moosavi-Dezfooli, Fawzi and Frossard, "DeepFool", 2016, equation (8). The most probable class need not
        be the nearest, and a descent that heads for it ends in a local minimum.

        Args:
            victims: the networks.
            images: ``[M, N, C, H, W]`` in [0, 1].
            needed: the distance ``[M, N]``, as the attack measures it, at which a linear classifier of some margin
                ``[M, N]`` and its gradient ``[M, N, C, H, W]`` is misled.
        """
        if self.targets is not None:
            return self
        with torch.no_grad():
            logits = victims.logits(images)
        away = torch.full_like(logits, torch.inf)
        for number in range(logits.shape[-1]):
            goal = Goal(self.labels, aims=torch.full(logits.shape[:-1], number))
            away[..., number] = needed(goal.margin(logits), victims.gradient(images, goal.margin)).nan_to_num(torch.inf)
        return Goal(self.labels, aims=without(away, self.labels, torch.inf).argmin(dim=-1))


def at(values: Tensor, places: Tensor) -> Tensor:
    """Return the values ``[M, N]`` at some classes, ``[N]`` or ``[M, N]``, of ``[M, N, classes]``."""
    return values.gather(-1, places.expand(values.shape[:-1]).unsqueeze(-1)).squeeze(-1)


def without(values: Tensor, places: Tensor, value: float) -> Tensor:
    """Return values ``[M, N, classes]`` with another one at some classes, ``[N]`` or ``[M, N]``."""
    return values.scatter(-1, places.expand(values.shape[:-1]).unsqueeze(-1), value)


def goal_of(labels: Tensor, classes: int, target: str) -> Goal:
    """Return the goal of an attack; a random target is never the label, and the same one for all networks.

    Args:
        labels: class numbers ``[N]``.
        classes: number of classes.
        target: ``any`` or ``random``.
    """
    if target != RANDOM:
        return Goal(labels)
    steps = torch.randint(1, classes, labels.shape, generator=named_generator("targets of an attack"))
    return Goal(labels, (labels + steps) % classes)


def per_image(values: Tensor) -> Tensor:
    """Return one value for each network and image, to be broadcast over ``[M, N, C, H, W]``."""
    return values.view(*values.shape, 1, 1, 1)
