"""Companies: nets that are trained together from scratch and learn from each other, without a source. No torch here.

A new method of a company is one file in ``kdops/distillation/`` and one entry in ``COMPANIES``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kdops.config.architectures import CNN, Architecture, parse_architecture
from kdops.config.method_specs import ChosenMethod, MethodSpec
from kdops.config.methods import LOGITS
from kdops.config.options import Choice, Flag, Real
from kdops.config.parameters import EntryPoint
from kdops.config.parsing import whole
from kdops.config.settings import HARD, Settings
from kdops.config.specs import parse_spec, split_outside
from kdops.errors import UsageError

ORDERS = ("simultaneous", "sequential")
"""Whether all nets of a company learn from the outputs before a step, or each from those after the steps before its."""

MOST_NETS = 32

MAPS = "maps"
"""In the place of taps: the method compares the last maps, the outputs of the last convolution's activation."""

_CHUNG = "Chung et al., Feature-map-level Online Adversarial Knowledge Distillation, 2020"


class PeerMapsSpec(MethodSpec):
    """A method by which nets learn each other's last maps, with an optimizer of its own for them."""

    def __init__(self, place: str, summary: str, reference: str):
        super().__init__(
            *(place, summary, reference, MAPS),
            has_modules=True,
            weight=Real(0, 1000, default=1.0),
            temperature=Real(0, 1000, default=3.0, open_low=True),
            rate=Real(0, 1, default=2e-5, open_low=True),
            decay=Real(0, 1, default=0.1),
            cyclic=Flag(True),
        )


COMPANIES: Mapping[str, MethodSpec] = {
    "independent": MethodSpec(
        "kdops.distillation.independent:Independent",
        "the labels alone; the control, of the same cost in parameters, images and epochs",
        "Zhang et al., Deep Mutual Learning, 2018",
        is_control=True,
    ),
    "mutual": MethodSpec(
        "kdops.distillation.mutual:MutualLearning",
        "the labels, and the softened outputs of each other net as they are now",
        "Zhang et al., Deep Mutual Learning, 2018",
        weight=Real(0, 1000, default=1.0),
        temperature=Real(0, 1000, default=1.0, open_low=True),
        order=Choice(ORDERS, default=ORDERS[0]),
    ),
    "aligned": PeerMapsSpec(
        "kdops.distillation.aligned:AlignedMaps",
        "the labels, the others' softened outputs, and another net's last map value by value",
        _CHUNG,
    ),
    "adversarial": PeerMapsSpec(
        "kdops.distillation.adversarial:AdversarialMaps",
        "the labels, the others' softened outputs, and last maps that a discriminator takes for another net's",
        _CHUNG,
    ),
}
"""By name, ``module:class`` of each, see :class:`kdops.distillation.company.CompanyMethod`, and its options."""


@dataclass(frozen=True)
class ChosenCompany(ChosenMethod):
    """A method of a company and the value of each of its options."""

    @property
    def temperature(self) -> float:
        """At what temperature its nets learn from each other; 0 where they learn from labels alone."""
        return float(self.options.get("temperature", HARD))

    def check_nets(self, nets: Sequence[Architecture]) -> None:
        """Refuse nets whose maps cannot be compared.

        Raises:
            UsageError: the method compares maps, and not all nets are convolutional, of as many layers.
        """
        layers = {net.layers if isinstance(net, CNN) else 0 for net in nets}
        if MAPS in self.spec.taps and (0 in layers or len(layers) > 1):
            given = "+".join(map(str, nets))
            raise UsageError("nets", given, f"must be cnn(...) with as many layers each: {self.name} compares maps")


INDEPENDENT = ChosenCompany("independent", {}, COMPANIES["independent"])
"""The control of every other company."""


@dataclass(frozen=True)
class MutualSettings(Settings):
    """Settings of a study of companies.

    Attributes:
        nets: the architecture of each net of a company.
        companies: the methods that are held against independent nets.
    """

    nets: tuple[Architecture, ...]
    companies: tuple[ChosenCompany, ...]

    @classmethod
    def read(cls, point: EntryPoint, text: Mapping[str, str]) -> dict[str, Any]:
        """Return the value of every field."""
        values = super().read(point, text)
        values["selection"].refuse("nets that see the same batches", "bootstrap")
        if values["method"] != LOGITS:
            raise UsageError("method", values["method"], "is for students of a source; company names how nets learn")
        if text["order"] != "shared":
            raise UsageError("order", text["order"], "must be shared: the nets of a company see the same batches")
        nets = parse_nets(text["nets"], values["recipes"]["peer"].architecture)
        companies = tuple(parse_company(part.strip()) for part in split_outside(text["company"]))
        for one in companies:
            if companies.count(one) > 1:
                raise UsageError("company", text["company"], f"{one} is given twice")
            one.check_nets(nets)
            if one == INDEPENDENT:
                raise UsageError("company", text["company"], f"{one} nets are trained beside every other company")
        return {**values, "nets": nets, "companies": companies}

    @property
    def subject(self) -> str:
        """The methods and the size of a company."""
        return f"{', '.join(map(str, self.companies))} x {len(self.nets)}"

    def as_dict(self) -> dict[str, object]:
        """Return the settings as plain JSON values."""
        listed = {"nets": [str(net) for net in self.nets], "companies": [str(one) for one in self.companies]}
        return {**super().as_dict(), **listed}


def parse_company(text: str) -> ChosenCompany:
    """Parse a method of a company, ``name`` or ``name(option=value,...)``.

    Raises:
        UsageError: for an unknown method or option, a doubled option, or a value that is not allowed.
    """
    name, options = parse_spec(text, "company", COMPANIES)
    return ChosenCompany(name, options, COMPANIES[name])


def parse_nets(text: str, usual: Architecture) -> tuple[Architecture, ...]:
    """Parse the nets of a company: how many of the usual one, or architectures such as ``mlp(hidden=50)+mlp``.

    Args:
        usual: the architecture of each where only a number is given.

    Raises:
        UsageError: there are fewer than two or more than ``MOST_NETS``, or one is no network of kdops's own.
    """
    allowed = f"must be a number from 2 to {MOST_NETS}, or as many architectures: mlp(hidden=50)+mlp(hidden=20)"
    if text.isdecimal():
        nets = (usual,) * whole("nets", text, 2, MOST_NETS)
    else:
        nets = tuple(parse_architecture(part, "nets") for part in split_outside(text, "+"))
    if not 2 <= len(nets) <= MOST_NETS:
        raise UsageError("nets", text or "(empty)", allowed)
    for net in nets:
        if not net.is_counted:
            raise UsageError("nets", text, f"{net} is no network of kdops's own; {allowed}")
    return nets
