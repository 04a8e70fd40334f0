"""Every study and every model of it as MLflow runs.

All calls name their run explicitly (never the fluent "current run"), so nothing here depends on
process-wide state. A model's run is FINISHED only after its model is stored and registered: what is found
finished is whole.
"""

from __future__ import annotations

import copy
import hashlib
import json
import logging
import math
import os
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import mlflow
import numpy as np
from mlflow import MlflowClient
from mlflow.entities import Dataset as LoggedDataset
from mlflow.entities import (
    DatasetInput,
    InputTag,
    LoggedModelInput,
    LoggedModelOutput,
    Metric,
    Param,
    Run,
    RunTag,
)

from kdops.data.dataset import Dataset
from kdops.data.splits import Split
from kdops.registry.versions import Registry
from kdops.store.artifacts import downloaded_model
from kdops.store.client import retry_on_conflict
from kdops.store.copies import check_own_artifacts
from kdops.store.database import ensure_experiment, ensure_store
from kdops.store.duplicates import drop_double_runs, drop_unfinished_models
from kdops.store.experiment import experiment_name
from kdops.store.faults import first_line
from kdops.store.liveness import CHARACTERS, Heartbeat, beat
from kdops.sweeps import schema
from kdops.sweeps.model import Model
from kdops.tracking.stale_runs import discard_run, end_stale_runs
from kdops.tracking.stored_study import StoredStudy, read_study
from kdops.utils.files import temporary_folder
from kdops.utils.process import ProcessId
from kdops.utils.secrets import redact_secrets

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Outcome", "Tracker", "Trainset", "Writer"]

logger = logging.getLogger(__name__)

SPEAKING = ("teacher", "foreign")
"""Sources of these roles have no temperature that would tell them apart."""

PARTS = ("train", "val", "test")
"""What a run may see of a data set."""

DIGEST_CHARACTERS = 16
"""MLflow keeps at most 36 characters of a data set's digest."""


@dataclass(frozen=True, eq=False)
class Trainset:
    """What a model was trained on: rows of the data set, and what they are."""

    rows: np.ndarray
    what: str


@dataclass(frozen=True)
class Outcome:
    """A finished model with all that its run says.

    Attributes:
        record: the model so far, its metrics and the digest of its weights; neither stored nor registered.
        fingerprint: see :class:`~kdops.sweeps.unit.Unit`.
        training: see :class:`~kdops.sweeps.unit.Unit`.
        sources: the models it was made from: the one distilled from, an ensemble's members, none for labels.
        trainset: what it was trained on.
        history: metrics of each epoch by name.
        seconds: what its training took.
        finished: when its training ended, in seconds since the epoch.
    """

    record: Model
    fingerprint: str
    training: str
    sources: tuple[Model, ...]
    trainset: Trainset
    history: Mapping[str, Sequence[float]]
    seconds: float
    finished: float


class Writer(Protocol):
    """Writes a model's MLflow folder."""

    def __call__(self, folder: Path, *, model_id: str, run_id: str, location: str) -> None:
        """Write it for a logged model, the run that made it, and the place where its files will lie."""


class Tracker:
    """The runs of one study.

    Args:
        entry_point: the study's name, ``transitivity``.
        data: the data set.
        split: the split of it.
        title: the name of the parent run, where the caller gives none.
        about: what the caller wants to be remembered, ``owner`` and ``notes``; what is empty is left out.
    """

    def __init__(
        self, entry_point: str, data: Dataset, split: Split, title: str, about: Mapping[str, str] | None = None
    ):
        told = {schema.OWNER: (about or {}).get("owner", ""), schema.NOTES: (about or {}).get("notes", "")}
        self.about = {tag: text for tag, text in told.items() if text}
        ensure_store(mlflow.get_tracking_uri())
        self.client = MlflowClient()
        self.entry_point, self.data, self.split = entry_point, data, split
        self.registry = Registry(self.client, data, split)
        self.title = title
        self._source = _source_tags()
        self._made: set[str] = set()
        self._whole = self._parent()
        self.parent, self.experiment = self._whole.info.run_id, self._whole.info.experiment_id
        # Those who cannot see this process tell by it whether the study lives.
        self.heartbeat = Heartbeat(self.parent)
        try:
            end_stale_runs(self.client, self.registry, self.experiment)
            self._log_data()
        except BaseException as error:
            self.fail(str(error) or type(error).__name__)
            raise

    def below(self, entry_point: str, title: str) -> Tracker:
        """Open the runs of a study that is a part of this one: below this one's run, in the same store."""
        part = copy.copy(self)
        part.entry_point, part.title = entry_point, title
        tags = {schema.PARENT: self.parent, **part._study_tags(), **self._source}
        part.parent = self.make_run(title, tags)
        part._log_data()
        return part

    def make_run(self, name: str, tags: Mapping[str, str], start: int | None = None) -> str:
        """Make a run of this study and give its id; what a repeated request made beside it is dropped at the end.

        Args:
            name: its name.
            tags: all that it has from its start on.
            start: when it started, in milliseconds since the epoch; now if left out.
        """
        run = self.client.create_run(self.experiment, start_time=start, run_name=name, tags=dict(tags)).info.run_id
        self._made.add(run)
        return run

    def commit(self, outcome: Outcome, write: Writer) -> Model:
        """Log one model: its run, its metrics, its data and sources, the model, and its version.

        Args:
            outcome: the model.
            write: writes its folder.

        Returns:
            The record with its model URI and run.
        """
        record = outcome.record
        ended = int(outcome.finished * 1000)
        tags = self.model_tags(record, outcome.fingerprint, outcome.training)
        run_id = self.make_run(_run_name(record, outcome.sources), tags, ended - int(outcome.seconds * 1000))
        try:
            return self._commit(outcome, write, run_id, ended)
        except BaseException:
            self._abandon(run_id)
            raise

    def model_tags(self, record: Model, fingerprint: str, training: str) -> dict[str, str]:
        """Return the tags that every run of a model below this study has from its start on."""
        return {
            schema.PARENT: self.parent,
            **schema.to_run(self.placed(record))[1],
            schema.STUDY: self.entry_point,
            schema.FINGERPRINT: fingerprint,
            schema.TRAINING: training,
            schema.PROCESS: str(ProcessId.own()),
            **{name: text for name, text in self.about.items() if name == schema.OWNER},
            **self._source,
        }

    def placed(self, model: Model) -> Model:
        """Return a model with the data set and the split of this study."""
        return replace(model, dataset=self.data.name, split=self.split.digest)

    def load_weights(self, record: Model) -> dict[str, Tensor]:
        """Read the weights of a stored model.

        Raises:
            KdopsError: its files are gone, or are not those that were stored.
        """
        from kdops.packaging.folder import read_weights

        with downloaded_model(record.uri) as folder:
            return read_weights(folder, record.uri, record.weights)

    def log(
        self, *, artifacts: Path, tags: Mapping[str, str] | None = None, metrics: Mapping[str, float] | None = None
    ) -> None:
        """Put the study's answer on its run.

        Args:
            artifacts: a folder whose content becomes the run's artifacts.
            tags: the verdict and the note among them.
            metrics: statistics of the verdict, finite.
        """
        self.client.log_artifacts(self.parent, str(artifacts))
        now = int(time.time() * 1000)
        self.client.log_batch(
            self.parent,
            metrics=[Metric(name, float(value), now, 0) for name, value in (metrics or {}).items()],
            tags=[RunTag(name, value) for name, value in (tags or {}).items()],
        )

    def finish(self) -> None:
        """End the study."""
        self._drop_doubles()
        self._silence()
        self.client.set_terminated(self.parent, "FINISHED")

    def stored(self) -> StoredStudy:
        """Read the study back from the store, as far as it is there."""
        return read_study(self.client, self.parent)

    def fail(self, reason: str, status: str = "FAILED") -> None:
        """End the study without a verdict; what it finished stays.

        Nothing is raised: where the store itself is what failed, its first error must stay the one that is told.
        """
        self._silence()
        try:
            self.client.set_tag(self.parent, schema.ERROR, redact_secrets(reason)[:CHARACTERS])
            self.client.set_terminated(self.parent, status)
            self._drop_doubles()
        except Exception as error:
            logger.warning("the run %s could not be ended as %s: %s", self.parent, status, first_line(error))

    def describe(self, note: str) -> None:
        """Write the note of a study that failed; where it cannot be written, the error on the run must do."""
        with suppress(Exception):
            self.client.set_tag(self.parent, schema.NOTE, redact_secrets(note))

    def _drop_doubles(self) -> None:
        """Drop what repeated requests made twice, once the whole study ends."""
        if self.parent == self._whole.info.run_id:
            drop_double_runs(self.client, self._whole, self._made)
            drop_unfinished_models(self.client, self.experiment, self._whole.info.start_time, self._made)

    def _silence(self) -> None:
        """Stop the heartbeat with the study that it is of; a part of it has none of its own."""
        if self.heartbeat.run_id == self.parent:
            self.heartbeat.stop()

    def _abandon(self, run_id: str) -> None:
        """Withdraw what a model's run made, which is not whole, and end the run."""
        try:
            discard_run(self.client, self.registry, run_id, "FAILED")
        except Exception as error:
            logger.warning("the run %s could not be ended: %s", run_id, first_line(error))

    def _commit(self, outcome: Outcome, write: Writer, run_id: str, ended: int) -> Model:
        """Log a model in the order that leaves nothing half done: a version is made once all else is there."""
        record = self.placed(outcome.record)
        params, _ = schema.to_run(record)
        model = self.client.create_logged_model(
            self.experiment,
            name=str(record).replace(" ", "-").replace("=", "").replace(".", "_"),
            source_run_id=run_id,
            params=params,
            tags={schema.CHAIN: record.chain, schema.DATASET: self.data.name},
            model_type=record.role,
        )
        with temporary_folder() as folder:
            write(folder / "model", model_id=model.model_id, run_id=run_id, location=model.artifact_location)
            self.client.log_model_artifacts(model.model_id, str(folder / "model"))
        self.client.finalize_logged_model(model.model_id, "READY")
        inputs = [LoggedModelInput(one) for source in outcome.sources for one in source.model_id.split()]
        retry_on_conflict(self.client.log_inputs, run_id, datasets=self.dataset_inputs(outcome.trainset), models=inputs)
        self.client.log_outputs(run_id, [LoggedModelOutput(model.model_id, step=0)])
        stored = replace(record, run_id=run_id, model_id=model.model_id)
        self.client.log_batch(
            run_id,
            metrics=_metrics(outcome, model.model_id, ended),
            params=[Param(name, value) for name, value in params.items()],
        )
        stored = replace(stored, uri=self.registry.register(stored, self.entry_point, outcome.fingerprint))
        self.client.set_tag(run_id, schema.MODEL, stored.uri)
        self.client.set_terminated(run_id, "FINISHED", end_time=ended)
        return stored

    def _parent(self) -> Run:
        """Go on in the run that MLflow made for this process, or make one."""
        tags = {**self._study_tags(), schema.HEARTBEAT: beat()}
        given = os.environ.get("MLFLOW_RUN_ID")
        if given:
            run = self.client.get_run(given)
            check_own_artifacts(self.client, self.client.get_experiment(run.info.experiment_id))
            self.client.log_batch(given, tags=[RunTag(name, value) for name, value in tags.items()])
            if _was_drawn(run.info.run_name or ""):
                self.client.update_run(given, name=self.title)
            if run.info.status != "RUNNING":
                # Another study took it for dead while its environment was built.
                self.client.update_run(given, status="RUNNING")
        else:
            experiment = ensure_experiment(experiment_name())
            check_own_artifacts(self.client, self.client.get_experiment(experiment))
            run = self.client.create_run(experiment, run_name=self.title, tags={**tags, **self._source})
        self._made.add(run.info.run_id)
        return run

    def _study_tags(self) -> dict[str, str]:
        return {
            schema.STUDY: self.entry_point,
            schema.DATASET: self.data.name,
            schema.SPLIT: self.split.digest,
            schema.PROCESS: str(ProcessId.own()),
            **self.about,
        }

    def _log_data(self) -> None:
        """Name the data on the study's own run."""
        everything = np.unique(np.concatenate([self.split.teacher, *self.split.transfers]))
        trainset = Trainset(everything, "teacher and transfer images")
        retry_on_conflict(self.client.log_inputs, self.parent, datasets=self.dataset_inputs(trainset))

    def dataset_inputs(self, trainset: Trainset, parts: Collection[str] = PARTS) -> list[DatasetInput]:
        """Describe what a run saw as MLflow data sets: where they come from, how many, and their digest.

        Args:
            trainset: what it was trained on.
            parts: which of ``PARTS`` it saw.
        """
        everything = {
            "train": trainset,
            "val": Trainset(self.split.validation, "validation images"),
            "test": Trainset(self.split.test, "test images"),
        }
        source = json.dumps({"name": self.data.name, "digest": self.data.digest, "notes": self.data.notes})
        form = json.dumps({"image": ["uint8", *self.data.shape], "classes": len(self.data.classes)})
        return [
            DatasetInput(
                LoggedDataset(
                    name=f"{self.data.name}-{part}",
                    digest=_digest_of_rows(self.data, seen.rows),
                    source_type="kdops",
                    source=source,
                    schema=form,
                    profile=json.dumps({"images": len(seen.rows), "what": seen.what}),
                ),
                tags=[InputTag("mlflow.data.context", part)],
            )
            for part, seen in everything.items()
            if part in parts
        ]


def _run_name(record: Model, sources: Sequence[Model]) -> str:
    """Name a model's run; a source that is one of several is told by its temperature."""
    if len(sources) > 1:
        return f"{record} of {len(sources)}, {record.chain}"
    through = "".join(f" from {one.role} T={one.temperature:g}" for one in sources if one.role not in SPEAKING)
    # What tells one run from the next comes first: a table's column shows the first words only.
    return f"{record} {record.chain}{through}" if ">" in record.chain else str(record)


def _metrics(outcome: Outcome, model_id: str, ended: int) -> list[Metric]:
    """Return every epoch's metrics at the time the epoch ended, and the final ones, which join the model too.

    The last epoch is the model that is kept, so its training loss and validation accuracy are the final ones.
    """
    epochs = max(map(len, outcome.history.values()), default=0)
    told = [
        Metric(name, value, ended - int(1000 * outcome.seconds * (epochs - epoch) / epochs), epoch)
        for name, values in outcome.history.items()
        for epoch, value in enumerate(values, start=1)
        # A term of the loss that a phase lacks is nan there.
        if epoch < epochs and not math.isnan(value)
    ]
    final = outcome.record.metrics.items()
    return told + [Metric(name, value, ended, epochs, model_id=model_id) for name, value in final]


def _source_tags() -> dict[str, str]:
    """Return user, source and commit as MLflow's own ``start_run`` would have them."""
    from mlflow.tracking.context.registry import resolve_tags

    return {name: value for name, value in resolve_tags().items() if name.startswith("mlflow.")}


def _was_drawn(name: str) -> bool:
    """Return whether MLflow drew a run's name, such as ``bemused-mare-434``, since the caller gave none."""
    from mlflow.utils import name_utils

    predicate, _, rest = name.partition("-")
    noun, _, number = rest.partition("-")
    words = (getattr(name_utils, f"_GENERATOR_{kind}", ()) for kind in ("PREDICATES", "NOUNS"))
    return number.isdigit() and all(word in known for word, known in zip((predicate, noun), words, strict=True))


def _digest_of_rows(data: Dataset, rows: np.ndarray) -> str:
    """Return the digest of some images of a data set, as long as MLflow keeps it."""
    found = hashlib.sha256(f"{data.digest} {len(rows)}\n".encode())
    found.update(rows.astype("<i8").tobytes())
    return found.hexdigest()[:DIGEST_CHARACTERS]
