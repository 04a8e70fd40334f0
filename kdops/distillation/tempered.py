"""The method ``tempered``: hard labels at a temperature. A control; the source has no part in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from kdops.distillation.method import Method, Step
from kdops.distillation.softening import as_weight


@dataclass(frozen=True)
class TemperedLabels(Method):
    """``T^power · CE(labels, softmax(z / T))``, mean over the batch, in place of the cross entropy at T = 1.

    The cross entropy is that of the recipe: its labels smoothed, weighted or at a temperature of their own.

    What a method gains over this at the same T is not the temperature's. The gradient of an image that is wrong has the
    same size for all T where ``power`` is 1; 0 is the training of defensive distillation's first network (Papernot,
    McDaniel, Wu, Jha and Swami, 2016), 2 has the factor of ``logits``.

    Reference: Guo, Pleiss, Sun and Weinberger, "On Calibration of Modern Neural Networks", ICML 2017, for the
    temperature of a softmax.

    Attributes:
        power: of T, by which the loss is multiplied.
    """

    power: float | Tensor = 1.0

    vanishes = False

    def label_weight(self) -> float | Tensor:
        """Return 0: the labels are learned at T."""
        return 0.0

    def terms(self, step: Step, modules: nn.Module) -> Mapping[str, Tensor]:
        """Return the term ``tempered``."""
        logits = step.student.logits / step.temperature
        each = step.label_loss(logits, step.labels)
        return {"tempered": step.temperature.flatten() ** as_weight(self.power, logits) * each.mean(dim=1)}
