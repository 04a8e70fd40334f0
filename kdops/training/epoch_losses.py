"""The mean loss of each member in an epoch, and of the terms of its loss, added up where the members are computed."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from kdops.sweeps.metrics import TRAIN_LOSS
from kdops.training.history import TERM


class EpochLosses:
    """Sums over the images of an epoch; the same tensors in every epoch, so that a recorded step finds them.

    Args:
        members: how many there are.
        device: where they are computed.
    """

    def __init__(self, members: int, device: torch.device | str):
        self.total = torch.zeros(members, device=device)
        self.terms: dict[str, Tensor] = {}

    def clear(self) -> None:
        """Begin an epoch."""
        for values in (self.total, *self.terms.values()):
            values.zero_()

    def add(self, losses: Tensor, images: int) -> None:
        """Add the losses ``[M]`` of a batch, means over its images."""
        self.total += losses.detach() * images

    def add_terms(self, terms: Mapping[str, Tensor], images: int) -> None:
        """Add terms of the losses, ``[M]`` by name, of a batch."""
        for name, values in terms.items():
            if name not in self.terms:
                self.terms[name] = torch.zeros_like(self.total)
            self.terms[name] += values.detach() * images

    def means(self, images: int) -> dict[str, list[float]]:
        """Return the mean over the images of the epoch for each member: of its loss, and of each term."""
        # Asked for at once: each question makes the program wait for the device.
        total, *terms = (torch.stack([self.total, *self.terms.values()]) / images).tolist()
        return {TRAIN_LOSS: total, **{f"{TERM}{name}": own for name, own in zip(self.terms, terms, strict=True)}}
