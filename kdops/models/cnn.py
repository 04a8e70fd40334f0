"""The family ``cnn``."""

from __future__ import annotations

from torch import nn

from kdops.config.architectures import CNN
from kdops.models.classifier import Dropout


def build_cnn(architecture: CNN, shape: tuple[int, int, int], classes: int) -> nn.Module:
    """3x3 convolutions, each with max pooling, ReLU and dropout, and a linear output.

    Pooling comes before ReLU: both orders lead to the same values, and this one activates a quarter of them.
    A side of one pixel is no longer pooled.
    """
    channels, height, width = shape
    layers: list[nn.Module] = []
    for rate in architecture.dropout:
        layers.append(nn.Conv2d(channels, architecture.filters, 3, padding=1))
        window = (min(height, 2), min(width, 2))
        layers += [nn.MaxPool2d(window), nn.ReLU(), Dropout(rate)]
        channels, height, width = architecture.filters, height // window[0], width // window[1]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels * height * width, classes))
