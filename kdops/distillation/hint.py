"""The method ``hint``: the source's embedding, through a dense layer on the student's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from kdops.config.architectures import EMBEDDING
from kdops.distillation.adapters import MemberLinear
from kdops.distillation.method import Method, Needs, Shapes, Step
from kdops.distillation.softening import as_weight


@dataclass(frozen=True)
class EmbeddingHint(Method):
    """``CE(labels) + weight · mean (r(e_student) - e_source)²``, mean over the batch and the embedding.

    r is a dense layer, which is trained beside the student and dropped in the end. Other than ``fitnet`` this has one
    phase, and dense students are stacked. The paper halves a sum over the layer; public code (RepDistiller) takes the
    mean, with the weight 100. The temperature has no part in it.

    Reference: Romero, Ballas, Kahou, Chassang, Gatta and Bengio, "FitNets: Hints for Thin Deep Nets", ICLR 2015.

    Attributes:
        weight: of the difference.
    """

    weight: float | Tensor = 1.0

    vanishes = False

    @property
    def needs(self) -> Needs:
        """The embedding of both networks, which may differ in size."""
        return Needs((EMBEDDING,), (EMBEDDING,), joint=True)

    def modules(self, student: Shapes, source: Shapes) -> nn.Module:
        """Return the dense layer."""
        return MemberLinear(student.features[EMBEDDING][0], source.features[EMBEDDING][0])

    def terms(self, step: Step, modules: nn.Module) -> Mapping[str, Tensor]:
        """Return the term ``hint``."""
        gaps = modules(step.student.features[EMBEDDING]) - step.source.features[EMBEDDING]
        return {"hint": as_weight(self.weight, gaps) * gaps.square().mean(dim=(1, 2))}
