"""Adversarial images as a figure: each image, what it became, and the change."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from kdops.errors import plain_line
from kdops.probing.attack import Attacked
from kdops.reporting.figures import new_figure

CHARACTERS = 9
"""Of the name of a class."""


def attack_figure(title: str, found: Attacked, classes: Sequence[str]) -> Figure:
    """Draw images above what they became, rounded to uint8, above the change, whose largest value is black or white.

    Args:
        title: what is shown.
        found: the result of an attack.
        classes: the class names.

    Returns:
        A figure, drawn by Agg; where the attack misled the model with no image it says so.
    """
    count = len(found.before)
    figure = new_figure(4.0)
    figure.suptitle(title if count else f"{title}\nmisleads the model with no image", fontsize=9)
    panels = figure.subplots(3, max(count, 4), squeeze=False)
    for axes in panels.flat:
        axes.set_axis_off()
    for column in range(count):
        before, after = (one[column].numpy().transpose(1, 2, 0) for one in (found.before, found.after))
        change = after.astype(float) - before
        shown = (before, after, 0.5 + change / (2 * max(float(np.abs(change).max()), 1.0)))
        own = [plain_line(classes[number])[:CHARACTERS] for number in found.classes[column].tolist()]
        names = (*own, f"at most {int(np.abs(change).max())}")
        for axes, values, name in zip(panels[:, column], shown, names, strict=True):
            gray = {"cmap": "gray", "vmin": 0, "vmax": 1.0 if values.dtype == float else 255}
            axes.imshow(values.squeeze(2) if values.shape[2] == 1 else values, **gray)
            axes.set_title(name, fontsize=7)
    return figure
