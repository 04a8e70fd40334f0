"""Nets of a replicate that differ in their seed, their images or who they learn from: one by one, and as they vote."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from kdops.config.settings import Settings
from kdops.ensembles.evaluation import EnsembleEvaluation, common
from kdops.study.summary import summary_of
from kdops.sweeps.model import Sweep
from kdops.verdicts.answer import Row

if TYPE_CHECKING:
    from kdops.study.study import Study


@dataclass(frozen=True, eq=False)
class Voters:
    """The copies of each replicate, see :data:`kdops.sweeps.model.COPY_SEEDS`, or the nets of its company.

    Attributes:
        study: whose data, split and networks are used.
        name: what they are called in tables.
        models: all of them.
    """

    study: Study[Settings]
    name: str
    models: Sweep

    @cached_property
    def table(self) -> np.ndarray:
        """The test accuracy of each net, ``[replicates, nets]``."""
        return self.models.copies_table(self.study.settings.replicates())

    @property
    def members(self) -> np.ndarray:
        """The mean test accuracy of the nets of each replicate, ``[replicates]``."""
        return np.asarray(self.table.mean(axis=1))

    @cached_property
    def ensembles(self) -> EnsembleEvaluation:
        """How they vote."""
        seeds = self.study.settings.replicates()
        return EnsembleEvaluation(self.study, {seed: self.models.copies_of(seed) for seed in seeds})

    @property
    def vote(self) -> np.ndarray:
        """The test accuracy of the majority vote of all nets of each replicate, ``[replicates]``."""
        return self.ensembles.of(self.ensembles.most)

    def rows(self) -> tuple[Row, Row]:
        """Return the rows of the members and of their vote."""
        count = self.table.size
        return (
            summary_of(f"{self.name}, members", count, self.members),
            summary_of(f"{self.name}, their vote", count, self.vote),
        )

    def alike(self) -> str:
        """Return in a sentence what the nets have in common."""
        return common(f"{self.name}, members", self.ensembles.shared())
