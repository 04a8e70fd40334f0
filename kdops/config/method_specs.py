"""What an entry in the table of methods says, and a method that was chosen from it, as a checked value."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from kdops.config.architectures import EMBEDDING, Architecture
from kdops.config.augmentation import MIXUP, NONE, parse_augment
from kdops.config.composed import alone
from kdops.config.options import Option
from kdops.config.recipes import Recipe
from kdops.config.specs import Spec, parse_spec
from kdops.errors import UsageError

PLAIN = "logits"
"""The method where none is named."""

MOST_MODIFIERS = 4
"""How many modifiers a modifier may have in its brackets: no more are of use, and more would take long to read."""


Deploys = Callable[[Architecture, Architecture, Mapping[str, Any]], Architecture]
"""From student, source and the options of a method to what is trained and stored; raises ValueError."""


class MethodSpec(Spec):
    """One method.

    Args:
        place: ``module:class`` of it, see :class:`kdops.distillation.method.Method`.
        summary: what a student learns, in a few words.
        *taps: options that name taps of the student, see :mod:`kdops.models.taps`, and taps that it always needs.
        has_modules: whether something is trained beside a student.
        is_stacked: whether students of a family that is stacked are trained in one pass, see
            :attr:`kdops.distillation.method.Method.is_stacked`.
        is_control: whether a student learns nothing of what the source knows of its images.
        control_of: the method that it is a control of, for a reason of its own; it is then a control too.
        compares_logits: whether its terms see logits, those of student and source or one of them.
        phases: number of parts of the training, each of at least one epoch.
        reads_labels: whether it asks for the label of each image, other than in the cross entropy with the labels.
        source_tap: the option that names the source's tap where it is another one; empty for none.
        deploys: returns the network that is trained, measured and stored, which may be more than the student. The taps
            of the method are then those of that network, which has them all.
        **options: its options by name.
    """

    def __init__(
        self,
        place: str,
        summary: str,
        reference: str,
        *taps: str,
        has_modules: bool = False,
        is_stacked: bool = True,
        is_control: bool = False,
        control_of: str = "",
        compares_logits: bool = True,
        phases: int = 1,
        reads_labels: bool = False,
        source_tap: str = "",
        deploys: Deploys = alone,
        **options: Option[Any],
    ):
        super().__init__(place, **options)
        self.compares_logits, self.phases, self.source_tap = compares_logits, phases, source_tap
        self.summary, self.reference, self.taps, self.deploys = summary, reference, taps, deploys
        self.has_modules, self.is_stacked, self.reads_labels = has_modules, is_stacked, reads_labels
        self.is_control, self.control_of = is_control or bool(control_of), control_of

    @property
    def searchable(self) -> dict[str, Option[Any]]:
        """Its options but for a method that it changes."""
        return {name: option for name, option in self.options.items() if not isinstance(option, Inner)}

    def layers(self, options: Mapping[str, Any]) -> list[tuple[str, str]]:
        """Return the tap of the student and that of the source, of each layer that is compared."""
        own = (options.get(name, name) for name in self.taps)
        return [(tap, options.get(self.source_tap) or tap) for tap in own]

    def check(self, options: Mapping[str, Any]) -> None:
        """Refuse options that do not go together. Raises ValueError if a map would be compared with a vector."""
        for own, source in self.layers(options):
            if (own == EMBEDDING) is not (source == EMBEDDING):
                raise ValueError(f"{own} and {source} cannot be compared: {EMBEDDING} is a vector, others are maps")


@dataclass(frozen=True)
class ChosenMethod:
    """A method and the value of each of its options.

    Attributes:
        name: of the method, in the table.
        options: every option's value.
        spec: its entry in the table.
    """

    name: str
    options: Mapping[str, Any]
    spec: MethodSpec = field(compare=False, repr=False)

    def __str__(self) -> str:
        """Return the canonical text: options that differ from their defaults, in the order of the table."""
        return self.name + self.spec.write(self.options)

    @property
    def full_text(self) -> str:
        """The text with all options, which means the same whatever becomes of the defaults."""
        return self.name + self.spec.write(self.options, full=True)

    @property
    def parts(self) -> tuple[ChosenMethod, ...]:
        """The method itself, and those that it changes, from the outermost."""
        inner = (value.parts for value in self.options.values() if isinstance(value, ChosenMethod))
        return (self, *(part for parts in inner for part in parts))

    @property
    def searchable(self) -> dict[str, Option[Any]]:
        """Its options, with those of the method that it changes."""
        return {name: option for part in self.parts for name, option in part.spec.searchable.items()}

    def with_options(self, values: Mapping[str, Any]) -> ChosenMethod:
        """Return the method with other values of its options, and of the options of the method that it changes.

        Args:
            values: by name, those of other methods too; a text is read.
        """
        changed = dict(self.options)
        for name, value in self.options.items():
            if isinstance(value, ChosenMethod):
                changed[name] = value.with_options(values)
            elif name in values:
                given = values[name]
                changed[name] = self.spec.options[name].read(given) if isinstance(given, str) else given
        return replace(self, options=changed)

    @property
    def soft_weight(self) -> float:
        """The parameter ``alpha`` of a run: the weight of a soft term, 0 for a method without one of that name."""
        return self.parts[-1].options.get("alpha", 0.0)

    @property
    def t_squared(self) -> bool:
        """The parameter ``t_squared`` of a run; true for a method without that option."""
        return self.parts[-1].options.get("t_squared", True)

    @property
    def layers(self) -> tuple[tuple[str, str], ...]:
        """The tap of the student and that of the source, of each layer that it compares."""
        return tuple(layer for part in self.parts for layer in part.spec.layers(part.options))

    @property
    def student_taps(self) -> tuple[str, ...]:
        """The taps of the student that it needs."""
        return tuple(own for own, _ in self.layers)

    @property
    def source_taps(self) -> tuple[str, ...]:
        """The taps of the source that it needs."""
        return tuple(source for _, source in self.layers)

    @property
    def is_control(self) -> bool:
        """Whether it tells what the gain of others is due to, and is held for no gain of its own."""
        return any(part.spec.is_control for part in self.parts)

    def is_control_of(self, other: ChosenMethod) -> bool:
        """Return whether it is the control of another method; the options that both have must be equal."""
        shared = self.options.keys() & other.options.keys()
        return self.spec.control_of == other.name and all(self.options[one] == other.options[one] for one in shared)

    @property
    def has_modules(self) -> bool:
        """Whether something is trained beside a student."""
        return any(part.spec.has_modules for part in self.parts)

    @property
    def is_stacked(self) -> bool:
        """Whether dense students are trained together in one pass."""
        return all(part.spec.is_stacked for part in self.parts)

    def check_unlabeled(self, images: str) -> None:
        """Refuse a method that learns nothing from images without labels.

        Args:
            images: where they come from.

        Raises:
            UsageError: it needs the label of each image, or learns labels alone.
        """
        if any(part.spec.reads_labels for part in self.parts):
            raise UsageError(
                "unlabeled", images, f"method={self} needs the label of each image; use another, as logits"
            )
        if not self.parts[-1].options.get("alpha", 1) and not self.student_taps:
            raise UsageError("unlabeled", images, "with alpha=0 students learn labels alone; give alpha above 0")

    def check_recipe(self, recipe: Recipe, role: str) -> None:
        """Refuse options that do not go together, a network that lacks a tap, and fewer epochs than there are phases.

        Raises:
            UsageError: names what is missing.
        """
        for part in self.parts:
            try:
                part.spec.check(part.options)
            except ValueError as error:
                raise UsageError("method", self, str(error)) from None
        if recipe.augment != NONE and self.source_taps:
            problem = f"method={self} compares features, which sources give for images as they are"
            raise UsageError("augment", recipe.augment, f"{problem}; use a method of logits, or give augment by role")
        if MIXUP in parse_augment(recipe.augment) and any(part.spec.reads_labels for part in self.parts):
            problem = f"method={self} asks for the one label of each image, and mixed images have two"
            raise UsageError("augment", recipe.augment, f"{problem}; leave {MIXUP} out, or use logits, dist or mse")
        self.check_taps(recipe.architecture, role)
        phases = max(part.spec.phases for part in self.parts)
        if recipe.epochs < phases:
            raise UsageError("epochs", recipe.epochs, f"must be at least {phases} for the phases of {self}")

    @property
    def deploys_more(self) -> bool:
        """Whether what is trained and stored is more than the student."""
        return any(part.spec.deploys is not alone for part in self.parts)

    def deployed(self, student: Architecture, source: Architecture) -> Architecture:
        """Return the network that is trained, measured and stored: the student, or one that it is a part of.

        Raises:
            UsageError: one of the networks lacks what the method needs; names what it has.
        """
        found = student
        for part in self.parts:
            if part.spec.deploys is alone:
                continue
            if found is not student:
                raise UsageError("method", self, "has two methods that deploy more than the student; take one of them")
            try:
                found = part.spec.deploys(student, source, part.options)
            except ValueError as error:
                raise UsageError("method", self, str(error)) from None
        return found

    def check_taps(self, student: Architecture, role: str) -> None:
        """Refuse a student that lacks a tap; where more than it is deployed :meth:`check_source` does.

        Raises:
            UsageError: names the tap, and those that the student has.
        """
        if not self.deploys_more:
            self._check(student, role, self.student_taps)

    def check_source(self, student: Architecture, source: Architecture, role: str) -> None:
        """Refuse a student and a source where one lacks what the method needs.

        Raises:
            UsageError: names what is missing, and what the network has.
        """
        self._check(self.deployed(student, source), role, self.student_taps)
        self._check(source, "source", self.source_taps)

    def _check(self, network: Architecture, role: str, taps: tuple[str, ...]) -> None:
        """Refuse a network of kdops's own that lacks a tap; of external ones the taps are known once they are built."""
        there = network.taps()
        for tap in taps if there else ():
            if tap not in there:
                known = ", ".join(name for name in there if "." not in name)
                raise UsageError("method", self, f"the {role} {network} has no tap {tap}; it has {known}")


@dataclass(frozen=True)
class Inner(Option[ChosenMethod]):
    """The method that a modifier changes; ``logits`` where none is given.

    Attributes:
        methods: returns the table.
    """

    methods: Callable[[], Mapping[str, MethodSpec]]

    @property
    def default(self) -> ChosenMethod:  # type: ignore[override]
        """``logits`` with its defaults."""
        spec = self.methods()[PLAIN]
        return ChosenMethod(PLAIN, spec.defaults(), spec)

    def read(self, text: str) -> ChosenMethod:
        """Read the method."""
        # Each method has at most two pairs: its own, and those of a network.
        if text.count("(") > 2 * (MOST_MODIFIERS + 1):
            raise ValueError(self.allowed())
        try:
            chosen = choose(text, "method", self.methods())
        except UsageError as error:
            raise ValueError(f"{self.allowed()}; {error}") from None
        if len(chosen.parts) > MOST_MODIFIERS + 1:
            raise ValueError(self.allowed())
        return chosen

    def allowed(self) -> str:
        """Return what is allowed."""
        return f"a method, with at most {MOST_MODIFIERS} modifiers"

    def write_full(self, value: ChosenMethod) -> str:
        """Return the method with all its options."""
        return value.full_text


def choose(text: str, parameter: str, methods: Mapping[str, MethodSpec]) -> ChosenMethod:
    """Return the method of a table that a text names, see :func:`kdops.config.methods.parse_method`."""
    name, options = parse_spec(text, parameter, methods)
    return ChosenMethod(name, options, methods[name])
