"""The figures of a study, drawn from accuracies: mean over the replicates, with intervals where there are several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from kdops.statistics import mean_interval

__all__ = ["Curve", "temperature_figure"]

COLOURS = ("#1f5fa8", "#d1661c", "#3b8a4b", "#7a4fa0")
GREYS = ("#222222", "#777777", "#aaaaaa")


@dataclass(frozen=True)
class Curve:
    """Accuracies over temperatures.

    Attributes:
        label: what the legend calls it.
        temperatures: ``[temperatures]``, ascending; 0 for hard labels.
        accuracies: ``[replicates, temperatures]``, fractions.
    """

    label: str
    temperatures: Sequence[float]
    accuracies: np.ndarray


def temperature_figure(
    title: str, curves: Sequence[Curve], baselines: Mapping[str, np.ndarray] | None = None
) -> Figure:
    """Draw accuracy over temperature.

    Args:
        title: what is shown.
        curves: each drawn with its 95 % interval over replicates where there are at least two.
        baselines: accuracies ``[replicates]`` drawn as level lines at their mean, by label.

    Returns:
        A figure, drawn by Agg; no display is needed.
    """
    figure = Figure(figsize=(7.2, 4.4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    replicates = max((len(curve.accuracies) for curve in curves), default=0)
    for colour, curve in zip(COLOURS, curves, strict=False):
        _draw(axes, curve, colour)
    for number, (label, values) in enumerate((baselines or {}).items()):
        mean = float(np.mean(values))
        style = ("--", ":", "-.")[number % 3]
        axes.axhline(mean, color=GREYS[number % 3], linestyle=style, linewidth=1.3, label=f"{label} ({mean:.3f})")
    axes.set_title(title, loc="left", fontsize=11)
    axes.set_xlabel("temperature T (0: hard labels)" if _has_hard(curves) else "temperature T")
    axes.set_ylabel("test accuracy")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=15))
    axes.grid(alpha=0.25, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    note = f"mean of {replicates} replicates, bars: 95 % interval" if replicates > 1 else "one replicate"
    axes.legend(frameon=False, fontsize=8, title=note, title_fontsize=8, loc="best")
    return figure


def _draw(axes, curve: Curve, colour: str) -> None:
    temperatures = np.asarray(curve.temperatures, dtype=float)
    intervals = [mean_interval(column) for column in np.asarray(curve.accuracies).T]
    means = np.array([interval.mean for interval in intervals])
    if len(curve.accuracies) > 1:
        # An accuracy lies in [0, 1]; a bar beyond that would show what cannot be.
        low = np.clip([interval.low for interval in intervals], 0.0, 1.0)
        high = np.clip([interval.high for interval in intervals], 0.0, 1.0)
        spread = np.abs(np.stack([means - low, high - means]))
    else:
        spread = None
    axes.errorbar(
        temperatures,
        means,
        yerr=spread,
        color=colour,
        marker="o",
        markersize=3.5,
        linewidth=1.4,
        elinewidth=0.8,
        capsize=2,
        label=curve.label,
    )


def _has_hard(curves: Sequence[Curve]) -> bool:
    return any(0.0 in tuple(curve.temperatures) for curve in curves)
