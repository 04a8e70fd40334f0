"""Training of a sweep: networks of a family that is stacked in one pass, others alone or a few at a time.

It takes values and returns values; nothing here logs, and nothing reads the global random state.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol, Self, TypeVar

import torch

from kdops.config.recipes import Recipe
from kdops.distillation.method import Method
from kdops.models.head import reuse_head
from kdops.models.taps import check_taps
from kdops.sweeps.model import COPY_SEEDS
from kdops.training.checkpoint import Checkpoint
from kdops.training.groups import Group, Images, PassInputs
from kdops.training.history import Meter, Trained
from kdops.training.initialization import new_network, streams_of_networks
from kdops.training.separate import SeparateModels
from kdops.training.training_pass import TrainingPass
from kdops.utils.hardware import threads_for
from kdops.utils.imports import load_place
from kdops.utils.progress import Progress

__all__ = ["Group", "Images", "PassInputs", "Trained", "cut_passes", "nets_a_pass", "train_pass"]

NETS_A_PASS = 8
"""Convolutional nets that share a GPU; more of them hardly gain (docs/explanation/performance-gpu.md)."""

BYTES_A_VALUE = 40
"""Of the device's memory for each output value of a layer in a step. Eight nets of GTSRB took 18 (3.0 GB); the last,
smaller batch of an epoch is recorded too, and has as much again."""


class Members(Protocol):
    """Members that are trained with a batch order and a source in common."""

    @property
    def seed(self) -> int:
        """The replicate."""

    @property
    def temperatures(self) -> tuple[float, ...]:
        """One a member."""

    def apart(self) -> list[Self]:
        """Return each member by itself."""


MembersT = TypeVar("MembersT", bound=Members)


def cut_passes(groups: Sequence[MembersT], together: bool, most: int) -> list[list[MembersT]]:
    """Return the groups of each pass: of stacked nets a replicate with its copies, whatever else is trained.

    Others share a pass with others at T > 0, or on hard labels.

    Args:
        groups: all that are to be trained.
        together: family and method let them be stacked.
        most: number of networks that share a pass where they cannot be stacked, see :func:`nets_a_pass`.
    """
    if together:
        replicates: dict[int, list[MembersT]] = {}
        for group in groups:
            replicates.setdefault(group.seed % COPY_SEEDS, []).append(group)
        return list(replicates.values())
    alone = [one for group in groups for one in group.apart()]
    if most == 1:
        return [[one] for one in alone]
    # Hard labels have no source, and perhaps another schedule; either must be the same for all of a pass.
    kinds = [[one for one in alone if (one.temperatures[0] == 0) == hard] for hard in (True, False)]
    return [kind[start : start + most] for kind in kinds for start in range(0, len(kind), most)]


def nets_a_pass(recipe: Recipe, shape: tuple[int, int, int], classes: int, device: torch.device | str) -> int:
    """Return how many networks are trained in one pass where they cannot be stacked."""
    if torch.device(device).type != "cuda" or not recipe.architecture.is_counted:
        return 1
    values = recipe.batch_size * recipe.architecture.activations(shape, classes)
    memory = torch.cuda.get_device_properties(device).total_memory
    # Half of it: other programs may be there too.
    return max(1, min(NETS_A_PASS, memory // 2 // (BYTES_A_VALUE * values)))


def train_pass(
    recipe: Recipe,
    groups: Sequence[Group],
    inputs: PassInputs,
    method: Method,
    *,
    progress: Progress | None = None,
    checkpoint: Checkpoint | None = None,
) -> list[Trained]:
    """Train every member of every group in one pass for the recipe's epochs and keep the last epoch.

    Every member is initialized by (role, seed, temperature), so a student distilled directly and one distilled
    through a middle net start alike; the batch order is drawn from (role, seed), which pairs their comparison.
    Of networks that others wrote, which may normalize by the batch, a last batch of one image joins the one before it.

    Args:
        recipe: architecture, epochs, batch size and rates.
        groups: the members to train, see :func:`cut_passes`.
        inputs: images, classes, statistics, and where to train.
        method: what the members at T > 0 learn from their source.
        progress: called with (images passed, images in all), counted over members.
        checkpoint: where the pass is kept from time to time; None to keep nothing.

    Returns:
        The members, group by group.

    Raises:
        DivergenceError: a member's loss stopped being finite; names the member.
        UsageError: the networks lack what the method needs.
    """
    groups = [alone for group in groups for alone in (group.apart() if group.own_order else [group])]
    inputs = inputs.there()
    nets = [[new_network(inputs, recipe, group.seed, t) for t in group.temperatures] for group in groups]
    for group, row in zip(groups, nets, strict=True):
        for t, net in zip(group.temperatures, row, strict=True):
            if group.head and t != 0:
                reuse_head(net, group.head)
    taps = method.needs.student if any(t != 0 for group in groups for t in group.temperatures) else ()
    check_taps(nets[0][0], taps, "student")
    place, stack = recipe.architecture.stacks, SeparateModels
    if place and method.is_stacked:
        stack = load_place(place)
    else:
        nets, groups = [[net] for row in nets for net in row], [alone for group in groups for alone in group.apart()]
    streams = streams_of_networks([net for row in nets for net in row])
    flops = recipe.architecture.flops(inputs.shape, inputs.classes) if recipe.architecture.is_counted else math.inf
    threads = threads_for(flops * max(len(group.temperatures) for group in groups), recipe.batch_size)
    count = sum(map(len, nets))
    plans = [recipe] * count, [method] * count
    networks = stack(nets, inputs.device, taps)
    training = TrainingPass(inputs, groups, *plans, networks, streams, threads)
    meter = Meter(progress, count * len(inputs.images.labels) * recipe.epochs)
    return list(training.run(meter, checkpoint))
