"""The gain of an ensemble: does a vote of the best N students beat the best of them (figure 3 of the paper)?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike

from kdops.utils.text import capitalized
from kdops.verdicts.claims import (
    DECIMALS,
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
    percent,
    rounded_up,
    secondary_claim,
    seen,
)
from kdops.verdicts.statistics import FEWEST_REPLICATES, MOST_REPLICATES, OneSided, equivalence, one_sided, superiority
from kdops.verdicts.votes import McNemar

__all__ = ["Control", "ensemble_verdict"]

Control = tuple[ArrayLike, ArrayLike]
"""Test accuracies of a control's ensemble and of its best single member, [replicates] each."""

FLATTERS = " Selection used the test set, which flatters the size chosen and the best single one."


def ensemble_verdict(
    ensemble: ArrayLike,
    single: ArrayLike,
    margin: float,
    *,
    size: int,
    members: int,
    select_on: str = "validation",
    all_members: ArrayLike | None = None,
    one_temperature: Control | None = None,
    own_order: Control | None = None,
    mcnemar: Sequence[McNemar] = (),
) -> Verdict:
    """Return whether an ensemble of the best students is worth more than the best of them.

    The claims, each about one number a replicate:

    - ``ensemble``, primary: the ensemble of the chosen size minus the best single model. Its 90 % interval alone
      decides: wholly below ``margin`` it is ``ensemble does not help``, since what gain there is counts as none
      (the sentence says whether it is above zero all the same); else wholly above zero ``ensemble helps``; else,
      and with fewer than three replicates, ``inconclusive``. At a gain of exactly the margin the first is said
      falsely at most 5 % of the time, and at a gain of zero so is the second. Its ``parts`` are
      ``ensemble_gain``: whether the gain is above zero (``above zero`` / ``not above zero``).
    - ``all_members``: the ensemble of all members minus the best single one.
    - ``one_temperature``: the gain of an ensemble of the same size over *its* best single member, where the members
      have one temperature and differ in their seed alone, minus the gain of the ensemble: what differing in T
      instead costs.
    - ``own_order``: the same for members that each have a batch order of their own.

    The last three are tests of equivalence within ``margin``: ``equal``, ``different`` or ``inconclusive`` by
    p-values below 5 % after Holm's adjustment over all the claims given, the primary one among them, in two
    families as in :func:`~kdops.verdicts.transitivity.transitivity_verdict` (the primary one's "does not help"
    beside "equal", its "above zero" beside "different").

    With a size of 1 the ensemble is its member, so its gain and those of the controls are zero whatever the data
    say. Then ``ensemble`` rests on the choice of the size and on no test (``ensemble does not help`` from three
    replicates on, its gain ``not above zero``), has no interval and counts as no claim in Holm's adjustment, and
    ``one_temperature`` and ``own_order`` are left out; ``all_members`` stays.

    Args:
        ensemble: [replicates], test accuracies of the ensembles of ``size`` members.
        single: [replicates], of the best single member.
        margin: gain that counts as none, a fraction above zero.
        size: how many members vote, chosen as ``select_on`` says.
        members: how many there are to choose from.
        select_on: ``validation`` or ``test``, what size, order of the members and best single one were chosen on;
            the sentence names ``test``.
        all_members: [replicates], of the ensemble of all members.
        one_temperature: of members of one temperature, the ensembles and their best single members.
        own_order: of members with a batch order of their own, likewise.
        mcnemar: the test of each replicate by images; it decides nothing and is reported as what it is.

    Returns:
        The verdict. Its statistics: ``ensemble_`` ``difference``, ``low``, ``high``, ``p_helps``, ``p_helps_holm``,
        ``p_no_help``, ``p_no_help_holm``, ``replicates``, ``replicates_needed``, ``smallest_margin`` (the interval
        seen is no help by any margin above it), ``margin``, ``size``, ``members``, ``accuracy``,
        ``single_accuracy``, ``mcnemar_lowest_p`` and ``mcnemar_highest_p``; for each other claim those of
        transitivity; ``all_members_accuracy``, ``one_temperature_gain`` and ``own_order_gain``. What is unknown
        is left out: with a size of 1 also the bounds, the p-values, ``replicates_needed`` and
        ``smallest_margin`` of the primary claim and those of McNemar's test.

    Raises:
        ValueError: for shapes that do not fit, accuracies that are not finite or not in [0, 1], a size that is not
            within 1 to ``members``, a margin that is not above zero, another ``select_on``, or an ensemble of
            size 1 that is not the best single member.
    """
    check_select_on(select_on)
    if not 1 <= size <= members:
        raise ValueError(f"size must be from 1 to the {members} members, not {size}")
    ensemble = check_accuracies("ensemble", ensemble, axes=("replicates",))
    single = check_accuracies("single", single, ensemble.shape)
    if not 0 < margin < np.inf:
        raise ValueError(f"margin must be a finite number above 0, not {margin}")
    gain = (ensemble - single).round(DECIMALS)
    little, positive = one_sided(gain, margin, LEVEL), superiority(gain, LEVEL)
    alone = size == 1
    if alone:
        if gain.any():
            raise ValueError("an ensemble of size 1 is the best single member, so both must have the same accuracies")
        little, positive, mcnemar = _untested(little), _untested(positive), ()

    chosen, subjects, accuracies = f"an ensemble of {size}", {}, {}
    differences: dict[str, np.ndarray] = {}
    if all_members is not None:
        all_members = check_accuracies("all_members", all_members, ensemble.shape)
        differences["all_members"] = (all_members - single).round(DECIMALS)
        subjects["all_members"] = f"the ensemble of all {members} members ({percent(all_members)}) against the best one"
        accuracies["all_members_accuracy"] = float(all_members.mean())
    for name, control, whose in (
        ("one_temperature", one_temperature, "members of one temperature that differ in their seed alone"),
        ("own_order", own_order, "members with a batch order of their own"),
    ):
        if control is not None:
            theirs, best = (check_accuracies(name, values, ensemble.shape) for values in control)
            if alone:  # zero against zero, which would only weaken the other claims
                continue
            differences[name] = (theirs - best - gain).round(DECIMALS)
            subjects[name] = f"the gain of {chosen} from {whose} against the gain of the ensemble"
            accuracies[f"{name}_gain"] = float((theirs - best).mean())

    results = {name: equivalence(values, margin, LEVEL) for name, values in differences.items()}
    p_values = {name: (result.p_equivalent, result.p_different) for name, result in results.items()}
    adjusted = adjust({"ensemble": (little.p_below, positive.p_above), **p_values})

    tested = len(results) if alone else len(adjusted)  # Holm's method passes over the nan of what is untested
    if alone:
        claims = [_by_choice(little, positive, single, members, select_on)]
    else:
        claims = [_primary(little, positive, ensemble, single, size, members, select_on, mcnemar)]
    claims += [secondary_claim(name, subjects[name], r, adjusted[name], tested) for name, r in results.items()]

    statistics = finite(
        {
            "ensemble_difference": little.difference.mean,
            "ensemble_low": little.difference.low,
            "ensemble_high": little.difference.high,
            "ensemble_p_helps": positive.p_above,
            "ensemble_p_helps_holm": adjusted["ensemble"][1],
            "ensemble_p_no_help": little.p_below,
            "ensemble_p_no_help_holm": adjusted["ensemble"][0],
            "ensemble_replicates": little.n,
            "ensemble_replicates_needed": _replicates_needed(little, positive),
            "ensemble_smallest_margin": _smallest_margin(little),
            "ensemble_margin": margin,
            "ensemble_size": size,
            "ensemble_members": members,
            "ensemble_accuracy": ensemble.mean(),
            "ensemble_single_accuracy": single.mean(),
            "ensemble_mcnemar_lowest_p": min((test.p for test in mcnemar), default=None),
            "ensemble_mcnemar_highest_p": max((test.p for test in mcnemar), default=None),
        }
    )
    for name, result in results.items():
        statistics |= equivalence_statistics(name, result, adjusted[name])
    return Verdict(claims[0].word, claims[0].sentence, statistics | accuracies, tuple(claims))


def _untested(result: OneSided) -> OneSided:
    """Keep the mean of a difference that is zero by construction, and nothing that reads like a test of it."""
    difference = replace(result.difference, low=math.nan, high=math.nan)
    return replace(
        result,
        difference=difference,
        p_above=math.nan,
        p_below=math.nan,
        above=False,
        below=False,
        replicates_needed=None,
    )


def _by_choice(little: OneSided, positive: OneSided, single: np.ndarray, members: int, select_on: str) -> Claim:
    """Word the primary claim where the size chosen is 1."""
    decided = little.n >= FEWEST_REPLICATES
    word, sign = ("ensemble does not help", "not above zero") if decided else ("inconclusive",) * 2
    replicates = "replicate" if little.n == 1 else "replicates"
    chosen = (
        f"the choice on {select_on} was a single member (N = 1 of {members}), which reaches {percent(single)} "
        f"(n = {little.n} {replicates}), so voting brought no gain by the choice of N. This is by choice, not by test: "
        "an ensemble of one is its member."
    )
    sentence = f"{capitalized(word)}: {chosen}"
    if not decided:
        sentence += f" {needs_at_least(little.n).rstrip('; ')}."
    if select_on == "test":
        sentence += FLATTERS
    part = Claim("ensemble_gain", sign, f"{capitalized(sign)}: {chosen}", positive)
    return Claim("ensemble", word, sentence, little, (part,))


def _word(little: OneSided, positive: OneSided) -> str:
    if little.n < FEWEST_REPLICATES or not (little.below or positive.above):
        return "inconclusive"
    return "ensemble does not help" if little.below else "ensemble helps"


def _primary(
    little: OneSided,
    positive: OneSided,
    ensemble: np.ndarray,
    single: np.ndarray,
    size: int,
    members: int,
    select_on: str,
    mcnemar: Sequence[McNemar],
) -> Claim:
    word = _word(little, positive)
    margin = margin_phrase(little.threshold)
    who = f"the best {size} of {members} members reach {percent(ensemble)}"
    against = f"{who} against {percent(single)} of the best single one, {seen(little.difference)}"
    sentence = f"{capitalized(word)}: {against}"
    zero = "the gain is above zero all the same" if positive.above else "nor is it shown to be above zero"
    if positive.difference.high < 0:
        zero = "the ensemble is even worse than the best single one"
    if word == "ensemble does not help":
        sentence += f", below the margin of {margin}, so what gain there is counts as none; {zero}."
    elif word == "ensemble helps":
        shown = "above" if little.above else "not shown to be above"
        sentence += f", above zero; the gain is {shown} the margin of {margin}."
    else:
        sentence += f"; the margin is {margin}. {_outlook(little, positive)}"
    if mcnemar:
        differ = sum(test.p < LEVEL for test in mcnemar)
        sentence += (
            f" By images alone (McNemar's test, which takes them as independent) the two differ in {differ} of "
            f"{len(mcnemar)} replicates."
        )
    if select_on == "test":
        sentence += FLATTERS
    sign = "inconclusive"
    if positive.n >= FEWEST_REPLICATES:
        sign = "above zero" if positive.above else "not above zero" if positive.difference.high <= 0 else sign
    part = Claim("ensemble_gain", sign, f"{capitalized(sign)}: {against}.", positive)
    return Claim("ensemble", word, sentence, little, (part,))


def _replicates_needed(little: OneSided, positive: OneSided) -> int | None:
    """Return how many decide, if the mean and the spread are as seen: either test may."""
    mean, needed = little.difference.mean, []
    if mean < little.threshold:
        needed.append(little.replicates_needed)
    if mean > positive.threshold:
        needed.append(positive.replicates_needed)
    return min((count for count in needed if count is not None), default=None)


def _outlook(little: OneSided, positive: OneSided) -> str:
    start = needs_at_least(little.n)
    if little.n < 2:
        return f"{start}{ONE_REPLICATE}"
    needed = _replicates_needed(little, positive)
    count = f"more than {MOST_REPLICATES}" if needed is None else f"about {needed}"
    start += f"if the mean and the spread stay as seen, it takes {count} replicates. "
    return (
        f"{capitalized(start)}By the interval seen it does not help with any margin above "
        f"{rounded_up(_smallest_margin(little))} points."
    )


def _smallest_margin(little: OneSided) -> float:
    high = little.difference.high
    return max(0.0, high) if high == high else np.nan  # nan stays unknown
