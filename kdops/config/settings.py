"""The settings of a study: the text of every parameter, checked.

Parameters that every entry point has are fields of :class:`Settings`; an entry point with parameters of its own has a
subclass. This module imports neither torch nor MLflow, so a wrong value is refused before anything heavy loads.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from importlib import import_module
from typing import Any, ClassVar

from kdops.config.criterion import SCORES, SELECTIONS, Criterion
from kdops.config.datasets import DATASETS, DatasetSpec, parse_dataset
from kdops.config.distillations import Distillation
from kdops.config.engines import AUTO_WORKERS, LOCAL, MOST_WORKERS, parse_engine
from kdops.config.image_selection import Selection
from kdops.config.kept_epochs import KeptEpochs
from kdops.config.method_specs import ChosenMethod
from kdops.config.methods import with_shorthand
from kdops.config.parameters import ENTRY_POINTS, EntryPoint
from kdops.config.parsing import boolean, line, one_of, real, value_or, whole
from kdops.config.recipes import Recipe, parse_recipes
from kdops.config.roles import BASE_ROLES, ROLES
from kdops.errors import UsageError

HARD = 0.0
"""The temperature that means training on hard labels."""

SETTINGS: Mapping[str, str] = {
    "students": "kdops.config.studies:SourceSettings",
    "distill": "kdops.config.studies:OneSourceSettings",
    "symmetry": "kdops.config.studies:SymmetrySettings",
    "ensemble": "kdops.config.studies:EnsembleSettings",
    "paper": "kdops.config.studies:PaperSettings",
    "chain": "kdops.config.chain:ChainSettings",
    "search": "kdops.config.search:SearchSettings",
    "methods": "kdops.config.method_trials:MethodsSettings",
    "mutual": "kdops.config.companies:MutualSettings",
}
"""The class of each entry point that has parameters of its own; the others have those that all have."""

TRANSFERS = ("disjoint", "shared", "fresh")
NONE = "none"
ORDERS = ("shared", "own")
DEVICES = ("auto", "cpu", "cuda", "mps")
HIGHEST_TEMPERATURE = 1000.0
MOST_TEMPERATURES = 1000
MOST_SEEDS = 1000
HIGHEST_SEED = 2**31 - 1
HOPS = 2
"""Most distillations in a row of all studies but a chain: they share one split, whichever of them makes it."""


@dataclass(frozen=True)
class Settings:
    """The checked settings that every study has.

    Make them with :meth:`parse` from the text of a command line or of MLflow's parameters.

    Attributes:
        dataset: what the data are called; names and titles have it.
        origin: where the data come from and how they are read.
        temperatures: the temperatures above zero of the main sweep, ascending; hard labels (T = 0) are added by the
            sweeps themselves.
        seeds: how many replicates.
        seed: the first replicate.
        split_seed: the seed of the split.
        sweeps: the temperatures of each role that is distilled, the main sweep among them; what has none is empty.
        recipes: for each role its architecture, epochs, batch size and learning rate.
        selection: what is changed about the images that models learn from.
        distillations: what the study distills from what, as far as it is known beforehand.
        method: what a student learns from its source; ``alpha`` and ``t_squared`` are in it.
        margin: accuracy difference (a fraction, 0.02 is two points) that counts as equivalence.
        owner: the owner of the study; nothing that is trained depends on it.
        notes: free text about the study; likewise.
        keep_epochs: the epochs whose weights are kept beside those of the last one; likewise.
    """

    dataset: str
    origin: DatasetSpec
    data_root: str
    temperatures: tuple[float, ...]
    sweeps: Mapping[str, tuple[float, ...]]
    seeds: int
    seed: int
    split_seed: int
    recipes: Mapping[str, Recipe]
    transfer: str
    selection: Selection
    method: ChosenMethod
    distillations: tuple[Distillation, ...]
    order: str
    select_on: str
    select_by: str
    margin: float
    device: str
    engine: str
    workers: int
    fresh: bool
    dry_run: bool
    owner: str
    notes: str
    keep_epochs: KeptEpochs

    method_of: ClassVar[str] = ""
    """Which of the study's models the method holds for, where that is not all."""

    @staticmethod
    def parse(entry_point: str = "transitivity", **given: str) -> Settings:
        """Check the text of every parameter and return the settings, of the entry point's own class.

        Args:
            entry_point: whose defaults hold for what is not given.
            **given: parameters as text, by name.

        Raises:
            UsageError: names the parameter, its value and what is allowed.
        """
        point = ENTRY_POINTS[entry_point]
        defaults = {p.name: p.default for p in point.parameters()}
        for name in given:
            if name not in defaults:
                raise UsageError(name, given[name], f"no such parameter; there are {', '.join(defaults)}")
        text = {**defaults, **{name: str(value).strip() for name, value in given.items()}}
        module, _, name = SETTINGS.get(entry_point, f"{__name__}:Settings").partition(":")
        kind: type[Settings] = getattr(import_module(module), name)
        return kind(**kind.read(point, text))

    @classmethod
    def read(cls, point: EntryPoint, text: Mapping[str, str]) -> dict[str, Any]:
        """Return the value of every field; a subclass adds those of its own.

        Args:
            point: the entry point.
            text: all its parameters.

        Raises:
            UsageError: names the parameter, its value and what is allowed.
        """
        origin = parse_dataset(text)
        recipes, method = parse_recipes(DATASETS[origin.kind].recipes, text), _method(text)
        for recipe in recipes.values():
            if origin.kind == "csv" and recipe.augment != NONE:
                raise UsageError("augment", recipe.augment, "is for images, and the data are a table")
        return {
            "dataset": origin.name,
            "origin": origin,
            "data_root": text["data_root"],
            "temperatures": parse_temperatures(text["temperatures"]),
            "sweeps": _sweeps(point, text),
            "seeds": whole("seeds", text["seeds"], 1, MOST_SEEDS),
            "seed": whole("seed", text["seed"], 0, HIGHEST_SEED),
            "split_seed": whole("split_seed", text["split_seed"], 0, HIGHEST_SEED),
            "recipes": recipes,
            "transfer": one_of("transfer", text["transfer"], TRANSFERS),
            "selection": Selection.read(text),
            "method": method,
            "distillations": _distillations(point, method, recipes, text),
            "order": one_of("order", text["order"], ORDERS),
            "select_on": one_of("select_on", text["select_on"], SELECTIONS),
            "select_by": one_of("select_by", text["select_by"], SCORES),
            "margin": real("margin", text["margin"], 0.0, 1.0, open_low=True),
            "device": one_of("device", text["device"], DEVICES),
            "engine": parse_engine(text["engine"]),
            "workers": _workers(text),
            "fresh": boolean("fresh", text["fresh"]),
            "dry_run": boolean("dry_run", text["dry_run"]),
            "owner": line("owner", text["owner"], 200),
            "notes": line("notes", text["notes"], 2000),
            "keep_epochs": KeptEpochs.read(text["keep_epochs"], max(one.epochs for one in recipes.values())),
        }

    @property
    def subject(self) -> str:
        """What the title of the study has beside its entry point and data; empty for nothing."""
        return ""

    @property
    def criterion(self) -> Criterion:
        """What the best is chosen by."""
        return Criterion(self.select_on, self.select_by)

    @property
    def interval_over(self) -> str:
        """What the intervals of the study's numbers are over."""
        return "replicates"

    def replicates(self) -> tuple[int, ...]:
        """Return the seed of every replicate, in order."""
        return tuple(range(self.seed, self.seed + self.seeds))

    def describe_seeds(self) -> str:
        """Return which seeds the study's numbers are of."""
        return f"seeds {self.seed} to {self.seed + self.seeds - 1}"

    def direct_temperatures(self) -> tuple[float, ...]:
        """Return the temperatures of the direct students: those of every sweep that is held against them."""
        return tuple(sorted({*self.sweeps["student"], *self.sweeps.get("middle", ())}))

    def hops(self) -> int:
        """Return for how many distillations in a row images are dealt: two, and more where a chain is longer."""
        return HOPS

    def external_networks(self) -> list[tuple[str, Recipe]]:
        """Return the recipe of every external network that may be built, with the parameter that names it."""
        return [(role, self.recipes[role]) for role in BASE_ROLES if not self.recipes[role].architecture.is_counted]

    def as_dict(self) -> dict[str, object]:
        """Return the settings as plain JSON values, architectures as text."""
        plain: dict[str, object] = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "distillations"}
        plain["origin"] = self.origin.as_dict()
        plain["unlabeled"] = self.origin.unlabeled
        plain["keep_epochs"] = str(self.keep_epochs)
        plain["method"] = str(self.method)
        plain["selection"] = self.selection.as_dict()
        plain["temperatures"] = list(self.temperatures)
        plain["sweeps"] = {role: list(temperatures) for role, temperatures in self.sweeps.items()}
        plain["recipes"] = {role: recipe.as_dict() for role, recipe in self.recipes.items()}
        return plain


def parse_temperatures(text: str, parameter: str = "temperatures") -> tuple[float, ...]:
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
                raise UsageError(parameter, text, f"the range {part} runs backwards; write {high}-{low}")
            found.update(float(t) for t in range(low, high + 1))
        elif re.fullmatch(r"\d{1,4}(\.\d{1,2})?", part):
            found.add(float(part))
        else:
            raise UsageError(parameter, text or "(empty)", allowed)
    soft = tuple(sorted(t for t in found if t != HARD))
    if not soft or soft[-1] > HIGHEST_TEMPERATURE or len(soft) > MOST_TEMPERATURES:
        raise UsageError(parameter, text, allowed)
    return soft


def _workers(text: Mapping[str, str]) -> int:
    """Read the number of workers. Raises UsageError if it is none, or the engine has no workers."""
    workers = value_or("auto", AUTO_WORKERS, "workers", text, lambda name, value: whole(name, value, 1, MOST_WORKERS))
    if workers > 1 and text["engine"] == LOCAL:
        raise UsageError("workers", workers, f"engine={LOCAL} has one; use another engine, or workers=1")
    return workers


def _method(text: Mapping[str, str]) -> ChosenMethod:
    alpha, t_squared = real("alpha", text["alpha"], 0.0, 1.0), boolean("t_squared", text["t_squared"])
    return with_shorthand(text["method"], alpha, t_squared)


def _distillations(
    point: EntryPoint, method: ChosenMethod, recipes: Mapping[str, Recipe], text: Mapping[str, str]
) -> tuple[Distillation, ...]:
    """Return what is distilled from what; a chain has steps of its own, and a source is known once it is found."""
    if "steps" in text:
        return ()
    if text.get("source"):
        student = recipes["student"]
        method.check_recipe(student, "student")
        method.deployed(student.architecture, student.architecture)
        return ()
    own = {role: recipes[ROLES[role].like] for pair in point.pairs for role in pair}
    return tuple(Distillation.checked(method, role, own[role], own[source]) for source, role in point.pairs)


def _sweeps(point: EntryPoint, text: Mapping[str, str]) -> dict[str, tuple[float, ...]]:
    """Return the temperatures of each role: from its own parameter, else those of the main sweep."""
    sweeps = {}
    for role in ("student", "middle", "reversed", "born-again"):
        name = f"{role.replace('-', '_')}_temperatures"
        if name in text:
            sweeps[role] = () if text[name] == NONE else parse_temperatures(text[name], name)
        elif role in point.main_sweep:
            sweeps[role] = parse_temperatures(text["temperatures"])
    for role, temperatures in sweeps.items():
        if not temperatures and role != "born-again":
            raise UsageError(f"{role}_temperatures", NONE, "must name at least one temperature")
    return sweeps
