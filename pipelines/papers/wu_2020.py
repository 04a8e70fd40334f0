"""Wu, He, Hu and Sun (2020): embeddings of a student for classes that neither it nor its source has seen.

    mlflow run . -e paper -P paper=wu-2020

Of each replicate a quarter of the classes, drawn by its seed, is in no training image of source and students. Measured
is how well embeddings tell images of these classes apart, over pairs of different tracks: recall@1 and the area under
the curve. The paper's loss, correlations of embeddings at massive numbers of classes, is not built; ``cc``, which
compares correlations of the embeddings of a batch, stands for it. ``pkt`` and ``rkd`` are in the table without a
test.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from kdops.config.methods import parse_method
from kdops.config.settings import HARD
from kdops.config.studies import PaperSettings
from kdops.data.dataset import Dataset
from kdops.errors import UsageError
from kdops.papers import Statement, interpreted
from kdops.study.summary import summary_of
from kdops.sweeps.model import Model, Sweep
from kdops.verdicts.answer import Answer
from kdops.verdicts.findings import Finding

if TYPE_CHECKING:
    from kdops.study.study import Study

HELD_OUT = 4
"""One class of so many is held out."""

TESTED = "cc"
"""Named before any run: the best of several on these classes would be chosen by the very numbers that are tested."""

WAYS = ("logits", TESTED, "pkt", "rkd")
STANDS_FOR = f"{TESTED} stands for the paper's loss"

STATEMENTS: Mapping[str, Statement] = interpreted(
    "small nets and signs in the place of faces and vehicles",
    {
        "labels": Statement(
            "recall@1 on unseen classes: cc against hard labels",
            "matching the space of embeddings makes students better on open-set tasks",
            "abstract",
            interpreted=STANDS_FOR,
        ),
        "logits": Statement(
            "recall@1 on unseen classes: cc against softened outputs",
            "it does so more than canonical distillation",
            "abstract",
            interpreted=STANDS_FOR,
        ),
        "auc": Statement(
            "area under the curve on unseen classes: cc against softened outputs",
            "the same where pairs are verified",
            "section on face verification",
            interpreted=STANDS_FOR,
            from_memory=True,
        ),
        "source": Statement(
            "recall@1 on unseen classes: cc against the source",
            "a fast student can do without a loss of accuracy against its source",
            "abstract",
            "the difference is above minus the margin",
            interpreted=STANDS_FOR,
        ),
        "logits, labels": Statement(
            "recall@1 on unseen classes: softened outputs against hard labels",
            "canonical distillation helps on classes that are not seen too",
            "abstract (our control)",
        ),
    },
)


def check(settings: PaperSettings, data: Dataset) -> None:
    """Refuse data too few of whose classes would be held out.

    Raises:
        UsageError: a fourth of the classes is a single one, whose images have no other to be told apart from.
    """
    if len(data.classes) < 2 * HELD_OUT:
        raise UsageError(
            "dataset", settings.dataset, f"must have at least {2 * HELD_OUT} classes: one in {HELD_OUT} is held out"
        )


def run(study: Study[PaperSettings]) -> Answer:
    """Train source and students without some classes, measure them on these, and conclude."""
    from kdops.study.open_set import measure_open_sets, unseen_classes

    settings = study.settings
    unseen: dict[int, tuple[str, ...]] = {}
    found: dict[str, list[Model]] = {what: [] for what in ("source", "labels", *WAYS)}
    for seed in settings.replicates():
        unseen[seed] = unseen_classes(study, seed, HELD_OUT)
        own = study.with_selection(leave_out=unseen[seed])
        images = own.transfer_images(0)
        source = own.train("teacher", images=images, seeds=[seed])
        found["source"] += source.records
        for way in WAYS:
            temperatures = [HARD, settings.temperature] if way == "logits" else [settings.temperature]
            students = own.with_method(method=parse_method(way)).distill(source, "student", temperatures, images=images)
            found["labels"] += students.hard().records
            found[way] += students.soft().records
    study.stop_if_planned()

    measured = {what: measure_open_sets(study, models, unseen) for what, models in found.items()}
    recall, auc = ({what: own[part] for what, own in measured.items()} for part in (0, 1))
    findings = findings_of(recall, auc, settings.margin)
    rows = []
    for what in found:
        rows += [
            summary_of(f"{what}, recall@1 on unseen classes", len(recall[what]), recall[what]),
            summary_of(f"{what}, AUC on unseen classes", len(auc[what]), auc[what]),
            summary_of(f"{what}, all test images", len(recall[what]), Sweep(tuple(found[what])).accuracies()),
        ]
    remarks = ["The rows are shares, not all accuracies."]
    return study.conclude("wu-2020", Answer.of(rows, findings=findings, remarks=remarks), report=True)


def findings_of(recall: Mapping[str, Any], auc: Mapping[str, Any], margin: float) -> tuple[Finding, ...]:
    """Answer each statement by recall@1 and area under the curve of each way, ``[replicates]`` each."""
    return (
        STATEMENTS["labels"].above(recall[TESTED] - recall["labels"]),
        STATEMENTS["logits"].above(recall[TESTED] - recall["logits"]),
        STATEMENTS["auc"].above(auc[TESTED] - auc["logits"]),
        STATEMENTS["source"].above(recall[TESTED] - recall["source"], -margin),
        STATEMENTS["logits, labels"].above(recall["logits"] - recall["labels"]),
    )
