"""AdamW at learning rates that are known beforehand: one for all networks, or one for each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.optim.adamw import adamw

__all__ = ["AdamW", "gradient_of"]

MOMENTS = ("step", "exp_avg", "exp_avg_sq")
"""What AdamW keeps of each trained tensor."""


def gradient_of(tensor: Tensor) -> Tensor:
    """Return the gradient of a tensor that has one.

    Raises:
        ValueError: it has none.
    """
    if tensor.grad is None:
        raise ValueError(f"a tensor of shape {tuple(tensor.shape)} has no gradient")
    return tensor.grad


class AdamW:
    """AdamW (Loshchilov and Hutter, 2019) as in :class:`torch.optim.AdamW`, at a schedule for each part.

    Every part is updated by itself with torch's own fused kernel, which passes over memory once. A tensor without a
    gradient is left as it is.

    Args:
        parts: the trained tensors of each part; they are updated in place, and may be parts of larger ones.
        schedules: for each part its learning rate in every step.
        decays: the decoupled weight decay of each part, a step.
        rates_on: the device on which a recorded step reads its rates; None where no step is recorded.
    """

    def __init__(
        self,
        parts: Sequence[Sequence[Tensor]],
        schedules: Sequence[Sequence[float]],
        decays: Sequence[float],
        rates_on: torch.device | str | None = None,
    ):
        self.schedules, self.decays, self.is_recorded = list(schedules), list(decays), rates_on is not None
        self.rates: list[Tensor | float] = [own[0] for own in schedules]
        if rates_on is not None:
            self.rates = [torch.tensor(own[0], dtype=torch.float32, device=rates_on) for own in schedules]
        self._parts = [_Part(part) for part in parts]

    def set_rate(self, step: int) -> None:
        """Set the learning rates to those of a step, counted from 0."""
        for place, schedule in enumerate(self.schedules):
            rate = self.rates[place]
            if isinstance(rate, Tensor):
                rate.fill_(schedule[step])
            else:
                self.rates[place] = schedule[step]

    def step(self) -> None:
        """Update every part from its gradients."""
        for place in range(len(self._parts)):
            self.step_part(place)

    @torch.no_grad()
    def step_part(self, place: int) -> None:
        """Update one part, given by its place, from its gradients."""
        self._parts[place].update(self.rates[place], self.decays[place], self.is_recorded)

    def keep(self, chosen: Sequence[int], parts: Sequence[Sequence[Tensor]]) -> None:
        """Drop all parts but those at these places, and go on with their tensors in ``parts``.

        These may be smaller or larger than before by what is padding, at the end of an axis.
        """
        self.schedules = [self.schedules[place] for place in chosen]
        self.rates, self.decays = [self.rates[place] for place in chosen], [self.decays[place] for place in chosen]
        self._parts = [self._parts[place].moved(part) for place, part in zip(chosen, parts, strict=True)]

    def state(self) -> dict[str, Tensor]:
        """Return what is kept of each tensor by name; nothing of one that never had a gradient."""
        kept = enumerate(moments for part in self._parts for moments in part.moments)
        return {f"{kind}.{n}": one for n, moments in kept for kind, one in zip(MOMENTS, moments, strict=False)}

    @torch.no_grad()
    def load(self, state: Mapping[str, Tensor]) -> None:
        """Take up what :meth:`state` returned."""
        number = 0
        for part in self._parts:
            for place, one in enumerate(part.tensors):
                if f"step.{number}" in state:
                    step, *moments = (state[f"{kind}.{number}"] for kind in MOMENTS)
                    # In the memory order that the kernel reads side by side.
                    part.moments[place] = [step.to(one.device), *(torch.empty_like(one).copy_(m) for m in moments)]
                number += 1


class _Part:
    """The tensors of one part, and for each what AdamW keeps of it: nothing until it has a gradient."""

    def __init__(self, tensors: Sequence[Tensor]):
        self.tensors = list(tensors)
        self.moments: list[list[Tensor]] = [[] for _ in tensors]
        self._places: list[int] = []
        self._lists: tuple[list[Tensor], ...] = ()

    def update(self, rate: Tensor | float, decay: float, is_recorded: bool) -> None:
        gradients = [one.grad for one in self.tensors]
        places = [place for place, gradient in enumerate(gradients) if gradient is not None]
        if places != self._places:
            self._places = places
            for place in places:
                self.moments[place] = self.moments[place] or _moments(self.tensors[place])
            kept = [self.moments[place] for place in places]
            self._lists = [self.tensors[place] for place in places], *([own[kind] for own in kept] for kind in range(3))
        if not places:
            return
        tensors, steps, means, squares = self._lists
        adamw(
            tensors,
            [gradient for gradient in gradients if gradient is not None],
            means,
            squares,
            [],
            steps,
            fused=True,
            capturable=is_recorded,
            amsgrad=False,
            beta1=0.9,
            beta2=0.999,
            lr=rate,
            weight_decay=decay,
            eps=1e-8,
            maximize=False,
        )

    def moved(self, tensors: Sequence[Tensor]) -> _Part:
        """Return the same state for tensors with other padding."""
        new = _Part(tensors)
        for place, (moments, tensor) in enumerate(zip(self.moments, tensors, strict=True)):
            new.moments[place] = _moments(tensor) if moments else []
            for old, own in zip(moments, new.moments[place], strict=True):
                # Padding may have been cut off or added; what both have is the member's own.
                common = tuple(map(slice, map(min, old.shape, own.shape)))
                own[common] = old[common]
        return new


def _moments(tensor: Tensor) -> list[Tensor]:
    step = torch.zeros((), dtype=torch.float32, device=tensor.device)
    return [step, torch.zeros_like(tensor), torch.zeros_like(tensor)]
