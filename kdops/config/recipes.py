"""What each role is made of and trained with, where no parameter sets it.

The paper states neither epochs, optimizer, learning rate nor the student's width; these values are ours:
common ones, set beforehand and not searched for, and none was chosen by test images. Every one is a parameter and
is logged. Those of a data set that kdops knows stand in its entry in :mod:`kdops.config.datasets`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from dataclasses import replace as _replace
from typing import Any

from kdops.config.architectures import Architecture, parse_architecture
from kdops.config.augmentation import Augment
from kdops.config.options import Option
from kdops.config.recipe_settings import ADAMW, DECAYS, SETTINGS
from kdops.config.roles import ROLES
from kdops.config.specs import split_outside, split_spec
from kdops.config.tree import Tree
from kdops.errors import UsageError


@dataclass(frozen=True)
class Recipe:
    """How a role is built and trained.

    Attributes:
        architecture: the network.
        epochs: passes over the images; the last one is kept.
        batch_size: images a step.
        learning_rate: the highest rate of the schedule.
        weight_decay: a step; decoupled of ``adamw`` and ``muon``, of other optimizers added to the gradient.
        optimizer: text of ``OPTIMIZERS``.
        schedule: text of ``SCHEDULES``.
        label_smoothing: share of each label that is spread over all classes (Szegedy et al., 2016).
        train_temperature: what logits are divided by where labels are learned; the network is used at 1 (Papernot et
            al., 2016).
        class_weights: ``balanced`` weights each label by how rare its class is among the labels that are learned.
        normalize: what pixels are shifted and scaled by: ``data`` (mean and deviation of each channel), ``unit`` (0 to
            1), ``none``, ``imagenet``.
        augment: how training images are augmented, text of ``AUGMENTATIONS``, or ``none``.
        views: how many views of each image there are, one an epoch in turn, or ``live``: another one in every epoch.
        init: how weights are drawn: as ``pytorch`` does, ``glorot`` (Glorot and Bengio, 2010) or ``he`` (He et al.,
            2015).
        has_given_decay: whether ``weight_decay`` was given, so that another optimizer keeps it; no setting, and not
            compared.

    Raises:
        UsageError: ``init`` is given for a network that others wrote, which initializes itself, or a tree, whose loss
            has a term of its own, is to learn weighted or tempered labels.
    """

    architecture: Architecture
    epochs: int
    batch_size: int
    learning_rate: float
    weight_decay: float = DECAYS[ADAMW]
    optimizer: str = SETTINGS["optimizer"].default
    schedule: str = SETTINGS["schedule"].default
    label_smoothing: float = 0.0
    train_temperature: float = SETTINGS["train_temperature"].default
    class_weights: str = SETTINGS["class_weights"].default
    normalize: str = SETTINGS["normalize"].default
    augment: str = SETTINGS["augment"].default
    views: str = SETTINGS["views"].default
    init: str = SETTINGS["init"].default
    has_given_decay: bool = field(default=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        """Check what depends on the network."""
        for name in ("class_weights", "train_temperature") if isinstance(self.architecture, Tree) else ():
            if (value := getattr(self, name)) != SETTINGS[name].default:
                told = f"{self.architecture} has a loss of its own, of plain labels; give {name} by role"
                raise UsageError(name, SETTINGS[name].write(value), told)
        if self.init != SETTINGS["init"].default and not self.architecture.is_counted:
            raise UsageError("init", self.init, f"{self.architecture} initializes itself; give init by role")

    def replace(self, **changes: Any) -> Recipe:
        """Return a copy with some values changed."""
        return _replace(self, **changes)

    def with_settings(self, values: Mapping[str, Any]) -> Recipe:
        """Return a copy with other settings; another optimizer has its own weight decay, unless one was given."""
        given = self.has_given_decay or "weight_decay" in values
        changed = self.replace(**values, has_given_decay=given)
        keeps = given or self.weight_decay != decay_of(self.optimizer)
        return changed if keeps else changed.replace(weight_decay=decay_of(changed.optimizer))

    def check_channels(self, channels: int) -> None:
        """Refuse images that ImageNet's statistics, where the recipe normalizes by them, are not for.

        Raises:
            UsageError: they have neither 1 nor 3 channels.
        """
        if self.normalize == "imagenet" and channels not in (1, 3):
            raise UsageError("normalize", "imagenet", f"is for images of 1 or 3 channels; these have {channels}")

    def as_dict(self) -> dict[str, object]:
        """Return plain JSON values, without settings that stores of earlier versions lack and that have their default.

        The architecture is its canonical text.
        """
        plain = {"architecture": str(self.architecture)}
        return plain | {n: getattr(self, n) for n in SETTINGS if n in FIRST or getattr(self, n) != SETTINGS[n].default}

    def params(self) -> dict[str, str]:
        """Return the settings as the run of a model records them."""
        values = {name: getattr(self, name) for name in SETTINGS}
        return {name: f"{value:g}" if isinstance(value, float) else str(value) for name, value in values.items()}


FIRST = ("epochs", "batch_size", "learning_rate", "weight_decay")
"""The settings that were always recorded."""

LATER = {name: option.write(option.default) for name, option in SETTINGS.items() if name not in FIRST}
"""The other settings, with what runs of earlier versions, which do not record them, were trained with."""


def decay_of(optimizer: str) -> float:
    """Return the weight decay of an optimizer where none is given."""
    return DECAYS[split_spec(optimizer)[0]]


def recipe(architecture: str, epochs: int, batch_size: int, learning_rate: float) -> Recipe:
    """Return a recipe, its architecture given as text."""
    return Recipe(parse_architecture(architecture), epochs, batch_size, learning_rate)


IMAGES: Mapping[str, Recipe] = {
    "teacher": recipe("cnn(filters=64,layers=3,dropout=0.1/0.2/0.3)", 20, 64, 2e-3),
    "student": recipe("cnn(filters=16,layers=3,dropout=0)", 30, 64, 3e-3),
    "middle": recipe("cnn(filters=32,layers=3,dropout=0)", 30, 64, 3e-3),
}
"""Recipes for images of one's own: a start, not tuned to anything.

Of a color image a dense student soon has more parameters than its teacher: 154,160 against 85,898 at 32 x 32 pixels.
"""

TABLE: Mapping[str, Recipe] = {
    "teacher": recipe("mlp(hidden=256,depth=3,dropout=0.1)", 60, 32, 2e-3),
    "student": recipe("mlp(hidden=50,depth=1)", 60, 32, 1e-2),
    "middle": recipe("mlp(hidden=50,depth=2)", 60, 32, 1e-2),
}
"""The same for a table of one's own."""


def parse_recipes(usual: Mapping[str, Recipe], text: Mapping[str, str]) -> dict[str, Recipe]:
    """Lay the caller's values over the data set's recipe for each role.

    Args:
        usual: the data set's recipe for each of ``BASE_ROLES``.
        text: the parameters of ``SETTINGS`` and of ``BASE_ROLES``.

    Raises:
        UsageError: names the parameter, its value and what is allowed.
    """
    given = {name: _by_role(name, text[name], option) for name, option in SETTINGS.items()}
    recipes: dict[str, Recipe] = {}
    for name, role in ROLES.items():
        chosen = {option: values[name] for option, values in given.items() if name in values}
        if role.has_own_recipe and text[name] != "auto":
            chosen["architecture"] = parse_architecture(text[name], parameter=name)
        recipes[name] = (usual[name] if role.has_own_recipe else recipes[role.like]).with_settings(chosen)
    return recipes


def _by_role(name: str, text: str, option: Option) -> dict[str, object]:
    """Parse ``auto``, one value for all roles, or ``role=value,role=value``."""
    if text == "auto":
        return {}
    pieces = split_outside(text, "=")
    # An augmentation is written with signs of its own: crop=4 flip=true.
    if len(pieces) == 1 or (isinstance(option, Augment) and pieces[0].strip() not in ROLES):
        try:
            return dict.fromkeys(ROLES, option.read(text))
        except ValueError as error:
            raise UsageError(name, text or "(empty)", f"must be {error}") from None
    values = {}
    for part in split_outside(text):
        role, _, value = (piece.strip() for piece in part.partition("="))
        if role not in ROLES:
            raise UsageError(name, text, f"unknown role {role!r}; the roles are {', '.join(ROLES)}")
        if role in values:
            raise UsageError(name, text, f"the role {role} is given twice")
        if value != "auto":
            try:
                values[role] = option.read(value)
            except ValueError as error:
                raise UsageError(name, text, f"the value of {role} must be {error}") from None
    return values
