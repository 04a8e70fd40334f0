"""The attacks on trained networks, by name; a new one is one file in ``kdops/probing/`` and one entry here. No PyTorch.

They evaluate models of one's own: how far an image must be changed until it is taken for another class.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kdops.config.options import Choice, Integer, Real
from kdops.config.specs import Spec, parse_spec, split_outside, write_spec
from kdops.errors import UsageError

__all__ = ["ANY", "ATTACKS", "RANDOM", "Attack", "parse_attacks"]

ANY, RANDOM = "any", "random"

_TARGET = {"target": Choice((ANY, RANDOM), ANY)}
"""What counts as success: any other class, or one that is drawn for each image."""
_TEMPERATURE = {"temperature": Real(0, 1000, default=1.0, open_low=True)}
"""What logits are divided by before the softmax that the attack follows."""
_EPSILON = {"epsilon": Real(0, 1, default=0.1, open_low=True)}
"""By how much each value of an image in [0, 1] may change."""


def _iterations(default: int) -> dict[str, Integer]:
    return {"iterations": Integer(1, 100_000, default=default)}


ATTACKS: Mapping[str, Spec] = {
    "fgsm": Spec("kdops.probing.fgsm:fgsm", **_EPSILON, **_TEMPERATURE, **_TARGET),
    "pgd": Spec("kdops.probing.pgd:pgd", **_EPSILON, **_iterations(40), **_TARGET),
    "jsma": Spec("kdops.probing.jsma:jsma", share=Real(0, 1, default=0.145, open_low=True), **_TEMPERATURE, **_TARGET),
    "cw0": Spec("kdops.probing.cw0:cw0", **_iterations(50), **_TARGET),
    "cw2": Spec("kdops.probing.cw2:cw2", **_iterations(100), searches=Integer(1, 100, default=6), **_TARGET),
    "cwinf": Spec("kdops.probing.cwinf:cwinf", **_iterations(50), **_TARGET),
}
"""Every attack: the place of its code and its options."""


@dataclass(frozen=True)
class Attack:
    """An attack and the value of each of its options.

    Attributes:
        name: of the attack, in the table.
        options: every option's value.
    """

    name: str
    options: Mapping[str, Any]

    def __str__(self) -> str:
        """Return the text with all options, which means the same whatever becomes of the defaults."""
        return write_spec(self.name, self.options, ATTACKS, full=True)


def parse_attacks(text: str) -> tuple[Attack, ...]:
    """Parse ``name(option=value,...)`` of one attack or several, parted by commas.

    Raises:
        UsageError: for an unknown name or option, a value that is not allowed, or an attack given twice.
    """
    found = [Attack(*parse_spec(part.strip(), "attack", ATTACKS)) for part in split_outside(text)]
    for attack in found:
        if [one.name for one in found].count(attack.name) > 1:
            raise UsageError("attack", text, f"has {attack.name} twice; its metrics would have one name")
    return tuple(found)
