"""New networks with their random streams: the same for a member of a sweep and for a trial of a search."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from kdops.config.recipes import Recipe
from kdops.models.classifier import Classifier, Dropout, ExternalClassifier, build
from kdops.training.groups import PassInputs
from kdops.utils.random import named_generator

__all__ = ["new_network", "streams_of_networks"]


def new_network(inputs: PassInputs, recipe: Recipe, seed: int, temperature: float) -> Classifier:
    """Build one member, initialized by (role, seed, temperature).

    Its dropout draws from a stream of its own, on the device where its values lie.
    """
    words = (inputs.role, seed, f"{temperature:g}")
    stream = named_generator("init", *words)
    net = build(recipe.architecture, inputs.shape, inputs.classes, *inputs.statistics, stream)
    for number, part in enumerate(_drawing(net)):
        part.stream = named_generator("dropout", *words, number, device=inputs.device)
    return net


def streams_of_networks(nets: Sequence[Classifier]) -> list[torch.Generator]:
    """Return the streams that networks do draw from while they are trained."""
    parts = [part for net in nets for part in _drawing(net)]
    streams = [part.stream for part in parts if not isinstance(part, Dropout) or part.rate > 0]
    return [stream for stream in streams if stream is not None]


def _drawing(net: Classifier) -> list[Dropout | ExternalClassifier]:
    """Return the parts of a network that may draw while it is trained."""
    return [part for part in net.modules() if isinstance(part, Dropout | ExternalClassifier)]
