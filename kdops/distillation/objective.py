"""What the members of one pass minimize: the terms of a method, and the cross entropy with the labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce
from operator import add

import torch
from torch import Tensor, nn

from kdops.distillation.labels import LabelLoss
from kdops.distillation.method import LabelsOnly, Method, Outputs, Phase, Step
from kdops.utils.hardware import finest_float

LABELS_TERM = "labels"
"""The name of the cross entropy with the labels among the terms."""


class Objective:
    """The loss of members whose temperatures are known; T = 0 means the labels alone, whatever the method.

    All that does not change from step to step is settled here, once: to ask a GPU for a value makes the program wait
    for all that it still has to compute.

    Args:
        method: what the members at T > 0 learn.
        temperatures: ``[M]``, 0 for hard labels.
        modules: for each member what is trained beside it, or one for all, where the method has joint ones; empty for a
            method without modules.
        labels: the loss of the labels.
    """

    def __init__(
        self,
        method: Method,
        temperatures: Tensor,
        modules: Sequence[nn.Module] = (),
        labels: LabelLoss = LabelLoss(),
    ):
        hard = temperatures == 0
        self.method: Method = LabelsOnly() if bool(hard.all()) else method
        self.modules, self.labels = list(modules), labels
        self.temperature = torch.where(hard, torch.ones_like(temperatures), temperatures).view(-1, 1, 1)
        self.hard = hard if bool(hard.any()) and not bool(hard.all()) else None
        self.is_soft = (~hard).to(temperatures.dtype)
        # In double, as Python's own numbers, so that a tensor of one value leads to the bits of that value.
        kind = finest_float(temperatures.device)
        weight = torch.as_tensor(self.method.label_weight(), dtype=kind, device=temperatures.device)
        self.label_weight = torch.where(hard, torch.ones_like(self.is_soft), weight.to(temperatures.dtype))
        self.needs_labels = bool((weight != 0).any() | hard.any())
        self._still = torch.zeros((), device=temperatures.device)

    def terms(
        self,
        student: Outputs,
        labels: Tensor,
        source: Outputs | None,
        progress: Tensor | None = None,
        phase: Phase = Phase(),
        rows: Tensor | None = None,
        label_loss: LabelLoss | None = None,
    ) -> dict[str, Tensor]:
        """Return the weighted terms by name, each ``[M]``: the mean over a member's batch.

        Args:
            student: logits ``[M, B, classes]``, features ``[M, B, ...]``, and terms of the networks' own.
            labels: ``[M, B]`` class numbers.
            source: the same of the sources; may be None where all members learn hard labels.
            progress: share of the training done, one value.
            phase: the part of the training.
            rows: ``[M, B]`` rows of the images; may be None for a method that does not need them.
            label_loss: the loss of the labels of this batch; may be None where it is that of all batches.
        """
        terms: dict[str, Tensor] = {}
        label_loss = label_loss or self.labels
        if source is not None:
            step = Step(
                student,
                source.map(self._without_hard),
                labels,
                self.temperature,
                self._still if progress is None else progress,
                phase.name,
                self._still if rows is None else rows,
                label_loss,
            )
            terms.update(self._terms_of(step))
        if self.hard is not None:
            # A hard member's source is all zeros, so its terms are finite, and here weighted by zero.
            terms = {name: term * self.is_soft for name, term in terms.items()}
        if phase.labels and self.needs_labels:
            terms[LABELS_TERM] = self.label_weight * label_loss(student.logits, labels).mean(dim=1)
        return {**terms, **student.own}

    def __call__(self, student: Outputs, labels: Tensor, source: Outputs | None, rows: Tensor | None = None) -> Tensor:
        """Return the loss of every member, ``[M]``: the sum of :meth:`terms`."""
        return reduce(add, self.terms(student, labels, source, rows=rows).values())

    def _terms_of(self, step: Step) -> Mapping[str, Tensor]:
        if not self.modules:
            return self.method.terms(step, _NONE)
        if self.method.needs.joint:
            return self.method.terms(step, self.modules[0])
        each = [self.method.terms(_member(step, number), own) for number, own in enumerate(self.modules)]
        return {name: torch.cat([terms[name] for terms in each]) for name in each[0]}

    def _without_hard(self, values: Tensor) -> Tensor:
        if self.hard is None:
            return values
        return values.masked_fill(self.hard.view(-1, *[1] * (values.dim() - 1)), 0.0)


_NONE = nn.Module()


def _member(step: Step, number: int) -> Step:
    """Return the part of one member."""
    rows = slice(number, number + 1)

    def own(values: Tensor) -> Tensor:
        return values[rows]

    return Step(
        step.student.map(own),
        step.source.map(own),
        step.labels[rows],
        step.temperature[rows],
        step.progress,
        step.phase,
        step.rows[rows] if step.rows.dim() else step.rows,
        step.label_loss.of(rows),
    )
