"""Kinds of entries in the table of methods: those that change another method, and those on maps. No torch here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from kdops.config.architectures import EMBEDDING
from kdops.config.method_specs import Inner, MethodSpec
from kdops.config.options import Option, Several, Text


class ModifierSpec(MethodSpec):
    """A method that changes another one, its first option: ``standardize(dkd(beta=2))``.

    Args:
        place, summary, reference, **given: as of any method.
        methods: returns the table that the other one is in.
        changes_logits: whether it changes nothing but the logits that the other one compares.
    """

    first = "method"

    def __init__(
        self,
        place: str,
        summary: str,
        reference: str,
        *,
        methods: Callable[[], Mapping[str, MethodSpec]],
        changes_logits: bool = False,
        **given: Any,
    ):
        super().__init__(place, summary, reference, **given)
        self.methods, self.changes_logits = methods, changes_logits
        self.options = {self.first: Inner(methods), **self.options}

    def check(self, options: Mapping[str, Any]) -> None:
        """Refuse a method that would be the same without this one.

        Raises:
            ValueError: names the methods that would not.
        """
        inner = options[self.first].parts[-1]
        if self.changes_logits and not inner.spec.compares_logits:
            named = {name: one for name, one in self.methods().items() if not isinstance(one, ModifierSpec)}
            fit = ", ".join(name for name, one in named.items() if one.compares_logits)
            raise ValueError(
                f"{inner.name} compares no logits, which are all that is changed; methods that do are {fit}"
            )


class MapSpec(MethodSpec):
    """A method on the maps of several layers, whose names the option ``at`` has: ``own:source`` where they differ."""

    def __init__(
        self,
        place: str,
        summary: str,
        reference: str,
        *,
        layers: tuple[str, ...] = ("stage1", "stage2"),
        fewest: int = 1,
        compares_logits: bool = False,
        phases: int = 1,
        **options: Option[Any],
    ):
        super().__init__(
            *(place, summary, reference, "at"),
            has_modules=True,
            is_stacked=False,
            compares_logits=compares_logits,
            phases=phases,
        )
        self.options = {"at": Several(Text(), default=layers, fewest=fewest), **options}

    def layers(self, options: Mapping[str, Any]) -> list[tuple[str, str]]:
        """Return the tap of the student and that of the source, of each layer that is compared."""
        parted = (layer.partition(":") for layer in options["at"])
        return [(own, source or own) for own, _, source in parted]

    def check(self, options: Mapping[str, Any]) -> None:
        """Refuse a layer that has no maps.

        Raises:
            ValueError: names it.
        """
        if any(EMBEDDING in layer for layer in self.layers(options)):
            raise ValueError(f"{EMBEDDING} is a vector, and maps are compared; take stages, such as stage1")
