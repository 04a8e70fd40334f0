"""The steps of a chain of distillations: plain values, read from text and checked.

``teacher>middle:mlp(hidden=100)>student``: roles parted by ``>``, each with an architecture of its own if need be. The
text is canonical, so equal chains have equal text.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kdops.config.architectures import Architecture, parse_architecture
from kdops.config.distillations import Distillation
from kdops.config.method_specs import ChosenMethod
from kdops.config.parameters import EntryPoint
from kdops.config.recipes import Recipe
from kdops.config.roles import BASE_ROLES, streams_of
from kdops.config.settings import Settings
from kdops.errors import UsageError

MOST_STEPS = 100

TITLE_CHARACTERS = 60
"""A longer chain is named in a run's title by its ends and its length."""

EXAMPLE = "such as teacher>middle>student"


@dataclass(frozen=True)
class Step:
    """One step of a chain.

    Attributes:
        role: one of ``BASE_ROLES``, whose recipe it is trained by.
        architecture: its own; None for that of its role.
    """

    role: str
    architecture: Architecture | None = None

    def __str__(self) -> str:
        return self.role if self.architecture is None else f"{self.role}:{self.architecture}"


@dataclass(frozen=True)
class Chain:
    """The steps of a chain, at least two.

    The first one learns from labels, each later one is distilled from the step before. A station is a step between
    the first and the last.
    """

    steps: tuple[Step, ...]

    def __str__(self) -> str:
        return ">".join(map(str, self.steps))

    @property
    def last(self) -> int:
        """The place of the last step, the first one's being 0; as many distillations are in a row."""
        return len(self.steps) - 1

    @property
    def title(self) -> str:
        """Its roles, or where there are many the ends and how many there are."""
        roles = ">".join(step.role for step in self.steps)
        ends = f"{self.steps[0].role} to {self.steps[-1].role} in {len(self.steps)} steps"
        return roles if len(roles) <= TITLE_CHARACTERS else ends

    def role_at(self, place: int, source: int | None = None) -> str:
        """Return the role that a step's models are registered as.

        It is the step's own, but for a ``teacher`` after the first step: ``born-again`` where it learns from a net of
        the teacher's kind that learned from nothing else, ``reversed`` where another role lies before it.

        Args:
            source: the step it is distilled from, where not the one before.
        """
        role = self.steps[place].role
        if role != "teacher" or place == 0:
            return role
        before = self.steps[: place if source is None else source + 1]
        return "born-again" if all(step.role == "teacher" for step in before) else "reversed"

    def recipe_at(self, place: int, recipes: Mapping[str, Recipe]) -> Recipe:
        """Return how a step is trained, of the recipes by role, with its own architecture."""
        recipe, own = recipes[self.role_at(place)], self.steps[place].architecture
        return recipe if own is None else recipe.replace(architecture=own)

    def streams(self) -> tuple[str, ...]:
        """Name the random streams of each step, so that no net of the chain starts as another step's does.

        The last step has those of its role: whichever step its nets are distilled from, those of one seed and
        temperature start alike, as they do in every other study, which pairs their comparison. An earlier step has
        those of its role too, unless another step has them; then it has some of its own.
        """
        taken = {streams_of(self.role_at(self.last))}
        names = []
        for place in range(self.last):
            role = self.role_at(place)
            name = f"{role}, step {place + 1}" if streams_of(role) in taken else role
            taken.add(streams_of(name))
            names.append(name)
        return (*names, self.role_at(self.last))

    def names(self) -> tuple[str, ...]:
        """Name each step for a reader: its role, numbered where the chain has several of them."""
        counts, seen = Counter(step.role for step in self.steps), Counter[str]()
        names = []
        for role in (step.role for step in self.steps):
            seen[role] += 1
            names.append(f"{role} {seen[role]}" if counts[role] > 1 else role)
        return tuple(names)

    def generations(self) -> tuple[str, ...]:
        """Name each step where all have one architecture, so that each is a generation of the same net."""
        return tuple(f"generation {number}" for number in range(len(self.steps)))


@dataclass(frozen=True)
class ChainSettings(Settings):
    """Settings of a study of a chain of any steps.

    Attributes:
        chain: its steps.
    """

    chain: Chain

    @classmethod
    def read(cls, point: EntryPoint, text: Mapping[str, str]) -> dict[str, Any]:
        """Return the value of every field."""
        values, chain = super().read(point, text), Chain(parse_steps(text["steps"]))
        method: ChosenMethod = values["method"]
        recipes = [chain.recipe_at(place, values["recipes"]) for place in range(len(chain.steps))]
        found = [
            # The last step is distilled from each one before it, others from the one before.
            Distillation.checked(method, step.role, own, source)
            for place, (own, step) in enumerate(zip(recipes, chain.steps, strict=True))
            for source in recipes[0 if place == chain.last else max(place - 1, 0) : place]
        ]
        return {**values, "chain": chain, "distillations": tuple(found)}

    @property
    def subject(self) -> str:
        """What the title of the study has beside its entry point and data."""
        return self.chain.title

    def hops(self) -> int:
        """Return for how many distillations in a row images are dealt."""
        return max(super().hops(), self.chain.last)

    def external_networks(self) -> list[tuple[str, Recipe]]:
        """Return the recipe of every external network that may be built, with the parameter that names it."""
        own = [
            ("steps", self.chain.recipe_at(place, self.recipes))
            for place, step in enumerate(self.chain.steps)
            if step.architecture is not None and not step.architecture.is_counted
        ]
        return [*super().external_networks(), *own]

    def as_dict(self) -> dict[str, object]:
        """Return the settings as plain JSON values, the steps as text."""
        return {**super().as_dict(), "chain": {"steps": str(self.chain)}}


def parse_steps(text: str) -> tuple[Step, ...]:
    """Parse ``role>role:architecture>...``; spaces do not count.

    Raises:
        UsageError: for fewer than two steps or more than ``MOST_STEPS``, an empty one, an unknown role or
            architecture.
    """
    shown = " ".join(text.split())
    parts = [part.strip() for part in shown.split(">")]
    if len(parts) < 2:
        raise UsageError("steps", shown or "(empty)", f"must name at least two steps, {EXAMPLE}")
    if len(parts) > MOST_STEPS:
        raise UsageError("steps", f"{shown[:40]}...", f"has {len(parts)} steps; {MOST_STEPS} are allowed")
    return tuple(_step(shown, number, part) for number, part in enumerate(parts, start=1))


def describe_path(names: Sequence[str]) -> str:
    """Name the stations of a way by its ends."""
    return names[0] if len(names) == 1 else f"{names[0]} to {names[-1]}"


def _step(shown: str, number: int, part: str) -> Step:
    role, colon, architecture = (piece.strip() for piece in part.partition(":"))
    if not part:
        raise UsageError("steps", shown, f"step {number} is empty; give roles parted by single >, {EXAMPLE}")
    if role not in BASE_ROLES:
        raise UsageError(
            "steps", shown, f"unknown role {role!r} in step {number}; the roles are {', '.join(BASE_ROLES)}"
        )
    if not colon:
        return Step(role)
    try:
        return Step(role, parse_architecture(architecture, "steps"))
    except UsageError as error:
        raise UsageError("steps", shown, f"step {number}: {error.allowed}") from None
