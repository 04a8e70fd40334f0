"""The modifier ``standardize``: a method on logits that compares z-scores in place of logits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from torch import Tensor, nn
from torch.nn import functional as F

from kdops.distillation.method import Modifier, Step

TINY = 1e-6


@dataclass(frozen=True)
class Standardized(Modifier):
    """A method whose terms see the logits of each image with mean 0 and deviation 1, of student and source alike.

    The student is then free to have logits of a size of its own; the cross entropy with the labels sees them as they
    are. The deviation is that of all classes (divided by their number, as in the paper's algorithm 1; the authors' code
    divides by one less), the root of the variance + 1e-6, so that the gradient is bounded where all logits are equal.

    The authors multiply the loss by 9 and compare it with a plain one of weight 0.9; here the weight is the method's.

    Reference: Sun, Ren, Li, Wang and Cao, "Logit Standardization in Knowledge Distillation", CVPR 2024.
    """

    def terms(self, step: Step, modules: nn.Module) -> Mapping[str, Tensor]:
        """Return the terms of the method."""
        student, source = (
            replace(one, logits=F.layer_norm(one.logits, one.logits.shape[-1:], eps=TINY))
            for one in (step.student, step.source)
        )
        return self.method.terms(replace(step, student=student, source=source), modules)
