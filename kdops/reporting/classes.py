"""Which classes a model takes for which: a table of recall and a figure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from kdops.reporting.figures import new_figure

MOST_NAMES = 60
"""The names of more classes cannot be read beside a figure."""


def class_table(counts: np.ndarray, classes: Sequence[str]) -> pd.DataFrame:
    """Return one row a class: how many test images it has, its recall, precision and F1, and what it is taken for most.

    Args:
        counts: ``[classes, classes]``, how many test images of each class are predicted as each.
        classes: their names.
    """
    right, images, predicted = np.diag(counts), counts.sum(axis=1), counts.sum(axis=0)
    wrong = counts - np.diag(right)
    with np.errstate(invalid="ignore"):  # what does not occur has none
        shares = {
            "recall": right / images,
            "precision": right / predicted,
            "f1": 2 * right / (images + predicted),
        }
    taken = [classes[place] if row.any() else "" for place, row in zip(wrong.argmax(axis=1), wrong, strict=True)]
    table = {"class": list(classes), "images": images, "predicted": predicted, **shares, "mostly_taken_for": taken}
    return pd.DataFrame(table)


def confusion_figure(title: str, counts: np.ndarray, classes: Sequence[str]) -> Figure:
    """Draw the share of each class's test images that is predicted as each class, counted as in :func:`class_table`."""
    figure = new_figure(6.2)
    axes = figure.add_subplot()
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(image, ax=axes, shrink=0.8, label="share of the class's test images")
    if len(classes) <= MOST_NAMES:
        size = 9 if len(classes) <= 20 else 5
        axes.set_xticks(range(len(classes)), [name[:20] for name in classes], rotation=90, fontsize=size)
        axes.set_yticks(range(len(classes)), [name[:20] for name in classes], fontsize=size)
    axes.set(xlabel="predicted", ylabel="class")
    axes.set_title(title, loc="left", fontsize=11)
    return figure
