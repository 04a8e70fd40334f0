"""What the store has already: finished models by fingerprint. It only reads."""

from __future__ import annotations

import mlflow
from mlflow import MlflowClient
from mlflow.entities import Run

from kdops.data import Data
from kdops.experiment import experiment_name
from kdops.paging import every
from kdops.records import LABELS, ModelRecord
from kdops.registry import Registry
from kdops.splits import Split
from kdops.store import store_exists

__all__ = ["known_models"]

PAGE = 1000


def known_models(data: Data, split: Split, chain: str = "") -> dict[str, ModelRecord]:
    """Give every finished and still registered model of a data set and split.

    A model is found by its fingerprint, by its training (see :class:`~kdops.units.Unit`) and by its URI; of equal
    ones the latest by the first two. A store that is not there yet has no models, and is not made.

    Args:
        data: the data set.
        split: the split.
        chain: only models that came this way, ``teacher>student``; empty for all.
    """
    if not store_exists(mlflow.get_tracking_uri()):
        return {}
    client = MlflowClient()
    experiment = client.get_experiment_by_name(experiment_name())
    if experiment is None:
        return {}
    where = (
        f"tags.`kdops.split` = '{split.digest}' and tags.`kdops.dataset` = '{data.name}' "
        "and tags.`kdops.model` != '' and attributes.status = 'FINISHED'"
    )
    if chain:
        where += f" and tags.`kdops.chain` = '{chain}'"
    search = every(
        client.search_runs, [experiment.experiment_id], where, max_results=PAGE, order_by=["start_time DESC"]
    )
    runs = list(search)
    registered = Registry(client, data, split).uris() if runs else ()
    found: dict[str, ModelRecord] = {}
    for run in runs:
        if run.data.tags.get("kdops.model") in registered:
            # Newest first: the latest of equals wins.
            record = _record_of(run)
            found[record.uri] = record
            for key in ("kdops.fingerprint", "kdops.training"):
                if key in run.data.tags:
                    found.setdefault(run.data.tags[key], record)
    return found


def _record_of(run: Run) -> ModelRecord:
    """Rebuild a record from a finished run."""
    tags, outputs = run.data.tags, run.outputs.model_outputs if run.outputs else []
    return ModelRecord(
        role=tags["kdops.role"],
        seed=int(run.data.params["seed"]),
        temperature=float(run.data.params["temperature"]),
        chain=tags["kdops.chain"],
        source=tags.get("kdops.source", LABELS),
        uri=tags["kdops.model"],
        run_id=run.info.run_id,
        model_id=outputs[0].model_id if outputs else "",
        weights=tags["kdops.weights"],
        metrics=dict(run.data.metrics),
        params={k: v for k, v in run.data.params.items() if k not in ("seed", "temperature")},
        fleet=tuple(int(seed) for seed in tags.get("kdops.fleet", "").split(",") if seed),
        fleet_digest=tags.get("kdops.fleet_digest", ""),
        reused=True,
    )
