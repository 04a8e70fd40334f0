"""What a study leaves in MLflow, against the contract (part 3 of the design), and runs that nobody ended."""

import getpass
import json
import math
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import psutil
import pytest
from mlflow.entities import LoggedModelStatus
from mlflow.store.tracking.dbmodels.models import SqlRun
from PIL import Image

from kdops.data import dataset as datasets
from kdops.data.splits import make_split
from kdops.registry.versions import Registry
from kdops.sweeps.model import Model
from kdops.tracking.model_run import _run_name
from kdops.tracking.stale_runs import end_stale_runs
from kdops.tracking.tracker import Tracker
from kdops.utils.process import ProcessId, may_be_open
from kdops.verdicts.transitivity import transitivity_verdict

ROOT = Path(__file__).resolve().parents[2]

TAGS = {
    "kdops.role",
    "kdops.study",
    "kdops.dataset",
    "kdops.source",
    "kdops.chain",
    "kdops.split",
    "kdops.fingerprint",
}
PARAMS = {
    "dataset",
    "architecture",
    "parameters",
    "temperature",
    "alpha",
    "epochs",
    "batch_size",
    "learning_rate",
    "seed",
    "transfer",
}
METRICS = {
    "train_loss",
    "val_accuracy",
    "val_balanced_accuracy",
    "val_macro_f1",
    "val_nll",
    "test_accuracy",
    "test_balanced_accuracy",
    "test_macro_f1",
    "test_nll",
    "test_ece",
    "dead_units",
    "train_seconds",
    "train_peak_bytes",
}
EPOCHS = {"teacher": 2, "student": 3, "middle": 3}
FEWEST_MODELS = 2 * (1 + 3 + 3 + 2 + 2)
"""More where the best middle learned from labels: then the best distilled one has students of its own."""

DIGITS = datasets.load("digits")
SPLIT = make_split(DIGITS, "disjoint", 0)


@pytest.fixture(scope="module")
def parent(done):
    (run,) = done.studies()
    return run


@pytest.fixture(scope="module")
def children(done):
    return done.children()


def test_every_model_is_a_finished_nested_run(parent, children, done):
    assert parent.info.status == "FINISHED"
    assert FEWEST_MODELS <= len(children) <= FEWEST_MODELS + 2 * 2
    assert {run.info.status for run in children} == {"FINISHED"}
    assert {run.data.tags["mlflow.parentRunId"] for run in children} == {parent.info.run_id}
    experiment = done.client.get_experiment_by_name("kdops")
    assert {run.info.experiment_id for run in [parent, *children]} == {experiment.experiment_id}
    assert experiment.tags["mlflow.experimentKind"] == "custom_model_development"
    # Names tell the models apart on the web page, where only the via sweeps share theirs.
    assert len({run.info.run_name for run in children}) >= FEWEST_MODELS - 4


def test_tags_of_every_model(parent, children):
    for run in children:
        tags, soft = run.data.tags, run.data.params["temperature"] != "0"
        assert tags.keys() >= TAGS
        assert tags["kdops.role"] in EPOCHS
        assert tags["kdops.study"] == "transitivity"
        assert tags["kdops.dataset"] == "digits"
        assert tags["kdops.split"] == parent.data.tags["kdops.split"] == SPLIT.digest
        assert tags["kdops.source"].startswith("models:/kdops-digits-") if soft else tags["kdops.source"] == "labels"
        assert tags["kdops.model"].startswith(f"models:/kdops-digits-{tags['kdops.role']}/")
    for name in ("kdops.fingerprint", "kdops.model"):
        assert len({run.data.tags[name] for run in children}) == len(children)


def test_params_of_every_model(children):
    seen = set()
    for run in children:
        params, role = run.data.params, run.data.tags["kdops.role"]
        assert params.keys() >= PARAMS
        assert (params["dataset"], params["transfer"]) == ("digits", "disjoint")
        # On hard labels the soft term has no weight.
        assert params["alpha"] == ("0" if float(params["temperature"]) == 0 else "1")
        assert params["epochs"] == str(EPOCHS[role])
        assert params["architecture"].startswith("cnn(" if role == "teacher" else "mlp(")
        assert int(params["parameters"]) > 0
        assert int(params["batch_size"]) > 0
        assert float(params["learning_rate"]) > 0
        seen.add((role, params["seed"], params["temperature"]))
    assert seen == {("teacher", seed, "0") for seed in "01"} | {
        (role, seed, t) for role in ("student", "middle") for seed in "01" for t in "014"
    }


def test_metrics_of_every_model(children):
    for run in children:
        metrics, source = run.data.metrics, run.data.tags["kdops.source"]
        is_soft = source != "labels" and run.data.params["temperature"] != "0"
        of_source = set() if source == "labels" else {"source_agreement"}
        of_source |= {"train_kl", "method_parameters", "method_bytes"} if is_soft else set()
        assert metrics.keys() == METRICS | of_source
        assert all(math.isfinite(value) for value in metrics.values())
        for name in ("val_accuracy", "test_accuracy", "test_balanced_accuracy", "test_ece"):
            assert 0 <= metrics[name] <= 1
        assert metrics["train_seconds"] > 0


def test_history_of_every_epoch_ends_with_the_final_value(children, done):
    count = len(SPLIT.validation)
    for run in children:
        epochs = EPOCHS[run.data.tags["kdops.role"]]
        for name in ("train_loss", "val_accuracy"):
            history = sorted(done.client.get_metric_history(run.info.run_id, name), key=lambda metric: metric.step)
            assert [metric.step for metric in history] == list(range(1, epochs + 1))
            assert history[-1].value == run.data.metrics[name]
        # An accuracy is a whole number of validation images, in every epoch.
        assert all(abs(metric.value * count - round(metric.value * count)) < 1e-3 for metric in history)


def test_data_of_every_model(parent, children):
    parts = {"val": SPLIT.validation, "test": SPLIT.test}
    digests = {}
    for run in [parent, *children]:
        role = run.data.tags.get("kdops.role")
        trained_on = len(SPLIT.teacher) if role == "teacher" else len(SPLIT.hop(0))
        counts = {name: len(rows) for name, rows in parts.items()}
        counts["train"] = trained_on if role else len(SPLIT.teacher) + len(SPLIT.hop(0))
        found = {one.tags[0].value: one for one in run.inputs.dataset_inputs}
        assert found.keys() == {"train", "val", "test"}
        for context, one in found.items():
            assert one.tags[0].key == "mlflow.data.context"
            assert one.dataset.name == f"digits-{context}"
            assert json.loads(one.dataset.profile)["images"] == counts[context]
            assert json.loads(one.dataset.source)["digest"] == DIGITS.digest
            digests.setdefault((context, role == "teacher", role is None), set()).add(one.dataset.digest)
    # One digest for each set of images: all, the teacher's, the transfer images, validation, test.
    assert all(len(values) == 1 for values in digests.values())
    assert len(set.union(*digests.values())) == 5


def test_source_and_model_of_every_run(children, done):
    by_uri = {run.data.tags["kdops.model"]: run for run in children}
    for run in children:
        (output,) = run.outputs.model_outputs
        model = done.client.get_logged_model(output.model_id)
        assert model.status == LoggedModelStatus.READY
        assert model.source_run_id == run.info.run_id
        # Metrics are the model's too, so that logged models can be ordered by them.
        assert {metric.key: metric.value for metric in model.metrics} == run.data.metrics
        source = run.data.tags["kdops.source"]
        # A search leaves out the models that went in.
        inputs = [one.model_id for one in done.client.get_run(run.info.run_id).inputs.model_inputs]
        expected = [by_uri[source].outputs.model_outputs[0].model_id] if source != "labels" else []
        assert inputs == expected


def test_the_parent_answers(parent, children):
    tags, metrics = parent.data.tags, parent.data.metrics
    assert tags["kdops.study"] == "transitivity"
    assert tags["kdops.verdict"] == "inconclusive"  # two replicates decide nothing
    expected = _verdict(children).statistics
    assert metrics.keys() == expected.keys()
    assert metrics == pytest.approx(expected, rel=1e-12, abs=1e-12)
    note = tags["mlflow.note.content"]
    assert note.startswith("**inconclusive**")
    assert "n = 2 replicates" in note
    assert "students via the worst middle | 4 |" in note
    assert "transfer=disjoint" in note


def test_the_files_of_the_parent(parent, children, done):
    for name in ("figure-4-middles.png", "figure-5-transitivity.png"):
        with Image.open(done.artifact(parent, f"figures/{name}")) as picture:
            picture.load()
            assert picture.format == "PNG"
            assert min(picture.size) > 300
    settings = json.loads(done.artifact(parent, "settings.json").read_text())
    assert settings["settings"]["temperatures"] == [1.0, 4.0]
    assert settings["settings"]["recipes"]["student"]["epochs"] == 3
    assert settings["split"]["digest"] == SPLIT.digest
    assert settings["data"]["digest"] == DIGITS.digest
    table = pd.read_csv(done.artifact(parent, "results.csv")).set_index("run_id")
    assert sorted(table.index) == sorted(run.info.run_id for run in children)
    assert not table["reused"].any()
    for run in children:
        row = table.loc[run.info.run_id]
        assert row["model"] == run.data.tags["kdops.model"]
        assert row["chain"] == run.data.tags["kdops.chain"]
        assert (row["temperature"], row["seed"]) == tuple(float(run.data.params[n]) for n in ("temperature", "seed"))
        assert {name: row[name] for name in run.data.metrics} == pytest.approx(run.data.metrics, rel=1e-12)


def test_mlflows_own_run_becomes_the_parent(fork, monkeypatch):
    experiment = fork.client.create_experiment("mine")
    mine = fork.client.create_run(experiment)
    monkeypatch.setenv("MLFLOW_RUN_ID", mine.info.run_id)
    fork.plan("teacher")
    assert fork.client.get_run(mine.info.run_id).info.status == "RUNNING"
    from kdops.config.settings import Settings
    from pipelines import teacher

    teacher.main(Settings.parse("teacher", seeds="1", epochs="1"))
    ended = fork.client.get_run(mine.info.run_id)
    assert ended.info.status == "FINISHED"
    # Another experiment has models of its own: nothing was reused.
    (child,) = [run for run in fork.client.search_runs([experiment]) if run.info.run_id != mine.info.run_id]
    assert child.data.tags["mlflow.parentRunId"] == mine.info.run_id
    assert child.data.tags["kdops.role"] == "teacher"
    assert fork.artifact(ended, "results.csv").exists()


@pytest.fixture
def process():
    """A real process that names itself and lives on."""
    code = "import time; from kdops.utils.process import ProcessId as P; print(P.own(), flush=True); time.sleep(600)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as started:
        yield started, started.stdout.readline().strip()
        started.kill()


def test_runs_of_a_process_that_is_gone_are_ended(fork, process):
    started, name = process
    client = fork.client
    experiment = client.get_experiment_by_name("kdops").experiment_id
    other = ProcessId("another-host", 1, 1, 1)

    def left_running(**tags):
        return client.create_run(experiment, tags=tags).info.run_id

    study = left_running(**{"kdops.process": name})
    model = left_running(**{"kdops.process": name, "mlflow.parentRunId": study})
    elsewhere = left_running(**{"kdops.process": str(other)})
    foreign = left_running()

    def statuses():
        return [client.get_run(run).info.status for run in (study, model, elsewhere, foreign)]

    fork.run("teacher")
    assert statuses() == ["RUNNING"] * 4
    started.kill()
    started.wait()
    before = time.time()
    fork.run("teacher")
    assert statuses() == ["KILLED", "KILLED", "RUNNING", "RUNNING"]
    assert client.get_run(study).info.end_time >= 1000 * before - 1
    assert fork.calls == []


@pytest.mark.parametrize(
    ("age", "source", "status"),
    [(3600, ROOT, "KILLED"), (10, ROOT, "RUNNING"), (3600, ROOT / "tests", "RUNNING")],
    ids=["old", "young", "another project"],
)
def test_a_study_that_was_killed_before_it_named_its_process_is_ended(fork, age, source, status):
    client = fork.client
    tags = {"mlflow.project.entryPoint": "teacher", "mlflow.source.name": source.as_uri()}
    experiment = client.get_experiment_by_name("kdops").experiment_id
    run = client.create_run(experiment, start_time=int(1000 * (time.time() - age)), tags=tags)
    fork.run("teacher")
    assert client.get_run(run.info.run_id).info.status == status


@pytest.mark.skipif(not Path("/proc/self/ns/pid").exists(), reason="only Linux tells which files are open")
@pytest.mark.parametrize(("user", "status"), [("", "KILLED"), ("other", "RUNNING")])
def test_a_run_without_a_process_is_ended_once_nobody_has_the_database_open(fork, user, status):
    """A launcher has it open as long as it lives, or its server has, which may be another user's and younger."""
    code = "import os, sqlite3, sys; held = sqlite3.connect(sys.argv[1]); held.execute('select 1 from runs'); "
    code += "os.getuid() or os.setuid(65534); print(flush=True); input()"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    holder = subprocess.Popen([sys.executable, "-c", code, fork.database], **pipes)
    holder.stdout.readline()
    client = fork.client
    # Before this process, which has the database open too.
    start = min(time.time() - 70, psutil.Process().create_time() - 5)
    assert may_be_open(fork.database, start)
    tags = {
        "mlflow.project.entryPoint": "teacher",
        "mlflow.source.name": ROOT.as_uri(),
        "mlflow.user": user or getpass.getuser(),
    }
    experiment = client.get_experiment_by_name("kdops").experiment_id
    run = client.create_run(experiment, start_time=int(1000 * start), tags=tags).info.run_id
    end_stale_runs(client, Registry(client, DIGITS, SPLIT), experiment)
    assert client.get_run(run).info.status == "RUNNING"
    holder.communicate()
    # Of a process that began before the run, as this one would have then, nothing is known.
    assert not may_be_open(fork.database, start)
    assert may_be_open(fork.database, time.time())
    end_stale_runs(client, Registry(client, DIGITS, SPLIT), experiment)
    assert client.get_run(run).info.status == status


def wait_until(question, seconds=200.0):
    deadline = time.monotonic() + seconds
    while not question() and time.monotonic() < deadline:
        time.sleep(0.05)
    return question()


def _verdict(children):
    """Compute the verdict anew from the child runs alone."""

    def accuracies(runs):
        runs = sorted(runs, key=lambda run: (run.data.params["seed"], float(run.data.params["temperature"])))
        return [run.data.metrics["test_accuracy"] for run in runs]

    soft = [run for run in children if run.data.params["temperature"] != "0"]
    students = [run for run in soft if run.data.tags["kdops.role"] == "student"]
    direct = [run for run in students if run.data.tags["kdops.chain"] == "teacher>student"]
    ranked = {"best": [], "distilled": [], "worst": []}
    for seed in "01":
        middles = sorted(
            (r for r in children if r.data.tags["kdops.role"] == "middle" and r.data.params["seed"] == seed),
            key=lambda run: (-run.data.metrics["val_accuracy"], run.data.metrics["val_nll"]),
        )
        ranked["best"].append(middles[0])
        ranked["distilled"].append(next(run for run in middles if run in soft))
        ranked["worst"].append(middles[-1])

    def through(which):
        uris = {run.data.tags["kdops.model"] for run in ranked[which]}
        found = accuracies(run for run in students if run.data.tags["kdops.source"] in uris)
        return [found[:2], found[2:]]

    flat = accuracies(direct)
    return transitivity_verdict(
        through("best"),
        [flat[:2], flat[2:]],
        0.02,
        middle=accuracies(ranked["best"]),
        middle_temperatures=[float(run.data.params["temperature"]) for run in ranked["best"]],
        via_distilled=None if ranked["distilled"] == ranked["best"] else through("distilled"),
        via_worst=through("worst"),
    )


@pytest.mark.parametrize(
    ("role", "chain", "method", "name"),
    [
        ("student", "teacher>student", "logits", "student T=4 seed=2 teacher>student"),
        ("student", "teacher>student", "cc", "student T=4 seed=2 cc teacher>student"),
        ("student", "teacher>student", "fsp(share=0.5)", "student T=4 seed=2 fsp(share=0.5) teacher>student"),
        ("peer", "peer", "mutual", "peer T=4 seed=2 mutual"),
    ],
)
def test_a_run_is_named_by_its_method_unless_it_is_the_plain_one(role, chain, method, name):
    model = Model(role, 2, 4.0, chain, "models:/kdops-digits-teacher/1", "", params={"method": method})
    assert _run_name(model, []) == name


def test_the_name_of_a_run_fits_into_the_column_of_a_database_server(store):
    """A file of sqlite takes any; titles and names have methods and networks as the caller writes them."""
    tracker = Tracker("students", DIGITS, SPLIT, "t" * 300)
    made = tracker.make_run("n" * 300, {})
    tracker.below("students", "b" * 300).finish()
    tracker.finish()
    names = {run.info.run_name for run in store.runs()}
    assert {len(name) for name in names} == {SqlRun.name.type.length}
    assert {name[:3] for name in names} == {"ttt", "nnn", "bbb"}
    assert store.client.get_run(made).info.run_name.endswith("n...")
