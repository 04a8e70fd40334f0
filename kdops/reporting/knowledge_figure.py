"""Entropy maps as a figure: each image, and how much noise each of its patches takes."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from kdops.data.examples import evenly
from kdops.probing.knowledge import EntropyMaps
from kdops.reporting.figures import new_figure

DRAWN = 8


def knowledge_figure(title: str, images: np.ndarray, found: EntropyMaps) -> Figure:
    """Draw some images above their entropy maps, dark where little noise changes the features.

    Patches of the foreground that are knowledge points have a white frame, those of the background a gray one.

    Args:
        title: what is shown.
        images: uint8 ``[N, C, H, W]``.
        found: their maps.

    Returns:
        A figure, drawn by Agg; where no noise changes the features of any image it says so.
    """
    shown = evenly(np.flatnonzero(found.measured.numpy()), DRAWN)
    figure = new_figure(2.9)
    figure.suptitle(title if len(shown) else f"{title}\nno noise changes the features of any image", fontsize=9)
    panels = figure.subplots(2, max(len(shown), 4), squeeze=False)
    for axes in panels.flat:
        axes.set_axis_off()
    if not len(shown):
        return figure
    entropies, points = found.entropies.numpy(), found.points.numpy()
    span = {"vmin": float(entropies[shown].min()), "vmax": float(entropies[shown].max()), "cmap": "viridis"}
    for column, number in enumerate(shown):
        pixels, inside = images[number].transpose(1, 2, 0), found.foreground[number].numpy()
        gray = {"cmap": "gray", "vmin": 0, "vmax": 255} if pixels.shape[2] == 1 else {}
        panels[0, column].imshow(pixels.squeeze(2) if gray else pixels, **gray)
        drawn = panels[1, column].imshow(entropies[number], **span)
        for row, place in np.argwhere(points[number]):
            corner = [place - 0.5, place + 0.5, place + 0.5, place - 0.5, place - 0.5]
            sides = [row - 0.5, row - 0.5, row + 0.5, row + 0.5, row - 0.5]
            panels[1, column].plot(corner, sides, color="white" if inside[row, place] else "#999999", linewidth=0.7)
    figure.colorbar(drawn, ax=list(panels[1]), label="nats", shrink=0.8)
    return figure
