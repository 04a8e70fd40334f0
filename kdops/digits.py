"""The digits that ship inside scikit-learn: 1,797 grey images of 8 x 8 pixels. Needs no network."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from kdops.cache import Decoded

__all__ = ["load"]

NOTES = (
    "scikit-learn digits: 1,797 images with neither an official test set nor tracks; the test set is a fixed "
    "stratified 20 % hold-out that does not depend on split_seed"
)
BRIGHTEST = 16
HELD_OUT = 0.2
HOLD_OUT_SEED = 20


def load(root: Path, progress=None) -> tuple[Decoded, str]:
    """Load the digits; both arguments are there because every loader has them.

    Returns:
        The data set, images uint8 [1797, 1, 8, 8], and what is to be known about it.
    """
    from sklearn.datasets import load_digits  # takes a second to import

    raw = load_digits()
    images = np.round(raw.images * 255 / BRIGHTEST).astype(np.uint8)[:, None]
    labels = raw.target.astype(np.int64)
    tracks = np.full(len(labels), -1, dtype=np.int64)
    classes = tuple(str(digit) for digit in range(10))
    return Decoded.of(images, labels, tracks, _hold_out(labels), classes), NOTES


def _hold_out(labels: np.ndarray) -> np.ndarray:
    """Choose the same fifth of every class, always."""
    # Not scikit-learn's splitter: the hold-out must not move with its version.
    random = np.random.default_rng(HOLD_OUT_SEED)
    test = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        members = random.permutation(np.flatnonzero(labels == label))
        test[members[: round(HELD_OUT * len(members))]] = True
    return test
