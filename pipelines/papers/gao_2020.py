"""Gao, Shen, Li and Loy (2020): a student and an assistant, which learns what the student leaves of the source's maps.

    mlflow run . -e paper -P paper=gao-2020

Both are made of one budget, the student's: they have 0.7 and 0.55 of its filters, and together no more parameters and
operations. Beside them stand the undivided student, on labels, with softened outputs and with FitNet's hints, and our
control: the same two nets, whose logits are summed and learn softened outputs. All see the same images for as many
epochs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
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

SHARES = (0.7, 0.55)
"""Of the filters of the undivided student: what student and assistant have."""

STATEMENTS: Mapping[str, Statement] = interpreted(
    "stages are learned jointly, and the weight of the maps is not tuned",
    {
        "fitnet": Statement(
            "student and assistant against the undivided student with FitNet",
            "a student and an assistant of one budget are better than the student that mimics the maps alone",
            "abstract",
        ),
        "logits": Statement(
            "student and assistant against the undivided student distilled by its logits",
            "they are better than distillation by softened outputs at the same cost",
            "abstract",
        ),
        "labels": Statement(
            "student and assistant against the undivided student on hard labels",
            "they are better than the student trained alone",
            "section on experiments",
            from_memory=True,
        ),
        "pair": Statement(
            "student and assistant against the same two nets whose logits are summed",
            "what they gain is more than what two nets of one budget gain without maps",
            "section on experiments, our control",
            interpreted="the paper has no such control",
        ),
    },
)


def check(settings: PaperSettings, _: Dataset) -> None:
    """Refuse a student that has no filters to divide.

    Raises:
        UsageError: it is not convolutional.
    """
    student = settings.recipes["student"].architecture
    if not isinstance(student, CNN):
        raise UsageError("student", student, "must be cnn(...): its filters are divided")


def run(study: Study[PaperSettings]) -> Answer:
    """Train the undivided students, then the two of the same budget, and conclude."""
    settings = study.settings
    recipe, temperature = settings.recipes["student"], settings.temperature
    whole = recipe.architecture
    assert isinstance(whole, CNN)
    small, assistant = (replace(whole, filters=max(1, int(share * whole.filters))) for share in SHARES)
    divided = study.with_recipes(student=recipe.replace(architecture=small))
    teachers = study.train("teacher")
    plain = study.with_method(method=parse_method("logits")).distill(teachers, "student", [HARD, temperature])
    hints = study.with_method(method=parse_method("fitnet")).distill(teachers, "student", [temperature])
    both, pair = (
        divided.with_method(method=parse_method(text)).distill(teachers, "student", [temperature])
        for text in (f"residual(assistant={assistant})", f"pair(logits,assistant={assistant})")
    )
    study.stop_if_planned()
    found = both.accuracies()
    findings = (
        STATEMENTS["fitnet"].above(found - hints.accuracies()),
        STATEMENTS["logits"].above(found - plain.soft().accuracies()),
        STATEMENTS["labels"].above(found - plain.hard().accuracies()),
        STATEMENTS["pair"].above(found - pair.accuracies()),
    )
    named = {
        "undivided, hard labels": plain.hard(),
        "undivided, logits": plain.soft(),
        "undivided, FitNet": hints,
        "student and assistant, residual": both,
        "student and assistant, logits summed": pair,
    }
    rows = [summarize("teacher", teachers), *(summarize(what, models) for what, models in named.items())]
    sizes = "; ".join(f"{what} {models.records[0].parameters:,}" for what, models in named.items())
    return study.conclude(
        "gao-2020", Answer.of(rows, findings=findings, remarks=[f"Parameters: {sizes}."]), report=True
    )
