"""The figures of the studies, drawn from their sweeps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from matplotlib.figure import Figure

from kdops.config.chain import describe_path
from kdops.config.settings import HARD, Settings
from kdops.reporting.figures import Curve, gains_figure, panels_figure, steps_figure, temperature_figure
from kdops.study.chain import ChainResult
from kdops.sweeps.metrics import TEST_ACCURACY
from kdops.sweeps.model import Sweep


def students_figure(settings: Settings, sources: Sweep, students: Sweep) -> Figure:
    """Draw the accuracy of the students over temperature (figure 1 of the paper), of sources where it was measured."""
    source = sources.records[0]
    measured = (
        {source.role if source.own else "source": sources.accuracies()} if TEST_ACCURACY in source.metrics else {}
    )
    return temperature_figure(
        f"Students distilled from the {next(iter(measured), 'source')}, {settings.dataset}",
        [_curve("student", students.soft())],
        {**measured, "student on hard labels": students.hard().accuracies()},
    )


def symmetry_figure(settings: Settings, teachers: Sweep, sources: Sweep, back: Sweep, born_again: Sweep) -> Figure:
    """Draw the reversed nets over temperature, and those of the control; student and teacher as level lines (figure 2).

    Args:
        teachers: one a replicate.
        sources: the students that were distilled back, one a replicate.
        back: the reversed nets, those that learned the student's decisions at T = 0.
        born_again: the nets distilled from the teachers; may be empty.
    """
    return temperature_figure(
        f"Student distilled back into the teacher's architecture, {settings.dataset}",
        [
            _curve("reversed, from the student", back.soft()),
            *([_curve("control, from the teacher", born_again)] if born_again.records else []),
        ],
        {
            "teacher": teachers.accuracies(),
            "student": sources.accuracies(),
            "reversed, from the student's decisions": back.hard().accuracies(),
        },
    )


def methods_figure(
    settings: Settings, plain: Sweep, methods: Mapping[str, np.ndarray], controls: Mapping[str, np.ndarray]
) -> Figure:
    """Draw what each method gains over plain distillation, then the controls.

    Args:
        plain: the students of plain distillation, one a replicate.
        methods: by name, the test accuracies of each method's students, ``[replicates]``.
        controls: likewise of the controls, which may be among the methods.
    """
    gains = {name: values - plain.accuracies() for name, values in {**methods, **controls}.items()}
    return gains_figure(f"Methods against logits, {settings.dataset}", gains, set(controls), settings.margin)


def companies_figure(settings: Settings, gains: Mapping[str, np.ndarray], controls: Mapping[str, np.ndarray]) -> Figure:
    """Draw what nets that learn from each other gain over independent ones, members and votes, then the controls.

    Args:
        gains: by name, differences in test accuracy, ``[replicates]``.
        controls: likewise of what is no company.
    """
    title = f"Nets that learn from each other against independent ones, {settings.dataset}"
    return gains_figure(title, {**gains, **controls}, set(controls), settings.margin)


def cells_figure(
    title: str, cells: Mapping[str, Mapping[str, Sweep]], metric: str = TEST_ACCURACY, columns: int = 2
) -> Figure:
    """Draw a metric over temperature in one panel for each setting, hard labels at T = 0.

    Args:
        cells: by the title of a panel, its sweeps by name.
        columns: panels beside each other.
    """
    panels = {cell: [_curve(name, sweep, metric) for name, sweep in sweeps.items()] for cell, sweeps in cells.items()}
    return panels_figure(title, "temperature T (0: hard labels)", panels, columns)


def metrics_figure(
    title: str, sweeps: Mapping[str, Sweep], metrics: Mapping[str, tuple[str, float]], top: float = 1.0
) -> Figure:
    """Draw several metrics over temperature in one panel each, what has none at T = 0.

    Args:
        title: what is shown.
        sweeps: by name.
        metrics: by the title of a panel, the metric, and what it is divided by.
        top: the upper end of the axes.
    """

    def curve(name: str, metric: str, unit: float) -> Curve:
        drawn = _curve(name, sweeps[name], metric)
        # Where no image is misled there is no distance.
        known = np.isfinite(drawn.accuracies).all(axis=0)
        return replace(drawn, x=np.asarray(drawn.x)[known].tolist(), accuracies=drawn.accuracies[:, known] / unit)

    panels = {panel: [curve(name, *metric) for name in sweeps] for panel, metric in metrics.items()}
    return panels_figure(title, "temperature T (0: undefended)", panels, 2, top)


def middles_figure(settings: Settings, teachers: Sweep, middles: Sweep) -> Figure:
    """Draw the accuracy of the middle nets over temperature, hard labels at T = 0 (figure 4)."""
    return temperature_figure(
        f"Middle nets distilled from the teacher, {settings.dataset}",
        [Curve("middle", (HARD, *middles.temperatures), middles.table())],
        {"teacher": teachers.accuracies()},
    )


def transitivity_figure(
    settings: Settings,
    teachers: Sweep,
    direct: Sweep,
    middle: Sweep,
    via: Sweep,
    via_distilled: Sweep,
    via_worst: Sweep,
) -> Figure:
    """Draw via the middle against direct over temperature, the baselines as level lines (figure 5).

    Args:
        teachers: one a replicate.
        direct: the direct students, hard labels among them.
        middle: the best middle net of each replicate.
        via: the students distilled from it.
        via_distilled: those distilled from the best distilled middle net; empty where that is the same net.
        via_worst: those distilled from the worst middle net.
    """
    return temperature_figure(
        f"Students via the middle net and direct, {settings.dataset}",
        [
            _curve("via the best middle", via),
            _curve("direct", direct.soft()),
            *([_curve("via the best distilled middle", via_distilled)] if via_distilled.records else []),
            _curve("via the worst middle", via_worst),
        ],
        {
            "teacher": teachers.accuracies(),
            "best middle": middle.accuracies(),
            "student on hard labels": direct.hard().accuracies(),
        },
    )


def chain_steps_figure(settings: Settings, chain: ChainResult) -> Figure:
    """Draw the accuracy along a chain: the best of each step, and the last step distilled from each."""
    end = f"{chain.names[-1]} distilled from this step, mean over T"
    return steps_figure(
        f"Accuracy along the chain, {settings.dataset}",
        chain.names,
        [
            Curve(f"best by {settings.select_on}", range(len(chain.bests)), _columns(chain.bests)),
            Curve(end, range(len(chain.ends)), _columns(chain.ends)),
        ],
        {chain.names[0]: chain.first.accuracies()},
    )


def chain_temperatures_figure(settings: Settings, chain: ChainResult) -> Figure:
    """Draw the last step of a chain over temperature, direct and via each station."""
    start, *between, end = chain.names
    ways = ["direct", *(f"via {describe_path(between[:number])}" for number in range(1, len(chain.ends)))]
    curves = [_curve(way, sweep) for way, sweep in zip(ways, chain.ends, strict=True)]
    if chain.distilled:
        curves.append(_curve("via the best distilled", chain.distilled[-1].onwards))
    return temperature_figure(
        f"{end.capitalize()}, direct and via each station, {settings.dataset}",
        curves,
        {start: chain.first.accuracies(), f"{end} on hard labels": chain.direct.hard().accuracies()},
    )


def _curve(label: str, sweep: Sweep, metric: str = TEST_ACCURACY) -> Curve:
    return Curve(label, sorted({record.temperature for record in sweep.records}), sweep.table(metric))


def _columns(sweeps: Sequence[Sweep]) -> np.ndarray:
    """Return the test accuracy of sweeps, mean over the temperatures, as ``[replicates, sweeps]``."""
    return np.stack([sweep.table().mean(axis=1) for sweep in sweeps], axis=1)
