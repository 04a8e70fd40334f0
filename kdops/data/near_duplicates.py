"""Images of one part of a data set that are near-copies of an image of another part.

A copy in the training images of what a model is tested on makes the test worth less. Splits keep whole tracks on one
side; this finds the copies that no track number shows. ``kdops check-data`` reports them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator

import numpy as np

NEAR = 0.985
"""Correlation of two thumbnails from which two images count as near-copies.

Measured on the GTSRB training images with three seeds: 0.1 to 0.2 % of the 17,600 transfer images have a
near-copy among the teacher's where the split is by track (0.0 to 0.9 % of the 3,990 validation images), and
8 % where it is by frames. Of planted copies, brightness changed by a tenth and noise of two gray levels
added, 99 % are found.
"""

THUMBNAIL = 16
"""Most rows and columns of a thumbnail."""

BLOCK = 2048
"""Images compared at a time: bounds the memory, 4 * BLOCK * len(left) bytes."""


def near_duplicates(
    images: np.ndarray, left: np.ndarray, right: np.ndarray, left_images: np.ndarray | None = None
) -> np.ndarray:
    r"""Find images of one part that are near-copies of an image of another part.

    Each image becomes a gray thumbnail of at most 16 x 16, less its mean and of length one, so that the
    product of two is their correlation and neither brightness nor contrast counts:

    .. math:: \rho(a, b) = \frac{\langle a - \bar a, b - \bar b \rangle}{|a - \bar a| \, |b - \bar b|}

    An image of one single gray has no correlation and is never found. 17,600 images against as many take
    two seconds on two cores.

    Args:
        images: uint8 [N, C, H, W].
        left: indices of one part.
        right: indices of the other part.
        left_images: uint8 [M, C, H, W], where the images of ``left`` are not among the others.

    Returns:
        int64 [pairs, 2]: for each image of ``right`` that has a near-copy its closest one of ``left``,
        as (index of ``left``'s image, index of ``right``'s image).
    """
    left, right = np.asarray(left, dtype=np.int64), np.asarray(right, dtype=np.int64)
    if not left.size or not right.size:
        return np.empty((0, 2), dtype=np.int64)
    candidates = _thumbnails(images if left_images is None else left_images, left).T
    pairs = []
    for start in range(0, len(right), BLOCK):
        block = right[start : start + BLOCK]
        correlation = _thumbnails(images, block) @ candidates
        nearest = correlation.argmax(axis=1)
        near = correlation[np.arange(len(block)), nearest] >= NEAR
        pairs.append(np.column_stack([left[nearest[near]], block[near]]))
    return np.concatenate(pairs)


def equal_images(images: np.ndarray, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Return the images of one part that are equal, byte for byte, to an image of another part.

    Both are given as in :func:`near_duplicates`; the indices that are returned are ascending.
    """
    known = set(digests_of(images[index] for index in left))
    digests = digests_of(images[index] for index in right)
    found = [int(index) for index, digest in zip(right, digests, strict=True) if digest in known]
    return np.array(found, dtype=np.int64)


def digests_of(images: Iterable[np.ndarray]) -> Iterator[bytes]:
    """Yield a digest of the pixels of each image, of 16 bytes."""
    return (hashlib.blake2b(image.tobytes(), digest_size=16).digest() for image in images)


def _thumbnails(images: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Make normalized gray thumbnails: float32 [len(chosen), rows * columns]."""
    rows, columns = (_averaging(size) for size in images.shape[2:])
    thumbnails = np.empty((len(chosen), len(rows) * len(columns)), dtype=np.float32)
    for start in range(0, len(chosen), BLOCK):
        gray = images[chosen[start : start + BLOCK]].mean(axis=1, dtype=np.float32)
        small = (rows @ gray @ columns.T).reshape(len(gray), -1)
        small -= small.mean(axis=1, keepdims=True)
        length = np.linalg.norm(small, axis=1, keepdims=True)
        # What is left of one single gray is rounding, and would correlate with anything.
        thumbnails[start : start + BLOCK] = np.where(length > 1e-2, small / np.maximum(length, 1e-2), 0)
    return thumbnails


def _averaging(size: int) -> np.ndarray:
    """Return the matrix that averages ``size`` pixels into at most ``THUMBNAIL`` cells of equal width."""
    cells = min(size, THUMBNAIL)
    edges = np.arange(cells + 1) * size / cells
    pixels = np.arange(size)
    overlap = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    return (np.clip(overlap, 0, None) * cells / size).astype(np.float32)
