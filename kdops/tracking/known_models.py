"""What the store has already: finished models by fingerprint. It only reads."""

from __future__ import annotations

import time

import mlflow
from mlflow import MlflowClient
from mlflow.entities import Run

from kdops.data.dataset import Dataset
from kdops.data.splits import Split
from kdops.registry.versions import Registry
from kdops.store.client import paged
from kdops.store.database import store_exists
from kdops.store.experiment import experiment_name
from kdops.sweeps import schema
from kdops.sweeps.model import Model

__all__ = ["KnownModels"]

PAGE = 1000

STORED_WITHIN = 3 * 3600.0
"""A run tells when its training ended; it is found once its model is stored, and all of a large fleet are stored one
after another. What ended so many seconds before the last look is looked for again."""


class KnownModels:
    """Every finished and still registered model of a data set and split, as far as it was looked for.

    Args:
        data: the data set.
        split: the split.

    Attributes:
        records: the models by fingerprint, by training (see :class:`~kdops.sweeps.unit.Unit`) and by URI; of equal
            ones the
            latest by the first two.
    """

    def __init__(self, data: Dataset, split: Split):
        self.data, self.split = data, split
        self.records: dict[str, Model] = {}
        self._looked: dict[str, float] = {}

    def look(self, chain: str = "") -> dict[str, Model]:
        """Look for models, and give what is found, keyed like ``records``; after the first time the recent ones alone.

        A store that is not there yet has no models, and is not made.

        Args:
            chain: only models that came this way, ``teacher>student``; empty for all.
        """
        if not store_exists(mlflow.get_tracking_uri()):
            return {}
        client = MlflowClient()
        experiment = client.get_experiment_by_name(experiment_name())
        if experiment is None:
            return {}
        now = time.time()
        where, order = self._where(chain), ["start_time DESC"]
        runs = list(paged(client.search_runs, [experiment.experiment_id], where, max_results=PAGE, order_by=order))
        found: dict[str, Model] = {}
        registered = self._registered(client, {_made(run) for run in runs})
        there = (run for run in runs if _made(run) in registered)
        # Newest first: the latest of equals wins.
        for run, model in schema.readable(there):
            found[model.uri] = model
            for key in (schema.FINGERPRINT, schema.TRAINING):
                if key in run.data.tags:
                    found.setdefault(run.data.tags[key], model)
        self.records |= found
        self._looked[chain] = now
        return found

    def _where(self, chain: str) -> str:
        where = (
            f"tags.`{schema.SPLIT}` = '{self.split.digest}' and tags.`{schema.DATASET}` = '{self.data.name}' "
            f"and tags.`{schema.MODEL}` != '' and attributes.status = 'FINISHED'"
        )
        if chain:
            where += f" and tags.`{schema.CHAIN}` = '{chain}'"
        before = max((self._looked[one] for one in ("", chain) if one in self._looked), default=None)
        if before is not None:
            where += f" and attributes.end_time > {int(1000 * (before - STORED_WITHIN))}"
        return where

    def _registered(self, client: MlflowClient, made: set[tuple[str, str]]) -> set[tuple[str, str]]:
        """Return those of some models that are registered; what was found before is not asked for again."""
        new = made - {(model.uri, model.run_id) for model in self.records.values()}
        return made - new | (new & Registry(client, self.data, self.split).made() if new else set())


def _made(run: Run) -> tuple[str, str]:
    """Return the version that a run says it made, and the run: the version must name it too."""
    return run.data.tags[schema.MODEL], run.info.run_id
