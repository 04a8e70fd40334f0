"""Fits the encoding of a table to its training rows; see :mod:`kdops.data.tabular.rows`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from kdops.data.tabular.rows import Category, Encoding, Number, as_number, is_missing
from kdops.errors import UsageError

__all__ = ["fit_encoding"]

KNOTS = 65
"""Quantiles that a number's rank is interpolated between; the least and the greatest value are among them."""

MOST_CATEGORIES = 100
MOST_VALUES = 4096


def fit_encoding(columns: Mapping[str, Sequence[str]], parameter: str = "rows", value: object = "") -> Encoding:
    """Fit an encoding to the training rows of a table.

    A column in which every value that is there is a number is one of numbers, any other one of categories.

    Args:
        columns: the text of each row by column.
        parameter: the parameter that an error names.
        value: its value.

    Raises:
        UsageError: a column has no values, or too many different ones for categories.
    """
    found = Encoding(tuple(_fit(name, texts, parameter, value) for name, texts in columns.items()))
    if not 0 < found.width <= MOST_VALUES:
        problem = f"the columns make {found.width} values a row, and 1 to {MOST_VALUES} are allowed"
        raise UsageError(parameter, value, problem)
    return found


def _fit(name: str, texts: Sequence[str], parameter: str, value: object) -> Number | Category:
    known = [text for text in texts if not is_missing(text)]
    if not known:
        raise UsageError(parameter, value, f"the column {name} has no value in the training rows; leave it out")
    odd = next((text for text in known if as_number(text) is None), None)
    if odd is None:
        return _number(name, texts)
    if (count := len(set(known))) > MOST_CATEGORIES:
        raise UsageError(
            parameter,
            value,
            f"the column {name} has {count} different values that are not all numbers (such as {odd[:40]!r}), "
            f"and categories may have {MOST_CATEGORIES}; leave it out",
        )
    return Category(name, tuple(sorted({"" if is_missing(text) else text for text in texts})))


def _number(name: str, texts: Sequence[str]) -> Number:
    known = np.array([float(text) for text in texts if not is_missing(text)])
    positions = np.linspace(0, 1, KNOTS)
    knots, group = np.unique(np.quantile(known, positions), return_inverse=True)
    # A value that many rows share has the middle of their ranks.
    ranks = np.bincount(group, weights=positions) / np.bincount(group)
    flag = len(known) < len(texts)
    return Number(name, tuple(knots.tolist()), tuple(ranks.tolist()), float(np.median(known)), flag)
