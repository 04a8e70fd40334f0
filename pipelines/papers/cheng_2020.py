"""Cheng, Rao, Chen and Zhang (2020): knowledge distillation explained by quantifying the knowledge.

    mlflow run . -e paper -P paper=cheng-2020

Which patches of test images a student uses is mapped after each epoch, of students on hard labels and distilled ones:
*knowledge points* are patches that take little noise until the features change. All images are used: the authors' code
leaves out those on which a network does not come to use the foreground more. Beside stand students on labels at the
same temperature, our control for what the source adds, and the initial network, which shows what of the points is
learned.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from kdops.config.kept_epochs import MOST, KeptEpochs
from kdops.config.knowledge import KnowledgeProbe
from kdops.config.settings import HARD
from kdops.config.studies import PaperSettings
from kdops.papers import Statement, interpreted
from kdops.study.summary import summarize
from kdops.verdicts.answer import Answer

if TYPE_CHECKING:
    from kdops.study.knowledge import Course
    from kdops.study.study import Study

IMAGES = 30
"""Test images that are mapped."""

PROBE = KnowledgeProbe(noises=8)
THRESHOLDS = (0.1, PROBE.threshold, 0.4)
"""The claims are tested at that of the authors' code; the table has the others too."""

STATEMENTS: Mapping[str, Statement] = interpreted(
    "small nets and few epochs, softened outputs in the place of a layer's features, the box of the sign as object (on "
    "other data than GTSRB all but a sixth on each side), no image left out for its outcome",
    {
        "points": Statement(
            "share of the object's patches that are knowledge points: distilled against hard labels",
            "distillation makes a network learn more visual concepts than learning from raw data",
            "abstract (hypothesis 1)",
            unit="share",
        ),
        "ratio": Statement(
            "share of the object among all knowledge points: distilled against hard labels",
            "more of what is learned is relevant to the task",
            "introduction (hypothesis 1)",
            unit="share",
        ),
        "sooner": Statement(
            "way of the weights to the epoch with most points, mean over images: distilled against hard labels",
            "most concepts are learned sooner",
            "introduction (hypothesis 2)",
            "the difference is below zero",
            interpreted="the way is that of all weights",
            unit="part",
        ),
        "together": Statement(
            "way of the weights to the epoch with most points, deviation over images: distilled against hard labels",
            "various concepts are learned simultaneously, not one after another",
            "introduction (hypothesis 2)",
            "the difference is below zero",
            interpreted="the way is that of all weights",
            unit="part",
        ),
        "steady": Statement(
            "share of the points of any epoch that the last one has: distilled against hard labels",
            "distillation yields more stable optimization directions",
            "introduction (hypothesis 3)",
            unit="share",
        ),
        "tempered": Statement(
            "share of the object's patches that are knowledge points: distilled against labels at the same temperature",
            "ours: more points are the work of the source, not of the temperature",
            "introduction (hypothesis 1; the paper has no such control)",
            interpreted="our control",
            unit="share",
        ),
        "gained": Statement(
            "what training adds to the share of the object's patches that are points: distilled against hard labels",
            "ours: distillation adds more points than labels do to what a network begins with",
            "introduction (hypothesis 1; the paper looks at trained networks alone)",
            interpreted="our control: a network's start depends on its temperature, and so the two do not start alike",
            unit="share",
        ),
        "learned": Statement(
            "share of the object's patches that are knowledge points: trained on hard labels against not trained",
            "ours: knowledge points are learned",
            "introduction (hypothesis 1; the paper begins with trained networks)",
            interpreted="our control",
            unit="share",
        ),
    },
)


def run(study: Study[PaperSettings]) -> Answer:
    """Train students on labels and from a source, map what they use after each epoch, and conclude."""
    from kdops.study.knowledge import Courses, course_figure, courses_table, values_of

    settings, recipe = study.settings, study.settings.recipes["student"]
    each = study.with_settings(replace(settings, keep_epochs=KeptEpochs(((0, MOST),))))
    tempered = study.with_recipes(student=recipe.replace(train_temperature=settings.temperature))
    teachers = study.train("teacher")
    students = each.distill(teachers, "student", [HARD, settings.temperature])
    controls = tempered.distill(teachers, "student", [HARD])
    study.stop_if_planned()

    def shares(found: Sequence[Course], epoch: int | None = None) -> str:
        own = (values_of(found, name, epoch).mean() for name in ("points", "points_background"))
        return " and ".join(f"{value:.3f}" for value in own)

    maps, epochs = Courses(study, PROBE, IMAGES), range(recipe.epochs + 1)
    hard, soft = (maps.of(own.records, epochs) for own in (students.hard(), students.soft()))
    control = maps.of(controls.records)
    courses = {"hard labels": hard, "distilled": soft}
    rows = [
        summarize("teacher", teachers),
        summarize("hard labels", students.hard()),
        summarize(f"labels at T = {settings.temperature:g}", controls),
        summarize("distilled", students.soft()),
    ]
    seen = "; ".join(f"{name} {shares(found)}" for name, found in {**courses, "labels at T": control}.items())
    remarks = [
        f"Of each network {IMAGES} test images were mapped; the object is {maps.foreground}. Knowledge points of the "
        f"object's patches and of the others, means over replicates: {seen}; before training {shares(hard, 0)}."
    ]
    return study.conclude(
        "cheng-2020",
        Answer.of(rows, findings=findings_of(hard, soft, control), remarks=remarks),
        figures={
            "figure-1-knowledge.png": course_figure(f"Knowledge points, {settings.dataset}", courses),
            "figure-2-maps.png": maps.figure("Noise that patches take, distilled, replicate 1", soft[0]),
        },
        tables={"knowledge.csv": courses_table({**courses, "labels at T": control}, THRESHOLDS)},
        report=True,
    )


def findings_of(hard: Sequence[Course], soft: Sequence[Course], control: Sequence[Course]):
    """Answer each statement by the courses of the students of each replicate."""
    from kdops.study.knowledge import mean_ways, spreads_of_ways, stabilities, values_of

    points, ratio = ([values_of(own, name) for own in (soft, hard)] for name in ("points", "ratio"))
    gained = [values_of(own, "points") - values_of(own, "points", 0) for own in (soft, hard)]
    return (
        STATEMENTS["points"].above(points[0] - points[1]),
        STATEMENTS["ratio"].above(ratio[0] - ratio[1]),
        STATEMENTS["sooner"].below(mean_ways(soft) / mean_ways(hard) - 1),
        STATEMENTS["together"].below(spreads_of_ways(soft) / spreads_of_ways(hard) - 1),
        STATEMENTS["steady"].above(stabilities(soft) - stabilities(hard)),
        STATEMENTS["tempered"].above(points[0] - values_of(control, "points")),
        STATEMENTS["gained"].above(gained[0] - gained[1]),
        STATEMENTS["learned"].above(gained[1]),
    )
