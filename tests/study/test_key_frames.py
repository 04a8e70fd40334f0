"""Key frames: as many of each track as asked for, by each rule."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from kdops.data import dataset
from kdops.study.key_frames import FRAMES, key_frames, tracks_of
from kdops.tracking.datasets import Trainset

DIGITS = dataset.load("digits")
ROWS = np.arange(20, 200)


def study_of(data):
    settings = SimpleNamespace(dry_run=True)
    return SimpleNamespace(data=data, settings=settings, transfer_images=lambda _: Trainset(ROWS, "transfer images"))


def with_tracks():
    tracks = np.full(len(DIGITS.labels), -1)
    tracks[ROWS] = ROWS // 30
    return replace(DIGITS, tracks=tracks)


@pytest.mark.parametrize("rule", ["random", "last"])
@pytest.mark.parametrize("count", [1, 3, 30])
def test_each_track_has_as_many_frames_as_asked_for(rule, count):
    data = with_tracks()
    chosen = key_frames(study_of(data), count, rule, seed=1)
    counts = np.bincount(data.tracks[chosen.rows])
    assert (counts == np.minimum(np.bincount(data.tracks[ROWS]), count)).all()
    assert set(chosen.rows) <= set(ROWS)
    if rule == "last":
        assert all(
            set(own[-count:]) <= set(chosen.rows) for own in np.split(ROWS, np.flatnonzero(np.diff(ROWS // 30)) + 1)
        )
    else:
        other = key_frames(study_of(data), count, rule, seed=2)
        assert (other.what != chosen.what) is (count < 30)


def test_images_of_one_class_in_a_row_stand_for_a_track_where_there_is_none():
    tracks = tracks_of(DIGITS, ROWS)
    for track in np.unique(tracks):
        assert len(set(DIGITS.labels[ROWS][tracks == track])) == 1
    assert np.unique(tracks, return_counts=True)[1].max() <= FRAMES
    assert len(np.unique(tracks)) == sum(-(-int(n) // FRAMES) for n in np.bincount(DIGITS.labels[ROWS]))
