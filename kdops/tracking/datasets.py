"""What a run saw, as MLflow data sets: where they come from, how many examples, and their digest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection
from dataclasses import dataclass, replace

import numpy as np
from mlflow.entities import Dataset as LoggedDataset
from mlflow.entities import DatasetInput, InputTag

from kdops.config.image_selection import UNCHANGED, Selection
from kdops.data.dataset import Dataset
from kdops.data.splits import Split
from kdops.sweeps.fingerprint import fingerprint

PARTS = ("train", "val", "test")
"""What a run may see of a data set."""

DIGEST_CHARACTERS = 16
"""MLflow keeps at most 36 characters of a data set's digest."""


@dataclass(frozen=True, eq=False)
class Trainset:
    """What a model was trained on.

    Attributes:
        rows: of the data set.
        what: what they are; no others of the same data and split are called so, see :meth:`subset`.
        chosen: what was left out of a part of the split to make them.
    """

    rows: np.ndarray
    what: str
    chosen: Selection = UNCHANGED

    def subset(self, rows: np.ndarray, words: str) -> Trainset:
        """Return some of these images.

        A digest of the rows joins their name, by which fingerprints and outputs of sources tell images apart: code that
        no fingerprint covers may have chosen them.

        Args:
            rows: of the data set; one may be there several times.
            words: what they are, to follow what these are.
        """
        return replace(self, rows=rows, what=f"{self.what}{words}, rows {fingerprint(rows=rows.tolist())[:12]}")


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
    """Return the digest of some images of a data set, as long as MLflow keeps it.

    The rows of images without labels follow the names of their files, and all of these images are learned from or none.
    """
    labeled = rows[rows < len(data.labels)]
    beside = data.unlabeled.digest if data.unlabeled and len(labeled) < len(rows) else ""
    found = hashlib.sha256(f"{data.digest}{beside} {len(rows)}\n".encode())
    found.update(labeled.astype("<i8").tobytes())
    return found.hexdigest()[:DIGEST_CHARACTERS]
