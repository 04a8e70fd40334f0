"""The family ``mlp``."""

from __future__ import annotations

import math

from torch import nn

from kdops.config.architectures import MLP
from kdops.models.classifier import Dropout


def build_mlp(architecture: MLP, shape: tuple[int, int, int], classes: int) -> nn.Module:
    """Dense layers of ``hidden`` units with ReLU, and a linear output."""
    layers: list[nn.Module] = [nn.Flatten()]
    inputs = math.prod(shape)
    for _ in range(architecture.depth):
        layers += [nn.Linear(inputs, architecture.hidden), nn.ReLU(), Dropout(architecture.dropout)]
        inputs = architecture.hidden
    return nn.Sequential(*layers, nn.Linear(inputs, classes))
