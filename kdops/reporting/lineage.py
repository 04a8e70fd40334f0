"""Where a model came from, up to the labels, and all that was made from it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from kdops.sweeps.model import ELSEWHERE, LABELS, Model
from kdops.tracking.relatives import Relatives

ALONE = 5
"""As many models of one role and chain are shown one by one; more become a group."""


@dataclass(frozen=True)
class Node:
    """One model of a lineage, several that are shown as one, or something that is no model of the store.

    Attributes:
        models: the models; empty for what is no model of the store.
        text: what it is, in one line.
        nodes: what it came from, or what was made from it.
    """

    models: tuple[Model, ...]
    text: str
    nodes: tuple[Node, ...] = ()

    @property
    def key(self) -> tuple[str, ...]:
        """The key by which it is the same node in two places."""
        return tuple(model.run_id for model in self.models) or (self.text,)


def ancestors(relatives: Relatives, everything: bool = False) -> Node:
    """Return the chain that a model came from, up to the labels and the data set.

    Args:
        everything: show every model by itself.
    """
    return _grow((relatives.model,), lambda models: _sources(relatives, models), everything, "", set())


def descendants(relatives: Relatives, everything: bool = False) -> Node:
    """Return all that was made from a model, and from that in turn.

    Args:
        everything: show every model by itself.
    """

    def made(models: Sequence[Model]) -> list[Model | str]:
        return list({m.run_id: m for source in models for m in relatives.made.get(source.run_id, ())}.values())

    return _grow((relatives.model,), made, everything, "", set(), down=True)


def lineage_lines(up: Node, down: Node) -> Iterator[str]:
    """Yield a lineage as lines of text: the model, what it came from, what was made from it."""
    yield up.text
    yield "├── came from"
    yield from _branches(up.nodes, "│   ")
    yield "└── distilled from it" if down.nodes else "└── nothing was distilled from it"
    yield from _branches(down.nodes, "    ")


def lineage_dot(up: Node, down: Node) -> str:
    """Return a lineage as a Graphviz graph; arrows go from the source to what was made from it."""
    numbers: dict[tuple[str, ...], int] = {}
    boxes: dict[str, str] = {}
    arrows: dict[tuple[str, str], None] = {}

    def visit(node: Node, downwards: bool) -> str:
        name = f"n{numbers.setdefault(node.key, len(numbers))}"
        style = ", penwidth=3" if node.key == up.key else ""
        label = "\\n".join(_quoted(part) for part in node.text.split("  "))
        boxes.setdefault(name, f'  {name} [label="{label}"{style}];')
        for other in node.nodes:
            end = visit(other, downwards)
            arrows[(name, end) if downwards else (end, name)] = None
        return name

    visit(up, False)
    visit(down, True)
    lines = ["digraph lineage {", "  rankdir=LR;", '  node [shape=box, fontname="sans-serif"];', *boxes.values()]
    return "\n".join([*lines, *(f"  {start} -> {end};" for start, end in arrows), "}"])


def _grow(
    models: tuple[Model, ...],
    onwards: Callable[[Sequence[Model]], list[Model | str]],
    everything: bool,
    suffix: str,
    seen: set[tuple[str, ...]],
    down: bool = False,
) -> Node:
    """Return a node with all that follows from it; what was shown before is not followed again."""
    key = tuple(model.run_id for model in models)
    text = (_group(models) if len(models) > 1 else _single(models[0])) + suffix
    following = onwards(models)
    if key in seen:
        return Node(models, text + ("  (as above)" if following else ""))
    seen.add(key)
    nodes = []
    for part in _bundles([one for one in following if not isinstance(one, str)], everything):
        origin = _origin(models, part) if down and len(models) > 1 else ""
        nodes.append(_grow(part, onwards, everything, origin, seen, down))
    nodes += [Node((), one) for one in following if isinstance(one, str)]
    return Node(models, text, tuple(nodes))


def _sources(relatives: Relatives, models: Sequence[Model]) -> list[Model | str]:
    """Return what models were made from: models, or words for the labels and for what is not in the store."""
    found: dict[str, Model | str] = {}
    for model in models:
        for one in relatives.sources.get(model.run_id, ()):
            if isinstance(one, str):
                found[one] = f"{one.removeprefix('models:/')}  (no model of this store)"
            else:
                found[one.run_id] = one
        if not model.own:
            found[model.uri] = "what is not known here: others registered it, not kdops"
        elif model.source == ELSEWHERE:
            found[ELSEWHERE] = "a training elsewhere, which is not known here"
        elif not model.sources and model.source not in ("", LABELS):
            found[model.source] = f"{model.source}  (no model of this store)"
        elif not model.sources:
            words = f"labels of {model.dataset}  transfer {model.transfer or 'unknown'}  split {model.split[:12]}"
            found[words] = words
        if model.cut:
            found["..."] = "and others, which the store does not list"
    return list(found.values())


def _bundles(models: Sequence[Model], everything: bool) -> list[tuple[Model, ...]]:
    """Bundle models of one role and chain where there are many: by source if those are few, else all in one."""
    kinds: dict[tuple[str, str], list[Model]] = {}
    for model in models:
        kinds.setdefault((model.role, model.chain), []).append(model)
    bundles: list[tuple[Model, ...]] = []
    for members in kinds.values():
        by_source: dict[tuple[str, ...], list[Model]] = {}
        for member in members:
            by_source.setdefault(member.sources, []).append(member)
        if everything or len(members) <= ALONE:
            bundles += [(member,) for member in members]
        elif len(by_source) <= ALONE:
            bundles += [tuple(some) for some in by_source.values()]
        else:
            bundles.append(tuple(members))
    return bundles


def _origin(parents: Sequence[Model], models: Sequence[Model]) -> str:
    """Return which of a group's models some were made from."""
    used = {source for model in models for source in model.sources}
    from_ = [parent for parent in parents if parent.uri in used]
    return f"  from {from_[0].name}" if len(from_) == 1 else f"  from {len(from_)} of {len(parents)}"


def _single(model: Model) -> str:
    if not model.own:
        return f"{model.name}  of others"
    champion = " (champion)" if model.champion else ""
    gone = "" if model.registered else "  (its version was deleted)"
    return f"{model.name}{champion}  {model.chain}  {_at(model)}  {_accuracies([model])}{gone}"


def _group(models: Sequence[Model]) -> str:
    known = [model for model in models if not math.isnan(model.temperature)]
    at = _range("T=", [model.temperature for model in known], "g")
    seeds = _range("seed=", [model.seed for model in models], "d")
    champion = "  champion among them" if any(model.champion for model in models) else ""
    gone = sum(not model.registered for model in models)
    deleted = f"  ({gone} of their versions were deleted)" if gone else ""
    parts = [f"{len(models)} x {models[0].role}", models[0].chain, " ".join(filter(None, (at, seeds)))]
    return "  ".join([*filter(None, parts), _accuracies(models)]) + champion + deleted


def _at(model: Model) -> str:
    if len(model.sources) > 1:
        count = f"{len(model.sources)}{' or more' if model.cut else ''} members"
        return f"{count} seed={model.seed}"
    temperature = "" if math.isnan(model.temperature) else f"T={model.temperature:g} "
    return f"{temperature}seed={model.seed}"


def _accuracies(models: Sequence[Model]) -> str:
    val, test = ([getattr(model, f"{part}_accuracy") for model in models] for part in ("val", "test"))
    return f"{_range('val ', val, '.4f') or 'val -'}  {_range('test ', test, '.4f') or 'test -'}"


def _range(word: str, values: Sequence[float], form: str) -> str:
    known = [value for value in values if not math.isnan(value)]
    if not known:
        return ""
    low, high = (f"{value:{form}}" for value in (min(known), max(known)))
    return f"{word}{low}" if low == high else f"{word}{low} to {high}"


def _branches(nodes: Sequence[Node], indent: str) -> Iterator[str]:
    for number, node in enumerate(nodes, start=1):
        last = number == len(nodes)
        yield f"{indent}{'└── ' if last else '├── '}{node.text}"
        yield from _branches(node.nodes, indent + ("    " if last else "│   "))


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')
