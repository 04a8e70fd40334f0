"""What a data set holds, as lines of text: sizes, classes, parts of its split, and copies across them."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

import numpy as np

from kdops.data.dataset import Dataset
from kdops.data.near_duplicates import NEAR, equal_images, near_duplicates
from kdops.data.splits import make_split, parts_apart

__all__ = ["described"]


def described(data: Dataset, transfer: str, split_seed: int) -> Iterator[str]:
    """Yield lines that describe a data set and its split.

    Args:
        data: the data set.
        transfer: the transfer setting whose split is looked at.
        split_seed: the seed of the split.

    Raises:
        UsageError: the data cannot be split.
    """
    yield f"{data.name}: {len(data.labels):,} {_examples(data)} in {len(data.classes)} classes"
    if data.notes:
        yield f"origin: {data.notes}"
    yield _classes(data)
    if data.has_tracks:
        yield f"groups: {len(np.unique(data.tracks[data.tracks >= 0])):,}, each on one side of every split"
    split = make_split(data, transfer, split_seed)
    # What is trained on first, then what is measured on.
    order = ["validation", "test"]
    parts = dict(sorted(parts_apart(split).items(), key=lambda part: order.index(part[0]) if part[0] in order else -1))
    yield f"parts (transfer={transfer}): " + ", ".join(f"{name} {len(rows):,}" for name, rows in parts.items())
    found = list(_copies(data, parts))
    yield from found or ["copies: none across the parts"]


def _examples(data: Dataset) -> str:
    if data.encoding:
        return f"rows of {data.shape[0]} values"
    return f"images of {' x '.join(map(str, data.shape))} (channels x height x width)"


def _classes(data: Dataset) -> str:
    counts = np.bincount(data.labels, minlength=len(data.classes))
    if counts.min() == counts.max():
        return f"classes: {counts[0]:,} {data.unit} each"
    few, many = int(counts.argmin()), int(counts.argmax())
    share = counts[many] / counts.sum()
    return (
        f"classes: {counts[few]:,} {data.unit} of {data.classes[few]} to {counts[many]:,} of {data.classes[many]} "
        f"({share:.1%}, what a model that always answers it would reach)"
    )


def _copies(data: Dataset, parts: dict[str, np.ndarray]) -> Iterator[str]:
    """Yield a line for each pair of parts with equal images, and for each with near-copies."""
    unit = data.unit.removesuffix("s")
    training = np.unique(np.concatenate([rows for name, rows in parts.items() if name != "test"]))
    if (same := equal_images(data.images, training, parts["test"])).size:
        yield f"copies: {_some(same.size, 'test ' + unit)} equal to a training {unit}"
    if data.encoding:
        return
    for (one, left), (other, right) in combinations(parts.items(), 2):
        if count := len(np.unique(near_duplicates(data.images, left, right)[:, 1])):
            word = "near-copy" if count == 1 else "near-copies"
            yield (
                f"copies: {count:,} {word} of {one} images among the {len(right):,} of {other} "
                f"({count / len(right):.2%}; thumbnails correlate at {NEAR} or more)"
            )


def _some(count: int, what: str) -> str:
    return f"1 {what} is" if count == 1 else f"{count:,} {what}s are"
