"""The candidates as a figure: accuracy over latency, one panel a group."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from kdops.reporting.candidates import Candidate, Group
from kdops.reporting.figures import COLORS, new_figure

MOST = 3
"""Groups that are drawn, the largest."""


def pareto_figure(title: str, groups: Sequence[Group]) -> Figure:
    """Draw validation accuracy over latency; points grow with the parameters, those of the front have a rim and names.

    Args:
        groups: the candidates; those without a latency are left out, and so are all but the largest groups.
    """
    shown = groups[:MOST]
    figure = new_figure(4.4 * len(shown))
    figure.suptitle(title)
    roles = sorted({candidate.model.role for group in shown for candidate in group.candidates})
    color = {role: COLORS[place % len(COLORS)] for place, role in enumerate(roles)}
    for axes, group in zip(figure.subplots(len(shown), squeeze=False)[:, 0], shown, strict=True):
        known = [candidate for candidate in group.candidates if candidate.measured]
        for role in roles:
            own = [candidate for candidate in known if candidate.model.role == role]
            if own:
                _points(axes, own, label=role, color=color[role], alpha=0.45, linewidths=0)
        front = sorted((c for c in known if c.front), key=lambda c: (c.milliseconds, c.model.val_accuracy))
        _points(axes, front, facecolors="none", edgecolors="#222222", linewidths=1.2)
        named: set[tuple[float, float]] = set()
        for candidate in front:
            place = (candidate.milliseconds, candidate.model.val_accuracy)
            if place not in named:  # of equals the first
                axes.annotate(candidate.model.name, place, xytext=(5, -9), textcoords="offset points", fontsize=7)
            named.add(place)
        if known:
            axes.set_xscale("log")
        axes.set_xlabel("milliseconds for one image, one thread")
        axes.set_ylabel("validation accuracy")
        axes.set_title(f"transfer {group.transfer}, split {group.split[:12]}", fontsize=9)
        axes.grid(alpha=0.3)
        if known:
            axes.legend(fontsize=8)
    return figure


def _points(axes: Axes, candidates: Sequence[Candidate], **style: Any) -> None:
    axes.scatter(
        [candidate.milliseconds for candidate in candidates],
        [candidate.model.val_accuracy for candidate in candidates],
        s=[12 + 0.2 * (candidate.model.parameters or 0) ** 0.5 for candidate in candidates],
        **style,
    )
