"""What the best is chosen by: a score, on the validation images or, to mimic the paper, on the test images."""

from __future__ import annotations

from dataclasses import dataclass

SELECTIONS = ("validation", "test")
SCORES = ("accuracy", "balanced_accuracy", "macro_f1")
"""What models are chosen by; where classes differ much in size, accuracy hardly sees the small ones."""


@dataclass(frozen=True)
class Criterion:
    """What models are ranked by.

    Attributes:
        on: the images, one of ``SELECTIONS``.
        by: the score, one of ``SCORES``.
    """

    on: str = SELECTIONS[0]
    by: str = SCORES[0]

    def __str__(self) -> str:
        return self.on if self.by == SCORES[0] else f"{self.by} on {self.on}"

    @property
    def prefix(self) -> str:
        """The beginning of the names of metrics on these images."""
        return "val" if self.on == SELECTIONS[0] else self.on

    @property
    def metric(self) -> str:
        """The metric of the score, higher being better."""
        return f"{self.prefix}_{self.by}"

    @property
    def loss(self) -> str:
        """The metric that decides between equal scores, lower being better."""
        return f"{self.prefix}_nll"


VALIDATION = Criterion()
