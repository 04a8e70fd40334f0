"""The method ``virtual``: an untrained source, which is right and equally unsure of all others. A control."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from kdops.distillation.method import Method, Step
from kdops.distillation.softening import as_weight, soft_cross_entropy, soft_weight


@dataclass(frozen=True)
class VirtualTeacher(Method):
    r"""``alpha · T² · CE(virtual softened, student softened) + (1 - alpha) · CE(labels)``, mean over the batch.

    The virtual source has the probability ``correct`` for the label, and the rest alike for the other classes
    (equation 9); it is softened at T as any source is. What a method gains over this is knowledge of images and
    classes, not of labels. The authors' code softens probabilities as if they were logits; this one their logarithms.

    Reference: Yuan, Tay, Li, Wang and Feng, "Revisiting Knowledge Distillation via Label Smoothing Regularization",
    CVPR 2020, section 4.

    Attributes:
        correct: the virtual source's probability of the label; the paper's is 0.9 or more.
        alpha: weight of the soft term, in [0, 1].
        t_squared: multiply the soft term by T².
    """

    correct: float | Tensor = 0.99
    alpha: float | Tensor = 1.0
    t_squared: bool | Tensor = True

    vanishes = False

    def label_weight(self) -> float | Tensor:
        """Return ``1 - alpha``."""
        return 1 - self.alpha

    def terms(self, step: Step, modules: nn.Module) -> Mapping[str, Tensor]:
        """Return the term ``soft``."""
        logits = step.student.logits
        correct = as_weight(self.correct, logits) * logits.new_ones(1)
        odds = torch.logit(correct) + math.log(logits.shape[-1] - 1)
        label = step.labels.unsqueeze(-1)
        virtual = torch.zeros_like(logits).scatter(-1, label, odds.view(-1, 1, 1).expand(label.shape))
        soft = soft_cross_entropy(virtual, logits, step.temperature).mean(dim=1)
        return {"soft": soft_weight(self.alpha, self.t_squared, step.temperature) * soft}
