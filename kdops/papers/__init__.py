"""Statements of published papers about distillation; a paper is one file of this folder and one line here."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module

from kdops.papers.paper import Statement

__all__ = ["DEFAULT", "PAPERS", "Paper", "Statement"]


@dataclass(frozen=True)
class Paper:
    """A paper whose statements are tested.

    Attributes:
        module: the file of its statements, of this folder.
        title: title, authors and year.
        data: the names of the data sets that the paper used, as :mod:`kdops.config.datasets` has them.
        cost: what testing it costs.
    """

    module: str
    title: str
    data: tuple[str, ...]
    cost: str

    def statements(self) -> dict[str, Statement]:
        """Return what the paper states, by key."""
        return dict(import_module(f"kdops.papers.{self.module}").STATEMENTS)


DEFAULT = "szijarto-2020"

PAPERS = {
    "szijarto-2020": Paper(
        module="szijarto_2020",
        title='"Experimental study of some properties of knowledge distillation" (Szijártó, Lehotay-Kéry, Kiss, 2020)',
        data=("gtsrb",),
        cost="minutes on digits; most of a day on GTSRB, on two cores",
    ),
}
"""The papers by name."""
