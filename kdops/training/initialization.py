"""New networks with their random streams: the same for a member of a sweep and for a trial of a search."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from kdops.config.recipes import Recipe
from kdops.models.classifier import Classifier, Dropout, ExternalClassifier, build
from kdops.training.groups import PassInputs
from kdops.utils.random import named_generator

IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Mean and standard deviation of ImageNet's channels, of pixels from 0 to 1, as torchvision's weights take them."""


def new_network(inputs: PassInputs, recipe: Recipe, seed: int, temperature: float) -> Classifier:
    """Build one member, initialized by (role, seed, temperature).

    Its dropout draws from a stream of its own, on the device where its values lie.
    """
    words = (inputs.role, seed, f"{temperature:g}")
    stream = named_generator("init", *words)
    statistics = _statistics_of(recipe, inputs)
    net = build(recipe.architecture, inputs.shape, inputs.classes, *statistics, stream, recipe.init)
    for number, part in enumerate(_drawing(net)):
        part.stream = named_generator("dropout", *words, number, device=inputs.device)
    return net


def _statistics_of(recipe: Recipe, inputs: PassInputs) -> tuple[Tensor, Tensor]:
    """Return the mean and deviation of each channel that a network normalizes its images by, in pixel units.

    Raises:
        UsageError: the images have no three channels whose statistics on ImageNet are known.
    """
    if recipe.normalize == "data":
        return inputs.statistics
    channels = inputs.shape[0]
    if recipe.normalize == "imagenet":
        recipe.check_channels(channels)
        mean, std = (255 * torch.tensor(values) for values in IMAGENET)
        # Of gray images, which are three equal channels, the mean over these.
        return (mean, std) if channels == 3 else (mean.mean(0, keepdim=True), std.mean(0, keepdim=True))
    return torch.zeros(channels), torch.full((channels,), 255.0 if recipe.normalize == "unit" else 1.0)


def streams_of_networks(nets: Sequence[Classifier]) -> list[torch.Generator]:
    """Return the streams that networks do draw from while they are trained."""
    parts = [part for net in nets for part in _drawing(net)]
    streams = [part.stream for part in parts if not isinstance(part, Dropout) or part.rate > 0]
    return [stream for stream in streams if stream is not None]


def _drawing(net: Classifier) -> list[Dropout | ExternalClassifier]:
    """Return the parts of a network that may draw while it is trained."""
    return [part for part in net.modules() if isinstance(part, Dropout | ExternalClassifier)]
