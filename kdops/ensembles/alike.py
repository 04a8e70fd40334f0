"""Which models were trained alike, by the parameters of their runs: only these make one ensemble."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from kdops.config.methods import method_apart
from kdops.config.recipe_settings import SETTINGS
from kdops.sweeps.model import LABELS, Model
from kdops.sweeps.params import (
    ALPHA,
    ARCHITECTURE,
    BOOTSTRAP,
    COMPANY,
    FRAMES,
    LABEL_NOISE,
    LEAVE_OUT,
    METHOD,
    NETS,
    ORDER,
    T_SQUARED,
    UNLABELED,
)

FEWEST = 2
"""The fewest members of an ensemble."""

TRAINED = (ARCHITECTURE, *SETTINGS, COMPANY, NETS, LEAVE_OUT, FRAMES, LABEL_NOISE, BOOTSTRAP, UNLABELED)
DISTILLED = (METHOD, ALPHA, T_SQUARED, ORDER)
"""Parameters of a run that record how its model was trained; the second ones do not matter for learning from labels."""


def newest_training(
    members: Sequence[Model], sources: Mapping[str, Model], left_out: Counter[str]
) -> dict[int, list[Model]]:
    """Keep what was trained like the newest, in each replicate from its newest source, each training once.

    Args:
        members: models, the newest first.
        sources: what each was distilled from, by the URI of the member, as far as it is known.
        left_out: takes how many are left out for which reason.

    Returns:
        The members of each replicate by its number.
    """
    trainings = [_training_of(member, sources.get(member.uri)) for member in members]
    origins = [_origin_of(member, sources) for member in members]
    single = _are_single(members, trainings, origins)
    left_out["single nets of their training"] += sum(single)
    found = [one for one, alone in zip(zip(members, trainings, origins, strict=True), single, strict=True) if not alone]
    counted = found[0][1] if found else {}
    kept: dict[int, list[Model]] = {}
    seen: set[tuple[int, float]] = set()
    newest: dict[int, str] = {}
    for member, training, origin in found:
        other = {name: value for name, value in training.items() if counted.get(name, value) != value}
        if other:
            left_out[f"trained with {', '.join(f'{name}={value}' for name, value in other.items())}"] += 1
        elif newest.setdefault(member.replicate, origin) != origin:
            left_out["of an older source"] += 1
        elif (member.seed, member.temperature) in seen:
            left_out["trained again since"] += 1
        else:
            seen.add((member.seed, member.temperature))
            kept.setdefault(member.replicate, []).append(member)
    return kept


def _are_single(members: Sequence[Model], trainings: Sequence[Mapping[str, str]], origins: Sequence[str]) -> list[bool]:
    """Return which models are single nets beside a sweep, such as a search trains with fresh seeds.

    They do not decide which training counts. A model is single if it is alone of its training and source in its
    replicate, where others of the replicate are not, or where no other model has its training.
    """
    ways = [tuple(training.items()) for training in trainings]
    places = [(member.replicate, origin, way) for member, origin, way in zip(members, origins, ways, strict=True)]
    sweeps = {place for place, count in Counter(places).items() if count >= FEWEST}
    replicates, swept = {replicate for replicate, _, _ in sweeps}, {way for _, _, way in sweeps}
    return [
        bool(sweeps) and place not in sweeps and (place[0] in replicates or place[2] not in swept) for place in places
    ]


def _training_of(member: Model, source: Model | None) -> dict[str, str]:
    """Return the parameters that a model was trained with, and its source, where that is known."""
    parameters = {"chain": member.chain, **_params(member, (*TRAINED, *DISTILLED))}
    if source is None:
        return parameters
    names = TRAINED if source.source == LABELS else (*TRAINED, *DISTILLED)
    return parameters | {f"source {name}": value for name, value in _params(source, names).items()}


def _origin_of(member: Model, sources: Mapping[str, Model]) -> str:
    """Return what identifies a source: the digest of its weights, else its URI."""
    return sources[member.uri].weights if member.uri in sources else member.source


def _params(model: Model, names: Sequence[str]) -> dict[str, str]:
    params = model.recipe_params
    return {name: method_apart(model.method) if name == METHOD else params.get(name, "") for name in names}
