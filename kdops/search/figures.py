"""Figures of a search, drawn by Optuna."""

from __future__ import annotations

from collections.abc import Callable

from matplotlib import get_backend, pyplot, rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FormatStrFormatter, LogLocator, NullLocator
from optuna.trial import FrozenTrial
from optuna.visualization import matplotlib as plots

from kdops.search.importance import evaluator_of, importance_of
from kdops.search.queue import TrialQueue
from kdops.search.storage import quiet


def history_figure(queue: TrialQueue) -> Figure | None:
    """Draw the main objective over the trials and the best so far; None without complete trials."""
    return _figure(queue, plots.plot_optimization_history, **_target(queue))


def slice_figure(queue: TrialQueue) -> Figure | None:
    """Draw the main objective over each free setting; None without complete trials or free settings."""
    if not queue.space.free:
        return None
    return _figure(queue, plots.plot_slice, **_target(queue))


def importance_figure(queue: TrialQueue) -> Figure | None:
    """Draw :func:`kdops.search.importance.importance_of`; None where it is empty."""
    if not importance_of(queue):
        return None
    return _figure(
        queue,
        plots.plot_param_importances,
        target_name=queue.objectives[0],
        evaluator=evaluator_of(queue),
        target=queue.badness,
    )


def pareto_figure(queue: TrialQueue) -> Figure | None:
    """Draw the objectives against each other, the front marked; None for one objective or no complete trials."""
    if len(queue.objectives) == 1:
        return None
    return _figure(queue, plots.plot_pareto_front, target_names=list(queue.objectives))


def _target(queue: TrialQueue) -> dict[str, object]:
    """Return Optuna's options for drawing the main objective; of a single one it also draws the best so far."""
    target = {} if len(queue.objectives) == 1 else {"target": _main}
    return {**target, "target_name": queue.objectives[0]}


def _figure(queue: TrialQueue, draw: Callable, **options: object) -> Figure | None:
    """Let Optuna draw by Agg and leave pyplot as it was."""
    if queue.best() is None:
        return None
    before = get_backend()
    with quiet(), rc_context({"figure.constrained_layout.use": True}):
        pyplot.switch_backend("agg")
        try:
            axes = draw(queue.study, **options)
            figure = (axes if hasattr(axes, "figure") else axes.flat[0]).figure
            pyplot.close(figure)
        finally:
            if before != get_backend():
                pyplot.switch_backend(before)
    FigureCanvasAgg(figure)
    for axes in figure.axes:
        if axes.get_xscale() == "log":
            # Plain numbers at 1, 2 and 5: there is little room, and a range may have no power of ten.
            axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.xaxis.set_major_formatter(FormatStrFormatter("%g"))
            axes.xaxis.set_minor_locator(NullLocator())
            axes.tick_params(axis="x", labelrotation=90)
    return figure


def _main(trial: FrozenTrial) -> float:
    return trial.values[0]
