"""The gain of an ensemble: does a vote of the best N students beat the best of them (figure 3 of the paper)?

The claims, each about one number a replicate:

- ``ensemble``, primary: the ensemble of the chosen size minus the best single model. Its 90 % interval alone decides:
  wholly below the margin it is ``ensemble does not help``, since what gain there is counts as none (the sentence states
  whether it is above zero all the same); else wholly above zero ``ensemble helps``; else, and with fewer than three
  replicates, ``inconclusive``. At a gain of exactly the margin the first is wrong at most 5 % of the time, and
  at a gain of zero so is the second. Its ``parts`` are ``ensemble_gain``: whether the gain is above zero (``above
  zero`` / ``not above zero``).
- ``all_members``: the ensemble of all members minus the best single one.
- ``one_temperature``: the gain of an ensemble of the same size over *its* best single member, where the members have
  one temperature and differ in their seed alone, minus the gain of the ensemble: what differing in T instead costs.
- ``own_order``: the same for members that each have a batch order of their own.

The words of the last three, and what they are adjusted for: see :mod:`kdops.verdicts.claims`; the primary one's "does
not help" stands beside "equal" there, its "above zero" beside "different".

With a size of 1 the ensemble is its member, so its gain and those of the controls are zero whatever the data are.
Then ``ensemble`` rests on the choice of the size and on no test (``ensemble does not help`` from three replicates on,
its gain ``not above zero``), has no interval and counts as no claim in Holm's adjustment, and ``one_temperature`` and
``own_order`` are left out; ``all_members`` stays.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike

from kdops.utils.text import capitalized
from kdops.verdicts.claims import DECIMALS, Claim, ClaimSpec, Verdict, check_accuracies, prefixed, verdict_of
from kdops.verdicts.gain import Gain
from kdops.verdicts.phrases import counted, flattered, needs_at_least, percent, seen
from kdops.verdicts.statistics import FEWEST_REPLICATES, LEVEL, OneSided
from kdops.verdicts.votes import McNemar

Control = tuple[ArrayLike, ArrayLike]
"""Test accuracies of a control's ensemble and of its best single member, [replicates] each."""

FLATTERED = "the size chosen and the best single one"

CONTROLS = {
    "one_temperature": "members of one temperature that differ in their seed alone",
    "own_order": "members with a batch order of their own",
}


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

    Args:
        ensemble: [replicates], test accuracies of the ensembles of ``size`` members.
        single: [replicates], of the best single member.
        margin: gain that counts as none, a fraction above zero.
        size: how many members vote, chosen by ``select_on``.
        members: how many there are to choose from.
        select_on: ``validation`` or ``test``, what size, order of the members and best single one were chosen on;
            the sentence names ``test``.
        all_members: [replicates], of the ensemble of all members.
        one_temperature: of members of one temperature, the ensembles and their best single members.
        own_order: of members with a batch order of their own, likewise.
        mcnemar: the test of each replicate by images; it decides nothing and is reported as what it is.

    Returns:
        The verdict. Its statistics are ``ensemble_*`` (see :func:`_statistics`), those of each other claim
        (:func:`kdops.verdicts.claims.equivalence_statistics`), ``all_members_accuracy``, ``one_temperature_gain`` and
        ``own_order_gain``. What is unknown is left out: with a size of 1 also all that only a test yields.

    Raises:
        ValueError: for shapes that do not fit, accuracies that are not finite or not in [0, 1], a size that is not
            within 1 to ``members``, a margin that is not above zero, another ``select_on``, or an ensemble of
            size 1 that is not the best single member.
    """
    if not 1 <= size <= members:
        raise ValueError(f"size must be from 1 to the {members} members, not {size}")
    ensemble = check_accuracies("ensemble", ensemble, axes=("replicates",))
    single = check_accuracies("single", single, ensemble.shape)
    difference = (ensemble - single).round(DECIMALS)
    gain = Gain.of(difference, margin)
    specs = [] if all_members is None else [_all_members(members, all_members, single)]
    for name, control in (("one_temperature", one_temperature), ("own_order", own_order)):
        if control is not None:
            theirs, best = (check_accuracies(name, values, ensemble.shape) for values in control)
            if size > 1:  # of one member, zero against zero would only weaken the other claims
                specs.append(_control(name, size, theirs - best, difference))
    if size == 1:
        if difference.any():
            raise ValueError("an ensemble of size 1 is the best single member, so both must have the same accuracies")
        gain, mcnemar = Gain(_untested(gain.little), _untested(gain.positive)), ()
        primary = _by_choice(gain, single, members, select_on)
    else:
        reached = f"the best {size} of {members} members reach {percent(ensemble)} against {percent(single)}"
        primary = _primary(gain, reached, mcnemar, select_on)
    counts = {"margin": margin, "size": size, "members": members}
    counts |= {"accuracy": ensemble.mean(), "single_accuracy": single.mean()}
    p_values = (gain.little.p_below, gain.positive.p_above)
    return verdict_of(primary, p_values, lambda adjusted: _statistics(gain, adjusted, counts, mcnemar), specs, margin)


def _all_members(members: int, accuracies: ArrayLike, single: np.ndarray) -> ClaimSpec:
    """Return the claim that the ensemble of all members equals the best single one."""
    whole = check_accuracies("all_members", accuracies, single.shape)
    subject = f"the ensemble of all {members} members ({percent(whole)}) against the best one"
    further = {"all_members_accuracy": float(whole.mean())}
    return ClaimSpec("all_members", subject, (whole - single).round(DECIMALS), further=further)


def _control(name: str, size: int, theirs: np.ndarray, gain: np.ndarray) -> ClaimSpec:
    """Return the claim that the gain of a control is the ensemble's."""
    subject = f"the gain of an ensemble of {size} from {CONTROLS[name]} against the gain of the ensemble"
    further = {f"{name}_gain": float(theirs.mean())}
    return ClaimSpec(name, subject, (theirs - gain).round(DECIMALS), further=further)


def _statistics(
    gain: Gain, adjusted: tuple[float, float], counts: dict[str, float], mcnemar: Sequence[McNemar]
) -> dict[str, float]:
    """Return the flat statistics of the primary claim."""
    values = {
        **gain.statistics(adjusted),
        **counts,
        "mcnemar_lowest_p": min((test.p for test in mcnemar), default=None),
        "mcnemar_highest_p": max((test.p for test in mcnemar), default=None),
    }
    return prefixed("ensemble", values)


def _untested(result: OneSided) -> OneSided:
    """Return the mean of a difference that is zero by construction, and nothing that reads like a test of it."""
    unknown = replace(result.difference, low=math.nan, high=math.nan)
    nan = math.nan
    return replace(
        result, difference=unknown, p_above=nan, p_below=nan, above=False, below=False, replicates_needed=None
    )


def _by_choice(gain: Gain, single: np.ndarray, members: int, select_on: str) -> Claim:
    """Return the primary claim where the size chosen is 1."""
    n = gain.little.n
    word, sign = ("ensemble does not help", "not above zero") if n >= FEWEST_REPLICATES else ("inconclusive",) * 2
    chosen = (
        f"the choice on {select_on} was a single member (N = 1 of {members}), which reaches {percent(single)} "
        f"(n = {counted(n, 'replicate')}), so voting brought no gain by the choice of N. This is by choice, not by "
        "test: an ensemble of one is its member."
    )
    sentence = f"{capitalized(word)}: {chosen}"
    if n < FEWEST_REPLICATES:
        sentence += f" {needs_at_least(n).rstrip('; ')}."
    sentence += flattered(select_on, FLATTERED)
    part = Claim("ensemble_gain", sign, f"{capitalized(sign)}: {chosen}", gain.positive)
    return Claim("ensemble", word, sentence, gain.little, (part,))


def _primary(gain: Gain, reached: str, mcnemar: Sequence[McNemar], select_on: str) -> Claim:
    """Return the primary claim and its part in words; ``reached`` is what both reach, in words."""
    little, positive = gain.little, gain.positive
    against = f"{reached} of the best single one, {seen(little.difference)}"
    word = gain.word("ensemble")
    zero = "the gain is above zero all the same" if positive.above else "nor is it shown to be above zero"
    if positive.difference.high < 0:
        zero = "the ensemble is even worse than the best single one"
    sentence = f"{capitalized(word)}: {against}{gain.ending(word, zero)}"
    if mcnemar:
        differ = sum(test.p < LEVEL for test in mcnemar)
        sentence += (
            f" By images alone (McNemar's test, which takes them as independent) the two differ in {differ} of "
            f"{len(mcnemar)} replicates."
        )
    sentence += flattered(select_on, FLATTERED)
    sign = "inconclusive"
    if positive.n >= FEWEST_REPLICATES:
        sign = "above zero" if positive.above else "not above zero" if positive.difference.high <= 0 else sign
    part = Claim("ensemble_gain", sign, f"{capitalized(sign)}: {against}.", positive)
    return Claim("ensemble", word, sentence, little, (part,))
