"""The law of a dry run: what is then trained lies within its range, and each end of the range is what may be trained.

Which models are the best is drawn at random here instead of trained: the pipelines, the units and the store are those
of a study.
"""

import random
import re
from collections import Counter
from contextlib import contextmanager, suppress
from dataclasses import replace
from importlib import import_module

import pytest

import kdops.data.dataset
import kdops.sweeps.plan
from kdops.cli.launch import launch
from kdops.config.parameters import ENTRY_POINTS
from kdops.data.splits import make_split
from kdops.study.executor import Executor
from kdops.study.model_index import ModelIndex
from kdops.study.study import Study
from kdops.sweeps.unit import Context
from kdops.utils.progress import Reporter
from tests.conftest import FAST, PAPER

NUMBER = r"(\d+)(?: to (\d+))?"
LINE = re.compile(rf"{NUMBER} x (?!trial )(\S+) .* on \d+ images, {NUMBER} to train, {NUMBER} already there")
TOTAL = re.compile(rf"{NUMBER} models, {NUMBER} to train(, depending on which models are best)?: about .* MB of disk")

ONE = {"seeds": "1"}
CASES = {
    "teacher": {},
    "students": {"seeds": "3"},
    "distill": {"seeds": "2"},
    "symmetry": {"student_temperatures": "1,2", "born_again_temperatures": "1"},
    "transitivity": {"temperatures": "1,2,4"},
    "transitivity at one temperature": {"temperatures": "4"},
    "chain": {"steps": "teacher>middle>student>student", "temperatures": "1,4"},
    "chain of two": {"steps": "teacher>student"},
    "chain of teachers, on test": {"steps": "teacher>teacher>teacher", "select_on": "test"},
    "methods": {"methods": "dkd", "trials": "3"},
    "methods, one a control": {"methods": "dkd,shuffled(method=logits)", "trials": "1", "temperatures": "4"},
    "mutual": {"nets": "2"},
    "paper": {**PAPER, "temperatures": "1,2", "middle_temperatures": "1,4"},
}
EXACT = ("teacher", "students", "distill", "symmetry", "transitivity at one", "chain of two", "methods", "mutual")
"""What is exact where nothing is there."""


class Stop(Exception):
    """A study is at a point where all that it trains is trained."""


class DrawnExecutor(Executor):
    """Draws the metrics of the models that a study would train, and counts these."""

    def __init__(self, index, draw):
        super().__init__(index, Reporter())
        self.draw, self.trained = draw, Counter()

    def stop_if_planned(self):
        raise Stop

    @contextmanager
    def part(self, entry_point, title):
        with suppress(Stop):
            yield self

    def _models_of(self, units, trainset, context, sources):
        self.index.look(units)
        there, missing = self.index.sort(units)
        self.trained[units[0].task.known_as] += len(missing)
        made = {unit.fingerprint: self._made(unit) for unit in missing}
        return {**there, **made}

    def _made(self, unit):
        names = ("val_accuracy", "val_nll", "test_accuracy", "test_nll")
        metrics = {name: self.draw.choice((0.0, 0.2, 0.4, 0.9)) + self.draw.random() / 10 for name in names}
        return replace(unit.record, uri=f"models:/{unit.fingerprint}/1", weights=unit.fingerprint, metrics=metrics)

    adopt = networks = store = conclude = None


DrawnExecutor.__abstractmethods__ = frozenset()


def trained(entry_point, settings, data, draw):
    """Return how many models of each role a study would train, were its metrics those that are drawn."""
    split = make_split(data, settings.transfer, settings.split_seed, settings.hops())
    executor = DrawnExecutor(ModelIndex(data, split), draw)
    with suppress(Stop):
        import_module(f"pipelines.{entry_point}").run(Study(settings, Context(settings, data, split, "cpu"), executor))
    return executor.trained


def stored(place):
    """Return how many models of each role were trained and stored."""
    tags = [run.data.tags for run in place.children() if "kdops.model" in run.data.tags]
    return Counter(one["kdops.role"] for one in tags if one["kdops.role"] != "ensemble")


def planned(place, entry_point, capsys, **given):
    """Return the least and the most that a dry run lists: models by role, to train by role, and both in all."""
    capsys.readouterr()
    place.plan(entry_point, **given)
    *lines, total = capsys.readouterr().out.splitlines()
    roles = {"models": (Counter(), Counter()), "to train": (Counter(), Counter())}
    for match in filter(None, map(LINE.fullmatch, lines)):
        for name, first in (("models", 1), ("to train", 4)):
            for end, counts in enumerate(roles[name]):
                counts[match[3]] += int(match[first + end] or match[first])
    found = TOTAL.fullmatch(total)
    sums = {
        "models": (int(found[1]), int(found[2] or found[1])),
        "to train": (int(found[3]), int(found[4] or found[3])),
    }
    assert bool(found[5]) == any(low < high for low, high in sums.values())
    return roles, sums


@pytest.fixture(autouse=True)
def _speed_is_known(monkeypatch):
    """Measure the machine's speed in no plan: it takes longer than the plans of this file."""
    monkeypatch.setattr(kdops.sweeps.plan, "matrix_speed", lambda device: 1e10)


@pytest.fixture(params=["nowhere", "done"])
def place(request, monkeypatch):
    """A place without a store, and one with a part of what is asked for."""
    found = request.getfixturevalue(request.param)
    return request.param, found if request.param == "nowhere" else found.enter(monkeypatch)


def slow_where_large(cases):
    """Return cases, those whose plans have hundreds of models marked as slow."""
    return [pytest.param(one, marks=pytest.mark.slow) if one in ("paper", "methods") else one for one in cases]


def test_every_entry_point_is_held_to_the_law():
    assert {case.partition(" ")[0].strip(",") for case in CASES} | {"search", "ensemble"} == set(ENTRY_POINTS)


@pytest.mark.parametrize("case", slow_where_large(CASES))
def test_what_is_trained_lies_within_the_range_and_both_ends_can_happen(case, place, capsys):
    name, where = place
    entry_point = case.partition(" ")[0].strip(",")
    roles, sums = planned(where, entry_point, capsys, **{**ONE, **CASES[case]})
    low, high = sums["to train"]
    if name == "nowhere":
        assert sums["models"] == sums["to train"]
        assert (low == high) == case.startswith(EXACT)
    settings = where.settings(entry_point, **{**ONE, **CASES[case]})
    data, draw, found = kdops.data.dataset.load("digits"), random.Random(0), set()
    for number in range(100):
        counts = trained(entry_point, settings, data, draw)
        found.add(counts.total())
        assert low <= counts.total() <= high
        assert roles["to train"][0] <= counts <= roles["to train"][1]
        if number >= 2 and {low, high} <= found:
            break
    assert {low, high} <= found


def test_what_is_there_decides_so_nothing_is_left_open(done, whole, monkeypatch, capsys):
    for entry_point, place, given in (("transitivity", done, FAST), ("paper", whole, PAPER)):
        with monkeypatch.context() as patch:
            roles, sums = planned(place.enter(patch), entry_point, capsys, **given)
        assert sums["to train"] == (0, 0)
        assert roles["models"] == (stored(place),) * 2


def test_a_search_trains_what_its_dry_run_lists_before_and_after_more_trials(store, capsys):
    given = {"space": "hidden=8,16 temperature=1,2 alpha=1 t_squared=true depth=1", "temperatures": "1,4", "seeds": "2"}
    given |= {"epochs": "teacher=1,student=2", "student": "mlp(hidden=8)", "batch_size": "student=64"}
    for trials in ("2", "4"):
        before = stored(store)
        _, sums = planned(store, "search", capsys, trials=trials, **given)
        store.run("search", trials=trials, **given)
        low, high = sums["to train"]
        assert low <= (stored(store) - before).total() <= high
    assert planned(store, "search", capsys, trials="4", **given)[1]["to train"] == (0, 0)


@pytest.mark.slow
def test_what_an_ensemble_trains_is_what_its_dry_run_lists(fork, capsys):
    roles, _ = planned(fork, "ensemble", capsys)
    before = stored(fork)
    fork.run("ensemble")
    assert roles["to train"] == (stored(fork) - before,) * 2 == (Counter(reseeded=4, reordered=4),) * 2


def test_beyond_too_many_outcomes_the_range_has_all_of_them(nowhere, capsys):
    """Fourteen stations, each of which may go on from hard labels or not."""
    given = {"steps": ">".join(["teacher", *["student"] * 15]), "temperatures": "4", "seeds": "1"}
    _, sums = planned(nowhere, "chain", capsys, **given)
    low, high = sums["to train"]
    settings, data = nowhere.settings("chain", **given), kdops.data.dataset.load("digits")
    for seed in range(3):
        assert low <= trained("chain", settings, data, random.Random(seed)).total() <= high


@pytest.mark.parametrize("entry_point", slow_where_large(ENTRY_POINTS))
def test_the_data_are_loaded_once_in_a_process(entry_point, fork, monkeypatch, capsys):
    calls, load = [], kdops.data.dataset.load
    monkeypatch.setattr(
        kdops.data.dataset, "load", lambda *given, **named: calls.append(given) or load(*given, **named)
    )
    launch(entry_point, {**FAST, "dataset": "digits", "dry_run": "true"})
    assert len(calls) == 1
    if entry_point == "ensemble":
        fork.plan(entry_point)
        assert len(calls) == 2, "its members are drawn before it opens, from the same data"
