"""The settings of a study: every parameter once, with its default, its meaning and its check.

``PARAMETERS`` is the single list behind the command line, ``MLproject`` and the pipelines: all of them
take their names and defaults from here, and a test compares ``MLproject`` with it.
This module imports neither torch nor MLflow, so a wrong value is refused before anything heavy loads.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields

from kdops.architectures import Architecture, parse_architecture
from kdops.errors import UsageError
from kdops.recipes import RECIPES, ROLES, Recipe

__all__ = ["ENTRY_POINTS", "HARD", "PARAMETERS", "EntryPoint", "Parameter", "Settings", "parse_temperatures"]

HARD = 0.0
"""The temperature that means training on hard labels."""

TRANSFERS = ("disjoint", "shared", "fresh")
ORDERS = ("shared", "own")
SELECTIONS = ("validation", "test")
DEVICES = ("auto", "cpu", "cuda")
HIGHEST_TEMPERATURE = 1000.0
MOST_TEMPERATURES = 1000


@dataclass(frozen=True)
class Parameter:
    """One parameter of an entry point: its name, its default as text, and what it means."""

    name: str
    default: str
    help: str


PARAMETERS: tuple[Parameter, ...] = (
    Parameter("dataset", "digits", f"data set: {', '.join(RECIPES)}"),
    Parameter("data_root", "", "folder with the data; empty: KDOPS_DATA_ROOT, else the user's cache folder"),
    Parameter("temperatures", "1-20", "temperatures of the sweep, such as 1-20 or 1,2,4-8"),
    Parameter("seeds", "3", "replicates of the whole chain, teacher included"),
    Parameter("seed", "0", "seed of the first replicate; it moves initialisation, batch order and dropout"),
    Parameter("split_seed", "0", "seed of the split into teacher, transfer and validation images"),
    Parameter("teacher", "auto", "architecture of the teacher, such as cnn(filters=128,layers=3)"),
    Parameter("student", "auto", "architecture of the student, such as mlp(hidden=50)"),
    Parameter("middle", "auto", "architecture of the middle net, such as mlp(hidden=50,depth=2)"),
    Parameter("epochs", "auto", "epochs, for all roles (10) or by role (teacher=6,student=10)"),
    Parameter("batch_size", "auto", "images a step, for all roles or by role"),
    Parameter("learning_rate", "auto", "highest learning rate, for all roles or by role"),
    Parameter("transfer", "disjoint", "images to distil on: disjoint from the teacher's, shared, or fresh"),
    Parameter("alpha", "1.0", "weight of the soft term of the loss, 0 to 1"),
    Parameter("t_squared", "true", "multiply the soft term by the squared temperature"),
    Parameter("order", "shared", "batch order of one replicate's members: shared or own"),
    Parameter("select_on", "validation", "choose the best on validation, or on test to mimic the paper"),
    Parameter("margin", "0.02", "accuracy difference that counts as none"),
    Parameter("device", "auto", "auto, cpu or cuda"),
    Parameter("fresh", "false", "train again what is already there"),
    Parameter("dry_run", "false", "say which models, how long and how much disk, and stop"),
)


@dataclass(frozen=True)
class EntryPoint:
    """One entry point of the project: what it does, and the defaults that differ from the shared ones."""

    help: str
    defaults: Mapping[str, str]

    def parameters(self) -> tuple[Parameter, ...]:
        """Give the parameters of this entry point, in order, with its own defaults."""
        return tuple(Parameter(p.name, self.defaults.get(p.name, p.default), p.help) for p in PARAMETERS)


ENTRY_POINTS: Mapping[str, EntryPoint] = {
    "teacher": EntryPoint("Train the teacher on labels, once for each replicate.", {}),
    "students": EntryPoint(
        "Distil the teacher into the student at every temperature (figure 1).", {"temperatures": "1-29"}
    ),
    "transitivity": EntryPoint(
        "Does distilling through a middle net give the student that distilling directly gives?", {}
    ),
}


@dataclass(frozen=True)
class Settings:
    """The checked settings of one study.

    Make it with :meth:`parse` from the text that a command line or MLflow gives.

    Attributes:
        temperatures: the temperatures above zero, ascending; hard labels (T = 0) are added by the sweeps.
        recipes: for each role its architecture, epochs, batch size and learning rate.
        alpha: weight of the soft term, in [0, 1].
        margin: accuracy difference (a fraction, 0.02 is two points) that counts as equivalence.
    """

    dataset: str
    data_root: str
    temperatures: tuple[float, ...]
    seeds: int
    seed: int
    split_seed: int
    recipes: Mapping[str, Recipe]
    transfer: str
    alpha: float
    t_squared: bool
    order: str
    select_on: str
    margin: float
    device: str
    fresh: bool
    dry_run: bool

    @classmethod
    def parse(cls, entry_point: str = "transitivity", **given: str) -> Settings:
        """Check the text of every parameter and give the settings.

        Args:
            entry_point: whose defaults hold for what is not given.
            **given: parameters as text, by name.

        Raises:
            UsageError: names the parameter, its value and what is allowed.
        """
        defaults = {p.name: p.default for p in ENTRY_POINTS[entry_point].parameters()}
        for name in given:
            if name not in defaults:
                raise UsageError(name, given[name], f"no such parameter; there are {', '.join(defaults)}")
        text = {**defaults, **{name: str(value).strip() for name, value in given.items()}}
        dataset = _one_of("dataset", text["dataset"], RECIPES)
        return cls(
            dataset=dataset,
            data_root=text["data_root"],
            temperatures=parse_temperatures(text["temperatures"]),
            seeds=_integer("seeds", text["seeds"], 1, 1000),
            seed=_integer("seed", text["seed"], 0, 2**31 - 1),
            split_seed=_integer("split_seed", text["split_seed"], 0, 2**31 - 1),
            recipes=_recipes(dataset, text),
            transfer=_one_of("transfer", text["transfer"], TRANSFERS),
            alpha=_real("alpha", text["alpha"], 0.0, 1.0),
            t_squared=_boolean("t_squared", text["t_squared"]),
            order=_one_of("order", text["order"], ORDERS),
            select_on=_one_of("select_on", text["select_on"], SELECTIONS),
            margin=_real("margin", text["margin"], 0.0, 1.0, open_low=True),
            device=_one_of("device", text["device"], DEVICES),
            fresh=_boolean("fresh", text["fresh"]),
            dry_run=_boolean("dry_run", text["dry_run"]),
        )

    def replicates(self) -> tuple[int, ...]:
        """Give the seed of every replicate, in order."""
        return tuple(range(self.seed, self.seed + self.seeds))

    def as_dict(self) -> dict[str, object]:
        """Give the settings as plain JSON values, architectures as text."""
        plain = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "recipes"}
        plain["temperatures"] = list(self.temperatures)
        plain["recipes"] = {role: recipe.as_dict() for role, recipe in self.recipes.items()}
        return plain


def parse_temperatures(text: str) -> tuple[float, ...]:
    """Parse temperatures such as ``1-20`` or ``1,2,4-8`` or ``2.5``, ascending and without doubles.

    Raises:
        UsageError: for anything else, for a range that runs backwards, and where none is above zero.
    """
    allowed = "must be a list such as 1-20 or 1,2.5,4-8, above 0 and at most 1000 (0 means hard labels)"
    found: set[float] = set()
    for part in text.split(","):
        part = part.strip()
        if re.fullmatch(r"\d{1,4}-\d{1,4}", part):
            low, high = (int(end) for end in part.split("-"))
            if low > high:
                raise UsageError("temperatures", text, f"the range {part} runs backwards; write {high}-{low}")
            found.update(float(t) for t in range(low, high + 1))
        elif re.fullmatch(r"\d{1,4}(\.\d{1,2})?", part):
            found.add(float(part))
        else:
            raise UsageError("temperatures", text or "(empty)", allowed)
    soft = tuple(sorted(t for t in found if t != HARD))
    if not soft or soft[-1] > HIGHEST_TEMPERATURE or len(soft) > MOST_TEMPERATURES:
        raise UsageError("temperatures", text, allowed)
    return soft


def _recipes(dataset: str, text: Mapping[str, str]) -> dict[str, Recipe]:
    """Lay the caller's values over the data set's recipe for each role."""
    given = {
        "epochs": _by_role("epochs", text["epochs"], lambda n, v: _integer(n, v, 1, 100_000)),
        "batch_size": _by_role("batch_size", text["batch_size"], lambda n, v: _integer(n, v, 1, 1_000_000)),
        "learning_rate": _by_role(
            "learning_rate", text["learning_rate"], lambda n, v: _real(n, v, 0.0, 100.0, open_low=True)
        ),
    }
    recipes = {}
    for role in ROLES:
        recipe = RECIPES[dataset][role]
        chosen: dict[str, object] = {name: values[role] for name, values in given.items() if role in values}
        if text[role] != "auto":
            chosen["architecture"] = _architecture(role, text[role])
        recipes[role] = recipe.replace(**chosen)
    return recipes


def _architecture(parameter: str, text: str) -> Architecture:
    return parse_architecture(text, parameter=parameter)


def _by_role(name: str, text: str, check) -> dict[str, object]:
    """Parse ``auto``, one value for all roles, or ``role=value,role=value``."""
    if text == "auto":
        return {}
    if "=" not in text:
        value = check(name, text)
        return dict.fromkeys(ROLES, value)
    values = {}
    for part in text.split(","):
        role, _, value = (piece.strip() for piece in part.partition("="))
        if role not in ROLES:
            raise UsageError(name, text, f"unknown role {role!r}; the roles are {', '.join(ROLES)}")
        if role in values:
            raise UsageError(name, text, f"the role {role} is given twice")
        if value != "auto":
            try:
                values[role] = check(name, value)
            except UsageError as error:
                raise UsageError(name, text, f"the value of {role} {error.allowed}") from None
    return values


def _one_of(name: str, value: str, allowed) -> str:
    if value not in allowed:
        raise UsageError(name, value or "(empty)", f"must be one of {', '.join(allowed)}")
    return value


def _integer(name: str, value: str, low: int, high: int) -> int:
    if not re.fullmatch(r"[+-]?\d{1,12}", value) or not low <= int(value) <= high:
        raise UsageError(name, value or "(empty)", f"must be a whole number from {low} to {high}")
    return int(value)


def _real(name: str, value: str, low: float, high: float, *, open_low: bool = False) -> float:
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not (low < number if open_low else low <= number) or not number <= high:
        bound = f"above {low:g}" if open_low else f"from {low:g}"
        raise UsageError(name, value or "(empty)", f"must be a number {bound} and at most {high:g}")
    return number


def _boolean(name: str, value: str) -> bool:
    lowered = value.lower()
    if lowered not in ("true", "false"):
        raise UsageError(name, value or "(empty)", "must be true or false")
    return lowered == "true"
