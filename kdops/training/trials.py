"""Training of a search's trials: dense nets of unequal width, depth and rates, all of one batch size in one pass.

Each trial has the result that :func:`kdops.training.trainer.train` returns for it alone. Like there, values come in and
values go out; nothing here logs, and nothing reads the global random state.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from operator import add

import torch
from torch import Tensor
from torch.nn import functional as F

from kdops.config.recipes import Recipe
from kdops.distillation.method import Method, Outputs
from kdops.distillation.objective import Objective
from kdops.training.optimizer import RatedAdamW
from kdops.training.schedule import one_cycle
from kdops.training.stacked_uneven import PaddedMLPs
from kdops.training.trainer import _fresh  # the initial weights and dropout must be those of train
from kdops.training.training_pass import Images, Meter
from kdops.utils.hardware import allow_tf32, num_threads, threads_for
from kdops.utils.progress import Progress
from kdops.utils.random import named_generator

__all__ = ["TrialEpoch", "TrialPlan", "TrialResult", "train_trials"]

AfterEpoch = Callable[[Mapping[int, "TrialEpoch"], int], Collection[int]]


@dataclass(frozen=True)
class TrialPlan:
    """One trial.

    Attributes:
        recipe: architecture (a dense net), epochs (the same for all trials of a batch), batch size and rates.
        temperature: above zero.
        method: what it learns; the same one for all trials of a batch, with options of its own.
    """

    recipe: Recipe
    temperature: float
    method: Method


@dataclass(frozen=True)
class TrialEpoch:
    """The measurements of one trial after an epoch.

    Attributes:
        train_loss: mean loss of the epoch.
        val_accuracy: share of the validation images that it has right.
        val_nll: mean cross entropy with the labels of the validation images, in nats.
    """

    train_loss: float
    val_accuracy: float
    val_nll: float


@dataclass(frozen=True)
class TrialResult:
    """What became of one trial.

    Attributes:
        epochs: its measurements; of a diverged one up to the epoch whose loss is not finite, included.
        state: its last weights, on the CPU; None unless it is complete.
        seconds: wall time; each epoch's is shared equally by those that were trained in it.
        ended: ``complete``, ``pruned`` or ``diverged``.
    """

    epochs: tuple[TrialEpoch, ...]
    state: dict[str, Tensor] | None
    seconds: float
    ended: str


def train_trials(
    role: str,
    plans: Sequence[TrialPlan],
    seed: int,
    source_logits: Tensor,
    images: Images,
    validation: Images,
    classes: int,
    statistics: tuple[Tensor, Tensor],
    *,
    device: torch.device | str = "cpu",
    after_epoch: AfterEpoch | None = None,
    progress: Progress | None = None,
) -> Iterator[tuple[int, TrialResult]]:
    """Train every trial for its recipe's epochs and keep the last epoch.

    Trials of one batch size are trained together in one pass, the smallest batch size first. Each is initialized by
    (role, seed, temperature) and sees the batch order of (role, seed), as :func:`kdops.training.trainer.train` has it.

    Args:
        role: name of the random streams.
        plans: the trials.
        seed: the replicate, the same for all trials.
        source_logits: the source's logits of the training images, ``[N, classes]``, computed in ``eval()``; or for
            each trial by itself, ``[trials, N, classes]``.
        images: what they are trained on; every trial sees all of them in every epoch.
        validation: measured after every epoch, never trained on.
        classes: number of classes.
        statistics: mean and standard deviation of each channel, see :class:`~kdops.models.classifier.Classifier`.
        device: where to train.
        after_epoch: called after every epoch of a pass with the measurements of its trials, by place in ``plans``, and
            the number of the epoch, from 1; answers which of them to end there. After the last epoch its answer
            changes nothing. Trials that diverged are not in it.
        progress: called with (images passed, images in all), counted over trials; what an ended trial leaves out
            counts as passed.

    Yields:
        Place in ``plans`` and result, as soon as a trial is complete, pruned, or its loss is no longer finite.

    Raises:
        ValueError: the trials differ in their epochs or method, a temperature is not above zero, or the method needs
            more than logits.
    """
    if len({plan.recipe.epochs for plan in plans}) > 1:
        raise ValueError("the trials of a batch must have the same number of epochs")
    if not all(plan.temperature > 0 for plan in plans):
        raise ValueError("the temperature of a trial must be above zero; hard labels are alpha = 0")
    if len({type(plan.method) for plan in plans}) > 1 or any(
        p.method.needs.student or p.method.has_modules for p in plans
    ):
        raise ValueError("the trials of a batch must have one method, of logits alone")
    channels, height, width = images.pixels.shape[1:]
    shape = (channels, height, width)
    images, validation, source_logits = images.to(device), validation.to(device), source_logits.to(device)
    meter = Meter(progress, sum(plan.recipe.epochs for plan in plans) * len(images.labels))
    for size in sorted({plan.recipe.batch_size for plan in plans}):
        together = {number: plan for number, plan in enumerate(plans) if plan.recipe.batch_size == size}
        # In an order of their own, so that the order of the plans changes no bit.
        together = dict(sorted(together.items(), key=lambda pair: repr(pair[1])))
        nets = [
            _fresh(role, plan.recipe, seed, plan.temperature, shape, classes, statistics, device)
            for plan in together.values()
        ]
        padded = PaddedMLPs(nets, device)
        # All normalize alike, so what is prepared for the first pass serves the others.
        images, validation = (replace(part, pixels=padded.prepared(part.pixels)) for part in (images, validation))
        order = named_generator("order", role, seed)
        own = source_logits if source_logits.dim() == 2 else source_logits[list(together)]
        flops = sum(plan.recipe.architecture.flops(shape, classes) for plan in together.values())
        # The trials have one method, and its options that are no numbers.
        shown = plans[0].method.rows(images.labels.cpu(), named_generator("rows", role, seed))
        own = own[..., shown.to(own.device), :]
        trained = _Pass(together, padded, device, threads_for(flops, size))
        yield from trained.run(images, validation, own, order, after_epoch, meter)


class _Pass:
    """The trials of one batch size while they are trained."""

    def __init__(self, together: Mapping[int, TrialPlan], padded: PaddedMLPs, device: torch.device | str, threads: int):
        self.numbers, plans, self.padded = list(together), list(together.values()), padded
        self.recipe, self.threads = plans[0].recipe, threads
        self.temperatures = torch.tensor([float(plan.temperature) for plan in plans], device=device)
        self.methods = [plan.method for plan in plans]
        self.progress = torch.zeros((), device=device)
        self.objective = self._own_objective()
        self.optimizer = RatedAdamW(
            padded.members(),
            [plan.recipe.learning_rate for plan in plans],
            [plan.recipe.weight_decay for plan in plans],
        )
        self.history: dict[int, list[TrialEpoch]] = {number: [] for number in together}
        self.seconds = dict.fromkeys(together, 0.0)

    def _own_objective(self) -> Objective:
        """Return the objective of the trials that are left, each with its own temperature and options."""
        method = type(self.methods[0]).stacked(self.methods, self.temperatures.device)
        return Objective(method, self.temperatures)

    def run(self, images, validation, source_logits, order, after_epoch, meter) -> Iterator[tuple[int, TrialResult]]:
        """Train all, and give each as soon as it is done."""
        count, last = len(images.labels), self.recipe.epochs
        started_with = list(self.numbers)
        self.steps = last * -(-count // self.recipe.batch_size)
        factors = zip(one_cycle(self.steps), range(self.steps), strict=True)
        for epoch in range(1, last + 1):
            started = time.perf_counter()
            rows = torch.randperm(count, generator=order).to(images.labels.device)
            # Dropped trials no longer need source logits.
            places = [started_with.index(number) for number in self.numbers]
            own = source_logits if source_logits.dim() == 2 else source_logits[places]
            with num_threads(self.threads):
                with allow_tf32(rows.device):
                    losses = self._train_epoch(images, own, rows, factors, meter)
                measured = zip(losses, *self._measure(validation), strict=True)
            found = {number: TrialEpoch(*values) for number, values in zip(self.numbers, measured, strict=True)}
            seconds = (time.perf_counter() - started) / len(found)
            for number, one in found.items():
                self.history[number].append(one)
                self.seconds[number] += seconds
            finite = {n: one for n, one in found.items() if math.isfinite(one.train_loss + one.val_nll)}
            pruned = after_epoch(finite, epoch) if after_epoch is not None and finite else ()
            ended = {n: "diverged" for n in found if n not in finite}
            ended |= {n: "pruned" for n in finite if n in pruned and epoch < last}
            if ended:
                meter.add(len(ended) * (last - epoch) * count)
                yield from self._end(ended)
            if not self.numbers:
                return
        states = self.padded.states()
        for number, state in sorted(zip(self.numbers, states, strict=True), key=lambda pair: pair[0]):
            yield number, self._result(number, state, "complete")

    def _train_epoch(self, images, source_logits, rows, factors, meter) -> list[float]:
        """Pass over all images once and give each trial's mean loss."""
        members = len(self.numbers)
        total = torch.zeros(members, device=rows.device)
        self.padded.training = True
        for chosen in rows.split(self.recipe.batch_size):
            factor, number = next(factors)
            self.progress.fill_(number / self.steps)
            logits = self.padded.logits(images.pixels[chosen])
            labels = images.labels[chosen].expand(members, -1)
            source = source_logits[..., chosen, :].expand(members, -1, -1)
            terms = self.objective.terms(Outputs(logits), labels, Outputs(source), self.progress)
            each = reduce(add, terms.values())
            # Trials share no weights, so the gradient of the sum is every trial's own.
            self.padded.backward(each.sum())
            self.optimizer.step(factor)
            total += each.detach() * len(chosen)
            meter.add(members * len(chosen))
        return (total / len(rows)).tolist()

    @torch.no_grad()
    def _measure(self, images: Images, block: int = 1024) -> tuple[list[float], list[float]]:
        """Return each trial's accuracy and mean cross entropy on images that it was not trained on."""
        self.padded.training = False
        right, nll = [], []
        for pixels, labels in zip(images.pixels.split(block), images.labels.split(block), strict=True):
            logits = self.padded.logits(pixels)
            right.append((logits.argmax(dim=-1) == labels).sum(dim=1))
            each = F.cross_entropy(logits.flatten(0, 1), labels.repeat(len(logits)), reduction="none")
            nll.append(each.view(len(logits), -1).double().sum(dim=1))
        count = len(images.labels)
        return (reduce(add, right) / count).tolist(), (reduce(add, nll) / count).tolist()

    def _end(self, ended: Mapping[int, str]) -> Iterator[tuple[int, TrialResult]]:
        """Drop trials, and give what became of them."""
        kept = [place for place, number in enumerate(self.numbers) if number not in ended]
        self.numbers = [self.numbers[place] for place in kept]
        if kept:
            self.padded.keep(kept)
            self.optimizer.keep(kept, self.padded.members())
            places = torch.tensor(kept, device=self.temperatures.device)
            self.temperatures = self.temperatures[places]
            self.methods = [self.methods[place] for place in kept]
            self.objective = self._own_objective()
        for number in sorted(ended):
            yield number, self._result(number, None, ended[number])

    def _result(self, number: int, state: dict[str, Tensor] | None, ended: str) -> TrialResult:
        return TrialResult(tuple(self.history[number]), state, self.seconds[number], ended)
