"""Fits the encoding of a table to its training rows; see :mod:`kdops.data.tabular.rows`."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence

import numpy as np

from kdops.config.datasets import DatasetSpec
from kdops.data.tabular.rows import Category, Encoding, Number, as_number, is_missing
from kdops.errors import UsageError

KNOTS = 65
"""Quantiles that a number's rank is interpolated between; the least and the greatest value are among them."""

MOST_CATEGORIES = 100
MOST_VALUES = 4096

_CODE = re.compile(r"[-+]?0[0-9]")


def fit_encoding(
    columns: Mapping[str, Sequence[str]],
    origin: DatasetSpec,
    categorical: Collection[str] = (),
    numeric: Collection[str] = (),
) -> Encoding:
    """Fit an encoding to the training rows of a table.

    A column in which every value that is there is a number is one of numbers, any other one of categories; so is a
    column whose numbers have zeros in front, such as postal codes.

    Args:
        columns: the text of each row by column.
        origin: the table, as an error names it.
        categorical: columns of categories, whatever their values are.
        numeric: columns of numbers.

    Raises:
        UsageError: a column has no values, or too many different ones for categories.
    """
    found = Encoding(
        tuple(
            _category(name, texts, origin)
            if name in categorical or not (name in numeric or _are_numbers(texts))
            else _number(name, texts, origin)
            for name, texts in columns.items()
        )
    )
    if not 0 < found.width <= MOST_VALUES:
        raise origin.error(f"the columns make {found.width} values a row, and 1 to {MOST_VALUES} are allowed")
    return found


def _known(name: str, texts: Sequence[str], origin: DatasetSpec) -> list[str]:
    """Return the values that are there."""
    if known := [text for text in texts if not is_missing(text)]:
        return known
    raise origin.error(f"the column {name} has no value in the training rows; leave it out with ignore={name}")


def _are_numbers(texts: Sequence[str]) -> bool:
    """Return whether all values that are there are numbers, and none is a code with zeros in front."""
    return all(is_missing(text) or (as_number(text) is not None and not _CODE.match(text)) for text in texts)


def _category(name: str, texts: Sequence[str], origin: DatasetSpec) -> Category:
    known = _known(name, texts, origin)
    if (count := len(set(known))) > MOST_CATEGORIES:
        odd = next((text for text in known if as_number(text) is None), known[0])
        raise origin.error(
            f"the column {name} has {count} different values that are not all numbers (such as {odd[:40]!r}), and "
            f"categories may have {MOST_CATEGORIES}; leave it out with ignore={name}",
        )
    return Category(name, tuple(sorted({"" if is_missing(text) else text for text in texts})))


def _number(name: str, texts: Sequence[str], origin: DatasetSpec) -> Number:
    texts_known = _known(name, texts, origin)
    if odd := next((text for text in texts_known if as_number(text) is None), ""):
        raise UsageError("numeric", name, f"has {odd[:40]!r}, which is no number")
    known = np.array([float(text) for text in texts_known])
    positions = np.linspace(0, 1, KNOTS)
    knots, group = np.unique(np.quantile(known, positions), return_inverse=True)
    # A value that many rows share has the middle of their ranks.
    ranks = np.bincount(group, weights=positions) / np.bincount(group)
    flag = len(known) < len(texts)
    return Number(name, tuple(knots.tolist()), tuple(ranks.tolist()), float(np.median(known)), flag)
