"""Studies through a real MLflow server: its own database, its own artifacts, users, and interruptions."""

from __future__ import annotations

import json
import os
import re
import secrets
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml

from tests.conftest import PAPER
from tests.servers import LOCAL, ROOT, Gateway, Server, free_port, mlflow_server, postgres, skip_without_postgres

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

COMPOSE = ROOT / "deploy" / "server" / "compose.yaml"

AWAY = 20.0
"""Seconds for which the server is away in the middle of a study."""

SMALL = {
    **PAPER,
    "seeds": "1",
    "temperatures": "1,2",
    "middle_temperatures": "1",
    "reversed_temperatures": "1",
    "born_again_temperatures": "none",
    "controls": "false",
}
"""The whole paper with as few models as it can have: each costs a server some twenty requests."""


def environment_of(uri: str, tmp_path: Path, **more: str) -> dict[str, str]:
    """Return an environment that knows the server and nothing of the caller's MLflow and kdops settings."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "KDOPS_"))}
    return {
        **kept,
        "MLFLOW_TRACKING_URI": uri,
        "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        **more,
    }


def kdops(*arguments: str) -> list[str]:
    return [sys.executable, "-c", "import sys; from kdops.cli.app import main; sys.exit(main())", *arguments]


def options(given: Mapping[str, str]) -> list[str]:
    return [word for name, value in given.items() for word in (f"--{name.replace('_', '-')}", value)]


def client_of(uri: str):
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=uri, registry_uri=uri)


def everything(search, *what, **how) -> list:
    """Read all pages of a search."""
    found, token = [], None
    while True:
        page = search(*what, page_token=token, **how)
        found += page
        token = page.token
        if not token:
            return found


def check_whole(client, roles: Mapping[str, int] | None = None) -> Counter:
    """Check that a study left each model once, whole, and nothing that dangles; count the models by role."""
    experiment = client.get_experiment_by_name("kdops").experiment_id
    runs = everything(client.search_runs, [experiment], max_results=500)
    assert {run.info.status for run in runs} == {"FINISHED"}
    models = [run for run in runs if "kdops.role" in run.data.tags]
    twice = Counter(run.data.tags["kdops.fingerprint"] for run in models)
    assert set(twice.values()) == {1}, "one model is there twice"
    parents = {run.info.run_id for run in runs} - {run.info.run_id for run in models}
    assert {run.data.tags["mlflow.parentRunId"] for run in models} <= parents
    versions = everything(client.search_model_versions, "name LIKE 'kdops-%'", max_results=200)
    assert sorted(version.run_id for version in versions) == sorted(run.info.run_id for run in models)
    assert {version.status for version in versions} == {"READY"}
    logged = everything(client.search_logged_models, [experiment], max_results=200)
    assert sorted(model.source_run_id for model in logged) == sorted(run.info.run_id for run in models)
    assert {str(model.status) for model in logged} == {"READY"}
    for name in {version.name for version in versions}:
        assert client.get_model_version_by_alias(name, "champion").run_id in {run.info.run_id for run in models}
    assert {run.info.status for run in _deleted(client)} <= {"KILLED"}
    return Counter(run.data.tags["kdops.role"] for run in models)


def _deleted(client) -> list:
    from mlflow.entities import ViewType

    experiment = client.get_experiment_by_name("kdops").experiment_id
    return list(client.search_runs([experiment], run_view_type=ViewType.DELETED_ONLY, max_results=1000))


@pytest.fixture(scope="module")
def calm(tmp_path_factory) -> Counter:
    """How many models of each role the small study has on a local store, where nothing happens to it."""
    folder = tmp_path_factory.mktemp("calm")
    environment = environment_of(f"sqlite:///{folder}/mlflow.db", folder)
    subprocess.run(kdops("paper", *options(SMALL)), cwd=folder, env=environment, check=True, timeout=1500)
    return check_whole(client_of(environment["MLFLOW_TRACKING_URI"]))


@pytest.fixture
def guarded(tmp_path):
    """MLflow's server with users, on PostgreSQL, with the settings of ``deploy/``."""
    skip_without_postgres()
    credentials = {"MLFLOW_AUTH_ADMIN_USERNAME": "boss", "MLFLOW_AUTH_ADMIN_PASSWORD": secrets.token_urlsafe(16)}
    with postgres(("mlflow", "auth")) as database:
        environment = {
            **database,
            **credentials,
            "MLFLOW_AUTH_CONFIG_PATH": str(COMPOSE.with_name("basic_auth.ini")),
            "MLFLOW_FLASK_SERVER_SECRET_KEY": secrets.token_urlsafe(32),
        }
        with mlflow_server(tmp_path, environment, *_composed(tmp_path)) as server:
            yield server, credentials


def _composed(folder: Path) -> list[str]:
    """Return the arguments of the server in the compose file, as far as they are not its place."""
    _, _, *words = yaml.safe_load(COMPOSE.read_text())["services"]["mlflow"]["command"]
    words = [re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", word) for word in words]
    words = [word.replace("=/artifacts", f"={folder}/artifacts") for word in words]
    return [word for word in words if not word.startswith(("--host", "--port", "--workers"))]


def test_a_study_through_a_server_that_goes_away_for_a_while(guarded, calm, tmp_path, monkeypatch):
    server, credentials = guarded
    user = {
        "MLFLOW_TRACKING_USERNAME": credentials["MLFLOW_AUTH_ADMIN_USERNAME"],
        "MLFLOW_TRACKING_PASSWORD": credentials["MLFLOW_AUTH_ADMIN_PASSWORD"],
    }
    environment = environment_of(server.uri, tmp_path, **user)
    for name in [name for name in os.environ if name.startswith(("MLFLOW_", "KDOPS_"))]:
        monkeypatch.delenv(name)
    for name, value in {**user, "MLFLOW_TRACKING_URI": server.uri}.items():
        monkeypatch.setenv(name, value)

    # Nobody gets in without the password, and that is told in one line.
    stranger = subprocess.run(
        kdops("runs"),
        cwd=tmp_path,
        env={**environment, "MLFLOW_TRACKING_PASSWORD": "guessed"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert stranger.returncode == 1
    assert stranger.stderr.count("\n") == 1, stranger.stderr
    assert "guessed" not in stranger.stderr

    client = client_of(server.uri)
    with open(tmp_path / "study.log", "w") as log:
        study = subprocess.Popen(
            kdops("paper", *options(SMALL)), cwd=tmp_path, env=environment, stdout=log, stderr=subprocess.STDOUT
        )
    try:
        _wait_for_models(client, study, 3)
        before = _finished(client)
        server.stop()
        time.sleep(AWAY)
        assert study.poll() is None, (tmp_path / "study.log").read_text()
        server.start()
        assert study.wait(1500) == 0, (tmp_path / "study.log").read_text()
    finally:
        study.kill()
    assert _finished(client) > before
    assert check_whole(client) == calm
    _use(server, environment, tmp_path)


def _finished(client) -> int:
    experiment = client.get_experiment_by_name("kdops")
    if experiment is None:
        return 0
    where = "attributes.status = 'FINISHED' and tags.`kdops.model` != ''"
    return len(client.search_runs([experiment.experiment_id], where, max_results=1000))


def _wait_for_models(client, study: subprocess.Popen, count: int) -> None:
    end = time.monotonic() + 600
    while time.monotonic() < end and study.poll() is None:
        if _finished(client) >= count:
            return
        time.sleep(1)
    raise AssertionError(f"no {count} models in time; the study gave {study.poll()}")


def _use(server: Server, environment: dict[str, str], folder: Path) -> None:
    """Look models up, load them, serve one, and study on, with nothing but the server's address."""

    def say(*arguments: str) -> str:
        done = subprocess.run(
            kdops(*arguments), cwd=folder, env=environment, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    rows = say("runs", "--csv").splitlines()
    assert len(rows) > 8
    assert "labels of digits" in say("lineage", "kdops-digits-ensemble@champion")
    assert "the same class on 100.0 %" in say("export", "kdops-digits-student@champion", "--format", "pt2")
    client = client_of(server.uri)
    parent = max(
        (
            run
            for run in client.search_runs([client.get_experiment_by_name("kdops").experiment_id], max_results=1000)
            if run.data.tags.get("kdops.study") == "paper" and "kdops.role" not in run.data.tags
        ),
        key=lambda run: run.info.start_time,
    )
    assert "report.md" in say("report", parent.info.run_id)
    assert "reused" in say("students", *options({n: v for n, v in SMALL.items() if n in STUDENTS}))

    port = free_port()
    command = ["models", "serve", "-m", "models:/kdops-digits-ensemble@champion", "--env-manager", "local"]
    path = os.pathsep.join([os.path.dirname(sys.executable), environment["PATH"]])
    with open(folder / "serve.log", "w") as log:
        serving = subprocess.Popen(
            [sys.executable, "-m", "mlflow", *command, "--host", LOCAL, "--port", str(port)],
            cwd=folder,
            env={**environment, "PATH": path},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    model = Server(folder, {}, (), port, serving)
    try:
        answer = _ask(model, {"inputs": [[[[0] * 8] * 8]] * 2, "params": {"output": "classes"}})
        assert len(answer["predictions"]) == 2
    finally:
        model.stop()


STUDENTS = {"dataset", "temperatures", "seeds", "student", "middle", "epochs"}


def _ask(server: Server, question: dict) -> dict:
    from urllib.request import Request, urlopen

    asked = Request(f"{server.uri}/invocations", json.dumps(question).encode(), {"Content-Type": "application/json"})
    end = time.monotonic() + 180
    while True:
        try:
            with urlopen(asked, timeout=60) as answer:
                return json.load(answer)
        except OSError:
            if time.monotonic() > end or server.process.poll() is not None:
                raise
            time.sleep(0.5)


CREATING = ("/runs/create", "/logged-models", "/model-versions/create", "/registered-models/create")


def test_what_is_sent_twice_is_there_once(calm, tmp_path, monkeypatch):
    """Every second request that makes something is carried out and its answer lost, so that it is sent again."""
    sent: Counter[str] = Counter()

    def lost(method: str, path: str) -> bool:
        if method != "POST" or not path.endswith(CREATING):
            return False
        sent[path] += 1
        return sent[path] % 2 == 1

    arguments = ("--backend-store-uri", f"sqlite:///{tmp_path}/server.db", "--serve-artifacts")
    arguments += ("--artifacts-destination", str(tmp_path / "artifacts"))
    for name in [name for name in os.environ if name.startswith(("MLFLOW_", "KDOPS_"))]:
        monkeypatch.delenv(name)
    with (
        mlflow_server(tmp_path, {}, *arguments) as server,
        Gateway(server.port, lost).serving() as gateway,
    ):
        environment = environment_of(gateway.uri, tmp_path)
        done = subprocess.run(
            kdops("paper", *options(SMALL)), cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=1500
        )
        assert done.returncode == 0, done.stderr
        assert {end for end in CREATING for path in gateway.losses if path.endswith(end)} == set(CREATING)
        assert len(gateway.losses) > 8, gateway.losses
        client = client_of(server.uri)
        assert check_whole(client) == calm
        # Every double of a run was found, that of the study itself among them.
        lost_runs = sum(path.endswith("/runs/create") for path in gateway.losses)
        assert len(_deleted(client)) == lost_runs


def test_a_server_that_is_not_there_is_told_of_soon(tmp_path):
    started = time.monotonic()
    subprocess.run(kdops("runs"), cwd=tmp_path, env=environment_of("", tmp_path), capture_output=True, timeout=600)
    # Most of the time is that of imports, which a busy machine makes many times longer.
    busy, started = time.monotonic() - started, time.monotonic()
    for arguments in (["teacher", "--epochs", "1"], ["runs"]):
        done = subprocess.run(
            kdops(*arguments),
            cwd=tmp_path,
            env=environment_of(f"http://{LOCAL}:{free_port()}", tmp_path),
            capture_output=True,
            text=True,
            timeout=600,
        )
        assert done.returncode == 1
        assert done.stdout == ""
        assert done.stderr.count("\n") == 1, done.stderr
        assert "cannot be used" in done.stderr
    assert time.monotonic() - started < 60 + 4 * busy
