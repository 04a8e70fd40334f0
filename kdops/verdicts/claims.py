"""Claims and verdicts: a verdict is one primary claim and a table of further ones, tested and adjusted together.

The further claims of a verdict are entries of a table, a :class:`ClaimSpec` each: one number a replicate, tested for
equivalence within the margin. They are ``equal``, ``different`` or ``inconclusive`` by p-values below 5 % after
Holm's adjustment over all the claims of the verdict, the primary one among them. "Equal" and "different" are two
families, each adjusted by itself, so that a false "equal" has a rate of at most 5 % in the whole family. A false
"different" has 5.0 % while the spread among replicates is at most the margin; beyond, either tail of the interval may
err (see :func:`kdops.verdicts.statistics.equivalence`): with three replicates 5.1 % at twice the margin, 6.5 % at five
times, and 10 % in the limit. Replicates that are all alike, as on few test images they may be, count as a spread of
zero: then no rate holds.
Fewer than three replicates leave every claim ``inconclusive``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import ArrayLike

from kdops.verdicts.phrases import margin_phrase, outlook, seen
from kdops.verdicts.statistics import FEWEST_REPLICATES, LEVEL, Equivalence, OneSided, equivalence, holm

DECIMALS = 12
"""Accuracies are ratios of counts: what is left beyond this many decimals is rounding noise. Without it a
difference of exactly the margin would be decided by the last bit."""


@dataclass(frozen=True)
class ClaimAnswer:
    """The answer to one statement that was tested, without its test: what is stored of a claim.

    Attributes:
        name: the prefix of its statistics, such as ``worst_middle``.
        word: the answer.
        sentence: the answer with its numbers, in percentage points.
    """

    name: str
    word: str
    sentence: str

    def to_json(self) -> dict[str, str]:
        """Return plain values."""
        return {"name": self.name, "word": self.word, "sentence": self.sentence}

    @classmethod
    def from_json(cls, values: Mapping[str, object]) -> ClaimAnswer:
        """Return the answer that :meth:`to_json` wrote."""
        return ClaimAnswer(*(str(values[name]) for name in ("name", "word", "sentence")))


@dataclass(frozen=True)
class Claim(ClaimAnswer):
    """One statement that was tested, with its test.

    Attributes:
        result: the test, in fractions; where the claim rests on several, the one that decides or holds it open.
        parts: the claims it is made of, each with its own test, where there are several.
    """

    result: Equivalence | OneSided
    parts: tuple[Claim, ...] = ()


@dataclass(frozen=True)
class Verdict:
    """The answer about a property.

    Attributes:
        claims: the primary claim, then the others; none where a study asks for no property.
        statistics: flat names to finite numbers (accuracies as fractions), ready to be logged as metrics.
    """

    claims: tuple[Claim, ...]
    statistics: Mapping[str, float]

    @property
    def word(self) -> str:
        """The answer of the primary claim; empty without one."""
        return self.claims[0].word if self.claims else ""

    @property
    def sentence(self) -> str:
        """The sentence of the primary claim; empty without one."""
        return self.claims[0].sentence if self.claims else ""


NO_VERDICT = Verdict((), {})
"""Of a study that asks for no property."""


@dataclass(frozen=True)
class ClaimSpec:
    """One claim of equivalence beside the primary one: an entry of a verdict's table.

    Attributes:
        name: the prefix of its statistics.
        subject: what is compared with what.
        differences: ``[replicates]``, as fractions.
        words: what "equivalent" and "different" are called.
        remark: from the claim a further sentence; empty for none.
        further: statistics beside those of its test, by their full names.
    """

    name: str
    subject: str
    differences: np.ndarray
    words: tuple[str, str] = ("equal", "different")
    remark: Callable[[Claim], str] = lambda claim: ""
    further: Mapping[str, float] = field(default_factory=dict)

    def claim(self, result: Equivalence, adjusted: tuple[float, float], claims: int) -> Claim:
        """Return the claim in words.

        Args:
            adjusted: its p-values after :func:`adjust`; below 5 % they decide.
            claims: how many claims were adjusted together.
        """
        word = "inconclusive"
        if result.n >= FEWEST_REPLICATES:
            word = self.words[0] if adjusted[0] < LEVEL else self.words[1] if adjusted[1] < LEVEL else word
        compared = f"{self.subject}, {seen(result.difference)}"
        sentence = f"{word.capitalize()}: {compared}; the margin is {margin_phrase(result.margin)}."
        if word == "inconclusive":
            if result.n >= FEWEST_REPLICATES and (result.equivalent or result.different):
                place = "inside" if result.equivalent else "outside"
                open_still = f"Holm's adjustment for {claims} claims leaves it open"
                sentence += f" The interval lies {place} the margin, but {open_still}."
            else:
                sentence += " " + outlook(result)
        claim = Claim(self.name, word, sentence, result)
        remark = self.remark(claim)
        return replace(claim, sentence=f"{sentence} {remark}") if remark else claim


def verdict_of(
    primary: Claim,
    p_values: tuple[float, float],
    statistics: Callable[[tuple[float, float]], Mapping[str, float | None]],
    specs: Sequence[ClaimSpec],
    margin: float,
) -> Verdict:
    """Test the further claims of a verdict, adjust all of its p-values together, and return the verdict.

    Args:
        p_values: its p-values, for "equal" and for "different"; nan where it is not tested.
        statistics: from these after :func:`adjust` the statistics of the primary claim; what is unknown is left out.
        margin: accuracy difference that counts as none, a fraction above zero.

    Raises:
        ValueError: for a margin that is not above zero.
    """
    results = {spec.name: equivalence(spec.differences, margin) for spec in specs}
    adjusted = adjust({primary.name: p_values} | {name: (r.p_equivalent, r.p_different) for name, r in results.items()})
    count = len(results) + (not math.isnan(p_values[0]))  # what is not tested is no claim to adjust for
    flat = finite(statistics(adjusted[primary.name]))
    for name, result in results.items():
        flat |= equivalence_statistics(name, result, adjusted[name])
    for spec in specs:
        flat |= finite(spec.further)
    return Verdict((primary, *(spec.claim(results[spec.name], adjusted[spec.name], count) for spec in specs)), flat)


def check_accuracies(
    name: str,
    values: ArrayLike,
    shape: tuple[int, ...] | None = None,
    axes: tuple[str, ...] = ("replicates", "temperatures"),
) -> np.ndarray:
    """Return test accuracies as an array, or refuse them.

    Args:
        name: what the message calls them.
        shape: the shape they must have; None means any along ``axes`` that is not empty.
        axes: the names of the axes where no shape is given.

    Raises:
        ValueError: for another shape, or values that are not finite or not in [0, 1].
    """
    values = np.asarray(values, dtype=float)
    if shape is None and (values.ndim != len(axes) or not values.size):
        raise ValueError(f"{name} must be [{', '.join(axes)}] and not empty, not {list(values.shape)}")
    if shape is not None and values.shape != shape:
        raise ValueError(f"{name} must have the shape {list(shape)}, not {list(values.shape)}")
    if not ((values >= 0) & (values <= 1)).all():  # nan fails both
        raise ValueError(f"{name} must hold accuracies from 0 to 1, all of them finite")
    return values


def replicate_means(values: np.ndarray) -> np.ndarray:
    """Return the mean over temperatures of each replicate, the unit: ``[replicates, temperatures] -> [replicates]``."""
    return values.mean(axis=1).round(DECIMALS)


def adjust(p_values: Mapping[str, tuple[float, float]]) -> dict[str, tuple[float, float]]:
    """Return the p-values of the claims of one verdict after Holm's adjustment, each kind by itself.

    Args:
        p_values: by claim, the p-values of "equal" and of "different"; nan where untested.
    """
    equal = holm([p for p, _ in p_values.values()])
    different = holm([p for _, p in p_values.values()])
    return {name: (float(e), float(d)) for name, e, d in zip(p_values, equal, different, strict=True)}


def equivalence_statistics(name: str, result: Equivalence, adjusted: tuple[float, float]) -> dict[str, float]:
    """Return the flat statistics of a test of equivalence, without what is unknown."""
    return prefixed(
        name,
        {
            **means_of(result),
            "p_equivalent": result.p_equivalent,
            "p_holm": adjusted[0],
            "p_different": result.p_different,
            "p_different_holm": adjusted[1],
            **_counts(result),
            "smallest_margin": result.smallest_margin,
        },
    )


def one_sided_statistics(name: str, result: OneSided) -> dict[str, float]:
    """Return the flat statistics of a one-sided test, without what is unknown."""
    return prefixed(name, {**means_of(result), "p_above": result.p_above, "p_below": result.p_below, **_counts(result)})


def means_of(result: Equivalence | OneSided) -> dict[str, float | None]:
    """Return the mean difference of a test and its interval."""
    return {"difference": result.difference.mean, "low": result.difference.low, "high": result.difference.high}


def _counts(result: Equivalence | OneSided) -> dict[str, float | None]:
    return {"replicates": result.n, "replicates_needed": result.replicates_needed}


def prefixed(name: str, values: Mapping[str, float | None]) -> dict[str, float]:
    """Return the statistics of a claim by their full names, without what is unknown."""
    return finite({f"{name}_{key}": value for key, value in values.items()})


def finite(values: Mapping[str, float | None]) -> dict[str, float]:
    """Return what is known, as floats: no None, no nan, nothing infinite."""
    known = {name: float(value) for name, value in values.items() if value is not None}
    return {name: value for name, value in known.items() if math.isfinite(value)}
