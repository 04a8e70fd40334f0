"""What a method of a company is. One file here with one class, and one line in ``kdops.config.companies.COMPANIES``."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from kdops.config.companies import ChosenCompany
from kdops.distillation.method import Method, Needs, Step
from kdops.utils.imports import load_place

__all__ = ["CompanyMethod", "MapsMethod", "build_company", "divergence_from_peers"]


@dataclass(frozen=True)
class CompanyMethod(Method):
    """How the nets of a company learn from each other, beside the cross entropy with the labels.

    In each :class:`~kdops.distillation.method.Step` ``student`` has the outputs of all K nets for one batch, and
    ``source`` the same without gradient. Term k is the loss of net k alone: no gradient of it may reach another net.

    Attributes:
        order: ``simultaneous``: all nets learn from the outputs before a step; ``sequential``: each one from those
            after the steps of the nets before it.
    """

    order: str = "simultaneous"

    @property
    def needs(self) -> Needs:
        """The other nets."""
        return Needs(peers=True)


def build_company(chosen: ChosenCompany) -> CompanyMethod:
    """Return the method of a company that was chosen, with its options."""
    return load_place(chosen.spec.place)(**chosen.options)


@dataclass(frozen=True)
class MapsMethod(CompanyMethod):
    """How nets learn each other's last maps too, ``[B, C, H, W]`` each, against discriminators.

    The maps have an optimizer of their own, AdamW with a one-cycle rate, for the nets and the discriminators; its step
    on a batch comes after that of the other losses.

    Attributes:
        rate: its highest learning rate.
        decay: its decoupled weight decay, a step.
    """

    rate: float = 0.0
    decay: float = 0.0

    @abstractmethod
    def adversaries(self, channels: Sequence[int]) -> tuple[nn.ModuleList, nn.ModuleList]:
        """Return what is trained beside the nets, initialized from PyTorch's global state.

        Args:
            channels: of the last map of each net.

        Returns:
            What learns with the nets, and what learns against them.
        """

    @abstractmethod
    def discriminator_loss(self, maps: Sequence[Tensor], transfers: nn.ModuleList, judges: nn.ModuleList) -> Tensor:
        """Return the loss of what learns against the nets, one value; no gradient of it reaches a map."""

    @abstractmethod
    def map_losses(self, maps: Sequence[Tensor], transfers: nn.ModuleList, judges: nn.ModuleList) -> Tensor:
        """Return the loss of each net, ``[K]``; no gradient of one reaches another net's map."""


def divergence_from_peers(step: Step) -> Tensor:
    """Return how far each net is from the others, softened: T² · KL(other || own), ``[K]`` in nats.

    It is the mean over the others and over the batch.
    """
    given, logits = (outputs.logits for outputs in (step.source, step.student))
    own, log_target = (torch.log_softmax(one / step.temperature, dim=-1) for one in (logits, given))
    # From net j, the first axis, to net k: [K, K]. Class by class, since a whole of logarithms of nearly 0 cancels.
    each = (log_target.exp().unsqueeze(1) * (log_target.unsqueeze(1) - own.unsqueeze(0))).sum(dim=-1).mean(dim=-1)
    itself = torch.eye(len(each), dtype=torch.bool, device=each.device)
    return step.temperature.flatten().square() * each.masked_fill(itself, 0.0).sum(dim=0) / (len(each) - 1)
