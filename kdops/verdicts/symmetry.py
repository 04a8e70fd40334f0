"""Symmetry: does a teacher's architecture distilled back from the student come near the teacher (figure 2)?

The claims, each about one number a replicate (its mean over the temperatures):

- ``symmetry``, primary: the reversed nets beat the student (:func:`~kdops.verdicts.statistics.superiority`) *and* are
  not inferior to the teacher by the margin (:func:`~kdops.verdicts.statistics.noninferiority`), each at 5 %. Both
  must hold, an intersection-union test (Berger 1982), so ``symmetric`` is falsely said at most 5 % of the time
  without any adjustment. ``not symmetric`` where the 90 % interval of either refutes it: no gain over the student
  (upper bound at or below zero), or below the teacher by more than the margin. Either refutes at 5 %; only where the
  student lies below the teacher by exactly the margin can both err, and then together at most 10 %. Else, and with
  fewer than three replicates, ``inconclusive``. Its ``parts`` are ``symmetry_student`` (``better`` / ``not better``)
  and ``symmetry_teacher`` (``near`` / ``not near``), the same two tests.
- ``born_again``, with the control (the same architecture, start and images, distilled from the teacher, after
  Furlanello et al. 2018): reversed minus the control at their common temperatures, what is lost to the student's
  knowledge.
- ``transfer_set``, with the control: control minus teacher at these temperatures, what is lost to the transfer set.
  Where all temperatures are common, these two add up to reversed minus teacher.
- ``temperature``, with three temperatures or more: the reversed nets' change from the lowest to the highest T along
  the least-squares line of each replicate (``does not matter`` / ``matters``).
- ``predictions``: reversed minus the net trained on the student's hard predictions.

The words of the others, and what they are adjusted for: see :mod:`kdops.verdicts.claims`. There the primary claim
enters with its larger p-value for "symmetric", and with twice its smaller one (Bonferroni) for "not symmetric".
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from kdops.verdicts.claims import (
    LEVEL,
    Claim,
    ClaimSpec,
    Verdict,
    check_accuracies,
    check_select_on,
    finite,
    one_sided_statistics,
    replicate_means,
    tested_family,
)
from kdops.verdicts.phrases import counted, margin_phrase, outlook_of_several, percent, rounded_up, seen
from kdops.verdicts.statistics import FEWEST_REPLICATES, OneSided, noninferiority, superiority
from kdops.verdicts.temperature import FEWEST_TEMPERATURES, check_temperatures, temperature_spec

__all__ = ["symmetry_verdict"]

BETTER = {"yes": "better", "no": "not better", "inconclusive": "inconclusive"}
NEAR = {"yes": "near", "no": "not near", "inconclusive": "inconclusive"}

MEANINGS = {
    ("yes", "yes"): "They beat the student and come near the teacher.",
    ("yes", "no"): "They beat the student but lie below the teacher by more than the margin.",
    ("yes", "inconclusive"): "They beat the student; whether they come near the teacher is open.",
    ("no", "yes"): "They do not beat the student but come near the teacher.",
    ("no", "no"): "They do not beat the student and lie below the teacher by more than the margin.",
    ("no", "inconclusive"): "They do not beat the student; whether they come near the teacher is open.",
    ("inconclusive", "yes"): "Whether they beat the student is open; they come near the teacher.",
    (
        "inconclusive",
        "no",
    ): "Whether they beat the student is open; they lie below the teacher by more than the margin.",
    ("inconclusive", "inconclusive"): "Whether they beat the student and come near the teacher is open.",
}
"""What is said of both tests together, against the student and against the teacher."""


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
    def deciding(self) -> OneSided:
        """The test that refutes, or the one with the weaker support."""
        if self.word == "not symmetric":
            return self.student if self.better == "no" else self.teacher
        return self.binding

    @property
    def p_values(self) -> tuple[float, float]:
        """Those of "symmetric" and of "not symmetric"."""
        p_not = min(1.0, 2 * min(self.student.p_below, self.teacher.p_below)) if self.student.n > 1 else np.nan
        return self.binding.p_above, p_not

    @property
    def replicates_needed(self) -> int | None:
        """How many decide, if the means and spreads are as seen: all tests to hold, or one to be refuted."""
        both = self.student, self.teacher
        against = [r.replicates_needed for r in both if r.difference.mean < r.threshold]
        if against:
            return min((needed for needed in against if needed is not None), default=None)
        needed = [n for r in both if (n := r.replicates_needed) is not None]
        return max(needed) if len(needed) == len(both) else None

    @property
    def smallest_margin(self) -> float:
        """The interval seen is not inferior to the teacher by any margin above this one; nan where unknown."""
        low = self.teacher.difference.low
        return max(0.0, -low) if low == low else np.nan

    def outlook(self) -> str:
        """Return what would decide: how many replicates, and against the teacher which margin."""
        smallest = rounded_up(self.smallest_margin) if self.student.n > 1 else ""
        return outlook_of_several(
            self.student.n,
            self.replicates_needed,
            "the means and the spreads",
            f"The interval seen comes near the teacher with any margin above {smallest} points.",
            any(result.difference.mean == result.threshold for result in (self.student, self.teacher)),
        )


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

    Args:
        reversed_: [replicates, temperatures], test accuracies of the teacher architectures distilled from the student.
        student: [replicates], of the student each was distilled from.
        teacher: [replicates].
        margin: accuracy difference that counts as none, a fraction above zero.
        temperatures: [temperatures], those of ``reversed_``.
        born_again: [replicates, its temperatures], the control.
        born_again_temperatures: its temperatures. Where none is among ``temperatures`` its claims are left out.
        predictions: [replicates], the same trained on the student's predicted classes.
        select_on: ``validation`` or ``test``, what the student was chosen on; the sentence names ``test``.

    Returns:
        The verdict. Its statistics are those of both tests (``symmetry_student_*``, ``symmetry_teacher_*``, see
        :func:`kdops.verdicts.claims.one_sided_statistics`), ``symmetry_p`` (of "symmetric"), ``symmetry_p_holm``,
        ``symmetry_p_not``, ``symmetry_p_not_holm``, ``symmetry_replicates``, ``symmetry_replicates_needed``,
        ``symmetry_smallest_margin``, ``symmetry_margin``, those of each other claim, and accuracies.

    Raises:
        ValueError: for shapes that do not fit, accuracies that are not finite or not in [0, 1], temperatures that
            are not different numbers above zero, a margin that is not above zero, or another ``select_on``.
    """
    check_select_on(select_on)
    back = check_accuracies("reversed_", reversed_)
    student = check_accuracies("student", student, back.shape[:1])
    teacher = check_accuracies("teacher", teacher, back.shape[:1])
    ours = check_temperatures(temperatures, back.shape[1])
    both = _Both(
        superiority(replicate_means(back - student[:, None]), LEVEL),
        noninferiority(replicate_means(back - teacher[:, None]), margin, LEVEL),
    )
    accuracies: dict[str, float] = {}
    specs: list[ClaimSpec] = []
    if born_again is not None:
        control = check_accuracies("born_again", born_again, (len(back), len(born_again_temperatures)))
        theirs = check_temperatures(born_again_temperatures, control.shape[1])
        _, own, common = np.intersect1d(ours, theirs, return_indices=True)
        if len(common):
            specs += _control(back[:, own], control[:, common], teacher)
            accuracies["born_again_accuracy"] = float(control[:, common].mean())
    if len(ours) >= FEWEST_TEMPERATURES:
        specs.append(temperature_spec(back, temperatures, "reversed nets"))
    if predictions is not None:
        predicted = check_accuracies("predictions", predictions, back.shape[:1])
        subject = "reversed nets against the same nets trained on the student's hard predictions"
        specs.append(ClaimSpec("predictions", subject, replicate_means(back - predicted[:, None])))
        accuracies["predictions_accuracy"] = float(predicted.mean())
    family = tested_family("symmetry", both.p_values, specs, margin)
    claim = _primary(both, back, student, teacher, margin, select_on)
    statistics = one_sided_statistics("symmetry_student", both.student)
    statistics |= one_sided_statistics("symmetry_teacher", both.teacher)
    statistics |= _statistics(both, family.adjusted, margin, (back, student, teacher)) | family.statistics
    return Verdict.of(claim, family.claims, statistics | accuracies)


def _control(back: np.ndarray, control: np.ndarray, teacher: np.ndarray) -> Iterator[ClaimSpec]:
    """Yield the claims with the control, both ``[replicates, common temperatures]``."""
    against = "reversed nets against the same nets distilled from the teacher (what is lost to the student's knowledge)"
    yield ClaimSpec("born_again", against, replicate_means(back - control))
    against = "the same nets distilled from the teacher against the teacher (what is lost to the transfer set)"
    yield ClaimSpec("transfer_set", against, replicate_means(control - teacher[:, None]))


def _statistics(
    both: _Both, adjusted: tuple[float, float], margin: float, accuracies: tuple[np.ndarray, np.ndarray, np.ndarray]
) -> dict[str, float]:
    back, student, teacher = accuracies
    return finite(
        {
            "symmetry_p": both.p_values[0],
            "symmetry_p_holm": adjusted[0],
            "symmetry_p_not": both.p_values[1],
            "symmetry_p_not_holm": adjusted[1],
            "symmetry_replicates": both.student.n,
            "symmetry_replicates_needed": both.replicates_needed,
            "symmetry_smallest_margin": both.smallest_margin,
            "symmetry_margin": margin,
            "symmetry_reversed_accuracy": back.mean(),
            "symmetry_student_accuracy": student.mean(),
            "symmetry_teacher_accuracy": teacher.mean(),
        }
    )


def _answer(result: OneSided, refuted: bool) -> str:
    if result.n < FEWEST_REPLICATES:
        return "inconclusive"
    return "yes" if result.above else "no" if refuted else "inconclusive"


def _primary(
    both: _Both, back: np.ndarray, student: np.ndarray, teacher: np.ndarray, margin: float, select_on: str
) -> Claim:
    """Return the primary claim and its parts in words."""
    over, reached, allowed = counted(back.shape[1], "temperature"), percent(back), margin_phrase(margin)
    against_student = f"against the student ({percent(student)}), {seen(both.student.difference)}"
    against_teacher = f"against the teacher ({percent(teacher)}), {seen(both.teacher.difference)}"
    sentence = (
        f"{both.word.capitalize()}: over {over} the reversed nets reach {reached} on average: "
        f"{against_student}, and {against_teacher}; the margin is {allowed}. {MEANINGS[both.better, both.near]}"
    )
    if both.word == "inconclusive":
        sentence += f" {both.outlook()}"
    if select_on == "test":
        sentence += " Selection used the test set, which flatters the chosen student."
    nets, better, near = f"the reversed nets ({reached})", BETTER[both.better], NEAR[both.near]
    told = f"{better.capitalize()}: {nets} {against_student}."
    told_too = f"{near.capitalize()}: {nets} {against_teacher}; the margin is {allowed}."
    parts = (
        Claim("symmetry_student", better, told, both.student),
        Claim("symmetry_teacher", near, told_too, both.teacher),
    )
    return Claim("symmetry", both.word, sentence, both.deciding, parts)
