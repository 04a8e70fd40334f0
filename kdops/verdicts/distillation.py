"""Whether distillation helps on these data: distilled students against the same students on hard labels.

The claims, each about one number a replicate, the difference of students with equal starts, images and epochs:

- ``distillation``, primary: the student at the one temperature that was chosen, for all replicates, by the mean
  accuracy on validation, minus the student on hard labels. Its 90 % interval alone decides: wholly below the margin it
  is ``distillation does not help``, since what gain there is counts as none, or ``distillation harms`` where it lies
  below zero and reaches beyond the margin; else wholly above zero ``distillation helps``; else, and with fewer than
  three replicates, ``inconclusive``. Each word but the last is wrong at most 5 % of the time: the first at a gain of
  the margin, the two others at a gain of zero.
- ``over_temperatures``: the mean over all temperatures minus hard labels, where there are several.
- ``temperature``: see :mod:`kdops.verdicts.temperature`, from three temperatures on.

The words of the last two, and what they are adjusted for: see :mod:`kdops.verdicts.claims`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from kdops.utils.text import capitalized, two_digits
from kdops.verdicts.claims import (
    DECIMALS,
    Claim,
    ClaimSpec,
    Verdict,
    check_accuracies,
    finite,
    prefixed,
    replicate_means,
    verdict_of,
)
from kdops.verdicts.gain import Gain
from kdops.verdicts.phrases import flattered, percent, seen
from kdops.verdicts.temperature import FEWEST_TEMPERATURES, check_temperatures, temperature_spec

WORDS = ("distillation helps", "distillation does not help", "distillation harms", "inconclusive")


@dataclass(frozen=True)
class TrainingCost:
    """What training costs, each a mean in seconds; those trained in one pass share its time equally.

    Attributes:
        student: of a distilled student.
        hard: of a student on hard labels.
        source: of the model distilled from; nan where it was there already.
    """

    student: float
    hard: float
    source: float

    @property
    def sentence(self) -> str:
        """The same in a sentence."""
        student, hard, source = (f"{two_digits(own)} s" for own in vars(self).values())
        own = f"Training takes {student} a distilled student and {hard} one on hard labels"
        known = self.source == self.source
        return f"{own}; distillation also takes {f'the {source} of its source' if known else 'its source'}."


def distillation_verdict(
    distilled: ArrayLike,
    hard: ArrayLike,
    temperatures: Sequence[float],
    chosen: float,
    margin: float,
    cost: TrainingCost,
    *,
    select_on: str = "validation",
) -> Verdict:
    """Return whether distilled students are better than students on hard labels.

    Args:
        distilled: [replicates, temperatures], test accuracies of the distilled students.
        hard: [replicates], of the students on hard labels.
        temperatures: [temperatures], above zero.
        chosen: the temperature that is held against hard labels.
        margin: gain that counts as none, a fraction above zero.
        cost: what training took.
        select_on: what the temperature was chosen on, ``validation`` or ``test``; the sentence names ``test``.

    Returns:
        The verdict. Its statistics are those of each claim, for the primary one ``distillation_*`` with the accuracies,
        the temperature, the margin and the seconds of ``cost``.

    Raises:
        ValueError: for shapes that do not fit, accuracies outside [0, 1], temperatures that are not above zero or
            without the chosen one, or a margin that is not above zero.
    """
    distilled = check_accuracies("distilled", distilled)
    hard = check_accuracies("hard", hard, distilled.shape[:1])
    values = check_temperatures(temperatures, distilled.shape[1])
    if chosen not in values:
        raise ValueError(f"the chosen temperature must be one of {values.tolist()}, not {chosen}")
    own = distilled[:, values == chosen][:, 0]
    gain = Gain.of((own - hard).round(DECIMALS), margin)
    at = f"at T = {chosen:g}" + f", chosen on {select_on} among {len(values)}," * (len(values) > 1)
    reached = f"{at} the students reach {percent(own)} against {percent(hard)} on hard labels"
    further = {"accuracy": own.mean(), "hard_accuracy": hard.mean(), "temperature": chosen, "margin": margin}
    further |= finite({f"{name}_seconds": value for name, value in vars(cost).items()})
    return verdict_of(
        _primary(gain, reached, select_on),
        (gain.little.p_below, gain.positive.p_above),
        lambda adjusted: prefixed("distillation", gain.statistics(adjusted) | further),
        _further(distilled, hard, values, len(values)),
        margin,
    )


def _primary(gain: Gain, reached: str, select_on: str) -> Claim:
    little, positive = gain.little, gain.positive
    word = gain.word("distillation")
    if word == WORDS[1] and positive.below and positive.difference.low <= -little.threshold:
        word = WORDS[2]
    zero = "it lies above zero all the same" if positive.above else "nor is it shown to be above zero"
    ending = gain.ending(word, "it lies below zero" if positive.below else zero)
    sentence = f"{capitalized(word)}: {reached}, {seen(positive.difference)}{ending}"
    return Claim("distillation", word, sentence + flattered(select_on, "the temperature chosen"), positive)


def _further(distilled: np.ndarray, hard: np.ndarray, temperatures: np.ndarray, count: int) -> list[ClaimSpec]:
    """Return the claims on all temperatures together, and on whether T matters."""
    if count == 1:
        return []
    means = replicate_means(distilled)
    subject = f"the distilled students on average over {count} temperatures ({percent(means)}) against hard labels"
    further = {"over_temperatures_accuracy": float(means.mean())}
    specs = [ClaimSpec("over_temperatures", subject, (means - hard).round(DECIMALS), further=further)]
    if count >= FEWEST_TEMPERATURES:
        specs.append(temperature_spec(distilled, temperatures.tolist(), "the distilled students"))
    return specs
