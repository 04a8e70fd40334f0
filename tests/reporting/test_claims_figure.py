"""The claims of a paper as a figure: what is drawn where, and that each page of a paper shows its own."""

import re

import pytest

from kdops.reporting.claims_figure import claims_figure, differences_of
from kdops.verdicts.findings import Finding
from kdops.verdicts.intervals import Interval
from tools.draw_claims import PAGES, tables_of

PAGE = """# Someone 2020

Three replicates (n = 3).

| claim | GTSRB | replicates | digits | replicates |
| --- | ---: | --- | ---: | --- |
| students are better [from memory] | +1.5 (-1.9 to +4.9) | open | +9.0 (+8.0 to +10.0) | yes |
| the teacher reaches 90 % | 0.8900 (0.8800 to 0.9000) | no | 0.9 | other data |
| sooner than `logits` | -4.0 (-5.0 to -3.0) | no: later | | |
"""


def finding(answer="yes", unit="difference", low=0.01, mean=0.02, high=0.03, n=3):
    return Finding(f"a claim that is {answer}", "words", Interval(mean, low, high, n, 0.95), unit, answer, "")


def test_each_difference_has_its_place_its_interval_and_its_answer():
    given = [finding("yes"), finding("no", mean=-0.02, low=-0.03, high=-0.01), finding("open", low=-0.01)]
    figure = claims_figure("Claims", given)
    (axes,) = figure.axes
    assert [label.get_text() for label in axes.get_yticklabels()] == [one.what for one in given]
    points = [tuple(bar[0].get_xydata()[0]) for bar in axes.containers]
    assert [x for x, _ in points] == pytest.approx([2, -2, 2])
    assert [y for _, y in points] == list(axes.get_yticks())
    drawn = [tuple(bar[2][0].get_segments()[0][:, 0]) for bar in axes.containers]
    assert [bound for bar in drawn for bound in bar] == pytest.approx([1, 3, -3, -1, -1, 3])
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["yes", "no", "open"]
    colors = {bar[0].get_color() for bar in axes.containers}
    assert len(colors) == 3, "answers are told apart"


def test_only_differences_that_were_measured_are_drawn():
    unmeasured = Finding("x", "x", None, "difference", "open", "")
    assert differences_of([finding(unit="accuracy"), finding(unit="part"), unmeasured, finding("other data")]) == []
    assert len(differences_of([finding("yes"), finding("open")])) == 2


def test_the_claims_of_a_page_are_read_from_its_table():
    ((title, found),) = tables_of(PAGE)
    assert title == "Someone 2020, GTSRB"
    assert [(one.what, one.answer) for one in found] == [
        ("students are better", "open"),
        ("sooner than logits", "no"),
    ]
    assert found[0].measured == Interval(0.015, -0.019, 0.049, 3, 0.95)


@pytest.mark.parametrize("name", sorted(page.name for page in PAGES.glob("*.md") if page.stem != "index"))
def test_the_page_of_each_paper_shows_its_claims(name):
    page = PAGES / name
    text = page.read_text("utf-8")
    tables = [found for _, found in tables_of(text) if found]
    assert tables
    shown = re.findall(rf"\]\(figures/({page.stem}-claims[-\d]*\.png)\)", text)
    assert len(shown) == len(tables)
    assert all((PAGES / "figures" / one).is_file() for one in shown)
