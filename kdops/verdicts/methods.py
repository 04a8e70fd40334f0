"""Distillation methods against plain distillation at equal budgets: which gains are there, and which count.

Each method is held against the best plain ``logits`` on the same replicates. Its claim is one of four words:

- ``better``: its gain lies above zero;
- ``worse``: it lies below zero;
- ``no gain``: it lies below the margin, so what gain there may be counts as none;
- ``inconclusive``: none of these, or fewer than three replicates.

Each word is decided by one-sided tests at 5 %, adjusted after Holm, each kind by itself. Three families are adjusted by
themselves: methods that deploy the student alone, which the word of the verdict is about; methods that deploy more than
the student, whose gain may be that of their size; and controls. A method and a control of its size are compared too.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from kdops.utils.text import capitalized, two_digits
from kdops.verdicts.claims import DECIMALS, Claim, Verdict, check_accuracies, finite, one_sided_statistics
from kdops.verdicts.gain import Gain
from kdops.verdicts.phrases import counted, margin_phrase, percent, seen
from kdops.verdicts.statistics import FEWEST_REPLICATES, LEVEL, holm

BETTER, WORSE, NO_GAIN, OPEN = "better", "worse", "no gain", "inconclusive"


@dataclass(frozen=True)
class MethodCost:
    """What a method costs, the mean over its students.

    Attributes:
        seconds: of a training.
        parameters: of what is deployed.
        beside: values that are trained beside it and dropped.
        kept: bytes of these, and of all else that is kept for a student while it is trained.
        peak: the most bytes that a training took beyond what was in memory before it; not a number where it is unknown.
    """

    seconds: float
    parameters: float
    beside: float
    kept: float
    peak: float = math.nan


def describe_costs(costs: Mapping[str, MethodCost]) -> list[str]:
    """Return in sentences what methods cost, each against the first one.

    Args:
        costs: by name, plain distillation first.
    """
    (name, plain), *others = costs.items()
    times = ", ".join(f"{other} {cost.seconds / plain.seconds:.2f}" for other, cost in others)
    more = {other: cost.parameters - plain.parameters for other, cost in others if cost.parameters != plain.parameters}
    deployed = "; ".join(f"{other} {count:+,.0f}" for other, count in more.items())
    beside = "; ".join(f"{other} {cost.beside:,.0f}" for other, cost in costs.items() if cost.beside)
    kept = "; ".join(f"{other} {two_digits(cost.kept / 1e6)} MB" for other, cost in costs.items())
    known = {other: cost.peak for other, cost in costs.items() if math.isfinite(cost.peak)}
    peak = "; ".join(f"{other} {two_digits(most / 1e6)} MB" for other, most in known.items())
    return [
        f"Training takes {two_digits(plain.seconds)} s a student with {name}, and so many times as long with {times}.",
        f"With {name} {plain.parameters:,.0f} parameters are deployed, with all others as many"
        f"{f', but for {deployed}' if deployed else ''}; trained beside and dropped are {beside or 'none'}. "
        f"For a student the training keeps, of source and method: {kept}."
        f"{f' At its peak a pass took, beyond what was in memory before: {peak}.' if peak else ''}",
    ]


def methods_verdict(
    plain: ArrayLike,
    methods: Mapping[str, ArrayLike],
    margin: float,
    controls: Mapping[str, ArrayLike] | None = None,
    costs: Mapping[str, MethodCost] | None = None,
    larger: Mapping[str, ArrayLike] | None = None,
    controls_of: Mapping[str, Sequence[str]] | None = None,
) -> Verdict:
    """Return which methods are better than plain distillation.

    The word of the verdict is ``some methods are better`` where at least one of ``methods`` is, ``no method is better``
    where all of them are worse or without gain, and ``inconclusive`` otherwise.

    Args:
        plain: [replicates], test accuracies of plain distillation, at the best of its own trials.
        methods: by name, those of each method that deploys the student alone, on the same replicates, at the best of
            its trials.
        margin: gain that counts as none, a fraction above zero.
        controls: by name, those of controls. They are tested and adjusted among themselves, and the word of the verdict
            is not about them.
        costs: by name, plain distillation first, what each costs; the numbers join the statistics.
        larger: by name, those of methods that deploy more than the student, with which it is as with controls.
        controls_of: by name of a control, which of ``larger`` it is a control of: each of these is compared with it,
            adjusted over those of one control.

    Returns:
        The verdict; its first claim is about all methods, then one each, one for each of ``larger``, of ``controls``,
        and of the comparisons of ``controls_of``. Its statistics are those of each method's
        test of a gain above zero, by the method's name, and its p-values after Holm's adjustment.

    Raises:
        ValueError: for no methods, shapes that do not fit, accuracies outside [0, 1], a margin that is not above zero.
    """
    controls, costs, larger = controls or {}, costs or {}, larger or {}
    if not methods and not larger:
        raise ValueError("there must be a method to compare")
    plain = check_accuracies("plain", plain, axes=("replicates",))
    sizes = [cost.parameters for cost in costs.values()]

    def shown(name: str) -> str:
        differs = name in costs and costs[name].parameters != sizes[0]
        return f"{name} with {costs[name].parameters:,.0f} parameters deployed" if differs else name

    against = f"logits with {sizes[0]:,.0f}" if sizes else "logits of the student alone"
    own = gain_claims("method", plain, methods, margin, "logits")
    others = gain_claims("method", plain, larger, margin, against, shown=shown)
    others += gain_claims("method", plain, controls, margin, "logits", shown=shown)
    for name, among in (controls_of or {}).items():
        held_against, whose = check_accuracies(name, controls[name], plain.shape), {one: larger[one] for one in among}
        others += gain_claims(_key("beside", name), held_against, whose, margin, shown(name), shown=shown)
    statistics = {"methods_plain_accuracy": float(plain.mean()), "methods_margin": margin}
    for _, found in own + others:
        statistics |= found
    for name, cost in costs.items():
        statistics |= finite({f"{_key('method', name)}_{kind}": value for kind, value in vars(cost).items()})
    claims, further = [claim for claim, _ in own], [claim for claim, _ in others]
    held = f"of {counted(len(claims), 'method')} held against plain distillation of the same student at equal budgets"
    if claims:
        primary = summed_up("methods", claims, ("some methods are better", "no method is better"), held)
    else:
        sentence = "Inconclusive: all methods deploy more than the student, and plain distillation the student alone."
        primary = Claim("methods", OPEN, sentence, further[0].result)
    return Verdict((primary, *claims, *further), statistics)


def gain_claims(
    prefix: str,
    plain: np.ndarray,
    methods: Mapping[str, ArrayLike],
    margin: float,
    against: str,
    whose: str = "",
    shown: Callable[[str], str] = str,
) -> list[tuple[Claim, dict[str, float]]]:
    """Return a claim on each of several gains with its statistics, adjusted after Holm over all of them.

    Args:
        prefix: what names of claims begin with.
        plain: [replicates], test accuracies that are to be beaten.
        methods: by name, those that are held against them, on the same replicates.
        margin: gain that counts as none, a fraction above zero.
        against: what ``plain`` is called in sentences.
        whose: what stands before a name there.
        shown: returns what stands there for a name.

    Raises:
        ValueError: for shapes that do not fit, accuracies outside [0, 1], a margin that is not above zero.
    """
    reached = {name: check_accuracies(name, values, plain.shape) for name, values in methods.items()}
    gains = {name: Gain.of((values - plain).round(DECIMALS), margin) for name, values in reached.items()}
    adjusted = {
        BETTER: holm([gain.positive.p_above for gain in gains.values()]),
        WORSE: holm([gain.positive.p_below for gain in gains.values()]),
        NO_GAIN: holm([gain.little.p_below for gain in gains.values()]),
    }
    found = []
    for place, (name, gain) in enumerate(gains.items()):
        p_values = {word: float(values[place]) for word, values in adjusted.items()}
        word, key = _word(gain, p_values), _key(prefix, name)
        statistics = one_sided_statistics(key, gain.positive) | finite(
            {
                f"{key}_accuracy": float(reached[name].mean()),
                f"{key}_p_above_holm": p_values[BETTER],
                f"{key}_p_below_holm": p_values[WORSE],
                f"{key}_p_little_holm": p_values[NO_GAIN],
            }
        )
        sentence = (
            f"{capitalized(word)}: {whose}{shown(name)} ({percent(reached[name])}) against {against} "
            f"({percent(plain)}), {seen(gain.positive.difference)}; "
            f"a gain below {margin_phrase(margin)} counts as none."
        )
        if word == OPEN and gain.positive.n < FEWEST_REPLICATES:
            sentence += f" A decision takes at least {FEWEST_REPLICATES} replicates."
        elif word == OPEN and gain.positive.above:
            sentence += f" Its own interval lies above zero, but Holm's adjustment for {len(gains)} claims does not."
        found.append((Claim(key, word, sentence, gain.positive), statistics))
    return found


def _word(gain: Gain, p_values: Mapping[str, float]) -> str:
    if gain.positive.n < FEWEST_REPLICATES:
        return OPEN
    return next((word for word in (BETTER, WORSE, NO_GAIN) if p_values[word] < LEVEL), OPEN)


def summed_up(name: str, claims: Sequence[Claim], words: tuple[str, str], held: str) -> Claim:
    """Return the claim about all of several; its test is that of the largest gain.

    Args:
        name: of the claim.
        claims: of :func:`gain_claims`.
        words: where some are better, and where all are worse or without gain.
        held: how many were held against what.
    """
    best = max(claims, key=lambda claim: claim.result.difference.mean)
    counts = {word: sum(claim.word == word for claim in claims) for word in (BETTER, NO_GAIN, WORSE, OPEN)}
    listed = ", ".join(f"{count} {word}" for word, count in counts.items() if count)
    word = words[0] if counts[BETTER] else OPEN if counts[OPEN] else words[1]
    return Claim(name, word, f"{capitalized(word)}: {held}: {listed}.", best.result)


def _key(prefix: str, name: str) -> str:
    """Return a method's text as the prefix of its statistics, as MLflow takes names of metrics."""
    return f"{prefix}_" + re.sub(r"[^\w./-]+", "_", name).strip("_")
