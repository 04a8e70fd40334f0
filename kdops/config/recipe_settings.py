"""The settings of a recipe beside its architecture: for each its type, bounds and default. No PyTorch is imported here.

A new setting is one entry here, one field of :class:`~kdops.config.recipes.Recipe` and one parameter. Each is logged,
and is in a fingerprint where it differs from its default; laws over this table say that members that are stacked have
the weights that they have alone, whatever the setting.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kdops.config.augmentation import Augment, ViewCount
from kdops.config.options import Choice, Flag, Integer, Option, Real, Several
from kdops.config.specs import Spec, parse_spec, write_spec
from kdops.errors import UsageError

_BETAS = {
    "beta1": Real(0, 1, default=0.9, open_high=True),
    "beta2": Real(0, 1, default=0.999, open_high=True),
}
_WARMUP = Real(0, 1, default=0.0, open_high=True)

ADAMW, MUON, ONE_CYCLE = "adamw", "muon", "one-cycle"


class _Sgd(Spec):
    """The options of ``sgd``, which belong together."""

    def read(self, given: Mapping[str, str]) -> dict[str, Any]:
        """Return the value of each option.

        Raises:
            ValueError: for a value that is not allowed, and for Nesterov's momentum without momentum.
        """
        values = super().read(given)
        if values["nesterov"] and values["momentum"] == 0:
            raise ValueError("nesterov=true needs a momentum above 0")
        return values


OPTIMIZERS: Mapping[str, Spec] = {
    ADAMW: Spec("", **_BETAS),
    "adam": Spec("", **_BETAS),
    "sgd": _Sgd(momentum=Real(0, 1, default=0.9, open_high=True), nesterov=Flag()),
    MUON: Spec("", momentum=Real(0, 1, default=0.95, open_high=True)),
}
"""What makes a step of a gradient, see :mod:`kdops.training.optimizer`."""

DECAYS: Mapping[str, float] = {ADAMW: 0.01, "adam": 0.0, "sgd": 0.0005, MUON: 0.01}
"""The weight decay of each optimizer where none is given: that of ``adam`` and ``sgd`` is added to the gradient."""

SCHEDULES: Mapping[str, Spec] = {
    ONE_CYCLE: Spec(warmup=Real(0, 1, default=0.3, open_high=True)),
    "cosine": Spec(warmup=_WARMUP),
    "step": Spec(
        at=Several(Real(0, 1, open_low=True, open_high=True), default=(0.5, 0.75)),
        factor=Real(0, 1, default=0.1, open_low=True),
        warmup=_WARMUP,
    ),
    "constant": Spec(warmup=_WARMUP),
}
"""How the learning rate changes, see :mod:`kdops.training.schedule`; ``warmup`` and ``at`` are shares of the steps."""

BALANCED = "balanced"


@dataclass(frozen=True)
class Named(Option[str]):
    """A name of a table with its options, as canonical text."""

    table: Mapping[str, Spec]
    default: str = ""

    def read(self, text: str) -> str:
        """Read the name and its options."""
        try:
            return write_spec(*parse_spec(text, "", self.table), self.table)
        except UsageError as error:
            told = error.allowed
            raise ValueError(self.allowed() if told.startswith("must be ") else f"{self.allowed()}; {told}") from None

    def allowed(self) -> str:
        """Return the names with their options."""
        return f"one of {', '.join(name + spec.write(spec.defaults(), full=True) for name, spec in self.table.items())}"


SETTINGS: Mapping[str, Option] = {
    "epochs": Integer(1, 100_000),
    "batch_size": Integer(1, 1_000_000),
    "learning_rate": Real(0, 100, open_low=True),
    "weight_decay": Real(0, 100, default=DECAYS[ADAMW]),
    "optimizer": Named(OPTIMIZERS, ADAMW),
    "schedule": Named(SCHEDULES, ONE_CYCLE),
    "label_smoothing": Real(0, 1, open_high=True),
    "train_temperature": Real(0, 1000, default=1.0, open_low=True),
    "class_weights": Choice(("none", BALANCED), "none"),
    "normalize": Choice(("data", "unit", "none", "imagenet"), "data"),
    "augment": Augment(),
    "views": ViewCount(),
    "init": Choice(("pytorch", "glorot", "he"), "pytorch"),
}
"""Every setting of a recipe; the first three have no default of their own, but that of the data set."""
