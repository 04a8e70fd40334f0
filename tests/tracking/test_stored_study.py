"""A study is read back from the store as it was written, also one from before there were answers."""

import json
import math

import pytest

from kdops.errors import KdopsError, UsageError
from kdops.reporting.report import report_markdown
from kdops.tracking.stored_study import PARTS, find_study, read_study
from kdops.verdicts.answer import read_answer
from tests.shelves import DIGEST, RESULTS, Shelf, answer, finding, png, row, settings

NOTE = """**transitive**

Transitive: the first sentence.

Equal: the second.

| models | count | test accuracy | 95 % interval | replicates |
|---|---:|---:|---:|---:|
| student, hard labels | 3 | 0.9499 | 0.9379 to 0.9618 | 3 |
| alone | 1 | 0.5000 | needs 2 replicates | 1 |

digits: what it rests on. Intervals are over replicates.

Every model is a row of `results.csv`."""


@pytest.fixture(scope="module")
def shelf(empty_database, tmp_path_factory):
    return Shelf(tmp_path_factory.mktemp("studies")).open(empty_database)


@pytest.fixture(scope="module")
def whole(shelf):
    """A paper of which two parts are done, one failed, one runs, and one was never started."""
    paper = shelf.study("paper", results=None, status="RUNNING")
    shelf.study("transitivity", told=answer("transitivity", word="transitive"), parent=paper)
    shelf.study("teacher", told=answer("teacher"), parent=paper, described=settings(seeds=3, margin=0.05))
    shelf.study("symmetry", results=None, status="FAILED", parent=paper)
    shelf.study("ensemble", results=None, status="RUNNING", parent=paper)
    return paper


def test_all_of_an_answer_is_read_back(shelf):
    told = answer(
        "symmetry",
        title="Symmetry of distillation",
        word="symmetric",
        sentences=["One.", "Two."],
        claims=[{"name": "symmetry", "word": "symmetric", "sentence": "One."}],
        statistics={"symmetry_low": -0.01, "symmetry_replicates": 3},
        rows=[row("teacher", 0.97), row("alone", 0.5, n=1)],
        findings=[finding("reversed"), finding("words", "open", mean=None)],
    )
    images = {"figure-2-symmetry.png": png(1), "figure-9.png": png(2)}
    study = read_study(shelf.client, shelf.study("symmetry", told=told, figures=images, metrics={"other": 1.0}))
    assert (study.study, study.title, study.status) == ("symmetry", "Symmetry of distillation", "FINISHED")
    assert (study.answer.word, study.answer.sentences) == ("symmetric", ("One.", "Two."))
    assert study.answer.statistics == told["statistics"]
    assert {"study": "symmetry", **study.answer.to_json()} == told
    assert study.figures == images
    assert {**settings(), "settings": dict(study.settings)} == settings()
    assert (study.data["digest"], study.split["test"], study.versions["torch"]) == (DIGEST, 7, "2.15.0")
    assert list(study.results["model"]) == ["models:/kdops-digits-teacher/1", "models:/kdops-digits-student/1"]
    assert study.results["test_accuracy"][0] == pytest.approx(0.1234567890123456789, rel=1e-12)
    assert study.started.utcoffset().total_seconds() == 0


def test_a_study_without_its_answer_has_its_verdict_and_metrics(shelf):
    tags = {"kdops.verdict": "transitive", "mlflow.note.content": NOTE}
    study = read_study(shelf.client, shelf.study("transitivity", tags=tags, metrics={"transitivity_low": -0.5}))
    assert study.answer.word == "transitive"
    assert study.answer.statistics == {"transitivity_low": -0.5}
    assert study.basis == "digits: what it rests on. Intervals are over replicates."
    assert study.title == "transitivity digits"
    assert "transitivity: the store has no answer.json" in report_markdown(study)


def test_a_study_with_its_answer_or_that_runs_lacks_none(shelf):
    for given in ({"told": answer("teacher")}, {"status": "RUNNING"}):
        assert "answer.json" not in report_markdown(read_study(shelf.client, shelf.study("teacher", **given)))


def test_a_real_study_tells_its_table_and_its_verdict(look):
    run = look.studies()[0]
    study = read_study(look.client, run.info.run_id)
    assert study.answer.word == run.data.tags["kdops.verdict"]
    assert len(study.results) == len(look.children(run))
    whats = {one.what for one in study.answer.rows}
    assert {"teacher", "students, direct", "students via the best middle"} <= whats
    (teacher,) = (one for one in study.answer.rows if one.what == "teacher")
    mean = study.results.query("role == 'teacher'")["test_accuracy"].mean()
    assert teacher.accuracy.mean == pytest.approx(mean, abs=1e-4)
    assert teacher.accuracy.n == study.settings["seeds"] == 2
    assert study.answer.statistics
    assert all(image.startswith(b"\x89PNG") for image in study.figures.values())
    assert len(study.figures) == 2


@pytest.mark.parametrize("note", ["", "no table", "| a | b |", "**x**\n\n| a |\n|---|\n| 1 | 2 | x | y | z |"])
def test_any_note_can_be_read(shelf, note):
    assert read_study(shelf.client, shelf.study("teacher", tags={"mlflow.note.content": note})).basis == ""


def test_parts_are_read_in_the_order_of_the_paper(shelf, whole):
    study = read_study(shelf.client, whole)
    assert [part.study for part in study.parts] == ["teacher", "transitivity"]
    assert [part.study for part in study.whole()] == sorted((p.study for p in study.parts), key=PARTS.index)
    assert study.unread == ("ensemble (RUNNING)", "symmetry (FAILED)", "students (not started)")


def test_a_whole_without_files_has_what_its_parts_share(shelf, whole):
    study = read_study(shelf.client, whole)
    assert study.data["digest"] == DIGEST
    assert study.settings["transfer"] == "shared"
    assert "margin" not in study.settings, "its parts differ in it"
    assert len(study.results) == 2, "a model that two parts used counts once"


def test_a_study_that_stands_alone_has_no_parts(shelf):
    study = read_study(shelf.client, shelf.study("teacher"))
    assert study.parts == study.unread == ()
    assert study.whole() == (study,)


@pytest.mark.parametrize("status", ["RUNNING", "FAILED", "KILLED"])
def test_files_are_enough_whatever_the_status(shelf, status):
    assert read_study(shelf.client, shelf.study("teacher", status=status)).status == status


@pytest.mark.parametrize(
    ("status", "words"),
    [
        ("RUNNING", ["RUNNING", "wait", "kdops students"]),
        ("FAILED", ["FAILED", "the disk is full", "kdops students with the same settings"]),
        ("KILLED", ["KILLED", "kdops students"]),
        ("FINISHED", ["FINISHED", "artifacts are not at"]),
    ],
)
def test_a_study_without_results_is_refused_with_its_status(shelf, status, words):
    run_id = shelf.study("students", results=None, status=status, tags={"kdops.error": "the disk is full"})
    with pytest.raises(KdopsError) as told:
        read_study(shelf.client, run_id)
    assert all(word in str(told.value) for word in [run_id[:8], *words]), told.value
    assert told.value.exit_code == 1


@pytest.mark.parametrize(("name", "content"), [("answer.json", "{"), ("answer.json", "[]"), ("settings.json", "1")])
def test_a_broken_file_is_named(shelf, name, content):
    run_id = shelf.study("teacher", told=answer("teacher"))
    (shelf.folder / "mlruns" / run_id / "artifacts" / name).write_text(content)
    with pytest.raises(KdopsError, match=name):
        read_study(shelf.client, run_id)


@pytest.mark.parametrize("missing", ["what", "mean", "n"])
def test_an_answer_that_lacks_something_says_what(missing):
    told = answer("teacher", rows=[{k: v for k, v in row("teacher", 0.9).items() if k != missing}])
    with pytest.raises(ValueError, match=missing):
        read_answer(json.dumps(told))


def test_what_is_not_finite_is_unknown():
    told = answer("x", statistics={"a": math.nan, "b": 1}, rows=[{**row("t", 0.9), "low": math.nan, "high": math.inf}])
    read = read_answer(json.dumps(told))
    assert read.statistics == {"b": 1.0}
    assert math.isnan(read.rows[0].accuracy.low)
    assert math.isnan(read.rows[0].accuracy.high)


@pytest.mark.parametrize("length", [6, 10, 32])
def test_the_beginning_of_a_run_id_finds_its_study(shelf, whole, length):
    assert find_study(shelf.client, whole[:length].upper()) == whole


@pytest.mark.parametrize("text", ["", "abcde", "ghijkl", "%" * 6, "a'b'c'", "0" * 33])
def test_what_is_no_run_id_is_refused(shelf, text):
    with pytest.raises(UsageError, match="first 6 characters"):
        find_study(shelf.client, text)


def test_a_run_id_of_no_study_is_told_with_the_latest(shelf, whole):
    with pytest.raises(UsageError, match=r"no study has this run id; the latest are [0-9a-f]{8} "):
        find_study(shelf.client, "0" * 32)


def test_the_run_of_a_model_is_no_study(shelf):
    uri = shelf.model("teacher", "teacher")
    run_id = shelf.client.get_model_version("kdops-digits-teacher", uri.rpartition("/")[2]).run_id
    with pytest.raises(UsageError, match=r"is the run of a model; its study is 0{32}"):
        find_study(shelf.client, run_id)
    with pytest.raises(KdopsError, match="is no study"):
        read_study(shelf.client, run_id)
    with pytest.raises(KdopsError, match="cannot be read"):
        read_study(shelf.client, "f" * 32)


def test_an_ambiguous_beginning_names_those_that_fit(shelf):
    import sqlite3

    ids = [shelf.study("teacher", results=RESULTS) for _ in range(2)]
    same = ["abcdef" + run_id[6:] for run_id in ids]
    with sqlite3.connect(shelf.folder / "mlflow.db") as database:
        for old, new in zip(ids, same, strict=True):
            database.execute("PRAGMA foreign_keys=OFF")
            for table in ("runs", "tags"):
                database.execute(f"UPDATE {table} SET run_uuid = ? WHERE run_uuid = ?", (new, old))
    database.close()
    with pytest.raises(UsageError, match="beginning of 2 studies") as told:
        find_study(shelf.client, "abcdef")
    assert all(one[:8] in str(told.value) for one in same)
    assert find_study(shelf.client, same[0]) == same[0]
