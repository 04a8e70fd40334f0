"""The statements of the paper: the words, the place, and when they count as replicated."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from kdops.papers.paper import Statement
from kdops.verdicts.findings import LEVEL
from kdops.verdicts.intervals import mean_interval
from kdops.verdicts.phrases import counted, percent

LOW_TEMPERATURE = 4
BEST_MIDDLE = 6
FALLS_AFTER = 10
BELOW_SINGLE_AFTER = 18

NO_MATTER = {"does not matter": "yes", "matters": "no"}

NUMBER = "the mean over replicates is within the margin of it"

STATEMENTS = {
    "teacher": Statement("the teacher's accuracy", "94.73 %", "figure 1", NUMBER, published=(0.9473,), unit="accuracy"),
    "hard student": Statement(
        "the student on hard labels",
        "16.35 % at most",
        "figure 1",
        "the mean over replicates is at most that, within the margin",
        published=(0.0, 0.1635),
        unit="accuracy",
    ),
    "students": Statement(
        "the distilled students, the lowest to the highest",
        "50 to 80 % at every T from 1 to 29",
        "figure 1",
        "both the lowest and the highest of a replicate lie in the range, within the margin",
        published=(0.5, 0.8),
        interpreted="measured is the end that lies outside, else the lowest",
        unit="accuracy",
    ),
    "best student": Statement(
        "the best distilled student", "78.27 %, at T = 17", "figure 1", NUMBER, published=(0.7827,), unit="accuracy"
    ),
    "mean student": Statement(
        "the mean distilled student",
        "65.01 % on average over T = 1 to 29",
        "figure 1",
        NUMBER,
        published=(0.65014,),
        unit="accuracy",
    ),
    "lift": Statement(
        "the lift of distillation over hard labels",
        "distilled students are far better than one trained on hard labels",
        "figure 1",
        "the mean over T gains more than the margin",
        interpreted='"far better" is taken as more than the margin',
    ),
    "students' temperature": Statement(
        "the temperature of the students above 4",
        "T hardly matters above 4",
        "figure 1",
        "the line over T > 4 changes by less than the margin (three such T or more)",
        answers=NO_MATTER,
    ),
    "reversed": Statement(
        "the reversed nets' accuracy", "about 84 %", "section 4.1, figure 2", NUMBER, published=(0.84,), unit="accuracy"
    ),
    "reversed, student": Statement(
        "reversed nets against the student",
        "reversed nets beat the student they come from",
        "section 4.1, figure 2",
        "the difference is above zero",
        answers={"better": "yes", "not better": "no"},
    ),
    "reversed, teacher": Statement(
        "reversed nets against the teacher",
        "reversed nets do not come near the teacher",
        "section 4.1, figure 2",
        "they lie below the teacher by more than the margin",
        answers={"not near": "yes", "near": "no"},
    ),
    "reversed, temperature": Statement(
        "the temperature of the reversed nets",
        "T does not matter for reversed nets",
        "section 4.1, figure 2",
        "the line over T changes by less than the margin",
        answers=NO_MATTER,
    ),
    "symmetry": Statement(
        "symmetry",
        "not symmetric",
        "section 4.1",
        "the verdict on symmetry, see kdops/verdicts/symmetry.py",
        answers={"not symmetric": "yes", "symmetric": "no"},
    ),
    "all members": Statement(
        "the vote of all members",
        "77.12 % with all 29",
        "section 4.2, figure 3",
        NUMBER,
        published=(0.7712,),
        unit="accuracy",
    ),
    "fall": Statement(
        "the vote beyond 10 members",
        "accuracy falls after N = 10",
        "section 4.2, figure 3",
        "the vote of all lies below that of the best ten",
    ),
    "below single": Statement(
        "the vote of more than 18 members against the best single model",
        "the vote lies below the best single model after N = 18",
        "section 4.2, figure 3",
        "votes of more than 18, on average, lie below it",
    ),
    "gain": Statement(
        "the gain of the ensemble",
        "the best ensemble gains little",
        "section 4.2",
        "the gain is below the margin",
        interpreted='"little" is taken as less than the margin',
    ),
    "cost": Statement(
        "the gain of the ensemble against its cost",
        "the gain of the ensemble is not worth its cost",
        "section 4.2",
        "the ensemble does not help, and has more parameters and takes longer",
        interpreted="a gain within the margin counts as none; worth it where the gain is above the margin",
    ),
    "same mistakes": Statement(
        "mistakes that two members share",
        "members that differ only in T make the same mistakes",
        "section 4.2",
        "two members that are both wrong give the same wrong class in more than half of the cases",
        interpreted='"the same" is taken as more than half',
        unit="share",
    ),
    "behavior": Statement(
        "disagreement of members that differ in T against members that differ in their seed",
        "T changes the accuracy of a member, not its behavior",
        "section 4.2",
        "members that differ in T do not disagree by more than the margin more than those that differ in their seed",
    ),
    "middle lift": Statement(
        "the lift of distillation in the middle net",
        "distillation adds nothing to the middle net over hard labels",
        "section 4.3, figure 4",
        "the mean over T gains less than the margin over hard labels",
    ),
    "best middle": Statement(
        "the temperature of the best middle net",
        f"the best middle net is at T = {BEST_MIDDLE}",
        "section 4.3, figure 4",
        "it is in more than half of the replicates, chosen on validation",
        unit="share",
    ),
    "transitivity": Statement(
        "transitivity",
        "transitive: students via the middle net do not differ from direct ones (section 4.3)",
        "section 4.3, figure 5",
        "the verdict on transitivity, see kdops/verdicts/transitivity.py",
        answers={"transitive": "yes", "not transitive": "no"},
    ),
    "condition": Statement(
        "students via the worst middle net against direct ones",
        "transitive as long as the middle net is good enough",
        "section 4.3, figure 5",
        "it is transitive, and the worst middle makes students worse",
    ),
    "definition": Statement(
        "transitivity as the introduction defines it",
        "the student is as good as the middle net it comes from",
        "introduction",
        "equivalence of the two within the margin",
        answers={"equal": "yes", "different": "no"},
    ),
}


def reached(values: ArrayLike) -> str:
    """Return a mean share in words, with its interval, clipped to what a share can be, and the number of replicates."""
    interval = mean_interval(values, LEVEL)
    bounds = ""
    if interval.n > 1:
        low, high = np.clip([interval.low, interval.high], 0.0, 1.0)
        bounds = f"95 % interval {100 * low:.2f} to {100 * high:.2f} %, "
    return f"{percent(interval.mean)} ({bounds}n = {counted(interval.n, 'replicate')})"
