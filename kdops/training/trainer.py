"""Training: one loop for a fleet of dense nets and for networks of any kind, alone or a few at a time.

It takes values and gives values; nothing here logs, and nothing reads the global random state.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any

import torch
from torch import Tensor

from kdops.config.recipes import Recipe
from kdops.distillation.method import Method
from kdops.models.classifier import Classifier, Dropout, ExternalClassifier, build
from kdops.models.taps import check_taps
from kdops.training.checkpoint import Checkpoint
from kdops.training.separate import SeparateModels
from kdops.training.stacked import StackedMLPs, can_stack
from kdops.training.training_pass import Group, Images, Meter, Trained, TrainingPass
from kdops.utils.hardware import threads_for
from kdops.utils.progress import Progress
from kdops.utils.random import named_generator

__all__ = ["Group", "Images", "Trained", "train", "train_passes"]

NETS_A_PASS = 8
"""Convolutional nets that share a GPU; more of them hardly gain (docs/explanation/performance-gpu.md)."""

BYTES_A_VALUE = 40
"""Of the device's memory for each value that a layer gives in a step. Eight nets of GTSRB took 18 (3.0 GB); the last,
smaller batch of an epoch is recorded too, and has as much again."""

CheckpointOf = Callable[[Sequence[int]], Checkpoint | None]

Alone = tuple[Group, list[Classifier]]
"""One member as a group, and its network."""


def train(*given: Any, **options: Any) -> Iterator[Trained]:
    """Train as :func:`train_passes` does, with the same arguments, and give one member after another."""
    return chain.from_iterable(train_passes(*given, **options))


def train_passes(
    role: str,
    recipe: Recipe,
    groups: Sequence[Group],
    images: Images,
    validation: Images,
    classes: int,
    statistics: tuple[Tensor, Tensor],
    method: Method,
    *,
    device: torch.device | str = "cpu",
    progress: Progress | None = None,
    checkpoint_of: CheckpointOf = lambda members: None,
) -> Iterator[list[Trained]]:
    """Train every member of every group for the recipe's epochs and keep the last epoch.

    Dense nets are trained together in one pass; others one after another, on a graphics processor a few at a time.
    Every member is initialized by (role, seed, temperature), so a student distilled directly and one distilled
    through a middle net start alike; the batch order is drawn from (role, seed), which pairs their comparison.
    Of networks that others wrote, which may normalize by the batch, a last batch of one image joins the one before it.

    Args:
        role: name of the random streams.
        recipe: architecture, epochs, batch size and rates.
        groups: who is trained.
        images: what they are trained on; every group sees all of them in every epoch.
        validation: measured after every epoch, never trained on.
        classes: number of classes.
        statistics: mean and standard deviation of each channel, see :class:`~kdops.models.classifier.Classifier`.
        method: what the members at T > 0 learn from their source.
        device: where to train.
        progress: called with (images passed, images in all), counted over members.
        checkpoint_of: returns the checkpoint of a pass by the numbers of its members, counted over the groups; None to
            keep nothing.

    Yields:
        The members of each pass, as soon as it is done.

    Raises:
        DivergenceError: a member's loss stopped being finite; names the member.
        UsageError: the networks lack what the method needs.
    """
    groups = [alone for group in _numbered(groups) for alone in (_apart(group) if group.own_order else [group])]
    channels, height, width = images.pixels.shape[1:]
    shape = (channels, height, width)
    nets = [
        [_fresh(role, recipe, g.seed, t, shape, classes, statistics, device) for t in g.temperatures] for g in groups
    ]
    images, validation = images.to(device), validation.to(device)
    flops = recipe.architecture.flops(shape, classes) if recipe.architecture.is_counted else math.inf
    taps = method.needs.student if any(t != 0 for group in groups for t in group.temperatures) else ()
    check_taps(nets[0][0], taps, "student")
    passes: list[tuple[list[Group], list[list[Classifier]], type[StackedMLPs] | type[SeparateModels]]]
    if can_stack(nets[0][0]) and method.is_stacked:
        passes = [(groups, nets, StackedMLPs)]
    else:
        most = _nets_a_pass(recipe, shape, classes, device)
        alone = [
            (one, [net]) for g, row in zip(groups, nets, strict=True) for one, net in zip(_apart(g), row, strict=True)
        ]
        passes = [
            ([group for group, _ in part], [own for _, own in part], SeparateModels)
            for part in _parts(alone, method, most)
        ]
    meter = Meter(progress, sum(map(len, nets)) * len(images.labels) * recipe.epochs)
    for together, own, fleet in passes:
        streams = _streams([net for row in own for net in row])
        # Of one replicate: how many ride along changes nothing about how it is computed.
        threads = threads_for(flops * max(len(group.temperatures) for group in together), recipe.batch_size)
        engine = fleet(own, device, taps)
        training = TrainingPass(role, recipe, together, engine, streams, images, validation, method, device, threads)
        yield list(training.run(meter, checkpoint_of(training.numbers)))


def _nets_a_pass(recipe: Recipe, shape: tuple[int, int, int], classes: int, device: torch.device | str) -> int:
    """Return how many networks are trained in one pass where they cannot be stacked."""
    if torch.device(device).type != "cuda" or not recipe.architecture.is_counted:
        return 1
    values = recipe.batch_size * recipe.architecture.activations(shape, classes)
    memory = torch.cuda.get_device_properties(device).total_memory
    # Half of it: other programs may be there too.
    return max(1, min(NETS_A_PASS, memory // 2 // (BYTES_A_VALUE * values)))


def _parts(alone: Sequence[Alone], method: Method, most: int) -> list[Sequence[Alone]]:
    """Return members in passes; hard labels have one of their own where a method has other phases or modules."""
    kinds: list[Sequence[Alone]] = [alone]
    if not method.is_stacked:
        kinds = [[pair for pair in alone if (pair[0].temperatures[0] == 0) == hard] for hard in (True, False)]
    return [kind[start : start + most] for kind in kinds for start in range(0, len(kind), most)]


def _numbered(groups: Sequence[Group]) -> list[Group]:
    """Return the groups with their members' numbers, counted over all."""
    count, found = 0, []
    for group in groups:
        found.append(replace(group, numbers=tuple(range(count, count := count + len(group.temperatures)))))
    return found


def _apart(group: Group) -> list[Group]:
    """Return one group for each member."""
    members = zip(group.temperatures, group.numbers, strict=True)
    return [replace(group, temperatures=(temperature,), numbers=(number,)) for temperature, number in members]


def _fresh(
    role: str,
    recipe: Recipe,
    seed: int,
    temperature: float,
    shape: tuple[int, int, int],
    classes: int,
    statistics: tuple[Tensor, Tensor],
    device: torch.device | str,
) -> Classifier:
    """Build one member; its dropout draws from a stream of its own, on the device where its values lie."""
    words = (role, seed, f"{temperature:g}")
    net = build(recipe.architecture, shape, classes, *statistics, named_generator("init", *words))
    for number, part in enumerate(_drawing(net)):
        part.stream = named_generator("dropout", *words, number, device=device)
    return net


def _drawing(net: Classifier) -> list[Dropout | ExternalClassifier]:
    """Return the parts of a network that may draw while it is trained."""
    return [part for part in net.modules() if isinstance(part, Dropout | ExternalClassifier)]


def _streams(nets: Sequence[Classifier]) -> list[torch.Generator]:
    """Return the streams that networks do draw from."""
    parts = [part for net in nets for part in _drawing(net)]
    streams = [part.stream for part in parts if not isinstance(part, Dropout) or part.rate > 0]
    return [stream for stream in streams if stream is not None]
