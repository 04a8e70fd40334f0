"""Symmetry: does a teacher's architecture distilled back from the student come near the teacher (figure 2)?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from kdops.utils.text import capitalized
from kdops.verdicts.claims import (
    LEVEL,
    ONE_REPLICATE,
    Claim,
    Verdict,
    adjust,
    check_accuracies,
    check_select_on,
    equivalence_statistics,
    finite,
    margin_phrase,
    needs_at_least,
    one_sided_statistics,
    percent,
    replicate_means,
    rounded_up,
    secondary_claim,
    seen,
)
from kdops.verdicts.statistics import (
    FEWEST_REPLICATES,
    MOST_REPLICATES,
    Equivalence,
    OneSided,
    equivalence,
    noninferiority,
    superiority,
)
from kdops.verdicts.temperature import (
    FEWEST_TEMPERATURES,
    check_temperatures,
    temperature_changes,
    word_temperature_claim,
)

__all__ = ["symmetry_verdict"]

SUBJECTS = {
    "born_again": "reversed nets against the same nets distilled from the teacher (what is lost to the student's "
    "knowledge)",
    "transfer_set": "the same nets distilled from the teacher against the teacher (what is lost to the transfer set)",
    "predictions": "reversed nets against the same nets trained on the student's hard predictions",
}


@dataclass(frozen=True)
class _Both:
    """The two tests of the primary claim: reversed minus student, and reversed minus teacher."""

    student: OneSided
    teacher: OneSided

    @property
    def word(self) -> str:
        if self.better == self.near == "yes":
            return "symmetric"
        return "not symmetric" if "no" in (self.better, self.near) else "inconclusive"

    @property
    def better(self) -> str:
        # An upper bound of exactly zero is no gain either, which "below" would not say.
        return _answer(self.student, refuted=self.student.difference.high <= 0)

    @property
    def near(self) -> str:
        return _answer(self.teacher, refuted=self.teacher.below)

    @property
    def binding(self) -> OneSided:
        """The test with the weaker support: both hold at 5 % exactly where this one does."""
        return max((self.student, self.teacher), key=lambda result: result.p_above)

    @property
    def replicates_needed(self) -> int | None:
        """How many decide, if the means and spreads are as seen: all tests to hold, or one to be refuted."""
        both = self.student, self.teacher
        against = [r.replicates_needed for r in both if r.difference.mean < r.threshold]
        if against:
            return min((needed for needed in against if needed is not None), default=None)
        needed = [r.replicates_needed for r in both]
        return None if None in needed else max(needed)


def symmetry_verdict(
    reversed_: ArrayLike,
    student: ArrayLike,
    teacher: ArrayLike,
    margin: float,
    *,
    temperatures: Sequence[float],
    born_again: ArrayLike | None = None,
    born_again_temperatures: Sequence[float] = (),
    predictions: ArrayLike | None = None,
    select_on: str = "validation",
) -> Verdict:
    """Return whether knowledge moves back: from the student into an untrained net of the teacher's architecture.

    The claims, each about one number a replicate (its mean over the temperatures):

    - ``symmetry``, primary: the reversed nets beat the student (:func:`~kdops.verdicts.statistics.superiority`) *and*
      are
      not inferior to the teacher by ``margin`` (:func:`~kdops.verdicts.statistics.noninferiority`), each at 5 %. Both
      must hold, an intersection-union test (Berger 1982), so ``symmetric`` is falsely said at most 5 % of the time
      without any adjustment. ``not symmetric`` where the 90 % interval of either refutes it: no gain over the
      student (upper bound at or below zero), or below the teacher by more than the margin. Either refutes at 5 %;
      only where the student lies below the teacher by exactly the margin can both err, and then together at most
      10 %. Else, and with fewer than three replicates, ``inconclusive``. Its ``parts`` are ``symmetry_student``
      (``better`` / ``not better``) and ``symmetry_teacher`` (``near`` / ``not near``), the same two tests.
    - ``born_again``, with the control: reversed minus the control at their common temperatures, what is lost to
      the student's knowledge.
    - ``transfer_set``, with the control: control minus teacher at these temperatures, what is lost to the
      transfer set. Where all temperatures are common, these two add up to reversed minus teacher.
    - ``temperature``, with three temperatures or more: the reversed nets' change from the lowest to the highest T
      along the least-squares line of each replicate (``does not matter`` / ``matters``).
    - ``predictions``: reversed minus the net trained on the student's hard predictions.

    All but the first are tests of equivalence within ``margin``: ``equal``, ``different`` or ``inconclusive`` by
    p-values below 5 % after Holm's adjustment over all the claims given, the primary one among them, in two
    families as in :func:`~kdops.verdicts.transitivity.transitivity_verdict`. There the primary claim enters with
    its larger p-value for "symmetric", and with twice its smaller one (Bonferroni) for "not symmetric".

    Args:
        reversed_: [replicates, temperatures], test accuracies of the teacher architectures distilled from the student.
        student: [replicates], of the student each was distilled from.
        teacher: [replicates].
        margin: accuracy difference that counts as none, a fraction above zero.
        temperatures: [temperatures], those of ``reversed_``.
        born_again: [replicates, its temperatures], the control: the same architecture, start and images, distilled
            from the teacher (after Furlanello et al. 2018).
        born_again_temperatures: its temperatures. Where none is among ``temperatures`` its claims are left out.
        predictions: [replicates], the same trained on the student's predicted classes.
        select_on: ``validation`` or ``test``, what the student was chosen on; the sentence names ``test``.

    Returns:
        The verdict. Its statistics: ``symmetry_student_`` and ``symmetry_teacher_`` ``difference``, ``low``,
        ``high``, ``p_above``, ``p_below``, ``replicates`` and ``replicates_needed``; ``symmetry_p`` (of
        "symmetric"), ``symmetry_p_holm``, ``symmetry_p_not`` (of "not symmetric"), ``symmetry_p_not_holm``,
        ``symmetry_replicates``, ``symmetry_replicates_needed``, ``symmetry_smallest_margin`` (the interval seen is
        not inferior to the teacher by any margin above it), ``symmetry_margin``, and ``symmetry_`` ``reversed``,
        ``student``, ``teacher`` ``_accuracy``; for each other claim those of transitivity; ``born_again_accuracy``
        and ``predictions_accuracy``. What is unknown is left out.

    Raises:
        ValueError: for shapes that do not fit, accuracies that are not finite or not in [0, 1], temperatures that
            are not different numbers above zero, a margin that is not above zero, or another ``select_on``.
    """
    check_select_on(select_on)
    reversed_ = check_accuracies("reversed_", reversed_)
    replicates = reversed_.shape[:1]
    student = check_accuracies("student", student, replicates)
    teacher = check_accuracies("teacher", teacher, replicates)
    temperatures = check_temperatures(temperatures, reversed_.shape[1])

    both = _Both(
        superiority(replicate_means(reversed_ - student[:, None]), LEVEL),
        noninferiority(replicate_means(reversed_ - teacher[:, None]), margin, LEVEL),
    )
    results: dict[str, Equivalence] = {}
    accuracies: dict[str, float] = {}
    if born_again is not None:
        control = check_accuracies("born_again", born_again, (*replicates, len(born_again_temperatures)))
        common, ours, theirs = np.intersect1d(
            temperatures, check_temperatures(born_again_temperatures, control.shape[1]), return_indices=True
        )
        if len(common):
            control = control[:, theirs]
            results["born_again"] = equivalence(replicate_means(reversed_[:, ours] - control), margin, LEVEL)
            results["transfer_set"] = equivalence(replicate_means(control - teacher[:, None]), margin, LEVEL)
            accuracies["born_again_accuracy"] = float(control.mean())
    if len(temperatures) >= FEWEST_TEMPERATURES:
        results["temperature"] = equivalence(temperature_changes(reversed_, temperatures), margin, LEVEL)
    if predictions is not None:
        predictions = check_accuracies("predictions", predictions, replicates)
        results["predictions"] = equivalence(replicate_means(reversed_ - predictions[:, None]), margin, LEVEL)
        accuracies["predictions_accuracy"] = float(predictions.mean())

    p_symmetric = both.binding.p_above
    p_not = min(1.0, 2 * min(both.student.p_below, both.teacher.p_below)) if both.student.n > 1 else np.nan
    p_values = {name: (result.p_equivalent, result.p_different) for name, result in results.items()}
    adjusted = adjust({"symmetry": (p_symmetric, p_not), **p_values})

    claims = [_primary(both, reversed_, student, teacher, margin, select_on)]
    for name, result in results.items():
        if name == "temperature":
            claims.append(
                word_temperature_claim(
                    name, reversed_, temperatures, result, adjusted[name], len(adjusted), "reversed nets"
                )
            )
        else:
            claims.append(secondary_claim(name, SUBJECTS[name], result, adjusted[name], len(adjusted)))

    statistics = one_sided_statistics("symmetry_student", both.student)
    statistics |= one_sided_statistics("symmetry_teacher", both.teacher)
    statistics |= finite(
        {
            "symmetry_p": p_symmetric,
            "symmetry_p_holm": adjusted["symmetry"][0],
            "symmetry_p_not": p_not,
            "symmetry_p_not_holm": adjusted["symmetry"][1],
            "symmetry_replicates": both.student.n,
            "symmetry_replicates_needed": both.replicates_needed,
            "symmetry_smallest_margin": _smallest_margin(both),
            "symmetry_margin": margin,
            "symmetry_reversed_accuracy": reversed_.mean(),
            "symmetry_student_accuracy": student.mean(),
            "symmetry_teacher_accuracy": teacher.mean(),
        }
    )
    for name, result in results.items():
        statistics |= equivalence_statistics(name, result, adjusted[name])
    return Verdict(claims[0].word, claims[0].sentence, statistics | accuracies, tuple(claims))


def _answer(result: OneSided, refuted: bool) -> str:
    if result.n < FEWEST_REPLICATES:
        return "inconclusive"
    return "yes" if result.above else "no" if refuted else "inconclusive"


def _primary(
    both: _Both, reversed_: np.ndarray, student: np.ndarray, teacher: np.ndarray, margin: float, select_on: str
) -> Claim:
    word, count = both.word, reversed_.shape[1]
    over = "1 temperature" if count == 1 else f"{count} temperatures"
    against_student = f"against the student ({percent(student)}), {seen(both.student.difference)}"
    against_teacher = f"against the teacher ({percent(teacher)}), {seen(both.teacher.difference)}"
    allowed = margin_phrase(margin)
    sentence = (
        f"{word.capitalize()}: over {over} the reversed nets reach {percent(reversed_)} on average: "
        f"{against_student}, and {against_teacher}; the margin is {allowed}. {_meaning(both)}"
    )
    if word == "inconclusive":
        sentence += f" {_outlook(both)}"
    if select_on == "test":
        sentence += " Selection used the test set, which flatters the chosen student."
    better = {"yes": "better", "no": "not better"}.get(both.better, "inconclusive")
    near = {"yes": "near", "no": "not near"}.get(both.near, "inconclusive")
    parts = (
        Claim(
            "symmetry_student",
            better,
            f"{better.capitalize()}: the reversed nets ({percent(reversed_)}) {against_student}.",
            both.student,
        ),
        Claim(
            "symmetry_teacher",
            near,
            f"{near.capitalize()}: the reversed nets ({percent(reversed_)}) {against_teacher}; "
            f"the margin is {allowed}.",
            both.teacher,
        ),
    )
    return Claim("symmetry", word, sentence, _deciding(both), parts)


def _deciding(both: _Both) -> OneSided:
    """Return the test that refutes, or the one with the weaker support."""
    if both.word == "not symmetric":
        return both.student if both.better == "no" else both.teacher
    return both.binding


def _meaning(both: _Both) -> str:
    better = {
        "yes": "They beat the student",
        "no": "They do not beat the student",
        "inconclusive": "Whether they beat the student is open",
    }[both.better]
    near = {
        "yes": "come near the teacher",
        "no": "lie below the teacher by more than the margin",
        "inconclusive": "whether they come near the teacher is open",
    }[both.near]
    if both.better == both.near == "inconclusive":
        return "Whether they beat the student and come near the teacher is open."
    if both.near == "inconclusive":
        return f"{better}; {near}."
    if both.better == "inconclusive":
        return f"{better}; they {near}."
    return f"{better} {'and' if both.better == both.near else 'but'} {near}."


def _outlook(both: _Both) -> str:
    """Return what would decide: how many replicates, and against the teacher which margin."""
    start = needs_at_least(both.student.n)
    if both.student.n < 2:
        return f"{start}{ONE_REPLICATE}"
    if any(result.difference.mean == result.threshold for result in (both.student, both.teacher)):
        start += "a difference seen is the very bound it is held against, so no number of replicates can be named. "
    else:
        needed = both.replicates_needed
        count = f"more than {MOST_REPLICATES}" if needed is None else f"about {needed}"
        start += f"if the means and the spreads stay as seen, it takes {count} replicates. "
    return (
        f"{capitalized(start)}The interval seen comes near the teacher with any margin above "
        f"{rounded_up(_smallest_margin(both))} points."
    )


def _smallest_margin(both: _Both) -> float:
    low = both.teacher.difference.low
    return max(0.0, -low) if low == low else np.nan  # nan stays unknown
