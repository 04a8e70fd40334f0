"""Hansen and Salamon (1990): nets of one architecture that differ in their start vote better than the best of them.

    mlflow run . -e paper -P paper=hansen-salamon-1990

Nets on hard labels that differ in their seed vote by majority. Beside the vote stands what it would reach if their
errors were independent, and if they were so on each image alone, whose difficulty varies. Cross-validated nets leave
out a fold of the images each; as many reseeded ones, which all leave out the same fold, have equally many images. Every
net learns from a student's transfer images.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from kdops.config.studies import PaperSettings
from kdops.papers import Statement
from kdops.study.summary import summary_of
from kdops.verdicts.answer import Answer
from kdops.verdicts.votes import beta_binomial_vote_error, binomial_vote_error

if TYPE_CHECKING:
    from kdops.study.study import Study

MEMBERS = 9

STATEMENTS: Mapping[str, Statement] = {
    "vote": Statement(
        f"the vote of {MEMBERS} nets against the best of them by validation",
        "an ensemble performs better than the best of its members",
        "section on consensus, figure 2",
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
    "difficulty": Statement(
        "errors of the vote beyond those of members that are independent on each image, whose difficulty varies",
        "the vote errs as the beta-binomial distribution says, with the members' accuracy and disagreement",
        "section on consensus, our rival to its binomial distribution",
        "the difference is within the margin",
        interpreted="the paper has no such distribution",
    ),
    "folds": Statement(
        f"the vote of {MEMBERS} nets that leave out a fold each against that of nets which all leave out the same",
        "cross-validation keeps the members apart, so that their vote is better",
        "section on cross-validation",
        interpreted="as many reseeded nets with equally many images are our control",
        from_memory=True,
    ),
    "folds, all images": Statement(
        f"the vote of {MEMBERS} nets that leave out a fold each against that of reseeded ones with all images",
        "what they gain is more than the images that they lack",
        "section on cross-validation",
        interpreted="the paper has no such comparison",
        from_memory=True,
    ),
}


def run(study: Study[PaperSettings]) -> Answer:
    """Train the members, let them vote, and conclude."""
    from kdops.study.resampling import without_folds

    companies = {
        "reseeded": study.train("reseeded", images=study.transfer_images(0), copies=range(MEMBERS)),
        "cross-validated": without_folds(study, MEMBERS, range(MEMBERS)),
        "reseeded without a fold": without_folds(study, MEMBERS, [0] * MEMBERS),
    }
    study.stop_if_planned()

    from kdops.ensembles.voters import Voters

    plain, crossed, equal = voters = [Voters(study, name, models) for name, models in companies.items()]
    expected = [binomial_vote_error(float(one), MEMBERS) for one in plain.members]
    shared = plain.ensembles.shared()
    harder = [beta_binomial_vote_error(one.accuracy, one.disagreement, MEMBERS) for one in shared]
    margin, single = study.settings.margin, plain.ensembles.single()
    findings = (
        STATEMENTS["vote"].above(plain.vote - single),
        STATEMENTS["mean"].above(plain.vote - plain.members, margin),
        STATEMENTS["independent"].within([1 - v - e for v, e in zip(plain.vote, expected, strict=True)], margin),
        STATEMENTS["difficulty"].within([1 - v - e for v, e in zip(plain.vote, harder, strict=True)], margin),
        STATEMENTS["folds"].above(crossed.vote - equal.vote),
        STATEMENTS["folds, all images"].above(crossed.vote - plain.vote),
    )
    rows = [row for one in voters for row in one.rows()]
    rows.insert(1, summary_of("best member by validation", len(single), single))
    remarks = [one.alike() for one in voters]
    return study.conclude("hansen-salamon-1990", Answer.of(rows, findings=findings, remarks=remarks), report=True)
