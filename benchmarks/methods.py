"""What a method costs: the processor time of a training of stacked students, over that with the method ``logits``.

Both have hard labels beside them, as in a study, so that both compute the cross entropy with the labels.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial

import torch

from benchmarks.pairs import Figure, Options, in_turn
from benchmarks.passes import train
from benchmarks.work import CLASSES, SHAPE
from kdops.config.datasets import DATASETS
from kdops.config.methods import METHODS, parse_method
from kdops.config.recipes import Recipe
from kdops.distillation.method import Method, build_method
from kdops.distillation.sources import Kept
from kdops.models.classifier import pixel_statistics
from kdops.training.trainer import Group, Images, PassInputs
from kdops.utils.random import named_generator

__all__ = ["measure"]

PLAIN = "logits"

SHAPES = {"digits": ((1, 8, 8), 10, 1024, 8, 20, 32), "gtsrb": (SHAPE, CLASSES, 1024, 1, 29, 2048)}
"""By data set: shape of an image, classes, images, epochs, students, and size of the source's embedding."""

LEFT_OUT = {"gtsrb": ("rkd",)}
"""Methods that take minutes there."""


def measure(options: Options) -> Iterator[Figure]:
    """Measure each method whose students are stacked, in the shapes of two data sets."""
    for name, (shape, classes, count, epochs, students, size) in SHAPES.items():
        recipe = DATASETS[name].recipes["student"].replace(epochs=epochs)
        inputs = _drawn(shape, classes, count)
        temperatures = tuple(float(t) for t in range(students))
        given = (one for one, spec in METHODS.items() if spec.is_stacked and one not in LEFT_OUT.get(name, ()))
        chosen = [PLAIN, *(one for one in given if one != PLAIN)]
        methods = {one: build_method(parse_method(one)) for one in chosen}
        once = [partial(_seconds, recipe, inputs, method, temperatures, size) for method in methods.values()]
        base, *others = in_turn(options.pairs, *_warmed(once))
        told = f"{students} students of {name}, {recipe.architecture}, batches of {recipe.batch_size}"
        for one, own in zip(chosen[1:], others, strict=True):
            ratios = tuple(a / b for a, b in zip(own, base, strict=True))
            least = f"{told}; the least time over the least {min(own) / min(base):.3g}"
            yield Figure("methods", f"{one} / {PLAIN}, {name}", ratios, "", least)


def _warmed(once: list[Callable[[], float]]) -> list[Callable[[], float]]:
    """Return what is measured after each has run once."""
    for one in once:
        one()
    return once


def _drawn(shape: tuple[int, int, int], classes: int, count: int) -> PassInputs:
    """Return random images and labels."""
    stream = named_generator("benchmark", "methods")
    pixels = torch.randint(0, 256, (count + 200, *shape), dtype=torch.uint8, generator=stream)
    labels = torch.randint(0, classes, (count + 200,), generator=stream)
    images, validation = (Images(pixels[rows], labels[rows]) for rows in (slice(count), slice(count, None)))
    return PassInputs("student", images, validation, classes, pixel_statistics(images.pixels))


def _seconds(recipe: Recipe, inputs: PassInputs, method: Method, temperatures: tuple[float, ...], size: int) -> float:
    """Return the processor time of a training."""
    stream, count = named_generator("benchmark", "source"), len(inputs.images.labels)
    logits = 4 * torch.randn(count, inputs.classes, generator=stream)
    taps = {tap: torch.randn(count, size, generator=stream).relu() for tap in method.needs.source}
    started = time.process_time()
    list(train(recipe, [Group(0, temperatures, Kept(logits, taps))], inputs, method))
    return time.process_time() - started
