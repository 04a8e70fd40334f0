"""The figures of a study, drawn from accuracies: mean over the replicates, with intervals where there are several."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from kdops.verdicts.intervals import mean_interval

COLORS = ("#1f5fa8", "#d1661c", "#3b8a4b", "#7a4fa0", "#a8324a", "#1a8f94")
MARKERS = ("o", "s", "^", "D", "v")
MOST_LEVEL_NAMES = 5
"""The names of more steps are written aslant, so that they do not touch."""
GRAYS = ("#222222", "#777777", "#aaaaaa")


@dataclass(frozen=True)
class Curve:
    """Accuracies over temperatures, or over numbers of members.

    Attributes:
        label: what the legend calls it.
        x: ``[points]``, ascending; a temperature of 0 means hard labels, the step 0 is a chain's first.
        accuracies: ``[replicates, points]``, fractions.
    """

    label: str
    x: Sequence[float]
    accuracies: np.ndarray


def new_figure(height: float) -> Figure:
    """Return an empty figure, drawn by Agg: no display is needed.

    Args:
        height: in inches; the width is that of every figure.
    """
    figure = Figure(figsize=(7.2, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def temperature_figure(title: str, curves: Sequence[Curve], baselines: Mapping[str, np.ndarray]) -> Figure:
    """Draw accuracy over temperature.

    Args:
        curves: each drawn with its 95 % interval over replicates where there are at least two.
        baselines: accuracies ``[replicates]`` drawn as level lines at their mean, by label.
    """
    has_hard = any(0.0 in tuple(curve.x) for curve in curves)
    return _figure(title, "temperature T (0: hard labels)" if has_hard else "temperature T", curves, baselines)


def members_figure(
    title: str,
    curves: Sequence[Curve],
    baselines: Mapping[str, np.ndarray],
    chosen: int,
    select_on: str,
) -> Figure:
    """Draw the accuracy of ensembles over the number of their members.

    Args:
        curves: see :func:`temperature_figure`, over numbers of members.
        baselines: see :func:`temperature_figure`.
        chosen: the number of members that was chosen; a line marks it.
        select_on: ``validation`` or ``test``, the set that ranks the members; the axis names it.
    """
    figure = _figure(title, f"members N, the best by {select_on} first", curves, baselines)
    (axes,) = figure.axes
    axes.axvline(chosen, color=GRAYS[1], linewidth=0.8, alpha=0.6)
    axes.annotate(
        f"N = {chosen} chosen", (chosen, 0.02), (4, 0), axes.get_xaxis_transform(), "offset points", fontsize=8
    )
    return figure


def gains_figure(title: str, gains: Mapping[str, np.ndarray], controls: Collection[str], margin: float) -> Figure:
    """Draw gains in test accuracy with their 90 % intervals over replicates, one below another.

    Args:
        gains: differences ``[replicates]`` of each, as fractions, the first one on top.
        controls: those of ``gains`` that are controls, drawn in gray.
        margin: gains below it count as none; a band marks it.
    """
    figure = new_figure(1.4 + 0.32 * len(gains))
    axes = figure.add_subplot()
    axes.axvspan(-100 * margin, 100 * margin, color=GRAYS[2], alpha=0.25, linewidth=0)
    axes.axvline(0, color=GRAYS[1], linewidth=0.8)
    for place, (name, values) in enumerate(gains.items()):
        interval = mean_interval(100 * values, 0.9)
        spread = [[interval.mean - interval.low], [interval.high - interval.mean]] if interval.n > 1 else None
        color = GRAYS[1] if name in controls else COLORS[0]
        axes.errorbar([interval.mean], [place], xerr=spread, color=color, marker="o", markersize=5, capsize=3)
    axes.set_yticks(range(len(gains)), list(gains))
    axes.invert_yaxis()
    axes.set_title(title, loc="left", fontsize=11)
    over = _over(max(map(len, gains.values())), 90)
    axes.set_xlabel(f"gain in test accuracy, percentage points\n({over}; shaded: the margin)")
    _open_up(axes, "x")
    return figure


HIGH = 0.5
"""Of the upper end: where all values are above, axes that begin at 0 would show a line at the top."""


def panels_figure(
    title: str, xlabel: str, panels: Mapping[str, Sequence[Curve]], columns: int, top: float = 1.0
) -> Figure:
    """Draw curves of shares in several panels with common axes, which begin at the tenth below high values.

    Args:
        xlabel: what is at the bottom.
        panels: by its title, the curves of each, see :func:`temperature_figure`; those of one label look alike.
        columns: panels beside each other.
        top: the upper end of the axes.
    """
    count = -(-len(panels) // columns)
    figure = new_figure(1.0 + 2.0 * count)
    grid = figure.subplots(count, columns, sharex=True, sharey=True, squeeze=False)
    for axes, (name, curves) in zip(grid.flat, panels.items(), strict=False):
        for number, curve in enumerate(curves):
            _draw(axes, curve, 0.0, COLORS[number % len(COLORS)], MARKERS[number % len(MARKERS)], (0.0,))
        axes.set_title(name, loc="left", fontsize=8)
        _open_up(axes)
        axes.tick_params(labelsize=7)
    for axes in grid.flat[len(panels) :]:
        axes.set_visible(False)
    lowest = min(axes.dataLim.y0 for axes in grid.flat[: len(panels)]) / top
    bottom = math.floor(10 * lowest) / 10 if lowest > HIGH else 0.0
    # Points at both ends are drawn whole.
    room = 0.03 * (1 - bottom)
    grid.flat[0].set_ylim((bottom - room) * top, (1 + room) * top)
    # Epochs and most temperatures are whole numbers; others are marked where the axis is too short for whole ones.
    grid.flat[0].xaxis.get_major_locator().set_params(integer=True)
    figure.suptitle(title, fontsize=10, x=0.01, ha="left")
    for axes in grid[-1]:
        axes.set_xlabel(xlabel, fontsize=7)
    handles, labels = grid.flat[0].get_legend_handles_labels()
    replicates = max(len(curve.accuracies) for curves in panels.values() for curve in curves)
    _explain(figure, handles, labels, replicates, len(handles))
    return figure


def steps_figure(
    title: str, names: Sequence[str], curves: Sequence[Curve], baselines: Mapping[str, np.ndarray]
) -> Figure:
    """Draw accuracy along the steps of a chain.

    Args:
        names: of the steps.
        curves: see :func:`temperature_figure`, over the places of steps, the first one 0.
        baselines: see :func:`temperature_figure`.
    """
    figure = _figure(title, "step of the chain", curves, baselines, apart=())
    (axes,) = figure.axes
    crowded = len(names) > MOST_LEVEL_NAMES
    axes.set_xticks(range(len(names)), names, rotation=45 if crowded else 0, ha="right" if crowded else "center")
    axes.set_xlim(-0.5, len(names) - 0.5)
    return figure


def _figure(
    title: str,
    xlabel: str,
    curves: Sequence[Curve],
    baselines: Mapping[str, np.ndarray],
    apart: Sequence[float] = (0.0,),
) -> Figure:
    figure = new_figure(4.8)
    axes = figure.add_subplot()
    replicates = max((len(curve.accuracies) for curve in curves), default=0)
    shifts = _shifts(curves) if replicates > 1 else [0.0] * len(curves)
    for number, (curve, shift) in enumerate(zip(curves, shifts, strict=True)):
        _draw(axes, curve, shift, COLORS[number % len(COLORS)], MARKERS[number % len(MARKERS)], apart)
    for number, (label, values) in enumerate(baselines.items()):
        mean = float(np.mean(values))
        style = ("--", ":", "-.")[number % 3]
        axes.axhline(mean, color=GRAYS[number % 3], linestyle=style, linewidth=1.3, label=f"{label} ({mean:.3f})")
    axes.set_title(title, loc="left", fontsize=11)
    axes.set_xlabel(xlabel)
    axes.set_ylabel("test accuracy")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=15))
    drawn = _places(curves)
    if len(drawn) == 1:
        axes.set_xlim(drawn[0] - 1, drawn[0] + 1)
        axes.set_xticks(drawn)
    _open_up(axes)
    handles, labels = axes.get_legend_handles_labels()
    # Curves before level lines.
    order = sorted(range(len(handles)), key=lambda n: not isinstance(handles[n], ErrorbarContainer))
    _explain(figure, [handles[n] for n in order], [labels[n] for n in order], replicates, min(3, len(handles)), "left")
    return figure


def _explain(
    figure: Figure, handles: list, labels: list[str], replicates: int, columns: int, alignment: str = "center"
) -> None:
    """Draw the legend beside the data: inside, it would lie on some bar."""
    figure.legend(
        handles,
        labels,
        title=_over(replicates, 95),
        loc="outside lower center",
        alignment=alignment,
        ncols=columns,
        frameon=False,
        fontsize=8,
        title_fontsize=8,
    )


def _over(replicates: int, level: int) -> str:
    return f"mean of {replicates} replicates, bars: {level} % interval" if replicates > 1 else "one replicate"


def _open_up(axes: Axes, grid: Literal["both", "x"] = "both") -> None:
    """Draw a faint grid in place of the frame."""
    axes.grid(axis=grid, alpha=0.25, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)


def _draw(axes, curve: Curve, shift: float, color: str, marker: str, apart: Sequence[float]) -> None:
    """Draw one curve; hard labels are not a temperature, so their point stands apart from the line."""
    places = np.asarray(curve.x, dtype=float)
    intervals = [mean_interval(column) for column in np.asarray(curve.accuracies).T]
    means = np.array([interval.mean for interval in intervals])
    if len(curve.accuracies) > 1:
        # An accuracy lies in [0, 1]; a bar beyond that would show what cannot be.
        low = np.clip([interval.low for interval in intervals], 0.0, 1.0)
        high = np.clip([interval.high for interval in intervals], 0.0, 1.0)
        spread = np.abs(np.stack([means - low, high - means]))
    else:
        spread = None
    hard = np.isin(places, apart)
    for chosen, line, face in ((~hard, "-", color), (hard, "none", "white")):
        if chosen.any():
            axes.errorbar(
                places[chosen] + shift,
                means[chosen],
                yerr=None if spread is None else spread[:, chosen],
                color=color,
                marker=marker,
                markersize=4,
                markerfacecolor=face,
                linestyle=line,
                linewidth=1.4,
                elinewidth=0.8,
                capsize=2,
                label=curve.label if face == color or hard.all() else None,
            )


def _shifts(curves: Sequence[Curve]) -> list[float]:
    """Return each curve's step aside, so that bars at one place stand beside each other."""
    drawn = _places(curves)
    gap = min(np.diff(drawn), default=1.0)
    step = min(0.16, 0.5 / max(len(curves), 1)) * gap
    return [step * (number - (len(curves) - 1) / 2) for number in range(len(curves))]


def _places(curves: Sequence[Curve]) -> list[float]:
    return sorted({float(x) for curve in curves for x in curve.x})
