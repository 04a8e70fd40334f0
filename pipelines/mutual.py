"""Companies: do nets that learn from each other, without a teacher, beat independent ones?

    mlflow run . -e mutual
    mlflow run . -e mutual -P nets="mlp(hidden=50)+mlp(hidden=20)" -P company="mutual,mutual(order=sequential)"

The nets of a company are trained together from scratch (Zhang et al., Deep Mutual Learning, 2018). Independent nets of
the same starts, batches and epochs cost the same, and two of them can vote; so both are asked: whether the members are
better, and whether their vote is. Cost on two cores: a minute on digits.
"""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING

from kdops.cli.app import pipeline_main
from kdops.config.companies import INDEPENDENT, MutualSettings
from kdops.data.dataset import Dataset
from kdops.study.checks import check_study
from kdops.study.summary import summary_of
from kdops.sweeps.metrics import TRAIN_SECONDS
from kdops.sweeps.model import Model, Sweep
from kdops.utils.text import two_digits
from kdops.verdicts.answer import Answer, Row
from kdops.verdicts.mutual import mutual_verdict

if TYPE_CHECKING:
    from kdops.study.study import Study

check = check_study
"""Refuse what cannot be studied, before there is a run."""


def main(settings: MutualSettings, data: Dataset | None = None) -> None:
    """Run the study."""
    from kdops.study.open import open_study

    with open_study("mutual", settings, data) as study:
        run(study)


def run(study: Study[MutualSettings]) -> Answer:
    """Train the companies and independent nets, let each vote, and conclude."""
    settings = study.settings
    sweeps = {str(one): study.train_together(one, settings.nets) for one in (INDEPENDENT, *settings.companies)}
    study.stop_if_planned()

    from kdops.ensembles.voters import Voters
    from kdops.study.figures import companies_figure

    size = len(settings.nets)
    alone, *companies = (Voters(study, name, nets) for name, nets in sweeps.items())
    rows, remarks, registered = list[Row](), list[str](), list[Model]()
    for one in (alone, *companies):
        members, vote = one.rows()
        rows.append(members)
        if len(set(settings.nets)) > 1:
            by_net = zip(settings.nets, one.table.T, strict=True)
            rows += [summary_of(f"{one.name}, {net}", len(own), own) for net, own in by_net]
        rows.append(vote)
        remarks.append(one.alike())
        registered += one.ensembles.register(size).records
    remarks += [
        training_times(sweeps),
        f"Registered: {len(registered)} votes, from {registered[0].uri} to {registered[-1].uri}.",
    ]
    reached = {one.name: (one.members, one.vote) for one in companies}
    gains = {f"{name}, members": each - alone.members for name, (each, _) in reached.items()}
    gains |= {f"{name}, vote": vote - alone.vote for name, (_, vote) in reached.items()}
    free = {"vote of independent nets, over its members": alone.vote - alone.members}
    figure = companies_figure(settings, gains, free)
    verdict = mutual_verdict((alone.members, alone.vote), reached, settings.margin)
    return study.conclude(
        "mutual", Answer.of(rows, verdict, remarks=remarks), figures={"figure-mutual.png": figure}, report=True
    )


def training_times(sweeps: dict[str, Sweep]) -> str:
    """Return in a sentence what a net takes to train, the median, and how much longer the nets of a company take."""
    seconds = {name: median(net.metrics[TRAIN_SECONDS] for net in nets.records) for name, nets in sweeps.items()}
    plain = seconds.pop(str(INDEPENDENT))
    times = ", ".join(f"{name} {own / plain:.2f}" for name, own in seconds.items())
    return f"Training takes {two_digits(plain)} s an independent net, and so many times as long with {times}."


if __name__ == "__main__":
    pipeline_main("mutual", main)
