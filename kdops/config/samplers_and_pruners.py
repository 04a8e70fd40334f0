"""What a search looks for, what chooses the values of its trials, and what ends a trial early: tables of names."""

from __future__ import annotations

from collections.abc import Mapping

from kdops.config.criterion import SCORES
from kdops.config.options import Integer
from kdops.config.specs import Spec
from kdops.errors import UsageError

NLL_OBJECTIVE = "val_nll"
"""The objective of the lowest loss on validation; a metric has the same name."""

OBJECTIVES: Mapping[tuple[str, ...], tuple[str, ...]] = {
    (NLL_OBJECTIVE,): ("minimize",),
    **{
        (score, *costs): ("maximize", *["minimize"] * len(costs))
        for score in SCORES
        for costs in ((), ("parameters",), ("flops",), ("parameters", "flops"))
    },
}
"""What a search may look for, and which way is better. Scores and ``val_nll`` are those of validation."""

SAMPLERS: Mapping[str, Spec] = {
    "tpe": Spec(startup=Integer(0, 100_000, default=10)),
    "random": Spec(),
    "grid": Spec(points=Integer(1, 100, default=3)),
}
"""What chooses the values of a trial: the tree-structured Parzen estimator, whose first ``startup`` trials are random;
chance; or a grid of ``points`` values of each range."""

PRUNERS: Mapping[str, Spec] = {
    "median": Spec(startup=Integer(0, 100_000, default=10), warmup=Integer(0, 100_000, default=3)),
    "none": Spec(),
}
"""What ends a trial early: being worse than the median of the trials before it, once there are ``startup`` of them and
``warmup`` epochs are over; or nothing."""


def parse_objectives(text: str) -> tuple[str, ...]:
    """Parse what a search looks for, ``accuracy,parameters``.

    Raises:
        UsageError: for anything that is not in :data:`OBJECTIVES`.
    """
    objectives = tuple(part.strip() for part in text.split(","))
    if objectives not in OBJECTIVES:
        known = "; ".join(",".join(known) for known in OBJECTIVES)
        raise UsageError("objective", " ".join(text.split()) or "(empty)", f"must be one of: {known}")
    return objectives
