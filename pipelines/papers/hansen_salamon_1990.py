"""Hansen and Salamon (1990): nets of one architecture that differ in their start vote better than the best of them.

    mlflow run . -e paper -P paper=hansen-salamon-1990

Nets on hard labels that differ in their seed vote by majority. Beside the vote stands what it would reach if their
errors were independent. The paper's cross-validated members are not trained: folds are not built. Every net learns
from a student's transfer images. Cost on two cores: seconds on digits; minutes on GTSRB.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from kdops.config.settings import HARD
from kdops.config.studies import PaperSettings
from kdops.papers import Statement
from kdops.study.summary import summary_of
from kdops.verdicts.answer import Answer
from kdops.verdicts.votes import binomial_vote_error

if TYPE_CHECKING:
    from kdops.study.study import Study

MEMBERS = 9

STATEMENTS: Mapping[str, Statement] = {
    "vote": Statement(
        f"the vote of {MEMBERS} nets against the best of them by validation",
        "an ensemble performs better than the best of its members",
        "section on consensus, figure 2",
        "the difference is above zero",
        from_memory=True,
    ),
    "mean": Statement(
        f"the vote of {MEMBERS} nets against their mean",
        "the vote makes fewer errors than a member",
        "section on consensus, figure 2",
        "the difference is above the margin",
        from_memory=True,
    ),
    "independent": Statement(
        "errors of the vote beyond those of independent members",
        "the vote errs as the binomial distribution says where members err independently",
        "section on consensus",
        "the difference is within the margin",
        interpreted="the rate of a member is the mean over the members and over all images, whatever their difficulty",
        from_memory=True,
    ),
}


def run(study: Study[PaperSettings]) -> Answer:
    """Train the members, let them vote, and conclude."""
    start = study.train("student")
    members = study.distill(start, "reseeded", [HARD], copies=MEMBERS)
    study.stop_if_planned()

    from kdops.ensembles.evaluation import EnsembleEvaluation, common

    seeds, margin = study.settings.replicates(), study.settings.margin
    votes = EnsembleEvaluation(study, {seed: members.copies_of(seed) for seed in seeds})
    each, vote, single = members.copies_table(seeds).mean(axis=1), votes.of(MEMBERS), votes.single()
    expected = [binomial_vote_error(float(one), MEMBERS) for one in each]
    findings = (
        STATEMENTS["vote"].above(vote - single),
        STATEMENTS["mean"].above(vote - each, margin),
        STATEMENTS["independent"].within([1 - v - e for v, e in zip(vote, expected, strict=True)], margin),
    )
    rows = [
        summary_of("members", MEMBERS * len(seeds), each),
        summary_of("best member by validation", len(seeds), single),
        summary_of("their vote", MEMBERS * len(seeds), vote),
    ]
    remarks = [common("members", votes.shared())]
    return study.conclude("hansen-salamon-1990", Answer.of(rows, findings=findings, remarks=remarks), report=True)
