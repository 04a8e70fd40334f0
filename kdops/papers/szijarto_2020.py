"""What the paper found, beside what was measured: its numbers and its claims in words, one finding each.

The paper is "Experimental study of some properties of knowledge distillation" (Szijártó, Lehotay-Kéry, Kiss, 2020).
A number replicates where the mean over replicates is within the margin of it, on the paper's data only. A claim in
words is answered on any data, the replicate as the unit; fewer than three replicates leave it open.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike

from kdops.verdicts.claims import DECIMALS, Claim, Verdict, check_accuracies, replicate_means
from kdops.verdicts.findings import LEVEL, Finding, claim_finding, difference_finding, number_finding
from kdops.verdicts.intervals import Interval, mean_interval
from kdops.verdicts.statistics import FEWEST_REPLICATES, equivalence
from kdops.verdicts.temperature import FEWEST_TEMPERATURES, check_temperatures, temperature_claim
from kdops.verdicts.votes import Disagreement
from kdops.verdicts.wording import percent, points, seen

__all__ = [
    "Finding",
    "ensemble_findings",
    "student_findings",
    "symmetry_findings",
    "teacher_findings",
    "transitivity_findings",
]

TEACHER = 0.9473
HARD_STUDENT = 0.1635
STUDENTS = (0.5, 0.8)
BEST_STUDENT = 0.7827
MEAN_STUDENT = 0.65014
LOW_TEMPERATURE = 4
REVERSED = 0.84
ALL_MEMBERS = 0.7712
BEST_MIDDLE = 6
FALLS_AFTER = 10
BELOW_SINGLE_AFTER = 18


def teacher_findings(teacher: ArrayLike, *, margin: float, same_data: bool) -> tuple[Finding, ...]:
    """Compare the teacher with the paper's.

    Args:
        teacher: [replicates], test accuracies.
        margin: accuracy difference that counts as none, a fraction.
        same_data: whether the data are the paper's (GTSRB).
    """
    teacher = check_accuracies("teacher", teacher, axes=("replicates",))
    sentence = f"The teacher reaches {_reached(teacher)}."
    return (
        number_finding(
            "the teacher's accuracy",
            "94.73 %",
            (TEACHER, TEACHER),
            teacher,
            sentence,
            margin=margin,
            same_data=same_data,
        ),
    )


def student_findings(
    hard: ArrayLike, soft: ArrayLike, temperatures: Sequence[float], *, margin: float, same_data: bool
) -> tuple[Finding, ...]:
    """Compare the students distilled from the teacher with the paper's (figure 1).

    Args:
        hard: [replicates], test accuracies of the student trained on hard labels.
        soft: [replicates, temperatures], of the distilled students.
        temperatures: [temperatures].
        margin: accuracy difference that counts as none, a fraction.
        same_data: whether the data are the paper's (GTSRB).

    Returns:
        The findings on: hard labels, the range of the distilled (both the lowest and the highest of a replicate
        must lie in the paper's; measured is the end that lies outside, else the lowest), the highest and the mean
        of the distilled, the lift over hard labels (its mean over T shown to be above the margin, or shown to be
        below it), and whether T matters above 4 (open with fewer than three such temperatures).
    """
    soft = check_accuracies("soft", soft)
    hard = check_accuracies("hard", hard, soft.shape[:1])
    values = check_temperatures(temperatures, soft.shape[1])
    lowest, highest, mean = soft.min(axis=1), soft.max(axis=1), replicate_means(soft)
    over = f"T = {values.min():g} to {values.max():g}"
    common = {"margin": margin, "same_data": same_data}
    return (
        number_finding(
            "the student on hard labels",
            "16.35 % at most",
            (0.0, HARD_STUDENT),
            hard,
            f"The student on hard labels reaches {_reached(hard)}.",
            **common,
        ),
        _range(
            "the distilled students, the lowest to the highest",
            "50 to 80 % at every T from 1 to 29",
            STUDENTS,
            lowest,
            highest,
            f"Over {over} the lowest student of a replicate reaches {_reached(lowest)}, at "
            f"{_places(soft, values, 0)}; the highest reaches {_reached(highest)}, at {_places(soft, values, -1)}.",
            **common,
        ),
        number_finding(
            "the best distilled student",
            "78.27 %, at T = 17",
            (BEST_STUDENT, BEST_STUDENT),
            highest,
            f"Over {over} the highest student of a replicate on test reaches {_reached(highest)}, "
            f"at {_places(soft, values, -1)}.",
            **common,
        ),
        number_finding(
            "the mean distilled student",
            "65.01 % on average over T = 1 to 29",
            (MEAN_STUDENT, MEAN_STUDENT),
            mean,
            f"On average over {over} the students reach {_reached(mean)}.",
            **common,
        ),
        difference_finding(
            "the lift of distillation over hard labels",
            "distilled students are far better than one trained on hard labels",
            mean - hard,
            "distilled students, on average over T, against the student on hard labels",
            yes=lambda gain: gain.low > margin,
            no=lambda gain: gain.high < margin,
        ),
        _above_low_temperatures(soft, values, margin),
    )


def symmetry_findings(verdict: Verdict, reversed_: ArrayLike, *, margin: float, same_data: bool) -> tuple[Finding, ...]:
    """Compare distilling back into the teacher's architecture with the paper's (figure 2).

    Args:
        verdict: of :func:`kdops.verdicts.symmetry.symmetry_verdict` on the same nets; its tests are used again.
        reversed_: [replicates, temperatures], test accuracies of the reversed nets.
        margin: accuracy difference that counts as none, a fraction.
        same_data: whether the data are the paper's (GTSRB).

    Returns:
        The findings on: the accuracy, reversed against student and against teacher, temperature (left out where
        the verdict has no such claim), and symmetry.
    """
    reached = replicate_means(check_accuracies("reversed_", reversed_))
    primary = verdict.claims[0]
    student, teacher = primary.parts
    found = [
        number_finding(
            "the reversed nets' accuracy",
            "about 84 %",
            (REVERSED, REVERSED),
            reached,
            f"On average over T the reversed nets reach {_reached(reached)}.",
            margin=margin,
            same_data=same_data,
        ),
        claim_finding(
            "reversed nets against the student",
            "reversed nets beat the student they come from",
            student,
            {"better": "yes", "not better": "no"},
        ),
        claim_finding(
            "reversed nets against the teacher",
            "reversed nets do not come near the teacher",
            teacher,
            {"not near": "yes", "near": "no"},
        ),
    ]
    temperature = _claim(verdict, "temperature")
    if temperature is not None:
        found.append(
            claim_finding(
                "the temperature of the reversed nets",
                "T does not matter for reversed nets",
                temperature,
                {"does not matter": "yes", "matters": "no"},
            )
        )
    found.append(
        claim_finding("symmetry", "not symmetric", primary, {"not symmetric": "yes", "symmetric": "no"}),
    )
    return tuple(found)


def ensemble_findings(
    verdict: Verdict,
    curves: ArrayLike,
    single: ArrayLike,
    *,
    margin: float,
    same_data: bool,
    disagreements: Sequence[Disagreement] = (),
    one_temperature: Sequence[Disagreement] = (),
    costs: tuple[tuple[float, float], tuple[float, float]] | None = None,
) -> tuple[Finding, ...]:
    """Compare votes of the best N students with the paper's (figure 3).

    A fall, or a place below the single model, is ``yes`` where it is shown to be there at all, and ``no`` where one
    as large as the margin is ruled out.

    Args:
        verdict: of :func:`kdops.verdicts.ensemble.ensemble_verdict` on the same nets; its test is used again.
        curves: [replicates, members], test accuracies of the vote of the best N.
        single: [replicates], of the best single model.
        margin: accuracy difference that counts as none, a fraction.
        same_data: whether the data are the paper's (GTSRB).
        disagreements: one a replicate, of the members.
        one_temperature: one a replicate, of the control: members of one temperature that differ in their seed alone.
        costs: (parameters, seconds for one image) of the ensemble, then of the single model.

    Returns:
        The findings on: all members, the fall after N = 10 and the place below the best single model after N = 18
        (open with fewer members), the gain, whether it is worth its cost (not worth it where the ensemble does not
        help, but has more parameters and takes longer; worth it where it helps by more than the margin; left out
        without ``costs``), whether the members' mistakes are the same (left out without ``disagreements``), and
        whether differing in T makes them differ more than seeds do (left out without ``one_temperature``).

    Raises:
        ValueError: for shapes that do not fit, or costs that are not finite or not above zero.
    """
    curves = check_accuracies("curves", curves, axes=("replicates", "members"))
    single = check_accuracies("single", single, curves.shape[:1])
    for name, measured in (("disagreements", disagreements), ("one_temperature", one_temperature)):
        if len(measured) not in (0, len(curves)):
            raise ValueError(f"{name} must be one a replicate, so {len(curves)}, not {len(measured)}")
    members, last = curves.shape[1], curves[:, -1]
    primary = verdict.claims[0]
    found = [
        number_finding(
            "the vote of all members",
            "77.12 % with all 29",
            (ALL_MEMBERS, ALL_MEMBERS),
            last,
            f"The vote of all {members} members reaches {_reached(last)}.",
            margin=margin,
            same_data=same_data,
        ),
        _beyond(
            FALLS_AFTER,
            "the vote beyond 10 members",
            "accuracy falls after N = 10",
            members,
            lambda: last - curves[:, FALLS_AFTER - 1],
            f"the vote of all {members} members against that of the best {FALLS_AFTER}",
            margin,
        ),
        _beyond(
            BELOW_SINGLE_AFTER,
            "the vote of more than 18 members against the best single model",
            "the vote lies below the best single model after N = 18",
            members,
            lambda: curves[:, BELOW_SINGLE_AFTER:].mean(axis=1) - single,
            f"votes of {BELOW_SINGLE_AFTER + 1} to {members} members, on average, against the best single model",
            margin,
        ),
        _gain(primary),
    ]
    if costs is not None:
        found.append(_cost(primary, *costs))
    if disagreements:
        found.append(_same_mistakes(disagreements))
    if disagreements and one_temperature:
        found.append(_behavior(disagreements, one_temperature, margin))
    return tuple(found)


def transitivity_findings(
    verdict: Verdict,
    hard: ArrayLike,
    distilled: ArrayLike,
    *,
    margin: float,
    same_data: bool,
    best_temperatures: Sequence[float] | None = None,
) -> tuple[Finding, ...]:
    """Compare distilling through a middle net with the paper's (figures 4 and 5, section 4.3, introduction).

    Args:
        verdict: of :func:`kdops.verdicts.transitivity.transitivity_verdict` on the same nets; its tests are used again.
        hard: [replicates], test accuracies of the middle net trained on hard labels.
        distilled: [replicates, temperatures], of the distilled middle nets.
        margin: accuracy difference that counts as none, a fraction.
        same_data: as elsewhere; the paper gives no accuracy here, so nothing depends on it.
        best_temperatures: [replicates], of the best middle net; 0 means hard labels.

    Returns:
        The findings on: distilled middles against hard labels (their mean over T shown to gain less than the
        margin, or more), where the best middle is (left out without ``best_temperatures``), transitivity, its
        condition, and the introduction's definition of it; the last two are left out where the verdict has no such
        claim.

    Raises:
        ValueError: for shapes that do not fit, or temperatures that are not finite or below zero.
    """
    del same_data
    distilled = check_accuracies("distilled", distilled)
    hard = check_accuracies("hard", hard, distilled.shape[:1])
    primary = verdict.claims[0]
    found = [
        difference_finding(
            "the lift of distillation in the middle net",
            "distillation adds nothing to the middle net over hard labels",
            replicate_means(distilled) - hard,
            "distilled middle nets, on average over T, against the middle net on hard labels",
            yes=lambda gain: gain.high < margin,
            no=lambda gain: gain.low > margin,
        ),
    ]
    if best_temperatures is not None:
        found.append(_best_middle(best_temperatures, len(hard)))
    found.append(
        claim_finding(
            "transitivity",
            "transitive: students via the middle net do not differ from direct ones (section 4.3)",
            primary,
            {"transitive": "yes", "not transitive": "no"},
        )
    )
    worst, middle = _claim(verdict, "worst_middle"), _claim(verdict, "middle")
    if worst is not None:
        found.append(_condition(primary, worst))
    if middle is not None:
        found.append(
            claim_finding(
                "transitivity as the introduction defines it",
                "the student is as good as the middle net it comes from",
                middle,
                {"equal": "yes", "different": "no"},
            )
        )
    return tuple(found)


def _range(
    what: str,
    paper: str,
    numbers: tuple[float, float],
    lowest: np.ndarray,
    highest: np.ndarray,
    sentence: str,
    *,
    margin: float,
    same_data: bool,
) -> Finding:
    """Answer whether all lie in the paper's range: its lowest alone would let the others lie anywhere above."""
    common = {"margin": margin, "same_data": same_data}
    ends = [number_finding(what, paper, numbers, end, sentence, **common) for end in (lowest, highest)]
    return next((end for end in ends if end.answer == "no"), ends[0])


def _best_middle(temperatures: Sequence[float], replicates: int) -> Finding:
    """Answer whether the best middle net is where the paper's is, in more than half of the replicates."""
    values = np.asarray(temperatures, dtype=float)
    if values.shape != (replicates,):
        raise ValueError(f"best_temperatures must be one a replicate, so {replicates}, not {list(values.shape)}")
    if not (np.isfinite(values) & (values >= 0)).all():
        raise ValueError(f"best_temperatures must be finite and at least 0, not {values.tolist()}")
    there = int((values == BEST_MIDDLE).sum())
    answer = "open" if replicates < FEWEST_REPLICATES else "yes" if 2 * there > replicates else "no"
    each = ", ".join(f"{t:g}" for t in values)
    hard = " (0: hard labels)" if not values.all() else ""
    sentence = (
        f"The best middle net of each replicate is at T = {each}{hard}, so at T = {BEST_MIDDLE} in {there} of "
        f"{replicates}; most means more than half."
    )
    paper = f"the best middle net is at T = {BEST_MIDDLE}"
    return Finding("the temperature of the best middle net", paper, None, "share", answer, sentence)


def _above_low_temperatures(soft: np.ndarray, temperatures: np.ndarray, margin: float) -> Finding:
    what, paper = "the temperature of the students above 4", "T hardly matters above 4"
    above = temperatures > LOW_TEMPERATURE
    if above.sum() < FEWEST_TEMPERATURES:
        sentence = f"Not measured: it takes {FEWEST_TEMPERATURES} temperatures above {LOW_TEMPERATURE}, of which there "
        sentence += "is 1 here." if above.sum() == 1 else f"are {above.sum()} here."
        return Finding(what, paper, None, "difference", "open", sentence)
    claim = temperature_claim(soft[:, above], temperatures[above], margin, models="distilled students")
    return claim_finding(what, paper, claim, {"does not matter": "yes", "matters": "no"})


def _beyond(
    count: int, what: str, paper: str, members: int, differences: Callable[[], np.ndarray], subject: str, margin: float
) -> Finding:
    """Answer whether more than ``count`` members do harm, where there are more."""
    if members <= count:
        sentence = f"Not measured: there are {members} members, and it takes more than {count}."
        return Finding(what, paper, None, "difference", "open", sentence)
    return difference_finding(
        what,
        paper,
        differences(),
        subject,
        yes=lambda change: change.high < 0,
        no=lambda change: change.low > -margin,
    )


def _gain(primary: Claim) -> Finding:
    # "Helps" says that there is a gain; "little" is refuted only by one above the margin.
    refuted = primary.result.n >= FEWEST_REPLICATES and primary.result.above
    answers = {"ensemble does not help": "yes", "ensemble helps": "no" if refuted else "open"}
    return claim_finding("the gain of the ensemble", "the best ensemble gains little", primary, answers)


def _cost(primary: Claim, ensemble: tuple[float, float], single: tuple[float, float]) -> Finding:
    """Answer whether the gain is too small for what it costs: a gain within the margin counts as none."""
    if not all(0 < value < np.inf for value in (*ensemble, *single)):
        raise ValueError(f"costs must be finite and above 0, not {ensemble} and {single}")
    size, time = (theirs / one for theirs, one in zip(ensemble, single, strict=True))
    # Both, since seconds are measured and may differ where nothing does.
    dearer = size > 1 and time > 1
    answers = {
        "ensemble does not help": "yes" if dearer else "open",
        "ensemble helps": "no" if primary.result.above else "open",
    }
    n = primary.result.n
    sentence = (
        f"The ensemble gains {points(primary.result.difference.mean)} percentage points over the best single model "
        f"(n = {n} {'replicate' if n == 1 else 'replicates'}), for {size:.2f} times its parameters and {time:.2f} "
        "times its seconds for one image."
    )
    paper = "the gain of the ensemble is not worth its cost"
    return claim_finding("the gain of the ensemble against its cost", paper, primary, answers, sentence=sentence)


def _same_mistakes(disagreements: Sequence[Disagreement]) -> Finding:
    """Answer whether more than half of what two members get wrong together gets the same wrong class."""
    what = "mistakes that two members share"
    paper = "members that differ only in T make the same mistakes"
    shares = [d.wrong_alike for d in disagreements]
    if None in shares:
        sentence = "Not measured: in some replicate no two members are wrong on the same image."
        return Finding(what, paper, None, "share", "open", sentence)
    interval = mean_interval(shares, 0.9)
    decided = interval.n >= FEWEST_REPLICATES
    answer = "yes" if decided and interval.low > 0.5 else "no" if decided and interval.high < 0.5 else "open"
    apart = percent([d.disagreement for d in disagreements])
    sentence = (
        f"Where two members are both wrong, they give the same wrong class in {_reached(shares)} of cases, "
        'where more than half counts as "the same"; '
        f"on {apart} of images one of two is right and the other wrong."
    )
    return Finding(what, paper, mean_interval(shares, LEVEL), "share", answer, sentence)


def _behavior(disagreements: Sequence[Disagreement], control: Sequence[Disagreement], margin: float) -> Finding:
    """Answer whether members that differ in T disagree more than members that differ in their seed alone."""
    ours, theirs = (np.array([d.disagreement for d in measured]) for measured in (disagreements, control))
    result = equivalence((ours - theirs).round(DECIMALS), margin)
    answer = "open"
    if result.n >= FEWEST_REPLICATES and (result.equivalent or result.different):
        answer = "no" if result.different and result.difference.mean > 0 else "yes"
    accuracy = np.mean([d.accuracy for d in disagreements]) - np.mean([d.accuracy for d in control])
    sentence = (
        f"Of two members that differ in T one is right and the other wrong on {percent(ours)} of images, of two of one "
        f"T that differ in their seed alone on {percent(theirs)}, {seen(result.difference)}; the mean accuracy of the "
        f"members differs by {points(accuracy)} points."
    )
    return Finding(
        "disagreement of members that differ in T against members that differ in their seed",
        "T changes the accuracy of a member, not its behavior",
        mean_interval(ours - theirs, LEVEL),
        "difference",
        answer,
        sentence,
    )


def _condition(primary: Claim, worst: Claim) -> Finding:
    """Answer whether a bad middle net breaks what a good one keeps."""
    word = worst.word
    if word == "different":
        word = "worse" if worst.result.difference.mean < 0 else "better"
    # Where even the worst passes, or both fail, no middle here puts the condition to the test.
    answer = {
        ("transitive", "worse"): "yes",
        ("transitive", "better"): "no",
        ("not transitive", "equal"): "no",
    }.get((primary.word, word), "open")
    return claim_finding(
        "students via the worst middle net against direct ones",
        "transitive as long as the middle net is good enough",
        worst,
        {worst.word: answer},
    )


def _claim(verdict: Verdict, name: str) -> Claim | None:
    return next((claim for claim in verdict.claims if claim.name == name), None)


def _reached(values: ArrayLike) -> str:
    """Write a mean share with its interval, clipped to what a share can be, and the number of replicates."""
    interval: Interval = mean_interval(values, LEVEL)
    replicates = "replicate" if interval.n == 1 else "replicates"
    bounds = ""
    if interval.n > 1:
        low, high = np.clip([interval.low, interval.high], 0.0, 1.0)
        bounds = f"95 % interval {100 * low:.2f} to {100 * high:.2f} %, "
    return f"{percent(interval.mean)} ({bounds}n = {interval.n} {replicates})"


def _places(soft: np.ndarray, temperatures: np.ndarray, place: int) -> str:
    """Name the temperature of each replicate's lowest (0) or highest (-1) student."""
    found = temperatures[soft.argmin(axis=1) if place == 0 else soft.argmax(axis=1)]
    return "T = " + ", ".join(f"{t:g}" for t in found)
