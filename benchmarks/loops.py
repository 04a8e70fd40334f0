"""What one would write instead of kdops: training loops of plain PyTorch, one temperature after another."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.optim.lr_scheduler import OneCycleLR
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.work import Work, fresh
from kdops.utils.random import named_generator

__all__ = ["best_batch_size", "kept", "plain"]


def kept(
    work: Work, temperatures: Sequence[float], batch_size: int, *, prepared: Tensor | None = None, fused: bool = True
) -> list[float]:
    """Train with source outputs that are kept, everything in memory: as fast as such a loop gets.

    Args:
        work: images and source outputs.
        temperatures: one net each, one after another.
        batch_size: images a step.
        prepared: the images as :func:`normalized` gives them.
        fused: use the fused optimizer.

    Returns:
        The mean training loss of each temperature.
    """
    recipe, losses = work.recipe(batch_size=batch_size), []
    pixels = normalized(work) if prepared is None else prepared
    for temperature in temperatures:
        net = fresh(work, recipe, temperature).net
        targets = torch.softmax(work.source_logits / temperature, dim=1)
        optimizer, schedule = _optimizer(net, recipe, len(pixels), fused)
        order = torch.randperm(len(pixels), generator=named_generator("order", "student", 0)).to(work.device)
        total = torch.zeros((), device=work.device)
        for rows in order.split(batch_size):
            loss = temperature**2 * F.cross_entropy(net(pixels[rows]) / temperature, targets[rows])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.detach() * len(rows)
        losses.append(total.item() / len(pixels))
        _accuracy(work, net)
    return losses


def plain(work: Work, temperatures: Sequence[float], batch_size: int) -> list[float]:
    """Train as most do: a ``DataLoader``, and the teacher asked in every step.

    Returns:
        The mean training loss of each temperature.
    """
    recipe, losses = work.recipe(batch_size=batch_size), []
    # Such a loop has its images in the machine's own memory, and brings each batch to the device.
    data = TensorDataset(work.images.pixels.cpu(), work.images.labels.cpu())
    for temperature in temperatures:
        net = fresh(work, recipe, temperature)
        order = torch.randperm(len(data), generator=named_generator("order", "student", 0)).tolist()
        optimizer, schedule = _optimizer(net, recipe, len(data), fused=False)
        total = 0.0
        for images, _ in DataLoader(data, batch_size, sampler=order):
            images = images.to(work.device)
            with torch.no_grad():
                targets = torch.softmax(work.source(images) / temperature, dim=1)
            loss = temperature**2 * F.cross_entropy(net(images) / temperature, targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item() * len(images)
        losses.append(total / len(data))
    return losses


def normalized(work: Work) -> Tensor:
    """Return the images as the nets want them, ``[N, C, H, W]``, once for all epochs and temperatures."""
    mean, std = (values.reshape(-1, 1, 1).to(work.device) for values in work.statistics)
    return (work.images.pixels.float() - mean) / std


def best_batch_size(seconds: dict[int, float]) -> int:
    """Return the batch size of the shortest epoch; what it costs in accuracy is not looked at."""
    return min(seconds, key=seconds.get)


def _optimizer(net, recipe, count: int, fused: bool):
    optimizer = torch.optim.AdamW(
        net.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay, fused=fused
    )
    steps = -(-count // recipe.batch_size)
    return optimizer, OneCycleLR(optimizer, max_lr=recipe.learning_rate, total_steps=steps, cycle_momentum=False)


@torch.no_grad()
def _accuracy(work: Work, net) -> float:
    mean, std = (values.reshape(-1, 1, 1).to(work.device) for values in work.statistics)
    predicted = net((work.validation.pixels.float() - mean) / std).argmax(dim=1)
    return (predicted == work.validation.labels).float().mean().item()
