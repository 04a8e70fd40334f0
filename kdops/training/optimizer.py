"""AdamW for members that each have a learning rate and a weight decay of their own."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.optim.adamw import adamw

__all__ = ["RatedAdamW", "gradient_of"]


def gradient_of(tensor: Tensor) -> Tensor:
    """Return the gradient of a tensor that has one.

    Raises:
        ValueError: it has none.
    """
    if tensor.grad is None:
        raise ValueError(f"a tensor of shape {tuple(tensor.shape)} has no gradient")
    return tensor.grad


class RatedAdamW:
    """AdamW (Loshchilov and Hutter, 2019) as in :class:`torch.optim.AdamW`, at a rate for each member.

    Every member is updated by itself with torch's own fused kernel, which passes over memory once; the members'
    tensors may be parts of larger ones.

    Args:
        members: for each member its trained tensors, contiguous, each with a ``grad``; they are updated in place.
        rates: each member's highest learning rate.
        decays: each member's decoupled weight decay, a step.
    """

    def __init__(self, members: Sequence[Sequence[Tensor]], rates: Sequence[float], decays: Sequence[float]):
        self.rates, self.decays = list(rates), list(decays)
        self._states = [_State(member) for member in members]

    def step(self, factor: float = 1.0) -> None:
        """Update every member from its gradients, at ``factor`` times its rate."""
        for state, rate, decay in zip(self._states, self.rates, self.decays, strict=True):
            state.update(rate * factor, decay)

    def keep(self, chosen: Sequence[int], members: Sequence[Sequence[Tensor]]) -> None:
        """Drop all members but those at these places, and go on with their tensors in ``members``.

        These may be smaller or larger than before by what is padding, at the end of an axis.
        """
        self.rates, self.decays = ([own[place] for place in chosen] for own in (self.rates, self.decays))
        self._states = [self._states[place].moved(member) for place, member in zip(chosen, members, strict=True)]


class _State:
    """What AdamW keeps of one member."""

    def __init__(self, tensors: Sequence[Tensor]):
        self.tensors = list(tensors)
        self.gradients = [gradient_of(tensor) for tensor in tensors]
        self.means = [torch.zeros_like(tensor) for tensor in tensors]
        self.squares = [torch.zeros_like(tensor) for tensor in tensors]
        self.steps = [torch.zeros((), device=tensor.device) for tensor in tensors]

    def update(self, rate: float, decay: float) -> None:
        adamw(
            self.tensors,
            self.gradients,
            self.means,
            self.squares,
            [],
            self.steps,
            fused=True,
            amsgrad=False,
            beta1=0.9,
            beta2=0.999,
            lr=rate,
            weight_decay=decay,
            eps=1e-8,
            maximize=False,
        )

    def moved(self, tensors: Sequence[Tensor]) -> _State:
        """Return the same state for tensors with other padding."""
        new = _State(tensors)
        for name in ("means", "squares", "steps"):
            for old, place in zip(getattr(self, name), getattr(new, name), strict=True):
                # Padding may have been cut off or added; what both have is the member's own.
                own = tuple(map(slice, map(min, old.shape, place.shape)))
                place[own] = old[own]
        return new
