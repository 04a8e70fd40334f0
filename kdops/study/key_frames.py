"""Which frames of each track a student's source is asked about: key frames, by a rule or at random."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from kdops.data.dataset import Dataset
from kdops.sweeps.model import Model
from kdops.tracking.datasets import Trainset

if TYPE_CHECKING:
    from kdops.study.study import Study

FRAMES = 30
"""Of a track of GTSRB; where data have no tracks, as many images of one class in a row stand for one."""


def key_frames(study: Study[Any], count: int, rule: str, seed: int, model: Model | None = None) -> Trainset:
    """Return the transfer images that are some frames of each track.

    Source of the experiment: Farhadi and Yang, "TKD: Temporal Knowledge Distillation for Active Perception", 2020.

    Args:
        study: whose transfer images are chosen from.
        count: frames of each track; a shorter one stays whole.
        rule: ``random``; ``last``, in which a sign is largest; or ``unsure``, those to whose most probable class a
            student gives the least probability.
        seed: of what is random.
        model: that student. A dry run chooses at random in its place.
    """
    images, data = study.transfer_images(0), study.data
    tracks = tracks_of(data, images.rows)
    if rule == "last":
        worth = np.arange(len(tracks), dtype=float)
    elif model is None or study.settings.dry_run:
        worth = np.random.default_rng([seed, count, 3]).random(len(tracks))
    else:
        worth = -study.logits(model, images.rows).softmax(dim=1).amax(dim=1).numpy()
    ranked = np.lexsort((-worth, tracks))
    _, starts, sizes = np.unique(tracks[ranked], return_index=True, return_counts=True)
    place = np.arange(len(tracks)) - np.repeat(starts, sizes)
    return images.subset(np.sort(images.rows[ranked[place < count]]), f", {count} {rule} of each track")


def tracks_of(data: Dataset, rows: np.ndarray) -> np.ndarray:
    """Return the number of the track of each row, or of what stands for one."""
    if data.has_tracks:
        return np.asarray(data.tracks[rows])
    by_class = np.argsort(data.labels[rows], kind="stable")
    labels = data.labels[rows][by_class]
    within = np.arange(len(rows)) - np.searchsorted(labels, labels)
    tracks = np.empty(len(rows), dtype=np.int64)
    tracks[by_class] = labels * len(rows) + within // FRAMES
    return tracks
