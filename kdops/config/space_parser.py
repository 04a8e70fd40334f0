"""Reads the space of a search: which settings there are, their bounds and defaults, and the text of a space."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kdops.config.architectures import MLP, Architecture
from kdops.config.method_specs import ChosenMethod, Inner
from kdops.config.methods import LOGITS, METHODS, parse_method
from kdops.config.options import Integer, Option, Real, Several
from kdops.config.recipe_settings import SETTINGS
from kdops.config.search_space import METHOD, Dimension, Space, Value
from kdops.config.specs import split_outside
from kdops.errors import UsageError

MOST_VALUES = 100


def parse_space(text: str, method: ChosenMethod = LOGITS, network: type[Architecture] = MLP) -> Space:
    """Parse ``name=low..high``, ``name=value,value`` and ``name=value``, parted by spaces or semicolons.

    What is not named keeps its default range, an option of a method its value; of ``logits`` alone those options are
    searched that have their defaults: another value was given, and is fixed.

    Args:
        text: the space.
        method: what trials learn by where the space has no ``method=...``.
        network: the family whose options are searched.

    Raises:
        UsageError: for an unknown name or one given twice, for a range that is empty or runs backwards, for a value
            that is no number or not allowed at all, for a list with doubles, for an option that no method has.
    """
    shown = " ".join(text.split())
    try:
        return _space(_entries(shown), method, network)
    except ValueError as error:
        raise UsageError("space", shown, str(error)) from None


@dataclass(frozen=True)
class _Setting:
    """What may be tried of a setting at all, what is tried by default, and how a range of it is searched.

    Attributes:
        option: its type and bounds.
        default: what is tried where it is not named; empty for an option that keeps its value then.
        log: whether a range is searched evenly in the logarithm.
        ranges: whether it takes ranges.
        bounds: further types that each value must be of: those of other methods that have the option.
        only: the methods that have it; empty for all.
    """

    option: Option[Any]
    default: str = ""
    log: bool = False
    ranges: bool = True
    bounds: tuple[Option[Any], ...] = ()
    only: tuple[str, ...] = ()

    def read(self, name: str, text: str) -> Any:
        """Read one value. Raises ValueError if it is none, or not allowed."""
        try:
            for option in self.bounds:
                option.read(text)
            value = self.option.read(text)
        except ValueError as error:
            raise ValueError(f"{text!r} of {name} must be {error}") from None
        value = value if isinstance(value, int | float | str) else self.option.write(value)
        # A blank would end the entry.
        return value.replace(" ", "+") if isinstance(value, str) else value

    @property
    def example(self) -> str:
        """What it may be, for a message; empty where the default is no text."""
        return self.default or self.option.write(self.option.default)


# The bounds are those of the parameters of a study and of the options of an architecture. A temperature or learning
# rate of 0 is no place on a logarithmic axis: hard labels are alpha=0.
_SETTINGS: Mapping[str, _Setting] = {
    METHOD: _Setting(Inner(lambda: METHODS), "logits,dkd", ranges=False),
    "temperature": _Setting(Real(0.01, 1000), "1..30", log=True),
    "learning_rate": _Setting(Real(1e-9, 100), "0.0005..0.02", log=True),
    "batch_size": _Setting(SETTINGS["batch_size"], "64,128,256,512", ranges=False),
}

_FIRST = ("weight_decay", "label_smoothing", "optimizer", "schedule", "init")
"""The settings of recipes that were searched first, in the order of their text; the others follow in that of theirs."""

_RECIPE: Mapping[str, _Setting] = {
    name: _Setting(
        SETTINGS[name],
        log=name in ("weight_decay", "train_temperature"),
        ranges=isinstance(SETTINGS[name], Real | Integer),
    )
    for name in dict.fromkeys((*_FIRST, *SETTINGS))
    if name not in (*_SETTINGS, "epochs")
}
"""Those that keep the value of the role where they are not named; all trials have the same number of epochs."""

_BY_DEFAULT: Mapping[str, str] = {"alpha": "0..1", "t_squared": "true,false"}
"""What is tried of the options of ``logits`` where it is the only method."""


def _entries(text: str) -> list[tuple[str, str]]:
    """Return the name and the values of each entry, in order."""
    # Spaces around the signs are the caller's layout, not the end of an entry.
    joined = re.sub(r"\s*([=,(]|\.\.)\s*|\s+(?=\))", r"\1", text)
    parts = filter(None, re.split(r"[;\s]+", joined))
    return [(name, values) for name, _, values in (part.partition("=") for part in parts)]


def _space(entries: Sequence[tuple[str, str]], method: ChosenMethod, network: type[Architecture]) -> Space:
    """Return the space of some entries.

    Raises:
        ValueError: an entry is refused; the message has the reason.
    """
    named = next((values for name, values in entries if name == METHOD and values), "")
    chosen = _dimension(METHOD, named, _SETTINGS[METHOD]).values if named else ()
    methods = tuple(parse_method(str(text)) for text in chosen) or (method,)
    settings = _settings_of(methods, network)
    given: dict[str, str] = {}
    for name, values in entries:
        if name not in settings:
            raise ValueError(_unknown(name, settings, methods))
        if not values:
            example = settings[name].example
            raise ValueError(f"{name} needs values" + (f", for example {name}={example}" if example else ""))
        if name in given:
            raise ValueError(f"the setting {name} is given twice")
        given[name] = values
    defaults = {name: one.default for name, one in settings.items() if one.default and name != METHOD}
    wanted = {**defaults, **given}
    dimensions = [_dimension(name, wanted[name], one) for name, one in settings.items() if name in wanted]
    options = {d.name: d.grid(1)[0] for d in dimensions}
    if len({str(one.with_options(options)) for one in methods}) < len(methods):
        raise ValueError(f"the methods {named} differ only in what the space varies; name each once")
    return Space(tuple(dimensions), methods)


def _settings_of(methods: Sequence[ChosenMethod], network: type[Architecture]) -> dict[str, _Setting]:
    """Return all settings of a space over some methods, whose options and the network's are behind the temperature."""
    found: dict[str, dict[str, Option[Any]]] = {}
    for method in methods:
        for name, option in method.searchable.items():
            found.setdefault(name, {})[str(method)] = option
    alone = len(methods) == 1 and methods[0].name == LOGITS.name
    given = methods[0].options
    options = {}
    for name, own in found.items():
        first, *others = own.values()
        numbers = [one for one in own.values() if isinstance(one, Real | Integer)]
        options[name] = _Setting(
            first,
            ("" if not alone else _BY_DEFAULT[name] if given[name] == first.default else first.write(given[name])),
            # A weight is searched in the logarithm, a share evenly.
            log=bool(numbers) and all(one.high > 1 for one in numbers),
            ranges=bool(numbers),
            bounds=tuple(others),
            only=tuple(own) if len(own) < len(methods) else (),
        )
    before = {name: _SETTINGS[name] for name in (METHOD, "temperature")}
    sizes = {name: _size(network.spec.options[name], default) for name, default in network.searched.items()}
    return {**before, **options, **sizes, **{n: one for n, one in _SETTINGS.items() if n not in before}, **_RECIPE}


def _size(option: Option[Any], default: str) -> _Setting:
    """Return the setting of an option of a network; of one with several values it is one for all of them."""
    # How many units and filters there are is searched in the logarithm, how many layers evenly.
    log = isinstance(option, Integer) and option.high > 1000
    return _Setting(option.one if isinstance(option, Several) else option, default, log)


def _unknown(name: str, settings: Mapping[str, _Setting], methods: Sequence[ChosenMethod]) -> str:
    """Return why an entry is refused that names none of the settings."""
    if any(name in spec.searchable for spec in METHODS.values()):
        options = "; ".join(f"{one} has {', '.join(one.searchable) or 'none'}" for one in methods)
        return f"no method of the space has an option {name}: {options}"
    return f"unknown setting {name!r}; there are {', '.join(settings)}"


def _dimension(name: str, inner: str, setting: _Setting) -> Dimension:
    """Read what may be tried of one setting.

    Raises:
        ValueError: the text is no dimension of a space; the message has the reason.
    """
    low, dots, high = inner.partition("..")
    listed = split_outside(inner)
    if dots and len(listed) > 1:
        raise ValueError(f"{name} has a range and a list in one; give one of them")
    if dots:
        if not setting.ranges:
            raise ValueError(f"{name} takes a list, for example {name}={setting.example}")
        first, last = setting.read(name, low), setting.read(name, high)
        if first == last:
            raise ValueError(f"the range {low}..{high} of {name} is empty; write {name}={low}")
        if first > last:
            raise ValueError(f"the range {low}..{high} of {name} runs backwards; write {high}..{low}")
        # A range from 0 has no logarithm.
        log = setting.log and first > 0
        return Dimension(name, setting.option, low=first, high=last, log=log, only=setting.only)
    values = [setting.read(name, part) for part in listed]
    if len(set(values)) < len(values):
        raise ValueError(f"the list of {name} has doubles")
    if len(values) > MOST_VALUES:
        raise ValueError(f"the list of {name} has {len(values)} values; {MOST_VALUES} are allowed")
    return Dimension(name, setting.option, tuple(sorted(values, key=_place)), only=setting.only)


def _place(value: Value) -> tuple[object, ...]:
    """Return by what values are sorted: true before false, methods in the order of their table."""
    if isinstance(value, bool):
        return (not value,)
    return (list(METHODS).index(name), value) if (name := str(value).partition("(")[0]) in METHODS else (value,)
