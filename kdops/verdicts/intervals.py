"""Intervals: of a mean over replicates (Student's t), and of a share of images (Wilson).

The unit of the first is the replicate, a whole chain trained again. Wilson's interval shows what chance in the drawing
of the images alone would do to one model's accuracy: it does not include other seeds, and where images come in
near-copies it is too narrow.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike


@dataclass(frozen=True)
class Interval:
    """A mean and its two-sided Student t interval.

    Attributes:
        mean: the mean of the values.
        low: lower bound; nan for one value.
        high: upper bound; nan for one value.
        n: how many values.
        level: the coverage, 0.95 for a 95 % interval.
    """

    mean: float
    low: float
    high: float
    n: int
    level: float

    def to_json(self) -> dict[str, Any]:
        """Return plain values; an unknown bound is None."""
        low, high = (bound if math.isfinite(bound) else None for bound in (self.low, self.high))
        return {"mean": self.mean, "low": low, "high": high, "n": self.n, "level": self.level}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Interval:
        """Return the interval that :meth:`to_json` wrote; where the level is not given it is 95 %."""
        low, high = (math.nan if values.get(name) is None else float(values[name]) for name in ("low", "high"))
        level = float(values.get("level", 0.95))
        if not (math.isfinite(low) and math.isfinite(high)):
            low = high = math.nan
        return cls(float(values["mean"]), low, high, int(values["n"]), level)


def mean_interval(values: ArrayLike, level: float = 0.95) -> Interval:
    """Return the mean and its two-sided Student t interval.

    Args:
        values: [n], one value a replicate.
        level: the coverage, strictly between 0 and 1.

    Returns:
        The interval; its bounds are nan for one value, and equal to the mean when all values are alike.

    Raises:
        ValueError: for no values, another shape, values that are not finite, or a level out of range.
    """
    values = checked_values(values)
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1, not {level}")
    mean, low, high = (float(bound) for bound in bounds(values, level))
    return Interval(mean, low, high, len(values), level)


def interval_at(interval: Interval, level: float) -> Interval:
    """Return the same mean's interval at another level, from the interval alone.

    Args:
        interval: of one mean, by Student's t.
        level: the coverage wanted, strictly between 0 and 1.

    Raises:
        ValueError: for a level out of range.
    """
    from scipy.special import stdtrit

    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1, not {level}")
    freedom = max(interval.n - 1, 1)
    factor = float(stdtrit(freedom, (1 + level) / 2) / stdtrit(freedom, (1 + interval.level) / 2))
    half = factor * (interval.high - interval.low) / 2
    return Interval(interval.mean, interval.mean - half, interval.mean + half, interval.n, level)


def wilson_interval(share: float, images: int, level: float = 0.95) -> tuple[float, float]:
    r"""Return Wilson's score interval of a share.

    With :math:`z` the normal quantile of the level, :math:`p` the share and :math:`n` the number of images,

    .. math:: \frac{p + \frac{z^2}{2n} \pm z \sqrt{\frac{p (1 - p)}{n} + \frac{z^2}{4 n^2}}}{1 + \frac{z^2}{n}}

    Source: Wilson, "Probable inference, the law of succession, and statistical inference", 1927.

    Args:
        share: of the images, 0 to 1.
        images: how many there are, at least 1.
        level: the coverage, strictly between 0 and 1.

    Returns:
        The lower and the upper bound, within 0 and 1.

    Raises:
        ValueError: an argument is out of range.
    """
    from scipy.special import ndtri

    if not 0 <= share <= 1 or images < 1 or not 0 < level < 1:
        raise ValueError(f"no interval of a share of {share} of {images} images at the level {level}")
    z = float(ndtri((1 + level) / 2))
    middle, scale = share + z * z / (2 * images), 1 + z * z / images
    half = z * math.sqrt(share * (1 - share) / images + (z / (2 * images)) ** 2)
    # At 0 and 1 the bound is the share itself, which rounding may miss.
    low = 0.0 if share == 0 else max((middle - half) / scale, 0.0)
    high = 1.0 if share == 1 else min((middle + half) / scale, 1.0)
    return low, high


def checked_values(values: ArrayLike) -> np.ndarray:
    """Return one finite number a replicate as an array, ``[n]``.

    Raises:
        ValueError: for no values, another shape, or values that are not finite.
    """
    values = np.asarray(values, dtype=float)
    if values.ndim != 1 or not len(values):
        raise ValueError(f"one value a replicate is needed, at least one; the shape given is {values.shape}")
    if not np.isfinite(values).all():
        raise ValueError(f"values must be finite: {values.tolist()}")
    return values


def mean_and_error(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and standard error over the last axis: [..., n] -> [...], [...].

    Values that are all alike get exactly their value and zero; summing would leave rounding noise in both.
    """
    n = values.shape[-1]
    alike = np.ptp(values, axis=-1) == 0
    mean = np.where(alike, values[..., 0], values.mean(axis=-1))
    if n == 1:
        return mean, np.full_like(mean, math.nan)
    return mean, np.where(alike, 0.0, values.std(axis=-1, ddof=1) / math.sqrt(n))


def bounds(values: np.ndarray, level: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return mean, low and high over the last axis; the tests simulate with this, many data sets at a time."""
    from scipy.special import stdtrit

    mean, error = mean_and_error(values)
    half = stdtrit(max(values.shape[-1] - 1, 1), (1 + level) / 2) * error
    return mean, mean - half, mean + half
