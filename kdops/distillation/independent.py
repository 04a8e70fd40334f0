"""The company method ``independent``: each net learns from the labels alone, as if the others were not there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from kdops.distillation.company import CompanyMethod
from kdops.distillation.method import Step


@dataclass(frozen=True)
class Independent(CompanyMethod):
    """The cross entropy with the labels alone: to the last bit the training that each net has by itself.

    The control of companies, of the same nets, starts, batches and epochs.
    """

    def terms(self, step: Step, modules: nn.Module) -> Mapping[str, Tensor]:
        """Return no terms."""
        return {}
