"""The files of a study: every model is a row, and what is written reads back."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import torch

from kdops.config.settings import Settings
from kdops.data.dataset import load
from kdops.data.splits import make_split
from kdops.reporting.classes import class_table
from kdops.reporting.figures import Curve, temperature_figure
from kdops.study.result_files import results_table, write_results, write_table
from kdops.sweeps.model import LABELS, Model
from kdops.sweeps.unit import Context

TEACHER = Model(
    "teacher", 0, 0.0, "teacher", LABELS, "models:/kdops-digits-teacher/1", "a1", metrics={"test_accuracy": 0.1 + 0.2}
)
STUDENT = Model(
    "student",
    1,
    2.5,
    "teacher>student",
    TEACHER.uri,
    "models:/kdops-digits-student/7",
    "b2",
    metrics={"test_accuracy": 1 / 3, "source_agreement": 0.75},
    params={"architecture": "cnn(filters=4,layers=2,dropout=0.1/0.2)", "epochs": "40"},
    reused=True,
)


def test_every_model_is_a_row_with_its_metrics_and_parameters():
    table = results_table([TEACHER, STUDENT])
    assert len(table) == 2
    assert list(table["role"]) == ["teacher", "student"]
    assert list(table["chain"]) == ["teacher", "teacher>student"]
    assert list(table["temperature"]) == [0.0, 2.5]
    assert list(table["source"]) == [LABELS, TEACHER.uri]
    assert list(table["model"]) == [TEACHER.uri, STUDENT.uri]
    assert list(table["reused"]) == [False, True]
    assert list(table["source_agreement"].isna()) == [True, False], "a teacher has no source"
    assert table["architecture"][1] == STUDENT.params["architecture"]
    assert table.columns.is_unique


def test_no_cell_of_a_table_is_a_formula(tmp_path):
    """A class is called whatever its folder is."""
    write_table(class_table(np.array([[1, 2], [0, 3]]), ["=1+1", "@cat"]), tmp_path / "classes.csv")
    rows = [line.split(",") for line in (tmp_path / "classes.csv").read_text().splitlines()[1:]]
    assert [(row[0], row[-1]) for row in rows] == [("'=1+1", "'@cat"), ("'@cat", "")]
    model = replace(STUDENT, params={"leave_out": "=1+1,@cat", "epochs": "-40", "share": "0.5"})
    write_table(results_table([TEACHER, model]), tmp_path / "results.csv")
    (row,) = pd.read_csv(tmp_path / "results.csv").iloc[1:].to_dict("records")
    assert (row["leave_out"], row["epochs"], row["share"]) == ("'=1+1,@cat", -40, 0.5)
    assert row["test_accuracy"] == 1 / 3


def test_what_is_written_reads_back(tmp_path):
    settings = Settings.parse("students", temperatures="1,2.5")
    data = load("digits", str(tmp_path))
    split = make_split(data, settings.transfer, settings.split_seed)
    figure = temperature_figure("t", [Curve("student", (1.0, 2.5), np.array([[0.5, 0.6]]))], {})
    folder = tmp_path / "results"
    folder.mkdir()
    write_results(
        folder, [TEACHER, STUDENT], Context(settings, data, split, "cpu"), {"figure-1.png": figure, "b.png": figure}
    )
    assert sorted(path.name for path in folder.rglob("*")) == [
        "b.png",
        "figure-1.png",
        "figures",
        "results.csv",
        "settings.json",
    ]
    for path in (folder / "figures").iterdir():
        assert path.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    table = pd.read_csv(folder / "results.csv")
    assert list(table.columns) == list(results_table([TEACHER, STUDENT]).columns)
    assert len(table) == 2
    assert list(table["test_accuracy"]) == [0.1 + 0.2, 1 / 3], "no digit is lost"
    assert table["architecture"][1] == STUDENT.params["architecture"], "commas and slashes survive"
    described = json.loads((folder / "settings.json").read_text(), parse_constant=lambda text: 1 / 0)
    assert described["settings"] == settings.as_dict()
    assert described["data"]["digest"] == data.digest
    assert torch.__version__.startswith(described["versions"]["torch"])
    sizes = described["split"]
    assert sizes["digest"] == split.digest
    assert sizes["teacher"] + sizes["transfer"][0] + sizes["validation"] + sizes["test"] == len(data.labels)


def test_a_study_without_models_or_figures_still_writes_its_settings(tmp_path):
    data = load("digits", str(tmp_path))
    settings = Settings.parse("teacher")
    folder = tmp_path / "results"
    folder.mkdir()
    write_results(folder, [], Context(settings, data, make_split(data, settings.transfer, 0), "cpu"), {})
    assert json.loads((folder / "settings.json").read_text())["settings"]["dataset"] == "digits"
    assert not list((folder / "figures").iterdir())
