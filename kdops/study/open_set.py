"""How well a model's embedding tells images of classes apart that it never saw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from kdops.data.dataset import Dataset
from kdops.data.image_selection import frames_of_tracks
from kdops.sweeps.model import Model

if TYPE_CHECKING:
    from kdops.study.study import Study

FRAMES = 3
"""Of each track: more are near-copies."""

MOST_IMAGES = 4_000
"""Of all classes together, equally many of each: each is compared with each, 16 million pairs at most."""


@dataclass(frozen=True)
class OpenSet:
    """What an embedding is worth on unseen classes, by cosine similarity.

    Attributes:
        recall: share of images whose nearest image of another track is of their class (recall@1); without images of
            classes that have no other track, whose nearest one cannot be.
        auc: probability that two images of one class are nearer than two of different classes, of different tracks.
    """

    recall: float
    auc: float


def unseen_classes(study: Study[Any], seed: int, one_in: int) -> tuple[str, ...]:
    """Return the names of one class in so many, drawn by a seed."""
    classes = study.data.classes
    drawn = np.random.default_rng([seed, 4]).choice(len(classes), -(-len(classes) // one_in), replace=False)
    return tuple(classes[number] for number in sorted(drawn))


def measure_open_sets(
    study: Study[Any], models: Sequence[Model], unseen: Mapping[int, tuple[str, ...]]
) -> tuple[np.ndarray, np.ndarray]:
    """Return recall@1 and area under the curve of the model of each replicate, ``[replicates]`` both.

    Args:
        study: whose data are used.
        models: one a replicate.
        unseen: the classes that those of a replicate did not see.
    """
    found = [open_set_of(study.data, study.network(one), unseen[one.seed]) for one in models]
    return np.array([one.recall for one in found]), np.array([one.auc for one in found])


def open_set_of(data: Dataset, network: Any, names: Sequence[str]) -> OpenSet:
    """Measure a network on images of some classes that are not test images; the same for all networks.

    Args:
        data: with these classes.
        network: learned from images of other classes, in ``eval()``.
        names: the classes, two at least.
    """
    import torch

    from kdops.models.taps import EMBEDDING, features_of

    classes = [data.classes.index(name) for name in names]
    rows = np.flatnonzero(np.isin(data.labels, classes) & ~data.test)
    if data.has_tracks:
        rows = frames_of_tracks(data, rows, FRAMES)
    rows = some_of_each(rows, data.labels[rows], MOST_IMAGES // len(classes))
    parts = np.array_split(rows, -(-len(rows) // 512))
    values = [features_of(network, torch.from_numpy(data.images[part]), [EMBEDDING])[EMBEDDING] for part in parts]
    tracks = data.tracks[rows]
    # An image without a track is one of its own.
    return open_set(
        torch.cat(values).numpy(), data.labels[rows], np.where(tracks < 0, -1 - np.arange(len(rows)), tracks)
    )


def some_of_each(rows: np.ndarray, labels: np.ndarray, most: int) -> np.ndarray:
    """Return at most so many of the rows of each class, drawn the same way each time, in their order."""
    drawn = np.random.default_rng(0).permutation(len(rows))
    kept = [drawn[labels[drawn] == label][:most] for label in np.unique(labels)]
    return np.asarray(rows[np.sort(np.concatenate(kept))])


def open_set(embeddings: np.ndarray, labels: np.ndarray, tracks: np.ndarray) -> OpenSet:
    """Return what embeddings are worth.

    Args:
        embeddings: ``[N, D]``.
        labels: ``[N]``, at least two classes, of several tracks each.
        tracks: ``[N]``; images of one track are never compared.
    """
    from sklearn.metrics import roc_auc_score

    unit = embeddings / np.maximum(np.linalg.norm(embeddings, axis=1, keepdims=True), 1e-12)
    similar = (unit @ unit.T).astype(np.float64)
    apart = tracks[:, None] != tracks[None, :]
    same = labels[:, None] == labels[None, :]
    nearest = np.where(apart, similar, -np.inf).argmax(axis=1)
    has_partner = (apart & same).any(axis=1)
    pairs = np.triu(apart, 1)
    return OpenSet(
        float((labels[nearest] == labels)[has_partner].mean()), float(roc_auc_score(same[pairs], similar[pairs]))
    )
