"""Dietterich (2000): bagging, boosting and randomization, with and without noise in the labels.

    mlflow run . -e paper -P paper=dietterich-2000

Three companies of nets on hard labels, each with noise in none and in 20 % of the labels: members that differ in their
seed (randomization; the paper randomizes the splits of decision trees), members that learn from a bootstrap sample
each (bagging), and members of AdaBoost.M1, by resampling, whose votes are weighted. All have the student's network and
epochs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from kdops.config.studies import PaperSettings
from kdops.papers import Statement, interpreted
from kdops.study.summary import summary_of
from kdops.verdicts.answer import Answer, Row

if TYPE_CHECKING:
    from kdops.study.study import Study

MEMBERS = 9
NOISE = 0.2
NOISY = f"noise in {100 * NOISE:g} of 100 labels"

STATEMENTS: Mapping[str, Statement] = interpreted(
    "our members are nets, the paper's are decision trees",
    {
        "clean": Statement(
            "the vote of reseeded nets against that of bagged ones, clean labels",
            "without noise randomization is at least as good as bagging",
            "abstract",
            "the difference is above minus the margin",
        ),
        "boosting": Statement(
            "the vote of boosted nets against that of reseeded ones, clean labels",
            "without noise boosting is more accurate than randomization",
            "abstract",
        ),
        "noise": Statement(
            f"the vote of bagged nets against that of reseeded ones, {NOISY}",
            "with substantial noise bagging is sometimes better than randomization",
            "abstract",
            interpreted='"sometimes" is taken as here',
        ),
        "boosting, noise": Statement(
            f"the vote of bagged nets against that of boosted ones, {NOISY}",
            "with substantial noise bagging is much better than boosting",
            "abstract",
            "the difference is above the margin",
            interpreted='"much" is taken as more than the margin',
        ),
        "interaction": Statement(
            "what bagging gains over boosting with noise, less what it gains without",
            "noise is what favors bagging",
            "abstract",
        ),
        "vote": Statement(
            "what the vote of bagged nets gains over their mean with noise, less what it gains without",
            "bagging helps more where labels are noisy",
            "section 4",
            from_memory=True,
        ),
    },
)


def run(study: Study[PaperSettings]) -> Answer:
    """Train the companies, let each vote, and conclude."""
    from kdops.study.resampling import boosted

    companies, boosts = {}, {}
    for noise in (0.0, NOISE):
        for kind in ("reseeded", "bagged"):
            own = study.with_selection(label_noise=noise, bootstrap=kind == "bagged")
            companies[kind, noise] = own.train("reseeded", images=own.transfer_images(0), copies=range(MEMBERS))
        boosts[noise] = boosted(study.with_selection(label_noise=noise), MEMBERS)
    study.stop_if_planned()

    from kdops.ensembles.voters import Voters

    rows, vote, mean, labels = list[Row](), {}, {}, {0.0: "clean labels", NOISE: NOISY}
    for (kind, noise), models in companies.items():
        voters = Voters(study, f"{kind}, {labels[noise]}", models)
        vote[kind, noise], mean[kind, noise] = voters.vote, voters.members
        rows += voters.rows()
    for noise, boost in boosts.items():
        vote["boosted", noise] = boost.votes(study)
        named = Voters(study, f"boosted, {labels[noise]}", boost.models).rows()[0]
        rows += [named, summary_of(f"boosted, {labels[noise]}, their vote", named.models, vote["boosted", noise])]
    over_boosting = {noise: vote["bagged", noise] - vote["boosted", noise] for noise in labels}
    over_mean = {noise: vote["bagged", noise] - mean["bagged", noise] for noise in labels}
    findings = (
        STATEMENTS["clean"].above(vote["reseeded", 0.0] - vote["bagged", 0.0], -study.settings.margin),
        STATEMENTS["boosting"].above(vote["boosted", 0.0] - vote["reseeded", 0.0]),
        STATEMENTS["noise"].above(vote["bagged", NOISE] - vote["reseeded", NOISE]),
        STATEMENTS["boosting, noise"].above(over_boosting[NOISE], study.settings.margin),
        STATEMENTS["interaction"].above(over_boosting[NOISE] - over_boosting[0.0]),
        STATEMENTS["vote"].above(over_mean[NOISE] - over_mean[0.0]),
    )
    return study.conclude("dietterich-2000", Answer.of(rows, findings=findings), report=True)
