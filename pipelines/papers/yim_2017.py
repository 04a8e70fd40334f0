"""Yim, Joo, Bae and Kim (2017): a student first learns how layers of its source flow into each other, then its task.

    mlflow run . -e paper -P paper=yim-2017

The paper counts the epochs of the second phase. Here both phases count: the student of two phases has as many epochs in
all as those that it is held against, a third of them in the first. Two further students have a third as many epochs
for their task, one beside its first phase and one with both phases within that third.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from kdops.config.architectures import CNN
from kdops.config.methods import parse_method
from kdops.config.settings import HARD
from kdops.config.studies import PaperSettings
from kdops.data.dataset import Dataset
from kdops.errors import UsageError
from kdops.papers import Statement, interpreted
from kdops.study.summary import summarize
from kdops.verdicts.answer import Answer

if TYPE_CHECKING:
    from kdops.study.study import Study
    from kdops.sweeps.model import Sweep

THIRD = 3

STATEMENTS: Mapping[str, Statement] = interpreted(
    "nets are far smaller than the paper's residual ones",
    {
        "accuracy": Statement(
            "the student of two phases against the one on hard labels, as many epochs in all",
            "a student that learns the flow first is better than one that learns its task alone",
            "section 4.2, network minimization",
            interpreted="the paper's first phase comes on top",
            from_memory=True,
        ),
        "fitnet": Statement(
            "the student of two phases against the one with FitNet's hints, as many epochs in all",
            "it is better than a student with FitNet's hints",
            "section 4.2, network minimization",
            from_memory=True,
        ),
        "fast": Statement(
            "the student with a third of the epochs for its task, after its first phase, against hard labels",
            "it reaches the same accuracy in a third of the steps",
            "section 4.1, fast optimization",
            "the difference is above minus the margin",
            from_memory=True,
        ),
        "fast in all": Statement(
            "the student with a third of the epochs in all against the one on hard labels",
            "the same, where the first phase counts too",
            "section 4.1, our control",
            "the difference is above minus the margin",
            interpreted="the paper does not count the first phase",
        ),
        "few epochs": Statement(
            "the student on hard labels with a third of the epochs against the one with all",
            "labels alone do not reach the same accuracy in a third of the steps",
            "section 4.1, our control",
            "the difference is below minus the margin",
            interpreted="the paper shows it by curves",
        ),
        "logits": Statement(
            "the student of two phases against the one distilled by logits, as many epochs in all",
            "the flow teaches more than softened outputs do",
            "section 4.2, our control",
            interpreted="the paper has no such comparison",
        ),
    },
)


def check(settings: PaperSettings, _: Dataset) -> None:
    """Refuse networks without maps, and epochs that cannot be parted.

    Raises:
        UsageError: a network is not convolutional, or the student has fewer than six epochs.
    """
    for role in ("teacher", "student"):
        if not isinstance(settings.recipes[role].architecture, CNN):
            raise UsageError(role, settings.recipes[role].architecture, "must be cnn(...): maps are compared")
    if (epochs := settings.recipes["student"].epochs) < 2 * THIRD:
        raise UsageError("epochs", f"student={epochs}", f"must be at least {2 * THIRD}: both phases fit into a third")


def run(study: Study[PaperSettings]) -> Answer:
    """Train the students, and conclude."""
    settings = study.settings
    recipe, temperature, margin = settings.recipes["student"], settings.temperature, settings.margin
    few = recipe.epochs // THIRD
    teachers = study.train("teacher")

    def student(text: str, epochs: int, temperatures: list[float]) -> Sweep:
        own = study.with_recipes(student=recipe.replace(epochs=epochs)).with_method(method=parse_method(text))
        return own.distill(teachers, "student", temperatures)

    plain = student("logits", recipe.epochs, [HARD, temperature])
    short = student("logits", few, [HARD])
    hints = student("fitnet", recipe.epochs, [temperature])
    flow = student(f"fsp(share={1 / THIRD:.4f})", recipe.epochs, [temperature])
    quick, quickest = (student("fsp(share=0.5)", epochs, [temperature]) for epochs in (2 * few, few))
    study.stop_if_planned()
    hard = plain.hard().accuracies()
    findings = (
        STATEMENTS["accuracy"].above(flow.accuracies() - hard),
        STATEMENTS["fitnet"].above(flow.accuracies() - hints.accuracies()),
        STATEMENTS["fast"].above(quick.accuracies() - hard, -margin),
        STATEMENTS["fast in all"].above(quickest.accuracies() - hard, -margin),
        STATEMENTS["few epochs"].below(short.accuracies() - hard, -margin),
        STATEMENTS["logits"].above(flow.accuracies() - plain.soft().accuracies()),
    )
    rows = [
        summarize("teacher", teachers),
        summarize("student, hard labels", plain.hard()),
        summarize(f"student, hard labels, {few} epochs", short),
        summarize("student, logits", plain.soft()),
        summarize("student, FitNet", hints),
        summarize("student, two phases", flow),
        summarize(f"student, two phases, {few} + {few} epochs", quick),
        summarize(f"student, two phases, {few} epochs in all", quickest),
    ]
    return study.conclude("yim-2017", Answer.of(rows, findings=findings), report=True)
