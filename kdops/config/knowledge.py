"""How it is measured which parts of an image a network makes use of. No PyTorch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class KnowledgeProbe:
    """The options of an entropy map.

    Attributes:
        layer: the tap whose values are the features.
        grid: patches on each side of an image.
        noises: noisy copies of each image in a step.
        steps: how many.
        entropy: the mean over the patches of the entropy of the noise, in nats, of values in [0, 1].
        threshold: by how much less than the mean over the background a patch of a knowledge point takes, in nats.
    """

    layer: str = "embedding"
    grid: int = 8
    noises: int = 32
    steps: int = 80
    entropy: float = -2.8
    threshold: float = 0.2

    def __str__(self) -> str:
        return f"layer={self.layer} grid={self.grid} threshold={self.threshold:g}"
