"""What each role is made of and trained with, where no parameter sets it.

The paper states neither epochs, optimizer, learning rate nor the student's width; these values are ours:
common ones, set beforehand and not searched for, and none was chosen by test images. Every one is a parameter and
is logged. Those of a data set that kdops knows stand in its entry in :mod:`kdops.config.datasets`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from dataclasses import replace as _replace
from typing import Any

from kdops.config.architectures import Architecture, parse_architecture
from kdops.config.parsing import real, whole
from kdops.config.roles import ROLES
from kdops.errors import UsageError


@dataclass(frozen=True)
class Recipe:
    """How a role is built and trained.

    Attributes:
        architecture: the network.
        epochs: passes over the images; the last one is kept.
        batch_size: images a step.
        learning_rate: the highest rate of the one-cycle schedule.
        weight_decay: decoupled weight decay of AdamW, a step.
    """

    architecture: Architecture
    epochs: int
    batch_size: int
    learning_rate: float
    weight_decay: float = 0.01

    def replace(self, **changes: Any) -> Recipe:
        """Return a copy with some values changed."""
        return _replace(self, **changes)

    def as_dict(self) -> dict[str, object]:
        """Return plain JSON values; the architecture as its canonical text."""
        return {**self.__dict__, "architecture": str(self.architecture)}


def recipe(architecture: str, epochs: int, batch_size: int, learning_rate: float) -> Recipe:
    """Return a recipe, its architecture given as text."""
    return Recipe(parse_architecture(architecture), epochs, batch_size, learning_rate)


IMAGES: Mapping[str, Recipe] = {
    "teacher": recipe("cnn(filters=64,layers=3,dropout=0.1/0.2/0.3)", 20, 64, 2e-3),
    "student": recipe("mlp(hidden=50,depth=1)", 30, 64, 3e-3),
    "middle": recipe("mlp(hidden=50,depth=2)", 30, 64, 3e-3),
}
"""Recipes for images of one's own: a start, not tuned to anything."""

TABLE: Mapping[str, Recipe] = {
    "teacher": recipe("mlp(hidden=256,depth=3,dropout=0.1)", 60, 32, 2e-3),
    "student": recipe("mlp(hidden=50,depth=1)", 60, 32, 1e-2),
    "middle": recipe("mlp(hidden=50,depth=2)", 60, 32, 1e-2),
}
"""The same for a table of one's own."""


def parse_recipes(usual: Mapping[str, Recipe], text: Mapping[str, str]) -> dict[str, Recipe]:
    """Lay the caller's values over the data set's recipe for each role.

    Args:
        usual: the data set's recipe for each of ``BASE_ROLES``.
        text: the parameters ``epochs``, ``batch_size``, ``learning_rate`` and those of ``BASE_ROLES``.

    Raises:
        UsageError: names the parameter, its value and what is allowed.
    """
    given = {
        "epochs": _by_role("epochs", text["epochs"], lambda n, v: whole(n, v, 1, 100_000)),
        "batch_size": _by_role("batch_size", text["batch_size"], lambda n, v: whole(n, v, 1, 1_000_000)),
        "learning_rate": _by_role(
            "learning_rate", text["learning_rate"], lambda n, v: real(n, v, 0.0, 100.0, open_low=True)
        ),
    }
    recipes: dict[str, Recipe] = {}
    for name, role in ROLES.items():
        chosen = {option: values[name] for option, values in given.items() if name in values}
        if role.has_own_recipe and text[name] != "auto":
            chosen["architecture"] = parse_architecture(text[name], parameter=name)
        recipes[name] = (usual[name] if role.has_own_recipe else recipes[role.like]).replace(**chosen)
    return recipes


def _by_role(name: str, text: str, check: Callable[[str, str], object]) -> dict[str, object]:
    """Parse ``auto``, one value for all roles, or ``role=value,role=value``."""
    if text == "auto":
        return {}
    if "=" not in text:
        value = check(name, text)
        return dict.fromkeys(ROLES, value)
    values = {}
    for part in text.split(","):
        role, _, value = (piece.strip() for piece in part.partition("="))
        if role not in ROLES:
            raise UsageError(name, text, f"unknown role {role!r}; the roles are {', '.join(ROLES)}")
        if role in values:
            raise UsageError(name, text, f"the role {role} is given twice")
        if value != "auto":
            try:
                values[role] = check(name, value)
            except UsageError as error:
                raise UsageError(name, text, f"the value of {role} {error.allowed}") from None
    return values
