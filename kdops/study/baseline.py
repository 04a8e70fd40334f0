"""What always answering the largest class reaches, beside the answer of a study whose classes differ much in size."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from kdops.data.dataset import Dataset
from kdops.data.imbalance import majority_of
from kdops.data.splits import Split
from kdops.verdicts.answer import Answer, Row
from kdops.verdicts.intervals import Interval


def with_baseline(answer: Answer, data: Dataset, split: Split) -> Answer:
    """Return an answer with what always answering the largest class reaches, where classes differ much in size.

    Elsewhere its rows have no balanced accuracy, which says there what accuracy says.
    """
    largest = majority_of(data)
    if not answer.rows or largest is None:
        return replace(answer, rows=tuple(replace(row, balanced=math.nan) for row in answer.rows))
    labels = data.labels[split.test]
    share = float((labels == largest.label).mean())
    always = f"always {data.classes[largest.label]}"
    baseline = Row(always, 0, Interval(share, math.nan, math.nan, 1, 0.95), 1 / len(np.unique(labels)))
    sentence = (
        f"Classes differ {largest.times:,.0f}-fold in size: to answer {always} is right on {100 * share:.2f} % of "
        f"the test {data.unit}. Balanced accuracy, the mean recall of the classes, weighs them alike; "
        "select_by=balanced_accuracy or macro_f1 chooses by it, and the alias champion goes by it."
    )
    if below := [row.what for row in answer.rows if row.accuracy.mean <= share]:
        sentence += f" No more than that answer reach: {', '.join(below)}."
    return replace(answer, rows=(*answer.rows, baseline), sentences=(*answer.sentences, sentence))
