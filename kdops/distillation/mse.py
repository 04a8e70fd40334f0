"""The method ``mse``: a student learns the logits of its source themselves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from kdops.distillation.method import Method, Step
from kdops.distillation.softening import as_weight


@dataclass(frozen=True)
class LogitMatching(Method):
    """``alpha · ½ mean (z - z_source)² + (1 - alpha) · CE(labels)``, mean over the batch and the classes.

    The temperature has no part in it: this is what ``T² · KL`` becomes for logits of mean zero as T grows (Hinton,
    Vinyals and Dean, 2015, equation 4). The paper adds up the squares over the classes; the mean is that divided by
    their number.

    Reference: Ba and Caruana, "Do Deep Nets Really Need to be Deep?", NeurIPS 2014, equation (1).

    Attributes:
        alpha: weight of the logits, in [0, 1].
    """

    alpha: float | Tensor = 1.0

    def label_weight(self) -> float | Tensor:
        """Return ``1 - alpha``."""
        return 1 - self.alpha

    def terms(self, step: Step, modules: nn.Module) -> Mapping[str, Tensor]:
        """Return the term ``match``."""
        gaps = step.student.logits - step.source.logits
        return {"match": as_weight(self.alpha, gaps) * gaps.square().mean(dim=(1, 2)) / 2}
