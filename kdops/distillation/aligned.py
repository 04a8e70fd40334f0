"""The company method ``aligned``: nets learn from each other's outputs, and each other's last maps value by value."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from kdops.distillation.peer_maps import PeerMaps


@dataclass(frozen=True)
class AlignedMaps(PeerMaps):
    r"""What ``adversarial`` is held against: :math:`L_k = |r(F_k) - F_j|`, the mean over the map and the batch.

    Reference: Chung, Park, Kim and Kwak, "Feature-map-level Online Adversarial Knowledge Distillation", ICML 2020,
    where it is called direct alignment.
    """

    def loss(self, own: Tensor, other: Tensor, place: int, modules: nn.ModuleDict) -> Tensor:
        """Return the mean absolute difference."""
        return (own - other).abs().mean()
