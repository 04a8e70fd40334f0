"""Methods on how the embeddings of a batch lie to each other: what they have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

from kdops.config.architectures import EMBEDDING
from kdops.distillation.distinct import distinct
from kdops.distillation.method import Method, Needs, Step
from kdops.distillation.softening import as_weight, with_gradient

TINY = 1e-12


class BatchRelation(Method, ABC):
    """``CE(labels) + weight · loss`` of the embeddings of a batch, whose gradient is known in closed form.

    Attributes:
        term: the name of the loss.
        weight: of the loss.
    """

    term: ClassVar[str]
    weight: float | Tensor

    @property
    def needs(self) -> Needs:
        """The embedding of both networks, which may differ in size."""
        return Needs((EMBEDDING,), (EMBEDDING,))

    @abstractmethod
    def relation(self, source: Tensor) -> Tensor:
        """Return what is compared of sources' points ``[S, B, E]``: ``[S, B, B]``."""

    @abstractmethod
    def compare(self, points: Tensor, theirs: Tensor) -> tuple[Tensor, Tensor]:
        """Return the loss ``[M]`` and its gradient by the student's points ``[M, B, D]``.

        Args:
            points: the student's.
            theirs: see :meth:`relation`; ``[M, B, B]``, or ``[1, B, B]`` where all have one source.
        """

    def terms(self, step: Step, modules: nn.Module) -> Mapping[str, Tensor]:
        """Return the one term."""
        points = step.student.features[EMBEDDING]
        with torch.no_grad():
            sources, whose = distinct(step.source.features[EMBEDDING])
            theirs = self.relation(sources)
            if len(theirs) not in (1, len(points)):
                theirs = torch.stack([theirs[number] for number in whose])
            loss, gradient = self.compare(points, theirs)
        return {self.term: as_weight(self.weight, points) * with_gradient(points, loss, gradient)}


def unit_rows(points: Tensor) -> tuple[Tensor, Tensor]:
    """Return points ``[M, B, D]`` divided by their lengths, and the lengths ``[M, B, 1]``; a zero stays one."""
    lengths = torch.linalg.vector_norm(points, dim=-1, keepdim=True).clamp_min_(TINY)
    return points / lengths, lengths


def gradient_of_products(slopes: Tensor, units: Tensor, lengths: Tensor) -> Tensor:
    """Return the gradient by points of a loss whose gradient by the cosines of all pairs is known.

    Args:
        slopes: ``[M, B, B]``.
        units: see :func:`unit_rows`.
        lengths: likewise.
    """
    found = (slopes + slopes.mT) @ units
    return (found - (found * units).sum(dim=-1, keepdim=True) * units) / lengths
