"""How much the classes of a data set differ in size, and what always answering the largest one would reach."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kdops.data.dataset import Dataset

UNEVEN = 10
"""Where the largest class has more than so many times the images of the smallest, accuracy hardly sees the latter."""


@dataclass(frozen=True)
class Majority:
    """The largest of classes that differ much in size.

    Attributes:
        label: its number.
        times: how many times as large as the smallest it is.
    """

    label: int
    times: float


def majority_of(data: Dataset) -> Majority | None:
    """Return the largest class among the images that are not test images; None where classes hardly differ in size."""
    sizes = np.bincount(data.labels[~data.test], minlength=len(data.classes))
    times = sizes.max() / max(sizes[sizes > 0].min(), 1)
    return Majority(int(sizes.argmax()), float(times)) if times > UNEVEN else None
