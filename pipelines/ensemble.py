"""Ensembles: the best N students vote, for every N (section 4.2, figure 3).

    mlflow run . -e students -P dataset=gtsrb
    mlflow run . -e ensemble -P dataset=gtsrb

The members come from the model registry, the best by validation first, and N is chosen on validation too. The paper
explains its curve by what the members have in common; here that is measured, and held against two controls: as many
students of one temperature that differ in their seed only, and the same students with a batch order each.
Cost on two cores: half a minute on digits; some ten minutes on GTSRB, for the controls.
"""

from kdops.cli.app import pipeline_main
from kdops.config.settings import Settings
from kdops.config.studies import EnsembleSettings
from kdops.data.dataset import Dataset
from kdops.study.checks import check_networks
from kdops.study.summary import summary_of
from kdops.verdicts.answer import Answer
from pipelines.students import direct


def check(settings: EnsembleSettings, data: Dataset) -> None:
    """Refuse members that cannot be drawn, before there is a run."""
    from kdops.ensembles.drawing import draw

    check_networks(settings, data)
    draw(settings, data)


def main(settings: EnsembleSettings, data: Dataset | None = None) -> None:
    """Run the study with members from the registry."""
    from kdops.ensembles.controls import drawn_voters
    from kdops.ensembles.drawing import draw
    from kdops.study.study import load_data, open_study

    data = data or load_data(settings)
    settings, drawn = draw(settings, data)
    with open_study("ensemble", settings, data) as study:
        run(study, drawn_voters(study, drawn), drawn.left_out)


def of_study(study) -> None:
    """Run it with the direct students of the study, T >= 1."""
    students = direct(study)[1].at([t for t in study.settings.sweeps["student"] if t >= 1])
    members = {seed: students.of_seed(seed) for seed in students.seeds}
    if len(students.temperatures) < 2:
        study.conclude("ensemble", lambda: Answer([], remarks=["An ensemble takes students of two temperatures."]))
    else:
        run(study, members)


def run(study, members, remark: str = "") -> None:
    """Let the members vote, train the controls, and conclude.

    Args:
        study: the study.
        members: the models of each replicate by its seed.
        remark: what is to be said about them.
    """
    from kdops.ensembles.controls import controls_of
    from kdops.ensembles.evaluation import EnsembleEvaluation

    election = EnsembleEvaluation(study, members, study.settings.top)
    controls, reason = controls_of(study, members)
    remarks = [sentence for sentence in (remark, reason) if sentence]
    study.conclude(
        "ensemble",
        lambda: answer(study, election, controls, remarks),
        figures=lambda: {"figure-3-ensemble.png": figure_3(study.settings, election, controls)},
    )


def answer(study, election, controls, remarks: list[str]) -> Answer:
    """Return whether voting helps, why, and what it costs."""
    from kdops.ensembles.controls import ONE_TEMPERATURE, OWN_ORDER
    from kdops.papers.szijarto_2020 import ensemble_findings
    from kdops.verdicts import ensemble_verdict

    size, test = election.size(), election.curves("test")
    replicates, (one, many) = len(test), election.costs(size)
    same, own = (controls.get(name) for name in (ONE_TEMPERATURE, OWN_ORDER))
    verdict = ensemble_verdict(
        election.of(size),
        election.single(),
        study.settings.margin,
        size=size,
        members=election.most,
        select_on=study.settings.select_on,
        all_members=election.of(election.most),
        one_temperature=same and (same.of(size), same.single()),
        own_order=own and (own.of(size), own.single()),
        mcnemar=election.paired(size),
    )
    findings = ensemble_findings(
        verdict,
        test,
        election.single(),
        disagreements=election.shared(),
        one_temperature=same.shared() if same else (),
        costs=[(cost.parameters, cost.latency_1) for cost in (many, one)],
        **study.measure(),
    )
    registered = election.register(size)
    rows = [
        summary_of("best single member", replicates, election.single()),
        *(
            summary_of(f"{count} {what}", replicates * count, accuracies)
            for count, what, accuracies in (
                (size, "vote, majority", election.of(size)),
                (size, "vote, mean probability", election.curves("test_probability")[:, size - 1]),
                (election.most, "vote, all members", election.of(election.most)),
                *((size, f"of {name} vote", control.of(size)) for name, control in controls.items()),
            )
        ),
    ]
    told = [*remarks, *shared_told(election, controls), cost_told(one, many)]
    versions = ", ".join(record.uri for record in registered.records)
    return Answer(rows, verdict, findings, [*told, f"Registered: {versions}."])


def shared_told(election, controls) -> list[str]:
    """Return what the members have in common, and what those of the controls have."""
    from kdops.ensembles.evaluation import common

    return [
        common(name, each.shared())
        for name, each in {"The members": election, **{f"Members of {name}": c for name, c in controls.items()}}.items()
    ]


def cost_told(one, many) -> str:
    """Return what the gain costs."""
    return (
        f"The ensemble has {many.parameters:,} parameters against {one.parameters:,} of one member, and takes "
        f"{1e3 * many.latency_1:.2f} against {1e3 * one.latency_1:.2f} ms for one image, "
        f"{1e3 * many.latency_64:.2f} against {1e3 * one.latency_64:.2f} ms for 64, on one thread here."
    )


def figure_3(settings: Settings, election, controls):
    """Draw the accuracy over the number of members, of the ensembles and of the controls'."""
    from kdops.reporting.figures import Curve, members_figure

    return members_figure(
        f"The best N students vote, {settings.dataset}",
        [
            Curve("simple majority", range(1, election.most + 1), election.curves("test")),
            Curve("mean probability", range(1, election.most + 1), election.curves("test_probability")),
            *(
                Curve(f"majority, {name}", range(1, control.most + 1), control.curves("test"))
                for name, control in controls.items()
            ),
        ],
        {"best single member": election.single()},
        election.size(),
        settings.select_on,
    )


if __name__ == "__main__":
    pipeline_main("ensemble", main)
