"""Laws that every paper of the table keeps; a new paper is held to them by its line."""

import ast
import math
from pathlib import Path

import pytest

from kdops import papers
from kdops.papers import DEFAULT, PAPERS, Statement
from kdops.verdicts.findings import Finding

FOLDER = Path(papers.__file__).parent
EXPERIMENTS = FOLDER.parents[1] / "pipelines" / "papers"
STATEMENTS = [pytest.param(s, id=f"{name}, {key}") for name in PAPERS for key, s in PAPERS[name].statements().items()]


def test_the_default_paper_is_in_the_table():
    assert DEFAULT in PAPERS


def test_every_file_is_a_paper_of_the_table():
    modules = {f"pipelines.papers.{path.stem}" for path in EXPERIMENTS.glob("*.py") if not path.name.startswith("_")}
    assert modules == {paper.module for paper in PAPERS.values()}


@pytest.mark.parametrize("name", PAPERS)
def test_a_paper_has_a_title_data_a_cost_and_statements(name):
    paper = PAPERS[name]
    assert next(part for part in name.split("-") if part.isdigit()) in paper.title
    assert paper.data
    assert paper.cost
    # Said once: beside the entry a second number would contradict it sooner or later.
    assert "two cores" not in str(paper.load().__doc__)
    assert paper.statements()
    assert len({s.what for s in paper.statements().values()}) == len(paper.statements())


@pytest.mark.parametrize("statement", STATEMENTS)
def test_a_statement_says_where_it_stands_and_when_it_replicates(statement):
    assert statement.source.split()[0] in ("abstract", "introduction", "section", "figure", "table", "conclusion")
    assert statement.test
    # A number in percent is a published one, so that the report can say whether it was looked up.
    assert ("%" in statement.words) == bool(statement.published)
    assert all(0 <= number <= 1 for number in statement.published)
    if statement.published:
        assert statement.unit == "accuracy"
        ends = statement.published
        (mean,) = ends if len(ends) == 1 else [sum(ends) / 2]
        assert statement.number([mean] * 3, "x", margin=0.01, same_data=True).answer == "yes"
        assert statement.number([mean] * 3, "x", margin=0.01, same_data=False).answer == "other data"


@pytest.mark.parametrize("name", PAPERS)
def test_every_statement_is_tested(name):
    stem = PAPERS[name].module.rpartition(".")[2]
    files = [EXPERIMENTS / f"{stem}.py", *(FOLDER / stem).glob("*.py")]
    texts = [n.value for f in files for n in ast.walk(ast.parse(f.read_text("utf-8"))) if isinstance(n, ast.Constant)]
    # Once where it is defined, at least once where it is answered.
    assert all(texts.count(key) >= 2 for key in PAPERS[name].statements())


def test_what_is_not_measured_is_open():
    finding = Statement("this", "that", "figure 1", "so", unit="share").not_measured("nothing is there.")
    assert finding == Finding("this", "that", None, "share", "open", "Not measured: nothing is there.")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"source": ""}, "a statement needs"),
        ({"published": (94.73,)}, "fractions from 0 to 1"),
        ({"published": (0.1, 0.2, 0.3)}, "at most two"),
        ({"unit": "points"}, "unit must be one of"),
    ],
)
def test_a_statement_that_lacks_something_is_refused(given, message):
    with pytest.raises(ValueError, match=message):
        Statement(**{"what": "this", "words": "that", "source": "figure 1", "test": "so"} | given)


@pytest.mark.parametrize(
    ("differences", "above", "below", "within"),
    [
        ([0.05, 0.06, 0.05], "yes", "no", "no"),
        ([-0.05, -0.06, -0.05], "no", "yes", "no"),
        ([0.001, 0.0011, 0.001], "no", "yes", "yes"),
        ([0.9, -0.9, 0.1], "open", "open", "open"),
        ([0.05, 0.06], "open", "open", "open"),
    ],
)
def test_a_difference_is_held_against_a_bound_by_its_interval(differences, above, below, within):
    one = Statement("this", "that", "figure 1", "so")
    assert one.above(differences, 0.01).answer == above
    assert one.below(differences, 0.01).answer == below
    assert one.within(differences, 0.01).answer == within


def test_a_replicate_without_a_value_leaves_a_statement_open():
    one = Statement("this", "90 %", "figure 1", "so", published=(0.9,), unit="accuracy")
    for found in (one.above([0.1, 0.2, math.nan]), one.number([0.9, math.inf], "x", margin=0.01, same_data=True)):
        assert (found.answer, found.measured) == ("open", None)


def test_a_number_that_was_not_looked_up_is_marked_in_the_report():
    one = Statement("this", "90 %", "figure 1", "so", published=(0.9,), unit="accuracy", from_memory=True)
    assert one.number([0.9] * 3, "x", margin=0.01, same_data=True).paper == "90 % [from memory]"


def test_a_part_is_told_in_percent_and_a_difference_in_points():
    part, points = (Statement("this", "that", "figure 1", "so", unit=unit) for unit in ("part", "difference"))
    assert "a difference of +52.00 % (" in part.below([0.51, 0.52, 0.53]).sentence
    assert "a difference of +52.00 percentage points (" in points.below([0.51, 0.52, 0.53]).sentence
