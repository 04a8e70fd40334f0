"""What the store has already: finished models by fingerprint, by URI and by role. It only reads.

Nothing here reads the whole store. A sweep asks for the runs that could be its models, by their parameters, so
that the number of requests depends on the sweep alone and what is read on how often the like was trained.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Protocol

import mlflow
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from kdops.config.uris import ModelUri
from kdops.data.dataset import Dataset
from kdops.data.splits import Split
from kdops.registry.lookup import finished_run, runs_of, uri_of, versions_of_runs
from kdops.registry.versions import Registry
from kdops.store.client import among, is_quotable, paged, quoted
from kdops.store.database import store_exists
from kdops.store.experiment import experiment_name
from kdops.sweeps import schema
from kdops.sweeps.model import Model
from kdops.sweeps.params import ARCHITECTURE, BATCH_SIZE, EPOCHS, LEARNING_RATE

MOST_IDS = 1000
"""Most runs that a filter leaves out by id: MLflow's parser reads no more than 10,000 tokens."""

TELLING = (ARCHITECTURE, EPOCHS, BATCH_SIZE, LEARNING_RATE)
"""Parameters that models of one chain and seed differ in most, beside the temperature."""


class Wanted(Protocol):
    """A model that is looked for: a unit, or the outcome of one."""

    @property
    def record(self) -> Model:
        """The model as it would be logged."""

    @property
    def fingerprint(self) -> str:
        """The digest of all that decides its weights."""

    @property
    def training(self) -> str:
        """The digest without the stack that it is trained in."""


class KnownModels:
    """The finished and still registered models of a data set and split.

    A store that is not there yet has no models, and is not made.
    """

    def __init__(self, data: Dataset, split: Split):
        self.data, self.split = data, split
        self._keys: dict[str, set[str]] = {}
        """What the models of the runs that were read are found by, by run."""
        self._read: dict[str, set[str]] = {}
        """The runs that were read, by filter."""

    def find(self, wanted: Iterable[Wanted]) -> dict[str, Model]:
        """Look for models, and return those that are there by fingerprint and by training; of equal ones the latest."""
        wanted = list(wanted)
        keys = {key for one in wanted for key in (one.fingerprint, one.training)}
        new = {
            run.info.run_id: run
            for where in dict.fromkeys(self._where(one.record) for one in wanted)
            for run in self._unread(where)
        }
        chosen = [run_id for run_id, own in self._keys.items() if own & keys]
        # What was read for an earlier sweep may be gone by now.
        again = list(self._finished([run_id for run_id in chosen if run_id not in new]))
        runs = [*again, *(new[run_id] for run_id in chosen if run_id in new)]
        runs.sort(key=lambda run: -run.info.start_time)
        found: dict[str, Model] = {}
        # Newest first: the latest of equals wins.
        for run, model in schema.readable(self._registered(runs)):
            for key in _keys(run):
                found.setdefault(key, model)
        return found

    def of_uri(self, uri: str) -> Model | None:
        """Return the model of a URI; None where there is none of this data set and split."""
        if not ModelUri.fits(uri) or not (given := ModelUri.parse(uri)).version or not self._is_there():
            return None
        try:
            version = MlflowClient().get_model_version(given.name, given.version)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return None
        run = finished_run(MlflowClient(), version)
        return None if run is None else next(self._own([run], {uri}), None)

    def of_role(self, role: str) -> list[Model]:
        """Return every model of a role, the latest first."""
        if not self._is_there():
            return []
        client = MlflowClient()
        versions = list(Registry(client, self.data, self.split).of_role(role))
        runs = sorted(runs_of(client, versions).values(), key=lambda run: -run.info.start_time)
        return list(self._own(runs, set(map(uri_of, versions))))

    def transfers_of(self, role: str) -> Counter[str]:
        """Count the registered models of a role that learned here from these data, whatever the split, by transfer."""
        return Registry(MlflowClient(), self.data, self.split).transfers_of(role) if self._is_there() else Counter()

    def _own(self, runs: Iterable[Run], uris: set[str]) -> Iterator[Model]:
        """Yield the models of this data set and split that have one of these URIs."""
        for _, model in schema.readable(runs):
            if (model.dataset, model.split) == (self.data.name, self.split.digest) and model.uri in uris:
                yield model

    def _where(self, record: Model) -> str:
        """Return the filter of the runs that could be a model of this kind."""
        asked = {
            f"tags.`{schema.SPLIT}`": self.split.digest,
            f"tags.`{schema.DATASET}`": self.data.name,
            f"tags.`{schema.CHAIN}`": record.chain,
            "params.seed": str(record.seed),
            **{f"params.{name}": record.params[name] for name in TELLING if name in record.params},
        }
        where = f"tags.`{schema.MODEL}` != '' and attributes.status = 'FINISHED'"
        for name, text in asked.items():
            # What a filter cannot express, such as the path of a network of the caller's, is left out: more is read.
            if is_quotable(text):
                where += f" and {name} = '{text}'"
        return where

    def _unread(self, where: str) -> Iterator[Run]:
        """Yield the runs of this experiment that a filter leaves and that were not read for it before.

        A study has many sweeps of the same kind, each of which would read again what those before it made.
        """
        read = self._read.setdefault(where, set())
        but = f" and attributes.run_id NOT IN ({', '.join(map(quoted, sorted(read)))})" if read else ""
        for run in self._runs(where if len(read) > MOST_IDS else where + but):
            if run.info.run_id in read:
                continue
            read.add(run.info.run_id)
            self._keys[run.info.run_id] = _keys(run)
            yield run

    def _finished(self, run_ids: list[str]) -> Iterator[Run]:
        """Yield those runs that are finished and still there."""
        for where in among("attributes.run_id", run_ids):
            yield from self._runs(f"attributes.status = 'FINISHED' and {where}")

    def _runs(self, where: str) -> Iterator[Run]:
        """Yield the runs of this experiment that a filter leaves."""
        if not self._is_there():
            return
        client = MlflowClient()
        experiment = client.get_experiment_by_name(experiment_name())
        if experiment is not None:
            yield from paged(client.search_runs, [experiment.experiment_id], where)

    def _registered(self, runs: list[Run]) -> Iterator[Run]:
        """Yield those runs whose version is registered, and records that they made it."""
        if runs:
            ids = [run.info.run_id for run in runs]
            found = {(v.run_id, uri_of(v)) for v in versions_of_runs(MlflowClient(), ids)}
            yield from (run for run in runs if (run.info.run_id, run.data.tags[schema.MODEL]) in found)

    def _is_there(self) -> bool:
        return store_exists(mlflow.get_tracking_uri())


def _keys(run: Run) -> set[str]:
    """Return what a run's model is found by."""
    return {run.data.tags[key] for key in (schema.FINGERPRINT, schema.TRAINING) if key in run.data.tags}
