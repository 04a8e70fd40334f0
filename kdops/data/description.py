"""What a data set holds, as lines of text: sizes, classes, parts of its split, and copies across them."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

import numpy as np

from kdops.data.dataset import Dataset
from kdops.data.near_duplicates import NEAR, equal_images, near_duplicates
from kdops.data.splits import Split, parts_apart
from kdops.data.tabular.rows import Encoding, Number

LISTED = 12
"""How many columns of a table are listed."""
QUICK = 2**30
"""Bytes of images that are compared at the start of every study; more take longer than is worth a remark."""


def described(data: Dataset, split: Split) -> Iterator[str]:
    """Yield lines that describe a data set, its split, and all copies across the parts."""
    yield from _facts(data, split)
    yield from [*_equal(data, split), *_near(data, parts_apart(split))] or ["copies: none across the parts"]


def summary(data: Dataset, split: Split) -> Iterator[str]:
    """Yield the lines of :func:`described` that take no time: without near-copies."""
    yield from _facts(data, split)
    if data.images.nbytes <= QUICK:
        yield from _equal(data, split)


def _facts(data: Dataset, split: Split) -> Iterator[str]:
    """Yield the sizes, the columns, the classes and the parts."""
    yield f"{data.name}: {len(data.labels):,} {_examples(data)} in {len(data.classes)} classes"
    if data.notes:
        yield f"origin: {data.notes}"
    if data.encoding:
        yield f"columns: {_columns(data)}"
    yield _classes(data)
    if data.has_tracks:
        yield f"groups: {len(np.unique(data.tracks[data.tracks >= 0])):,}, each on one side of every split"
    listed = [f"{name} {len(rows):,}" for name, rows in sorted(parts_apart(split).items(), key=_trained_first)]
    if data.unlabeled is not None:
        yield f"without labels: {data.unlabeled.notes}"
    yield f"parts (transfer={split.mode}): {', '.join(listed)}"


def _trained_first(part: tuple[str, np.ndarray]) -> int:
    """Return the key that sorts what is trained on before what is measured on."""
    return ("validation", "test").index(part[0]) if part[0] in ("validation", "test") else -1


def _columns(data: Dataset) -> str:
    columns = Encoding.from_json(data.encoding).columns
    kinds = [
        f"{column.name} ({'number' if isinstance(column, Number) else f'category of {column.width}'})"
        for column in columns[:LISTED]
    ]
    return ", ".join(kinds) + (f" and {len(columns) - LISTED} more" if len(columns) > LISTED else "")


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


def _equal(data: Dataset, split: Split) -> Iterator[str]:
    """Yield a line if test images are equal to images outside the test set."""
    unit = data.unit.removesuffix("s")
    training = np.unique(np.concatenate([split.teacher, *split.transfers, split.validation]))
    if (same := equal_images(data.images, training, split.test)).size:
        yield f"copies: {_some(same.size, 'test ' + unit)} equal to a training {unit}"


def _near(data: Dataset, parts: dict[str, np.ndarray]) -> Iterator[str]:
    """Yield a line for each pair of parts with near-copies."""
    if data.encoding:
        return
    for (one, left), (other, right) in combinations(sorted(parts.items(), key=_trained_first), 2):
        yield from _copies(near_duplicates(data.images, left, right), one, other, len(right))
    if beside := data.unlabeled:
        for other in ("validation", "test"):
            found = near_duplicates(data.images, beside.rows, parts[other], beside.images)
            yield from _copies(found, "unlabeled", other, len(parts[other]))


def _copies(pairs: np.ndarray, one: str, other: str, total: int) -> Iterator[str]:
    """Yield a line if some of the ``total`` images of one part are near-copies of another's."""
    if count := len(np.unique(pairs[:, 1])):
        word = "near-copy" if count == 1 else "near-copies"
        yield (
            f"copies: {count:,} {word} of {one} images among the {total:,} of {other} "
            f"({count / total:.2%}; thumbnails correlate at {NEAR} or more)"
        )


def _some(count: int, what: str) -> str:
    return f"1 {what} is" if count == 1 else f"{count:,} {what}s are"
