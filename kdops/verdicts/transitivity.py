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

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from kdops.verdicts.claims import (
    Claim,
    ClaimSpec,
    Verdict,
    check_accuracies,
    equivalence_statistics,
    prefixed,
    replicate_means,
    verdict_of,
)
from kdops.verdicts.phrases import counted, flattered, margin_phrase, outlook, percent, points, seen
from kdops.verdicts.statistics import FEWEST_REPLICATES, equivalence

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
"""What the best middle's answer and the worst one's show together of the paper's condition."""

HARD_MIDDLES = (
    "{where} the best middle is the one trained on hard labels: nothing of the teacher passes through it, so what is "
    "compared there is distilling from a net that learned from labels."
)


@dataclass(frozen=True)
class Wording:
    """What the sentence of a verdict calls the models that it compares."""

    models: str = "the students"
    path: str = "the best middle"
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
    """Return whether distilling through a middle net makes students as good as distilling directly does.

    Args:
        via: [replicates, temperatures], test accuracies of the students of the best middle, T >= 1 only.
        direct: [replicates, temperatures], of the students of the teacher, at the same temperatures.
        margin: accuracy difference that counts as none, a fraction above zero.
        middle: [replicates], test accuracy of the best middle of each replicate.
        via_distilled: [replicates, temperatures], of the students of the best distilled middle.
        via_worst: [replicates, temperatures], of the students of the worst middle.
        middle_temperatures: [replicates], what the best middle of each was trained at. One trained on hard labels
            (0) holds nothing of the teacher, and the sentence reports in how many replicates it was chosen.
        select_on: ``validation`` or ``test``, what the middles were chosen on; the sentence names ``test``.

    Returns:
        The verdict. Its statistics are those of each claim (:func:`kdops.verdicts.claims.equivalence_statistics`),
        ``transitivity_margin``, ``transitivity_hard_middles`` (how many best middles were trained on hard labels),
        ``worst_middle_change`` (via the worst middle minus via the best), and accuracies.

    Raises:
        ValueError: for shapes that do not fit, accuracies that are not finite or not in [0, 1], a margin
            that is not above zero, or another ``select_on``.
    """
    via = check_accuracies("via", via)
    direct = check_accuracies("direct", direct, via.shape)
    remark, further = "", {}
    if middle_temperatures is not None:
        hard = int((np.asarray(middle_temperatures) == 0).sum())
        further["transitivity_hard_middles"] = float(hard)
        remark = HARD_MIDDLES.format(where=in_replicates(hard, len(via))) if hard else ""

    def specs(word: str) -> list[ClaimSpec]:
        found = []
        if via_distilled is not None:
            subject = "students via the best distilled middle"
            found.append(way_spec("distilled_middle", subject, via_distilled, direct))
        if via_worst is not None:
            found.append(_worst_middle(word, check_accuracies("via_worst", via_worst, via.shape), via, direct))
        if middle is not None:
            itself = check_accuracies("middle", middle, via.shape[:1])
            subject, reached = "students via the middle against the middle itself", {"middle_accuracy": itself.mean()}
            found.append(ClaimSpec("middle", subject, replicate_means(via - itself[:, None]), further=reached))
        return found

    return way_verdict("transitivity", via, direct, margin, specs, select_on, remark=remark, further=further)


def way_verdict(
    name: str,
    via: np.ndarray,
    direct: np.ndarray,
    margin: float,
    specs: Callable[[str], Sequence[ClaimSpec]],
    select_on: str,
    wording: Wording = STUDENTS,
    remark: str = "",
    further: Mapping[str, float] | None = None,
) -> Verdict:
    """Return the verdict on a way through other nets against the direct way.

    Args:
        name: of the primary claim.
        via: [replicates, temperatures], test accuracies of the way; its interval alone decides.
        direct: [replicates, temperatures], of the direct way.
        margin: accuracy difference that counts as none, a fraction above zero.
        specs: from the word of the primary claim the further claims.
        select_on: what models were chosen on; ``test`` is named.
        wording: what the models are called.
        remark: a further sentence of the primary claim.
        further: further statistics by name.
    """
    result = equivalence(replicate_means(via - direct), margin)
    word = "inconclusive"
    if result.n >= FEWEST_REPLICATES and (result.equivalent or result.different):
        word = "transitive" if result.equivalent else "not transitive"
    sentence = (
        f"{word.capitalize()}: over {counted(via.shape[1], 'temperature')} {wording.models} reach {percent(via)} "
        f"on average via {wording.path} against {percent(direct)} directly, {seen(result.difference)}"
    )
    sentence += ENDINGS[word].format(
        margin=margin_phrase(result.margin),
        through=wording.through,
        side="better" if result.difference.mean > 0 else "worse",
        outlook=outlook(result),
    )
    sentence += flattered(select_on, wording.chosen) + (f" {remark}" if remark else "")
    accuracies = {"via_accuracy": via.mean(), "direct_accuracy": direct.mean(), "margin": result.margin}

    def statistics(adjusted: tuple[float, float]) -> dict[str, float]:
        return equivalence_statistics(name, result, adjusted) | prefixed(name, accuracies) | dict(further or {})

    claim, p_values = Claim(name, word, sentence, result), (result.p_equivalent, result.p_different)
    return verdict_of(claim, p_values, statistics, specs(word), margin)


def way_spec(name: str, subject: str, way: ArrayLike, direct: np.ndarray) -> ClaimSpec:
    """Return the further claim that a way equals the direct one; its statistics hold the accuracy of the way."""
    way = check_accuracies(name, way, direct.shape)
    reached = {f"{name}_via_accuracy": float(way.mean())}
    return ClaimSpec(name, f"{subject} against direct ones", replicate_means(way - direct), further=reached)


def in_replicates(count: int, replicates: int) -> str:
    """Return in how many replicates something holds, as the beginning of a sentence."""
    return "In the only replicate" if replicates == 1 else f"In {count} of {replicates} replicates"


def _worst_middle(best: str, worst: np.ndarray, via: np.ndarray, direct: np.ndarray) -> ClaimSpec:
    """Return the claim about the worst middle; its remark reports what the quality of the middle changes."""
    change = points(float((worst - via).mean()))

    def condition(claim: Claim) -> str:
        word = claim.word
        if word == "different":
            word = "worse" if claim.result.difference.mean < 0 else "better"
        meaning = CONDITIONS.get((best, word), "whether the middle must be good enough stays open")
        return f"Going from the best middle to the worst moves the students by {change} percentage points: {meaning}."

    return ClaimSpec(
        "worst_middle",
        "students via the worst middle against direct ones",
        replicate_means(worst - direct),
        remark=condition,
        further={"worst_middle_change": float((worst - via).mean())},
    )
