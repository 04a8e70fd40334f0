"""Studies that are killed at any moment: the same command finishes them, and nothing is lost, double or dangling."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest
from mlflow.entities import LoggedModelStatus
from PIL import Image
from safetensors.torch import load_file

from kdops.models.classifier import digest_of
from kdops.utils.process import ProcessId
from tests import killing
from tests.conftest import Place, copy_database

# A machine may have much else to do, and the first test of all waits for studies that nobody disturbs.
pytestmark = pytest.mark.timeout(1800)

ROOT = Path(__file__).resolve().parent.parent

EPOCHS = "teacher=2,student=3,middle=3,reversed=1,born-again=1"
TEACHER = ["--teacher", "cnn(filters=8,layers=2,dropout=0.1)"]
TRANSITIVITY = ["transitivity", "--seeds", "1", "--temperatures", "1,4", "--epochs", EPOCHS, *TEACHER]
PAPER = ["paper", "--dataset", "digits", "--seeds", "1", "--temperatures", "1,4", "--middle-temperatures", "1"]
PAPER += [
    "--reversed-temperatures",
    "1",
    "--born-again-temperatures",
    "none",
    "--controls",
    "false",
    "--epochs",
    EPOCHS,
]
FOLDER = [
    "students",
    "--dataset",
    "imagefolder:../images",
    "--seeds",
    "1",
    "--temperatures",
    "1,4",
    "--epochs",
    "1",
    *TEACHER,
]
COMMANDS = {"transitivity": TRANSITIVITY, "paper": PAPER, "folder": FOLDER}

TIMINGS = {
    *("distillation_student_seconds", "distillation_hard_seconds", "distillation_source_seconds"),
    *("train_seconds", "train_peak_bytes", "latency_1", "latency_64"),
}
"""Metrics that are never twice the same."""

KILL = int(signal.SIGKILL)
MOMENTS = [
    ("transitivity", "an epoch", 7, "after"),
    *(("new store", "a statement of the database", number, "before") for number in (25, 150, 400, 900)),
    ("new store", "the experiment", 1, "after"),
    ("folder", "a decoded image", 20, "before"),
    ("folder", "keeping the decoded images", 2, "before"),
    ("folder", "keeping the decoded images", 4, "after"),
    ("transitivity", "the study's data", 1, "before"),
    ("transitivity", "the study's data", 1, "after"),
    ("transitivity", "an epoch", 1, "after"),
    ("transitivity", "a version", 5, "after"),
    ("transitivity", "an epoch", 4, "before"),
    ("transitivity", "an epoch", 13, "after"),
    ("transitivity", "a checkpoint", 2, "before"),
    ("transitivity", "a checkpoint", 6, "after"),
    ("transitivity", "a checkpoint's end", 2, "before"),
    ("transitivity", "a checkpoint's end", 3, "after"),
    ("transitivity", "measuring", 2, "before"),
    ("transitivity", "the package", 2, "before"),
    ("transitivity", "a run", 4, "after"),
    ("transitivity", "a logged model", 3, "after"),
    ("transitivity", "a model's folder", 5, "before"),
    ("transitivity", "a model's files", 4, "before"),
    ("transitivity", "a model's files", 1, "after"),
    ("transitivity", "a ready model", 6, "after"),
    ("transitivity", "inputs", 9, "after"),
    ("transitivity", "metrics", 7, "after"),
    ("transitivity", "a registered name", 2, "after"),
    ("transitivity", "a version", 1, "before"),
    ("transitivity", "a version", 9, "after"),
    ("transitivity", "a version's link", 8, "after"),
    ("transitivity", "metrics", 6, "before"),
    ("transitivity", "a run's end", 2, "before"),
    ("transitivity", "a run's end", 10, "after"),
    ("transitivity", "the alias", 1, "before"),
    ("transitivity", "the alias", 2, "after"),
    ("transitivity", "the results", 1, "before"),
    ("transitivity", "a figure", 2, "before"),
    ("transitivity", "the artifacts", 1, "before"),
    ("transitivity", "the artifacts", 1, "after"),
    ("paper", "a part of the study", 4, "after"),
    ("paper", "an ensemble", 1, "before"),
    ("paper", "an ensemble", 1, "after"),
    ("paper", "the report", 1, "before"),
    ("paper", "the report", 1, "after"),
    ("paper", "the artifacts", 7, "before"),
]


@pytest.mark.parametrize("moment", killing.MOMENTS)
def test_every_moment_names_a_function(moment):
    owner, name, _ = killing._function(killing.MOMENTS[moment])
    assert callable(getattr(owner, name))


class Server:
    """The process that forks those that are killed."""

    def __init__(self, folder: Path):
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "KDOPS_"))}
        environment = {**clean, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        self.log = open(folder / "server.txt", "w")  # noqa: SIM115 - closed with the server
        self.process = subprocess.Popen(
            [sys.executable, "-u", "-m", "tests.killing"],
            env=environment,
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
        )
        assert self.process.stdout.readline() == "ready\n"

    def run(self, *jobs) -> list[int]:
        """Run processes at the same time and give their exit codes; minus the signal of one that was killed."""
        self.process.stdin.write(json.dumps(jobs) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait(600)
        self.log.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    started = Server(tmp_path_factory.mktemp("server"))
    yield started
    started.close()


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Tiny images of two classes in folders."""
    folder = tmp_path_factory.mktemp("data")
    values = np.random.default_rng(0)
    for label in "ab":
        (folder / "images" / label).mkdir(parents=True)
        for number in range(40):
            pixels = values.integers(0, 120, (8, 8, 3), dtype=np.uint8) + np.uint8(100 * (label == "b"))
            Image.fromarray(pixels).save(folder / "images" / label / f"{number}.png")
    return folder / "images"


class Study:
    """A folder in which one command is run until it is through."""

    def __init__(self, server: Server, folder: Path, name: str, images: Path, database: Path | None):
        self.server, self.place = server, Place(folder / "here")
        self.place.folder.mkdir(parents=True)
        (folder / "images").symlink_to(images)
        self.command = COMMANDS.get(name, TRANSITIVITY)
        if database is not None:
            copy_database(database, self.place.database)

    def job(self, kill=None, command=None):
        environment = {
            "MLFLOW_TRACKING_URI": self.place.uri,
            "XDG_CACHE_HOME": str(self.place.folder / "cache"),
            "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
        }
        folder = str(self.place.folder)
        return {"folder": folder, "environment": environment, "kill": kill, "command": command or self.command}

    def run(self, kill=None) -> int:
        """Run the command once and give its exit code."""
        return self.server.run(self.job(kill))[0]

    def output(self) -> str:
        return (self.place.folder / "output.txt").read_text()

    def epochs(self) -> list:
        """Return every epoch that was trained here, one entry each."""
        path = self.place.folder / "epochs.txt"
        return [json.dumps(json.loads(line)) for line in path.read_text().splitlines()] if path.exists() else []


@pytest.fixture
def started(server, images, tmp_path, empty_database):
    """Return a way to begin a study of a name in a folder of its own."""

    def start(name: str) -> Study:
        return Study(server, tmp_path, name, images, None if name == "new store" else empty_database)

    return start


@pytest.fixture(scope="module")
def undisturbed(server, images, tmp_path_factory, empty_database):
    """Return what the store of a command holds where nothing happened, and the epochs that it trained."""
    made = {}

    def of(name: str):
        name = "transitivity" if name == "new store" else name
        if name not in made:
            study = Study(server, tmp_path_factory.mktemp("undisturbed"), name, images, empty_database)
            assert study.run() == 0, study.output()
            made[name] = content(study.place), study.epochs()
        return made[name]

    return of


def content(place: Place) -> dict:
    """Return all that a store holds in the end, without what is never twice the same; and see that it is whole."""
    client, runs = place.client, place.runs()
    assert {run.info.status for run in runs} <= {"FINISHED", "KILLED", "FAILED"}
    models = [run for run in runs if "kdops.role" in run.data.tags and run.info.status == "FINISHED"]
    versions = [version for version in client.search_model_versions(max_results=1000) if version.status == "READY"]
    # Every finished model has one version and one logged model, and there are no others.
    uris = {f"models:/{v.name}/{v.version}": v for v in versions}
    assert sorted(run.data.tags["kdops.model"] for run in models) == sorted(uris)
    logged = client.search_logged_models([runs[0].info.experiment_id], max_results=1000)
    assert sorted(one.source_run_id for one in logged) == sorted(run.info.run_id for run in models)
    assert {one.status for one in logged} == {LoggedModelStatus.READY}
    names = {uri: _identity(place, next(r for r in models if r.data.tags["kdops.model"] == uri)) for uri in uris}
    assert len(set(names.values())) == len(names), "a model is there twice"
    found = {}
    for run in models:
        version, tags = uris[run.data.tags["kdops.model"]], run.data.tags
        (one,) = (m for m in logged if m.source_run_id == run.info.run_id)
        weights = Path(one.artifact_location) / "weights.safetensors"
        # An ensemble is told by its members' versions, whose numbers go on after one that was withdrawn.
        unsteady = {"source", "study", *(["fingerprint"] if tags["kdops.role"] == "ensemble" else [])}
        assert version.run_id == run.info.run_id
        assert version.source == f"models:/{one.model_id}"
        found[names[tags["kdops.model"]]] = {
            "weights": digest_of(load_file(weights)) if weights.exists() else tags["kdops.weights"],
            "told weights": tags["kdops.weights"],
            "params": {k: v for k, v in run.data.params.items() if not k.startswith("latency")},
            "metrics": _steady(run.data.metrics),
            "history": [m.value for m in client.get_metric_history(run.info.run_id, "train_loss")],
            "version": {k: v for k, v in version.tags.items() if k not in unsteady},
        }
    champions = {}
    for model in client.search_registered_models():
        assert set(model.aliases) <= {"champion"}
        if alias := model.aliases.get("champion"):
            champions[model.name] = names[f"models:/{model.name}/{alias}"]
    parents = [run for run in runs if "kdops.role" not in run.data.tags and run.info.status == "FINISHED"]
    answers = {}
    for run in parents:
        if run.data.tags["kdops.study"] not in answers:
            table = pd.read_csv(place.artifact(run, "results.csv"))
            files = sorted(str(p.relative_to(run.info.artifact_uri)) for p in Path(run.info.artifact_uri).rglob("*.*"))
            answers[run.data.tags["kdops.study"]] = {
                "metrics": _steady(run.data.metrics),
                "verdict": run.data.tags.get("kdops.verdict"),
                "files": files,
                "models": sorted(table["model"].map(names)),
            }
    assert not list(place.folder.glob("kdops-checkpoints/*"))
    return {"models": found, "champions": champions, "answers": answers}


def differences(found, expected, where: str = "") -> list[str]:
    """Name every place where two contents differ."""
    if not (isinstance(found, dict) and isinstance(expected, dict)):
        return [] if found == expected else [f"{where}: {found} instead of {expected}"]
    names = sorted(found.keys() | expected.keys())
    return [line for name in names for line in differences(found.get(name), expected.get(name), f"{where} / {name}")]


def _identity(place: Place, run) -> str:
    """Return what a model is, its sources by their weights: numbers of versions differ where one was withdrawn."""
    source = run.data.tags["kdops.source"]
    through = source if source == "labels" else " ".join(sorted(place.weights_of(uri)[:8] for uri in source.split()))
    return f"{run.data.tags['kdops.chain']} {run.data.params['temperature']} {run.data.params['seed']} from {through}"


def _steady(metrics):
    return {name: value for name, value in metrics.items() if name not in TIMINGS}


@pytest.mark.slow
@pytest.mark.parametrize(("name", "moment", "number", "when"), MOMENTS)
def test_killed_at_any_moment(name, moment, number, when, started, undisturbed):
    check_kill(started(name), [moment, number, when, KILL], *undisturbed(name))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["transitivity", "paper"])
def test_killed_and_begun_again_until_it_is_through(name, started, undisturbed):
    study, (expected, epochs), kills = started(name), undisturbed(name), 0
    # Each start gets a little further, and what ends a start is another thing each time, withdrawing included.
    rounds = [
        ("an epoch", 2, "after"),
        ("a model's files", 1, "after"),
        ("a version", 1, "after"),
        ("withdrawing a version", 1, "before"),
        ("withdrawing a version", 1, "after"),
        ("withdrawing a model", 1, "before"),
        ("withdrawing a model", 1, "after"),
        ("a version's link", 2, "before"),
        ("a run's end", 3, "before"),
        ("a checkpoint", 1, "after"),
        ("metrics", 2, "after"),
    ]
    for attempt in range(60):
        kill = rounds[attempt % len(rounds)]
        code = study.run([*kill, KILL])
        if code == 0:
            break
        assert code == -KILL, study.output()
        kills += 1
    else:
        study.run()
    assert kills >= 8
    assert differences(content(study.place), expected) == []
    assert sorted(set(study.epochs())) == sorted(set(epochs))
    assert len(study.epochs()) <= len(epochs) + kills


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(
    ("moment", "number", "when"),
    [
        ("an epoch", 4, "before"),
        ("a checkpoint", 2, "after"),
        ("a model's files", 4, "before"),
        ("a version", 5, "after"),
        ("a run's end", 5, "before"),
        ("the alias", 1, "after"),
        ("a figure", 1, "before"),
    ],
)
def test_an_interrupted_study_ends_its_runs_at_once(moment, number, when, how, started, undisturbed):
    study, (expected, epochs) = started("transitivity"), undisturbed("transitivity")
    assert study.run([moment, number, when, int(how)]) == 1, study.output()
    assert study.output().splitlines()[-1].endswith("interrupted")
    # In order: no run is left to the next study.
    assert {run.info.status for run in study.place.runs()} <= {"FINISHED", "KILLED", "FAILED"}
    assert study.run() == 0, study.output()
    assert differences(content(study.place), expected) == []
    assert len(study.epochs()) <= len(epochs) + 1


@pytest.mark.slow
def test_two_equal_studies_at_once_make_each_model_once(started, undisturbed):
    study, (expected, epochs) = started("folder"), undisturbed("folder")
    assert study.server.run(study.job(), study.job()) == [0, 0], study.output()
    assert differences(content(study.place), expected) == []
    assert sorted(study.epochs()) == sorted(epochs)
    assert [run.info.status for run in study.place.studies()] == ["FINISHED", "FINISHED"]
    # The images were decoded once, and what a process half made is gone.
    assert len(list(study.place.folder.glob("cache/kdops/decoded/*.images.npy"))) == 1
    assert not list(study.place.folder.glob("cache/kdops/decoded/*.tmp"))


@pytest.mark.slow
def test_eight_studies_that_start_together_on_a_fresh_store(started):
    study = started("new store")
    common = ["--seeds", "1", "--temperatures", "1,4", "--epochs", "teacher=1,student=2", *TEACHER]
    jobs = [study.job(command=["students", "--seed", str(seed), *common]) for seed in range(8)]
    assert study.server.run(*jobs) == [0] * 8, study.output()
    place = study.place
    content(place)
    assert [e.name for e in place.client.search_experiments()] == ["kdops", "Default"]
    assert [run.info.status for run in place.runs()] == ["FINISHED"] * 8 * 5
    for role, count, epochs in (("teacher", 8, 1), ("student", 24, 2)):
        versions = place.client.search_model_versions(f"name = 'kdops-digits-{role}'", max_results=1000)
        assert sorted(int(version.version) for version in versions) == list(range(1, count + 1))
        runs = [run for run in place.children() if run.data.tags["kdops.role"] == role]
        best = min(runs, key=lambda r: (-r.data.metrics["val_accuracy"], r.data.metrics["val_nll"]))
        champion = place.client.get_model_version_by_alias(f"kdops-digits-{role}", "champion")
        assert champion.run_id == best.info.run_id
        for run in runs:
            for metric in ("train_loss", "val_accuracy"):
                history = place.client.get_metric_history(run.info.run_id, metric)
                assert sorted(one.step for one in history) == list(range(1, epochs + 1))


KDOPS = [sys.executable, "-c", "import sys; from kdops.cli.app import main; sys.exit(main())"]
MLFLOW = [sys.executable, "-m", "mlflow", "run", str(ROOT), "--env-manager", "local", "--experiment-name", "kdops"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("program", "how", "whom"),
    [
        (KDOPS, signal.SIGINT, "launcher"),
        (KDOPS, signal.SIGTERM, "launcher"),
        (KDOPS, signal.SIGKILL, "launcher"),
        (KDOPS, signal.SIGKILL, "child"),
        (MLFLOW, signal.SIGTERM, "launcher"),
        (MLFLOW, signal.SIGKILL, "launcher"),
        (MLFLOW, signal.SIGTERM, "child"),
    ],
    ids=lambda value: {str(KDOPS): "kdops", str(MLFLOW): "mlflow"}.get(str(value)),
)
def test_a_launched_study_that_gets_a_signal(program, how, whom, started, undisturbed):
    study, (expected, _) = started("transitivity"), undisturbed("transitivity")
    entry_point, *options = study.command
    if program is MLFLOW:
        names = (option.removeprefix("--") for option in options[::2])
        options = [f"-P{name}={value}" for name, value in zip(names, options[1::2], strict=True)]
        options = ["-e", entry_point, *options]
    else:
        options = [entry_point, *options]
    environment = {**os.environ, **study.job()["environment"], "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    environment["PATH"] = f"{os.path.dirname(sys.executable)}{os.pathsep}{environment['PATH']}"
    with open(study.place.folder / "output.txt", "a") as output:
        launcher = subprocess.Popen(
            [*program, *options],
            cwd=study.place.folder,
            env=environment,
            stdout=output,
            stderr=output,
            # A test run in a shell's background inherits an ignored SIGINT, which is rightly kept ignored.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        child = _wait_for(lambda: _child(study.place))
        os.kill(launcher.pid if whom == "launcher" else child, how)
        assert launcher.wait(600) != 0
    _wait_for(lambda: not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE)
    if program is KDOPS and how != signal.SIGKILL:
        assert [run.info.status for run in study.place.studies()] == ["KILLED"]
    assert study.run() == 0, study.output()
    assert differences(content(study.place), expected) == []


def _child(place: Place) -> int | None:
    """Return the process of a study once some of its models are finished."""
    if sum("kdops.role" in run.data.tags and run.info.status == "FINISHED" for run in place.runs()) < 2:
        return None
    (parent,) = place.studies()
    return ProcessId.parse(parent.data.tags["kdops.process"]).pid


def _wait_for(question, seconds=600.0):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if answer := question():
            return answer
        time.sleep(0.2)
    raise AssertionError("waited too long")


def check_kill(study, kill, expected, epochs):
    assert study.run(kill) == -kill[3], study.output()
    assert study.run() == 0, study.output()
    assert differences(content(study.place), expected) == []
    # Nothing is trained twice but the epoch that was cut off, whose end nobody saw.
    trained = study.epochs()
    assert sorted(set(trained)) == sorted(set(epochs))
    assert len(epochs) <= len(trained) <= len(epochs) + 1
