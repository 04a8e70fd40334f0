"""One pass of training: networks that are trained together, epoch by epoch.

A sweep is the case where all members have one recipe and one method, and all stay to the end; the trials of a search
(:mod:`kdops.training.trials`) differ in both and may leave early. All that the next epoch depends on is here as named
tensors and plain values, so that a pass can be kept and gone on with: the result is that of one that was never cut
off, to the last bit.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import reduce
from operator import add

import torch
from torch import Tensor, nn

from kdops.config.augmentation import MIXUP, NONE, parse_augment
from kdops.config.recipes import Recipe
from kdops.data.memmap import Pixels
from kdops.distillation.adapters import sizes_beside
from kdops.distillation.labels import LabelLoss, MixedLabelLoss
from kdops.distillation.method import Method
from kdops.distillation.objective import Objective
from kdops.distillation.sources import Live
from kdops.errors import DivergenceError
from kdops.sweeps.metrics import TRAIN_KL, TRAIN_LOSS
from kdops.training.checkpoint import Checkpoint
from kdops.training.cuda_graph import CudaGraphStep
from kdops.training.epoch_losses import EpochLosses
from kdops.training.evaluation import measure_members
from kdops.training.feeds import feeds_of, seen_by
from kdops.training.groups import Group, Images, PassInputs, batches_of, for_members, joined, label_loss
from kdops.training.history import COMPLETE, Meter, Trained, add_epoch, own_history
from kdops.training.joint import JointNetworks
from kdops.training.method_modules import modules_of
from kdops.training.optimizer import Optimizer
from kdops.training.schedule import Stage, rates_of, stages_of
from kdops.training.source_divergence import measured_rows, source_divergence
from kdops.utils.hardware import allow_tf32, with_threads
from kdops.utils.memory import malloc_keeps_pages

PLAIN = ("histories", "seconds")
"""The attributes of a pass that its checkpoint has as plain values."""

KEPT = "kept."
"""Begins the names of weights after an epoch, followed by the epoch, the member and the name in its network."""


class TrainingPass:
    """One pass of training.

    Optimizer and schedule are the recipe's, stepped once a batch. Each phase of the method has an optimizer and a
    schedule of its own, within the recipe's epochs.

    Args:
        inputs: images, on the device, and where to train.
        groups: the members.
        recipes: each member's rates; epochs, batch size, optimizer and class weights are the same for all.
        methods: what each member at T > 0 learns: one method, whose options may differ where it is stacked.
        networks: the members' networks.
        streams: what the networks draw from while they are trained.
        threads: how many compute.
    """

    logs_terms = True
    """Whether the terms of the loss are measured apart."""

    def __init__(
        self,
        inputs: PassInputs,
        groups: Sequence[Group],
        recipes: Sequence[Recipe],
        methods: Sequence[Method],
        networks: JointNetworks,
        streams: Sequence[torch.Generator],
        threads: int,
    ):
        self.role, self.recipes, self.methods, self.networks = inputs.role, list(recipes), list(methods), networks
        self.images, self.validation, self.threads = inputs.images, inputs.validation, threads
        self.device, self.classes = inputs.device, inputs.classes
        self.epochs, self.keep_epochs = recipes[0].epochs, inputs.keep_epochs
        self.batches = batches_of(len(self.images.labels), recipes[0].batch_size, alone=networks.learns_from_one)
        self.is_soft = any(t != 0 for group in groups for t in group.temperatures)
        self.is_augmented = recipes[0].augment != NONE
        self.is_mixed = MIXUP in parse_augment(recipes[0].augment)
        self.feeds = feeds_of(self.role, groups, methods[0], self.images, self.is_soft, recipes[0])
        self.members = [(group.seed, t) for group in groups for t in group.temperatures]
        self.numbers = list(range(len(self.members)))
        self._set_objective(self._modules(methods[0]) if self.is_soft else [])
        self.stages = stages_of(self.objective.method.phases(), self.epochs)
        self.stage = self.stages[0]
        self.progress = torch.zeros((), device=self.device)
        live = self.is_augmented or any(isinstance(group.source, Live) for group in groups)
        self.can_replay = torch.device(self.device).type == "cuda" and networks.can_replay and not live
        self.drawn_from = list(streams)
        # There while it runs.
        self.pixels: Pixels
        self.step: Callable[..., None]
        self.histories: list[dict[str, list[float]]] = [{} for _ in self.members]
        self.seconds = 0.0
        self.kept: dict[int, list[dict[str, Tensor]]] = {}

    def run(self, meter: Meter, checkpoint: Checkpoint | None = None) -> Iterator[Trained]:
        """Train for the recipe's epochs, and yield every member as soon as it is done.

        Args:
            meter: counts the images passed.
            checkpoint: where the pass is kept from time to time; what is kept there already it goes on with.

        Raises:
            DivergenceError: a member's loss stopped being finite; names the member.
        """
        try:
            with malloc_keeps_pages():
                for left in with_threads(self.threads, self._train(meter, checkpoint)):
                    yield from left
        finally:
            # A recording holds memory of the device, and this pass: what holds itself lives until the collector comes
            # by. The images would stay as long as the trained networks are measured and stored.
            for name in ("step", "pixels"):
                vars(self).pop(name, None)
        done = zip(range(len(self.members)), self.networks.states() if self.members else (), strict=True)
        yield from sorted((self._result(place, state, COMPLETE) for place, state in done), key=lambda one: one.number)

    def _train(self, meter: Meter, checkpoint: Checkpoint | None) -> Iterator[list[Trained]]:
        """Pass over all epochs that are left, and yield the members that leave after one."""
        started = time.perf_counter()
        kept = checkpoint.load(self._tensors()) if checkpoint is not None else None
        if kept is not None:
            self._go_on(*kept)
        first = len(self.histories[0].get(TRAIN_LOSS, ()))
        if kept is not None:
            if first < self.epochs:
                self._enter(first, kept[0])
            meter.add(first * len(self.members) * len(self.images.labels))
        elif 0 in self.keep_epochs:
            self.kept[0] = self.networks.states()
        self.pixels = self.images.pixels if self.is_augmented else self.networks.prepared(self.images.pixels)
        validation = replace(self.validation, pixels=self.networks.prepared(self.validation.pixels))
        for epoch in range(first, self.epochs):
            if epoch == self._stage_of(epoch).start:
                self._enter(epoch)
            with allow_tf32(self.device):
                measured = self._train_epoch(epoch, meter)
            add_epoch(self.histories, measured | self._measure(validation))
            if epoch + 1 in self.keep_epochs:
                self.kept[epoch + 1] = self.networks.states()
            now = time.perf_counter()
            self.seconds, started = self.seconds + (now - started) / len(self.members), now
            left = self._leave(epoch, meter)
            if left:
                yield left
                started = time.perf_counter()
            if not self.members:
                return
            last = epoch + 1 == self.epochs
            if checkpoint is not None and (last or checkpoint.is_due()):
                # Once it is done, its weights are all that is asked for.
                checkpoint.save(self._tensors() | ({} if last else self._moments()), self._plain())

    def _enter(self, epoch: int, kept: Mapping[str, Tensor] | None = None) -> None:
        """Begin the stage of an epoch with a new optimizer, or go on within it with what the optimizer had."""
        self.stage = self._stage_of(epoch)
        steps = (self.stage.stop - self.stage.start) * len(self.batches)
        parts, recipes = self.networks.parts(), self.recipes
        schedules: list[Sequence[float]]
        if self.networks.has_own_rates:
            schedules = [[one.learning_rate * own for own in rates_of(one.schedule, steps)] for one in recipes]
        else:
            recipes = recipes[:1]
            schedules = [rates_of(recipes[0].schedule, steps, recipes[0].learning_rate)]
            parts[0] += [values for own in self.objective.modules for values in own.parameters()]
        decays = [one.weight_decay for one in recipes]
        rates_on = self.device if self.can_replay else None
        matrices = self.networks.matrices()
        self.optimizer = Optimizer(parts, schedules, decays, rates_on, recipes[0].optimizer, matrices)
        self.losses = EpochLosses(len(self.members), self.device)
        self.step = self._step
        if self.can_replay and isinstance(self.images.pixels, Tensor):
            self.step = CudaGraphStep(self._step, self.drawn_from)
        if kept is not None and epoch > self.stage.start:
            self.optimizer.load(kept)

    def _set_rates(self, step: int) -> None:
        """Set the learning rates to those of a step of the stage, counted from 0."""
        self.optimizer.set_rate(step)

    def _moments(self) -> dict[str, Tensor]:
        """Return what the optimizer keeps, by name."""
        return self.optimizer.state()

    def _stage_of(self, epoch: int) -> Stage:
        return next(stage for stage in self.stages if epoch < stage.stop)

    def _train_epoch(self, epoch: int, meter: Meter) -> dict[str, list[float]]:
        """Pass over all images once and return the mean of each member's loss, and of its terms where it has some."""
        count, begun = len(self.images.labels), epoch * len(self.batches)
        steps, first = self.epochs * len(self.batches), self.stage.start * len(self.batches)
        shuffled = [feed.shuffled(count).to(self.device) for feed in self.feeds]
        for feed in self.feeds:
            feed.enter(epoch)
        self.losses.clear()
        self.networks.training = True
        for number, batch in enumerate(self.batches, start=begun):
            self._set_rates(number - first)
            if self.objective.method.needs.progress:
                self.progress.fill_(number / steps)
            self.step(*(order[batch] for order in shuffled))
            meter.add(len(self.members) * (batch.stop - batch.start))
        return self.losses.means(count)

    def _step(self, *chosen: Tensor) -> None:
        """Learn from one batch of each group, given by the rows ``[B]`` of its images."""
        sizes = [feed.size for feed in self.feeds]
        seen = self._seen(chosen)
        student = self.networks.outputs(seen[: self.networks.batches])
        labels = for_members([feed.labels[rows] for feed, rows in zip(self.feeds, chosen, strict=True)], sizes)
        given = zip(self.feeds, chosen, seen, strict=True)
        sources = [feed.outputs(rows, own) for feed, rows, own in given if feed.source is not None]
        source = joined(sources, sizes) if sources else None
        if self.objective.method.needs.peers:
            source = student.map(Tensor.detach)
        rows = for_members(chosen, sizes) if self.objective.method.needs.rows else None
        own_loss = self._label_loss(chosen)
        terms = self.objective.terms(student, labels, source, self.progress, self.stage.phase, rows, own_loss)
        each = reduce(add, terms.values())
        for own in self.objective.modules:
            own.zero_grad(set_to_none=True)
        # Members share no weights, so the gradient of the sum is every member's own.
        self.networks.backward(each.sum())
        self.optimizer.step()
        self._add_up(each, terms, labels.shape[1])

    def _seen(self, chosen: Sequence[Tensor]) -> list[Tensor]:
        """Return what the members of each feed see of their batch, given by its rows."""
        return seen_by(self.feeds, chosen, self.pixels, self.networks.batches)

    def _label_loss(self, chosen: Sequence[Tensor]) -> LabelLoss:
        """Return the loss of the labels of a batch of each group, given by its rows."""
        if not self.is_mixed:
            return self.objective.labels
        others, shares = zip(*(feed.mixed(rows) for feed, rows in zip(self.feeds, chosen, strict=True)), strict=True)
        sizes = [feed.size for feed in self.feeds]
        return MixedLabelLoss(self.objective.labels, for_members(others, sizes), for_members(shares, sizes))

    def _add_up(self, each: Tensor, terms: Mapping[str, Tensor], count: int) -> None:
        """Add the losses ``[M]`` of a batch of ``count`` images, and their terms, to those of the epoch."""
        self.losses.add(each, count)
        if self.logs_terms and (len(terms) > 1 or len(self.stages) > 1):
            self.losses.add_terms(terms, count)

    def _measure(self, validation: Images) -> dict[str, list[float]]:
        """Return what is measured of each member after an epoch, by name."""
        return measure_members(self.networks, validation) | self._divergence()

    @torch.no_grad()
    def _divergence(self) -> dict[str, list[float]]:
        """Return how far each member is from its source, where there are sources."""
        if all(feed.source is None for feed in self.feeds):
            return {}
        rows = measured_rows(len(self.images.labels)).to(self.device)
        seen = self._seen([rows] * len(self.feeds))
        logits = self.networks.logits(seen[: self.networks.batches])
        given = zip(self.feeds, seen, strict=True)
        sources = [feed.logits(rows, own) for feed, own in given if feed.source is not None]
        source = for_members(sources, [feed.size for feed in self.feeds])
        return {TRAIN_KL: source_divergence(logits, source, self.objective.temperature).tolist()}

    def _leave(self, epoch: int, meter: Meter) -> list[Trained]:
        """Return the members that leave after an epoch: none, and where a loss is not finite, nothing goes on.

        Raises:
            DivergenceError: names the member.
        """
        for (seed, temperature), recipe, history in zip(self.members, self.recipes, self.histories, strict=True):
            value = history[TRAIN_LOSS][-1]
            if not math.isfinite(value):
                raise DivergenceError(
                    f"{self.role} T={temperature:g} seed={seed}: the training loss became {value} in epoch "
                    f"{epoch + 1}; lower learning_rate (now {recipe.learning_rate:g})"
                )
        return []

    def _set_objective(self, modules: Sequence[nn.Module]) -> None:
        """Make the objective of the members that are there, each with its own temperature and options."""
        temperatures = torch.tensor([float(t) for _, t in self.members], device=self.device)
        method = type(self.methods[0]).stacked(self.methods, self.device)
        learned = [labels for feed in self.feeds for labels in [feed.learned] * feed.size]
        self.objective = Objective(method, temperatures, modules, label_loss(self.recipes, learned, self.classes))

    def _modules(self, method: Method) -> list[nn.Module]:
        """Return what is trained beside the members."""
        return modules_of(method, self.role, self.members, self.networks, self.feeds, self.images, self.device)

    def _result(self, place: int, state: dict[str, Tensor], ended: str) -> Trained:
        hard = self.members[place][1] == 0
        history = own_history(self.histories[place], hard, bool(self.objective.label_weight[place] != 0))
        beside = (0, 0) if hard else sizes_beside(self.objective.modules, place, len(self.members))
        kept = {epoch: states[place] for epoch, states in self.kept.items()}
        return Trained(*self.members[place], state, history, self.seconds, self.numbers[place], ended, *beside, kept)

    def _own(self) -> dict[str, Tensor]:
        """Return every value that training may change, by name: the tensors themselves."""
        found = {f"net.{name}": values for name, values in self.networks.tensors().items()}
        for place, own in enumerate(self.objective.modules):
            values = (*own.named_parameters(), *own.named_buffers())
            found |= {f"method.{place}.{name}": one.detach() for name, one in values}
        return found

    @property
    def _streams(self) -> list[torch.Generator]:
        return [*(feed.order for feed in self.feeds), *self.drawn_from]

    def _tensors(self) -> dict[str, Tensor]:
        """Return the networks' and the method's values themselves, copies of where the random streams are, and what was
        kept of earlier epochs.
        """
        streams = {f"stream.{number}": stream.get_state() for number, stream in enumerate(self._streams)}
        kept = {
            f"{KEPT}{epoch}.{place}.{name}": values
            for epoch, states in self.kept.items()
            for place, state in enumerate(states)
            for name, values in state.items()
        }
        return {**self._own(), **streams, **kept}

    def _plain(self) -> dict[str, object]:
        return {name: getattr(self, name) for name in PLAIN}

    @torch.no_grad()
    def _go_on(self, tensors: Mapping[str, Tensor], plain: Mapping[str, object]) -> None:
        """Take up a pass where it was kept."""
        for name, values in self._own().items():
            values.copy_(tensors[name])
        for number, stream in enumerate(self._streams):
            stream.set_state(tensors[f"stream.{number}"])
        for name in PLAIN:
            setattr(self, name, plain[name])
        for name, values in tensors.items():
            if name.startswith(KEPT):
                epoch, place, own = name.removeprefix(KEPT).split(".", 2)
                self.kept.setdefault(int(epoch), [{} for _ in self.members])[int(place)][own] = values
        self.kept = dict(sorted(self.kept.items()))
