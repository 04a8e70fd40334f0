"""Which epochs' weights are kept beside those of the last one, which are the model itself."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

from kdops.errors import UsageError

NONE, ALL = "none", "all"
MOST = 100_000
ALLOWED = f"must be {NONE}, {ALL}, or epochs counted from 1, such as 1-5,10; 0 is the network before the first"


@dataclass(frozen=True)
class KeptEpochs:
    """Epochs, counted from 1; 0 is the network before the first one.

    Attributes:
        spans: the first and the last one of each span, ascending.
    """

    spans: tuple[tuple[int, int], ...] = ()

    @classmethod
    def of(cls, epochs: Iterable[int]) -> KeptEpochs:
        """Return some epochs, neighbors as one span."""
        chosen = sorted(set(epochs))
        starts = [b for a, b in pairwise([-2, *chosen]) if b != a + 1]
        stops = [a for a, b in pairwise([*chosen, MOST + 2]) if b != a + 1]
        return cls(tuple(zip(starts, stops, strict=True)))

    @classmethod
    def read(cls, text: str, longest: int = MOST) -> KeptEpochs:
        """Read the parameter ``keep_epochs``: ``none``, ``all``, or a list such as ``1-5,10``.

        Args:
            text: what was given.
            longest: the epochs of the longest training; of shorter ones those are kept that there are.

        Raises:
            UsageError: it is something else, or names an epoch that no training has.
        """
        if text == NONE:
            return cls()
        if text == ALL:
            return cls(((1, MOST),))
        chosen: set[int] = set()
        for part in text.split(","):
            found = re.fullmatch(r"\s*(\d{1,6})(?:-(\d{1,6}))?\s*", part)
            if not found:
                raise UsageError("keep_epochs", text or "(empty)", ALLOWED)
            low, high = int(found[1]), int(found[2] or found[1])
            if low > high:
                raise UsageError("keep_epochs", text, ALLOWED)
            if high > longest:
                raise UsageError("keep_epochs", text, f"must be at most {longest}, the epochs of the longest training")
            chosen.update(range(low, high + 1))
        return cls.of(chosen)

    @property
    def listed(self) -> tuple[int, ...]:
        """All of them, ascending."""
        return self.up_to(MOST)

    def up_to(self, epochs: int) -> tuple[int, ...]:
        """Return those of a training of so many epochs, ascending."""
        return tuple(one for low, high in self.spans for one in range(low, min(high, epochs) + 1))

    def __str__(self) -> str:
        if self.spans == ((1, MOST),):
            return ALL
        return ",".join(str(low) if low == high else f"{low}-{high}" for low, high in self.spans) or NONE
