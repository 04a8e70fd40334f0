"""Optimizers at learning rates that are known beforehand: one for all networks, or one for each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.optim.adam import adam
from torch.optim.adamw import adamw
from torch.optim.sgd import sgd

from kdops.config.recipe_settings import ADAMW, MUON, OPTIMIZERS
from kdops.config.specs import parse_spec
from kdops.training.muon import Muon
from kdops.training.update import Matrices, Update

__all__ = ["Optimizer", "gradient_of"]


def gradient_of(tensor: Tensor) -> Tensor:
    """Return the gradient of a tensor that has one.

    Raises:
        ValueError: it has none.
    """
    if tensor.grad is None:
        raise ValueError(f"a tensor of shape {tuple(tensor.shape)} has no gradient")
    return tensor.grad


class Rule(Protocol):
    """How tensors are updated from their gradients, by torch's own fused kernel, which passes over memory once."""

    @property
    def kept(self) -> tuple[str, ...]:
        """Names of what is kept of each tensor."""

    def start(self, tensor: Tensor) -> list[Tensor]:
        """Return what is kept of a tensor before its first update."""

    def update(self, given: Update) -> None:
        """Update tensors in place."""


@dataclass(frozen=True)
class Adam:
    """Adam (Kingma and Ba, 2015), or AdamW (Loshchilov and Hutter, 2019), whose decay is not part of the gradient."""

    decoupled: bool
    beta1: float
    beta2: float

    @property
    def kept(self) -> tuple[str, ...]:
        """The number of steps, and the means of the gradient and of its square."""
        return "step", "exp_avg", "exp_avg_sq"

    def start(self, tensor: Tensor) -> list[Tensor]:
        """Return the number of steps and both means, zero."""
        step = torch.zeros((), dtype=torch.float32, device=tensor.device)
        return [step, torch.zeros_like(tensor), torch.zeros_like(tensor)]

    def update(self, given: Update) -> None:
        """Update tensors."""
        steps, means, squares = given.kept
        (adamw if self.decoupled else adam)(
            given.tensors,
            given.gradients,
            means,
            squares,
            [],
            steps,
            fused=True,
            capturable=given.is_recorded,
            amsgrad=False,
            beta1=self.beta1,
            beta2=self.beta2,
            lr=given.rate,
            weight_decay=given.decay,
            eps=1e-8,
            maximize=False,
        )


@dataclass(frozen=True)
class Sgd:
    """Stochastic gradient descent with momentum, as in :class:`torch.optim.SGD`."""

    momentum: float
    nesterov: bool

    @property
    def kept(self) -> tuple[str, ...]:
        """The momentum, where there is some."""
        return ("momentum",) if self.momentum else ()

    def start(self, tensor: Tensor) -> list[Tensor]:
        """Return the momentum: zero, so that the first step is like every other, and can be recorded."""
        return [torch.zeros_like(tensor) for _ in self.kept]

    def update(self, given: Update) -> None:
        """Update tensors."""
        momenta: list[Tensor | None] = [*given.kept[0]] if given.kept else [None] * len(given.tensors)
        sgd(
            given.tensors,
            given.gradients,
            momenta,
            fused=True,
            weight_decay=given.decay,
            momentum=self.momentum,
            lr=given.rate,
            dampening=0.0,
            nesterov=self.nesterov,
            maximize=False,
        )


def _parts_of(optimizer: str, tensors: Sequence[Tensor], matrices: Mapping[int, Matrices]) -> list[_Part]:
    """Return the tensors by the rule that updates them: Muon is for matrices, and AdamW for what is left of them."""
    name, options = parse_spec(optimizer, "optimizer", OPTIMIZERS)
    if name != MUON:
        return [_Part(tensors, Sgd(**options) if name == "sgd" else Adam(name == ADAMW, **options))]
    others = [one for place, one in enumerate(tensors) if place not in matrices]
    beside = Adam(True, **OPTIMIZERS[ADAMW].defaults())
    mine = [tensors[place] for place in matrices]
    return [_Part(mine, Muon(**options), list(matrices.values())), _Part(others, beside)]


class Optimizer:
    """An optimizer of ``OPTIMIZERS`` at a schedule for each part.

    Every part is updated by itself. A tensor without a gradient is left as it is.

    Args:
        parts: the trained tensors of each part; they are updated in place, and may be parts of larger ones.
        schedules: for each part its learning rate in every step.
        decays: the weight decay of each part, a step.
        rates_on: the device on which a recorded step reads its rates; None where no step is recorded.
        optimizer: text of ``OPTIMIZERS``.
        matrices: for each part the hidden matrices of its tensors, by their place; empty where none is known.
    """

    def __init__(
        self,
        parts: Sequence[Sequence[Tensor]],
        schedules: Sequence[Sequence[float]],
        decays: Sequence[float],
        rates_on: torch.device | str | None = None,
        optimizer: str = ADAMW,
        matrices: Sequence[Mapping[int, Matrices]] = (),
    ):
        self.schedules, self.decays, self.is_recorded = list(schedules), list(decays), rates_on is not None
        self.rates: list[Tensor | float] = [own[0] for own in schedules]
        if rates_on is not None:
            self.rates = [torch.tensor(own[0], dtype=torch.float32, device=rates_on) for own in schedules]
        self.optimizer, self.matrices = optimizer, list(matrices) or [{} for _ in parts]
        self._parts = [_parts_of(optimizer, part, own) for part, own in zip(parts, self.matrices, strict=True)]

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
        for part in self._parts[place]:
            part.update(self.rates[place], self.decays[place], self.is_recorded)

    def keep(self, chosen: Sequence[int], parts: Sequence[Sequence[Tensor]]) -> None:
        """Drop all parts but those at these places, and go on with their tensors in ``parts``.

        These may be smaller or larger than before by what is padding, at the end of an axis.
        """
        self.schedules = [self.schedules[place] for place in chosen]
        self.rates, self.decays = [self.rates[place] for place in chosen], [self.decays[place] for place in chosen]
        self.matrices, before = [self.matrices[place] for place in chosen], [self._parts[place] for place in chosen]
        self._parts = [_parts_of(self.optimizer, part, own) for part, own in zip(parts, self.matrices, strict=True)]
        for old, new in zip(before, self._parts, strict=True):
            for one, other in zip(old, new, strict=True):
                other.go_on_from(one)

    def state(self) -> dict[str, Tensor]:
        """Return what is kept of each tensor by name; nothing of one that never had a gradient."""
        every = [part for parts in self._parts for part in parts]
        kept = enumerate((part.rule.kept, moments) for part in every for moments in part.moments)
        return {f"{kind}.{n}": one for n, (kinds, own) in kept for kind, one in zip(kinds, own, strict=False)}

    @torch.no_grad()
    def load(self, state: Mapping[str, Tensor]) -> None:
        """Take up what :meth:`state` returned."""
        number = 0
        for part in [part for parts in self._parts for part in parts]:
            for place, one in enumerate(part.tensors):
                if all(f"{kind}.{number}" in state for kind in part.rule.kept):
                    # In the memory order that the kernel reads side by side.
                    part.moments[place] = part.rule.start(one)
                    for kind, own in zip(part.rule.kept, part.moments[place], strict=True):
                        own.copy_(state[f"{kind}.{number}"])
                number += 1


class _Part:
    """Tensors that a rule updates, and for each what the rule keeps of it: nothing until it has a gradient."""

    def __init__(self, tensors: Sequence[Tensor], rule: Rule, matrices: Sequence[Matrices] = ()):
        self.tensors, self.rule, self.matrices = list(tensors), rule, matrices
        self.moments: list[list[Tensor]] = [[] for _ in tensors]
        self._places: list[int] = []
        self._lists: tuple[list[Tensor], ...] = ()

    def update(self, rate: Tensor | float, decay: float, is_recorded: bool) -> None:
        gradients = [one.grad for one in self.tensors]
        places = [place for place, gradient in enumerate(gradients) if gradient is not None]
        if places != self._places:
            self._places = places
            for place in places:
                self.moments[place] = self.moments[place] or self.rule.start(self.tensors[place])
            kept = [self.moments[place] for place in places]
            lists = ([own[kind] for own in kept] for kind in range(len(self.rule.kept)))
            self._lists = [self.tensors[place] for place in places], *lists
        if places:
            tensors, *kept_of = self._lists
            own = [gradient for gradient in gradients if gradient is not None]
            of_these = [self.matrices[place] for place in places] if self.matrices else []
            self.rule.update(Update(tensors, own, kept_of, rate, decay, is_recorded, of_these))

    def go_on_from(self, part: _Part) -> None:
        """Take up the state of the same tensors with other padding."""
        for place, (moments, tensor) in enumerate(zip(part.moments, self.tensors, strict=True)):
            self.moments[place] = self.rule.start(tensor) if moments else []
            for old, own in zip(moments, self.moments[place], strict=True):
                # Padding may have been cut off or added; what both have is the member's own.
                common = tuple(map(slice, map(min, old.shape, own.shape)))
                own[common] = old[common]
