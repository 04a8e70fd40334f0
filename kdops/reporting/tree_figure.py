"""A soft decision tree as a figure: its learned filters, and the way of an image."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from kdops.packaging.trees import TreeView, Way
from kdops.reporting.figures import COLORS, GRAYS, new_figure

MOST_LEVELS = 4
"""Levels of filters that are drawn; below them a filter would be smaller than a letter."""

MOST_CLASSES = 10
"""The bars of a leaf, of the most probable classes."""


def tree_figure(title: str, tree: TreeView, way: Way | None = None) -> Figure:
    """Draw the filters of the first levels, the classes of the leaves where there is room, and the way of an image.

    Args:
        way: the way that is marked, and drawn below node by node with the leaf's distribution; None for none.
    """
    figure = new_figure(4.6 if way is None else 7.4)
    upper, *lower = figure.subfigures(1 if way is None else 2, 1, squeeze=False)[:, 0]
    figure.suptitle(title)
    axes = upper.subplots()
    axes.set_axis_off()
    levels = min(tree.depth, MOST_LEVELS)
    ends = levels + 1 if tree.depth == levels else levels
    axes.set(xlim=(0, 1), ylim=(ends - 0.4, -0.6))
    passed = set() if way is None else {*way.nodes, len(tree.filters) + way.leaf}
    for level in range(ends):
        for place in range(2**level):
            node, x = 2**level - 1 + place, (place + 0.5) / 2**level
            if level:
                above = (place // 2 + 0.5) / 2 ** (level - 1)
                mark = {"color": COLORS[1], "linewidth": 2.5} if node in passed else {"color": GRAYS[2]}
                axes.plot([above, x], [level - 1, level], zorder=0, **mark)
            if level < levels:
                side = min(0.9 / 2**level, 0.13)
                _draw(axes.inset_axes((x - side / 2, level - 0.38, side, 0.76), transform=axes.transData), tree, node)
            else:
                name = tree.classes[int(tree.leaves[place].argmax())]
                edge = COLORS[1] if node in passed else GRAYS[2]
                box = {"boxstyle": "round", "facecolor": "white", "edgecolor": edge}
                axes.text(x, level, name[:8], ha="center", va="center", fontsize=7, bbox=box)
    if way is not None:
        _draw_way(lower[0].subplots(1, len(way.nodes) + 2, width_ratios=[1] * (len(way.nodes) + 1) + [2]), tree, way)
    return figure


def _draw_way(panels: np.ndarray, tree: TreeView, way: Way) -> None:
    image, *nodes, bars = panels
    image.imshow(way.image.transpose(1, 2, 0), cmap="gray" if len(way.image) == 1 else None)
    image.set_title("image", fontsize=7)
    image.set_axis_off()
    for axes, node, right in zip(nodes, way.nodes, way.rights, strict=True):
        _draw(axes, tree, node)
        axes.set_title(f"right {right:.2f}" if right > 0.5 else f"left {1 - right:.2f}", fontsize=7)
    shares = tree.leaves[way.leaf]
    first = np.argsort(-shares, kind="stable")[:MOST_CLASSES]
    bars.barh([tree.classes[place][:12] for place in first], shares[first], color=COLORS[0])
    bars.invert_yaxis()
    bars.tick_params(labelsize=6)
    bars.set_xlim(0, 1)
    bars.set_title(f"leaf {way.leaf}, reached with {way.probability:.2f}", fontsize=7)


def _draw(axes: Axes, tree: TreeView, node: int) -> None:
    """Draw a filter: what is bright, or red of one channel, sends to the right."""
    values = tree.filters[node].transpose(1, 2, 0)
    axes.set_box_aspect(1)
    largest = float(np.abs(values).max()) or 1.0
    axes.set(xticks=[], yticks=[])
    if values.shape[2] == 3:
        axes.imshow(0.5 + values / (2 * largest), aspect="auto")
    else:
        axes.imshow(values.mean(axis=2), cmap="coolwarm", vmin=-largest, vmax=largest, aspect="auto")
