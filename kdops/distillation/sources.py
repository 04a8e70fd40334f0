"""Several sources as one: their softened probabilities are averaged."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

__all__ = ["FromProbabilities", "Mixture", "averaged"]


class FromProbabilities(nn.Module):
    """Gives log-probabilities of a program that gives probabilities: logits whose softmax gives these back.

    Args:
        program: from uint8 images to probabilities ``[N, classes]``, or to several outputs.
        output: which of several outputs; None for the only one.
    """

    def __init__(self, program: nn.Module, output: int | None = None):
        super().__init__()
        self.program, self.output = program, output

    def forward(self, images: Tensor) -> Tensor:
        """Return log-probabilities ``[N, classes]``; a probability of zero counts as the smallest number there is."""
        given = self.program(images)
        given = given if self.output is None else given[self.output]
        return given.clamp_min(torch.finfo(given.dtype).tiny).log()


class Mixture(nn.Module):
    """Sources with shares.

    Args:
        members: from uint8 images ``[N, C, H, W]`` to logits ``[N, classes]``.
        shares: of each member, above zero; they sum to 1.
    """

    def __init__(self, members: Sequence[nn.Module], shares: Sequence[float]):
        super().__init__()
        self.members = nn.ModuleList(members)
        self.register_buffer("shares", torch.tensor(shares))
        self.training = False

    def each(self, images: Tensor) -> Tensor:
        """Return the logits of every member, ``[members, N, classes]``."""
        return torch.stack([member(images).float() for member in self.members])

    def forward(self, images: Tensor) -> Tensor:
        """Return the logarithm of the averaged probabilities, ``[N, classes]``."""
        return averaged(self.each(images), self.shares, 1.0)


def averaged(each: Tensor, shares: Tensor, temperature: float) -> Tensor:
    r"""Return logits that, softened at a temperature, are the average of the members' softened probabilities.

    .. math:: z = T \log \sum_m w_m \operatorname{softmax}(z_m / T)

    Args:
        each: the members' logits ``[members, N, classes]``.
        shares: ``[members]``, which sum to 1.
        temperature: above zero.
    """
    softened = torch.log_softmax(each / temperature, dim=-1) + shares.log().view(-1, 1, 1)
    return temperature * torch.logsumexp(softened, dim=0)
