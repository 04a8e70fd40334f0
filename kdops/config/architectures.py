"""Architectures as values: parsed from text, checked, counted. No torch is imported here.

An architecture is a family and its options, ``mlp(hidden=50,depth=1,dropout=0)`` or
``cnn(filters=128,layers=3,dropout=0.1/0.2/0.3)``; its text is canonical, so equal networks have equal text.
A new family is one class, one entry in ``FAMILIES``, and the function that builds it.
Two families are networks of others, ``torchvision:resnet18`` and ``module:function``; what these are is only known once
they are built, so :mod:`kdops.models.inspection` counts them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from kdops.config.composed import INNER, Joined, Reused
from kdops.config.families import BEFORE, CNN, EMBEDDING, MLP, Architecture, Layer, Shape
from kdops.config.options import Choice
from kdops.config.specs import Spec, split_options, split_spec
from kdops.config.tree import Tree
from kdops.errors import UsageError

__all__ = [
    "BEFORE",
    "CNN",
    "EMBEDDING",
    "FAMILIES",
    "MLP",
    "Architecture",
    "FunctionNet",
    "Layer",
    "TorchvisionNet",
    "Tree",
    "parse_architecture",
]

TORCHVISION = "torchvision:"

_FUNCTION = re.compile(r"\s*([^\W\d]\w*(?:\.[^\W\d]\w*)*:[^\W\d]\w*)\s*")


class _NetOfOthers(Architecture):
    """A network that others wrote, which is counted once it is built."""

    is_counted = False

    def layers_for(self, shape: Shape, classes: int) -> list[Layer]:
        """Raise TypeError."""
        raise TypeError(f"the sizes of {self} do not follow from its text")


@dataclass(frozen=True)
class TorchvisionNet(_NetOfOthers):
    """A classifier of torchvision, random or with the weights that it was trained with on ImageNet."""

    name: str
    weights: str

    spec = Spec("kdops.models.torchvision:build_torchvision", weights=Choice(("none", "default"), default="none"))

    @property
    def pretrained(self) -> bool:
        """Whether it starts from torchvision's weights."""
        return self.weights == "default"

    def __str__(self) -> str:
        """Return the text, the weights only where there are some."""
        return f"{TORCHVISION}{self.name}{self.spec.write(vars(self))}"


@dataclass(frozen=True)
class FunctionNet(_NetOfOthers):
    """A network that a function of the caller's returns: ``module:function``."""

    place: str

    spec = Spec("kdops.models.python_function:build_function")

    def __str__(self) -> str:
        """Return the place of the function."""
        return self.place


FAMILIES: Mapping[str, type[MLP | CNN | Tree | Reused | Joined]] = {
    **INNER,
    "tree": Tree,
    "reused": Reused,
    "joined": Joined,
}
"""The families of kdops's own; the last two are what some methods deploy."""


def parse_architecture(text: str, parameter: str = "architecture") -> Architecture:
    """Parse ``family`` or ``family(option=value,...)``; what is left out has the family's default.

    Raises:
        UsageError: for an unknown family or option, a doubled option, or a value out of range.
    """
    if not text.strip().startswith(TORCHVISION) and (match := _FUNCTION.fullmatch(text)):
        return FunctionNet(match[1])
    unknown = UsageError(parameter, text or "(empty)", f"unknown architecture; there are {_examples()}")
    try:
        name, inner = split_spec(text)
    except ValueError:
        raise unknown from None
    try:
        given = split_options(inner)
        if re.fullmatch(rf"{TORCHVISION}[a-z]\w{{0,60}}", name, re.ASCII):
            return TorchvisionNet(name.removeprefix(TORCHVISION), **TorchvisionNet.spec.read(given))
        if name in FAMILIES:
            return FAMILIES[name].parse(given)
    except ValueError as error:
        raise UsageError(parameter, text, str(error)) from None
    raise unknown


def _examples() -> str:
    own = ", ".join(str(family.parse({})) for family in (*INNER.values(), Tree))
    return f"{own}, torchvision:NAME such as torchvision:resnet18, and module:function"
