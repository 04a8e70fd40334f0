"""Frosst and Hinton (2017): a neural network distilled into a soft decision tree.

    mlflow run . -e paper -P paper=frosst-hinton-2017

A tree learns labels, and the outputs of a network at T = 1. Beside it stands a dense network of one hidden layer with
a unit for each inner node, which has exactly as many parameters, and learns both as well: our control for what the form
of a tree costs, and for what soft targets give to any student of this size. The network that is distilled is dense, the
paper's is convolutional.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from kdops.config.architectures import parse_architecture
from kdops.config.papers import PAPERS
from kdops.config.settings import HARD
from kdops.config.studies import PaperSettings
from kdops.papers import Statement
from kdops.study.summary import summarize
from kdops.sweeps.model import Sweep
from kdops.verdicts.answer import Answer

if TYPE_CHECKING:
    from kdops.study.study import Study

DEPTH = 8
TREE = parse_architecture(f"tree(depth={DEPTH})")
"""A leaf has no bias, which the output layer of a dense net has: the usual student has exactly as many parameters."""

NUMBER = "the mean over replicates is within the margin of it"
BUDGET = "fewer epochs than the paper's 40, and no search for the best settings"

STATEMENTS: Mapping[str, Statement] = {
    "net": Statement(
        "the network that is distilled",
        "99.21 % test accuracy",
        "section on results, MNIST",
        NUMBER,
        published=(0.9921,),
        interpreted="a dense net; the paper's is convolutional",
        from_memory=True,
        unit="accuracy",
    ),
    "labels": Statement(
        "the tree of depth 8 on labels",
        "94.45 % test accuracy",
        "section on results, MNIST; a public implementation quotes it",
        NUMBER,
        published=(0.9445,),
        interpreted=BUDGET,
        unit="accuracy",
    ),
    "soft": Statement(
        "the tree of depth 8 on the network's outputs",
        "96.76 % test accuracy",
        "section on results, MNIST",
        NUMBER,
        published=(0.9676,),
        interpreted=f"{BUDGET}; a dense net is distilled",
        from_memory=True,
        unit="accuracy",
    ),
    "gain": Statement(
        "the tree on the network's outputs against the tree on labels",
        "the distilled tree generalizes better than one learned from the training data",
        "abstract",
        "the difference is above zero",
    ),
    "cost": Statement(
        "the distilled tree against the network",
        "the tree does not perform as well as the network that it was distilled from",
        "conclusion",
        "the difference is below zero",
        from_memory=True,
    ),
    "dense": Statement(
        "the distilled tree against a dense net of as many parameters, distilled likewise",
        "ours: it is the form of a tree that costs accuracy, not its size",
        "conclusion (the tree is held against a far larger network only)",
        "the difference is below zero",
        interpreted="our control",
    ),
    "dense gain": Statement(
        "what the network's outputs give to the tree, less what they give to the dense net",
        "ours: a tree gains more from soft targets than a dense net of its size",
        "abstract (the gain is that of the tree)",
        "the difference is above zero",
        interpreted="our control",
    ),
}


def run(study: Study[PaperSettings]) -> Answer:
    """Distill a network into trees and dense nets, and conclude."""
    from kdops.study.trees import way_figure

    settings = study.settings
    teachers = study.train("teacher")
    forest = study.with_recipes(student=settings.recipes["student"].replace(architecture=TREE))
    trees = forest.distill(teachers, "student", [HARD, *settings.temperatures])
    nets = study.distill(teachers, "student", [HARD, *settings.temperatures])
    study.stop_if_planned()
    hard, soft = (of(trees) for of in (Sweep.hard, Sweep.soft))
    plain, distilled = (of(nets) for of in (Sweep.hard, Sweep.soft))
    gain, dense_gain = (mean(two) - one.accuracies() for one, two in ((hard, soft), (plain, distilled)))
    findings = (
        number(settings, "net", teachers.accuracies(), "the network"),
        number(settings, "labels", hard.accuracies(), "the tree on labels"),
        number(settings, "soft", mean(soft), "the distilled tree"),
        STATEMENTS["gain"].above(gain),
        STATEMENTS["cost"].below(mean(soft) - teachers.accuracies()),
        STATEMENTS["dense"].below(mean(soft) - mean(distilled)),
        STATEMENTS["dense gain"].above(gain - dense_gain),
    )
    rows = [
        summarize("network", teachers),
        summarize("tree, labels", hard),
        summarize("tree, distilled", soft),
        summarize("dense net, labels", plain),
        summarize("dense net, distilled", distilled),
    ]
    return study.conclude(
        "frosst-hinton-2017",
        Answer.of(rows, findings=findings),
        figures={"figure-1-tree.png": way_figure(study, soft.records[0])},
        report=True,
    )


def mean(students: Sweep):
    """Return the test accuracy of students, the mean over the temperatures, ``[replicates]``."""
    return students.table().mean(axis=1)


def number(settings: PaperSettings, key: str, values, what: str):
    """Compare accuracies with those of the paper."""
    same = PAPERS[settings.paper].is_about(settings.origin)
    sentence = f"{what[0].upper()}{what[1:]} reaches {100 * values.mean():.2f} % (n = {len(values)})."
    return STATEMENTS[key].number(values, sentence, margin=settings.margin, same_data=same)
