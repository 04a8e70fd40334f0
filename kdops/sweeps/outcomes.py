"""How many models a study trains, as far as that is known before its models are measured.

Which model is distilled next may depend on which is the best of those before it. A plan names such a model by its
:class:`Choice`, and what is distilled from it by its source. :func:`tallies` goes through the orders that the models
of a choice may turn out to have, and counts the different models that each of them needs.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from kdops.config.criterion import Criterion
from kdops.sweeps.model import Model
from kdops.sweeps.ranking import ranked

MOST_VISITS = 100_000
"""How many models are looked at, over all outcomes of those that depend on each other."""


@dataclass(frozen=True, eq=False)
class PlannedUnit:
    """A network that is to be there.

    Attributes:
        what: all that decides its weights, its source's aside.
        source: what it is distilled from; None for labels.
        there: the model that is there already, by the URI of the source it was distilled from, empty for labels.
    """

    what: Hashable
    source: Node | None = None
    there: Mapping[str, Model] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Choice:
    """The best or the worst of some models, of which not all are measured yet.

    Attributes:
        among: what it is chosen from, two at least.
        by: what it is chosen by.
        worst: the worst is chosen.
    """

    among: tuple[Node, ...]
    by: Criterion
    worst: bool


Node = Model | PlannedUnit | Choice
"""What a network is distilled from: a model that is there, one that is planned, or a choice among them."""


@dataclass(frozen=True, eq=False)
class Fork:
    """A point where a study goes on in one of several ways, such as training the best of several settings again."""

    ways: int


@dataclass(frozen=True)
class Request:
    """A network that a sweep of the plan has, on the way where all forks are taken as ``taken`` says."""

    step: int
    unit: PlannedUnit
    taken: tuple[tuple[Fork, int], ...] = ()


@dataclass
class Tally:
    """The different models that one outcome needs, by the step of the plan that has them first."""

    models: dict[int, int] = field(default_factory=lambda: defaultdict(int))
    missing: dict[int, int] = field(default_factory=lambda: defaultdict(int))

    def add(self, step: int, is_missing: bool) -> None:
        """Count a model."""
        self.models[step] += 1
        self.missing[step] += is_missing


def possible_models(node: Node) -> dict[str, Model]:
    """Return the models that are there already and that a node may turn out to be, by their URI."""
    if isinstance(node, Choice):
        return {uri: model for one in node.among for uri, model in possible_models(one).items()}
    models = [node] if isinstance(node, Model) else node.there.values()
    return {model.uri: model for model in models}


def tallies(requests: Sequence[Request]) -> list[list[Tally]]:
    """Return the tallies of all outcomes, apart for requests whose outcomes do not depend on each other.

    An outcome is an order of the models of each choice, in agreement with those that are measured, and a way of each
    fork; every outcome is counted as possible. Where there are too many to go through, two tallies are returned that
    lie below and above all of them.
    """
    return [_of_all_outcomes(own) for own in _independent(requests)]


def _independent(requests: Sequence[Request]) -> list[list[Request]]:
    """Return requests in groups: the same network, the same choice or the same fork puts two into one."""
    parents: dict[Hashable, Hashable] = {}

    def root(key: Hashable) -> Hashable:
        while parents.setdefault(key, key) != key:
            key = parents[key]
        return key

    for request in requests:
        for other in (*(fork for fork, _ in request.taken), *_choices(request.unit)):
            parents[root(other)] = root(request.unit.what)
    groups: dict[Hashable, list[Request]] = {}
    for request in requests:
        groups.setdefault(root(request.unit.what), []).append(request)
    return list(groups.values())


def _choices(node: Node | None) -> list[Choice]:
    """Return the choices that decide what a node is distilled from."""
    found: list[Choice] = []
    while node is not None and not isinstance(node, Model):
        if isinstance(node, Choice):
            # All are of one sweep, and so have the sources of one.
            return [*found, node, *(choice for one in node.among for choice in _choices(one) if choice not in found)]
        node = node.source
    return found


def _of_all_outcomes(requests: Sequence[Request]) -> list[Tally]:
    members: dict[Hashable, set[Hashable]] = defaultdict(set)
    for request in requests:
        for choice in _choices(request.unit):
            for one in choice.among:
                if isinstance(one, PlannedUnit):
                    members[one.what].add(choice)
        if isinstance(request.unit.source, PlannedUnit):
            members[request.unit.source.what].add(request.unit.what)
    found: list[Tally] = []
    most = max(16, MOST_VISITS // len(requests))
    for pick in _picks():
        if len(found) == most:
            return _bounds(requests)
        found.append(_Outcome(pick, members).tally(requests))
    return found


def _bounds(requests: Sequence[Request]) -> list[Tally]:
    """Return a tally of what is trained in any case, and one of all that may be."""
    low, high = Tally(), Tally()
    certain, units = set(), set()
    for request in requests:
        unit = request.unit
        if not request.taken and unit.what not in certain:
            certain.add(unit.what)
            low.add(request.step, not unit.there)
        if unit not in units:
            units.add(unit)
            is_there = bool(unit.there) and not _choices(unit)
            high.add(request.step, not is_there)
    return [low, high]


def _picks() -> Iterator[Callable[[int], int]]:
    """Yield functions that pick one of so many, until all combinations of what they were asked for are through."""
    path: list[tuple[int, int]] = []
    while True:
        asked = iter(path[:])

        def pick(count: int, asked: Iterator[tuple[int, int]] = asked) -> int:
            known = next(asked, None)
            if known is None:
                path.append((0, count))
                return 0
            return known[0]

        yield pick
        while path and path[-1][0] + 1 == path[-1][1]:
            path.pop()
        if not path:
            return
        number, count = path.pop()
        path.append((number + 1, count))


@dataclass(frozen=True)
class _Settled:
    """What a node is in an outcome: a model that is there, or one that is missing."""

    key: Hashable
    what: Hashable
    model: Model | None


class _Outcome:
    """One order of the models, found out as far as it matters.

    Args:
        pick: takes one of so many possibilities.
        members: by ``PlannedUnit.what`` where else a unit matters: the choices it is in, what is distilled from it.
    """

    def __init__(self, pick: Callable[[int], int], members: Mapping[Hashable, set[Hashable]]):
        self._pick, self._members = pick, members
        self._chosen: dict[Choice, _Settled] = {}
        self._taken: dict[Fork, int] = {}
        self._worse: dict[Hashable, set[Hashable]] = defaultdict(set)

    def tally(self, requests: Sequence[Request]) -> Tally:
        """Count the different models of requests."""
        tally, seen = Tally(), set()
        for request in requests:
            if all(self._way(fork) == way for fork, way in request.taken):
                settled = self._settled(request.unit)
                if settled.key not in seen:
                    seen.add(settled.key)
                    tally.add(request.step, settled.model is None)
        return tally

    def _way(self, fork: Fork) -> int:
        if fork not in self._taken:
            self._taken[fork] = self._pick(fork.ways)
        return self._taken[fork]

    def _settled(self, node: Node) -> _Settled:
        if isinstance(node, Model):
            return _Settled(node.uri, "", node)
        if isinstance(node, PlannedUnit):
            source = self._settled(node.source).key if node.source is not None else ""
            model = node.there.get(source) if isinstance(source, str) else None
            return _Settled(model.uri if model else (node.what, source), node.what, model)
        if node not in self._chosen:
            self._chosen[node] = self._choose(node)
        return self._chosen[node]

    def _choose(self, choice: Choice) -> _Settled:
        among = {one.key: one for one in map(self._settled, choice.among)}
        measured = ranked([one.model for one in among.values() if one.model is not None], choice.by)
        for better, worse in pairwise(measured):
            self._worse[better.uri].add(worse.uri)
        ends = {
            key: one
            for key, one in among.items()
            if not any(self._is_beaten(*((key, other) if choice.worst else (other, key))) for other in among)
        }
        # Of missing models that are alike in everything that matters here, one stands for all.
        alike = {key if one.model else self._profile(one): one for key, one in ends.items()}
        options = list(alike.values())
        chosen = options[self._pick(len(options))] if len(options) > 1 else options[0]
        others = among.keys() - {chosen.key}
        if choice.worst:
            for other in others:
                self._worse[other].add(chosen.key)
        else:
            self._worse[chosen.key] |= others
        return chosen

    def _is_beaten(self, better: Hashable, worse: Hashable) -> bool:
        """Return whether one model is known to be better than another."""
        seen, waiting = {better}, [better]
        while waiting:
            for other in self._worse.get(waiting.pop(), ()):
                if other == worse:
                    return True
                if other not in seen:
                    seen.add(other)
                    waiting.append(other)
        return False

    def _profile(self, one: _Settled) -> Hashable:
        better = frozenset(key for key, worse in self._worse.items() if one.key in worse)
        return frozenset(self._members.get(one.what, ())), better, frozenset(self._worse.get(one.key, ()))
