"""Architectures as values: parsed from text, checked, counted. No torch is imported here.

An architecture is a family and its options, ``mlp(hidden=50,depth=1,dropout=0)`` or
``cnn(filters=128,layers=3,dropout=0.1/0.2/0.3)``; its text is canonical, so equal networks have equal text.
Two families are networks of others, ``torchvision:resnet18`` and ``module:function``; what these are is only known once
they are built, so :mod:`kdops.models.inspection` counts them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise

from kdops.errors import UsageError

__all__ = ["FAMILIES", "FUNCTION", "TORCHVISION", "Architecture", "parse_architecture"]

TORCHVISION, FUNCTION = "torchvision", "function"
"""The families of networks that others wrote."""

_TORCHVISION = re.compile(r"\s*torchvision:([a-z]\w{0,60})\s*(?:\(([^()]*)\))?\s*", re.ASCII)
_FUNCTION = re.compile(r"\s*([^\W\d]\w*(?:\.[^\W\d]\w*)*:[^\W\d]\w*)\s*")


@dataclass(frozen=True)
class Architecture:
    """A family of networks and its options, in the family's order."""

    family: str
    options: tuple[tuple[str, object], ...]

    def __getitem__(self, option: str) -> object:
        return dict(self.options)[option]

    def __str__(self) -> str:
        if self.family == FUNCTION:
            return self["place"]
        if self.family == TORCHVISION:
            return f"torchvision:{self['name']}" + ("(weights=default)" if self["pretrained"] else "")
        inner = ",".join(f"{name}={_written(value)}" for name, value in self.options)
        return f"{self.family}({inner})"

    @property
    def is_counted(self) -> bool:
        """Whether its sizes follow from its text: it is a family of kdops's own."""
        return self.family in FAMILIES

    @property
    def is_dense(self) -> bool:
        """Whether it is a chain of dense layers, so that many can be trained as one fleet."""
        return self.family == "mlp"

    def parameters(self, shape: tuple[int, int, int], classes: int) -> int:
        """Count the trained values for images of ``shape`` = (channels, height, width).

        Only where ``is_counted``; :func:`kdops.models.size.network_size` counts any network, and its operations too.
        """
        return sum(rows * columns + columns for rows, columns, _ in self._layers(shape, classes))

    def flops(self, shape: tuple[int, int, int], classes: int) -> int:
        """Count the floating point operations of one forward pass of one image.

        Multiplications and additions of the matrix products and convolutions, two to a pair; activations,
        pooling and biases are left out.
        """
        return sum(2 * rows * columns * places for rows, columns, places in self._layers(shape, classes))

    def activations(self, shape: tuple[int, int, int], classes: int) -> int:
        """Count the values that its layers give for one image, before pooling."""
        return sum(columns * places for _, columns, places in self._layers(shape, classes))

    def _layers(self, shape: tuple[int, int, int], classes: int) -> list[tuple[int, int, int]]:
        """Return (inputs, outputs, places) of each layer; a dense layer is used at one place."""
        return _LAYERS[self.family](self, shape, classes)


def parse_architecture(text: str, parameter: str = "architecture") -> Architecture:
    """Parse ``family`` or ``family(option=value,...)``; what is left out takes the family's default.

    Raises:
        UsageError: for an unknown family or option, a doubled option, or a value out of range.
    """
    if match := _TORCHVISION.fullmatch(text):
        return Architecture(TORCHVISION, (("name", match[1]), ("pretrained", _pretrained(match[2], text, parameter))))
    if not text.strip().startswith("torchvision:") and (match := _FUNCTION.fullmatch(text)):
        return Architecture(FUNCTION, (("place", match[1]),))
    match = re.fullmatch(r"\s*([a-z_]\w*)\s*(?:\(([^()]*)\))?\s*", text)
    if not match or match[1] not in FAMILIES:
        raise UsageError(parameter, text or "(empty)", f"unknown architecture; there are {_examples()}")
    family, inner = match[1], (match[2] or "").strip()
    known = FAMILIES[family]
    given: dict[str, object] = {}
    for part in inner.split(",") if inner else ():
        name, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals or name not in known:
            advice = f"unknown option {part.strip()!r}; {family} has {', '.join(known)}"
            raise UsageError(parameter, text, advice)
        if name in given:
            raise UsageError(parameter, text, f"the option {name} is given twice")
        try:
            given[name] = known[name].read(value)
        except ValueError as error:
            raise UsageError(parameter, text, f"the option {name} must be {error}") from None
    options = {name: given.get(name, option.default) for name, option in known.items()}
    if len(options["dropout"]) not in (1, options.get("layers", 1)):
        raise UsageError(parameter, text, "the option dropout must be one number, or one for each cnn layer")
    # One rate stands for one in each layer; written out, equal networks have equal text.
    if len(options["dropout"]) == 1:
        options["dropout"] *= options.get("layers", 1)
    return Architecture(family, tuple(options.items()))


@dataclass(frozen=True)
class Option:
    """An option of a family: its default, and how its text is read."""

    default: object
    read: Callable[[str], object]


def _pretrained(inner: str | None, text: str, parameter: str) -> bool:
    """Read the only option of a torchvision model."""
    given = "".join((inner or "").split())
    if given not in ("", "weights=none", "weights=default"):
        raise UsageError(parameter, text, "the only option is weights=none or weights=default (trained on ImageNet)")
    return given == "weights=default"


def _whole(low: int, high: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not re.fullmatch(r"\d{1,7}", text) or not low <= int(text) <= high:
            raise ValueError(f"a whole number from {low} to {high}")
        return int(text)

    return read


def _rates(text: str) -> tuple[float, ...]:
    pieces = text.split("/")
    if not all(re.fullmatch(r"0?\.\d{1,6}|0", piece) for piece in pieces):
        raise ValueError("a rate from 0 to below 1, or one for each layer parted by /")
    return tuple(float(piece) for piece in pieces)


FAMILIES: Mapping[str, Mapping[str, Option]] = {
    "mlp": {
        "hidden": Option(50, _whole(1, 100_000)),
        "depth": Option(1, _whole(1, 100)),
        "dropout": Option((0.0,), _rates),
    },
    "cnn": {
        "filters": Option(128, _whole(1, 10_000)),
        "layers": Option(3, _whole(1, 20)),
        "dropout": Option((0.1, 0.2, 0.3), _rates),
    },
}


def _mlp_layers(net: Architecture, shape: tuple[int, int, int], classes: int) -> list[tuple[int, int, int]]:
    channels, height, width = shape
    sizes = [channels * height * width, *[net["hidden"]] * net["depth"], classes]
    return [(rows, columns, 1) for rows, columns in pairwise(sizes)]


def _cnn_layers(net: Architecture, shape: tuple[int, int, int], classes: int) -> list[tuple[int, int, int]]:
    channels, height, width = shape
    layers = []
    for _ in range(net["layers"]):
        layers.append((channels * 9, net["filters"], height * width))
        channels, height, width = net["filters"], max(height // 2, 1), max(width // 2, 1)
    return [*layers, (channels * height * width, classes, 1)]


_LAYERS = {"mlp": _mlp_layers, "cnn": _cnn_layers}


def _written(value: object) -> str:
    if isinstance(value, tuple):
        # Never in the form 1e-06, which parse_architecture does not read back.
        return "/".join(f"{rate:.6f}".rstrip("0").rstrip(".") for rate in value)
    return str(value)


def _examples() -> str:
    own = ", ".join(
        f"{family}({','.join(f'{n}={_written(o.default)}' for n, o in options.items())})"
        for family, options in FAMILIES.items()
    )
    return f"{own}, torchvision:NAME such as torchvision:resnet18, and module:function"
