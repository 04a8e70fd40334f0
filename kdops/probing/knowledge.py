"""Entropy maps: how much noise each part of an image takes until a network's features change.

Source: Cheng, Rao, Chen and Zhang, "Explaining Knowledge Distillation by Quantifying the Knowledge", 2020.
Noise of deviation sigma_i on patch i has the entropy H_i = log sigma_i + log(2 pi e) / 2. Where much of it changes
little, the network has discarded the information of the patch. The paper maximizes the sum of H_i against the change of
the features, weighted so that the mean of H_i is near -2.8. Here that mean is given, and the change is minimized: all
networks are measured at the same noise, whatever the scale of their features.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from kdops.config.knowledge import KnowledgeProbe
from kdops.errors import UsageError
from kdops.models.classifier import Classifier
from kdops.models.taps import captured, check_taps
from kdops.utils.hardware import num_threads, process_threads
from kdops.utils.memory import malloc_keeps_pages
from kdops.utils.random import named_generator

__all__ = ["EntropyMaps", "entropy_maps", "knowledge_points"]

LEVELS = 255
OF_ONE = 0.5 * math.log(2 * math.pi * math.e)
"""The entropy of noise of deviation 1, in nats."""

LOWEST, HIGHEST = math.log(1e-3), 0.0
"""Bounds of the logarithm of a deviation, of values in [0, 1]; the highest is the whole range of a value."""

RATE, SLOW, SLOWER = 0.2, 0.9, 0.99
"""The first step in the logarithm of a deviation, which falls to zero, and how slowly Adam forgets."""

MOST_VALUES = 2**23
"""Values of all noisy images that are computed at once, which bounds the memory."""


@dataclass(frozen=True, eq=False)
class EntropyMaps:
    """The entropy maps of some images.

    Attributes:
        entropies: in nats, ``[N, G, G]``; nan where no noise changes the features.
        foreground: which patches are of the object, ``[N, G, G]``.
        probe: how they were measured.
    """

    entropies: Tensor
    foreground: Tensor
    probe: KnowledgeProbe

    @property
    def measured(self) -> Tensor:
        """Which images have a map, and both foreground and background, ``[N]``."""
        inside = self.foreground.flatten(1)
        return self.entropies.flatten(1).isfinite().all(1) & inside.any(1) & ~inside.all(1)

    @property
    def points(self) -> Tensor:
        """The knowledge points, ``[N, G, G]``; none where there is no map."""
        return knowledge_points(self.entropies, self.foreground, self.probe.threshold)

    def metrics(self) -> dict[str, float]:
        """Return the metrics of a run by name; what is nan is left out.

        ``knowledge_images`` is how many images have a map and ``knowledge_unmoved`` how many have none, since nothing
        changes the features; ``knowledge_points`` and ``knowledge_points_background`` are the shares of the patches of
        the foreground and of the background that are knowledge points, ``knowledge_ratio`` is the share of the
        foreground among all points, and ``knowledge_contrast`` by how much more noise the background takes, in nats.
        """
        chosen = self.measured
        points, inside, entropies = self.points[chosen], self.foreground[chosen], self.entropies[chosen]
        found = {
            "images": float(chosen.sum()),
            "unmoved": float((~self.entropies.flatten(1).isfinite().all(1)).sum()),
            "points": _mean(points, inside),
            "points_background": _mean(points, ~inside),
            "ratio": _mean(inside, points),
            "contrast": _mean(entropies, ~inside) - _mean(entropies, inside),
        }
        return {f"knowledge_{name}": value for name, value in found.items() if math.isfinite(value)}


def entropy_maps(net: Classifier, images: Tensor, foreground: Tensor, probe: KnowledgeProbe) -> EntropyMaps:
    """Return the entropy maps of images; all images and networks are measured by the same noise.

    Args:
        net: in ``eval()``.
        images: uint8 ``[N, C, H, W]``.
        foreground: which patches are of the object, bool ``[N, grid, grid]``.
        probe: how they are measured.

    Raises:
        UsageError: the network has no such layer, or the images have fewer pixels on a side than patches.
    """
    try:
        check_taps(net, [probe.layer], "model")
    except UsageError as error:
        # Named by its own parameter: elsewhere a method names the taps.
        raise UsageError("layer", probe.layer, error.allowed) from None
    if probe.grid > min(images.shape[2:]):
        raise UsageError("grid", probe.grid, f"must be at most {min(images.shape[2:])}, the pixels on a side")
    size = max(1, MOST_VALUES // (probe.noises * images[0].numel()))
    with num_threads(process_threads()), malloc_keeps_pages():
        return EntropyMaps(
            torch.cat([_maps(net.eval(), part, probe) for part in images.float().split(size)]), foreground, probe
        )


def knowledge_points(entropies: Tensor, foreground: Tensor, threshold: float) -> Tensor:
    """Return which patches ``[N, G, G]`` take less noise than the background does on average, by a threshold in nats.

    The mean is that of the image's own background; in the paper's code it is that over all images.
    """
    background = torch.where(foreground, 0.0, entropies).flatten(1).sum(1) / (~foreground).flatten(1).sum(1)
    return background[:, None, None] - entropies > threshold


def _mean(values: Tensor, among: Tensor) -> float:
    return values[among].double().mean().item()


def _maps(net: Classifier, images: Tensor, probe: KnowledgeProbe) -> Tensor:
    """Return the entropies ``[N, G, G]`` of float images in pixel units, by Adam on the logarithm of the deviations."""
    count, level = len(images), probe.entropy - OF_ONE
    logs = torch.full((count, probe.grid**2), level)
    first, second = torch.zeros_like(logs), torch.zeros_like(logs)
    stream = named_generator("noise of an entropy map")
    plain = _features(net, images, probe.layer)
    moved = torch.zeros(count, dtype=torch.bool)
    for step in range(probe.steps):
        noise = torch.randn(probe.noises, *images.shape[1:], generator=stream)
        slope, change = _slope(net, images, plain, logs, noise, probe)
        moved |= change > 0
        free = (logs > LOWEST) & (logs < HIGHEST)
        # Along the constraint: what raises all alike is no direction.
        slope = slope - (slope * free).sum(1, keepdim=True) / free.sum(1, keepdim=True).clamp_min(1)
        first, second = SLOW * first + (1 - SLOW) * slope, SLOWER * second + (1 - SLOWER) * slope.square()
        mean, size = first / (1 - SLOW ** (step + 1)), (second / (1 - SLOWER ** (step + 1))).sqrt()
        logs = _at_level(logs - RATE * (1 - step / probe.steps) * mean / (size + 1e-12), level)
    found = torch.where(moved[:, None], logs + OF_ONE, math.nan)
    return found.reshape(count, probe.grid, probe.grid)


def _slope(
    net: Classifier, images: Tensor, plain: Tensor, logs: Tensor, noise: Tensor, probe: KnowledgeProbe
) -> tuple[Tensor, Tensor]:
    """Return the derivative of the logarithm of the features' mean change ``[N]`` by ``logs``, and that change."""
    with torch.enable_grad():
        given = logs.detach().requires_grad_()
        maps = given.exp().reshape(-1, 1, probe.grid, probe.grid)
        deviations = LEVELS * functional.interpolate(maps, images.shape[2:], mode="nearest-exact")
        seen = images[:, None] + deviations[:, None] * noise
        features = _features(net, seen.flatten(0, 1), probe.layer)
        change = (features.reshape(len(images), len(noise), -1) - plain[:, None]).square().mean(dim=(1, 2))
        # Where nothing changes the slope is zero, not nan.
        (slope,) = torch.autograd.grad((change + 1e-30).log().sum(), given)
    return slope, change.detach()


def _features(net: Classifier, images: Tensor, layer: str) -> Tensor:
    with captured(net, [layer]) as found:
        net(images)
    return found[layer].flatten(1)


def _at_level(logs: Tensor, level: float) -> Tensor:
    """Return values moved by one number in each row and cut at the bounds, so that each row has a mean ``level``."""
    reach = HIGHEST - LOWEST + float(logs.abs().max())
    low, high = (torch.full((len(logs), 1), end) for end in (-reach, reach))
    for _ in range(40):
        middle = (low + high) / 2
        is_low = (logs + middle).clamp(LOWEST, HIGHEST).mean(1, keepdim=True) < level
        low, high = torch.where(is_low, middle, low), torch.where(is_low, high, middle)
    return (logs + (low + high) / 2).clamp(LOWEST, HIGHEST)
