"""Laws that every paper of the table keeps; a new paper is held to them by its line."""

import ast
import inspect
from importlib import import_module
from pathlib import Path

import pytest

from kdops import papers
from kdops.papers import DEFAULT, PAPERS, Statement
from kdops.verdicts.findings import Finding

FOLDER = Path(papers.__file__).parent
STATEMENTS = [pytest.param(s, id=f"{name}, {key}") for name in PAPERS for key, s in PAPERS[name].statements().items()]


def test_the_default_paper_is_in_the_table():
    assert DEFAULT in PAPERS


def test_every_file_is_a_paper_of_the_table():
    files = {path.stem for path in FOLDER.iterdir() if not path.name.startswith("_")} - {"paper"}
    assert files == {paper.module for paper in PAPERS.values()}


@pytest.mark.parametrize("name", PAPERS)
def test_a_paper_has_a_title_data_a_cost_and_statements(name):
    paper = PAPERS[name]
    assert name == paper.module.replace("_", "-")
    assert name.rpartition("-")[2] in paper.title
    assert paper.data
    assert paper.cost
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
    module = import_module(f"kdops.papers.{PAPERS[name].module}")
    folder = Path(inspect.getfile(module))
    files = folder.parent.glob("*.py") if folder.name == "__init__.py" else [folder]
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
