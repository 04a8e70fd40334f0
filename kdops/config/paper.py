"""What an entry in the table of papers says."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from types import ModuleType
from typing import Any

from kdops.config.datasets import DatasetSpec
from kdops.config.recipe_settings import SETTINGS
from kdops.config.specs import split_outside
from kdops.errors import UsageError

AUTO = "auto"
"""What a parameter is that the paper's entry decides."""

OF_METHOD = ("method", "alpha", "t_squared")
"""The parameters of what a student learns; they count where there are temperatures."""

READABLE: Mapping[str, tuple[str, ...]] = {
    "teacher": ("teacher",),
    "student": ("student",),
    "middle": ("middle",),
    "temperatures": ("temperatures", *OF_METHOD),
    "temperature": ("temperatures", *OF_METHOD),
    "margin": ("margin",),
    "choice": ("select_on", "select_by"),
}
"""What an experiment may read or not, with the parameters of each: networks by role, several temperatures or a single
one, the margin of its claims, and how the best of several models is chosen. All other parameters count in each."""


@dataclass(frozen=True)
class Paper:
    """A paper whose claims are tested.

    Attributes:
        name: author and year; its file in ``pipelines/papers`` is called so too, and has ``STATEMENTS``, the claims by
            key, and ``run``, the experiment that tests them.
        title: title, authors and year.
        data: the data sets that the paper used, as the parameter ``dataset`` names them; the first is the default.
        cost: what testing it costs; what was not measured is marked as estimated.
        usual: what parameters that are ``auto`` are.
        small: what they are on digits, where that is something else.
        reads: which of ``READABLE`` its experiment reads.
        decides: parameters that its experiment gives values of its own.
    """

    name: str
    title: str
    data: tuple[str, ...]
    cost: str
    usual: Mapping[str, str] = field(default_factory=dict)
    small: Mapping[str, str] = field(default_factory=dict)
    reads: tuple[str, ...] = ("teacher", "student", "temperatures", "margin")
    decides: tuple[str, ...] = ()

    @property
    def module(self) -> str:
        """The place of its file."""
        return f"pipelines.papers.{self.name.replace('-', '_')}"

    def check(self, text: Mapping[str, str], defaults: Mapping[str, str], own: Collection[str]) -> None:
        """Refuse parameters that would have no effect.

        Args:
            text: what was given.
            defaults: the default of each parameter.
            own: the entry point's own parameters, which are those of the default paper.

        Raises:
            UsageError: names the first one.
        """
        given = {one for one in defaults if text[one] not in (AUTO, defaults[one])} - {"paper"}
        for one in defaults:
            if one in given and one in {*self.unread, *own}:
                raise UsageError(one, text[one], f"has no effect on paper={self.name}; leave it out")
            if one in given and one in self.decided:
                of_student = one in SETTINGS
                if of_student and all(p.strip().startswith("teacher=") for p in split_outside(text[one])):
                    continue
                told = " for the student; give it as teacher=..." if of_student else "; leave it out"
                raise UsageError(one, text[one], f"is decided by paper={self.name}{told}")

    @property
    def takes_one_temperature(self) -> bool:
        """Whether its experiment reads a single temperature, and no others."""
        return "temperature" in self.reads

    @property
    def unread(self) -> set[str]:
        """The parameters that have no effect."""
        read = {parameter for name in self.reads for parameter in READABLE[name]}
        return {parameter for own in READABLE.values() for parameter in own} - read

    @property
    def decided(self) -> set[str]:
        """The parameters that its experiment gives values of its own."""
        return {*self.decides, *(OF_METHOD if "method" in self.decides else ())}

    def is_about(self, origin: DatasetSpec) -> bool:
        """Return whether data are those that the paper used."""
        return str(origin) in self.data

    def load(self) -> ModuleType:
        """Return its file."""
        return import_module(self.module)

    def statements(self) -> dict[str, Any]:
        """Return what the paper states by key, each a :class:`kdops.papers.Statement`."""
        return dict(self.load().STATEMENTS)

    def filled(self, text: Mapping[str, str]) -> dict[str, str]:
        """Return the text of parameters with what the paper decides in the place of ``auto``."""
        dataset = self.data[0] if text["dataset"] == AUTO else text["dataset"]
        if dataset in self.data:
            own = dict(self.usual)
        elif dataset == "digits":
            own = {**self.usual, **self.small}
        else:  # what belongs to the experiment; networks and epochs are made for the paper's data
            own = {name: self.usual[name] for name in ("temperatures", "transfer") if name in self.usual}
        chosen = {"temperatures": "1-29", "transfer": "disjoint", "margin": "0.02", **own, "dataset": dataset}
        return {name: chosen.get(name, value) if value == AUTO else value for name, value in text.items()}
