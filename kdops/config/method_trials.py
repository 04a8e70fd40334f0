"""What the study of methods tries of each method: its own weights and the temperature. No torch here."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from kdops.config.distillations import Distillation
from kdops.config.method_specs import ChosenMethod
from kdops.config.methods import LOGITS, METHODS, parse_method
from kdops.config.options import Real
from kdops.config.parameters import ALL, EntryPoint
from kdops.config.parsing import boolean, whole
from kdops.config.recipes import Recipe
from kdops.config.settings import HIGHEST_SEED, Settings
from kdops.config.specs import split_outside
from kdops.errors import UsageError

USUAL = 4.0
"""The temperature of the first trial: what most of the papers publish."""

REACH = 4.0
"""A weight is drawn between a quarter and four times its default."""

SMALLEST_SHARE = 0.01
"""An option up to 1 whose default is below this is no share, but a small number, and is drawn as a weight is."""

MOST_TRIALS = 1000

SHUFFLED = "shuffled"
OTHERS = tuple(name for name in METHODS if name != LOGITS.name)


@dataclass(frozen=True)
class MethodsSettings(Settings):
    """Settings of a study that compares methods.

    Attributes:
        methods: the methods, ``logits`` first; empty for all that fit the student.
        trials: number of settings of each method that are tried.
        controls: train each method with a shuffled source beside.
    """

    methods: tuple[ChosenMethod, ...]
    trials: int
    controls: bool

    @classmethod
    def read(cls, point: EntryPoint, text: Mapping[str, str]) -> dict[str, Any]:
        """Return the value of every field."""
        values = super().read(point, text)
        plain: ChosenMethod = values["method"]
        if plain.name != LOGITS.name:
            raise UsageError("method", plain, "is logits here; name what is compared by methods")
        if text["select_on"] != "validation":
            raise UsageError("select_on", text["select_on"], "must be validation: trials never see the test set")
        if values["seed"] + 2 * values["seeds"] > HIGHEST_SEED:
            raise UsageError("seed", values["seed"], f"must leave room for twice {values['seeds']} seeds")
        student, teacher = (values["recipes"][role] for role in ("student", "teacher"))
        chosen = fitting_methods(student, teacher) if text["methods"] == ALL else parse_methods(text["methods"])
        if plain != LOGITS and chosen[0] != LOGITS:
            raise UsageError("methods", text["methods"], f"has {chosen[0]}, and alpha or t_squared say {plain}")
        return {
            **values,
            "distillations": tuple(Distillation.checked(one, "student", student, teacher) for one in chosen),
            "methods": (plain if plain != LOGITS else chosen[0], *chosen[1:]),
            "trials": whole("trials", text["trials"], 1, MOST_TRIALS),
            "controls": boolean("controls", text["controls"]),
        }

    def describe_seeds(self) -> str:
        """Return which seeds the trials are of, and which the results."""
        middle = self.seed + self.seeds
        tried, reported = (f"{first} to {first + self.seeds - 1}" for first in (self.seed, middle))
        return f"trials on seeds {tried}, results on seeds {reported}"

    def as_dict(self) -> dict[str, object]:
        """Return the settings as plain JSON values."""
        return {**super().as_dict(), "methods": [str(method) for method in self.methods]}


def parse_methods(text: str) -> tuple[ChosenMethod, ...]:
    """Parse methods parted by commas, such as ``logits,dkd(beta=2),rkd``; ``logits`` comes first, given or not.

    Raises:
        UsageError: a method is refused, or is given twice.
    """
    chosen = [parse_method(part.strip(), "methods") for part in split_outside(text)]
    for method in chosen:
        if chosen.count(method) > 1:
            raise UsageError("methods", text, f"{method} is given twice")
    plain = [method for method in chosen if method.name == LOGITS.name] or [LOGITS]
    if len(plain) > 1:
        raise UsageError("methods", text, "must have logits once: all others are held against it")
    others = [method for method in chosen if method.name != LOGITS.name]
    if not any(not method.is_control for method in others):
        allowed = f"must name a method beside logits that is no control, such as {', '.join(OTHERS[:3])}, or {ALL}"
        raise UsageError("methods", text, allowed)
    return (*plain, *others)


def fitting_methods(student: Recipe, teacher: Recipe) -> tuple[ChosenMethod, ...]:
    """Return every method, with its defaults, that fits the networks; ``logits`` comes first.

    A shuffled source is a control of each of them, and none of them.
    """
    found = [LOGITS]
    for name in OTHERS:
        method = parse_method(name)
        # The taps of other people's networks are known once these are built.
        known = student.architecture.taps() and teacher.architecture.taps()
        if method.name == SHUFFLED or not (known or method.is_stacked):
            continue
        # A pair is the control of residual, which dense students do not fit.
        if method.deploys_more and student.architecture.is_dense:
            continue
        try:
            Distillation.checked(method, "student", student, teacher)
        except UsageError:
            continue
        found.append(method)
    return tuple(found)


def shuffled(method: ChosenMethod) -> ChosenMethod:
    """Return the control of a method: each image has the source outputs of another image of its class."""
    return parse_method(f"{SHUFFLED}({method})")


def trials_of(method: ChosenMethod, count: int, temperatures: Sequence[float]) -> list[tuple[ChosenMethod, float]]:
    """Return the settings of a method that are tried: its weights and a temperature each.

    The first is the method as it is given at T = 4, or at the temperature nearest to it; the others are drawn at
    random, always the same ones for a method. An option that differs from its default was given, and stays.

    Args:
        count: how many; fewer come back where there are fewer different ones.
        temperatures: the temperatures to draw from.
    """
    digest = hashlib.sha256(method.full_text.encode()).digest()
    draw = random.Random(int.from_bytes(digest[:8], "big"))
    nearest = min(temperatures, key=lambda t: (abs(t - USUAL), t))
    found = [(method, nearest)]
    for _ in range(20 * count):
        if len(found) == count:
            break
        one = _drawn_method(method, draw), draw.choice(list(temperatures))
        if one not in found:
            found.append(one)
    return found


def _drawn_method(method: ChosenMethod, draw: random.Random) -> ChosenMethod:
    """Return a method with other weights; those of the method that a modifier changes are drawn too."""
    options = dict(method.options)
    for name, option in method.spec.options.items():
        value = options[name]
        if isinstance(value, ChosenMethod):
            options[name] = _drawn_method(value, draw)
        elif isinstance(option, Real) and option.default > 0 and value == option.default:
            options[name] = _drawn(option, draw)
    return replace(method, options=options)


def _drawn(option: Real, draw: random.Random) -> float:
    """Draw a value: of a share evenly between its bounds, of a weight evenly in its logarithm around its default."""
    if option.high <= 1 and option.default >= SMALLEST_SHARE:
        value = option.low + (option.high - option.low) * draw.uniform(0.05, 0.95)
    else:
        value = option.default * REACH ** draw.uniform(-1, 1)
    return float(f"{min(max(value, option.low), option.high):.3g}")
