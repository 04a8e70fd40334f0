"""What a study reports at its end: rows of its table, sentences for the terminal, a note for the run's page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from numpy.typing import ArrayLike

from kdops.config.criterion import SCORES
from kdops.config.methods import LOGITS
from kdops.config.settings import Settings
from kdops.data.dataset import Dataset
from kdops.data.splits import Split
from kdops.reporting.tables import columns_of
from kdops.sweeps import schema
from kdops.sweeps.metrics import TEST_ACCURACY, TEST_BALANCED_ACCURACY
from kdops.sweeps.model import Model, Sweep
from kdops.utils.text import markdown_text
from kdops.verdicts.answer import ANSWER_FILE, Row
from kdops.verdicts.intervals import mean_interval


def summarize(what: str, sweep: Sweep) -> Row:
    """Summarize a sweep: the mean over temperatures of each replicate, then over replicates."""
    accuracies = sweep.table(TEST_ACCURACY)
    row = summary_of(what, accuracies.size, accuracies.mean(axis=1))
    return replace(row, balanced=float(sweep.table(TEST_BALANCED_ACCURACY).mean()))


def summary_of(what: str, models: int, accuracies: ArrayLike) -> Row:
    """Summarize one test accuracy a replicate, ``[replicates]``, with the number of models in all."""
    return Row(what, models, mean_interval(accuracies))


def note(heading: str, rows: Sequence[Row], sentences: Sequence[str], setting: str, more: Sequence[str] = ()) -> str:
    """Return the Markdown note of the parent run: the answer first, then the numbers, then the setting.

    The last sentences are left out where it would be too long for MLflow, which would cut off the end of it.

    Args:
        heading: the verdict in a word, or what was studied.
        rows: of the table.
        sentences: a paragraph each.
        setting: on what the numbers rest.
        more: the last paragraphs.
    """
    columns = columns_of(rows)
    names = ["test accuracy" if name == "mean" else name for name in columns]
    table = [f"| {' | '.join(['models', *names])} |", f"|---{'|---:' * len(columns)}|"]
    table += [f"| {' | '.join([row.what, *(cell(row) for cell in columns.values())])} |" for row in rows]
    where = "Every model is a row of `results.csv`. Those trained here are child runs; `kdops.reused` names the others."
    for told in range(len(sentences), -1, -1):
        left_out = len(sentences) - told
        rest = [f"{left_out} more sentences are in `{ANSWER_FILE}`."] if left_out else []
        text = "\n\n".join([f"**{heading}**", *sentences[:told], *rest, "\n".join(table), setting, where, *more])
        if len(text) <= schema.LONGEST:
            break
    return text


def about(owner: str, notes: str) -> list[str]:
    """Return what the caller wants to be remembered as paragraphs of a note; nothing where nothing was given."""
    texts = {"Owner": owner, "Notes": notes}
    return [f"{what}: {markdown_text(text)}" for what, text in texts.items() if text]


def setting(settings: Settings, data: Dataset, split: Split) -> str:
    """Return on what a study's numbers rest, and what its intervals do not cover."""
    tracks = f" Test {data.unit} of one track are near-copies, so single ones say less than their count." * (
        data.has_tracks
    )
    return (
        f"{data.name}: {data.notes.rstrip('.')}. Teacher {len(split.teacher)}, transfer {len(split.hop(0))}, "
        f"validation {len(split.validation)}, test {len(split.test)} {data.unit}; transfer={settings.transfer}, "
        f"{settings.method_of}{_method(settings)}, "
        f"chosen on {settings.select_on}{f' by {settings.select_by}' * (settings.criterion.by != SCORES[0])}; "
        f"{settings.describe_seeds()}, split {split.digest[:12]}. "
        f"Intervals are over {settings.interval_over}, on this one split and test set.{tracks}"
    )


def describe_unlabeled(settings: Settings, data: Dataset, labeled: int) -> list[str]:
    """Return how many images students learned from where some have no label, and in how many steps; else nothing.

    Args:
        settings: the study's.
        data: the data.
        labeled: how many labeled images they learned from.
    """
    if not (more := len(data.unlabeled_rows)):
        return []
    size = settings.recipes["student"].batch_size
    return [
        f"Distilled students learned from {labeled:,} labeled and {more:,} unlabeled images, those on hard labels from "
        f"the {labeled:,} labeled ones alone: {-(-(labeled + more) // size):,} steps an epoch against "
        f"{-(-labeled // size):,}."
    ]


def _method(settings: Settings) -> str:
    """Return what the students learned; of plain distillation its two options, as they are given."""
    method = settings.method
    if method.name != LOGITS.name:
        return f"method={method}"
    return f"alpha={method.soft_weight:g}, t_squared={str(method.t_squared).lower()}"


def describe_size(models: Sequence[Model], sources: Sequence[Model | None]) -> str:
    """Return that students are larger than what they were distilled from; empty where they are not.

    A reversed net is larger by design.
    """
    known = [source.parameters for source in sources if source is not None and source.parameters]
    sizes = [model.parameters for model in models if model.role in ("student", "middle") and model.parameters]
    if not known or not sizes or max(sizes) <= max(known):
        return ""
    architecture = next(model.architecture for model in models if model.parameters == max(sizes))
    return (
        f"Note: the {models[0].role} {architecture} has {max(sizes):,} parameters, more than the {max(known):,} of its "
        "source: it is not the smaller model to ship"
    )


def _called(source: Model) -> str:
    """Return what a source is called in a sentence."""
    if source.own:
        return f"the {source.role}"
    several = len(source.uri.split())
    return f"{several} models together" if several > 1 else source.name or "the source"


def describe_sweep(role: str, models: Sequence[Model], sources: Sequence[Model | None]) -> str:
    """Return in a line what a sweep resulted in, and what it was distilled from."""
    text = f"{len(models)} {role} model{'s' if len(models) != 1 else ''}"
    given = list({source.seed: source for source in sources if source is not None}.values())
    if given:
        levels = ", ".join(f"{source.temperature:g}" for source in given)
        plain = given[0].role == "teacher" or math.isnan(given[0].temperature)
        text += f" from {_called(given[0])}"
        text += "" if plain else f" (T = {levels})"
    reused = sum(model.reused for model in models)
    again = f", {reused} of them reused" if reused else ""
    accuracies = {f"{model.test_accuracy:.4f}" for model in models}
    return f"{text}{again}, test accuracy {' to '.join(sorted({min(accuracies), max(accuracies)}))}"
