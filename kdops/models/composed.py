"""The families ``reused`` and ``joined``: networks that methods deploy and that are more than the student."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from kdops.config.architectures import EMBEDDING, Architecture
from kdops.config.composed import MAP, RESIDUAL, Joined, Reused
from kdops.config.families import Shape
from kdops.models.classifier import Tap
from kdops.utils.imports import load_place


def build_reused(architecture: Reused, shape: Shape, classes: int) -> nn.Module:
    """Return one chain: the student without its last layer, average pooling to the other's size, projector, output.

    Each of the projector's convolutions is followed by ReLU, as the other's last map follows one.
    """
    *body, _, _ = _layers(architecture.student, shape, classes)
    inputs, height, width = architecture.student.maps()[-1].of(shape)
    channels, *sides = architecture.maps()[-1].of(shape)
    # Both sides come from halving one image's, so the quotient leads to the smaller one exactly.
    window = height // sides[0], width // sides[1]
    body += [nn.AvgPool2d(window)] if window != (1, 1) else []
    within = architecture.within
    projector = [nn.Conv2d(inputs, within, 1), nn.Conv2d(within, within, 3, padding=1), nn.Conv2d(within, channels, 1)]
    for convolution in projector:
        body += [convolution, nn.ReLU()]
    return nn.Sequential(*body, nn.Flatten(), nn.Linear(channels * sides[0] * sides[1], classes))


def build_joined(architecture: Joined, shape: Shape, classes: int) -> nn.Module:
    """Return the two networks as one."""
    own, other = (_layers(part, shape, classes) for part in (architecture.student, architecture.assistant))
    if architecture.at != MAP:
        return _JoinedLogits(own, other)
    channels = [part.maps()[-1].channels for part in (architecture.student, architecture.assistant)]
    return _JoinedMaps(own, other, nn.Conv2d(channels[1], channels[0], 1))


class _JoinedMaps(nn.Module):
    """Two networks with one last layer, which takes the sum of their last maps.

    Args:
        student: layers, the last two of which flatten the map and return logits.
        assistant: likewise; its last two are left out.
        joint: brings the assistant's last map to the student's channels.
    """

    def __init__(self, student: list[nn.Module], assistant: list[nn.Module], joint: nn.Module):
        super().__init__()
        # In this order, so that the student starts as it would alone.
        self.student, self.output = nn.Sequential(*student[:-2]), nn.Sequential(*student[-2:])
        self.assistant, self.joint = nn.Sequential(*assistant[:-2]), nn.Sequential(joint, Tap(RESIDUAL))

    def forward(self, images: Tensor) -> Tensor:
        """Return logits ``[N, classes]`` of normalized images ``[N, C, H, W]``."""
        return self.output(self.student(images) + self.joint(self.assistant(images)))


class _JoinedLogits(nn.Module):
    """Two networks whose logits are added up.

    Args:
        student: layers, the last of which returns logits.
        assistant: likewise.
    """

    def __init__(self, student: list[nn.Module], assistant: list[nn.Module]):
        super().__init__()
        # In this order, so that the student starts as it would alone.
        self.student, self.output = nn.Sequential(*student[:-1]), student[-1]
        self.assistant, self.other = nn.Sequential(*assistant[:-1]), assistant[-1]
        self.sizes = [cast(nn.Linear, one).in_features for one in (self.output, self.other)]
        # What the two last layers take is one tap, as other networks have one.
        self.embedding = Tap(EMBEDDING)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits ``[N, classes]`` of normalized images ``[N, C, H, W]``."""
        both = self.embedding(torch.cat([self.student(images), self.assistant(images)], dim=1)).split(self.sizes, dim=1)
        return self.output(both[0]) + self.other(both[1])


def _layers(architecture: Architecture, shape: Shape, classes: int) -> list[nn.Module]:
    """Return the layers of one of the families that are chains."""
    return list(load_place(architecture.spec.place)(architecture, shape, classes).children())
