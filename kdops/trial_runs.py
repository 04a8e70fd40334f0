"""The runs of a search's trials: nested below the search, with number, state and metrics, and without a model."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from mlflow.entities import LoggedModelInput, Metric, Param, RunTag

from kdops.ownrun import CHARACTERS, ERROR
from kdops.records import ModelRecord
from kdops.tracking import Tracker, Trainset
from kdops.units import Unit

__all__ = ["STATUS", "TrialRuns"]

STATUS = {"complete": "FINISHED", "pruned": "KILLED", "failed": "FAILED", "interrupted": "KILLED"}
"""How the run of a trial ends, by the trial's state."""

NUMBER, STATE, SEARCH = "kdops.trial", "kdops.trial_state", "kdops.search"


class TrialRuns:
    """Makes and ends the runs of trials.

    A trial is judged on validation alone, so its run names no test images and has no metric of them.

    Args:
        tracker: the runs of the study.
        search: the name of the search in its storage.
        trainset: what every trial is trained on.
        source: what every trial is distilled from.
    """

    def __init__(self, tracker: Tracker, search: str, trainset: Trainset, source: ModelRecord):
        self.tracker, self.search = tracker, search
        self._data = tracker.dataset_inputs(trainset, ("train", "val"))
        self._models = [LoggedModelInput(source.model_id)] if source.model_id else []

    def begin(self, number: int, unit: Unit) -> str:
        """Make the run of a trial that is about to be trained, and give its id."""
        tags = {
            **self.tracker.model_tags(unit.record, unit.fingerprint, unit.training),
            NUMBER: str(number),
            STATE: "running",
            SEARCH: self.search,
        }
        name = f"trial {number} {unit.record.role} T={unit.record.temperature:.3g} {unit.record.params['architecture']}"
        run = self.tracker.client.create_run(self.tracker.experiment, run_name=name, tags=tags)
        return run.info.run_id

    def log(
        self,
        run: str,
        unit: Unit,
        state: str,
        history: Mapping[str, Sequence[float]],
        final: Mapping[str, float],
        error: str = "",
    ) -> None:
        """Say what became of a trial; :meth:`end` follows.

        Args:
            run: its run.
            unit: what was trained.
            state: one of ``STATUS``.
            history: metrics of each epoch by name.
            final: metrics at the end by name, finite.
            error: why it failed.
        """
        now, record = int(time.time() * 1000), unit.record
        params = {**record.params, "temperature": f"{record.temperature:g}", "seed": str(record.seed)}
        tags = {STATE: state, **({ERROR: error[:CHARACTERS]} if error else {})}
        told = [
            Metric(name, value, now, epoch)
            for name, values in history.items()
            for epoch, value in enumerate(values, start=1)
        ]
        last = max(map(len, history.values()), default=0)
        self.tracker.client.log_batch(
            run,
            metrics=told + [Metric(name, value, now, last) for name, value in final.items()],
            params=[Param(name, str(value)) for name, value in params.items()],
            tags=[RunTag(name, value) for name, value in tags.items()],
        )
        self.tracker.client.log_inputs(run, datasets=self._data, models=self._models)

    def end(self, run: str, state: str) -> None:
        """End the run of a trial."""
        self.tracker.client.set_terminated(run, STATUS[state])
