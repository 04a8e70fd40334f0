"""What an entry in the table of papers says, and which parameters its experiment does not read.

The second is not declared: it is read from the experiment's file, whose syntax tree is parsed and not run.
"""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

from kdops.config.images import Selection
from kdops.config.recipe_settings import SETTINGS
from kdops.config.roles import BASE_ROLES, ROLES
from kdops.config.specs import split_outside
from kdops.errors import UsageError

AUTO = "auto"
"""What a parameter is that the paper's entry decides."""

PLACE = "pipelines.papers."

OF_METHOD = ("method", "alpha", "t_squared")
"""The parameters of what a student learns; they count where there are temperatures."""

READ_BY = (
    ({"temperatures", "temperature"}, ("temperatures", *OF_METHOD)),
    ({"margin"}, ("margin",)),
    ({"best", "worst", "single"}, ("select_on", "select_by")),
)
"""Attributes of which a file must read one, else the parameters have no effect: the last choose among models."""


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
    """

    name: str
    title: str
    data: tuple[str, ...]
    cost: str
    usual: Mapping[str, str] = field(default_factory=dict)
    small: Mapping[str, str] = field(default_factory=dict)

    @property
    def module(self) -> str:
        """The place of its file."""
        return PLACE + self.name.replace("-", "_")

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
        """Whether its file reads a single temperature, and no others."""
        return "temperature" in self._attributes

    @property
    def unread(self) -> tuple[str, ...]:
        """The parameters that have no effect: roles that its file does not name, and what it does not read."""
        # What is given a recipe of its own is read where that one is made from its own recipe.
        named = {ROLES[text].like for text in self._texts if text in ROLES} - {*self._given} | {*self._recipes}
        roles = tuple(role for role in BASE_ROLES if role not in named)
        read = {*self._attributes}
        rest = [own for readers, own in READ_BY if not read & readers]
        return (*roles, *(one for own in rest for one in own))

    @property
    def decided(self) -> tuple[str, ...]:
        """The parameters that its file gives values of its own, which are not made from those given."""
        choices = {*OF_METHOD, *vars(Selection()), *SETTINGS} - {*self._attributes, *self.unread}
        given = {*self._given, *(OF_METHOD if "method" in self._given else ())}
        return tuple(one for one in choices if one in given)

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

    @cached_property
    def _nodes(self) -> tuple[ast.AST, ...]:
        """The syntax of its file, and of those of other papers that it imports."""
        own = _nodes_of(self.module)
        others = {node.module for node in own if isinstance(node, ast.ImportFrom) and node.module}
        return (*own, *(node for name in sorted(others) if name.startswith(PLACE) for node in _nodes_of(name)))

    @property
    def _texts(self) -> Iterator[Any]:
        return (node.value for node in self._nodes if isinstance(node, ast.Constant))

    @property
    def _attributes(self) -> Iterator[str]:
        return (node.attr for node in self._nodes if isinstance(node, ast.Attribute))

    @property
    def _recipes(self) -> Iterator[Any]:
        return (
            node.slice.value
            for node in self._nodes
            if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant)
        )

    @property
    def _given(self) -> Iterator[str | None]:
        return (node.arg for node in self._nodes if isinstance(node, ast.keyword))


def _nodes_of(module: str) -> tuple[ast.AST, ...]:
    spec = find_spec(module)
    assert spec is not None
    assert spec.origin is not None
    return tuple(ast.walk(ast.parse(Path(spec.origin).read_text("utf-8"))))
