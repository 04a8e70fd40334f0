"""What coarser arithmetic costs in accuracy on a graphics processor: the same trainings in single precision beside it.

    KDOPS_DATA_ROOT=... uv run python -m benchmarks --only precision --device cuda

Each pair is one seed (of students, their mean over the temperatures): the same initial weights, batches and dropout,
and a difference of test accuracies. The test images choose nothing here.
"""

from __future__ import annotations

import os
import statistics
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from unittest import mock

import torch

from benchmarks.pairs import Figure, Options
from benchmarks.passes import train
from benchmarks.work import CLASSES, SHAPE, TEMPERATURES, Work, everything
from kdops.config.datasets import DATASETS
from kdops.distillation.logits import LogitDistillation
from kdops.distillation.sources import Kept
from kdops.models.classifier import build
from kdops.training.evaluation import compute_logits
from kdops.training.trainer import Group, Images

__all__ = ["measure"]

TEACHERS, SWEEPS = 16, 3


def measure(options: Options) -> Iterator[Figure]:
    """Measure teachers in bf16 and in TF32, and sweeps of students in TF32, each against single precision."""
    if options.device != "cuda" or not os.environ.get("KDOPS_DATA_ROOT"):
        print("  precision needs GTSRB and a graphics processor: KDOPS_DATA_ROOT and --device cuda", file=sys.stderr)
        return
    work, test = everything("disjoint", options.device)
    groups = [Group(seed, (0.0,)) for seed in range(TEACHERS)]
    with single_precision():
        nets, exact = _tested("teacher", groups, work, test)
    with mock.patch("kdops.training.separate.autocast_bf16", return_value=nullcontext()):
        tf32 = _tested("teacher", groups, work, test)[1]
    bf16 = _tested("teacher", groups, work, test)[1]
    yield _difference("teacher: test accuracy in bf16 - in single precision", bf16, exact)
    yield _difference("teacher: test accuracy in TF32 - in single precision", tf32, exact)
    source = compute_logits(nets[:1], work.images.pixels, options.device)[0]
    groups = [Group(seed, TEMPERATURES, Kept(source)) for seed in range(SWEEPS)]
    with single_precision():
        exact = _tested("student", groups, work, test)[1]
    tf32 = _tested("student", groups, work, test)[1]
    # Those of a seed share their batches, so their differences are no independent ones.
    means = (_means_of(found, SWEEPS) for found in (tf32, exact))
    yield _difference("students, mean over T = 1 to 29: test accuracy in TF32 - in single precision", *means)


@contextmanager
def single_precision() -> Iterator[None]:
    """Let kdops train without what it does to be fast on a graphics processor."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        with (
            mock.patch("kdops.training.separate.autocast_bf16", return_value=nullcontext()),
            mock.patch("kdops.training.training_pass.allow_tf32", return_value=nullcontext()),
        ):
            yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


def _tested(role: str, groups: list[Group], work: Work, test: Images) -> tuple[list, list[float]]:
    """Train with the recipe's epochs, and give the networks and their accuracies on the test images."""
    recipe = DATASETS["gtsrb"].recipes[role]
    nets = []
    for one in train(recipe, groups, work.inputs(role), LogitDistillation()):
        nets.append(build(recipe.architecture, SHAPE, CLASSES, *work.statistics).eval())
        nets[-1].load_state_dict(one.state)
    right = compute_logits(nets, test.pixels, work.device).argmax(dim=2) == test.labels.cpu()
    return nets, right.double().mean(dim=1).tolist()


def _means_of(accuracies: list[float], groups: int) -> list[float]:
    """Return the mean of each group of equal size, one group after another."""
    size = len(accuracies) // groups
    return [statistics.fmean(accuracies[i : i + size]) for i in range(0, len(accuracies), size)]


def _difference(what: str, ours: list[float], exact: list[float]) -> Figure:
    found = tuple(a - b for a, b in zip(ours, exact, strict=True))
    error = statistics.stdev(found) / len(found) ** 0.5
    told = (
        f"mean of the differences {statistics.fmean(found):+.5f}, its standard error {error:.5f}; "
        f"mean accuracy in single precision {statistics.fmean(exact):.4f}"
    )
    return Figure("precision", what, found, "", told)
