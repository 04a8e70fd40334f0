"""Training: one loop for a fleet of dense nets and for a single network of any kind.

It takes values and gives values; nothing here logs, and nothing reads the global random state.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from kdops.errors import DivergenceError
from kdops.fleet import DenseFleet, can_stack
from kdops.losses import DistillationLoss
from kdops.models import Borrower, Classifier, Dropout, build
from kdops.randomness import generator
from kdops.recipes import Recipe

__all__ = ["Group", "Images", "Trained", "train"]

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Images:
    """Labelled images: uint8 ``[N, C, H, W]`` and class numbers ``[N]``."""

    pixels: Tensor
    labels: Tensor

    def to(self, device: torch.device | str) -> Images:
        """Give the same images on another device."""
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
) -> Iterator[Trained]:
    """Train every member of every group for the recipe's epochs and keep the last epoch.

    Dense nets are trained together in one pass; others one after another, each given as soon as it is done.
    Every member is initialised by (role, seed, temperature), so a student distilled directly and one distilled
    through a middle net start alike; the batch order is drawn from (role, seed), which pairs their comparison.
    AdamW (Loshchilov and Hutter, 2019) with a one-cycle rate (Smith and Topin, 2019), stepped once a batch.
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

    Raises:
        DivergenceError: a member's loss stopped being finite; names the member.
    """
    groups = [alone for group in groups for alone in (_apart(group) if group.own_order else [group])]
    shape = tuple(images.pixels.shape[1:])
    nets = [
        [_fresh(role, recipe, g.seed, t, shape, classes, statistics, device) for t in g.temperatures] for g in groups
    ]
    images, validation = images.to(device), validation.to(device)
    passes: list[tuple[list[Group], Callable[[], DenseFleet | SingleNet]]]
    if can_stack(nets[0][0]):
        passes = [(groups, lambda: DenseFleet(nets, device))]
    else:
        passes = [
            ([alone], lambda net=net: SingleNet(net, device))
            for group, row in zip(groups, nets, strict=True)
            for alone, net in zip(_apart(group), row, strict=True)
        ]
    members = sum(len(group.temperatures) for group in groups)
    meter = _Meter(progress, members * len(images.labels) * recipe.epochs)
    for together, engine in passes:
        yield from _train_pass(role, recipe, together, engine(), images, validation, loss, device, meter)


class SingleNet:
    """One network of any kind behind the interface of :class:`~kdops.fleet.DenseFleet`."""

    def __init__(self, net: Classifier, device: torch.device | str):
        self.learns_from_one = not isinstance(net, Borrower)
        self.net = net.to(device).to(memory_format=net.memory_format)
        self.training = True

    def parameters(self) -> list[Tensor]:
        """Give every trained tensor."""
        return [values for values in self.net.parameters() if values.requires_grad]

    def prepared(self, images: Tensor) -> Tensor:
        """Give images as they are."""
        return images

    def logits(self, images: Sequence[Tensor]) -> Tensor:
        """Give logits ``[1, B, classes]`` of the single batch ``[B, C, H, W]`` in ``images``."""
        (batch,) = images
        self.net.train(self.training)
        return self.net(batch.contiguous(memory_format=self.net.memory_format)).unsqueeze(0)

    def states(self) -> list[dict[str, Tensor]]:
        """Give the weights, on the CPU and in the default memory order."""
        state = self.net.state_dict()
        return [{name: v.detach().cpu().contiguous().clone() for name, v in state.items()}]


class _Meter:
    """Adds up the images passed over all passes."""

    def __init__(self, progress: Progress | None, total: int):
        self.progress, self.total, self.done = progress, total, 0

    def add(self, images: int) -> None:
        self.done += images
        if self.progress is not None:
            self.progress(self.done, self.total)


def _apart(group: Group) -> list[Group]:
    """Give one group for each member."""
    return [replace(group, temperatures=(temperature,)) for temperature in group.temperatures]


def _fresh(role, recipe, seed, temperature, shape, classes, statistics, device) -> Classifier:
    """Build one member; its dropout draws from a stream of its own, on the device where its values lie."""
    words = (role, seed, f"{temperature:g}")
    net = build(recipe.architecture, shape, classes, *statistics, generator("init", *words))
    for number, part in enumerate(p for p in net.modules() if isinstance(p, Dropout | Borrower)):
        part.stream = generator("dropout", *words, number, device=device)
    return net


def _order(role: str, group: Group) -> torch.Generator:
    own = (f"{group.temperatures[0]:g}",) if group.own_order else ()
    return generator("order", role, group.seed, *own)


def _train_pass(
    role: str,
    recipe: Recipe,
    groups: Sequence[Group],
    engine: DenseFleet | SingleNet,
    images: Images,
    validation: Images,
    loss: DistillationLoss,
    device: torch.device | str,
    meter: _Meter,
) -> Iterator[Trained]:
    started = time.perf_counter()
    count = len(images.labels)
    batches = _batches(count, recipe.batch_size, alone=engine.learns_from_one)
    sizes = [len(group.temperatures) for group in groups]
    temperatures = torch.tensor([t for group in groups for t in group.temperatures], device=device)
    # Hard labels alone need no source, even where a group brings one.
    soft = any(t != 0 for group in groups for t in group.temperatures)
    kept = [group.source_logits.to(device) for group in groups] if soft else None
    targets = [images.labels if group.labels is None else group.labels.to(device) for group in groups]
    optimiser = torch.optim.AdamW(
        engine.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay, fused=True
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser,
        max_lr=recipe.learning_rate,
        total_steps=recipe.epochs * len(batches),
        cycle_momentum=False,
    )
    orders = [_order(role, group) for group in groups]
    pixels = engine.prepared(images.pixels)
    validation = replace(validation, pixels=engine.prepared(validation.pixels))
    losses, accuracies = [], []
    for epoch in range(recipe.epochs):
        total = torch.zeros(len(temperatures), device=device)
        shuffled = [torch.randperm(count, generator=order).to(device) for order in orders]
        engine.training = True
        for batch in batches:
            chosen = [order[batch] for order in shuffled]
            logits = engine.logits([pixels[own] for own in chosen])
            labels = _for_members([own[rows] for own, rows in zip(targets, chosen, strict=True)], sizes)
            source = _for_members([k[rows] for k, rows in zip(kept, chosen, strict=True)], sizes) if kept else None
            each = loss(logits, labels, source, temperatures)
            optimiser.zero_grad(set_to_none=True)
            # Members share no weights, so the gradient of the sum is every member's own.
            each.sum().backward()
            optimiser.step()
            schedule.step()
            total += each.detach() * logits.shape[1]
            meter.add(logits.shape[0] * logits.shape[1])
        losses.append((total / count).tolist())
        _refuse_nonfinite(role, recipe, groups, losses[-1], epoch)
        engine.training = False
        accuracies.append(_accuracy(engine, len(groups), validation).tolist())
    seconds = (time.perf_counter() - started) / len(temperatures)
    members = [(group.seed, t) for group in groups for t in group.temperatures]
    for number, ((seed, temperature), state) in enumerate(zip(members, engine.states(), strict=True)):
        train_loss, val_accuracy = ([epoch[number] for epoch in kind] for kind in (losses, accuracies))
        yield Trained(seed, temperature, state, tuple(train_loss), tuple(val_accuracy), seconds)


def _batches(count: int, size: int, alone: bool) -> list[slice]:
    """Give the batches of an epoch; unless one image may stand alone, a last single one joins those before it."""
    starts = list(range(0, count, size))
    if not alone and len(starts) > 1 and count - starts[-1] == 1:
        starts.pop()
    return [slice(start, stop) for start, stop in zip(starts, [*starts[1:], count], strict=True)]


def _for_members(by_group: Sequence[Tensor], sizes: Sequence[int]) -> Tensor:
    """Repeat each group's ``[B, ...]`` for its members: ``[M, B, ...]``."""
    return torch.cat([part.expand(size, *part.shape) for part, size in zip(by_group, sizes, strict=True)])


def _refuse_nonfinite(role, recipe, groups, losses: Sequence[float], epoch: int) -> None:
    members = [(group.seed, t) for group in groups for t in group.temperatures]
    for (seed, temperature), value in zip(members, losses, strict=True):
        if not abs(value) < float("inf"):
            raise DivergenceError(
                f"{role} T={temperature:g} seed={seed}: the training loss became {value} in epoch {epoch + 1}; "
                f"lower learning_rate (now {recipe.learning_rate:g})"
            )


@torch.no_grad()
def _accuracy(engine: DenseFleet | SingleNet, groups: int, images: Images, block: int = 1024) -> Tensor:
    """Give each member's accuracy ``[M]`` on ``images``."""
    right: Tensor | int = 0
    for start in range(0, len(images.labels), block):
        part = images.pixels[start : start + block]
        predicted = engine.logits([part] * groups).argmax(dim=-1)
        right = right + (predicted == images.labels[start : start + block]).sum(dim=1)
    return right / len(images.labels)
