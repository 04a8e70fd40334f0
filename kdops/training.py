"""Training: one loop for a fleet of dense nets and for a single network of any kind.

It takes values and gives values; nothing here logs, and nothing reads the global random state.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from kdops.checkpoint import Checkpoint
from kdops.fleet import DenseFleet, can_stack
from kdops.losses import DistillationLoss
from kdops.models import Borrower, Classifier, Dropout, build
from kdops.randomness import generator
from kdops.recipes import Recipe
from kdops.threads import threads_for
from kdops.training_pass import Group, Images, Meter, Pass, Progress, SingleNet, Trained

__all__ = ["Group", "Images", "Trained", "train"]

CheckpointOf = Callable[[Sequence[tuple[int, float]]], Checkpoint | None]


def train(
    role: str,
    recipe: Recipe,
    groups: Sequence[Group],
    images: Images,
    validation: Images,
    classes: int,
    statistics: tuple[Tensor, Tensor],
    loss: DistillationLoss,
    *,
    device: torch.device | str = "cpu",
    progress: Progress | None = None,
    checkpoint_of: CheckpointOf = lambda members: None,
) -> Iterator[Trained]:
    """Train every member of every group for the recipe's epochs and keep the last epoch.

    Dense nets are trained together in one pass; others one after another, each given as soon as it is done.
    Every member is initialised by (role, seed, temperature), so a student distilled directly and one distilled
    through a middle net start alike; the batch order is drawn from (role, seed), which pairs their comparison.
    Of networks that others wrote, which may normalise by the batch, a last batch of one image joins the one before it.

    Args:
        role: name of the random streams.
        recipe: architecture, epochs, batch size and rates.
        groups: who is trained.
        images: what they are trained on; every group sees all of them in every epoch.
        validation: measured after every epoch, never trained on.
        classes: number of classes.
        statistics: mean and standard deviation of each channel, see :class:`~kdops.models.Classifier`.
        loss: the loss.
        device: where to train.
        progress: called with (images passed, images in all), counted over members.
        checkpoint_of: gives the checkpoint of a pass by its members, (seed, temperature); None to keep nothing.

    Raises:
        DivergenceError: a member's loss stopped being finite; names the member.
    """
    groups = [alone for group in groups for alone in (_apart(group) if group.own_order else [group])]
    shape = tuple(images.pixels.shape[1:])
    nets = [
        [_fresh(role, recipe, g.seed, t, shape, classes, statistics, device) for t in g.temperatures] for g in groups
    ]
    images, validation = images.to(device), validation.to(device)
    passes: list[tuple[list[Group], list[Classifier], Callable[[], DenseFleet | SingleNet]]]
    if can_stack(nets[0][0]):
        passes = [(groups, [net for row in nets for net in row], lambda: DenseFleet(nets, device))]
    else:
        passes = [
            ([alone], [net], lambda net=net: SingleNet(net, device))
            for group, row in zip(groups, nets, strict=True)
            for alone, net in zip(_apart(group), row, strict=True)
        ]
    members = sum(len(group.temperatures) for group in groups)
    meter = Meter(progress, members * len(images.labels) * recipe.epochs)
    for together, own, engine in passes:
        streams = [part.stream for net in own for part in _drawing(net)]
        flops = recipe.architecture.flops(shape, classes) if recipe.architecture.is_counted else math.inf
        # Of one replicate: how many ride along changes nothing about how it is computed.
        threads = threads_for(flops * max(len(group.temperatures) for group in together), recipe.batch_size)
        training = Pass(role, recipe, together, engine(), streams, images, validation, loss, device, threads)
        yield from training.run(meter, checkpoint_of(training.members))


def _apart(group: Group) -> list[Group]:
    """Give one group for each member."""
    return [replace(group, temperatures=(temperature,)) for temperature in group.temperatures]


def _fresh(role, recipe, seed, temperature, shape, classes, statistics, device) -> Classifier:
    """Build one member; its dropout draws from a stream of its own, on the device where its values lie."""
    words = (role, seed, f"{temperature:g}")
    net = build(recipe.architecture, shape, classes, *statistics, generator("init", *words))
    for number, part in enumerate(_drawing(net)):
        part.stream = generator("dropout", *words, number, device=device)
    return net


def _drawing(net: Classifier) -> list[Dropout | Borrower]:
    """Give the parts of a network that draw while it is trained."""
    return [part for part in net.modules() if isinstance(part, Dropout | Borrower)]
