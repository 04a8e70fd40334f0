"""Intervals of a share of images: what chance in the drawing of the images alone would do to one model's accuracy.

They say nothing of other seeds, and where images come in near-copies they are too narrow; whoever shows one says that
it is over images.
"""

from __future__ import annotations

import math

__all__ = ["wilson_interval"]


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
