"""The runs of one study and of its models: how they are made, and the tags that each begins with."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

from mlflow import MlflowClient
from mlflow.entities import DatasetInput

from kdops.data.dataset import Dataset
from kdops.data.splits import Split
from kdops.registry.versions import Registry
from kdops.sweeps import schema
from kdops.sweeps.model import Model
from kdops.tracking.datasets import PARTS, Trainset, dataset_inputs
from kdops.utils.process import ProcessId


class StudyRun:
    """One study in the store, below whose run the runs of its models are made.

    All calls name their run explicitly (never the fluent "current run"), so nothing here depends on process-wide
    state.

    Args:
        entry_point: the study's name, ``transitivity``.
        about: what its run records: ``owner``, ``notes``, ``engine`` and ``paper``; what is empty is left out.

    Attributes:
        registry: where its models are registered.
        parent: the id of its run.
        experiment: the id of its experiment.
    """

    parent: str
    experiment: str

    def __init__(self, client: MlflowClient, entry_point: str, data: Dataset, split: Split, about: Mapping[str, str]):
        self.client, self.entry_point, self.data, self.split = client, entry_point, data, split
        tags = {"owner": schema.OWNER, "notes": schema.NOTES, "engine": schema.ENGINE, "paper": schema.PAPER}
        self.about = {tags[name]: text for name, text in about.items() if text}
        self.registry = Registry(client, data, split)
        self._source = _source_tags()
        self._made: set[str] = set()

    def make_run(self, name: str, tags: Mapping[str, str], start: int | None = None) -> str:
        """Make a run of this study and return its id; what a repeated request made beside it is dropped at the end.

        Args:
            name: its name, cut where it is too long.
            tags: all that it has from its start on.
            start: when it started, in milliseconds since the epoch; now if left out.
        """
        tags = {**tags, **self._source}
        run = self.client.create_run(
            self.experiment, start_time=start, run_name=schema.fitted_name(name), tags=tags
        ).info.run_id
        self._made.add(run)
        return run

    def study_tags(self) -> dict[str, str]:
        """Return the tags that the study's own run has from its start on."""
        return {
            schema.STUDY: self.entry_point,
            schema.DATASET: self.data.name,
            schema.SPLIT: self.split.digest,
            schema.PROCESS: str(ProcessId.own()),
            **self.about,
        }

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
        }

    def placed(self, model: Model) -> Model:
        """Return a model with the data set and the split of this study."""
        return replace(model, dataset=self.data.name, split=self.split.digest)

    def dataset_inputs(self, trainset: Trainset, parts: Collection[str] = PARTS) -> list[DatasetInput]:
        """Return the MLflow data sets of a run; see :func:`~kdops.tracking.datasets.dataset_inputs`."""
        return dataset_inputs(self.data, self.split, trainset, parts)


def _source_tags() -> dict[str, str]:
    """Return user, source and commit as MLflow's own ``start_run`` would have them."""
    from mlflow.tracking.context.registry import resolve_tags

    return {name: value for name, value in resolve_tags().items() if name.startswith("mlflow.")}
