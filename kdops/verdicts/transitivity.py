"""Transitivity: do students via a middle net equal those distilled directly (section 4.3 of the paper)?"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from kdops.verdicts.claims import (
    LEVEL,
    Claim,
    Verdict,
    adjust,
    check_accuracies,
    check_select_on,
    equivalence_statistics,
    margin_phrase,
    outlook,
    percent,
    points,
    replicate_means,
    secondary_claim,
    seen,
)
from kdops.verdicts.statistics import FEWEST_REPLICATES, Equivalence, equivalence

__all__ = ["Wording", "transitivity_verdict", "transitivity_word", "worded"]

SUBJECTS = {
    "distilled_middle": "students via the best distilled middle against direct ones",
    "worst_middle": "students via the worst middle against direct ones",
    "middle": "students via the middle against the middle itself",
}


@dataclass(frozen=True)
class Wording:
    """What the sentence of a verdict calls the models that it compares."""

    who: str = "the students"
    through: str = "the middle"
    chosen: str = "the chosen middle and its students"


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

    The claims, each about one number a replicate (its mean over the temperatures) and each tested for
    equivalence within ``margin``:

    - ``transitivity``, primary (section 4.3 of the paper): students via the best middle minus direct ones.
      Its 90 % interval alone decides the verdict, since it was named before the data were seen: inside the
      margin ``transitive``, wholly outside ``not transitive``, else ``inconclusive``.
    - ``distilled_middle``, with ``via_distilled``: students via the best middle that was itself distilled minus
      direct ones. The best middle of all may be one that learned from labels, and nothing of the teacher passes
      through that.
    - ``worst_middle``, with ``via_worst``: students via the worst middle minus direct ones (the paper's
      condition "as long as the middle model is good enough").
    - ``middle``, with ``middle``: students via the middle minus the middle itself (the introduction's
      definition of transitivity).

    The others are ``equal``, ``different`` or ``inconclusive`` by p-values below 5 % after Holm's adjustment
    over all the claims given, the primary one among them. "Equal" and "different" are two families, each
    adjusted by itself (``p_holm``, ``p_different_holm``), so that each kind of false statement is made with
    at most 5 % in the whole family. Fewer than three replicates leave every claim ``inconclusive``.

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
        The verdict. Its statistics are, for each claim, ``<claim>_difference``, ``_low``, ``_high``,
        ``_p_equivalent``, ``_p_holm``, ``_p_different``, ``_p_different_holm``, ``_replicates``,
        ``_replicates_needed`` and ``_smallest_margin``, then ``transitivity_margin``,
        ``transitivity_via_accuracy``, ``transitivity_direct_accuracy``, ``transitivity_hard_middles`` (how
        many best middles were trained on hard labels), ``distilled_middle_via_accuracy``, ``worst_middle_change``
        (via the worst middle minus via the best) and ``middle_accuracy``. What is unknown is left out.

    Raises:
        ValueError: for shapes that do not fit, accuracies that are not finite or not in [0, 1], a margin
            that is not above zero, or another ``select_on``.
    """
    check_select_on(select_on)
    via = check_accuracies("via", via)
    direct = check_accuracies("direct", direct, via.shape)
    differences = {"transitivity": replicate_means(via - direct)}
    if via_distilled is not None:
        via_distilled = check_accuracies("via_distilled", via_distilled, via.shape)
        differences["distilled_middle"] = replicate_means(via_distilled - direct)
    if via_worst is not None:
        via_worst = check_accuracies("via_worst", via_worst, via.shape)
        differences["worst_middle"] = replicate_means(via_worst - direct)
    if middle is not None:
        middle = check_accuracies("middle", middle, via.shape[:1])
        differences["middle"] = replicate_means(via - middle[:, None])

    results = {name: equivalence(values, margin, LEVEL) for name, values in differences.items()}
    adjusted = adjust({name: (r.p_equivalent, r.p_different) for name, r in results.items()})

    primary = results["transitivity"]
    word = transitivity_word(primary)
    accuracies = f"{percent(via)} on average via the best middle against {percent(direct)} directly"
    sentence = worded(word, primary, accuracies, via.shape[1], select_on)
    hard = None if middle_temperatures is None else int((np.asarray(middle_temperatures) == 0).sum())
    if hard:
        sentence += " " + _hard_middles(hard, len(via))
    claims = [Claim("transitivity", word, sentence, primary)]
    for name in [name for name in results if name != "transitivity"]:
        claim = secondary_claim(name, SUBJECTS[name], results[name], adjusted[name], len(results))
        if name == "worst_middle":
            change = float((via_worst - via).mean())
            condition = _condition(word, claim.word, claim.result.difference.mean, change)
            claim = replace(claim, sentence=f"{claim.sentence} {condition}")
        claims.append(claim)

    statistics: dict[str, float] = {}
    for name, result in results.items():
        statistics |= equivalence_statistics(name, result, adjusted[name])
    statistics["transitivity_margin"] = primary.margin
    statistics["transitivity_via_accuracy"] = float(via.mean())
    statistics["transitivity_direct_accuracy"] = float(direct.mean())
    if via_distilled is not None:
        statistics["distilled_middle_via_accuracy"] = float(via_distilled.mean())
    if via_worst is not None:
        statistics["worst_middle_change"] = float((via_worst - via).mean())
    if middle is not None:
        statistics["middle_accuracy"] = float(middle.mean())
    if hard is not None:
        statistics["transitivity_hard_middles"] = float(hard)
    return Verdict(word, claims[0].sentence, statistics, tuple(claims))


def transitivity_word(result: Equivalence) -> str:
    """Return the answer of a comparison of a way through other nets with the direct way."""
    if result.n < FEWEST_REPLICATES or not (result.equivalent or result.different):
        return "inconclusive"
    return "transitive" if result.equivalent else "not transitive"


def worded(
    word: str, result: Equivalence, accuracies: str, temperatures: int, select_on: str, wording: Wording | None = None
) -> str:
    """Return the sentence of such an answer.

    Args:
        word: see :func:`transitivity_word`.
        result: the test.
        accuracies: those of both ways, in words.
        temperatures: over how many.
        select_on: what models were chosen on; ``test`` is named.
        wording: what the models are called; those of transitivity if left out.
    """
    wording = wording or Wording()
    over = "1 temperature" if temperatures == 1 else f"{temperatures} temperatures"
    sentence = f"{word.capitalize()}: over {over} {wording.who} reach {accuracies}, {seen(result.difference)}"
    if word == "transitive":
        sentence += f", inside the margin of {margin_phrase(result.margin)}."
    elif word == "not transitive":
        side = "better" if result.difference.mean > 0 else "worse"
        sentence += f", outside the margin of {margin_phrase(result.margin)}: those via {wording.through} are {side}."
    else:
        sentence += f"; the margin is {margin_phrase(result.margin)}. {outlook(result)}"
    if select_on == "test":
        sentence += f" Selection used the test set, which flatters {wording.chosen}."
    return sentence


def _hard_middles(hard: int, replicates: int) -> str:
    where = "the only replicate" if replicates == 1 else f"{hard} of {replicates} replicates"
    return (
        f"In {where} the best middle is the one trained on hard labels: nothing of the teacher passes through it, "
        "so what is compared there is distilling from a net that learned from labels."
    )


def _condition(best: str, worst: str, difference: float, change: float) -> str:
    """Return what the quality of the middle changes."""
    moved = f"Going from the best middle to the worst moves the students by {points(change)} percentage points"
    if worst == "different":
        worst = "worse" if difference < 0 else "better"
    meaning = {
        ("inconclusive", "worse"): "the worst middle does not pass; whether the best one does stays open",
        ("transitive", "equal"): "even the worst middle is good enough here",
        ("transitive", "worse"): "distillation is transitive only as long as the middle is good enough",
        ("transitive", "better"): "the worst middle gives better students than direct distillation",
        ("not transitive", "equal"): "the worst middle passes where the best one does not",
        ("not transitive", "worse"): "neither middle passes",
        ("not transitive", "better"): "neither middle passes",
    }.get((best, worst), "whether the middle must be good enough stays open")
    return f"{moved}: {meaning}."
