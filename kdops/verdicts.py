"""Verdicts: what the replicates of a study say about a property of distillation, in a word and a sentence."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from kdops.statistics import FEWEST_REPLICATES, MOST_REPLICATES, POWER, Equivalence, equivalence, holm

__all__ = ["Claim", "Verdict", "transitivity_verdict"]

LEVEL = 0.05
"""Level of each one-sided test; intervals are at 90 % accordingly."""

DECIMALS = 12
"""Accuracies are ratios of counts: what is left beyond this many decimals is rounding noise. Without it a
difference of exactly the margin would be decided by the last bit."""


@dataclass(frozen=True)
class Claim:
    """One statement that was tested.

    Attributes:
        name: the prefix of its statistics, such as ``worst_middle``.
        word: the answer.
        sentence: the answer with its numbers, in percentage points.
        result: the test, in fractions.
    """

    name: str
    word: str
    sentence: str
    result: Equivalence


@dataclass(frozen=True)
class Verdict:
    """The answer about a property.

    Attributes:
        word: the answer of the primary claim.
        sentence: the sentence of the primary claim.
        statistics: flat names to finite numbers (accuracies as fractions), ready to be logged as metrics.
        claims: the primary claim, then the others.
    """

    word: str
    sentence: str
    statistics: dict[str, float]
    claims: tuple[Claim, ...]


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
    """Say whether distilling through a middle net gives the students that distilling directly gives.

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
    if select_on not in ("validation", "test"):
        raise ValueError(f"select_on must be validation or test, not {select_on!r}")
    via = _accuracies("via", via, None)
    direct = _accuracies("direct", direct, via.shape)
    differences = {"transitivity": _means(via - direct)}
    if via_distilled is not None:
        via_distilled = _accuracies("via_distilled", via_distilled, via.shape)
        differences["distilled_middle"] = _means(via_distilled - direct)
    if via_worst is not None:
        via_worst = _accuracies("via_worst", via_worst, via.shape)
        differences["worst_middle"] = _means(via_worst - direct)
    if middle is not None:
        middle = _accuracies("middle", middle, via.shape[:1])
        differences["middle"] = _means(via - middle[:, None])

    results = {name: equivalence(values, margin, LEVEL) for name, values in differences.items()}
    p_holm = dict(zip(results, holm([r.p_equivalent for r in results.values()]), strict=True))
    p_different = dict(zip(results, holm([r.p_different for r in results.values()]), strict=True))

    primary = results["transitivity"]
    word = _primary_word(primary)
    accuracies = f"{_percent(via)} on average via the best middle against {_percent(direct)} directly"
    sentence = _primary_sentence(word, primary, accuracies, via.shape[1], select_on)
    hard = None if middle_temperatures is None else int((np.asarray(middle_temperatures) == 0).sum())
    if hard:
        sentence += " " + _hard_middles(hard, len(via))
    claims = [Claim("transitivity", word, sentence, primary)]
    for name in [name for name in results if name != "transitivity"]:
        said = _secondary_word(results[name], p_holm[name], p_different[name])
        sentence = _secondary_sentence(name, said, results[name], len(results))
        if name == "worst_middle":
            sentence += " " + _condition(word, said, results[name].difference.mean, float((via_worst - via).mean()))
        claims.append(Claim(name, said, sentence, results[name]))

    statistics: dict[str, float] = {}
    for name, result in results.items():
        statistics |= _statistics(name, result, p_holm[name], p_different[name])
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


def _accuracies(name: str, values: ArrayLike, shape: tuple[int, ...] | None) -> np.ndarray:
    """Check test accuracies; ``shape`` None means any [replicates, temperatures] that is not empty."""
    values = np.asarray(values, dtype=float)
    if shape is None and (values.ndim != 2 or not values.size):
        raise ValueError(f"{name} must be [replicates, temperatures] and not empty, not {list(values.shape)}")
    if shape is not None and values.shape != shape:
        raise ValueError(f"{name} must have the shape {list(shape)}, not {list(values.shape)}")
    if not ((values >= 0) & (values <= 1)).all():  # nan fails both
        raise ValueError(f"{name} must hold accuracies from 0 to 1, all of them finite")
    return values


def _means(differences: np.ndarray) -> np.ndarray:
    """[replicates, temperatures] -> [replicates]: the replicate is the unit, not the temperature."""
    return differences.mean(axis=1).round(DECIMALS)


def _primary_word(result: Equivalence) -> str:
    if result.n < FEWEST_REPLICATES or not (result.equivalent or result.different):
        return "inconclusive"
    return "transitive" if result.equivalent else "not transitive"


def _secondary_word(result: Equivalence, p_holm: float, p_different: float) -> str:
    if result.n < FEWEST_REPLICATES:
        return "inconclusive"
    if p_holm < LEVEL:
        return "equal"
    return "different" if p_different < LEVEL else "inconclusive"


def _primary_sentence(word: str, result: Equivalence, accuracies: str, temperatures: int, select_on: str) -> str:
    over = "1 temperature" if temperatures == 1 else f"{temperatures} temperatures"
    sentence = f"{word.capitalize()}: over {over} the students reach {accuracies}, {_seen(result)}"
    if word == "transitive":
        sentence += f", inside the margin of {_margin(result)}."
    elif word == "not transitive":
        side = "better" if result.difference.mean > 0 else "worse"
        sentence += f", outside the margin of {_margin(result)}: those via the middle are {side}."
    else:
        sentence += f"; the margin is {_margin(result)}. {_outlook(result)}"
    if select_on == "test":
        sentence += " Selection used the test set, which flatters the chosen middle and its students."
    return sentence


def _hard_middles(hard: int, replicates: int) -> str:
    where = "the only replicate" if replicates == 1 else f"{hard} of {replicates} replicates"
    return (
        f"In {where} the best middle is the one trained on hard labels: nothing of the teacher passes through it, "
        "so what is compared there is distilling from a net that learned from labels."
    )


def _secondary_sentence(name: str, word: str, result: Equivalence, claims: int) -> str:
    subject = {
        "distilled_middle": "students via the best distilled middle against direct ones",
        "worst_middle": "students via the worst middle against direct ones",
        "middle": "students via the middle against the middle itself",
    }[name]
    sentence = f"{word.capitalize()}: {subject}, {_seen(result)}; the margin is {_margin(result)}."
    if word != "inconclusive":
        return sentence
    if result.n >= FEWEST_REPLICATES and (result.equivalent or result.different):
        place = "inside" if result.equivalent else "outside"
        adjusted = f"Holm's adjustment for {claims} claims leaves it open"
        return f"{sentence} The interval lies {place} the margin, but {adjusted}."
    return f"{sentence} {_outlook(result)}"


def _condition(best: str, worst: str, difference: float, change: float) -> str:
    """Say what the quality of the middle changes."""
    moved = f"Going from the best middle to the worst moves the students by {_points(change)} percentage points"
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


def _seen(result: Equivalence) -> str:
    seen = result.difference
    interval = f"90 % interval {_points(seen.low)} to {_points(seen.high)}, " if seen.n > 1 else ""
    replicates = "replicate" if seen.n == 1 else "replicates"
    return f"a difference of {_points(seen.mean)} percentage points ({interval}n = {seen.n} {replicates})"


def _outlook(result: Equivalence) -> str:
    """Say what would decide an open claim: how many replicates, or which margin."""
    few = result.n < FEWEST_REPLICATES
    start = f"A decision takes at least {FEWEST_REPLICATES} replicates; " if few else ""
    if result.n < 2:
        return f"{start}one does not show the spread among them, and so neither how many would decide."
    away = abs(result.difference.mean)
    if result.replicates_needed is not None:
        side = "inside" if away < result.margin else "outside"
        # On few replicates the interval may hold the margin itself: then even the side is a guess.
        low, high = result.difference.low, result.difference.high
        open_side = any(low < edge < high for edge in (-result.margin, result.margin))
        start += "the interval holds the margin itself, so the side is open; " if open_side else ""
        start += f"if the mean and the spread stay as seen, {result.replicates_needed} would put the interval "
        start += f"{side} the margin with {100 * POWER:.0f} % chance. "
    elif away == result.margin:
        start += "the difference seen is the margin itself, so no number of replicates can be named. "
    else:
        start += f"if the mean and the spread stay as seen, it takes more than {MOST_REPLICATES} replicates. "
    # Rounded up, so that the margin in print does pass.
    smallest = math.ceil(result.smallest_margin * 1e4) / 1e2
    return f"{start[0].upper()}{start[1:]}The interval seen lies inside any margin above {smallest:.2f} points."


def _statistics(name: str, result: Equivalence, p_holm: float, p_different_holm: float) -> dict[str, float]:
    values = {
        "difference": result.difference.mean,
        "low": result.difference.low,
        "high": result.difference.high,
        "p_equivalent": result.p_equivalent,
        "p_holm": p_holm,
        "p_different": result.p_different,
        "p_different_holm": p_different_holm,
        "replicates": result.n,
        "replicates_needed": result.replicates_needed,
        "smallest_margin": result.smallest_margin,
    }
    known = {key: float(value) for key, value in values.items() if value is not None}
    return {f"{name}_{key}": value for key, value in known.items() if math.isfinite(value)}


def _points(fraction: float) -> str:
    return f"{round(100 * fraction, 2) + 0.0:+.2f}"  # adding zero turns -0.0 into 0.0


def _percent(accuracies: np.ndarray) -> str:
    return f"{100 * accuracies.mean():.2f} %"


def _margin(result: Equivalence) -> str:
    return f"{100 * result.margin:g} percentage points"
