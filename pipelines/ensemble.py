"""Ensembles: the best N students vote, for every N (section 4.2, figure 3).

    mlflow run . -e students -P dataset=gtsrb
    mlflow run . -e ensemble -P dataset=gtsrb

The members come from the model registry, the best by validation first, and N is chosen on validation too. The paper
explains its curve by what the members have in common; here that is measured, and held against two controls: as many
students of one temperature that differ in their seed only, and the same students with a batch order each.
Cost on two cores: half a minute on digits; some ten minutes on GTSRB, for the controls.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from kdops.cli.app import pipeline_main
from kdops.config.studies import EnsembleSettings, VoteSettings
from kdops.data.dataset import Dataset
from kdops.papers import DEFAULT, PAPERS
from kdops.papers.szijarto_2020 import ensemble_findings
from kdops.study.checks import check_networks
from kdops.study.summary import summary_of
from kdops.sweeps.model import Model
from kdops.verdicts.answer import Answer
from kdops.verdicts.ensemble import ensemble_verdict
from pipelines.students import direct

if TYPE_CHECKING:
    from kdops.ensembles.evaluation import EnsembleEvaluation
    from kdops.study.study import Study


def check(settings: EnsembleSettings, data: Dataset) -> None:
    """Refuse members that cannot be drawn, before there is a run."""
    from kdops.ensembles.members import draw

    check_networks(settings, data)
    draw(settings, data)


def main(settings: EnsembleSettings, data: Dataset | None = None) -> None:
    """Run the study with members from the registry."""
    from kdops.ensembles.controls import drawn_voters
    from kdops.ensembles.members import draw
    from kdops.study.open import load_data, open_study

    data = data or load_data(settings)
    settings, drawn = draw(settings, data)
    with open_study("ensemble", settings, data) as study:
        run(study, drawn_voters(study, drawn), drawn.left_out)


def run_with_students(study: Study[VoteSettings]) -> Answer:
    """Run it with the direct students of the study, T >= 1."""
    students = direct(study)[1].at([t for t in study.settings.sweeps["student"] if t >= 1])
    if len(students.temperatures) < 2:
        study.stop_if_planned()
        return study.conclude("ensemble", Answer.of([], remarks=["An ensemble takes students of two temperatures."]))
    return run(study, {seed: students.of_seed(seed) for seed in students.seeds})


def run(study: Study[VoteSettings], members: Mapping[int, Sequence[Model]], remark: str = "") -> Answer:
    """Let the members vote, train the controls, and conclude.

    Args:
        study: the study.
        members: the models of each replicate by its seed.
        remark: a sentence about them, for the report.
    """
    from kdops.ensembles.controls import controls_of
    from kdops.ensembles.evaluation import EnsembleEvaluation
    from kdops.ensembles.figures import ensemble_figure

    ensemble = EnsembleEvaluation(study, members, study.settings.top)
    controls, reason = controls_of(study, members)
    study.stop_if_planned()
    remarks = [sentence for sentence in (remark, reason) if sentence]
    return study.conclude(
        "ensemble",
        answer(study.settings, ensemble, controls, remarks),
        figures={"figure-3-ensemble.png": ensemble_figure(study.settings, ensemble, controls)},
    )


def answer(
    settings: VoteSettings,
    ensemble: EnsembleEvaluation,
    controls: Mapping[str, EnsembleEvaluation],
    remarks: Sequence[str],
) -> Answer:
    """Return whether voting helps, why, and what it costs."""
    from kdops.ensembles.controls import ONE_TEMPERATURE, OWN_ORDER
    from kdops.ensembles.evaluation import common, describe_costs

    size, test, single = ensemble.size(), ensemble.curves("test"), ensemble.single()
    replicates, (one, many) = len(test), ensemble.costs(size)
    same, own = (controls.get(name) for name in (ONE_TEMPERATURE, OWN_ORDER))
    verdict = ensemble_verdict(
        ensemble.of(size),
        single,
        settings.margin,
        size=size,
        members=ensemble.most,
        select_on=settings.select_on,
        all_members=ensemble.of(ensemble.most),
        one_temperature=(same.of(size), same.single()) if same else None,
        own_order=(own.of(size), own.single()) if own else None,
        mcnemar=ensemble.paired(size),
    )
    findings = ensemble_findings(
        verdict,
        test,
        single,
        disagreements=ensemble.shared(),
        one_temperature=same.shared() if same else (),
        costs=((many.parameters, many.latency_1), (one.parameters, one.latency_1)),
        margin=settings.margin,
        same_data=PAPERS[DEFAULT].is_about(settings.origin),
    )
    registered = ensemble.register(size)
    rows = [
        summary_of("best single member", replicates, single),
        *(
            summary_of(f"{count} {what}", replicates * count, accuracies)
            for count, what, accuracies in (
                (size, "vote, majority", ensemble.of(size)),
                (size, "vote, mean probability", ensemble.curves("test_probability")[:, size - 1]),
                (ensemble.most, "vote, all members", ensemble.of(ensemble.most)),
                *((size, f"of {name} vote", control.of(size)) for name, control in controls.items()),
            )
        ),
    ]
    sentences = [
        *remarks,
        common("The members", ensemble.shared()),
        *(common(f"Members of {name}", control.shared()) for name, control in controls.items()),
        describe_costs(one, many),
        f"Registered: {', '.join(model.uri for model in registered.records)}.",
    ]
    return Answer.of(rows, verdict, findings, sentences)


if __name__ == "__main__":
    pipeline_main("ensemble", main)
