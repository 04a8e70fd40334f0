"""Dietterich (2000): bagging against randomization, with and without noise in the labels.

    mlflow run . -e paper -P paper=dietterich-2000

Two companies of nets on hard labels, each with noise in none and in 20 % of the labels: members that differ in their
seed (randomization; the paper randomizes the splits of decision trees), and members that learn from a bootstrap sample
each (bagging). Boosting is not built, so claims about it are not tested. Cost on two cores: a minute on digits, a
quarter of an hour on GTSRB.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from kdops.config.settings import HARD
from kdops.config.studies import PaperSettings
from kdops.papers import Statement
from kdops.study.summary import summary_of
from kdops.sweeps.model import Sweep
from kdops.verdicts.answer import Answer

if TYPE_CHECKING:
    from kdops.study.study import Study

MEMBERS = 9
NOISE = 0.2
NETS = "our members are nets, the paper's are decision trees"

STATEMENTS: Mapping[str, Statement] = {
    "clean": Statement(
        "the vote of reseeded nets against that of bagged ones, clean labels",
        "without noise randomization is at least as good as bagging",
        "abstract",
        "the difference is above minus the margin",
        interpreted=NETS,
    ),
    "noise": Statement(
        f"the vote of bagged nets against that of reseeded ones, noise in {100 * NOISE:g} of 100 labels",
        "with substantial noise bagging is better than randomization",
        "abstract",
        "the difference is above zero",
        interpreted=NETS,
    ),
    "interaction": Statement(
        "what bagging gains over reseeding with noise, less what it gains without",
        "noise is what favors bagging",
        "abstract",
        "the difference is above zero",
        interpreted=NETS,
    ),
    "vote": Statement(
        "what the vote of bagged nets gains over their mean with noise, less what it gains without",
        "bagging helps more where labels are noisy",
        "section 4",
        "the difference is above zero",
        interpreted=NETS,
        from_memory=True,
    ),
}


def run(study: Study[PaperSettings]) -> Answer:
    """Train the companies, let each vote, and conclude."""
    settings, start = study.settings, study.train("student")
    companies: dict[tuple[str, float], Sweep] = {}
    for noise in (0.0, NOISE):
        for kind in ("reseeded", "bagged"):
            chosen = replace(settings.selection, label_noise=noise, bootstrap=kind == "bagged")
            own = study.with_settings(replace(settings, selection=chosen))
            companies[kind, noise] = own.distill(start, "reseeded", [HARD], copies=MEMBERS)
    study.stop_if_planned()

    from kdops.ensembles.evaluation import EnsembleEvaluation

    seeds = settings.replicates()
    mean = {key: own.copies_table(seeds).mean(axis=1) for key, own in companies.items()}
    vote = {
        key: EnsembleEvaluation(study, {seed: own.copies_of(seed) for seed in seeds}).of(MEMBERS)
        for key, own in companies.items()
    }
    gain = {noise: vote["bagged", noise] - vote["reseeded", noise] for noise in (0.0, NOISE)}
    over_mean = {noise: vote["bagged", noise] - mean["bagged", noise] for noise in (0.0, NOISE)}
    findings = (
        STATEMENTS["clean"].above(-gain[0.0], -settings.margin),
        STATEMENTS["noise"].above(gain[NOISE]),
        STATEMENTS["interaction"].above(gain[NOISE] - gain[0.0]),
        STATEMENTS["vote"].above(over_mean[NOISE] - over_mean[0.0]),
    )
    rows = []
    for kind, noise in companies:
        labels = f"noise in {100 * noise:g} % of labels" if noise else "clean labels"
        rows += [
            summary_of(f"{kind}, {labels}: members", MEMBERS * len(seeds), mean[kind, noise]),
            summary_of(f"{kind}, {labels}: their vote", MEMBERS * len(seeds), vote[kind, noise]),
        ]
    return study.conclude("dietterich-2000", Answer.of(rows, findings=findings), report=True)
