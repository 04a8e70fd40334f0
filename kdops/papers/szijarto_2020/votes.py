"""Votes of the students beside the paper's (section 4.2, figure 3)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike

from kdops.papers.szijarto_2020.statements import BELOW_SINGLE_AFTER, FALLS_AFTER, STATEMENTS, reached
from kdops.verdicts.claims import DECIMALS, Claim, Verdict, check_accuracies
from kdops.verdicts.findings import LEVEL, Finding
from kdops.verdicts.intervals import mean_interval
from kdops.verdicts.phrases import counted, percent, points, seen
from kdops.verdicts.statistics import FEWEST_REPLICATES, OneSided, equivalence
from kdops.verdicts.votes import Disagreement


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
        The findings. Those on cost, mistakes and behavior are left out without ``costs``, ``disagreements`` and
        ``one_temperature``.

    Raises:
        ValueError: for shapes that do not fit, or costs that are not finite or not above zero.
    """
    curves = check_accuracies("curves", curves, axes=("replicates", "members"))
    single = check_accuracies("single", single, curves.shape[:1])
    for name, given in (("disagreements", disagreements), ("one_temperature", one_temperature)):
        if len(given) not in (0, len(curves)):
            raise ValueError(f"{name} must be one a replicate, so {len(curves)}, not {len(given)}")
    primary = verdict.claims[0]
    found = [*_curves(curves, single, margin, same_data), _gain(primary)]
    found += [_cost(primary, *costs)] if costs is not None else []
    found += [_same_mistakes(disagreements)] if disagreements else []
    found += [_behavior(disagreements, one_temperature, margin)] if disagreements and one_temperature else []
    return tuple(found)


def _curves(curves: np.ndarray, single: np.ndarray, margin: float, same_data: bool) -> list[Finding]:
    """Answer the paper's statements on the vote of all members, and of more than a given number."""
    members, last = curves.shape[1], curves[:, -1]
    return [
        STATEMENTS["all members"].number(
            last, f"The vote of all {members} members reaches {reached(last)}.", margin=margin, same_data=same_data
        ),
        _beyond(
            "fall",
            FALLS_AFTER,
            members,
            lambda: last - curves[:, FALLS_AFTER - 1],
            f"the vote of all {members} members against that of the best {FALLS_AFTER}",
            margin,
        ),
        _beyond(
            "below single",
            BELOW_SINGLE_AFTER,
            members,
            lambda: curves[:, BELOW_SINGLE_AFTER:].mean(axis=1) - single,
            f"votes of {BELOW_SINGLE_AFTER + 1} to {members} members, on average, against the best single model",
            margin,
        ),
    ]


def _beyond(
    key: str, count: int, members: int, differences: Callable[[], np.ndarray], subject: str, margin: float
) -> Finding:
    """Answer whether more than ``count`` members do harm, where there are more."""
    if members <= count:
        return STATEMENTS[key].not_measured(f"there are {members} members, and it takes more than {count}.")
    return STATEMENTS[key].difference(
        differences(), subject, yes=lambda change: change.high < 0, no=lambda change: change.low > -margin
    )


def _gain(primary: Claim) -> Finding:
    # "Helps" says that there is a gain; "little" is refuted only by one above the margin.
    refuted = primary.result.n >= FEWEST_REPLICATES and _above(primary)
    answers = {"ensemble does not help": "yes", "ensemble helps": "no" if refuted else "open"}
    return STATEMENTS["gain"].claim(primary, answers)


def _cost(primary: Claim, ensemble: tuple[float, float], single: tuple[float, float]) -> Finding:
    """Answer whether the gain is too small for what it costs: a gain within the margin counts as none."""
    if not all(0 < value < np.inf for value in (*ensemble, *single)):
        raise ValueError(f"costs must be finite and above 0, not {ensemble} and {single}")
    size, time = (theirs / one for theirs, one in zip(ensemble, single, strict=True))
    # Both, since seconds are measured and may differ where nothing does.
    dearer = size > 1 and time > 1
    answers = {
        "ensemble does not help": "yes" if dearer else "open",
        "ensemble helps": "no" if _above(primary) else "open",
    }
    sentence = (
        f"The ensemble gains {points(primary.result.difference.mean)} percentage points over the best single model "
        f"(n = {counted(primary.result.n, 'replicate')}), for {size:.2f} times its parameters and {time:.2f} "
        "times its seconds for one image."
    )
    return STATEMENTS["cost"].claim(primary, answers, sentence)


def _above(claim: Claim) -> bool:
    """Return whether a one-sided test shows its difference above the margin."""
    return isinstance(claim.result, OneSided) and claim.result.above


def _same_mistakes(disagreements: Sequence[Disagreement]) -> Finding:
    """Answer whether more than half of what two members get wrong together gets the same wrong class."""
    statement = STATEMENTS["same mistakes"]
    shares = [d.wrong_alike for d in disagreements if d.wrong_alike is not None]
    if len(shares) < len(disagreements):
        return statement.not_measured("in some replicate no two members are wrong on the same image.")
    interval = mean_interval(shares, 0.9)
    decided = interval.n >= FEWEST_REPLICATES
    answer = "yes" if decided and interval.low > 0.5 else "no" if decided and interval.high < 0.5 else "open"
    apart = percent([d.disagreement for d in disagreements])
    sentence = (
        f"Where two members are both wrong, they give the same wrong class in {reached(shares)} of cases, "
        'where more than half counts as "the same"; '
        f"on {apart} of images one of two is right and the other wrong."
    )
    return statement.answered(answer, sentence, mean_interval(shares, LEVEL))


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
        f"members differs by {points(float(accuracy))} points."
    )
    return STATEMENTS["behavior"].answered(answer, sentence, mean_interval(ours - theirs, LEVEL))
