"""What networks of a study use of images, epoch by epoch."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from kdops.config.kept_epochs import KeptEpochs
from kdops.config.knowledge import KnowledgeProbe
from kdops.config.settings import Settings
from kdops.packaging.epoch_weights import read_epoch
from kdops.probing.knowledge import EntropyMaps
from kdops.study.knowledge import Course, Courses, course_figure, courses_table
from kdops.study.open import open_study

GRID = 4
INSIDE = torch.zeros(2, GRID, GRID, dtype=torch.bool)
INSIDE[:, :2] = True
PROBE = KnowledgeProbe(grid=GRID, noises=4, steps=3)


def course(*points, ways=(0.0, 1.0, 3.0, 4.0)):
    """Return a course of two images whose maps have points at these places of the foreground, epoch by epoch."""
    maps = {}
    for epoch, own in enumerate(points):
        entropies = torch.full((2, GRID**2), -2.0)
        for image, places in enumerate(own):
            entropies[image, places] = -3.0
        maps[epoch] = EntropyMaps(entropies.reshape(2, GRID, GRID), INSIDE, PROBE)
    return Course(maps, dict(enumerate(ways[: len(points)])))


def test_the_best_epoch_of_an_image_is_the_first_with_most_points_and_the_initial_network_is_none():
    found = course(([0, 1, 2, 3], []), ([0], []), ([0, 1], [4]), ([1, 2], [4, 5]))
    assert found.counts.tolist() == [[1, 0], [2, 1], [2, 2]]
    assert found.best_ways().tolist() == [3.0, 4.0]
    # An image that never has a point has no best epoch.
    assert course(([], []), ([0], []), ([0], [])).best_ways().tolist() == [1.0]


def test_stability_is_the_share_of_all_points_that_are_left():
    found = course(([5], [5]), ([0], []), ([0, 1], [4]), ([1, 2], [4, 5]))
    assert found.stability() == pytest.approx((2 / 3 + 2 / 2) / 2)
    assert np.isnan(course(([], []), ([], [])).stability())


def test_other_thresholds_are_of_the_same_maps():
    found = course(([], []), ([0], [1, 2]))
    assert found.value("points") == pytest.approx(3 / 16)
    assert found.value("points", 0) == 0
    assert found.at(1.5).value("points") == 0
    table = courses_table({"net": [found]}, (0.2, 1.5))
    assert table["points"].tolist() == [0, 0, pytest.approx(3 / 16), 0]
    assert len(course_figure("title", {"net": [found], "without points": [course(([], []), ([], []))]}).axes) == 2


def test_the_way_of_the_weights_is_that_of_what_is_learned(store):
    given = {"seeds": "1", "epochs": "2", "teacher": "mlp(hidden=4)", "keep_epochs": "0-2"}
    with open_study("teacher", Settings.parse("teacher", **given)) as study:
        models = study.train("teacher").records
        found, last = Courses(study, PROBE, 5).of(models, range(3))[0], Courses(study, PROBE, 5).of(models)[0]
    assert KeptEpochs.of(found.maps).spans == ((0, 2),)
    assert [*last.maps] == [2]
    assert torch.equal(last.last.entropies, found.last.entropies)
    weights = [
        np.concatenate([own.numpy().ravel() for name, own in read_epoch(models[0], epoch).items() if "net." in name])
        for epoch in range(3)
    ]
    steps = [np.linalg.norm(after - before) for before, after in pairwise(weights)]
    assert [*found.ways.values()] == pytest.approx([0, *np.cumsum(steps) / np.linalg.norm(weights[0])], rel=1e-5)
