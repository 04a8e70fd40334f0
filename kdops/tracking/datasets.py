"""What a run saw, as MLflow data sets: where they come from, how many examples, and their digest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from mlflow.entities import Dataset as LoggedDataset
from mlflow.entities import DatasetInput, InputTag

from kdops.data.dataset import Dataset
from kdops.data.splits import Split

PARTS = ("train", "val", "test")
"""What a run may see of a data set."""

DIGEST_CHARACTERS = 16
"""MLflow keeps at most 36 characters of a data set's digest."""


@dataclass(frozen=True, eq=False)
class Trainset:
    """What a model was trained on: rows of the data set, and what they are."""

    rows: np.ndarray
    what: str


def dataset_inputs(
    data: Dataset, split: Split, trainset: Trainset, parts: Collection[str] = PARTS
) -> list[DatasetInput]:
    """Return the MLflow data sets of a run.

    Args:
        trainset: what the run's model was trained on.
        parts: which of ``PARTS`` it saw.
    """
    everything = {
        "train": trainset,
        "val": Trainset(split.validation, "validation images"),
        "test": Trainset(split.test, "test images"),
    }
    source = json.dumps({"name": data.name, "digest": data.digest, "notes": data.notes})
    form = json.dumps({"image": ["uint8", *data.shape], "classes": len(data.classes)})
    return [
        DatasetInput(
            LoggedDataset(
                name=f"{data.name}-{part}",
                digest=_digest_of_rows(data, seen.rows),
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


def _digest_of_rows(data: Dataset, rows: np.ndarray) -> str:
    """Return the digest of some images of a data set, as long as MLflow keeps it."""
    beside = data.unlabeled.digest if data.unlabeled and len(rows) and rows[-1] >= len(data.labels) else ""
    found = hashlib.sha256(f"{data.digest}{beside} {len(rows)}\n".encode())
    found.update(rows.astype("<i8").tobytes())
    return found.hexdigest()[:DIGEST_CHARACTERS]
