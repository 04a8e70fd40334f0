"""The settings of a study: the text of every parameter, checked.

This module imports neither torch nor MLflow, so a wrong value is refused before anything heavy loads.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields

from kdops.config.architectures import Architecture, parse_architecture
from kdops.config.chain import ChainSettings
from kdops.config.dataset import DATASETS, DatasetSpec, parse_dataset
from kdops.config.parameters import ALL, ENTRY_POINTS, NEWEST, ROLES_THAT_VOTE, EntryPoint
from kdops.config.parsing import boolean, line, one_of, real, whole
from kdops.config.recipes import LIKE, ROLES, Recipe
from kdops.config.search import SEARCHED, SearchSettings
from kdops.config.sources import parse_sources
from kdops.errors import UsageError

__all__ = ["HARD", "Settings", "parse_temperatures"]

HARD = 0.0
"""The temperature that means training on hard labels."""

TRANSFERS = ("disjoint", "shared", "fresh")
NONE = "none"
ORDERS = ("shared", "own")
SELECTIONS = ("validation", "test")
DEVICES = ("auto", "cpu", "cuda")
HIGHEST_TEMPERATURE = 1000.0
MOST_TEMPERATURES = 1000
HOPS = 2
"""Most distillations in a row of all studies but a chain: they share one split, whichever of them makes it."""


@dataclass(frozen=True)
class Settings:
    """The checked settings of one study.

    Make it with :meth:`parse` from the text that a command line or MLflow gives.

    Attributes:
        dataset: what the data are called; names and titles have it.
        origin: where the data come from and how they are read.
        temperatures: the temperatures above zero of the main sweep, ascending; hard labels (T = 0) are added by the
            sweeps themselves.
        seeds: how many replicates; 0 for all there are, until the members of an ensemble are drawn.
        seed: the first replicate.
        split_seed: the seed of the split; None for that of the newest models, until they are drawn.
        sweeps: the temperatures of each role that is distilled, the main sweep among them; what has none is empty.
        recipes: for each role its architecture, epochs, batch size and learning rate.
        alpha: weight of the soft term, in [0, 1].
        margin: accuracy difference (a fraction, 0.02 is two points) that counts as equivalence.
        reversed_seeds: how many of the replicates have reversed nets.
        top: so many members of an ensemble; None for all there are.
        controls: train the controls of an ensemble.
        role: the role whose registered models vote.
        model: the registered models that vote, where they are not those of a role.
        search: the settings of a search; None for any other study.
        chain: the steps of a chain; None for any other study.
        source: URIs of what students are distilled from; empty for the study's own teachers.
        trust: the Python code of a source that is no exported program may be run.
        owner: who answers for the study; nothing that is trained depends on it.
        notes: what is to be remembered of the study; likewise.
    """

    dataset: str
    origin: DatasetSpec
    data_root: str
    temperatures: tuple[float, ...]
    sweeps: Mapping[str, tuple[float, ...]]
    seeds: int
    seed: int
    split_seed: int | None
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
    reversed_seeds: int
    top: int | None
    controls: bool
    role: str
    model: str
    search: SearchSettings | None = None
    chain: ChainSettings | None = None
    source: str = ""
    trust: bool = False
    owner: str = ""
    notes: str = ""

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
        origin = parse_dataset(text)
        own = ENTRY_POINTS[entry_point].defaults
        # Words such as ``all`` are for an entry point that has them as defaults: it trains no replicates of its own.
        searches = entry_point == "search"
        every = ALL if own.get("seeds") == ALL else None
        seeds = _or(every, 0, "seeds", text, lambda n, v: whole(n, v, 1, 1000))
        transfers = TRANSFERS if own.get("transfer") != NEWEST else (NEWEST, *TRANSFERS)
        return cls(
            dataset=origin.name,
            origin=origin,
            data_root=text["data_root"],
            temperatures=parse_temperatures(text["temperatures"]),
            sweeps=_sweeps(ENTRY_POINTS[entry_point], text),
            seeds=seeds,
            seed=whole("seed", text["seed"], 0, 2**31 - 1),
            split_seed=_or(own.get("split_seed"), None, "split_seed", text, lambda n, v: whole(n, v, 0, 2**31 - 1)),
            recipes=_recipes(origin.kind, text),
            transfer=one_of("transfer", text["transfer"], transfers),
            alpha=real("alpha", text["alpha"], 0.0, 1.0),
            t_squared=boolean("t_squared", text["t_squared"]),
            order=one_of("order", text["order"], ORDERS),
            select_on=one_of("select_on", text["select_on"], SELECTIONS),
            margin=real("margin", text["margin"], 0.0, 1.0, open_low=True),
            device=one_of("device", text["device"], DEVICES),
            fresh=boolean("fresh", text["fresh"]),
            dry_run=boolean("dry_run", text["dry_run"]),
            reversed_seeds=_or("auto", seeds, "reversed_seeds", text, lambda n, v: whole(n, v, 1, seeds)),
            top=_or(ALL, None, "top", text, lambda n, v: whole(n, v, 2, _most_members(entry_point, text))),
            controls=boolean("controls", text.get("controls", "true")),
            role=one_of("role", text.get("role", "student"), SEARCHED if searches else ROLES_THAT_VOTE),
            model=text.get("model", ""),
            search=SearchSettings.parse(text) if searches else None,
            chain=ChainSettings.parse(text) if entry_point == "chain" else None,
            source=_source(text.get("source", "")),
            trust=boolean("trust", text.get("trust", "false")),
            owner=line("owner", text["owner"], 200),
            notes=line("notes", text["notes"], 2000),
        )

    def replicates(self) -> tuple[int, ...]:
        """Return the seed of every replicate, in order."""
        return tuple(range(self.seed, self.seed + self.seeds))

    def direct_temperatures(self) -> tuple[float, ...]:
        """Return the temperatures of the direct students: those of every sweep that is held against them."""
        return tuple(sorted({*self.sweeps["student"], *self.sweeps.get("middle", ())}))

    def hops(self) -> int:
        """Return for how many distillations in a row images are dealt: two, and more where a chain is longer."""
        return max(HOPS, self.chain.hops if self.chain else HOPS)

    def foreign_networks(self) -> list[tuple[str, Recipe]]:
        """Return every network of others that may be built, with the parameter that names it."""
        steps = self.chain.steps if self.chain else ()
        own = [(s.architecture, self.recipes[s.role]) for s in steps if s.architecture is not None]
        named = [
            *((role, self.recipes[role]) for role in ROLES),
            *(("steps", recipe.replace(architecture=architecture)) for architecture, recipe in own),
        ]
        return [(parameter, recipe) for parameter, recipe in named if not recipe.architecture.is_counted]

    def as_dict(self) -> dict[str, object]:
        """Return the settings as plain JSON values, architectures as text."""
        plain = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "recipes"}
        plain["origin"] = self.origin.as_dict()
        plain["temperatures"] = list(self.temperatures)
        plain["sweeps"] = {role: list(temperatures) for role, temperatures in self.sweeps.items()}
        plain["recipes"] = {role: recipe.as_dict() for role, recipe in self.recipes.items()}
        plain["search"] = self.search and self.search.as_dict()
        plain["chain"] = self.chain and self.chain.as_dict()
        return plain


def parse_temperatures(text: str, parameter: str = "temperatures") -> tuple[float, ...]:
    """Parse temperatures such as ``1-20`` or ``1,2,4-8`` or ``2.5``, ascending and without doubles.

    Args:
        text: the temperatures.
        parameter: what a mistake is told of.

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


def _source(text: str) -> str:
    if text:
        parse_sources(text)
    return text


def _most_members(entry_point: str, text: Mapping[str, str]) -> int:
    """Return the most members an ensemble can have, as far as the settings tell: a study of all trains its own."""
    if entry_point != "paper":
        return 100_000
    return max(2, sum(temperature >= 1 for temperature in parse_temperatures(text["temperatures"])))


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


def _or(word: str | None, value, name: str, text: Mapping[str, str], check):
    """Return ``value`` for a parameter that says ``word`` or that the entry point does not have, else what is given.

    Without a word there is only what is given.
    """
    given = text.get(name, word)
    if given == word:
        return value
    try:
        return check(name, given)
    except UsageError as error:
        if word is None:
            raise
        raise UsageError(name, error.value, f"{error.allowed}, or {word}") from None


def _recipes(kind: str, text: Mapping[str, str]) -> dict[str, Recipe]:
    """Lay the caller's values over the data set's recipe for each role."""
    given = {
        "epochs": _by_role("epochs", text["epochs"], lambda n, v: whole(n, v, 1, 100_000)),
        "batch_size": _by_role("batch_size", text["batch_size"], lambda n, v: whole(n, v, 1, 1_000_000)),
        "learning_rate": _by_role(
            "learning_rate", text["learning_rate"], lambda n, v: real(n, v, 0.0, 100.0, open_low=True)
        ),
    }
    recipes = {}
    for role in ROLES:
        recipe = DATASETS[kind].recipes[role]
        chosen: dict[str, object] = {name: values[role] for name, values in given.items() if role in values}
        if text[role] != "auto":
            chosen["architecture"] = _architecture(role, text[role])
        recipes[role] = recipe.replace(**chosen)
    for role, other in LIKE.items():
        recipes[role] = recipes[other].replace(
            **{name: values[role] for name, values in given.items() if role in values}
        )
    return recipes


def _architecture(parameter: str, text: str) -> Architecture:
    return parse_architecture(text, parameter=parameter)


def _by_role(name: str, text: str, check) -> dict[str, object]:
    """Parse ``auto``, one value for all roles, or ``role=value,role=value``."""
    if text == "auto":
        return {}
    if "=" not in text:
        value = check(name, text)
        return dict.fromkeys((*ROLES, *LIKE), value)
    values = {}
    for part in text.split(","):
        role, _, value = (piece.strip() for piece in part.partition("="))
        if role not in (*ROLES, *LIKE):
            raise UsageError(name, text, f"unknown role {role!r}; the roles are {', '.join((*ROLES, *LIKE))}")
        if role in values:
            raise UsageError(name, text, f"the role {role} is given twice")
        if value != "auto":
            try:
                values[role] = check(name, value)
            except UsageError as error:
                raise UsageError(name, text, f"the value of {role} {error.allowed}") from None
    return values
