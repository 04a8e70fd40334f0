"""Methods on the maps of convolutional layers: what they have in common."""

from __future__ import annotations

from abc import ABC
from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

from kdops.distillation.method import Method, Needs, Shapes, Step
from kdops.errors import UsageError


@dataclass(frozen=True)
class MapMethod(Method, ABC):
    """A method that compares maps at several layers of both networks; its students are trained one by one.

    Attributes:
        at: the layers, taps of both networks; ``own:source`` where the source's has another name.
    """

    at: tuple[str, ...] = ("stage1", "stage2")

    @property
    def layers(self) -> tuple[tuple[str, str], ...]:
        """The tap of the student and that of the source, of each layer."""
        parts = [layer.partition(":") for layer in self.at]
        return tuple((own, source or own) for own, _, source in parts)

    @property
    def needs(self) -> Needs:
        """The layers of both networks."""
        own, source = zip(*self.layers, strict=True)
        return Needs(own, source)

    @property
    def is_stacked(self) -> bool:
        """False: only convolutional networks have maps."""
        return False

    def modules(self, student: Shapes, source: Shapes) -> nn.Module:
        """Return the adapter of each layer, see :meth:`adapter`. Raises UsageError if a layer has no maps."""
        return nn.ModuleList(self.adapter(*shapes) for shapes in self.shapes(student, source))

    def adapter(self, own: tuple[int, ...], source: tuple[int, ...]) -> nn.Module:
        """Return what is trained beside a layer of the student, of shape ``own``: nothing."""
        return nn.Identity()

    def shapes(self, student: Shapes, source: Shapes) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
        """Return the shape of each layer of the student and of the source, ``(C, H, W)`` or reduced.

        Raises:
            UsageError: a layer has no maps.
        """
        found = [(student.features[own], source.features[theirs]) for own, theirs in self.layers]
        for layer, (own, theirs) in zip(self.at, found, strict=True):
            # What a method keeps of a map has fewer axes.
            if len(own) != 3 or len(theirs) < (2 if self.reduction else 3):
                written = [" x ".join(map(str, shape)) or "one" for shape in (own, theirs)]
                told = f"the student has {written[0]} values there, the source {written[1]}; both must have maps"
                raise UsageError("method", f"at={layer}", f"{told}: channels x height x width")
        return found

    def maps(self, step: Step) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the maps of each layer, of the one student ``[B, C, H, W]`` and of its source, which may be reduced."""
        for own, source in self.layers:
            yield step.student.features[own][0], step.source.features[source][0]


def same_sides(own: Tensor, source: Tensor) -> tuple[Tensor, Tensor]:
    """Return maps ``[..., H, W]`` of the same height and width: those of the larger one averaged."""
    height, width = (min(sides) for sides in zip(own.shape[-2:], source.shape[-2:], strict=True))
    return tuple(  # type: ignore[return-value]
        one if one.shape[-2:] == (height, width) else F.adaptive_avg_pool2d(one, (height, width))
        for one in (own, source)
    )
