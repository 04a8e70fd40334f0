"""What the networks of a study use of images, epoch by epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from kdops.config.knowledge import KnowledgeProbe
from kdops.data.examples import evenly, examples_of
from kdops.data.foreground import foreground_boxes, patches_within
from kdops.packaging.epoch_weights import read_epoch
from kdops.probing.knowledge import EntropyMaps, entropy_maps
from kdops.reporting.figures import Curve, panels_figure
from kdops.reporting.knowledge_figure import knowledge_figure
from kdops.sweeps.model import Model
from kdops.sweeps.params import EPOCHS

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure
    from torch.nn import Module

    from kdops.study.study import Study

BUFFERS = ("mean", "std")
"""What a network normalizes by, which is not learned."""


@dataclass(frozen=True, eq=False)
class Course:
    """What a network used of images after each epoch.

    Attributes:
        maps: the entropy maps by epoch, ascending.
        ways: how far the weights had moved by then: the lengths of all steps from epoch to epoch, over the length of
            the initial weights (D of Cheng and others, 2020); 0 where the initial weights are not known.
    """

    maps: Mapping[int, EntropyMaps]
    ways: Mapping[int, float]

    @property
    def last(self) -> EntropyMaps:
        """The maps of the trained network."""
        return self.maps[max(self.maps)]

    def value(self, name: str, epoch: int | None = None) -> float:
        """Return what :meth:`EntropyMaps.metrics` calls ``knowledge_<name>``, after the last epoch or another one."""
        maps = self.last if epoch is None else self.maps[epoch]
        return maps.metrics().get(f"knowledge_{name}", float("nan"))

    def at(self, threshold: float) -> Course:
        """Return the same with points by another threshold."""
        maps = {epoch: replace(own, probe=replace(own.probe, threshold=threshold)) for epoch, own in self.maps.items()}
        return replace(self, maps=maps)

    @property
    def counts(self) -> np.ndarray:
        """The points of the foreground of each image after each epoch but 0, ``[epochs, images]``."""
        return self._points().sum(axis=2)

    def best_ways(self) -> np.ndarray:
        """Return how far the weights had moved where an image had most points, the first time, ``[images]``.

        Images that never have one are left out.
        """
        counts, ways = self.counts, np.array([way for epoch, way in self.ways.items() if epoch])
        return np.asarray(ways[counts.argmax(axis=0)][counts.max(axis=0) > 0])

    def stability(self) -> float:
        """Return the share of all points of the foreground, those of any epoch, that the last epoch has.

        The mean over the images that have one; rho of Cheng and others, 2020.
        """
        points = self._points()
        ever, at_last = points.any(axis=0).sum(axis=1), points[-1].sum(axis=1)
        return float((at_last[ever > 0] / ever[ever > 0]).mean()) if ever.any() else float("nan")

    def _points(self) -> np.ndarray:
        """Return the points of the foreground, ``[epochs, images, patches]``."""
        own = [(one.points & one.foreground).flatten(1).numpy() for epoch, one in self.maps.items() if epoch]
        return np.stack(own)


class Courses:
    """Maps what models of a study use of the same test images.

    Args:
        study: whose models and images are used.
        probe: how they are mapped.
        images: how many, evenly among all test images.
    """

    def __init__(self, study: Study[Any], probe: KnowledgeProbe, images: int):
        self.study, self.probe = study, probe
        rows = evenly(study.split.test, images)
        self.pixels, _ = examples_of(study.data, rows)
        boxes, self.foreground = foreground_boxes(study.data, study.settings.data_root, rows)
        self.inside = patches_within(boxes, probe.grid)

    def of(self, models: Sequence[Model], epochs: Sequence[int] = ()) -> list[Course]:
        """Return the course of each model over some epochs, or only the last one where none are named."""
        what = f"map {len(self.pixels)} images by {len(models)} models"
        with self.study.executor.reporter.bar(f"{what}, {len(epochs) or 1} epochs each"):
            return [self._course(model, epochs) for model in models]

    def _course(self, model: Model, epochs: Sequence[int]) -> Course:
        if not epochs:
            last = int(model.params[EPOCHS])
            return Course({last: self._maps(self.study.network(model))}, {last: 0.0})
        maps = {epoch: self._maps(network_after(self.study, model, epoch)) for epoch in epochs}
        weights = [_vector(read_epoch(model, epoch)) for epoch in epochs]
        steps = [0.0, *((after - before).norm().item() for before, after in pairwise(weights))]
        ways = np.cumsum(steps) / weights[0].norm().item()
        return Course(maps, dict(zip(epochs, ways.tolist(), strict=True)))

    def _maps(self, network: Any) -> EntropyMaps:
        return entropy_maps(network, self.pixels, self.inside, self.probe)

    def figure(self, title: str, course: Course) -> Figure:
        """Draw some of the images with the maps of the trained network."""
        return knowledge_figure(title, self.pixels.numpy(), course.last)


def network_after(study: Study[Any], model: Model, epoch: int) -> Module:
    """Return the network of a stored model as it was after an epoch, in ``eval()``.

    Raises:
        KdopsError: its weights after that epoch were not kept, or are gone.
    """
    network = study.network(model)
    network.load_state_dict(read_epoch(model, epoch))
    return network


def values_of(courses: Sequence[Course], name: str, epoch: int | None = None) -> np.ndarray:
    """Return a value of each course, ``[replicates]``, see :meth:`Course.value`."""
    return np.array([one.value(name, epoch) for one in courses])


def stabilities(courses: Sequence[Course]) -> np.ndarray:
    """Return the stability of each course, ``[replicates]``."""
    return np.array([one.stability() for one in courses])


def mean_ways(courses: Sequence[Course]) -> np.ndarray:
    """Return the mean way over images of each course, ``[replicates]``; nan where no image has a point."""
    found = [one.best_ways() for one in courses]
    return np.array([own.mean() if len(own) else np.nan for own in found])


def spreads_of_ways(courses: Sequence[Course]) -> np.ndarray:
    """Return the deviation of the ways over images of each course, ``[replicates]``; nan where it is zero."""
    found = [one.best_ways() for one in courses]
    return np.array([own.std() or np.nan if len(own) else np.nan for own in found])


def _vector(weights: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Return the learned values of a network as one vector."""
    learned = [own.flatten().double() for name, own in weights.items() if name not in BUFFERS]
    return torch.cat(learned)


def course_figure(title: str, courses: Mapping[str, Sequence[Course]]) -> Figure:
    """Draw the points of the foreground and their share of all points over the epochs, by the name of a net."""
    panels = {"points, share of the object's patches": "points", "the object's share of all points": "ratio"}

    def curve(name: str, value: str) -> Curve:
        found = courses[name]
        measured = np.array([[one.value(value, epoch) for epoch in found[0].maps] for one in found])
        # Where there are no points the object has no share of them.
        known = np.isfinite(measured).all(axis=0)
        return Curve(name, np.array([*found[0].maps])[known].tolist(), measured[:, known])

    drawn = {panel: [curve(name, value) for name in courses] for panel, value in panels.items()}
    return panels_figure(title, "epoch (0: before the first)", drawn, 2)


def courses_table(courses: Mapping[str, Sequence[Course]], thresholds: Sequence[float]) -> pd.DataFrame:
    """Return what was measured, one row for each net, replicate, epoch and threshold."""
    import pandas as pd

    values = ("images", "unmoved", "points", "points_background", "ratio", "contrast")
    rows = [
        {
            "net": name,
            "replicate": number,
            "epoch": epoch,
            "threshold": threshold,
            "way": way,
            **{value: course.at(threshold).value(value, epoch) for value in values},
        }
        for name, found in courses.items()
        for number, course in enumerate(found)
        for epoch, way in course.ways.items()
        for threshold in thresholds
    ]
    return pd.DataFrame(rows)
