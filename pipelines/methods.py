"""Methods: which of the field's losses teaches a student more than plain distillation, on equal terms?

    mlflow run . -e methods -P methods=logits,dkd,dist,rkd -P trials=8

Every method, plain distillation among them, gets the same number of trials over its own weights and T, chosen on
validation over the replicates. What was chosen is trained again on fresh replicates, teacher included, beside hard
labels and beside itself with a shuffled source. Every student has the same images, epochs and schedule.
Cost on two cores: five minutes on digits; hours on GTSRB.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from kdops.cli.app import pipeline_main
from kdops.config.method_specs import ChosenMethod
from kdops.config.method_trials import MethodsSettings, shuffled, trials_of
from kdops.config.methods import parse_method
from kdops.config.settings import HARD
from kdops.data.dataset import Dataset
from kdops.study.checks import check_study
from kdops.study.summary import summarize
from kdops.sweeps.metrics import METHOD_BYTES, METHOD_PARAMETERS, TRAIN_PEAK_BYTES, TRAIN_SECONDS
from kdops.sweeps.model import Sweep
from kdops.sweeps.ranking import mean_rank
from kdops.verdicts.answer import Answer
from kdops.verdicts.claims import Verdict
from kdops.verdicts.intervals import mean_interval
from kdops.verdicts.methods import MethodCost, describe_costs, methods_verdict
from kdops.verdicts.phrases import counted, points

if TYPE_CHECKING:
    from kdops.study.study import Study

check = check_study
"""Refuse what cannot be studied, before there is a run."""


Trial = tuple[ChosenMethod, float]
"""A method with its weights, and the temperature."""


FAMILIES = ("methods", "larger", "controls")
"""What is tested together: methods that deploy the student alone, those that deploy more, and controls."""


@dataclass(frozen=True)
class Chosen:
    """What was chosen of one method.

    Attributes:
        given: the method as it was given.
        method: with the weights that were chosen.
        temperature: the temperature that was chosen.
        validation: mean of what trials are chosen by, on validation, of its trial over the replicates.
        trials: how many settings were tried.
        students: trained again on the fresh replicates.
        control: the same with a shuffled source; empty where that is not asked for, or the method is a control itself.
    """

    given: ChosenMethod
    method: ChosenMethod
    temperature: float
    validation: float
    trials: int
    students: Sweep
    control: Sweep

    @property
    def family(self) -> str:
        """One of ``FAMILIES``."""
        return "controls" if self.given.is_control else "larger" if self.given.deploys_more else "methods"

    @property
    def shown(self) -> str:
        """The method as it was given, with the parameters that are deployed where these are more than the student's."""
        size = f", {cost_of(self.students).parameters:,.0f} parameters" * self.given.deploys_more
        return f"{self.given}{size}"


def main(settings: MethodsSettings, data: Dataset | None = None) -> None:
    """Run the study."""
    from kdops.study.open import open_study

    with open_study("methods", settings, data) as study:
        run(study)


def run(study: Study[MethodsSettings]) -> Answer:
    """Try the methods, train what is best of each again, and conclude."""
    from kdops.study.figures import methods_figure

    settings = study.settings
    fresh = study.with_settings(replace(settings, seed=settings.seed + settings.seeds))
    tried_on, teachers = study.train("teacher"), fresh.train("teacher")
    hard = fresh.distill(teachers, "student", [HARD])
    chosen = [choose(study, fresh, tried_on, teachers, method) for method in settings.methods]
    study.stop_if_planned()
    plain, *others = chosen
    verdict = verdict_of(settings, chosen)
    gains = {one.shown: one.students.accuracies() for one in others if not one.given.is_control}
    unknowing = {"hard labels": hard.accuracies()}
    unknowing |= {one.shown: one.students.accuracies() for one in others if one.given.is_control}
    unknowing |= {f"{one.shown}, shuffled": one.control.accuracies() for one in chosen if one.control.records}
    rows = [
        summarize("teacher", teachers),
        summarize("student, hard labels", hard),
        *(summarize(f"student, {one.shown}", one.students) for one in chosen),
        *(summarize(f"student, {one.shown}, shuffled", one.control) for one in chosen if one.control.records),
    ]
    return study.conclude(
        "methods",
        Answer.of(rows, verdict, remarks=[*remarks(settings, chosen), *describe_costs(costs_of(chosen))]),
        figures={"figure-methods.png": methods_figure(settings, plain.students, gains, unknowing)},
        report=True,
    )


def verdict_of(settings: MethodsSettings, chosen: Sequence[Chosen]) -> Verdict:
    """Return which methods are better than the first one; those that deploy more, and controls, by themselves."""
    plain, *others = chosen
    methods, larger, controls = (
        {str(one.given): one.students.accuracies() for one in others if one.family == family} for family in FAMILIES
    )
    of = {name: [str(o.given) for o in others if parse_method(name).is_control_of(o.given)] for name in controls}
    accuracies = plain.students.accuracies()
    return methods_verdict(accuracies, methods, settings.margin, controls, costs_of(chosen), larger, of)


def choose(
    study: Study[MethodsSettings],
    fresh: Study[MethodsSettings],
    tried_on: Sweep,
    teachers: Sweep,
    method: ChosenMethod,
) -> Chosen:
    """Try settings of a method, and train the best by validation again on the fresh replicates.

    Args:
        study: the study, with the replicates that trials are judged on.
        fresh: the same with the fresh replicates.
        tried_on: the teachers of the replicates that trials are judged on.
        teachers: those of the fresh ones.
        method: the method.
    """
    trials = trials_of(method, study.settings.trials, study.settings.sweeps["student"])
    tried = [((one, temperature), distill(study, tried_on, one, temperature)) for one, temperature in trials]
    by = study.settings.criterion
    has_control = study.settings.controls and not method.is_control

    def again(trial: Trial) -> tuple[Sweep, Sweep]:
        one, temperature = trial
        students = distill(fresh, teachers, one, temperature)
        control = distill(fresh, teachers, shuffled(one), temperature) if has_control else replace(students, records=())
        return students, control

    (one, temperature), (students, control) = study.retrain(tried, partial(mean_rank, by=by), again)
    validation = next(float(sweep.table(by.metric).mean()) for trial, sweep in tried if trial == (one, temperature))
    return Chosen(method, one, temperature, validation, len(trials), students, control)


def distill(study: Study[MethodsSettings], sources: Sweep, method: ChosenMethod, temperature: float) -> Sweep:
    """Distill students by a method at a temperature."""
    return study.with_method(method=method).distill(sources, "student", [temperature])


def remarks(settings: MethodsSettings, chosen: list[Chosen]) -> list[str]:
    """Return how the settings of each method were chosen, and what a shuffled source leaves."""
    listed = "; ".join(f"{one.method} at T = {one.temperature:g} ({100 * one.validation:.2f} %)" for one in chosen)
    fewer = [f"{one.given} has {counted(one.trials, 'setting')}" for one in chosen if one.trials < settings.trials]
    score = settings.select_by.replace("_", " ")
    sentences = [
        f"Each method had {settings.trials} trials on {settings.seeds} other replicates"
        f"{' (' + '; '.join(fewer) + ')' if fewer else ''}, the best mean validation {score} was chosen: {listed}."
    ]
    if any(one.control.records for one in chosen):
        left = "; ".join(f"{one.given} {with_knowledge(one)}" for one in chosen if one.control.records)
        sentences.append(
            f"What each gains over itself with the source's outputs for another image of the class: {left}. "
            "A gain over logits that such students have too is not the source's knowledge of the image."
        )
    return sentences


def costs_of(chosen: Sequence[Chosen]) -> dict[str, MethodCost]:
    """Return by name what the students of each method cost."""
    return {str(one.given): cost_of(one.students) for one in chosen}


def cost_of(students: Sweep) -> MethodCost:
    """Return what the students of a method cost."""
    metrics = TRAIN_SECONDS, METHOD_PARAMETERS, METHOD_BYTES, TRAIN_PEAK_BYTES
    seconds, beside, kept, peak = (float(students.table(metric).mean()) for metric in metrics)
    return MethodCost(seconds, float(students.records[0].parameters or 0), beside, kept, peak)


def with_knowledge(one: Chosen) -> str:
    """Return in points what a method gains over its control, with the 90 % interval over replicates."""
    gain = mean_interval(one.students.accuracies() - one.control.accuracies(), 0.9)
    return f"{points(gain.mean)} ({points(gain.low)} to {points(gain.high)})" if gain.n > 1 else points(gain.mean)


if __name__ == "__main__":
    pipeline_main("methods", main)
