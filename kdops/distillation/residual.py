"""The method ``residual``: a student learns the source's maps, an assistant what the student leaves of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kdops.config.architectures import Architecture
from kdops.config.composed import ASSISTANT, RESIDUAL
from kdops.distillation.method import Method, Needs, Shapes, Step
from kdops.errors import UsageError


@dataclass(frozen=True)
class ResidualDistillation(Method):
    r"""``CE(labels) + weight · (M + R)``, each a mean over the batch, the map, and the stages; T has no part in it.

    *M*: :math:`\|F_T - r(F_S)\|^2`, the student's map at the end of each stage against the source's. *R*:
    :math:`\|(F_T - r(F_S)) - q(F_A)\|^2`, the assistant's against what the student leaves, without gradient to the
    student. r and q are convolutions of 1x1 to the source's channels, which are dropped in the end. In the last stage
    the assistant's map is first brought to the student's channels, and q is r without its bias, so that r of the sum of
    both maps is near the source's.

    What is trained, measured and stored is both networks with one last layer, which takes that sum:
    :class:`kdops.config.composed.Joined`. Student and assistant have as many layers; the budget is their sum.

    Reference: Gao, Shen, Li and Loy, "Residual Knowledge Distillation", 2020.

    Attributes:
        assistant: the network that learns the residual.
        weight: of both differences.
    """

    assistant: Architecture = ASSISTANT
    weight: float | Tensor = 1.0

    vanishes = False

    @property
    def needs(self) -> Needs:
        """Each stage of student and assistant, whose names go on where the student's end, and of the source."""
        stages, own = len(self.assistant.maps()), self._stages
        others = (f"stage{stages + number}" for number in range(1, stages))
        return Needs((*own, *others, RESIDUAL), own, more=True)

    @property
    def _stages(self) -> tuple[str, ...]:
        return tuple(f"stage{number + 1}" for number in range(len(self.assistant.maps())))

    def modules(self, student: Shapes, source: Shapes) -> nn.Module:
        """Return r of each stage, then q of all but the last.

        Raises:
            UsageError: a map of the student has another size than the source's.
        """
        own, other = [], []
        for stage, tap in zip(self._stages, self._others, strict=True):
            given, wanted = student.features[stage], source.features[stage]
            if given[1:] != wanted[1:]:
                sizes = " and the source's ".join("x".join(map(str, one)) for one in (given, wanted))
                raise UsageError("method", f"residual(assistant={self.assistant})", f"the {stage} has {sizes} values")
            own.append(nn.Conv2d(given[0], wanted[0], 1))
            if tap != RESIDUAL:
                other.append(nn.Conv2d(student.features[tap][0], wanted[0], 1))
        return nn.ModuleList([*own, *other])

    @property
    def _others(self) -> tuple[str, ...]:
        return self.needs.student[len(self._stages) :]

    def terms(self, step: Step, modules: nn.Module) -> Mapping[str, Tensor]:
        """Return the terms ``mimic`` and ``residual``."""
        count, adapters = len(self._stages), list(modules.children())
        mimic, residual = [], []
        for number, (stage, tap) in enumerate(zip(self._stages, self._others, strict=True)):
            first, second = step.student.features[stage][0], step.student.features[tap][0]
            own = adapters[number]
            left = step.source.features[stage][0] - own(first)
            if tap == RESIDUAL:
                learned = F.conv2d(second, own.get_parameter("weight").detach())
            else:
                learned = adapters[count + number](second)
            mimic.append(left.square().mean())
            residual.append((left.detach() - learned).square().mean())
        both = {"mimic": mimic, "residual": residual}
        return {name: self.weight * torch.stack(stages).mean().unsqueeze(0) for name, stages in both.items()}
