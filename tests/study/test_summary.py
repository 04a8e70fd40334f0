"""What a study says at its end fits a terminal of 80 columns and is well-formed Markdown."""

import io
import re
from pathlib import Path

import numpy as np
import pytest
from matplotlib.text import Text
from rich.console import Console

from kdops.config.settings import Settings
from kdops.reporting.tables import show_answer
from kdops.study.figures import students_figure
from kdops.study.summary import Row, describe_size, note, summarize
from kdops.sweeps.model import LABELS, Model, Sweep
from kdops.verdicts.intervals import mean_interval

PIPELINES = (Path(__file__).parents[2] / "pipelines").glob("*.py")
LABELS_IN_USE = sorted({name for path in PIPELINES for name in re.findall(r'summarize\("(.+?)"', path.read_text())})
ROWS = [Row(name, 3000, mean_interval([0.8, 0.85, 0.9])) for name in LABELS_IN_USE]
ROWS += [Row("alone", 1, mean_interval([1.0])), Row("wide", 2, mean_interval([0.01, 0.99]))]


def shown(rows, sentences=(), width=80):
    stream = io.StringIO()
    show_answer(rows, sentences, "0123abc", Console(file=stream, width=width, highlight=False, soft_wrap=True))
    return stream.getvalue().splitlines()


def sweep(accuracies):
    """Return a sweep of ``[replicates, temperatures]`` accuracies."""
    return Sweep(
        tuple(
            Model("student", seed, float(t), "student", LABELS, "", metrics={"test_accuracy": accuracy})
            for seed, row in enumerate(accuracies)
            for t, accuracy in enumerate(row)
        )
    )


@pytest.mark.parametrize("metric", ["test_accuracy", "val_accuracy"])
def test_a_source_without_test_outputs_is_not_drawn(metric):
    source = Sweep((Model("foreign", 0, float("nan"), "foreign", LABELS, "", metrics={metric: 0.9}),))
    figure = students_figure(Settings.parse("students"), source, sweep(np.full((2, 3), 0.8)))
    drawn = [text.get_text() for text in figure.findobj(Text)]
    assert any(text.startswith("source") for text in drawn) is (metric == "test_accuracy"), drawn


def test_a_row_takes_the_replicate_as_its_unit():
    accuracies = np.array([[0.7, 0.8, 0.9], [0.6, 0.6, 0.9]])
    row = summarize("students", sweep(accuracies))
    assert (row.what, row.models) == ("students", 6)
    assert row.accuracy == mean_interval(accuracies.mean(axis=1))
    assert row.accuracy.n == 2, "temperatures of one replicate are no replicates"


def test_the_table_fits_into_80_columns_and_every_row_into_one_line():
    lines = shown(ROWS)
    assert max(map(len, lines)) <= 80
    assert len(LABELS_IN_USE) > 5
    for row in ROWS:
        (line,) = (line for line in lines if line.startswith(f"{row.what}  "))
        what, models, mean, bounds, replicates = re.split(r"\s{2,}", line.strip())
        assert (what, models, mean) == (row.what, str(row.models), f"{row.accuracy.mean:.4f}")
        if row.accuracy.n == 1:
            assert bounds == "needs 2 replicates"
        else:
            # No accuracy lies outside [0, 1], wherever Student's interval of few replicates ends.
            assert bounds == f"{max(row.accuracy.low, 0):.4f} to {min(row.accuracy.high, 1):.4f}"
        assert replicates == str(row.accuracy.n)


@pytest.mark.parametrize("width", [60, 80, 200])
def test_no_letter_is_lost_at_any_width(width):
    text = "".join("".join(shown(ROWS, width=width)).split())
    assert "…" not in text
    for row in ROWS:
        assert all(word in text for word in (*row.what.split(), f"{row.accuracy.mean:.4f}"))


def test_sentences_and_run_come_last_and_unbroken():
    sentence = "Transitive [sic]: " + "a long sentence " * 12
    lines = shown(ROWS, [sentence, "Second."])
    assert lines[-3:] == [sentence, "Second.", "Run 0123abc; look at it with: kdops ui"]


@pytest.mark.parametrize("sentences", [[], ["One."], ["One.", "Two."]])
def test_the_note_is_well_formed_markdown_with_the_answer_first(sentences):
    text = note("not transitive", ROWS, sentences, "digits, a setting.")
    blocks = text.split("\n\n")
    assert blocks[0] == "**not transitive**"
    assert blocks[1 : 1 + len(sentences)] == sentences, "each sentence is a paragraph"
    table, *rest = blocks[1 + len(sentences) :]
    head, rule, *body = table.split("\n")
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in (head, rule, *body)]
    assert {len(line) for line in cells} == {5}
    assert all(line.startswith("|") and line.endswith("|") for line in (head, rule, *body))
    assert all(re.fullmatch(r"-{3,}:?", cell) for cell in cells[1])
    assert [line[0] for line in cells[2:]] == [row.what for row in ROWS]
    assert [line[4] for line in cells[2:]] == [str(row.accuracy.n) for row in ROWS]
    assert rest == [
        "digits, a setting.",
        "Every model is a row of `results.csv`. Those trained here are child runs; `kdops.reused` names the others.",
    ]


def test_a_note_that_would_be_too_long_leaves_out_its_last_sentences():
    """MLflow cuts tags at 8,000 characters, and what a report reads of a note, the setting, stands at its end."""
    sentences = [f"{number}. {'word ' * 100}." for number in range(30)]
    blocks = note("open", ROWS, sentences, "digits, a setting.", ["Owner: somebody"]).split("\n\n")
    told = blocks[1 : blocks.index(next(one for one in blocks if "more sentences" in one))]
    assert 10 < len(told) < 30
    assert told == sentences[: len(told)]
    assert blocks[1 + len(told)] == f"{30 - len(told)} more sentences are in `answer.json`."
    assert blocks[2 + len(told)].startswith("| models |")
    assert blocks[3 + len(told)] == "digits, a setting."
    assert blocks[-1] == "Owner: somebody"
    assert len("\n\n".join(blocks)) <= 7900


@pytest.mark.parametrize(
    ("role", "parameters", "source", "told"),
    [
        (
            "student",
            154_160,
            85_898,
            "154,160 parameters, more than the 85,898 of its source",
        ),
        ("student", 7_658, 85_898, ""),
        ("student", 85_898, 85_898, ""),
        ("reversed", 154_160, 85_898, ""),
        ("student", 154_160, None, ""),
    ],
)
def test_a_student_that_is_larger_than_its_source_is_remarked(role, parameters, source, told):
    def model(role, count):
        params = {"architecture": "mlp(hidden=50)", **({"parameters": str(count)} if count else {})}
        return Model(role, 0, 1.0, role, LABELS, "", params=params)

    found = describe_size([model(role, parameters)], [model("teacher", source), None])
    assert told in found
    assert bool(told) == bool(found)
