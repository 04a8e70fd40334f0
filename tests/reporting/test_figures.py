"""Figures show the means that they are given, and nothing lies over anything else."""

import io
from itertools import pairwise

import numpy as np
import pytest
from matplotlib.container import ErrorbarContainer
from matplotlib.text import Text

from kdops.reporting.figures import Curve, members_figure, panels_figure, steps_figure, temperature_figure
from kdops.verdicts.intervals import mean_interval

TITLE = "Students via the middle net and direct, digits"
BASELINES = {"teacher": np.array([0.97, 0.98]), "best middle": np.array([0.9]), "hard labels": np.array([0.7, 0.8])}


def curve(label="student", replicates=3, temperatures=(1.0, 2.0, 3.0), seed=0, spread=0.1):
    stream = np.random.default_rng(seed)
    return Curve(label, temperatures, 0.8 + spread * stream.uniform(-1, 1, (replicates, len(temperatures))))


def drawn_curves(figure):
    """Yield (x, y, bars) of every curve; bars are (low, high) pairs or None."""
    (axes,) = figure.axes
    for part in axes.containers:
        assert isinstance(part, ErrorbarContainer)
        line, _, bars = part
        bars = [tuple(segment[:, 1]) for segment in bars[0].get_segments()] if part.has_yerr else None
        yield line.get_xdata(), line.get_ydata(), bars


def legend_texts(figure):
    (legend,) = figure.legends
    return [text.get_text() for text in legend.get_texts()], legend.get_title().get_text()


@pytest.mark.parametrize(
    ("replicates", "temperatures", "baselines"),
    [
        (1, (4.0,), {}),
        (3, (4.0,), BASELINES),
        (3, (0.0, 0.5, 1.0), {}),
        (1, tuple(map(float, range(30))), BASELINES),
        (3, tuple(map(float, range(1, 30))), BASELINES),
    ],
    ids=["one-T", "one-T-bars", "few-T", "many-T", "many-T-bars"],
)
def test_a_figure_becomes_png_and_its_parts_keep_apart(replicates, temperatures, baselines):
    curves = [curve(f"via the middle {n}", replicates, temperatures, seed=n) for n in range(3)]
    figure = temperature_figure(TITLE, curves, baselines)
    stream = io.BytesIO()
    figure.savefig(stream, format="png")
    assert stream.getvalue().startswith(b"\x89PNG\r\n\x1a\n")
    (axes,), (legend,) = figure.axes, figure.legends
    plot, named = axes.get_window_extent(), legend.get_window_extent()
    below = axes.xaxis.label.get_window_extent()
    assert not plot.overlaps(named), "the legend lies beside the data"
    assert not below.overlaps(named)
    (title,) = (child for child in axes.get_children() if isinstance(child, Text) and child.get_text() == TITLE)
    assert not title.get_window_extent().overlaps(plot)
    for part in (named, below, title.get_window_extent(), axes.yaxis.label.get_window_extent()):
        assert figure.bbox.x0 <= part.x0 < part.x1 <= figure.bbox.x1, "nothing is cut off"
        assert figure.bbox.y0 <= part.y0 < part.y1 <= figure.bbox.y1
    ticks = [text.get_window_extent() for text in axes.get_xticklabels() if text.get_text()]
    shown = [tick for tick in ticks if plot.x0 - 1 <= (tick.x0 + tick.x1) / 2 <= plot.x1 + 1]
    assert shown
    assert all(left.x1 < right.x0 for left, right in pairwise(shown)), "tick labels keep apart"


def test_a_curve_shows_the_mean_and_interval_over_replicates():
    given = curve(replicates=4)
    ((x, y, bars),) = drawn_curves(temperature_figure("t", [given], {}))
    np.testing.assert_array_equal(x, given.x)
    expected = [mean_interval(column) for column in given.accuracies.T]
    np.testing.assert_allclose(y, [interval.mean for interval in expected])
    np.testing.assert_allclose(bars, [(interval.low, interval.high) for interval in expected])


def test_bars_stay_within_what_an_accuracy_can_be():
    given = Curve("student", (1.0,), np.array([[0.1], [0.95]]))
    assert mean_interval(given.accuracies[:, 0]).high > 1
    ((_, _, bars),) = drawn_curves(temperature_figure("t", [given], {}))
    np.testing.assert_allclose(bars, [(0.0, 1.0)])


@pytest.mark.parametrize("top", [0.3, 1.0])
def test_panels_leave_room_for_points_at_either_end(top):
    figure = panels_figure("title", "T", {"panel": [Curve("x", (1.0, 4.0), top * np.array([[0.0, 1.0]]))]}, 2, top)
    low, high = figure.axes[0].get_ylim()
    assert low < 0
    assert top < high


@pytest.mark.parametrize(("values", "bottom"), [([0.3], 0.0), ([0.55], 0.5), ([0.97], 0.9), ([0.97, 0.55], 0.0)])
def test_panels_of_high_values_begin_at_the_tenth_below_them(values, bottom):
    # The interval of two values as far apart as the last ones reaches down to 0.
    curves = [Curve("student", (1.0, 2.0), np.array([[value, 0.99] for value in values]))]
    high = Curve("other", (1.0, 2.0), np.array([[0.98, 0.99]]))
    limits = panels_figure(TITLE, "T", {"a": curves, "b": [high]}, 2).axes[0].get_ylim()
    room = 0.03 * (1 - bottom)
    assert limits == pytest.approx((bottom - room, 1 + room))


def test_one_replicate_has_no_bars_and_says_so():
    figure = temperature_figure("t", [curve(replicates=1)], {})
    ((_, _, bars),) = drawn_curves(figure)
    assert bars is None
    assert legend_texts(figure)[1] == "one replicate"
    assert "3 replicates" in legend_texts(temperature_figure("t", [curve(replicates=3)], {}))[1]


@pytest.mark.parametrize("count", [2, 5, 7])
def test_every_curve_is_drawn_named_and_told_apart(count):
    figure = temperature_figure("t", [curve(f"curve {n}", seed=n) for n in range(count)], BASELINES)
    names, _ = legend_texts(figure)
    assert names[:count] == [f"curve {n}" for n in range(count)]
    assert names[count:] == ["teacher (0.975)", "best middle (0.900)", "hard labels (0.750)"]
    lines = [part[0] for part in figure.axes[0].containers]
    assert len({(line.get_color(), line.get_marker()) for line in lines}) == count
    places = [x[0] for x, _, _ in drawn_curves(figure)]
    assert len(set(places)) == count, "bars at one temperature stand beside each other"
    assert max(abs(place - 1.0) for place in places) < 0.5, "and nearer to their own temperature than to the next"


def test_a_single_temperature_is_the_only_mark_on_its_axis():
    figure = temperature_figure("t", [curve(f"curve {n}", temperatures=(2.5,), seed=n) for n in range(3)], {})
    axes = figure.axes[0]
    assert list(axes.get_xticks()) == [2.5]
    assert axes.get_xlim()[0] < 2.5 < axes.get_xlim()[1]
    assert len({x[0] for x, _, _ in drawn_curves(figure)}) == 3


def test_baselines_are_level_lines_at_their_mean():
    figure = temperature_figure("t", [curve(replicates=1)], BASELINES)
    level = {round(line.get_ydata()[0], 6) for line in figure.axes[0].lines if len(set(line.get_ydata())) == 1}
    assert level == {0.975, 0.9, 0.75}


def test_hard_labels_stand_apart_from_the_line_and_are_explained():
    figure = temperature_figure("t", [curve(temperatures=(0.0, 1.0, 2.0))], {})
    (soft, _, _), (hard, _, _) = drawn_curves(figure)
    assert (list(soft), list(hard)) == ([1.0, 2.0], [0.0])
    assert "hard labels" in figure.axes[0].get_xlabel()
    assert legend_texts(figure)[0] == ["student"]
    assert "hard" not in temperature_figure("t", [curve()], {}).axes[0].get_xlabel()


@pytest.mark.parametrize("select_on", ["validation", "test"])
def test_the_members_axis_names_the_set_that_ranks_them(select_on):
    votes = curve("majority", temperatures=(1, 2, 3))
    (axes,) = members_figure("t", [votes], BASELINES, 2, select_on=select_on).axes
    assert axes.get_xlabel() == f"members N, the best by {select_on} first"


@pytest.mark.parametrize("names", [("teacher", "middle", "student"), tuple(f"generation {n}" for n in range(12))])
def test_steps_stand_in_order_under_their_names(names):
    best = Curve("best", range(len(names)), np.linspace([0.9] * 2, [0.8] * 2, len(names)).T)
    figure = steps_figure(TITLE, names, [best], {"teacher": np.array([0.9, 0.9])})
    figure.savefig(io.BytesIO(), format="png")
    (axes,) = figure.axes
    assert [label.get_text() for label in axes.get_xticklabels()] == list(names)
    ((x, y, _),) = drawn_curves(figure)
    # The first step is a step like any other, where a temperature of 0 would stand apart.
    assert [round(place) for place in x] == list(range(len(names)))
    np.testing.assert_allclose(y, np.linspace(0.9, 0.8, len(names)))
    boxes = [label.get_window_extent() for label in axes.get_xticklabels()]
    if len(names) < 6:
        assert not any(one.overlaps(other) for one, other in pairwise(boxes))
