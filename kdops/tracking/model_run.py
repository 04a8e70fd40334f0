"""The run of one model: its tags, metrics, data and sources, its files, and its version.

The run is FINISHED only after its model is stored and registered: what is found finished is whole.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from mlflow.entities import LoggedModelInput, LoggedModelOutput, Metric, Param, RunTag

from kdops.config.method_specs import PLAIN
from kdops.packaging.epoch_weights import EPOCHS, write_epochs
from kdops.store.artifacts import put_files
from kdops.store.client import retry_on_conflict
from kdops.store.faults import first_line
from kdops.sweeps import schema
from kdops.sweeps.model import Model
from kdops.tracking.datasets import Trainset
from kdops.tracking.stale_runs import discard_run
from kdops.tracking.study_run import StudyRun
from kdops.utils.files import temporary_folder

logger = logging.getLogger(__name__)

LONGEST_METHOD = 60
"""Characters of a method's text in the name of a run; all of it is in the parameter ``method``."""

ROLES_WITHOUT_TEMPERATURE = ("teacher", "foreign")
"""Sources of these roles have no temperature that would distinguish them."""


@dataclass(frozen=True)
class Outcome:
    """A finished model with all that its run records.

    Attributes:
        record: the model so far, its metrics and the digest of its weights; neither stored nor registered.
        fingerprint: see :class:`~kdops.sweeps.unit.Unit`.
        training: see :class:`~kdops.sweeps.unit.Unit`.
        sources: the models it was made from: the one distilled from, an ensemble's members, none for labels.
        trainset: what it was trained on.
        history: metrics of each epoch by name.
        seconds: what its training took.
        finished: when its training ended, in seconds since the epoch.
        trained_on: host, device and attempt; empty where nothing was trained.
        kept: the weights after the epochs that were to be kept, tensors by epoch and name.
    """

    record: Model
    fingerprint: str
    training: str
    sources: tuple[Model, ...]
    trainset: Trainset
    history: Mapping[str, Sequence[float]]
    seconds: float
    finished: float
    trained_on: str = ""
    kept: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)


class Writer(Protocol):
    """Writes a model's MLflow folder."""

    def __call__(self, folder: Path, *, model_id: str, run_id: str, location: str) -> None:
        """Write it for a logged model, the run that made it, and the place where its files will lie."""


def log_model(
    study: StudyRun, outcome: Outcome, write: Writer, turn: AbstractContextManager[object] | None = None
) -> Model:
    """Log one model: its run, its metrics, its data and sources, the model, and its version.

    Args:
        study: the study that it is of.
        write: writes its folder.
        turn: within it the version is made, where several are logged at the same time.

    Returns:
        The record with its model URI and run.
    """
    tags = study.model_tags(outcome.record, outcome.fingerprint, outcome.training)
    if outcome.trained_on:
        tags[schema.TRAINED_ON] = outcome.trained_on
    start = int(outcome.finished * 1000) - int(outcome.seconds * 1000)
    run_id = study.make_run(_run_name(outcome.record, outcome.sources), tags, start)
    try:
        return _fill_run(study, outcome, write, run_id, turn or nullcontext())
    except BaseException:
        _discard(study, run_id)
        raise


def _fill_run(
    study: StudyRun, outcome: Outcome, write: Writer, run_id: str, turn: AbstractContextManager[object]
) -> Model:
    """Log a model in the order that leaves nothing half done: a version counts once its run is FINISHED."""
    client, record, ended = study.client, study.placed(outcome.record), int(outcome.finished * 1000)
    params, _ = schema.to_run(record)
    model = client.create_logged_model(
        study.experiment,
        name=str(record).replace(" ", "-").replace("=", "").replace(".", "_"),
        source_run_id=run_id,
        params=params,
        tags={schema.CHAIN: record.chain, schema.DATASET: study.data.name},
        model_type=record.role,
    )
    with temporary_folder() as folder:
        write(folder / "model", model_id=model.model_id, run_id=run_id, location=model.artifact_location)
        put_files(client, model.artifact_location, folder / "model")
    if outcome.kept:
        with temporary_folder() as folder:
            write_epochs(folder, outcome.kept)
            client.log_artifacts(run_id, str(folder), EPOCHS)
    client.finalize_logged_model(model.model_id, "READY")
    inputs = [LoggedModelInput(one) for source in outcome.sources for one in source.model_id.split()]
    retry_on_conflict(client.log_inputs, run_id, datasets=study.dataset_inputs(outcome.trainset), models=inputs)
    client.log_outputs(run_id, [LoggedModelOutput(model.model_id, step=0)])
    stored = replace(record, run_id=run_id, model_id=model.model_id)
    with turn:
        stored = replace(stored, uri=study.registry.register(stored, study.entry_point, outcome.fingerprint))
    client.log_batch(
        run_id,
        metrics=_metrics(outcome, model.model_id, ended),
        params=[Param(name, value) for name, value in params.items()],
        tags=[RunTag(schema.MODEL, stored.uri)],
    )
    client.set_terminated(run_id, "FINISHED", end_time=ended)
    return stored


def _discard(study: StudyRun, run_id: str) -> None:
    """Withdraw what a model's run made, which is not whole, and end the run."""
    try:
        discard_run(study.client, study.registry, run_id, "FAILED")
    except Exception as error:
        logger.warning("the run %s could not be ended: %s", run_id, first_line(error))


def _run_name(record: Model, sources: Sequence[Model]) -> str:
    """Name a model's run; a source that is one of several is named by its temperature, a method unless it is plain."""
    if len(sources) > 1:
        return f"{record} of {len(sources)}, {record.chain}"
    shown = (one for one in sources if one.role not in ROLES_WITHOUT_TEMPERATURE)
    through = "".join(f" from {one.role} T={one.temperature:g}" for one in shown)
    by = f" {record.method[:LONGEST_METHOD]}" if record.method not in ("", PLAIN) else ""
    # What distinguishes one run from the next comes first: a table's column shows the first words only.
    return f"{record}{by} {record.chain}{through}" if ">" in record.chain else f"{record}{by}"


def _metrics(outcome: Outcome, model_id: str, ended: int) -> list[Metric]:
    """Return every epoch's metrics at the time the epoch ended, and the final ones, which join the model too.

    The last epoch is the model that is kept, so its training loss and validation accuracy are the final ones.
    """
    epochs = max(map(len, outcome.history.values()), default=0)
    curves = [
        Metric(name, value, ended - int(1000 * outcome.seconds * (epochs - epoch) / epochs), epoch)
        for name, values in outcome.history.items()
        for epoch, value in enumerate(values, start=1)
        # A term of the loss that a phase lacks is nan there.
        if epoch < epochs and not math.isnan(value)
    ]
    final = outcome.record.metrics.items()
    return curves + [Metric(name, value, ended, epochs, model_id=model_id) for name, value in final]
