"""Architectures as values: parsed from text, checked, counted. No torch is imported here.

An architecture is a family and its options, ``mlp(hidden=50,depth=1,dropout=0)`` or
``cnn(filters=128,layers=3,dropout=0.1/0.2/0.3)``; its text is canonical, so equal networks have equal text.
A new family is one class here, one entry in ``FAMILIES``, and the function that builds it.
Two families are networks of others, ``torchvision:resnet18`` and ``module:function``; what these are is only known once
they are built, so :mod:`kdops.models.inspection` counts them.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar, NamedTuple

from kdops.config.parsing import Choice, Integer, Real, Several, Spec, split_options, split_spec
from kdops.errors import UsageError

__all__ = [
    "CNN",
    "EMBEDDING",
    "FAMILIES",
    "MLP",
    "Architecture",
    "FunctionNet",
    "Layer",
    "TorchvisionNet",
    "parse_architecture",
]

Shape = tuple[int, int, int]
"""(channels, height, width) of an image."""

TORCHVISION = "torchvision:"

EMBEDDING = "embedding"
"""The tap of the last layer's input, see :mod:`kdops.models.taps`."""

BEFORE = ".before"
"""With a stage's name before it the tap of what goes into its activation."""

_FUNCTION = re.compile(r"\s*([^\W\d]\w*(?:\.[^\W\d]\w*)*:[^\W\d]\w*)\s*")
_RATE = Real(0, 1, open_high=True)


class Layer(NamedTuple):
    """A layer as it is counted: a dense one is used at one place, a convolution at every pixel."""

    inputs: int
    outputs: int
    places: int


class Architecture(ABC):
    """A network: a family and its options.

    Attributes:
        spec: the place of the function that builds it, and its options.
        is_counted: its sizes follow from its text: it is a family of kdops's own.
        is_dense: it is a chain of dense layers, so that many can be trained stacked.
    """

    spec: ClassVar[Spec]
    is_counted: ClassVar[bool] = True
    is_dense: ClassVar[bool] = False

    @abstractmethod
    def __str__(self) -> str:
        """Return its canonical text."""

    @abstractmethod
    def layers_for(self, shape: Shape, classes: int) -> list[Layer]:
        """Return the layers with trained values, for images of ``shape``.

        Raises:
            TypeError: it is a network of others; :func:`kdops.models.size.network_size` counts any network.
        """

    def taps(self) -> tuple[str, ...]:
        """Return its taps, see :mod:`kdops.models.taps`; empty where they are known only once it is built."""
        return ()

    def parameters(self, shape: Shape, classes: int) -> int:
        """Count the trained values."""
        return sum(inputs * outputs + outputs for inputs, outputs, _ in self.layers_for(shape, classes))

    def flops(self, shape: Shape, classes: int) -> int:
        """Count the floating point operations of one forward pass of one image.

        Multiplications and additions of the matrix products and convolutions, two to a pair; activations,
        pooling and biases are left out.
        """
        return sum(2 * inputs * outputs * places for inputs, outputs, places in self.layers_for(shape, classes))

    def activations(self, shape: Shape, classes: int) -> int:
        """Count the outputs of its layers for one image, before pooling."""
        return sum(outputs * places for _, outputs, places in self.layers_for(shape, classes))


@dataclass(frozen=True)
class MLP(Architecture):
    """``depth`` dense layers of ``hidden`` units with ReLU and dropout, and a linear output."""

    hidden: int
    depth: int
    dropout: float

    is_dense = True
    spec = Spec(
        "kdops.models.mlp:build_mlp",
        hidden=Integer(1, 100_000, default=50),
        depth=Integer(1, 100, default=1),
        dropout=_RATE,
    )

    @classmethod
    def parse(cls, given: Mapping[str, str]) -> MLP:
        """Read the options; raises ValueError."""
        return cls(**cls.spec.read(given))

    def __str__(self) -> str:
        """Return the text with all options."""
        return f"mlp{self.spec.write(vars(self), full=True)}"

    def taps(self) -> tuple[str, ...]:
        """Return the input of the last layer."""
        return (EMBEDDING,)

    def layers_for(self, shape: Shape, classes: int) -> list[Layer]:
        """Return the dense layers."""
        channels, height, width = shape
        sizes = [channels * height * width, *[self.hidden] * self.depth, classes]
        return [Layer(inputs, outputs, 1) for inputs, outputs in pairwise(sizes)]


@dataclass(frozen=True)
class CNN(Architecture):
    """``layers`` convolutions of 3x3, each with max pooling, ReLU and dropout of its own, and a linear output."""

    filters: int
    layers: int
    dropout: tuple[float, ...]

    spec = Spec(
        "kdops.models.cnn:build_cnn",
        filters=Integer(1, 10_000, default=128),
        layers=Integer(1, 20, default=3),
        dropout=Several(_RATE, default=(0.1, 0.2, 0.3)),
    )

    @classmethod
    def parse(cls, given: Mapping[str, str]) -> CNN:
        """Read the options; raises ValueError.

        One rate stands for one in each layer; written out, equal networks have equal text. The default rates are
        those of the first layers, and the last of them that of any further layer.
        """
        options = cls.spec.read(given)
        rates, layers = options["dropout"], options["layers"]
        if "dropout" not in given:
            rates = (*rates, *rates[-1:] * layers)[:layers]
        elif len(rates) == 1:
            rates *= layers
        if len(rates) != layers:
            raise ValueError("the option dropout must be one number, or one for each cnn layer")
        return cls(options["filters"], layers, rates)

    def __str__(self) -> str:
        """Return the text with all options."""
        return f"cnn{self.spec.write(vars(self), full=True)}"

    def taps(self) -> tuple[str, ...]:
        """Return each convolution after its activation and before it, and the input of the last layer."""
        return (*(f"stage{one + 1}{end}" for one in range(self.layers) for end in ("", BEFORE)), EMBEDDING)

    def layers_for(self, shape: Shape, classes: int) -> list[Layer]:
        """Return the convolutions and the dense output; each pooling halves a side that is longer than a pixel."""
        channels, height, width = shape
        found = []
        for _ in range(self.layers):
            found.append(Layer(channels * 9, self.filters, height * width))
            channels, height, width = self.filters, max(height // 2, 1), max(width // 2, 1)
        return [*found, Layer(channels * height * width, classes, 1)]


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


FAMILIES: Mapping[str, type[MLP] | type[CNN]] = {"mlp": MLP, "cnn": CNN}
"""The families of kdops's own."""


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
    own = ", ".join(str(family.parse({})) for family in FAMILIES.values())
    return f"{own}, torchvision:NAME such as torchvision:resnet18, and module:function"
