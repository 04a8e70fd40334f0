"""Nets that learn from each other against independent ones: do they gain, and does their vote?

Two questions on each company, each about one number a replicate:

- ``members_NAME``: the mean accuracy of its nets minus that of independent nets;
- ``vote_NAME``: the accuracy of its nets' majority vote minus that of the independent nets' vote. Nets for the price of
  an ensemble must beat the ensemble.

The words are those of :mod:`kdops.verdicts.methods`. Each question is adjusted after Holm over the companies.
"""

from __future__ import annotations

from collections.abc import Mapping

from numpy.typing import ArrayLike

from kdops.verdicts.claims import Claim, Verdict, check_accuracies
from kdops.verdicts.methods import gain_claims, summed_up
from kdops.verdicts.phrases import counted

WORDS = "some companies gain", "no company gains"

QUESTIONS = {
    "members": ("the members of ", "independent nets"),
    "vote": ("the vote of ", "the vote of independent nets"),
}
"""What is held against what."""


def mutual_verdict(
    independent: tuple[ArrayLike, ArrayLike], companies: Mapping[str, tuple[ArrayLike, ArrayLike]], margin: float
) -> Verdict:
    """Return whether nets that learn from each other beat independent ones, as members and as an ensemble.

    The word of the verdict is about the members: ``some companies gain``, ``no company gains``, or ``inconclusive``.

    Args:
        independent: [replicates] each, the mean test accuracy of independent nets, and that of their vote.
        companies: by name, the same of each company on the same replicates.
        margin: gain that counts as none, a fraction above zero.

    Returns:
        The verdict: a claim about the members of all companies, one about all votes, then both of each company.

    Raises:
        ValueError: for no companies, shapes that do not fit, accuracies outside [0, 1], a margin not above zero.
    """
    if not companies:
        raise ValueError("there must be a company to compare")
    claims: list[Claim] = []
    primary: list[Claim] = []
    statistics = {"mutual_margin": margin}
    held = f"of {counted(len(companies), 'company method')} held against independent nets by"
    for place, (prefix, (whose, against)) in enumerate(QUESTIONS.items()):
        plain = check_accuracies(f"independent {prefix}", independent[place], axes=("replicates",))
        own = {name: reached[place] for name, reached in companies.items()}
        found = gain_claims(prefix, plain, own, margin, against, whose)
        primary.append(summed_up(prefix, [claim for claim, _ in found], WORDS, f"{held} {prefix}"))
        claims += [claim for claim, _ in found]
        statistics[f"independent_{prefix}_accuracy"] = float(plain.mean())
        for _, own_statistics in found:
            statistics |= own_statistics
    return Verdict((*primary, *claims), statistics)
