"""Training of a search's trials: dense nets of unequal width, depth, rates and options, together as far as they can be.

Each trial has the result that :func:`kdops.training.trainer.train_pass` returns for it alone. Like there, values come
in and values go out; nothing here logs, and nothing reads the global random state.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Collection, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch

from kdops.config.recipes import Recipe
from kdops.distillation.method import Method
from kdops.distillation.sources import Asked, Kept, KeptViews, Live
from kdops.models.classifier import Classifier
from kdops.models.taps import check_taps
from kdops.training.epoch_losses import EpochLosses
from kdops.training.evaluation import measure_members
from kdops.training.groups import Group, Images, PassInputs
from kdops.training.history import DIVERGED, PRUNED, Meter, Trained
from kdops.training.initialization import new_network, streams_of_networks
from kdops.training.joint import JointNetworks
from kdops.training.separate import SeparateModels
from kdops.training.stacked import StackedMLPs
from kdops.training.stacked_uneven import PaddedMLPs
from kdops.training.training_pass import TrainingPass
from kdops.utils.hardware import threads_for
from kdops.utils.progress import Progress

ALIKE = ("batch_size", "optimizer", "normalize", "augment", "views", "class_weights")
"""The settings that all members of a pass have in common; in the others they may differ."""

Source = Kept | Live | KeptViews | Asked
AfterEpoch = Callable[[Mapping[int, Mapping[str, float]], int], Collection[int]]
"""Called after every epoch of a pass with the metrics of each of its trials, by place in the plans, and the number of
the epoch, from 1; returns which of them to end there."""


@dataclass(frozen=True)
class TrialPlan:
    """One trial.

    Attributes:
        recipe: architecture, epochs (the same for all trials of a batch), batch size and rates.
        temperature: above zero.
        method: what it learns.
    """

    recipe: Recipe
    temperature: float
    method: Method


def train_trials(
    plans: Sequence[TrialPlan],
    seed: int,
    sources: Sequence[Source],
    inputs: PassInputs,
    *,
    after_epoch: AfterEpoch = lambda epochs, epoch: (),
    progress: Progress | None = None,
) -> Iterator[Trained]:
    """Train every trial for its recipe's epochs and keep the last epoch.

    Dense nets with one method of logits that have all of ``ALIKE`` in common are trained together in one pass, the
    smallest batch size first; a trial of any other method or network has a pass of its own. Each is initialized by
    (role, seed, temperature) and sees the batch order of (role, seed), as :func:`kdops.training.trainer.train_pass` has
    it.

    Args:
        plans: the trials.
        seed: the replicate, the same for all trials.
        sources: each trial's source; where several share one it is the same object.
        inputs: images, classes, statistics, and where to train.
        after_epoch: returns which trials to end. After the last epoch its answer changes nothing. Trials that diverged
            are not in it.
        progress: called with (images passed, images in all), counted over trials; what an ended trial leaves out
            counts as passed.

    Yields:
        Each trial, its number being its place in ``plans``, as soon as it is complete, pruned, or its loss or what is
        measured of it is no longer finite. Its history has ``val_nll`` too.

    Raises:
        ValueError: the trials differ in their epochs, or a temperature is not above zero.
        UsageError: the networks lack what a method needs.
    """
    if len({plan.recipe.epochs for plan in plans}) > 1:
        raise ValueError("the trials of a batch must have the same number of epochs")
    if not all(plan.temperature > 0 for plan in plans):
        raise ValueError("the temperature of a trial must be above zero; hard labels are alpha = 0")
    inputs = inputs.there()
    meter = Meter(progress, sum(plan.recipe.epochs for plan in plans) * len(inputs.images.labels))
    for places in trial_passes(plans, sources):
        own = [plans[place] for place in places]
        nets = [new_network(inputs, one.recipe, seed, one.temperature) for one in own]
        method, size, networks = own[0].method, own[0].recipe.batch_size, _networks(own[0])
        check_taps(nets[0], method.needs.student, "student")
        flops = sum(one.recipe.architecture.flops(inputs.shape, inputs.classes) for one in own)
        trained = _TrialPass(
            inputs,
            _groups(seed, places, plans, sources),
            [one.recipe for one in own],
            [one.method for one in own],
            networks(nets, inputs.device),
            streams_of_networks(nets),
            threads_for(flops, size),
        )
        trained.numbers, trained.after_epoch = places, after_epoch
        yield from trained.run(meter)


class _TrialPass(TrainingPass):
    """Trials while they are trained; one that diverges leaves the others as they are."""

    logs_terms = False
    after_epoch: AfterEpoch

    def _measure(self, validation: Images) -> dict[str, list[float]]:
        return measure_members(self.networks, validation, more=True)

    def _leave(self, epoch: int, meter: Meter) -> list[Trained]:
        latest = [{name: values[-1] for name, values in history.items()} for history in self.histories]
        found = dict(zip(self.numbers, latest, strict=True))
        finite = {number: one for number, one in found.items() if all(map(math.isfinite, one.values()))}
        pruned = self.after_epoch(finite, epoch + 1) if finite else ()
        is_last = epoch + 1 == self.epochs
        ended = {number: DIVERGED for number in found if number not in finite}
        ended |= {number: PRUNED for number in finite if number in pruned and not is_last}
        left = [self._result(place, {}, ended[own]) for place, own in enumerate(self.numbers) if own in ended]
        if left:
            meter.add(len(left) * (self.epochs - epoch - 1) * len(self.images.labels))
            self._keep([place for place, number in enumerate(self.numbers) if number not in ended])
        return sorted(left, key=lambda one: one.number)

    def _keep(self, places: Sequence[int]) -> None:
        """Drop all members but those at these places."""
        for name in ("members", "numbers", "recipes", "methods", "histories"):
            setattr(self, name, [getattr(self, name)[place] for place in places])
        starts = [sum(feed.size for feed in self.feeds[:number]) for number in range(len(self.feeds))]
        for feed, start in zip(self.feeds, starts, strict=True):
            feed.size = sum(start <= place < start + feed.size for place in places)
        self.feeds = [feed for feed in self.feeds if feed.size]
        if places:
            self.networks.keep(places)
            self.optimizer.keep(places, self.networks.parts())
            self._set_objective([])
            self.losses = EpochLosses(len(places), self.device)


def trial_passes(plans: Sequence[TrialPlan], sources: Sequence[Source]) -> list[list[int]]:
    """Return the places of the trials of each pass; those that share a source follow each other."""
    found: dict[tuple[tuple[Any, ...], Hashable], list[int]] = {}
    # In an order of their own, so that the order of the plans changes no bit.
    for place in sorted(range(len(plans)), key=lambda place: repr(plans[place])):
        plan = plans[place]
        kind = _kind(plan.method) if _is_shared(plan) else place
        found.setdefault((tuple(getattr(plan.recipe, name) for name in ALIKE), kind), []).append(place)
    passes = []
    for key in sorted(found, key=lambda key: key[0]):
        by_source: dict[int, list[int]] = {}
        for place in found[key]:
            by_source.setdefault(id(sources[place]), []).append(place)
        passes.append([place for own in by_source.values() for place in own])
    return passes


def _groups(seed: int, places: Sequence[int], plans: Sequence[TrialPlan], sources: Sequence[Source]) -> list[Group]:
    """Return the groups of one pass: trials that follow each other and share a source."""
    kinds = itertools.groupby(places, key=lambda place: id(sources[place]))
    shared = [list(own) for _, own in kinds]
    return [Group(seed, tuple(plans[place].temperature for place in own), sources[own[0]]) for own in shared]


def _is_shared(plan: TrialPlan) -> bool:
    """Return whether trials of a kind are trained together, however wide and deep their networks are."""
    method = plan.method
    is_plain = method.is_stacked and not method.has_modules and not method.needs.student
    return is_plain and plan.recipe.architecture.is_dense


def _networks(plan: TrialPlan) -> Callable[[Sequence[Classifier], torch.device | str], JointNetworks]:
    """Return what computes the networks of one pass."""
    if _is_shared(plan):
        return PaddedMLPs
    method = plan.method
    alone = StackedMLPs if method.is_stacked and plan.recipe.architecture.is_dense else SeparateModels
    return lambda nets, device: alone([nets], device, method.needs.student)


def _kind(method: Method) -> Hashable:
    """Return what methods must share to be stacked: all but the values of numbers and truth values."""
    values = [getattr(method, option.name) for option in fields(method)]  # type: ignore[arg-type]
    others = [_kind(one) if isinstance(one, Method) else one for one in values if not isinstance(one, int | float)]
    return (type(method), *others)
