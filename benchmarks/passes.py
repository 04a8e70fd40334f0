"""Training of a whole sweep by kdops' own passes, without a study and its store: for benchmarks and tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

from kdops.config.recipes import Recipe
from kdops.distillation.method import Method
from kdops.training.checkpoint import Checkpoint
from kdops.training.trainer import Group, PassInputs, Trained, cut_passes, nets_a_pass, train_pass
from kdops.utils.progress import Progress

__all__ = ["train"]

CheckpointOf = Callable[[int], Checkpoint | None]


def train(
    recipe: Recipe,
    groups: Sequence[Group],
    inputs: PassInputs,
    method: Method,
    *,
    progress: Progress | None = None,
    checkpoint_of: CheckpointOf = lambda number: None,
) -> Iterator[Trained]:
    """Train every member of every group in as many passes as it takes, and yield one after another.

    The nets of a replicate that are stacked are trained in one pass; others one after another, on a GPU a few at a
    time. The arguments are those of :func:`train_pass`, but for ``progress``, which counts over all passes, and
    ``checkpoint_of``, which returns the checkpoint of a pass by its number.
    """
    inputs, count = inputs.there(), len(inputs.images.labels)
    together = bool(recipe.architecture.stacks) and method.is_stacked
    most = nets_a_pass(recipe, inputs.shape, inputs.classes, inputs.device)
    total, before = sum(len(group.temperatures) for group in groups) * count * recipe.epochs, 0
    for number, part in enumerate(cut_passes(groups, together, most)):
        report = None if progress is None else partial(_report_overall, progress, before, total)
        yield from train_pass(recipe, part, inputs, method, progress=report, checkpoint=checkpoint_of(number))
        before += sum(len(group.temperatures) for group in part) * count * recipe.epochs


def _report_overall(progress: Progress, before: int, total: int, done: int, _: int) -> None:
    """Report the progress of one pass as that of all."""
    progress(before + done, total)
