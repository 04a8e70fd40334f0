"""The models and images that a probe is given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kdops.errors import UsageError

if TYPE_CHECKING:
    import numpy as np
    from mlflow import MlflowClient

    from kdops.data.dataset import Dataset
    from kdops.models.classifier import Classifier
    from kdops.sweeps.model import Model
    from kdops.tracking.probes import Probed


@dataclass(frozen=True)
class Given:
    """Models of one data set, and some of its test images."""

    client: MlflowClient
    models: Sequence[Model]
    networks: Sequence[Classifier]
    data: Dataset
    rows: np.ndarray
    data_root: str

    def log(self, model: Model, found: Probed, **figures: Any) -> None:
        """Put what was found on the run of a model, with figures by name."""
        from kdops.tracking.probes import log_probe
        from kdops.utils.files import temporary_folder

        with temporary_folder() as folder:
            for name, figure in figures.items():
                figure.savefig(folder / f"{name}.png", dpi=130)
            log_probe(self.client, model.run_id, found, folder)


def load_given(client: MlflowClient, names: Sequence[str], data_root: str, count: int) -> Given:
    """Load models and images.

    Raises:
        UsageError: they are no networks of images, or of different data.
        KdopsError: the store is a copy, so that their figures would go to the artifacts of another one.
    """
    from kdops.models.classifier import Classifier
    from kdops.packaging.inputs import rows_to_probe
    from kdops.packaging.loading import load_stored
    from kdops.store.copies import check_own_artifacts
    from kdops.tracking.catalog import data_of, find_registered

    found = [find_registered(client, name) for name in names]
    for experiment in {client.get_run(model.run_id).info.experiment_id for model in found}:
        check_own_artifacts(client, client.get_experiment(experiment))
    loaded = [load_stored(client, model.uri) for model in found]
    networks = []
    for model, one in zip(found, loaded, strict=True):
        if not isinstance(one.module, Classifier) or one.encoding:
            raise UsageError("model", model.name, "must be one network of images, such as an ensemble's member")
        if (one.shape, one.classes, model.dataset) != (loaded[0].shape, loaded[0].classes, found[0].dataset):
            raise UsageError("model", model.name, f"is of other data than {found[0].name}; give it by itself")
        networks.append(one.module)
    origin = data_of(client, found[0]) or {"dataset": found[0].dataset}
    data, rows = rows_to_probe(origin, loaded[0], data_root, count)
    return Given(client, found, networks, data, rows, data_root)
