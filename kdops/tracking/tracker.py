"""Every study as an MLflow run: begun, described and ended, with the runs of its models below it."""

from __future__ import annotations

import copy
import logging
import os
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager, suppress
from pathlib import Path

import numpy as np
from mlflow import MlflowClient
from mlflow.entities import Metric, Run, RunTag

from kdops.data.dataset import Dataset
from kdops.data.splits import Split
from kdops.store.client import retry_on_conflict
from kdops.store.copies import check_own_artifacts
from kdops.store.database import ensure_experiment, ensure_store, registry_address, store_address
from kdops.store.duplicates import drop_double_runs, drop_unfinished_models
from kdops.store.experiment import experiment_name
from kdops.store.faults import first_line
from kdops.store.liveness import CHARACTERS, Heartbeat, beat
from kdops.sweeps import schema
from kdops.sweeps.model import Model
from kdops.tracking.datasets import Trainset
from kdops.tracking.model_run import Outcome, Writer, log_model
from kdops.tracking.stale_runs import end_stale_runs
from kdops.tracking.stored_study import StoredStudy, read_study
from kdops.tracking.study_run import StudyRun
from kdops.utils.secrets import redact_secrets

logger = logging.getLogger(__name__)


class Tracker(StudyRun):
    """The run of one study: begun, described and ended, with the runs of its models below it.

    Args:
        entry_point: the study's name, ``transitivity``.
        title: the name of the parent run, where the caller sets none.
        about: what its run records: ``owner``, ``notes`` and ``engine``; what is empty is left out.
    """

    def __init__(
        self, entry_point: str, data: Dataset, split: Split, title: str, about: Mapping[str, str] | None = None
    ):
        for uri in dict.fromkeys((store_address(), registry_address())):
            ensure_store(uri)
        super().__init__(MlflowClient(), entry_point, data, split, about or {})
        self.title = schema.fitted_name(title)
        self._whole = self._parent()
        self.parent, self.experiment = self._whole.info.run_id, self._whole.info.experiment_id
        # Hosts that cannot see this process know by it whether the study lives.
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
        tags = {schema.PARENT: self.parent, **part.study_tags()}
        part.parent = self.make_run(title, tags)
        part._log_data()
        return part

    def commit(self, outcome: Outcome, write: Writer, turn: AbstractContextManager[object] | None = None) -> Model:
        """Log one model, in any thread; see :func:`~kdops.tracking.model_run.log_model`."""
        return log_model(self, outcome, write, turn)

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

    def record_engine(self, text: str) -> None:
        """Record what trains, unless the run has it from its start on."""
        if self.about.get(schema.ENGINE) != text:
            self.about[schema.ENGINE] = text
            self.client.set_tag(self.parent, schema.ENGINE, text)

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

        Nothing is raised: where the store itself is what failed, its first error must stay the one that is reported.
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

    def _parent(self) -> Run:
        """Go on in the run that MLflow made for this process, or make one."""
        tags = {**self.study_tags(), schema.HEARTBEAT: beat()}
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

    def _log_data(self) -> None:
        """Name the data on the study's own run."""
        everything = np.unique(np.concatenate([self.split.teacher, *self.split.transfers]))
        trainset = Trainset(everything, "teacher and transfer images")
        retry_on_conflict(self.client.log_inputs, self.parent, datasets=self.dataset_inputs(trainset))


def _was_drawn(name: str) -> bool:
    """Return whether MLflow drew a run's name, such as ``bemused-mare-434``, since the caller set none."""
    from mlflow.utils import name_utils

    predicate, _, rest = name.partition("-")
    noun, _, number = rest.partition("-")
    words = (getattr(name_utils, f"_GENERATOR_{kind}", ()) for kind in ("PREDICATES", "NOUNS"))
    return number.isdigit() and all(word in known for word, known in zip((predicate, noun), words, strict=True))
