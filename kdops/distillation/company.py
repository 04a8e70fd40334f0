"""What a method of a company is. One file here with one class, and one line in ``kdops.config.companies.COMPANIES``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from kdops.config.architectures import Architecture
from kdops.config.companies import ChosenCompany
from kdops.distillation.method import Method, Needs, Step
from kdops.utils.imports import load_place


@dataclass(frozen=True)
class Turn:
    """A further step on each batch, after that of the terms, by an AdamW of its own with a one-cycle rate.

    Attributes:
        name: of its loss among the terms that are logged.
        losses: of the value of each net at its tap, ``[B, ...]`` with gradient, computed for the first turn of a batch
            and anew after each in which the nets learn, and of what is trained beside the nets: the loss of each net
            ``[K]``, or one value; no gradient of one net's loss reaches another net.
        modules: which of what is trained beside the nets learns, by name.
        nets: whether the nets learn; if not, no gradient reaches them.
        rate: highest learning rate.
        decay: decoupled weight decay, a step.
        least: images of a batch; a smaller one is left out.
    """

    name: str
    losses: Callable[[Sequence[Tensor], nn.ModuleDict], Tensor]
    modules: tuple[str, ...]
    nets: bool
    rate: float
    decay: float
    least: int = 1


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
        """The other nets; the modules of all are one."""
        return Needs(peers=True, joint=bool(self.turns()))

    @property
    def has_modules(self) -> bool:
        """Whether something is trained beside the nets."""
        return bool(self.turns())

    def taps(self, nets: Sequence[Architecture]) -> tuple[str, ...]:
        """Return the tap of each net that the turns read; none where there are no turns."""
        return ()

    def beside(self, shapes: Sequence[tuple[int, ...]]) -> nn.ModuleDict:
        """Return what is trained beside the nets, by name, initialized from PyTorch's global state.

        Args:
            shapes: of the value of each net at its tap, for one image.
        """
        return nn.ModuleDict()

    def turns(self) -> tuple[Turn, ...]:
        """Return the further steps on each batch, in order."""
        return ()


def build_company(chosen: ChosenCompany) -> CompanyMethod:
    """Return the method of a company that was chosen, with its options."""
    return load_place(chosen.spec.place)(**chosen.options)


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
