"""Several models as one source, whose softened probabilities are averaged at the temperature of the students."""

from __future__ import annotations

import math
from collections.abc import Sequence

from kdops.sweeps.fingerprint import fingerprint
from kdops.sweeps.model import FOREIGN, Model


def describe_mixture(models: Sequence[Model], shares: Sequence[float], seed: int = 0) -> Model:
    """Return what is known of several models as one source; nothing of it is measured.

    Args:
        models: two or more.
        shares: of each model, above zero; they sum to 1.
        seed: the replicate that learns from it.
    """
    chains = {model.chain for model in models}
    return Model(
        role=FOREIGN,
        seed=seed,
        temperature=math.nan,
        chain=chains.pop() if len(chains) == 1 else "several",
        source="",
        uri=" ".join(model.uri for model in models),
        model_id=" ".join(model.model_id for model in models if model.model_id),
        select_on="test" if any(model.select_on == "test" for model in models) else "validation",
        weights=fingerprint(mixture=[(share, model.weights) for share, model in zip(shares, models, strict=True)]),
    )


def equal_shares(count: int) -> list[float]:
    """Return the share of each of some models that count alike."""
    return [1 / count] * count
