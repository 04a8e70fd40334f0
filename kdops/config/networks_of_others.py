"""The two families of networks that others wrote: ``torchvision:NAME`` and ``module:function``. No torch here."""

from __future__ import annotations

from dataclasses import dataclass

from kdops.config.families import Architecture, Layer, Shape
from kdops.config.options import Choice
from kdops.config.specs import Spec

TORCHVISION = "torchvision:"


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
