"""Some of the rows of a data set, and labels with noise."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from kdops.config.image_selection import ALL_FRAMES, Selection
from kdops.data.dataset import Dataset
from kdops.data.splits import groups_of
from kdops.errors import UsageError


def select(data: Dataset, rows: np.ndarray, chosen: Selection) -> tuple[np.ndarray, str]:
    """Return the rows of a transfer set that are learned from, and in words what is left out of it.

    Raises:
        UsageError: the data have no such class, or no tracks, or no image is left.
    """
    if chosen.leave_out:
        rows = without_classes(data, rows, chosen.leave_out)
    if chosen.frames != ALL_FRAMES:
        rows = frames_of_tracks(data, rows, chosen.frames)
    return rows, chosen.words


def without_classes(data: Dataset, rows: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """Return the rows whose class is none of those named.

    Source of the experiment: Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network", 2015, section 3.

    Raises:
        UsageError: a class is unknown, or no image is left.
    """
    for name in names:
        if name not in data.classes:
            known = ", ".join(data.classes[:20])
            raise UsageError("leave_out", ",".join(names), f"there is no class {name!r}; the classes are {known}")
    left = [number for number, name in enumerate(data.classes) if name not in names]
    kept = rows[np.isin(data.labels[rows], left)]
    if not len(kept):
        raise UsageError("leave_out", ",".join(names), f"leaves none of {len(rows)} images to learn from")
    return kept


def frames_of_tracks(data: Dataset, rows: np.ndarray, count: int) -> np.ndarray:
    """Return the rows of ``count`` frames of each track, evenly spaced from the first to the last; of one the middle.

    A track that has no more stays whole, and so does an image without a track.

    Raises:
        UsageError: the data have no tracks.
    """
    if not data.has_tracks:
        raise UsageError("frames", count, f"must be all: {data.name} has no tracks")
    tracks = data.tracks[rows]
    kept = [rows[tracks < 0]]
    for track in np.unique(tracks[tracks >= 0]):
        own = rows[tracks == track]
        places = np.linspace(0, len(own) - 1, count) if count > 1 else np.array([(len(own) - 1) / 2])
        kept.append(own[places.astype(int)] if len(own) > count else own)
    return np.sort(np.concatenate(kept))


def fold_of(data: Dataset, rows: np.ndarray, folds: int, seed: int) -> np.ndarray:
    """Return the fold of each row, from 0 to ``folds - 1``; a track is in one fold, and classes are spread evenly.

    Args:
        data: the data set.
        rows: the images that are dealt.
        folds: how many there are.
        seed: of the sequence in which the tracks of a class are dealt.
    """
    group, label_of = groups_of(data, rows)
    dealt = np.lexsort((np.random.default_rng([seed, 2]).random(len(label_of)), label_of))
    fold = np.empty(len(dealt), dtype=np.int64)
    fold[dealt] = np.arange(len(dealt)) % folds
    return fold[group]


def noisy_labels(data: Dataset, share: float, seed: int, clean: np.ndarray) -> np.ndarray:
    """Return the labels with a share of them replaced by another class, drawn evenly among the others.

    Source of the experiment: Dietterich, "An Experimental Comparison of Three Methods for Constructing Ensembles of
    Decision Trees", 2000, section 4.

    Args:
        share: of the labels, from 0 to 1.
        seed: the noise of an image depends on nothing else.
        clean: rows whose labels stay: what models are measured on.
    """
    random = np.random.default_rng([seed, 1])
    classes = len(data.classes)
    replaced = random.random(len(data.labels)) < share
    shift = random.integers(1, classes, len(data.labels)) if classes > 1 else np.zeros(len(data.labels), dtype=np.int64)
    replaced[clean] = False
    return np.where(replaced, (data.labels + shift) % classes, data.labels).astype(data.labels.dtype)
