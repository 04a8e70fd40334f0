"""Symmetry: does a teacher's architecture distilled back from the student come near the teacher (figure 2)?

The claims, each about one number a replicate (its mean over the temperatures):

- ``symmetry``, primary: the reversed nets beat the student *and* are not inferior to the teacher by the margin, by two
  one-sided tests at 5 % each. Both must hold, an intersection-union test (Berger 1982), so ``symmetric`` is falsely
  concluded at most 5 % of the time without any adjustment. ``not symmetric`` where the 90 % interval of either refutes
  it: no gain over the student (upper bound at or below zero), or below the teacher by more than the margin. Either
  refutes at 5 %; only where the student lies below the teacher by exactly the margin can both err, and then together at
  most 10 %. Else, and with fewer than three replicates, ``inconclusive``. Its ``parts`` are ``symmetry_student``
  (``better`` / ``not better``) and ``symmetry_teacher`` (``near`` / ``not near``), the same two tests.
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

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from kdops.verdicts.claims import (
    Claim,
    ClaimSpec,
    Verdict,
    check_accuracies,
    one_sided_statistics,
    prefixed,
    replicate_means,
    verdict_of,
)
from kdops.verdicts.phrases import counted, flattered, margin_phrase, outlook_of_several, percent, rounded_up, seen
from kdops.verdicts.statistics import FEWEST_REPLICATES, OneSided, check_margin, one_sided
from kdops.verdicts.temperature import FEWEST_TEMPERATURES, check_temperatures, temperature_spec

YES, NO, OPEN = "yes", "no", "inconclusive"
BETTER = {YES: "better", NO: "not better", OPEN: OPEN}
NEAR = {YES: "near", NO: "not near", OPEN: OPEN}

MEANINGS = {
    (YES, YES): "They beat the student and come near the teacher.",
    (YES, NO): "They beat the student but lie below the teacher by more than the margin.",
    (YES, OPEN): "They beat the student; whether they come near the teacher is open.",
    (NO, YES): "They do not beat the student but come near the teacher.",
    (NO, NO): "They do not beat the student and lie below the teacher by more than the margin.",
    (NO, OPEN): "They do not beat the student; whether they come near the teacher is open.",
    (OPEN, YES): "Whether they beat the student is open; they come near the teacher.",
    (OPEN, NO): "Whether they beat the student is open; they lie below the teacher by more than the margin.",
    (OPEN, OPEN): "Whether they beat the student and come near the teacher is open.",
}
"""The words for both tests together, against the student and against the teacher."""


@dataclass(frozen=True)
class _Both:
    """The two tests of the primary claim: reversed minus student, and reversed minus teacher."""

    student: OneSided
    teacher: OneSided

    @property
    def word(self) -> str:
        if self.better == self.near == YES:
            return "symmetric"
        return "not symmetric" if NO in (self.better, self.near) else OPEN

    @property
    def better(self) -> str:
        # An upper bound of exactly zero is no gain either, which "below" would not cover.
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
            return self.student if self.better == NO else self.teacher
        return self.binding

    @property
    def p_values(self) -> tuple[float, float]:
        """Those of "symmetric" and of "not symmetric"."""
        p_not = min(1.0, 2 * min(self.student.p_below, self.teacher.p_below)) if self.student.n > 1 else np.nan
        return self.binding.p_above, p_not

    @property
    def replicates_needed(self) -> int | None:
        """How many decide, if the means and spreads are as seen: all tests to hold, or one to be refuted.

        With this number each test decides with 80 % chance, so both hold with at least 60 %.
        """
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

    def statistics(self, adjusted: tuple[float, float]) -> dict[str, float]:
        """Return the statistics of both tests and of the claim, with its p-values after the adjustment."""
        own = {
            "p": self.p_values[0],
            "p_holm": adjusted[0],
            "p_not": self.p_values[1],
            "p_not_holm": adjusted[1],
            "replicates": self.student.n,
            "replicates_needed": self.replicates_needed,
            "smallest_margin": self.smallest_margin,
        }
        student = one_sided_statistics("symmetry_student", self.student)
        return student | one_sided_statistics("symmetry_teacher", self.teacher) | prefixed("symmetry", own)

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
    back = check_accuracies("reversed_", reversed_)
    student = check_accuracies("student", student, back.shape[:1])
    teacher = check_accuracies("teacher", teacher, back.shape[:1])
    ours = check_temperatures(temperatures, back.shape[1])
    both = _Both(
        one_sided(replicate_means(back - student[:, None]), 0.0),
        one_sided(replicate_means(back - teacher[:, None]), -check_margin(margin)),
    )
    specs: list[ClaimSpec] = []
    if born_again is not None:
        specs += _control(back, ours, born_again, born_again_temperatures, teacher)
    if len(ours) >= FEWEST_TEMPERATURES:
        specs.append(temperature_spec(back, temperatures, "reversed nets"))
    if predictions is not None:
        predicted = check_accuracies("predictions", predictions, back.shape[:1])
        subject = "reversed nets against the same nets trained on the student's hard predictions"
        further = {"predictions_accuracy": float(predicted.mean())}
        specs.append(ClaimSpec("predictions", subject, replicate_means(back - predicted[:, None]), further=further))
    accuracies = {"reversed": back, "student": student, "teacher": teacher}

    def statistics(adjusted: tuple[float, float]) -> dict[str, float]:
        reached = {f"{name}_accuracy": values.mean() for name, values in accuracies.items()}
        return both.statistics(adjusted) | prefixed("symmetry", {"margin": margin, **reached})

    return verdict_of(_primary(both, accuracies, margin, select_on), both.p_values, statistics, specs, margin)


def _control(
    back: np.ndarray, ours: np.ndarray, born_again: ArrayLike, temperatures: Sequence[float], teacher: np.ndarray
) -> Iterator[ClaimSpec]:
    """Yield the claims with the control, at the common temperatures; none where there is no such temperature."""
    control = check_accuracies("born_again", born_again, (len(back), len(temperatures)))
    theirs = check_temperatures(temperatures, control.shape[1])
    _, own, common = np.intersect1d(ours, theirs, return_indices=True)
    if not len(common):
        return
    back, control = back[:, own], control[:, common]
    against = "reversed nets against the same nets distilled from the teacher (what is lost to the student's knowledge)"
    further = {"born_again_accuracy": float(control.mean())}
    yield ClaimSpec("born_again", against, replicate_means(back - control), further=further)
    against = "the same nets distilled from the teacher against the teacher (what is lost to the transfer set)"
    yield ClaimSpec("transfer_set", against, replicate_means(control - teacher[:, None]))


def _answer(result: OneSided, refuted: bool) -> str:
    if result.n < FEWEST_REPLICATES:
        return OPEN
    return YES if result.above else NO if refuted else OPEN


def _primary(both: _Both, accuracies: Mapping[str, np.ndarray], margin: float, select_on: str) -> Claim:
    """Return the primary claim and its parts in words."""
    reached, student, teacher = map(percent, accuracies.values())
    over, allowed = counted(accuracies["reversed"].shape[1], "temperature"), margin_phrase(margin)
    against_student = f"against the student ({student}), {seen(both.student.difference)}"
    against_teacher = f"against the teacher ({teacher}), {seen(both.teacher.difference)}"
    sentence = (
        f"{both.word.capitalize()}: over {over} the reversed nets reach {reached} on average: "
        f"{against_student}, and {against_teacher}; the margin is {allowed}. {MEANINGS[both.better, both.near]}"
    )
    if both.word == OPEN:
        sentence += f" {both.outlook()}"
    sentence += flattered(select_on, "the chosen student")
    nets, better, near = f"the reversed nets ({reached})", BETTER[both.better], NEAR[both.near]
    to_student = f"{better.capitalize()}: {nets} {against_student}."
    to_teacher = f"{near.capitalize()}: {nets} {against_teacher}; the margin is {allowed}."
    parts = (
        Claim("symmetry_student", better, to_student, both.student),
        Claim("symmetry_teacher", near, to_teacher, both.teacher),
    )
    return Claim("symmetry", both.word, sentence, both.deciding, parts)
