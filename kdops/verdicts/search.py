"""What a search gained: the best it found against the best of a plain sweep, both trained again with fresh seeds."""

from __future__ import annotations

from numpy.typing import ArrayLike

from kdops.utils.text import capitalized
from kdops.verdicts.claims import DECIMALS, Claim, Verdict, check_accuracies, one_sided_statistics, prefixed
from kdops.verdicts.gain import Gain
from kdops.verdicts.phrases import margin_phrase, percent, seen
from kdops.verdicts.statistics import FEWEST_REPLICATES


def search_verdict(found: ArrayLike, plain: ArrayLike, margin: float) -> Verdict:
    """Return whether what a search found is better than the best of a plain sweep over temperatures.

    The 90 % interval of the paired difference decides: wholly below ``margin`` it is ``search does not help``, since
    what gain there is counts as none; else wholly above zero ``search helps``; else, and with fewer than three seeds,
    ``inconclusive``. The source is one and the same, so the interval covers the spread over the students' seeds only.

    Args:
        found: [seeds], test accuracies of the best that was found.
        plain: [seeds], of the best of the sweep, trained with the same seeds.
        margin: gain that counts as none, a fraction above zero.

    Returns:
        The verdict. Its statistics are those of the test of a gain above zero, ``search_*``, with
        ``search_found_accuracy``, ``search_plain_accuracy``, ``search_margin`` and ``search_p_little``.

    Raises:
        ValueError: for shapes that do not fit, accuracies outside [0, 1], a margin that is not above zero.
    """
    found = check_accuracies("found", found, axes=("seeds",))
    plain = check_accuracies("plain", plain, found.shape)
    gain = Gain.of((found - plain).round(DECIMALS), margin)
    word, positive = gain.word("search"), gain.positive
    # The unit is a student's seed, and no whole chain.
    difference = seen(positive.difference).replace("replicate", "seed")
    sentence = (
        f"{capitalized(word)}: the best found ({percent(found)}) against the best of the sweep ({percent(plain)}), "
        f"{difference}; a gain below {margin_phrase(margin)} counts as none."
    )
    if word == "search does not help" and positive.above:
        sentence += " What gain there is lies above zero all the same."
    if word == "inconclusive":
        few = positive.n < FEWEST_REPLICATES
        sentence += f" A decision takes at least {FEWEST_REPLICATES} seeds." if few else " More seeds would decide it."
    further = {"found_accuracy": found.mean(), "plain_accuracy": plain.mean(), "margin": margin}
    further["p_little"] = gain.little.p_below
    statistics = one_sided_statistics("search", positive) | prefixed("search", further)
    return Verdict((Claim("search", word, sentence, positive),), statistics)
