"""One trial of a search, as a plain value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from kdops.config.search_space import Value

__all__ = ["Trial"]


@dataclass(frozen=True)
class Trial:
    """One trial of a search.

    Attributes:
        number: counts from 0; numbers that are missing were never tried.
        values: of every setting of the space, the fixed ones too, but for options of other methods than its own; empty
            where its process died before it chose.
        state: ``running``, ``complete``, ``pruned`` or ``failed``.
        results: one for each objective, of a complete trial; empty of any other.
        again: the number of the failed trial whose values it tries once more; None for new values.
        run: the tracked run that was named for it; empty for none.
    """

    number: int
    values: Mapping[str, Value]
    state: str = "running"
    results: tuple[float, ...] = ()
    again: int | None = None
    run: str = ""
