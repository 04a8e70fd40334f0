"""The method ``curriculum``: softened outputs at a temperature that is learned against the student."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from kdops.distillation.method import Method, Needs, Shapes, Step
from kdops.distillation.softening import as_weight, log_softmax, with_gradient

TINY = 1e-12


@dataclass(frozen=True)
class CurriculumTemperature(Method):
    r"""``alpha · T² · KL(source softened || student softened) + (1 - alpha) · CE(labels)``, mean over the batch.

    T is learned too, one for each student, so that the loss grows: its gradient is multiplied by :math:`-\lambda`, and
    :math:`\lambda` rises from 0 to 1 as half a cosine (equations 4 to 7), in the authors' code over 10 of 240 epochs.
    With :math:`\theta` a parameter that begins at 1, :math:`T = low + (high - low) \operatorname{sigmoid}(\theta)`.

    This is the paper's global temperature; it has one for each image too. The temperature of the sweep has no part in
    it. :math:`\theta` has the student's optimizer, as in the authors' code, and is dropped in the end.

    Reference: Li, Li, Yang, Zhao, Song, Luo, Li and Yang, "Curriculum Temperature for Knowledge Distillation", AAAI
    2023.

    Attributes:
        low: lowest T.
        high: highest T.
        rise: share of the training over which lambda rises.
        alpha: weight of the soft term, in [0, 1].
    """

    low: float | Tensor = 1.0
    high: float | Tensor = 21.0
    rise: float | Tensor = 0.04
    alpha: float | Tensor = 1.0

    @property
    def needs(self) -> Needs:
        """The progress of the training."""
        return Needs(progress=True, joint=True)

    def label_weight(self) -> float | Tensor:
        """Return ``1 - alpha``."""
        return 1 - self.alpha

    def modules(self, student: Shapes, source: Shapes) -> nn.Module:
        """Return theta."""
        return _Learned()

    def terms(self, step: Step, modules: nn.Module) -> Mapping[str, Tensor]:
        """Return the term ``soft``."""
        theta, logits = modules.get_parameter("theta"), step.student.logits
        with torch.no_grad():
            low, span = as_weight(self.low, logits), as_weight(self.high - self.low, logits)
            share = torch.sigmoid(theta).to(logits.dtype)
            t = low + span * share
            both = torch.stack([logits, step.source.logits]).div_(t.view(-1, 1, 1))
            logs = log_softmax(both)
            own, source = logs.exp()
            gaps = logs[1] - logs[0]
            each = torch.linalg.vecdot(source, gaps)
            loss = t.square() * each.mean(dim=1)
            by_logits = (own - source) * (t / logits.shape[1]).view(-1, 1, 1)
            # By T: of the factor T², and of the student's and the source's softened outputs.
            inner = (own - source) * both[0] + source * (gaps - each.unsqueeze(-1)) * both[1]
            by_t = (2 * loss - t.square() * inner.sum(dim=-1).mean(dim=1)) / t
            risen = (1 - torch.cos(math.pi * ((step.progress + TINY) / (self.rise + TINY)).clamp(max=1.0))) / 2
            by_theta = -risen * by_t * span * share * (1 - share)
        found = with_gradient(logits, loss, by_logits)
        found = found + with_gradient(theta, torch.zeros_like(loss), by_theta.to(theta.dtype)).to(loss.dtype)
        return {"soft": as_weight(self.alpha, loss) * found}


class _Learned(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.theta = nn.Parameter(torch.ones(1))
