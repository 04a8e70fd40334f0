"""The claims of a paper as a figure: each difference with its interval, one below another."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import wrap

from matplotlib.figure import Figure

from kdops.reporting.figures import COLORS, GRAYS, MARKERS, new_figure
from kdops.verdicts.findings import Finding

LOOKS = {"yes": (COLORS[0], MARKERS[0]), "no": (COLORS[1], MARKERS[1]), "open": (GRAYS[1], MARKERS[2])}
"""Color and marker by whether a claim replicates."""

LETTERS = 58
"""Of a line of a claim's name."""

LINE = 0.14
"""The height of such a line in inches."""


def differences_of(findings: Sequence[Finding]) -> list[Finding]:
    """Return the findings that can be drawn on one axis: the differences of accuracies or shares that were measured."""
    return [one for one in findings if one.unit == "difference" and one.measured is not None and one.answer in LOOKS]


def claims_figure(title: str, findings: Sequence[Finding]) -> Figure:
    """Draw the differences that claims are about, with the 95 % interval of each over replicates.

    Args:
        title: what is shown.
        findings: those of :func:`differences_of`, at least one; the first is on top.
    """
    names = ["\n".join(wrap(one.what, LETTERS)) for one in findings]
    lines = sum(name.count("\n") + 1 for name in names)
    figure = new_figure(1.3 + LINE * (lines + len(names)))
    axes = figure.add_subplot()
    axes.axvline(0, color=GRAYS[1], linewidth=0.8)
    ticks, top = [], 0.0
    for name, one in zip(names, findings, strict=True):
        assert one.measured is not None
        height = name.count("\n") + 2.0
        ticks.append(top + height / 2)
        top += height
        mean, color, marker = 100 * one.measured.mean, *LOOKS[one.answer]
        spread = [[mean - 100 * one.measured.low], [100 * one.measured.high - mean]] if one.measured.n > 1 else None
        axes.errorbar(
            [mean],
            ticks[-1:],
            xerr=spread,
            label=one.answer,
            color=color,
            marker=marker,
            markersize=5,
            capsize=3,
            ls="none",
        )
    axes.set_yticks(ticks, names, fontsize=7)
    axes.set_ylim(top, 0)
    axes.set_title(title, loc="left", fontsize=10)
    counts = sorted({one.measured.n for one in findings if one.measured is not None})
    axes.set_xlabel(f"percentage points, bars: 95 % interval (n = {' or '.join(map(str, counts))})", fontsize=8)
    axes.tick_params(axis="x", labelsize=7)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="x", color=GRAYS[2], alpha=0.3, linewidth=0.5)
    drawn = dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    answers = [answer for answer in LOOKS if answer in drawn]
    handles = [drawn[answer] for answer in answers]
    figure.legend(
        handles,
        answers,
        title="does the claim replicate?",
        loc="outside lower center",
        ncols=3,
        frameon=False,
        fontsize=8,
        title_fontsize=8,
    )
    return figure
