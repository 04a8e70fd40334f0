"""What a student knows of a class that its transfer set did not have, and how much of that its bias hides."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from kdops.sweeps.model import Model
from kdops.training.evaluation import accuracy

if TYPE_CHECKING:
    from kdops.study.study import Study

BIASES = 41
"""Biases that are tried: from 0 to 20 by halves."""


@dataclass(frozen=True)
class LeftOut:
    """One student, on test, before and after the bias of the class is raised.

    Attributes:
        accuracy: on all test images.
        recall: on those of the class.
        bias: by how much it is raised, the best of ``BIASES`` on validation.
        raised_accuracy: on all test images, with the raised bias.
        raised_recall: on those of the class, with the raised bias.
    """

    accuracy: float
    recall: float
    bias: float
    raised_accuracy: float
    raised_recall: float


def measure_left_out(study: Study[Any], model: Model, name: str) -> LeftOut:
    """Measure a student on a class that it saw no image of.

    Source: Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network", 2015, section 3; there the bias
    is the best on test.
    """
    data, split, number = study.data, study.split, study.data.classes.index(name)
    logits, labels = {}, {}
    for part, rows in (("val", split.validation), ("test", split.test)):
        labels[part] = torch.from_numpy(data.labels[rows])
        logits[part] = study.logits(model, rows)

    def raised(part: str, by: float) -> Tensor:
        values = logits[part].clone()
        values[:, number] += by
        return values

    bias = max((0.5 * step for step in range(BIASES)), key=lambda by: (accuracy(raised("val", by), labels["val"]), -by))
    own = labels["test"] == number
    before, after = raised("test", 0.0), raised("test", bias)
    return LeftOut(
        accuracy(before, labels["test"]),
        accuracy(before[own], labels["test"][own]),
        bias,
        accuracy(after, labels["test"]),
        accuracy(after[own], labels["test"][own]),
    )
