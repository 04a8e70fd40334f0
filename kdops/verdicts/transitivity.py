"""Transitivity: do students via a middle net equal those distilled directly (section 4.3 of the paper)?

The claims, each about one number a replicate (its mean over the temperatures) and each tested for equivalence:

- ``transitivity``, primary (section 4.3 of the paper): students via the best middle minus direct ones. Its 90 %
  interval alone decides the verdict, since it was named before the data were seen: inside the margin ``transitive``,
  wholly outside ``not transitive``, else ``inconclusive``.
- ``distilled_middle``: students via the best middle that was itself distilled minus direct ones. The best middle of
  all may be one that learned from labels, and nothing of the teacher passes through that.
- ``worst_middle``: students via the worst middle minus direct ones (the paper's condition "as long as the middle
  model is good enough").
- ``middle``: students via the middle minus the middle itself (the introduction's definition of transitivity).

The words of the last three, and what they are adjusted for: see :mod:`kdops.verdicts.claims`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from kdops.verdicts.claims import (
    LEVEL,
    Claim,
    ClaimSpec,
    Verdict,
    check_accuracies,
    check_select_on,
    equivalence_statistics,
    replicate_means,
    tested_family,
)
from kdops.verdicts.phrases import counted, margin_phrase, outlook, percent, points, seen
from kdops.verdicts.statistics import FEWEST_REPLICATES, Equivalence, equivalence

__all__ = ["Wording", "transitivity_verdict", "way_claim"]

ENDINGS = {
    "transitive": ", inside the margin of {margin}.",
    "not transitive": ", outside the margin of {margin}: those via {through} are {side}.",
    "inconclusive": "; the margin is {margin}. {outlook}",
}

CONDITIONS = {
    ("inconclusive", "worse"): "the worst middle does not pass; whether the best one does stays open",
    ("transitive", "equal"): "even the worst middle is good enough here",
    ("transitive", "worse"): "distillation is transitive only as long as the middle is good enough",
    ("transitive", "better"): "the worst middle gives better students than direct distillation",
    ("not transitive", "equal"): "the worst middle passes where the best one does not",
    ("not transitive", "worse"): "neither middle passes",
    ("not transitive", "better"): "neither middle passes",
}
"""What the best middle's answer and the worst one's say together of the paper's condition."""


@dataclass(frozen=True)
class Wording:
    """What the sentence of a verdict calls the models that it compares."""

    models: str = "the students"
    through: str = "the middle"
    chosen: str = "the chosen middle and its students"


STUDENTS = Wording()


def transitivity_verdict(
    via: ArrayLike,
    direct: ArrayLike,
    margin: float,
    *,
    middle: ArrayLike | None = None,
    via_distilled: ArrayLike | None = None,
    via_worst: ArrayLike | None = None,
    middle_temperatures: ArrayLike | None = None,
    select_on: str = "validation",
) -> Verdict:
    """Return whether distilling through a middle net gives the students that distilling directly gives.

    Args:
        via: [replicates, temperatures], test accuracies of the students of the best middle, T >= 1 only.
        direct: [replicates, temperatures], of the students of the teacher, at the same temperatures.
        margin: accuracy difference that counts as none, a fraction above zero.
        middle: [replicates], test accuracy of the best middle of each replicate.
        via_distilled: [replicates, temperatures], of the students of the best distilled middle.
        via_worst: [replicates, temperatures], of the students of the worst middle.
        middle_temperatures: [replicates], what the best middle of each was trained at. One trained on hard labels
            (0) holds nothing of the teacher, and the sentence says in how many replicates it was chosen.
        select_on: ``validation`` or ``test``, what the middles were chosen on; the sentence names ``test``.

    Returns:
        The verdict. Its statistics are those of each claim (:func:`kdops.verdicts.claims.equivalence_statistics`),
        ``transitivity_margin``, ``transitivity_hard_middles`` (how many best middles were trained on hard labels),
        ``worst_middle_change`` (via the worst middle minus via the best), and accuracies.

    Raises:
        ValueError: for shapes that do not fit, accuracies that are not finite or not in [0, 1], a margin
            that is not above zero, or another ``select_on``.
    """
    check_select_on(select_on)
    via = check_accuracies("via", via)
    direct = check_accuracies("direct", direct, via.shape)
    primary = equivalence(replicate_means(via - direct), margin, LEVEL)
    reached = f"{percent(via)} on average via the best middle against {percent(direct)} directly"
    claim = way_claim("transitivity", primary, reached, via.shape[1], select_on)
    specs: list[ClaimSpec] = []
    accuracies = {"transitivity_via_accuracy": float(via.mean()), "transitivity_direct_accuracy": float(direct.mean())}
    if via_distilled is not None:
        distilled = check_accuracies("via_distilled", via_distilled, via.shape)
        subject = "students via the best distilled middle against direct ones"
        specs.append(ClaimSpec("distilled_middle", subject, replicate_means(distilled - direct)))
        accuracies["distilled_middle_via_accuracy"] = float(distilled.mean())
    if via_worst is not None:
        worst = check_accuracies("via_worst", via_worst, via.shape)
        specs.append(_worst_middle(claim.word, worst, via, direct))
        accuracies["worst_middle_change"] = float((worst - via).mean())
    if middle is not None:
        middle = check_accuracies("middle", middle, via.shape[:1])
        subject = "students via the middle against the middle itself"
        specs.append(ClaimSpec("middle", subject, replicate_means(via - middle[:, None])))
        accuracies["middle_accuracy"] = float(middle.mean())
    family = tested_family("transitivity", (primary.p_equivalent, primary.p_different), specs, margin)
    if middle_temperatures is not None:
        hard = int((np.asarray(middle_temperatures) == 0).sum())
        accuracies["transitivity_hard_middles"] = float(hard)
        claim = _with_hard_middles(claim, hard, len(via))
    statistics = equivalence_statistics("transitivity", primary, family.adjusted) | family.statistics
    return Verdict.of(claim, family.claims, statistics | {"transitivity_margin": primary.margin} | accuracies)


def way_claim(
    name: str, result: Equivalence, accuracies: str, temperatures: int, select_on: str, wording: Wording = STUDENTS
) -> Claim:
    """Return the primary claim of a comparison of a way through other nets with the direct way.

    Args:
        name: of the claim.
        result: the test; its interval alone decides.
        accuracies: those of both ways, in words.
        temperatures: over how many.
        select_on: what models were chosen on; ``test`` is named.
        wording: what the models are called.
    """
    word = "inconclusive"
    if result.n >= FEWEST_REPLICATES and (result.equivalent or result.different):
        word = "transitive" if result.equivalent else "not transitive"
    sentence = f"{word.capitalize()}: over {counted(temperatures, 'temperature')} {wording.models} reach {accuracies}, "
    sentence += seen(result.difference) + ENDINGS[word].format(
        margin=margin_phrase(result.margin),
        through=wording.through,
        side="better" if result.difference.mean > 0 else "worse",
        outlook=outlook(result),
    )
    if select_on == "test":
        sentence += f" Selection used the test set, which flatters {wording.chosen}."
    return Claim(name, word, sentence, result)


def _worst_middle(best: str, worst: np.ndarray, via: np.ndarray, direct: np.ndarray) -> ClaimSpec:
    """Return the claim about the worst middle; its remark says what the quality of the middle changes."""
    change = points(float((worst - via).mean()))

    def condition(claim: Claim) -> str:
        word = claim.word
        if word == "different":
            word = "worse" if claim.result.difference.mean < 0 else "better"
        meaning = CONDITIONS.get((best, word), "whether the middle must be good enough stays open")
        return f"Going from the best middle to the worst moves the students by {change} percentage points: {meaning}."

    subject = "students via the worst middle against direct ones"
    return ClaimSpec("worst_middle", subject, replicate_means(worst - direct), remark=condition)


def _with_hard_middles(claim: Claim, hard: int, replicates: int) -> Claim:
    if not hard:
        return claim
    where = "the only replicate" if replicates == 1 else f"{hard} of {replicates} replicates"
    sentence = (
        f"{claim.sentence} In {where} the best middle is the one trained on hard labels: nothing of the teacher passes "
        "through it, so what is compared there is distilling from a net that learned from labels."
    )
    return replace(claim, sentence=sentence)
