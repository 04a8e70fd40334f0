"""Convolutional nets: a teacher's training against the plain loop, the bare convolutions, and what might pay.

    python -m benchmarks.convolution WAY IMAGES

measures kdops (``own``), the loop (``plain``) or the convolutions (``bare``) in a process by itself and prints the
seconds of one epoch, as JSON: kdops keeps memory from step to step, and what runs after it in the same process would
gain by that.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.children import printed
from benchmarks.pairs import Figure, Options, in_turn, seconds_of
from benchmarks.passes import train
from benchmarks.peak import convolutions, matrix_flops
from benchmarks.work import Work, flops_of_teacher, fresh, prepare
from kdops.distillation.logits import LogitDistillation
from kdops.models.classifier import Classifier
from kdops.training.trainer import Group

__all__ = ["measure", "plain_epochs"]

SHARE = 32
"""One image of so many of the sweep's is trained on, at least three batches; on a graphics processor all of them."""

MANY = 8
"""Nets at once, on a graphics processor."""

LOOP_BY_OURS = "plain loop / kdops, one epoch of a teacher with its evaluation"


def measure(options: Options) -> Iterator[Figure]:
    """Measure one epoch of a teacher."""
    yield from _on_gpu(options) if options.device == "cuda" else _on_cpu(options)


def _on_gpu(options: Options) -> Iterator[Figure]:
    """Measure one teacher and several at once; all in this process, whose memory of the device PyTorch keeps anyway."""
    wanted, device = options.images, options.device
    ours, many, loop = in_turn(
        options.pairs, *(lambda way=way: seconds_of_epoch(way, wanted, device) for way in ("own", "many", "plain"))
    )
    work = prepare(wanted, device)
    count, flops = len(work.images.labels), flops_of_teacher(work)
    yield _over(LOOP_BY_OURS, loop, ours, _rate(count, ours), "1.5")
    told = f"{_rate(count, many)}, of all nets together"
    yield _over(f"plain loop, one net after another / kdops, {MANY} nets at once", loop, many, told)
    least = count * flops / matrix_flops(device, dtype=torch.bfloat16)
    told = f"{flops:,} operations an image, those of the evaluation not counted; bf16"
    shares = tuple(least / one for one in many)
    yield Figure("convolution", f"matrix peak / kdops, {MANY} nets at once (share of the peak)", shares, "", told)


def _on_cpu(options: Options) -> Iterator[Figure]:
    """Measure kdops and the loop in processes of their own, and what might pay in a loop of this one."""
    wanted = max(options.images // SHARE, 3 * 128)
    with tempfile.TemporaryDirectory(prefix="kdops-benchmark-") as folder:

        def seconds(way: str) -> float:
            return printed(["-m", "benchmarks.convolution", way, str(wanted)], Path(folder))["seconds"]

        ours, loop, peak = in_turn(options.pairs, *(lambda way=way: seconds(way) for way in ("own", "plain", "bare")))
    work = prepare(wanted)
    count, size = len(work.images.labels), work.recipe("teacher").batch_size
    ways = {
        "contiguous images, not channels last": {"format": torch.contiguous_format},
        "optimizer that is not fused": {"fused": False},
        "batches twice as large": {"batch_size": 2 * size},
        "ReLU before pooling": {"late": True},
        "half the epoch at 16 x 16": {"small": 0.5},
    }
    tuned(work, size)
    base, *others = in_turn(
        options.pairs,
        lambda: seconds_of(lambda: tuned(work, size)),
        *(
            lambda changes=changes: seconds_of(lambda: tuned(work, **{"batch_size": size, **changes}))
            for changes in ways.values()
        ),
    )
    yield _over(LOOP_BY_OURS, loop, ours, _rate(count, ours), "1.5")
    yield _over("bare convolutions of the same shapes / kdops (share of the convolution peak)", peak, ours, "")
    for name, other in zip(ways, others, strict=True):
        yield _over(f"{name} / as kdops trains", other, base, "above 1: slower")


def _rate(count: int, seconds: tuple[float, ...]) -> str:
    return f"{count / sorted(seconds)[len(seconds) // 2]:,.0f} images a second, {count} images"


def seconds_of_epoch(way: str, images: int, device: str = "cpu") -> float:
    """Return the seconds of one epoch of a net in a way, after a first one of a few images.

    Args:
        way: ``own``, ``many`` (so many nets at once, of which one's share is given), ``plain`` or ``bare``.
        images: how many.
        device: where.
    """
    work = prepare(images, device)
    size = work.recipe("teacher").batch_size
    if way == "bare":
        bare = convolutions(size)
        bare()
        return len(work.images.labels) / size * seconds_of(bare)
    nets = MANY if way == "many" else 1
    action = {"plain": lambda work: plain(work, size)}.get(way, lambda work: own(work, nets))
    action(work.cut(size))
    return seconds_of(lambda: action(work), device) / nets


def own(work: Work, nets: int = 1) -> None:
    """Train teachers on labels as kdops does, with their evaluation."""
    groups = [Group(seed, (0.0,)) for seed in range(nets)]
    list(train(work.recipe("teacher"), groups, work.inputs("teacher"), LogitDistillation()))


def plain(work: Work, batch_size: int) -> None:
    """Train a teacher on labels for one epoch as most do."""
    next(plain_epochs(work, batch_size))


def plain_epochs(work: Work, batch_size: int) -> Iterator[Classifier]:
    """Train a teacher on labels as most do: a ``DataLoader``, default order in memory, default optimizer.

    It starts from the weights that kdops' own teacher starts from.

    Yields:
        The network after each epoch, without end; it is trained further once the next one is asked for.
    """
    recipe = work.recipe("teacher")
    net = fresh(work, recipe, 0.0, "teacher")
    net.net = _late(net.net)
    optimizer = torch.optim.AdamW(net.parameters(), lr=recipe.learning_rate)
    data = TensorDataset(work.images.pixels.cpu(), work.images.labels.cpu())
    loader = DataLoader(data, batch_size, shuffle=True, generator=torch.Generator().manual_seed(0))
    while True:
        net.train()
        for images, labels in loader:
            optimizer.zero_grad()
            F.cross_entropy(net(images.to(work.device)), labels.to(work.device)).backward()
            optimizer.step()
        yield net


def tuned(
    work: Work,
    batch_size: int,
    *,
    format: torch.memory_format = torch.channels_last,
    fused: bool = True,
    late: bool = False,
    small: float = 0.0,
) -> None:
    """Train a teacher on labels as kdops does, one thing changed.

    Args:
        work: the images.
        batch_size: images a step.
        format: how images lie in memory.
        fused: use the fused optimizer.
        late: ReLU before pooling instead of after it.
        small: share of the steps that see images of half the side.
    """
    recipe = work.recipe("teacher")
    net = fresh(work, recipe, 0.0, "teacher").train().to(memory_format=format)
    net.net = _late(net.net) if late else net.net
    optimizer = torch.optim.AdamW(net.parameters(), lr=recipe.learning_rate, fused=fused)
    order = torch.randperm(len(work.images.labels), generator=torch.Generator().manual_seed(0)).to(work.device)
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        images = work.images.pixels[rows].contiguous(memory_format=format)
        logits = _at_half(net, images) if start < small * len(order) else net(images)
        optimizer.zero_grad(set_to_none=True)
        F.cross_entropy(logits, work.images.labels[rows]).backward()
        optimizer.step()


def _at_half(net, images):
    """Return the logits of images of half the side; the last maps are enlarged for the dense layer."""
    halved = F.avg_pool2d((images.float() - net.mean) / net.std, 2)
    *stages, flatten, dense = net.net
    for stage in stages:
        halved = stage(halved)
    return dense(flatten(F.interpolate(halved, scale_factor=2)))


def _late(net: nn.Sequential) -> nn.Sequential:
    """Return a chain with every ReLU before the pooling that it followed."""
    parts = list(net)
    for place, part in enumerate(parts[:-1]):
        if isinstance(part, nn.MaxPool2d) and isinstance(parts[place + 1], nn.ReLU):
            parts[place], parts[place + 1] = parts[place + 1], part
    return nn.Sequential(*parts)


def _over(what: str, above: tuple[float, ...], below: tuple[float, ...], told: str, aim: str = "") -> Figure:
    return Figure("convolution", what, tuple(a / b for a, b in zip(above, below, strict=True)), aim, told)


if __name__ == "__main__":
    print(json.dumps({"seconds": seconds_of_epoch(sys.argv[1], int(sys.argv[2]))}))
