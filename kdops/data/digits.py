"""The digits that ship inside scikit-learn: 1,797 gray images of 8 x 8 pixels. Needs no network."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np

from kdops.config.datasets import DatasetSpec
from kdops.data.arrays import Arrays
from kdops.data.hold_out import hold_out
from kdops.utils.progress import Progress

NOTES = (
    "scikit-learn digits: 1,797 images with neither an official test set nor tracks; the test set is a fixed "
    "stratified 20 % hold-out that does not depend on split_seed"
)
BRIGHTEST = 16


def load(origin: DatasetSpec, root: Path, progress: Progress | None = None) -> tuple[Arrays, str]:
    """Load the digits.

    Returns:
        The data set, images uint8 [1797, 1, 8, 8], and what is to be known about it.
    """
    gray, labels = _read()
    images = np.round(gray.reshape(-1, 1, 8, 8) * 255 / BRIGHTEST).astype(np.uint8)
    tracks = np.full(len(labels), -1, dtype=np.int64)
    classes = tuple(str(digit) for digit in range(10))
    return Arrays.of(images, labels, tracks, hold_out(labels), classes), NOTES


def _read() -> tuple[np.ndarray, np.ndarray]:
    """Return the brightness of the pixels, 0 to 16, ``[N, 64]``, and the digits ``[N]``."""
    package = find_spec("sklearn")
    path = Path(package.origin).parent / "datasets" / "data" / "digits.csv.gz" if package and package.origin else None
    if path is None or not path.is_file():
        from sklearn.datasets import load_digits

        raw = load_digits()
        return raw.data, raw.target.astype(np.int64)
    # The file that load_digits reads: to import scikit-learn for it takes a second, or two.
    rows = np.loadtxt(path, delimiter=",")
    return rows[:, :-1], rows[:, -1].astype(np.int64)
