"""The method ``simkd``: a student learns its source's last map, and is deployed with the source's last layer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from kdops.config.architectures import EMBEDDING
from kdops.distillation.method import Method, Needs, Step


@dataclass(frozen=True)
class ReusedClassifier(Method):
    """``mean (p(m_student) - m_source)²`` over the batch and the last map; no labels, no temperature.

    p is the projector: convolutions of 1x1, 3x3 and 1x1, each with ReLU. What is trained, measured and stored is the
    student's convolutions, p, and the source's last layer, which stays as it is:
    :class:`kdops.config.composed.Reused`. A student's map that is larger than the source's is average-pooled to its
    size; one that is smaller is refused, since the source's last layer takes each place of its map.

    Reference: Chen, Mei, Zhang, Wang, Feng and Chen, "Knowledge Distillation with the Reused Teacher Classifier",
    CVPR 2022.

    Attributes:
        factor: the projector has the source's channels divided by it within.
    """

    factor: int = 2

    @property
    def needs(self) -> Needs:
        """The inputs of both last layers, which are the flattened maps, and the source's last layer."""
        return Needs((EMBEDDING,), (EMBEDDING,), more=True, head=True)

    def label_weight(self) -> float | Tensor:
        """Return 0: the labels are not learned."""
        return 0.0

    def terms(self, step: Step, modules: nn.Module) -> Mapping[str, Tensor]:
        """Return the term ``map``."""
        gaps = step.student.features[EMBEDDING] - step.source.features[EMBEDDING]
        return {"map": gaps.square().mean(dim=(1, 2))}
