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

from kdops.config.composed import INNER, Joined, Reused
from kdops.config.families import BEFORE, CNN, EMBEDDING, MLP, Architecture, Family, Layer
from kdops.config.networks_of_others import TORCHVISION, FunctionNet, TorchvisionNet
from kdops.config.specs import split_options, split_spec
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

_FUNCTION = re.compile(r"\s*([^\W\d]\w*(?:\.[^\W\d]\w*)*:[^\W\d]\w*)\s*")


FAMILIES: Mapping[str, type[Family]] = {
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
    try:
        name, inner = split_spec(text)
    except ValueError:
        raise _unknown(parameter, text) from None
    try:
        given = split_options(inner)
        if re.fullmatch(rf"{TORCHVISION}[a-z]\w{{0,60}}", name, re.ASCII):
            return TorchvisionNet(name.removeprefix(TORCHVISION), **TorchvisionNet.spec.read(given))
        if name in FAMILIES:
            return FAMILIES[name].parse(given)
    except ValueError as error:
        raise UsageError(parameter, text, str(error)) from None
    raise _unknown(parameter, text)


def _unknown(parameter: str, text: str) -> UsageError:
    own = ", ".join(str(family.parse({})) for family in (*INNER.values(), Tree))
    there = f"{own}, torchvision:NAME such as torchvision:resnet18, and module:function"
    return UsageError(parameter, text or "(empty)", f"unknown architecture; there are {there}")
