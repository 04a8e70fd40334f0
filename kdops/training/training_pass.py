"""One pass of training: stacked dense nets, or networks of any kind, epoch by epoch.

All that the next epoch depends on is here as named tensors and plain values, so that a pass can be kept and gone on
with: the result is that of one that was never cut off, to the last bit.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from operator import add

import torch
from torch import Tensor, nn

from kdops.config.recipes import Recipe
from kdops.data.memmap import Pixels
from kdops.distillation.adapters import merged
from kdops.distillation.method import Method, Outputs, Phase, Shapes
from kdops.distillation.objective import LABELS_TERM, Objective
from kdops.distillation.sources import Kept, Live, Reordered
from kdops.errors import DivergenceError, UsageError
from kdops.sweeps.metrics import TRAIN_KL, TRAIN_LOSS, VAL_ACCURACY
from kdops.training.checkpoint import Checkpoint
from kdops.training.cuda_graph import CudaGraphStep
from kdops.training.divergence import measured_rows, source_divergence
from kdops.training.schedule import one_cycle
from kdops.training.separate import SeparateModels
from kdops.training.stacked import StackedMLPs
from kdops.utils.hardware import allow_tf32, num_threads
from kdops.utils.memory import malloc_keeps_pages
from kdops.utils.progress import Progress
from kdops.utils.random import as_global_rng, named_generator

__all__ = ["Group", "Images", "Meter", "Trained", "TrainingPass"]

MOMENTS = ("step", "exp_avg", "exp_avg_sq")
"""What AdamW keeps of each trained tensor."""

PLAIN = ("losses", "accuracies", "divergences", "terms", "seconds")
"""The attributes of a pass that its checkpoint has as plain values."""


@dataclass(frozen=True)
class Images:
    """Labeled images: uint8 ``[N, C, H, W]``, in memory or in their file, and class numbers ``[N]``."""

    pixels: Pixels
    labels: Tensor

    def to(self, device: torch.device | str) -> Images:
        """Return the same images on another device."""
        return Images(self.pixels.to(device), self.labels.to(device))


@dataclass(frozen=True)
class Group:
    """Members that share a batch order and a source: one replicate of a sweep.

    Attributes:
        seed: the replicate.
        temperatures: one a member; 0 means hard labels.
        source: the source's outputs for the training images; None where all members train on labels.
        own_order: draw the batch order from the temperature too.
        labels: the labels that the group learns, class numbers ``[N]``; None for the images' own.
    """

    seed: int
    temperatures: tuple[float, ...]
    source: Kept | Live | None = None
    own_order: bool = False
    labels: Tensor | None = None

    def apart(self) -> list[Group]:
        """Return one group for each member."""
        return [replace(self, temperatures=(temperature,)) for temperature in self.temperatures]


@dataclass(frozen=True)
class Trained:
    """One trained network.

    Attributes:
        state: its weights, on the CPU.
        train_loss: mean loss of each epoch.
        val_accuracy: validation accuracy after each epoch.
        seconds: wall time; of stacked networks that of the stack, divided by their number.
        train_kl: divergence from the source after each epoch; empty where there is none.
        terms: mean of each term of the loss in each epoch, nan where a phase lacks it; empty where there is one term.
    """

    seed: int
    temperature: float
    state: dict[str, Tensor]
    train_loss: tuple[float, ...]
    val_accuracy: tuple[float, ...]
    seconds: float
    train_kl: tuple[float, ...] = ()
    terms: Mapping[str, tuple[float, ...]] = field(default_factory=dict)

    @property
    def history(self) -> dict[str, tuple[float, ...]]:
        """The metrics of each epoch by name; each term of the loss is ``loss_`` and its name."""
        terms = {f"loss_{name}": values for name, values in self.terms.items()}
        divergence = {TRAIN_KL: self.train_kl} if self.train_kl else {}
        return {TRAIN_LOSS: self.train_loss, **divergence, VAL_ACCURACY: self.val_accuracy, **terms}


class Meter:
    """Adds up the images passed over all passes."""

    def __init__(self, progress: Progress | None, total: int):
        self.progress, self.total, self.done = progress, total, 0

    def add(self, images: int) -> None:
        """Count images that were passed."""
        self.done += images
        if self.progress is not None:
            self.progress(self.done, self.total)


@dataclass(frozen=True)
class _Stage:
    """A phase with the epochs that it has, from ``start`` up to ``stop``."""

    phase: Phase
    start: int
    stop: int


class TrainingPass:
    """One pass of training.

    AdamW (Loshchilov and Hutter, 2019) with a one-cycle rate (Smith and Topin, 2019), stepped once a batch. Each phase
    of the method has an optimizer and a schedule of its own, within the recipe's epochs.

    Args:
        role: name of the random streams.
        recipe: epochs, batch size and rates.
        groups: the members to train.
        engine: their networks.
        streams: what the networks draw from while they are trained.
        images: what they are trained on, on the device.
        validation: measured after every epoch, on the device.
        method: what the members at T > 0 learn.
        device: where to train.
        threads: how many compute.
    """

    def __init__(
        self,
        role: str,
        recipe: Recipe,
        groups: Sequence[Group],
        engine: StackedMLPs | SeparateModels,
        streams: Sequence[torch.Generator],
        images: Images,
        validation: Images,
        method: Method,
        device: torch.device | str,
        threads: int,
    ):
        self.role, self.recipe, self.groups, self.engine = role, recipe, groups, engine
        self.members = [(group.seed, t) for group in groups for t in group.temperatures]
        self.images, self.validation, self.device, self.threads = images, validation, device, threads
        self.batches = _batches(len(images.labels), recipe.batch_size, alone=engine.learns_from_one)
        # Hard labels alone need no source, even where a group brings one.
        soft = any(t != 0 for _, t in self.members)
        self.sources = [self._source(method, group) for group in groups if group.source is not None and soft]
        temperatures = torch.tensor([t for _, t in self.members], device=device)
        self.objective = Objective(method, temperatures, self._modules(method) if soft else ())
        self.method = self.objective.method
        self.trained = [*engine.parameters(), *(own for m in self.objective.modules for own in m.parameters())]
        self.stages = _stages(self.method.phases(), recipe.epochs)
        self.stage = self.stages[0]
        self.progress, self.no_rows = torch.zeros((), device=device), torch.empty(0, dtype=torch.long)
        self.targets = [images.labels if group.labels is None else group.labels.to(device) for group in groups]
        live = any(isinstance(group.source, Live) for group in groups)
        self.can_replay = torch.device(device).type == "cuda" and engine.can_replay and not live
        # What is replayed reads its rate on the device, where each step finds it changed.
        self.rate: Tensor | float = torch.zeros((), device=device) if self.can_replay else 0.0
        self.orders = [_order(role, group) for group in groups]
        self.drawn_from = list(streams)
        self.streams = [*self.orders, *streams]
        self.total = torch.zeros(len(self.members), device=device)
        self.parts: dict[str, Tensor] = {}
        # There while it runs.
        self.pixels: Pixels
        self.step: Callable[..., None]
        self.losses: list[list[float]] = []
        self.accuracies: list[list[float]] = []
        self.divergences: list[list[float]] = []
        self.terms: list[dict[str, list[float]]] = []
        self.seconds = 0.0

    def run(self, meter: Meter, checkpoint: Checkpoint | None = None) -> Iterator[Trained]:
        """Train for the recipe's epochs, and return every member.

        Args:
            meter: called with the images passed.
            checkpoint: where the pass is kept from time to time; what is kept there already it goes on with.

        Raises:
            DivergenceError: a member's loss stopped being finite; names the member.
        """
        try:
            with num_threads(self.threads), malloc_keeps_pages():
                self._train(meter, checkpoint)
        finally:
            # A recording holds memory of the device, and this pass: what holds itself lives until the collector comes
            # by. The images would stay as long as the trained networks are measured and stored.
            for name in ("step", "pixels"):
                vars(self).pop(name, None)
        if isinstance(self.engine, SeparateModels) and not self.method.needs.joint:
            for place, own in enumerate(self.objective.modules):
                self.engine.nets[place] = self.method.deploy(self.engine.nets[place], own)
        for place, ((seed, temperature), state) in enumerate(zip(self.members, self.engine.states(), strict=True)):
            train_loss, val_accuracy, train_kl = (
                tuple(epoch[place] for epoch in kind) for kind in (self.losses, self.accuracies, self.divergences)
            )
            terms = self._terms_of(place)
            seconds = self.seconds / len(self.members)
            yield Trained(
                seed, temperature, state, train_loss, val_accuracy, seconds, train_kl if temperature else (), terms
            )

    def _terms_of(self, place: int) -> dict[str, tuple[float, ...]]:
        """Return the terms of one member's loss, epoch by epoch; none where it has one, whatever is beside it."""
        names = list(dict.fromkeys(name for epoch in self.terms for name in epoch))
        if self.members[place][1] == 0:
            return {}
        if self.objective.label_weight[place] == 0:
            names = [name for name in names if name != LABELS_TERM]
        if len(names) < 2:
            return {}
        return {
            name: tuple(epoch[name][place] if name in epoch else math.nan for epoch in self.terms) for name in names
        }

    def _train(self, meter: Meter, checkpoint: Checkpoint | None) -> None:
        """Pass over all epochs that are left."""
        started = time.perf_counter()
        kept = checkpoint.load(self._tensors()) if checkpoint is not None else None
        if kept is not None:
            self._go_on(*kept)
            if len(self.losses) < self.recipe.epochs:
                self._enter(len(self.losses), kept[0])
            meter.add(len(self.losses) * len(self.members) * len(self.images.labels))
        self.pixels = self.engine.prepared(self.images.pixels)
        validation = replace(self.validation, pixels=self.engine.prepared(self.validation.pixels))
        for epoch in range(len(self.losses), self.recipe.epochs):
            if epoch == self.stages[self._place(epoch)].start:
                self._enter(epoch)
            with allow_tf32(self.device):
                losses = self._train_epoch(meter)
            self._refuse_nonfinite(losses, epoch)
            self.losses.append(losses)
            self.engine.training = False
            self.accuracies.append(_accuracy(self.engine, len(self.groups), validation).tolist())
            if self.sources:
                self.divergences.append(self._divergence())
            now = time.perf_counter()
            self.seconds, started = self.seconds + now - started, now
            last = epoch + 1 == self.recipe.epochs
            if checkpoint is not None and (last or checkpoint.is_due()):
                # Once it is done, its weights are all that is asked for.
                checkpoint.save(self._tensors() if last else self._tensors() | self._moments(), self._plain())

    def _place(self, epoch: int) -> int:
        """Return which stage an epoch is in."""
        return next(place for place, stage in enumerate(self.stages) if epoch < stage.stop)

    def _enter(self, epoch: int, kept: Mapping[str, Tensor] | None = None) -> None:
        """Begin the stage of an epoch with a new optimizer, or go on within it with what the optimizer had."""
        self.stage = self.stages[self._place(epoch)]
        self.rates = one_cycle((self.stage.stop - self.stage.start) * len(self.batches), self.recipe.learning_rate)
        if isinstance(self.rate, Tensor):
            self.rate.fill_(self.rates[0])
        else:
            self.rate = self.rates[0]
        self.optimizer = torch.optim.AdamW(
            self.trained,
            lr=self.rate,
            weight_decay=self.recipe.weight_decay,
            fused=True,
            capturable=self.can_replay,
        )
        self.parts = {}
        self.step = self._step
        if self.can_replay and isinstance(self.images.pixels, Tensor):
            self.step = CudaGraphStep(self._step, self.drawn_from)
        if kept is not None and epoch > self.stage.start:
            self._take_up_moments(kept)

    def _modules(self, method: Method) -> list[nn.Module]:
        """Return what the method trains beside each member, drawn from a stream of its own."""
        if not method.has_modules:
            return []
        found, count = [], len(self.images.labels)
        self.engine.training = False
        with torch.no_grad():
            pixels = self.images.pixels[torch.zeros(1, dtype=torch.long)].to(self.device)
            given = self.engine.outputs([pixels] * len(self.groups))
        features = {tap: tuple(own.shape[2:]) for tap, own in given.features.items()}
        student = Shapes(given.logits.shape[-1], features, count)
        by_group = zip(self.groups, self.sources, strict=True)
        sources = [source.shapes for group, source in by_group for _ in group.temperatures]
        for (seed, temperature), source in zip(self.members, sources, strict=True):
            with as_global_rng(named_generator("method", self.role, seed, f"{temperature:g}")):
                found.append(method.modules(student, source).to(self.device))
        return [merged(found)] if method.needs.joint else found

    def _source(self, method: Method, group: Group) -> Kept | Live | Reordered:
        """Return the source of a group on the device, as the method shows it."""
        assert group.source is not None
        labels = self.images.labels if group.labels is None else group.labels
        rows = method.rows(labels.cpu(), named_generator("rows", self.role, group.seed))
        source = group.source.to(self.device)
        kept = bool((rows == torch.arange(len(rows))).all())
        return source if kept else Reordered(source, rows.to(self.device))

    def _train_epoch(self, meter: Meter) -> list[float]:
        """Pass over all images once and return each member's mean loss."""
        count, begun = len(self.images.labels), len(self.losses) * len(self.batches)
        steps, first = self.recipe.epochs * len(self.batches), self.stage.start * len(self.batches)
        shuffled = [torch.randperm(count, generator=order).to(self.device) for order in self.orders]
        self.total.zero_()
        for part in self.parts.values():
            part.zero_()
        self.engine.training = True
        for number, batch in enumerate(self.batches, start=begun):
            self._set_rate(self.rates[number - first])
            if self.method.needs.progress:
                self.progress.fill_(number / steps)
            self.step(*(order[batch] for order in shuffled))
            meter.add(len(self.members) * (batch.stop - batch.start))
        # Asked for at once: each question makes the program wait for the device.
        total, *parts = (torch.stack([self.total, *self.parts.values()]) / count).tolist()
        self.terms.append(dict(zip(self.parts, parts, strict=True)))
        return total

    @torch.no_grad()
    def _divergence(self) -> list[float]:
        """Return how far each member is from its source; the engine is not training."""
        rows = measured_rows(len(self.images.labels)).to(self.device)
        logits = self.engine.logits([self.pixels[rows]] * len(self.groups))
        given = [source.logits_at(rows) for source in self.sources]
        source = _for_members(given, [len(group.temperatures) for group in self.groups])
        return source_divergence(logits, source, self.objective.temperature).tolist()

    def _set_rate(self, rate: float) -> None:
        if isinstance(self.rate, Tensor):
            self.rate.fill_(rate)
            return
        for group in self.optimizer.param_groups:
            group["lr"] = rate

    def _step(self, *chosen: Tensor) -> None:
        """Learn from one batch of each group, given by the rows ``[B]`` of its images."""
        sizes = [len(group.temperatures) for group in self.groups]
        student = self.engine.outputs([self.pixels[own] for own in chosen])
        labels = _for_members([own[rows] for own, rows in zip(self.targets, chosen, strict=True)], sizes)
        source = None
        if self.sources:
            source = _joined([own.at(rows) for own, rows in zip(self.sources, chosen, strict=True)], sizes)
        rows = _for_members(chosen, sizes) if self.method.needs.rows else self.no_rows
        terms = self.objective.terms(student, labels, source, self.progress, self.stage.phase, rows)
        each = reduce(add, terms.values())
        for own in self.objective.modules:
            own.zero_grad(set_to_none=True)
        # Members share no weights, so the gradient of the sum is every member's own.
        self.engine.backward(each.sum())
        self.optimizer.step()
        count = labels.shape[1]
        self.total += each.detach() * count
        if len(terms) > 1 or len(self.stages) > 1:
            for name, term in terms.items():
                if name not in self.parts:
                    self.parts[name] = torch.zeros_like(self.total)
                self.parts[name] += term.detach() * count

    def _refuse_nonfinite(self, losses: Sequence[float], epoch: int) -> None:
        for (seed, temperature), value in zip(self.members, losses, strict=True):
            if not abs(value) < float("inf"):
                raise DivergenceError(
                    f"{self.role} T={temperature:g} seed={seed}: the training loss became {value} in epoch "
                    f"{epoch + 1}; lower learning_rate (now {self.recipe.learning_rate:g})"
                )

    def _own(self) -> dict[str, Tensor]:
        """Return every value that training may change, by name: the tensors themselves."""
        found = {f"net.{name}": values for name, values in self.engine.tensors().items()}
        for place, own in enumerate(self.objective.modules):
            values = (*own.named_parameters(), *own.named_buffers())
            found |= {f"method.{place}.{name}": one.detach() for name, one in values}
        return found

    def _tensors(self) -> dict[str, Tensor]:
        """Return the networks' and the method's values themselves, and copies of where the random streams are."""
        streams = {f"stream.{number}": stream.get_state() for number, stream in enumerate(self.streams)}
        return {**self._own(), **streams}

    def _moments(self) -> dict[str, Tensor]:
        """Return what the optimizer keeps; it keeps nothing of what has no gradient."""
        known = ((number, self.optimizer.state.get(one, {})) for number, one in enumerate(self.trained))
        return {f"{kind}.{number}": state[kind] for number, state in known for kind in MOMENTS if kind in state}

    def _plain(self) -> dict[str, object]:
        return {name: getattr(self, name) for name in PLAIN}

    @torch.no_grad()
    def _go_on(self, tensors: Mapping[str, Tensor], plain: Mapping[str, object]) -> None:
        """Take up a pass where it was kept."""
        for name, values in self._own().items():
            values.copy_(tensors[name])
        for number, stream in enumerate(self.streams):
            stream.set_state(tensors[f"stream.{number}"])
        for name in PLAIN:
            setattr(self, name, plain[name])

    @torch.no_grad()
    def _take_up_moments(self, tensors: Mapping[str, Tensor]) -> None:
        for number, one in enumerate(self.trained):
            if f"step.{number}" in tensors:
                step, *moments = (tensors[f"{kind}.{number}"] for kind in MOMENTS)
                # In the memory order that the optimizer itself would choose: its kernel reads them side by side.
                placed = [torch.empty_like(one, memory_format=torch.preserve_format).copy_(m) for m in moments]
                self.optimizer.state[one] = dict(zip(MOMENTS, (step.to(one.device), *placed), strict=True))


def _stages(phases: Sequence[Phase], epochs: int) -> list[_Stage]:
    """Share out the epochs; every phase has at least one.

    Raises:
        UsageError: there are fewer epochs than phases.
    """
    if epochs < len(phases):
        named = " and ".join(phase.name for phase in phases)
        raise UsageError("epochs", epochs, f"must be at least {len(phases)}: the method has the phases {named}")
    stages, start, share = [], 0, 0.0
    for place, phase in enumerate(phases):
        share += phase.share
        stop = min(max(round(share * epochs), start + 1), epochs - (len(phases) - 1 - place))
        stages.append(_Stage(phase, start, stop))
        start = stop
    return stages


def _joined(by_group: Sequence[Outputs], sizes: Sequence[int]) -> Outputs:
    """Repeat each group's outputs for its members."""
    logits = _for_members([one.logits for one in by_group], sizes)
    taps = by_group[0].features
    return Outputs(logits, {tap: _for_members([one.features[tap] for one in by_group], sizes) for tap in taps})


def _order(role: str, group: Group) -> torch.Generator:
    own = (f"{group.temperatures[0]:g}",) if group.own_order else ()
    return named_generator("order", role, group.seed, *own)


def _batches(count: int, size: int, alone: bool) -> list[slice]:
    """Return the batches of an epoch; unless one image may stand alone, a last single one joins those before it."""
    starts = list(range(0, count, size))
    if not alone and len(starts) > 1 and count - starts[-1] == 1:
        starts.pop()
    return [slice(start, stop) for start, stop in zip(starts, [*starts[1:], count], strict=True)]


def _for_members(by_group: Sequence[Tensor], sizes: Sequence[int]) -> Tensor:
    """Repeat each group's ``[B, ...]`` for its members: ``[M, B, ...]``."""
    repeated = [part.expand(size, *part.shape) for part, size in zip(by_group, sizes, strict=True)]
    return repeated[0] if len(repeated) == 1 else torch.cat(repeated)


@torch.no_grad()
def _accuracy(engine: StackedMLPs | SeparateModels, groups: int, images: Images) -> Tensor:
    """Return each member's accuracy ``[M]`` on ``images``."""
    right, block = [], engine.most_images
    for start in range(0, len(images.labels), block):
        part = images.pixels[start : start + block]
        predicted = engine.logits([part] * groups).argmax(dim=-1)
        right.append((predicted == images.labels[start : start + block]).sum(dim=1))
    return torch.stack(right).sum(dim=0) / len(images.labels)
