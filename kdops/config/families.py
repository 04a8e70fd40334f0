"""The base of all architectures, and the two families that others are made of: ``mlp`` and ``cnn``. No torch here."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, ClassVar, NamedTuple, Self

from kdops.config.options import Integer, Real, Several
from kdops.config.specs import Spec

Shape = tuple[int, int, int]
"""(channels, height, width) of an image."""

EMBEDDING = "embedding"
"""The tap of the last layer's input, see :mod:`kdops.models.taps`."""

BEFORE = ".before"
"""With a stage's name before it the tap of what goes into its activation."""

_RATE = Real(0, 1, open_high=True)


class Map(NamedTuple):
    """What a convolution returns after its activation, as far as it follows from a text.

    Attributes:
        channels: how many.
        halvings: how often the image's sides were halved before.
    """

    channels: int
    halvings: int

    def of(self, shape: Shape) -> Shape:
        """Return (channels, height, width) for images of ``shape``; a side of one pixel is no longer halved."""
        _, height, width = shape
        return self.channels, max(height >> self.halvings, 1), max(width >> self.halvings, 1)


def stages(count: int) -> tuple[str, ...]:
    """Return the taps of some convolutions, each after its activation and before it."""
    return tuple(f"stage{number + 1}{end}" for number in range(count) for end in ("", BEFORE))


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
        is_dense: it is a chain of dense layers, so that those of unequal width can be trained stacked too.
        searched: the options that a search varies, each with what it tries by default; empty text for those that keep
            their value where they are not named. No option where the family is not searched for.
    """

    spec: ClassVar[Spec]
    is_counted: ClassVar[bool] = True
    is_dense: ClassVar[bool] = False
    searched: ClassVar[Mapping[str, str]] = {}

    @abstractmethod
    def __str__(self) -> str:
        """Return its canonical text."""

    @abstractmethod
    def layers_for(self, shape: Shape, classes: int) -> list[Layer]:
        """Return the layers with trained values, for images of ``shape``.

        Raises:
            TypeError: it is a network of others; :func:`kdops.models.size.network_size` counts any network.
        """

    def varied(self, values: Mapping[str, Any]) -> Architecture:
        """Return the network with other values of the options that a search varies, by name among others."""
        return self

    @property
    def stacks(self) -> str:
        """The place of the class that computes many of it in one pass while they are trained; empty where none does."""
        return ""

    @property
    def parts(self) -> tuple[Architecture, ...]:
        """The networks that it is built of, itself first."""
        return (self,)

    def maps(self) -> tuple[Map, ...]:
        """Return its maps in order, where the last layer takes the last of them; else none."""
        return ()

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


class Family(Architecture):
    """A family of kdops's own: its options are the fields of its class."""

    @classmethod
    def parse(cls, given: Mapping[str, str]) -> Self:
        """Read the options; raises ValueError."""
        return cls(**cls.spec.read(given))

    def __str__(self) -> str:
        """Return the text with all options."""
        return f"{type(self).__name__.lower()}{self.spec.write(vars(self), full=True)}"


@dataclass(frozen=True)
class MLP(Family):
    """``depth`` dense layers of ``hidden`` units with ReLU and dropout, and a linear output."""

    hidden: int
    depth: int
    dropout: float

    is_dense = True
    searched: ClassVar[Mapping[str, str]] = {"hidden": "16..128", "depth": "1..3", "dropout": ""}
    spec = Spec(
        "kdops.models.mlp:build_mlp",
        hidden=Integer(1, 100_000, default=50),
        depth=Integer(1, 100, default=1),
        dropout=_RATE,
    )

    def varied(self, values: Mapping[str, Any]) -> MLP:
        """Return the network with other sizes or another rate."""
        return replace(self, **{name: values[name] for name in self.searched if name in values})

    @property
    def stacks(self) -> str:
        """The place of the class that computes many of it in one pass."""
        return "kdops.training.stacked:StackedMLPs"

    def taps(self) -> tuple[str, ...]:
        """Return the input of the last layer."""
        return (EMBEDDING,)

    def layers_for(self, shape: Shape, classes: int) -> list[Layer]:
        """Return the dense layers."""
        channels, height, width = shape
        sizes = [channels * height * width, *[self.hidden] * self.depth, classes]
        return [Layer(inputs, outputs, 1) for inputs, outputs in pairwise(sizes)]


def _rates(rates: tuple[float, ...], layers: int) -> tuple[float, ...]:
    """Return the rate of each layer: that of the last one is that of any further layer."""
    return (*rates, *rates[-1:] * layers)[:layers]


@dataclass(frozen=True)
class CNN(Family):
    """``layers`` convolutions of 3x3, each with max pooling, ReLU and dropout of its own, and a linear output."""

    filters: int
    layers: int
    dropout: tuple[float, ...]

    searched: ClassVar[Mapping[str, str]] = {"filters": "8..32", "layers": "2..4", "dropout": ""}
    spec = Spec(
        "kdops.models.cnn:build_cnn",
        filters=Integer(1, 10_000, default=128),
        layers=Integer(1, 20, default=3),
        dropout=Several(_RATE, default=(0.1, 0.2, 0.3)),
    )

    @classmethod
    def parse(cls, given: Mapping[str, str]) -> Self:
        """Read the options; raises ValueError.

        One rate stands for one in each layer; written out, equal networks have equal text. The default rates are
        those of the first layers, and the last of them that of any further layer.
        """
        options = cls.spec.read(given)
        rates, layers = options["dropout"], options["layers"]
        if "dropout" not in given:
            rates = _rates(rates, layers)
        elif len(rates) == 1:
            rates *= layers
        if len(rates) != layers:
            raise ValueError("the option dropout must be one number, or one for each cnn layer")
        return cls(options["filters"], layers, rates)

    def varied(self, values: Mapping[str, Any]) -> CNN:
        """Return the network with other sizes; its rates, or one rate for all, are those of the layers that it has."""
        rates = (values["dropout"],) if "dropout" in values else self.dropout
        layers = values.get("layers", self.layers)
        return CNN(values.get("filters", self.filters), layers, _rates(rates, layers))

    def maps(self) -> tuple[Map, ...]:
        """Return what each convolution returns."""
        return tuple(Map(self.filters, number + 1) for number in range(self.layers))

    def taps(self) -> tuple[str, ...]:
        """Return each convolution after its activation and before it, and the input of the last layer."""
        return (*stages(self.layers), EMBEDDING)

    def layers_for(self, shape: Shape, classes: int) -> list[Layer]:
        """Return the convolutions and the dense output; each pooling halves a side that is longer than a pixel."""
        channels, height, width = shape
        found = []
        for _ in range(self.layers):
            found.append(Layer(channels * 9, self.filters, height * width))
            channels, height, width = self.filters, max(height // 2, 1), max(width // 2, 1)
        return [*found, Layer(channels * height * width, classes, 1)]
