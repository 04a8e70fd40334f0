"""Networks that a method deploys and that are more than the student: their texts and their counts. No torch here.

``reused(student=...,channels=64,halvings=3,factor=2)`` is a student's convolutions, a projector to another network's
last map, and a last layer of that network's size. ``joined(student=...,assistant=...,at=map)`` is two networks with one
last layer, which takes the sum of their last maps, or, with ``at=logits``, the sum of their logits.

Which method deploys which is the matter of :mod:`kdops.config.methods`; as architectures they are like any other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kdops.config.families import CNN, EMBEDDING, MLP, Architecture, Family, Layer, Map, Shape, stages
from kdops.config.options import Choice, Integer, Option
from kdops.config.specs import Spec, split_options, split_spec

INNER: Mapping[str, type[MLP] | type[CNN]] = {"mlp": MLP, "cnn": CNN}
"""The families that composed networks are made of; composed ones are none, so that a text has an end."""

MAP, LOGITS = "map", "logits"

RESIDUAL = "residual"
"""The tap of what is added to a student's last map."""


USUAL, ASSISTANT = CNN.parse({}), CNN.parse({"filters": "20"})
"""Networks where none is given: a student, and an assistant beside one."""


@dataclass(frozen=True)
class Network(Option[Architecture]):
    """A network of one of kdops's own families, such as ``cnn(filters=20)``."""

    default: Architecture = USUAL

    def read(self, text: str) -> Architecture:
        """Read the network."""
        try:
            name, inner = split_spec(text)
            if name in INNER:
                return INNER[name].parse(split_options(inner))
        except ValueError as error:
            raise ValueError(f"{self.allowed()}; {error}") from None
        raise ValueError(self.allowed())

    def allowed(self) -> str:
        """Return the families."""
        return f"a network, {' or '.join(f'{name}(...)' for name in INNER)}"


class _Composed(Family):
    """A network that has a student in it."""

    student: Architecture

    @property
    def parts(self) -> tuple[Architecture, ...]:
        """The network itself, and those within it."""
        return (self, *(part for part in vars(self).values() if isinstance(part, Architecture)))

    def taps(self) -> tuple[str, ...]:
        """Return each convolution after and before its activation, one network after another, and the embedding."""
        return (*stages(sum(len(part.maps()) for part in self.parts[1:])), EMBEDDING)


@dataclass(frozen=True)
class Reused(_Composed):
    """A student's convolutions, a projector of 1x1, 3x3 and 1x1 to another network's last map, and its last layer.

    Attributes:
        student: whose last layer is left out.
        channels: of the other network's last map.
        halvings: how often that network halves the sides of an image.
        factor: the projector has the other's channels divided by it within.
    """

    student: Architecture
    channels: int
    halvings: int
    factor: int

    spec = Spec(
        "kdops.models.composed:build_reused",
        student=Network(),
        channels=Integer(1, 100_000, default=128),
        halvings=Integer(1, 100, default=3),
        factor=Integer(1, 1000, default=2),
    )

    def __post_init__(self) -> None:
        """Check that the student has a last map that can be brought to the other's; raises ValueError."""
        _check_inner("student", self.student)
        own = self.student.maps()[-1].halvings
        if own > self.halvings:
            raise ValueError(
                f"the student {self.student} halves the sides of an image {own} times and the source only "
                f"{self.halvings} times; its last map is too small for the source's last layer"
            )

    @property
    def within(self) -> int:
        """How many channels the projector has within."""
        return max(self.channels // self.factor, 1)

    def maps(self) -> tuple[Map, ...]:
        """Return the student's, and what each convolution of the projector returns."""
        projected = (Map(channels, self.halvings) for channels in (self.within, self.within, self.channels))
        return (*self.student.maps(), *projected)

    def taps(self) -> tuple[str, ...]:
        """Return each convolution after and before its activation, the projector's included, and the embedding."""
        return (*stages(len(self.maps())), EMBEDDING)

    def layers_for(self, shape: Shape, classes: int) -> list[Layer]:
        """Return the student's without its last one, the projector's, and the other network's last one."""
        channels, height, width = self.maps()[-1].of(shape)
        places, inputs = height * width, self.student.maps()[-1].channels
        projector = [(inputs, self.within), (9 * self.within, self.within), (self.within, channels)]
        own = self.student.layers_for(shape, classes)[:-1]
        return [*own, *(Layer(*sizes, places) for sizes in projector), Layer(channels * places, classes, 1)]


@dataclass(frozen=True)
class Joined(_Composed):
    """Two networks whose last maps are added up for one last layer, or whose logits are added up.

    Attributes:
        student: the network whose last layer is kept.
        assistant: the other one; its last map is brought to the student's channels by a 1x1 convolution.
        at: ``map`` or ``logits``.
    """

    student: Architecture
    assistant: Architecture
    at: str

    spec = Spec(
        "kdops.models.composed:build_joined",
        student=Network(),
        assistant=Network(),
        at=Choice((MAP, LOGITS), MAP),
    )

    def __post_init__(self) -> None:
        """Check that the two have maps of equal sizes; raises ValueError."""
        if self.at == LOGITS:
            return
        for role in ("student", "assistant"):
            _check_inner(role, getattr(self, role))
        sizes = [len(part.maps()) for part in (self.student, self.assistant)]
        if sizes[0] != sizes[1]:
            raise ValueError(
                f"the student {self.student} has {sizes[0]} layers and the assistant {self.assistant} has {sizes[1]}; "
                "both must have as many, since their maps are added up"
            )

    def maps(self) -> tuple[Map, ...]:
        """Return the student's; the sum has the size of its last one. None where logits are added up."""
        return self.student.maps() if self.at == MAP else ()

    def taps(self) -> tuple[str, ...]:
        """Return those of all composed networks, and what is added to the student's last map."""
        return (*super().taps(), *((RESIDUAL,) if self.at == MAP else ()))

    def layers_for(self, shape: Shape, classes: int) -> list[Layer]:
        """Return those of both; of two maps that are added up the 1x1 convolution and one last layer."""
        own, other = (part.layers_for(shape, classes) for part in (self.student, self.assistant))
        if self.at == LOGITS:
            return [*own, *other]
        channels, height, width = self.assistant.maps()[-1].of(shape)
        joint = Layer(channels, self.student.maps()[-1].channels, height * width)
        return [*own[:-1], *other[:-1], joint, own[-1]]


def alone(student: Architecture, source: Architecture, options: Mapping[str, Any]) -> Architecture:
    """Return what most methods deploy: the student itself."""
    return student


def reused(student: Architecture, source: Architecture, options: Mapping[str, Any]) -> Architecture:
    """Return the student with a projector to the source's last map, and the source's last layer.

    Raises:
        ValueError: one of the two has no maps, or the student's last one is smaller.
    """
    _check_maps("source", source)
    last = source.maps()[-1]
    return Reused(student, last.channels, last.halvings, options["factor"])


def joined_maps(student: Architecture, source: Architecture, options: Mapping[str, Any]) -> Architecture:
    """Return the student and an assistant with the sum of their last maps.

    Raises:
        ValueError: one of the three has no maps, they have another number of them, or the source has fewer.
    """
    both = Joined(student, options["assistant"], MAP)
    _check_maps("source", source)
    if any(own.halvings != given.halvings for own, given in zip(student.maps(), source.maps(), strict=False)) or len(
        student.maps()
    ) > len(source.maps()):
        raise ValueError(f"the source {source} has no map of the size of each of the student {student}")
    return both


def joined_logits(student: Architecture, source: Architecture, options: Mapping[str, Any]) -> Architecture:
    """Return the student and an assistant with the sum of their logits.

    Raises:
        ValueError: the student is none of ``INNER``.
    """
    if not isinstance(student, tuple(INNER.values())):
        raise ValueError(f"the student {student} must be {Network().allowed()}")
    return Joined(student, options["assistant"], LOGITS)


def _check_maps(role: str, network: Architecture) -> None:
    """Refuse a network whose last layer takes no map, or whose maps are known only once it is built."""
    if not network.maps():
        there = ", ".join(network.taps()) or "those that are known once it is built"
        raise ValueError(f"the {role} {network} has no map that its last layer takes; its taps are {there}")


def _check_inner(role: str, network: Architecture) -> None:
    """Refuse a network that has no maps, or is none that composed ones are made of."""
    _check_maps(role, network)
    if not isinstance(network, CNN):
        raise ValueError(f"the {role} {network} must be cnn(...)")
