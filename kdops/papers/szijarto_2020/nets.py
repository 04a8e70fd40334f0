"""Teacher, students, reversed and middle nets beside the paper's (figures 1, 2, 4 and 5)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from kdops.papers.szijarto_2020.statements import BEST_MIDDLE, LOW_TEMPERATURE, STATEMENTS, reached
from kdops.verdicts.claims import Claim, Verdict, check_accuracies, replicate_means
from kdops.verdicts.findings import Finding
from kdops.verdicts.statistics import FEWEST_REPLICATES
from kdops.verdicts.temperature import FEWEST_TEMPERATURES, check_temperatures, temperature_claim


def teacher_findings(teacher: ArrayLike, *, margin: float, same_data: bool) -> tuple[Finding, ...]:
    """Compare the teacher with the paper's.

    Args:
        teacher: [replicates], test accuracies.
        margin: accuracy difference that counts as none, a fraction.
        same_data: whether the data are the paper's (GTSRB).
    """
    teacher = check_accuracies("teacher", teacher, axes=("replicates",))
    sentence = f"The teacher reaches {reached(teacher)}."
    return (STATEMENTS["teacher"].number(teacher, sentence, margin=margin, same_data=same_data),)


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
    """
    soft = check_accuracies("soft", soft)
    hard = check_accuracies("hard", hard, soft.shape[:1])
    values = check_temperatures(temperatures, soft.shape[1])
    lowest, highest, mean = soft.min(axis=1), soft.max(axis=1), replicate_means(soft)
    over = f"T = {values.min():g} to {values.max():g}"
    lowest_at, highest_at = _places(soft, values, 0), _places(soft, values, -1)
    best = f"Over {over} the highest student of a replicate on test reaches {reached(highest)}, at {highest_at}."
    ends = (
        f"Over {over} the lowest student of a replicate reaches {reached(lowest)}, at {lowest_at}; "
        f"the highest reaches {reached(highest)}, at {highest_at}."
    )

    def number(key: str, measured: np.ndarray, sentence: str) -> Finding:
        return STATEMENTS[key].number(measured, sentence, margin=margin, same_data=same_data)

    in_range = [number("students", end, ends) for end in (lowest, highest)]
    return (
        number("hard student", hard, f"The student on hard labels reaches {reached(hard)}."),
        # The lowest alone would let the others lie anywhere above.
        next((end for end in in_range if end.answer == "no"), in_range[0]),
        number("best student", highest, best),
        number("mean student", mean, f"On average over {over} the students reach {reached(mean)}."),
        STATEMENTS["lift"].difference(
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
        The findings; that on temperature is left out where the verdict has no such claim.
    """
    mean = replicate_means(check_accuracies("reversed_", reversed_))
    primary = verdict.claims[0]
    student, teacher = primary.parts
    sentence = f"On average over T the reversed nets reach {reached(mean)}."
    temperature = [claim for claim in verdict.claims if claim.name == "temperature"]
    return (
        STATEMENTS["reversed"].number(mean, sentence, margin=margin, same_data=same_data),
        STATEMENTS["reversed, student"].claim(student),
        STATEMENTS["reversed, teacher"].claim(teacher),
        *(STATEMENTS["reversed, temperature"].claim(claim) for claim in temperature),
        STATEMENTS["symmetry"].claim(primary),
    )


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
        same_data: as elsewhere; the paper reports no accuracy here, so nothing depends on it.
        best_temperatures: [replicates], of the best middle net; 0 means hard labels.

    Returns:
        The findings. That on the best middle is left out without ``best_temperatures``, and those on the condition and
        on the introduction's definition where the verdict has no such claim.

    Raises:
        ValueError: for shapes that do not fit, or temperatures that are not finite or below zero.
    """
    del same_data
    distilled = check_accuracies("distilled", distilled)
    hard = check_accuracies("hard", hard, distilled.shape[:1])
    claims = {claim.name: claim for claim in verdict.claims}
    primary = verdict.claims[0]
    found = [
        STATEMENTS["middle lift"].difference(
            replicate_means(distilled) - hard,
            "distilled middle nets, on average over T, against the middle net on hard labels",
            yes=lambda gain: gain.high < margin,
            no=lambda gain: gain.low > margin,
        ),
    ]
    if best_temperatures is not None:
        found.append(_best_middle(best_temperatures, len(hard)))
    found.append(STATEMENTS["transitivity"].claim(primary))
    if "worst_middle" in claims:
        found.append(_condition(primary, claims["worst_middle"]))
    if "middle" in claims:
        found.append(STATEMENTS["definition"].claim(claims["middle"]))
    return tuple(found)


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
    return STATEMENTS["best middle"].answered(answer, sentence)


def _above_low_temperatures(soft: np.ndarray, temperatures: np.ndarray, margin: float) -> Finding:
    """Answer whether T matters above 4, where there are enough such temperatures."""
    statement, above = STATEMENTS["students' temperature"], temperatures > LOW_TEMPERATURE
    if above.sum() < FEWEST_TEMPERATURES:
        there = "is 1 here." if above.sum() == 1 else f"are {above.sum()} here."
        return statement.not_measured(
            f"it takes {FEWEST_TEMPERATURES} temperatures above {LOW_TEMPERATURE}, of which there {there}"
        )
    claim = temperature_claim(soft[:, above], temperatures[above].tolist(), margin, models="distilled students")
    return statement.claim(claim)


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
    return STATEMENTS["condition"].claim(worst, {worst.word: answer})


def _places(soft: np.ndarray, temperatures: np.ndarray, place: int) -> str:
    """Name the temperature of each replicate's lowest (0) or highest (-1) student."""
    found = temperatures[soft.argmin(axis=1) if place == 0 else soft.argmax(axis=1)]
    return "T = " + ", ".join(f"{t:g}" for t in found)
