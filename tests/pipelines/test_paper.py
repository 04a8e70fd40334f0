"""The whole paper on digits, small: one study of five, each part once, and the same from the command line."""

import html
import json
import os
import subprocess
import sys
from collections import Counter
from itertools import chain, pairwise
from pathlib import Path

import pandas as pd
import pytest

from kdops.config.roles import ROLES
from tests.conftest import PAPER

ROOT = Path(__file__).resolve().parents[2]
PARTS = ["teacher", "students", "symmetry", "ensemble", "transitivity"]
FIGURES = {
    "teacher": [],
    "students": ["confusion-student.png", "figure-1-students.png"],
    "symmetry": ["figure-2-symmetry.png"],
    "ensemble": ["figure-3-ensemble.png"],
    "transitivity": ["figure-4-middles.png", "figure-5-transitivity.png"],
}
SEEDS = (0, 1)


def parent_of(place):
    return place.studies()[-1]


def parts_of(place, parent):
    """Return the runs of the part studies, the first one first."""
    return [run for run in place.children(parent) if "kdops.role" not in run.data.tags][::-1]


def models_of(place, parent):
    return [run for run in place.children(parent) if "kdops.role" in run.data.tags]


def answer_of(place, run):
    return json.loads(place.artifact(run, "answer.json").read_text())


def results_of(place, run):
    return pd.read_csv(place.artifact(run, "results.csv"))


def versions(place):
    """Return every registered version, as often as there are."""
    client = place.client
    return sorted((v.name, int(v.version)) for v in client.search_model_versions(max_results=1000))


def assert_picture(path):
    assert path.read_bytes().startswith(b"\x89PNG"), path


def test_five_studies_hang_below_one_in_the_order_of_the_paper(whole):
    parent = parent_of(whole)
    parts = parts_of(whole, parent)
    assert [run.data.tags["kdops.study"] for run in (parent, *parts)] == ["paper", *PARTS]
    assert {run.info.status for run in whole.runs()} == {"FINISHED"}
    for before, after in pairwise(parts):
        assert before.info.end_time <= after.info.start_time
    assert models_of(whole, parent) == []


def test_each_part_has_its_own_answer_results_and_figures(whole):
    parent = parent_of(whole)
    for run in parts_of(whole, parent):
        name = run.data.tags["kdops.study"]
        answer = answer_of(whole, run)
        assert answer["study"] == name
        assert answer["findings"]
        assert answer["rows"]
        assert len(results_of(whole, run)) > 0
        figures = sorted(whole.artifact(run, "figures").glob("*")) if FIGURES[name] else []
        assert [path.name for path in figures] == FIGURES[name]
        for path in figures:
            assert_picture(path)
        assert answer["word"] == run.data.tags.get("kdops.verdict")
        assert (name != "teacher") is ("kdops.verdict" in run.data.tags)
        assert answer["statistics"].items() <= run.data.metrics.items()
        assert run.data.metrics.items() <= parent.data.metrics.items()
    words = [run.data.tags["kdops.verdict"] for run in parts_of(whole, parent) if "kdops.verdict" in run.data.tags]
    assert parent.data.tags["kdops.verdict"] == ", ".join(words)


def test_the_report_of_the_whole_has_all_figures_and_claims(whole):
    parent = parent_of(whole)
    folder = whole.artifact(parent, "report.md").parent
    names = sorted(chain.from_iterable(FIGURES.values()))
    assert sorted(path.name for path in folder.glob("figures/*.png")) == names
    told, page = (folder / "report.md").read_text(), html.unescape((folder / "report.html").read_text())
    for name in names:
        assert_picture(folder / "figures" / name)
        assert f"(figures/{name})" in told
    assert page.count("data:image/png;base64,") == len(names)
    for run in parts_of(whole, parent):
        for finding in answer_of(whole, run)["findings"]:
            assert finding["what"] in told
            assert finding["what"] in page


def test_everything_is_trained_once_and_what_parts_share_is_shared(whole):
    trained = Counter(whole.trained())
    # Students are distilled from the teacher at the temperatures of all experiments, in one pass, with hard labels.
    direct = [("student", seed, t) for seed in SEEDS for t in (0.0, 1.0, 2.0, 4.0, 6.0)]
    assert whole.calls[1].role == "student"
    assert [("student", *member) for member in whole.calls[1].members] == direct
    assert [one for one in trained.elements() if one[0] == "teacher"] == [("teacher", seed, 0.0) for seed in SEEDS]
    # Controls start from another role's streams, and train under its name; roles are told by what was registered.
    kept = Counter(
        (run.data.tags["kdops.role"], run.data.params["temperature"])
        for run in whole.children()
        if "kdops.role" in run.data.tags
    )
    assert [kept["teacher", "0"], kept["reversed", "0"], kept["reversed", "1"], kept["reversed", "4"]] == [2, 2, 2, 2]
    assert [kept["born-again", t] for t in ("0", "1", "4")] == [0, 2, 0]
    assert [kept["middle", t] for t in ("0", "1", "6")] == [2, 2, 2]
    assert [kept["reordered", t] for t in ("1", "2", "4")] == [2, 2, 2]
    assert sum(count for (role, _), count in kept.items() if role == "reseeded") == 6
    assert kept["ensemble", "nan"] == 2
    fingerprints = Counter(
        run.data.tags["kdops.fingerprint"] for run in whole.children() if "kdops.role" in run.data.tags
    )
    assert set(fingerprints.values()) == {1}
    stored = sum(kept.values()) - kept["ensemble", "nan"]
    assert trained.total() == stored


def test_every_model_hangs_below_one_part_and_others_name_it_as_reused(whole):
    parent = parent_of(whole)
    below = {}
    for run in parts_of(whole, parent):
        own = {model.data.tags["kdops.model"] for model in models_of(whole, run)}
        assert {model.data.tags["kdops.study"] for model in models_of(whole, run)} <= {run.data.tags["kdops.study"]}
        assert not own & below.keys()
        below |= dict.fromkeys(own, run.data.tags["kdops.study"])
        reused = set(run.data.tags.get("kdops.reused", "").split())
        table = results_of(whole, run)
        assert set(table["model"]) == own | reused
        assert set(table.loc[table["reused"], "model"]) == reused
        assert not own & reused
        assert reused <= below.keys(), "an earlier part made it"
    everything = results_of(whole, parent)
    assert set(everything["model"]) == set(below)
    assert not everything["reused"].any()
    assert "kdops.reused" not in parent.data.tags
    roles = {model.data.tags["kdops.role"] for model in whole.children() if "kdops.role" in model.data.tags}
    assert roles == {*ROLES, "ensemble"} - {"peer"}, "companies have a study of their own"


def test_the_table_of_the_whole_tells_each_row_as_the_part_that_is_about_it(whole):
    parent = parent_of(whole)
    parts = {run.data.tags["kdops.study"]: answer_of(whole, run)["rows"] for run in parts_of(whole, parent)}
    told = {row["what"]: row for row in answer_of(whole, parent)["rows"]}
    assert len(told) == len(answer_of(whole, parent)["rows"])
    for rows in parts.values():
        for row in rows:
            assert told[row["what"]] == row, "one name is one number"
    for name in ("symmetry", "ensemble", "transitivity"):
        assert any(sentence.startswith(f"{name}: ") for sentence in answer_of(whole, parent)["sentences"])


def test_every_role_has_a_champion_which_is_its_best_by_validation(whole):
    for role in ("teacher", "student", "middle", "reversed", "born-again", "reseeded", "reordered", "ensemble"):
        name = f"kdops-digits-{role}"
        found = whole.client.search_model_versions(f"name = '{name}'", max_results=100)
        best = min(found, key=lambda v: (-float(v.tags["val_accuracy"]), float(v.tags["val_nll"]), int(v.version)))
        assert whole.client.get_model_version_by_alias(name, "champion").version == best.version, name


@pytest.mark.slow
def test_the_same_from_the_command_line_trains_and_registers_nothing(fork_of_whole, whole):
    """Both at once, by ``mlflow run .``: the paper, and one part of it alone with the models that are there."""
    before = {run.info.run_id for run in whole.runs()}
    shared = {name: PAPER[name] for name in ("dataset", "seeds", "epochs", "born_again_temperatures")}
    alone = {**shared, "temperatures": PAPER["reversed_temperatures"], "student_temperatures": PAPER["temperatures"]}
    started = [mlflow_run("paper", PAPER), mlflow_run("symmetry", alone)]
    told = [process.communicate(timeout=800) for process in started]
    assert [process.returncode for process in started] == [0, 0], told
    new = [run for run in fork_of_whole.runs() if run.info.run_id not in before]
    assert {run.info.status for run in new} == {"FINISHED"}
    assert not [run for run in new if "kdops.role" in run.data.tags]
    assert versions(fork_of_whole) == versions(whole)

    studies = {run.data.tags["kdops.study"]: run for run in new if "mlflow.parentRunId" not in run.data.tags}
    assert set(studies) == {"paper", "symmetry"}
    again, was = studies["paper"], parent_of(whole)
    assert again.info.experiment_id == was.info.experiment_id
    models = set(results_of(whole, was)["model"])
    assert set(again.data.tags["kdops.reused"].split()) == models
    assert answer_of(fork_of_whole, again)["findings"] == answer_of(whole, was)["findings"]
    now, then = parts_of(fork_of_whole, again), parts_of(whole, was)
    assert [run.data.tags.get("kdops.verdict") for run in now] == [run.data.tags.get("kdops.verdict") for run in then]
    assert [run.data.metrics for run in now] == [run.data.metrics for run in then]
    assert fork_of_whole.artifact(again, "report.html").is_file()

    reversal = studies["symmetry"]
    assert reversal.data.tags["kdops.verdict"] == now[2].data.tags["kdops.verdict"]
    assert reversal.data.metrics == now[2].data.metrics
    assert_picture(fork_of_whole.artifact(reversal, "figures/figure-2-symmetry.png"))


def mlflow_run(entry_point, given):
    """Start an entry point as its documentation says, in the store of this test."""
    options = [word for name, value in given.items() for word in ("-P", f"{name}={value}")]
    command = [sys.executable, "-m", "mlflow", "run", ".", "-e", entry_point, "--env-manager", "local", *options]
    here = os.path.dirname(sys.executable)
    environment = {**os.environ, "PATH": f"{here}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@pytest.mark.slow
def test_fresh_trains_what_parts_share_once_and_bit_for_bit(fork_of_whole, whole, monkeypatch):
    import pipelines.papers.szijarto_2020 as paper

    monkeypatch.setattr(paper, "PARTS", {name: paper.PARTS[name] for name in ("students", "symmetry")})
    fork_of_whole.run("paper", **{**PAPER, "seeds": 1, "reversed_temperatures": 1}, fresh="true")
    assert sorted(fork_of_whole.trained()) == [
        *(("reversed", 0, t) for t in (0.0, 1.0, 1.0)),  # the last one is born again from the teacher
        *(("student", 0, t) for t in (0.0, 1.0, 2.0, 4.0, 6.0)),
        ("teacher", 0, 0.0),
    ]
    parent = fork_of_whole.studies()[0]
    again = results_of(fork_of_whole, parent)
    assert not again["reused"].any()
    was = results_of(whole, parent_of(whole))
    assert not set(again["model"]) & set(was["model"])
    old, new = (weights_of(fork_of_whole, table, "teacher") for table in (was[was["seed"] == 0], again))
    assert old == new


def weights_of(place, table, role):
    return [place.weights_of(uri) for uri in table.loc[table["role"] == role, "model"]]


def test_a_dry_run_tells_the_plan_once_and_leaves_nothing_behind(nowhere, capsys):
    nowhere.plan("paper", **PAPER)
    *steps, total = capsys.readouterr().out.splitlines()
    via = ["4 x student", "0 to 4 x student", "4 x student"]
    assert [line.partition(" mlp")[0].partition(" cnn")[0] for line in steps] == [
        *("2 x teacher", "10 x student", "6 x reversed", "2 x born-again", "6 x reseeded", "6 x reordered"),
        *("6 x middle", *via),
    ]
    assert total.startswith("46 to 50 models, 46 to 50 to train, depending on which models are best: about ")
    assert nowhere.calls == []
    assert list(nowhere.folder.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "reversed_nets", "born_again"),
    [({"reversed_seeds": 1}, 3, 1), ({"born_again_temperatures": "none"}, 6, 0)],
    ids=str,
)
def test_fewer_reversed_nets_and_no_control_can_be_asked_for(change, reversed_nets, born_again, nowhere, capsys):
    nowhere.plan("paper", **{**PAPER, **change})
    told = [line.split()[:3] for line in capsys.readouterr().out.splitlines()]
    counts = {role: int(count) for count, x, role in told if x == "x"}
    assert counts["reversed"] == reversed_nets
    assert counts.get("born-again", 0) == born_again
    assert counts["teacher"] == 2


def test_a_part_that_fails_ends_the_whole_and_keeps_what_was_done(fork_of_whole, whole, monkeypatch):
    import kdops.ensembles.controls

    def broken(*_):
        raise OSError("no room left")

    monkeypatch.setattr(kdops.ensembles.controls, "controls_of", broken)
    with pytest.raises(OSError, match="no room left"):
        fork_of_whole.run("paper", **PAPER)
    parent = fork_of_whole.studies()[0]
    parts = parts_of(fork_of_whole, parent)
    assert [run.info.status for run in (parent, *parts)] == ["FAILED", *["FINISHED"] * 3, "FAILED"]
    assert {run.data.tags.get("kdops.error") for run in (parent, parts[-1])} == {"no room left"}
    assert versions(fork_of_whole) == versions(whole)


@pytest.mark.slow
def test_one_temperature_is_enough_for_all_but_the_vote(fork):
    small = {"temperatures": "4", "reversed_temperatures": "4", "middle_temperatures": "4", "seeds": 1}
    parent = fork.run("paper", **{**PAPER, **small})
    by_name = {run.data.tags["kdops.study"]: answer_of(fork, run) for run in parts_of(fork, parent)}
    assert by_name["ensemble"]["sentences"] == ["An ensemble takes students of two temperatures."]
    assert by_name["ensemble"]["word"] is None
    assert by_name["transitivity"]["word"] == "inconclusive"
    assert "two temperatures" in fork.artifact(parent, "report.md").read_text()
