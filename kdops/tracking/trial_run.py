"""The runs of a search's trials: nested below the search, with number, state and metrics, and without a model."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from mlflow.entities import LoggedModelInput, Metric, Param, RunTag

from kdops.store.client import retry_on_conflict
from kdops.store.liveness import CHARACTERS
from kdops.sweeps import schema
from kdops.sweeps.model import Model
from kdops.sweeps.unit import Unit
from kdops.tracking.datasets import Trainset
from kdops.tracking.study_run import StudyRun
from kdops.utils.secrets import redact_secrets

STATUS = {"complete": "FINISHED", "pruned": "KILLED", "failed": "FAILED", "interrupted": "KILLED"}
"""How the run of a trial ends, by the trial's state."""


class TrialRuns:
    """Makes and ends the runs of trials.

    A trial is judged on validation alone, so its run names no test images and has no metric of them.

    Args:
        tracker: the runs of the study.
        search: the name of the search in its storage.
        trainset: what every trial is trained on.
        source: what every trial is distilled from.
    """

    def __init__(self, tracker: StudyRun, search: str, trainset: Trainset, source: Model):
        self.tracker, self.search = tracker, search
        self._data = tracker.dataset_inputs(trainset, ("train", "val"))
        self._models = [LoggedModelInput(one) for one in source.model_id.split()]

    def begin(self, number: int, unit: Unit) -> str:
        """Make the run of a trial that is about to be trained, with all that it tries, and return its id."""
        record, client = unit.record, self.tracker.client
        tags = {
            **self.tracker.model_tags(record, unit.fingerprint, unit.training),
            schema.TRIAL: str(number),
            schema.TRIAL_STATE: "running",
            schema.SEARCH: self.search,
        }
        name = f"trial {number} {record.role} {record.method} T={record.temperature:.3g} {record.architecture}"
        run = self.tracker.make_run(name, tags)
        params, _ = schema.to_run(record)
        client.log_batch(run, params=[Param(name, value) for name, value in params.items()])
        retry_on_conflict(client.log_inputs, run, datasets=self._data, models=self._models)
        return run

    def log(self, run: str, history: Mapping[str, Sequence[float]], final: Mapping[str, float], seconds: float) -> None:
        """Log the results of a trial.

        Args:
            history: metrics of each epoch by name, finite.
            final: metrics at the end by name, finite.
            seconds: what its training took until now.
        """
        now, last = time.time(), max(map(len, history.values()), default=0)
        logged = [
            Metric(name, value, int(1000 * (now - seconds * (last - epoch) / last)), epoch)
            for name, values in history.items()
            for epoch, value in enumerate(values, start=1)
        ]
        logged += [Metric(name, value, int(1000 * now), last) for name, value in final.items()]
        self.tracker.client.log_batch(run, metrics=logged)

    def end(self, run: str, state: str, error: str = "") -> None:
        """End the run of a trial, whose state is one of ``STATUS``, with the error where it failed."""
        # For Optuna a trial that was cut off has failed, and is tried again.
        tags = {
            schema.TRIAL_STATE: "failed" if state == "interrupted" else state,
            **({schema.ERROR: redact_secrets(error)[:CHARACTERS]} if error else {}),
        }
        self.tracker.client.log_batch(run, tags=[RunTag(name, value) for name, value in tags.items()])
        self.tracker.client.set_terminated(run, STATUS[state])
