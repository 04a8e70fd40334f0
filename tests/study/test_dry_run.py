"""The law of a dry run: it lists what is then trained, model by model where they are known and by role where not."""

import re
from collections import Counter

import pytest

import kdops.data.dataset
from kdops.cli.launch import launch
from kdops.config.parameters import ENTRY_POINTS
from kdops.study.dry_run import PlanningExecutor
from kdops.sweeps.model import Model, Sweep
from kdops.utils.progress import Reporter
from tests.conftest import FAST, PAPER

LINE = re.compile(r"(\d+) x (?!trial )(\S+) .* on \d+ images, (\d+) to train, \d+ already there")
SMALL = {"seeds": "1", "temperatures": "1,4"}
SMALL["epochs"] = "teacher=1,student=2,middle=2,reversed=1,born-again=1"
GIVEN = {
    "teacher": {},
    "students": {},
    "symmetry": {"student_temperatures": "1,4", "born_again_temperatures": "1"},
    # At one temperature the best, the best distilled and the worst of a station are two nets, whichever is the best.
    "chain": {"steps": "teacher>middle>student>student", "temperatures": "4"},
    "transitivity": {"temperatures": "4"},
    "search": {"trials": "2", "space": "hidden=8,16 temperature=1..4", "seeds": "2"},
}


def planned(place, entry_point, capsys, **given):
    """Return how many models of each role a dry run lists, and how many of them it would train."""
    capsys.readouterr()
    place.plan(entry_point, **given)
    found = [LINE.fullmatch(line) for line in capsys.readouterr().out.splitlines()]
    listed, missing = Counter(), Counter()
    for match in filter(None, found):
        listed[match[2]] += int(match[1])
        missing[match[2]] += int(match[3])
    return listed, +missing


def trained(place):
    """Return how many models of each role were trained and stored."""
    tags = [run.data.tags for run in place.children() if "kdops.model" in run.data.tags]
    return Counter(one["kdops.role"] for one in tags if one["kdops.role"] != "ensemble")


@pytest.mark.parametrize("entry_point", [name for name in GIVEN if name != "chain"])
def test_a_dry_run_lists_what_is_then_trained(entry_point, store, capsys):
    given = {**SMALL, **GIVEN[entry_point]}
    listed, missing = planned(store, entry_point, capsys, **given)
    assert listed == missing, "the store is empty"
    assert store.children() == store.calls == []
    store.run(entry_point, **given)
    assert missing == trained(store)


def test_a_dry_run_of_an_ensemble_lists_its_controls(fork, capsys):
    before = trained(fork)
    _, missing = planned(fork, "ensemble", capsys)
    assert missing == {"reseeded": 4, "reordered": 4}
    fork.run("ensemble")
    assert trained(fork) - before == missing


@pytest.mark.parametrize(("entry_point", "given"), [("transitivity", FAST), ("paper", PAPER)])
def test_what_numbers_decide_is_counted_as_if_all_choices_were_different(
    entry_point, given, nowhere, done, whole, monkeypatch, capsys
):
    listed, missing = planned(nowhere, entry_point, capsys, **given)
    assert listed == missing, "there is no store"
    place = done if entry_point == "transitivity" else whole
    models = trained(place)
    assert listed.keys() == models.keys()
    # A student per temperature and replicate for each way through a middle net, of which two may be one.
    ways = len(given.get("middle_temperatures", given["temperatures"]).split(",")) * int(given["seeds"])
    assert 0 <= listed["student"] - models["student"] <= 2 * ways
    assert listed - Counter(student=listed["student"]) == models - Counter(student=models["student"])
    # Once the numbers are there, so are the choices: the plan lists the very models that the study has.
    with monkeypatch.context() as patch:
        listed, missing = planned(place.enter(patch), entry_point, capsys, **given)
    assert not missing
    assert sum(listed.values()) == sum(models.values())


def test_a_dry_run_of_a_chain_lists_no_less_than_is_trained(store, capsys):
    given = {**SMALL, **GIVEN["chain"]}
    _, missing = planned(store, "chain", capsys, **given)
    store.run("chain", **given)
    assert not trained(store) - missing
    assert planned(store, "chain", capsys, **given)[1] == Counter()


def model(seed, temperature, accuracy=None):
    metrics = {} if accuracy is None else {"val_accuracy": accuracy, "val_nll": 1.0}
    return Model("student", seed, temperature, "teacher>student", "labels", f"{seed} {temperature}", metrics=metrics)


def test_a_model_that_is_there_is_better_than_a_planned_one():
    executor = PlanningExecutor(None, None, Reporter())
    models = Sweep((model(0, 1.0), model(0, 2.0, 0.4), model(0, 4.0, 0.6), model(1, 2.0), model(1, 1.0)))
    assert [one.temperature for one in executor.best(models, "validation").records] == [4.0, 1.0]
    assert [one.temperature for one in executor.worst(models, "validation").records] == [1.0, 2.0]


@pytest.mark.parametrize("entry_point", ENTRY_POINTS)
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
