"""One pass of training: a fleet of dense nets, or networks of any kind, epoch by epoch.

All that the next epoch depends on is here as named tensors and plain values, so that a pass can be kept and gone on
with: the result is that of one that was never cut off, to the last bit.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from kdops.config.recipes import Recipe
from kdops.data.memmap import MappedImages
from kdops.distillation.logits import DistillationLoss
from kdops.errors import DivergenceError
from kdops.training.checkpoint import Checkpoint
from kdops.training.cuda_graph import CudaGraphStep
from kdops.training.schedule import one_cycle
from kdops.training.separate import SeparateModels
from kdops.training.stacked import StackedMLPs
from kdops.utils.hardware import allow_tf32, num_threads
from kdops.utils.memory import malloc_keeps_pages
from kdops.utils.progress import Progress
from kdops.utils.random import named_generator

__all__ = ["Group", "Images", "Meter", "Trained", "TrainingPass"]

MOMENTS = ("step", "exp_avg", "exp_avg_sq")
"""What AdamW keeps of each trained tensor."""


@dataclass(frozen=True)
class Images:
    """Labeled images: uint8 ``[N, C, H, W]``, in memory or in their file, and class numbers ``[N]``."""

    pixels: Tensor | MappedImages
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
        source_logits: what the source gives for the training images, ``[N, classes]``, computed once and in
            ``eval()``; None where all members train on labels.
        own_order: draw the batch order from the temperature too.
        labels: the labels that the group learns, class numbers ``[N]``; None for the images' own.
    """

    seed: int
    temperatures: tuple[float, ...]
    source_logits: Tensor | None = None
    own_order: bool = False
    labels: Tensor | None = None


@dataclass(frozen=True)
class Trained:
    """One trained network.

    Attributes:
        state: its weights, on the CPU.
        train_loss: mean loss of each epoch.
        val_accuracy: validation accuracy after each epoch.
        seconds: wall time; of a fleet's member the fleet's, divided by its members.
    """

    seed: int
    temperature: float
    state: dict[str, Tensor]
    train_loss: tuple[float, ...]
    val_accuracy: tuple[float, ...]
    seconds: float


class Meter:
    """Adds up the images passed over all passes."""

    def __init__(self, progress: Progress | None, total: int):
        self.progress, self.total, self.done = progress, total, 0

    def add(self, images: int) -> None:
        """Count images that were passed."""
        self.done += images
        if self.progress is not None:
            self.progress(self.done, self.total)


class TrainingPass:
    """One pass of training.

    AdamW (Loshchilov and Hutter, 2019) with a one-cycle rate (Smith and Topin, 2019), stepped once a batch.

    Args:
        role: name of the random streams.
        recipe: epochs, batch size and rates.
        groups: who is trained.
        engine: their networks.
        streams: what the networks draw from while they are trained.
        images: what they are trained on, on the device.
        validation: measured after every epoch, on the device.
        loss: the loss.
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
        loss: DistillationLoss,
        device: torch.device | str,
        threads: int,
    ):
        self.role, self.recipe, self.groups, self.engine = role, recipe, groups, engine
        self.members = [(group.seed, t) for group in groups for t in group.temperatures]
        self.loss = loss.at(torch.tensor([t for _, t in self.members], device=device))
        self.images, self.validation, self.device, self.threads = images, validation, device, threads
        self.batches = _batches(len(images.labels), recipe.batch_size, alone=engine.learns_from_one)
        # Hard labels alone need no source, even where a group brings one.
        soft = any(t != 0 for _, t in self.members)
        self.sources = [group.source_logits.to(device) for group in groups] if soft else None
        self.targets = [images.labels if group.labels is None else group.labels.to(device) for group in groups]
        self.rates = one_cycle(recipe.epochs * len(self.batches), recipe.learning_rate)
        self.can_replay = torch.device(device).type == "cuda" and engine.can_replay
        # What is replayed reads its rate on the device, where each step finds it changed.
        self.rate = torch.tensor(self.rates[0], device=device) if self.can_replay else self.rates[0]
        self.optimizer = torch.optim.AdamW(
            engine.parameters(),
            lr=self.rate,
            weight_decay=recipe.weight_decay,
            fused=True,
            capturable=self.can_replay,
        )
        self.orders = [_order(role, group) for group in groups]
        self.drawn_from = list(streams)
        self.streams = [*self.orders, *streams]
        self.total = torch.zeros(len(self.members), device=device)
        self.pixels: Tensor | MappedImages | None = None
        self.step: Callable[..., None] | None = None
        self.losses: list[list[float]] = []
        self.accuracies: list[list[float]] = []
        self.seconds = 0.0

    def run(self, meter: Meter, checkpoint: Checkpoint | None = None) -> Iterator[Trained]:
        """Train for the recipe's epochs, and give every member.

        Args:
            meter: told of the images passed.
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
            self.step = self.pixels = None
        for number, ((seed, temperature), state) in enumerate(zip(self.members, self.engine.states(), strict=True)):
            train_loss, val_accuracy = (
                tuple(epoch[number] for epoch in kind) for kind in (self.losses, self.accuracies)
            )
            yield Trained(seed, temperature, state, train_loss, val_accuracy, self.seconds / len(self.members))

    def _train(self, meter: Meter, checkpoint: Checkpoint | None) -> None:
        """Pass over all epochs that are left."""
        started = time.perf_counter()
        kept = checkpoint.load(self._tensors()) if checkpoint is not None else None
        if kept is not None:
            self._go_on(*kept)
            meter.add(len(self.losses) * len(self.members) * len(self.images.labels))
        self.pixels = self.engine.prepared(self.images.pixels)
        self.step = self._step
        if self.can_replay and isinstance(self.pixels, Tensor):
            self.step = CudaGraphStep(self._step, self.drawn_from)
        validation = replace(self.validation, pixels=self.engine.prepared(self.validation.pixels))
        for epoch in range(len(self.losses), self.recipe.epochs):
            with allow_tf32(self.device):
                losses = self._train_epoch(meter)
            self._refuse_nonfinite(losses, epoch)
            self.losses.append(losses)
            self.engine.training = False
            self.accuracies.append(_accuracy(self.engine, len(self.groups), validation).tolist())
            now = time.perf_counter()
            self.seconds, started = self.seconds + now - started, now
            last = epoch + 1 == self.recipe.epochs
            if checkpoint is not None and (last or checkpoint.is_due()):
                # Once it is done, its weights are all that is asked for.
                checkpoint.save(self._tensors() if last else self._tensors() | self._moments(), self._plain())

    def _train_epoch(self, meter: Meter) -> list[float]:
        """Pass over all images once and give each member's mean loss."""
        count, begun = len(self.images.labels), len(self.losses) * len(self.batches)
        shuffled = [torch.randperm(count, generator=order).to(self.device) for order in self.orders]
        self.total.zero_()
        self.engine.training = True
        for number, batch in enumerate(self.batches):
            self._set_rate(self.rates[begun + number])
            self.step(*(order[batch] for order in shuffled))
            meter.add(len(self.members) * (batch.stop - batch.start))
        return (self.total / count).tolist()

    def _set_rate(self, rate: float) -> None:
        if isinstance(self.rate, Tensor):
            self.rate.fill_(rate)
        else:
            for group in self.optimizer.param_groups:
                group["lr"] = rate

    def _step(self, *chosen: Tensor) -> None:
        """Learn from one batch of each group, given by the rows ``[B]`` of its images."""
        sizes = [len(group.temperatures) for group in self.groups]
        logits = self.engine.logits([self.pixels[own] for own in chosen])
        labels = _for_members([own[rows] for own, rows in zip(self.targets, chosen, strict=True)], sizes)
        source = None
        if self.sources:
            source = _for_members([own[rows] for own, rows in zip(self.sources, chosen, strict=True)], sizes)
        each = self.loss(logits, labels, source)
        # Members share no weights, so the gradient of the sum is every member's own.
        self.engine.backward(each.sum())
        self.optimizer.step()
        self.total += each.detach() * logits.shape[1]

    def _refuse_nonfinite(self, losses: Sequence[float], epoch: int) -> None:
        for (seed, temperature), value in zip(self.members, losses, strict=True):
            if not abs(value) < float("inf"):
                raise DivergenceError(
                    f"{self.role} T={temperature:g} seed={seed}: the training loss became {value} in epoch "
                    f"{epoch + 1}; lower learning_rate (now {self.recipe.learning_rate:g})"
                )

    def _tensors(self) -> dict[str, Tensor]:
        """Return the networks' values themselves, and copies of where the random streams are."""
        streams = {f"stream.{number}": stream.get_state() for number, stream in enumerate(self.streams)}
        return {**{f"net.{name}": values for name, values in self.engine.tensors().items()}, **streams}

    def _moments(self) -> dict[str, Tensor]:
        """Return what the optimizer keeps; it keeps nothing of what has no gradient."""
        known = ((number, self.optimizer.state.get(one, {})) for number, one in enumerate(self.engine.parameters()))
        return {f"{kind}.{number}": state[kind] for number, state in known for kind in MOMENTS if kind in state}

    def _plain(self) -> dict[str, object]:
        return {
            "losses": self.losses,
            "accuracies": self.accuracies,
            "seconds": self.seconds,
        }

    @torch.no_grad()
    def _go_on(self, tensors: Mapping[str, Tensor], plain: Mapping[str, object]) -> None:
        """Take up a pass where it was kept."""
        for name, values in self.engine.tensors().items():
            values.copy_(tensors[f"net.{name}"])
        for number, stream in enumerate(self.streams):
            stream.set_state(tensors[f"stream.{number}"])
        for number, one in enumerate(self.engine.parameters()):
            if f"step.{number}" in tensors:
                step, *moments = (tensors[f"{kind}.{number}"] for kind in MOMENTS)
                # In the memory order that the optimizer itself would choose: its kernel reads them side by side.
                placed = [torch.empty_like(one, memory_format=torch.preserve_format).copy_(m) for m in moments]
                self.optimizer.state[one] = dict(zip(MOMENTS, (step.to(one.device), *placed), strict=True))
        self.losses, self.accuracies, self.seconds = plain["losses"], plain["accuracies"], plain["seconds"]


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
    right, block = 0, engine.most_images
    for start in range(0, len(images.labels), block):
        part = images.pixels[start : start + block]
        predicted = engine.logits([part] * groups).argmax(dim=-1)
        right = right + (predicted == images.labels[start : start + block]).sum(dim=1)
    return right / len(images.labels)
