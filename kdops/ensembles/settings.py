"""The settings that drawn members were trained with: what a study of theirs reports, and trains its controls by."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from kdops.config.architectures import FunctionNet, parse_architecture
from kdops.config.method_specs import ChosenMethod
from kdops.config.methods import LOGITS, method_apart, parse_method
from kdops.config.recipe_settings import SETTINGS
from kdops.config.recipes import Recipe
from kdops.config.roles import ROLES
from kdops.config.studies import EnsembleSettings
from kdops.ensembles.messages import describe_replicates
from kdops.errors import KdopsError
from kdops.sweeps.model import Model
from kdops.sweeps.params import ALPHA, ARCHITECTURE, METHOD, ORDER, T_SQUARED

logger = logging.getLogger(__name__)

RECIPE: Mapping[str, Callable[[str], object]] = {
    ARCHITECTURE: parse_architecture,
    **{name: option.read for name, option in SETTINGS.items()},
}
"""How each value of a recipe is read from a run's parameters."""

SOFT: Mapping[str, Callable[[str], object]] = {
    METHOD: str,
    ALPHA: float,
    T_SQUARED: lambda text: text == "true",
    ORDER: str,
}
"""The same of the settings of distillation."""


def settings_of_members(
    settings: EnsembleSettings, members: Iterable[Model], seeds: Sequence[int], sources: Iterable[Model]
) -> tuple[EnsembleSettings, str]:
    """Return settings with those that drawn members were trained with, where kdops trained them.

    Where members differ, as those that were listed may, no setting can express it; the settings stay. A role with
    another's recipe, such as the controls of students, follows it in what was not set apart.

    Args:
        seeds: the replicates that they are of.
        sources: what the members were distilled from.

    Returns:
        The settings with the members' replicates, recipes, method and ``order``, and sentences on what they lack.
    """
    own = [member for member in members if member.own]
    recipes, mixed = dict(settings.recipes), []
    trained = [*own, *sources]
    # Roles with a recipe of their own first, so that what follows them can still be distinguished.
    roles = {model.role for model in trained} & set(recipes)
    for role in sorted(roles, key=lambda role: not ROLES[role].has_own_recipe):
        runs = [model.recipe_params for model in trained if model.role == role]
        read, several = _common(runs, RECIPE, recipes[role].__dict__)
        # Code that a stored run names is not imported; without it no controls are trained.
        if isinstance(stored := read.get(ARCHITECTURE), FunctionNet) and stored != recipes[role].architecture:
            del read[ARCHITECTURE]
        mixed += [f"{role} {name}" for name in several]
        recipes = _laid_over(recipes, role, recipes[role].replace(**read))
    # These do not apply to models that learned from labels.
    params: list[Mapping[str, str]] = [{**m.params, METHOD: method_apart(m.method)} for m in own if m.temperature != 0]
    soft, several = _common(params, SOFT, _soft_settings(settings))
    mixed += several
    order, method = str(soft.pop(ORDER, settings.order)), _method_of(settings, soft)
    sentences = [f"The members were trained with more than one {' and '.join(mixed)}."] if mixed else []
    if seeds != tuple(range(min(seeds), min(seeds) + (settings.seeds or len(seeds)))):
        sentences.append(f"They are of {describe_replicates(seeds)}.")
    settings = replace(settings, order=order, method=method, recipes=recipes, seed=min(seeds), seeds=len(seeds))
    return settings, " ".join(sentences)


def _soft_settings(settings: EnsembleSettings) -> dict[str, object]:
    """Return the settings of distillation under the names of a run's parameters."""
    method = settings.method
    return {
        METHOD: method_apart(str(method)),
        ALPHA: method.soft_weight,
        T_SQUARED: method.t_squared,
        ORDER: settings.order,
    }


def _method_of(settings: EnsembleSettings, read: Mapping[str, Any]) -> ChosenMethod:
    """Return the method that members share, as far as they do."""
    method = settings.method
    if METHOD in read and read[METHOD] != method.name:
        method = parse_method(read[METHOD])
    return method.with_options(read) if method.name == LOGITS.name else method


def _common(
    runs: list[Mapping[str, str]], readers: Mapping[str, Callable[[str], object]], here: Mapping[str, object]
) -> tuple[dict[str, object], list[str]]:
    """Return the values that all runs share, and the names of those that they do not.

    One that cannot be read is left out, with one line in the log.
    """
    read, several = {}, []
    for name, reader in readers.items():
        texts = {params[name] for params in runs if name in params}
        if len(texts) > 1:
            several.append(name)
        elif texts:
            (text,) = texts
            # A run stores a number with six digits; where the settings agree, theirs is the whole one.
            same = isinstance(here[name], float) and f"{here[name]:g}" == text
            try:
                read[name] = here[name] if same else reader(text)
            except (ValueError, KdopsError):
                logger.warning("%s=%s of the members or their sources cannot be read and is left out", name, text)
    return read, several


def _laid_over(recipes: Mapping[str, Recipe], role: str, recipe: Recipe) -> dict[str, Recipe]:
    """Change a role's recipe, and those like it in all in which they were like it."""
    before, changed = recipes[role].__dict__, {role: recipe}
    for other in (name for name, one in ROLES.items() if one.like == role != name):
        apart = {name: value for name, value in recipes[other].__dict__.items() if value != before[name]}
        changed[other] = recipe.replace(**apart)
    return {**recipes, **changed}
