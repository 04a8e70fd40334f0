"""Does distillation help? One small net distilled from the teacher at every temperature (figure 1 of the paper).

    mlflow run . -e students -P dataset=gtsrb

The same net on hard labels (T = 0), with the same images, epochs and schedule, is what they are held against: the
verdict is whether distillation helps, does not help or harms on these data.
Cost on two cores: seconds on digits after the teacher; minutes on GTSRB.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from kdops.cli.app import pipeline_main
from kdops.config.settings import HARD, Settings
from kdops.config.studies import SourceSettings
from kdops.data.dataset import Dataset
from kdops.papers import DEFAULT, PAPERS
from kdops.papers.szijarto_2020 import student_findings
from kdops.study.checks import check_study
from kdops.study.summary import describe_unlabeled, summarize
from kdops.sweeps.metrics import TEST_ACCURACY, TRAIN_SECONDS
from kdops.sweeps.model import Sweep
from kdops.sweeps.ranking import best_temperature, ranked
from kdops.verdicts.answer import Answer, Row
from kdops.verdicts.distillation import TrainingCost, distillation_verdict
from kdops.verdicts.findings import Finding

if TYPE_CHECKING:
    from kdops.study.study import Study


def check(settings: SourceSettings, data: Dataset) -> None:
    """Refuse what cannot be studied, before there is a run."""
    check_study(settings, data)
    if settings.source:
        from kdops.study.sources import check_source

        check_source(settings, data)


def main(settings: SourceSettings, data: Dataset | None = None) -> None:
    """Run the study."""
    from kdops.study.open import open_study

    with open_study("students", settings, data) as study:
        run_from_source(study) if settings.source else run(study)


def run(study: Study[Settings]) -> Answer:
    """Distill the students from the study's own teachers, and conclude."""
    settings = study.settings
    teachers, students = direct(study)
    students = students.at([HARD, *settings.sweeps["student"]])
    study.stop_if_planned()
    hard, soft = students.hard().accuracies(), students.soft().table()
    same = PAPERS[DEFAULT].is_about(settings.origin)
    findings = student_findings(hard, soft, students.temperatures, margin=settings.margin, same_data=same)
    return conclude(study, "students", [summarize("teacher", teachers)], teachers, students, findings)


def run_from_source(study: Study[SourceSettings], title: str = "students") -> Answer:
    """Distill the students from what the caller names, or from the best teacher there is, and conclude.

    Args:
        study: the study.
        title: of the answer.
    """
    from kdops.study.sources import find_source

    settings = study.settings
    source, remark = find_source(study)
    students = study.distill(source, "student", [HARD, *settings.sweeps["student"]], seeds=settings.replicates())
    study.stop_if_planned()
    what = f"source, {source.records[0].name}".removesuffix(", ")
    measured = [summarize(what, source)] if TEST_ACCURACY in source.records[0].metrics else []
    return conclude(study, title, measured, source, students, remarks=[remark] if remark else [])


def conclude(
    study: Study[Settings],
    title: str,
    measured: Sequence[Row],
    sources: Sweep,
    students: Sweep,
    findings: Sequence[Finding] = (),
    remarks: Sequence[str] = (),
) -> Answer:
    """End the study with whether distillation helps on its data.

    Args:
        study: the study.
        title: of the answer.
        measured: the row of the sources, where they were measured.
        sources: what was distilled from, one a replicate or one for all.
        students: with those on hard labels.
        findings: what the paper states, and what was measured.
        remarks: further sentences.
    """
    from kdops.study.classes import class_files
    from kdops.study.figures import students_figure

    settings, soft, hard = study.settings, students.soft(), students.hard()
    chosen = best_temperature(soft, settings.criterion)
    costs = (float(sweep.table(TRAIN_SECONDS).mean()) for sweep in (soft, hard, sources))
    verdict = distillation_verdict(
        soft.table(),
        hard.accuracies(),
        soft.temperatures,
        chosen,
        settings.margin,
        cost := TrainingCost(*costs),
        select_on=settings.select_on,
    )
    tables, figures = class_files(study, ranked(students.records, settings.criterion)[0])
    figures = {"figure-1-students.png": students_figure(settings, sources, students), **figures}
    rows = [*measured, *rows_of(study, students)]
    labeled = len(study.transfer_images(sources.hops).rows)
    remarks = [cost.sentence, *describe_unlabeled(settings, study.data, labeled), *remarks]
    answer = Answer.of(rows, verdict, findings, remarks=remarks)
    return study.conclude(title, answer, figures=figures, tables=tables)


def direct(study: Study[Settings]) -> tuple[Sweep, Sweep]:
    """Return the teachers and their direct students, at every temperature that any experiment of the study asks for."""
    teachers = study.train("teacher")
    return teachers, study.distill(teachers, "student", [HARD, *study.settings.direct_temperatures()])


def rows_of(study: Study[Settings], students: Sweep) -> list[Row]:
    """Return the rows of the students."""
    by, several = study.settings.select_on, len(students.temperatures) > 1
    chosen = best_temperature(students, study.settings.criterion)
    at_chosen = [summarize(f"students, best T = {chosen:g}", students.at([chosen]))] * several
    return [
        summarize("student, hard labels", students.hard()),
        summarize("students, distilled", students.soft()),
        *at_chosen,
        summarize(f"student, best by {by}", study.best(students.soft())),
    ]


if __name__ == "__main__":
    pipeline_main("students", main)
