"""Stores of a test's own, and one finished study that many tests look at."""

from __future__ import annotations

import gc
import os
import pickle
import shutil
import signal
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

from kdops.config.roles import streams_of

if "PYTEST_XDIST_WORKER" in os.environ:
    # The tests share the cores already; threads of torch that wait for each other would make them many times slower.
    os.environ["OMP_NUM_THREADS"] = "1"

# Under nohup a hangup is ignored, and in the background of a script an interrupt, also by what tests start; here both
# mean what they mean in a terminal.
if hasattr(signal, "SIGHUP"):
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
signal.signal(signal.SIGINT, signal.default_int_handler)

# Beside all that torch and MLflow hold, collections took a thirteenth of the time.
gc.set_threshold(20_000, 20, 50)

# What tests start compiles every file of kdops anew otherwise, each time.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

SLOW_SECONDS = 1800
"""So long a slow test may take where it says nothing else: a limit only guards against hanging."""

FAST = {"temperatures": "1,4", "seeds": "2", "epochs": "teacher=2,student=3,middle=3"}
"""Small settings on digits: chance level is enough where only the tracking is looked at."""

PLACES = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "storage_location"),
    ("experiment_tags", "value"),
)
"""Where a store's database says where files are."""

PAPER = {
    **FAST,
    "dataset": "digits",
    "temperatures": "1,2,4",
    "middle_temperatures": "1,6",
    "reversed_temperatures": "1,4",
    "born_again_temperatures": "1",
    "epochs": "teacher=2,student=3,middle=3,reversed=1,born-again=1",
}
"""The whole paper as small as that: the sweeps overlap in part."""


@cache
def _orders_of():
    """Return what makes orders, as it is before any test counts it."""
    return import_module("kdops.training.sweep_orders").Orders.of


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give slow tests more time than others, on a machine that has much else to do."""
    for item in items:
        if item.get_closest_marker("slow") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(SLOW_SECONDS))


@dataclass
class Call:
    """One sweep that was trained: what on what."""

    role: str
    members: list[tuple[int, float]]
    pixels: np.ndarray
    labels: np.ndarray


@dataclass
class Place:
    """A folder with a sqlite store of its own; while it is entered, all of MLflow works in it."""

    folder: Path
    calls: list[Call] = field(default_factory=list)

    @property
    def database(self) -> Path:
        return self.folder / "mlflow.db"

    @property
    def uri(self) -> str:
        return f"sqlite:///{self.database}"

    @property
    def client(self):
        from mlflow import MlflowClient

        return MlflowClient(tracking_uri=self.uri, registry_uri=self.uri)

    def enter(self, patch: pytest.MonkeyPatch) -> Place:
        """Work here from now on, with nothing of the caller's MLflow and kdops settings."""
        import matplotlib.font_manager  # noqa: F401 - it reads its own cache before the folder moves
        import mlflow

        import kdops.training.sweep_orders

        for name in [name for name in os.environ if name.startswith(("MLFLOW_", "KDOPS_"))]:
            patch.delenv(name)
        patch.setenv("MLFLOW_TRACKING_URI", self.uri)
        patch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
        patch.setenv("XDG_CACHE_HOME", str(self.folder / "cache"))
        patch.chdir(self.folder)
        assert mlflow.get_tracking_uri() == mlflow.get_registry_uri() == self.uri
        patch.setattr(kdops.training.sweep_orders.Orders, "of", self._counted(_orders_of()))
        return self

    def settings(self, entry_point: str, **given: object):
        """Return the settings of a study, small unless told otherwise."""
        from kdops.config.settings import Settings

        return Settings.parse(entry_point, **{**FAST, **{name: str(value) for name, value in given.items()}})

    def run(self, entry_point: str, **given: object):
        """Run a study in this process and give its parent run."""
        import_module(f"pipelines.{entry_point}").main(self.settings(entry_point, **given))
        return self.studies()[0]

    def plan(self, entry_point: str, **given: object) -> None:
        """Print what a study would do."""
        import_module(f"pipelines.{entry_point}").main(self.settings(entry_point, dry_run="true", **given))

    def runs(self) -> list:
        """Return every run, the latest first."""
        client = self.client
        experiment = client.get_experiment_by_name("kdops")
        found, token = [], None
        while experiment is not None:
            page = client.search_runs(
                [experiment.experiment_id], max_results=500, page_token=token, order_by=["start_time DESC"]
            )
            found += page
            token = page.token
            if not token:
                break
        return found

    def studies(self) -> list:
        """Return the parent runs, the latest first."""
        return [run for run in self.runs() if "mlflow.parentRunId" not in run.data.tags]

    def children(self, parent=None) -> list:
        """Return the child runs, of one study or of all."""
        wanted = None if parent is None else parent.info.run_id
        found = [run for run in self.runs() if "mlflow.parentRunId" in run.data.tags]
        return [run for run in found if wanted in (None, run.data.tags["mlflow.parentRunId"])]

    def weights(self) -> dict[tuple[str, str, str, str], str]:
        """Return the digest of the weights of every model that finished, by what it is; the same digest if twice."""
        found: dict[tuple[str, str, str, str], str] = {}
        for run in self.children():
            # A part of a whole study is no model.
            if run.info.status == "FINISHED" and "kdops.role" in run.data.tags:
                params, tags = run.data.params, run.data.tags
                source = tags["kdops.source"]
                through = source if source == "labels" else " ".join(map(self.weights_of, source.split()))
                key = (tags["kdops.chain"], through, params["temperature"], params["seed"])
                assert found.setdefault(key, tags["kdops.weights"]) == tags["kdops.weights"], key
        return found

    def weights_of(self, uri: str) -> str:
        """Return the digest of the weights of a registered model."""
        name, version = uri.removeprefix("models:/").rsplit("/", 1)
        run = self.client.get_model_version(name, version).run_id
        return self.client.get_run(run).data.tags["kdops.weights"]

    def trained(self) -> list[tuple[str, int, float]]:
        """Return (role, seed, temperature) of all that was trained here."""
        return [(call.role, *member) for call in self.calls for member in call.members]

    def artifact(self, run, path: str) -> Path:
        """Return the file of an artifact of a run."""
        return Path(run.info.artifact_uri) / path

    def _counted(self, orders_of):
        """Note what is trained, and make orders of it."""

        def counted(orders, units, rows):
            members = [(unit.record.seed, unit.record.temperature) for unit in units]
            own = rows[rows < len(orders.context.data.labels)]
            pixels, labels = (
                np.array(values[own]) for values in (orders.context.data.images, orders.context.data.labels)
            )
            self.calls.append(Call(streams_of(units[0].task.role), members, pixels, labels))
            return orders_of(orders, units, rows)

        return counted


@pytest.fixture(scope="module", autouse=True)
def _old_objects_are_left_alone() -> Iterator[None]:
    """Keep what is loaded out of garbage collection: beside torch and MLflow each takes a tenth of a second."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory) -> Path:
    """Make a database with MLflow's tables once: its migrations take seconds."""
    from kdops.store.database import ensure_store

    folder = tmp_path_factory.mktemp("empty")
    with pytest.MonkeyPatch.context() as patch:
        place = Place(folder).enter(patch)
        ensure_store(place.uri)
    return place.database


@pytest.fixture(scope="session")
def done(empty_database, tmp_path_factory) -> Place:
    """A finished transitivity study of two replicates. Look at it and change nothing: ``fork`` gives a copy."""
    return finished("done", empty_database, tmp_path_factory, "transitivity")


@pytest.fixture(scope="session")
def whole(empty_database, tmp_path_factory) -> Place:
    """A finished study of the whole paper. Look at it and change nothing: ``fork_of_whole`` gives a copy."""
    return finished("whole", empty_database, tmp_path_factory, "paper", **PAPER)


@pytest.fixture(scope="session")
def small(empty_database, tmp_path_factory) -> Place:
    """A finished study of a teacher and three students. Change nothing: ``apart`` gives a copy, files and all."""
    return finished("small", empty_database, tmp_path_factory, "students", seeds=1)


def finished(name: str, empty_database: Path, factory: pytest.TempPathFactory, entry_point: str, **given) -> Place:
    """Return the store of a study that one of the test processes runs and the others copy.

    One that comes while another runs it does not wait, but runs it too.
    """
    own = Place(factory.mktemp(name))
    shared = factory.getbasetemp().parent / f"{name}.pickle" if "PYTEST_XDIST_WORKER" in os.environ else None
    if shared is not None and shared.exists():
        there: Place = pickle.loads(shared.read_bytes())
        copy_files(there, own)
        own.calls.extend(there.calls)
        return own
    copy_database(empty_database, own.database)
    with pytest.MonkeyPatch.context() as patch:
        own.enter(patch).run(entry_point, **given)
    if shared is not None:
        written = own.folder / "place"
        written.write_bytes(pickle.dumps(own))
        written.replace(shared)
    return own


@pytest.fixture
def apart(small, tmp_path, monkeypatch) -> Place:
    """A copy of the small study's store with files of its own, which may be damaged."""
    place = Place(tmp_path / "apart")
    place.folder.mkdir()
    copy_files(small, place)
    return place.enter(monkeypatch)


@pytest.fixture
def store(empty_database, tmp_path, monkeypatch) -> Iterator[Place]:
    """An empty store."""
    place = Place(tmp_path)
    copy_database(empty_database, place.database)
    return place.enter(monkeypatch)


@pytest.fixture
def look(done, monkeypatch) -> Place:
    """The finished study, entered; for what writes nothing."""
    return done.enter(monkeypatch)


@pytest.fixture
def fork(done, tmp_path, monkeypatch) -> Place:
    """A copy of the store of the finished study, which goes on by itself."""
    place = Place(tmp_path)
    copy_database(done.database, place.database)
    return place.enter(monkeypatch)


@pytest.fixture
def fork_of_whole(whole, tmp_path, monkeypatch) -> Place:
    """A copy of the store of the finished paper, which goes on by itself."""
    place = Place(tmp_path)
    copy_database(whole.database, place.database)
    return place.enter(monkeypatch)


@pytest.fixture
def nowhere(tmp_path, monkeypatch) -> Place:
    """An empty folder whose store does not exist yet."""
    return Place(tmp_path).enter(monkeypatch)


def copy_files(source: Place, target: Place) -> None:
    """Copy a store, and let its database say that its files are in the copy."""
    shutil.copytree(source.folder / "mlruns", target.folder / "mlruns")
    copy_database(source.database, target.database)
    with sqlite3.connect(target.database) as database:
        for table, column in PLACES:
            change = f"UPDATE {table} SET {column} = replace({column}, ?, ?)"
            database.execute(change, (str(source.folder), str(target.folder)))
    database.close()


def copy_database(source: Path, target: Path) -> None:
    """Copy a database with what is still in its log; what is written from now on goes beside the copy."""
    with sqlite3.connect(source) as old, sqlite3.connect(target) as new:
        old.backup(new)
        new.execute("UPDATE experiments SET artifact_location = ? || experiment_id", (f"{target.parent}/mlruns/",))
        new.execute("UPDATE experiment_tags SET value = ? WHERE key = 'kdops.database'", (str(target),))
    old.close()
    new.close()
