"""Each paper of the table runs on digits, and answers every one of its claims."""

import json
import re
from functools import cache, partial
from importlib.util import find_spec
from pathlib import Path

import pytest

from kdops.config.paper import Paper
from kdops.config.papers import DEFAULT, PAPERS
from kdops.config.parameters import ENTRY_POINTS
from kdops.config.recipe_settings import SETTINGS
from kdops.config.roles import BASE_ROLES
from kdops.data import dataset
from kdops.errors import UsageError
from kdops.study.dry_run import PlanningExecutor
from kdops.study.executor import Executor
from pipelines import paper

OTHERS = [name for name in PAPERS if name != DEFAULT]  # the default paper has tests of its own
TINY = {"dataset": "digits", "seeds": "1", "epochs": "6", "temperatures": "1,4,8"}
TINY |= {"teacher": "4", "middle": "4", "student": "3"}
"""Of networks the number of units or filters."""


digits = cache(partial(dataset.load, "digits"))

OTHER = {
    **{"teacher": "5", "middle": "5", "student": "5", "temperatures": "1,4,8,9"},
    **{"method": "dkd", "alpha": "0.5", "leave_out": "5", "label_noise": "0.5", "bootstrap": "true"},
    "epochs": "7",
}
"""Other values of what an experiment may read; of several temperatures the last, since the first is always read."""


def refused(name):
    """Return what a paper refuses."""
    own = {one.name for one in ENTRY_POINTS["paper"].own} - {"paper"}
    return {*own, *PAPERS[name].unread, *PAPERS[name].decided}


def given_to(name, values):
    """Return values with networks of the family that a paper is about."""
    is_convolutional = PAPERS[name].usual.get("student", "").startswith("cnn")
    net = "cnn(filters={},layers=2,dropout=0)" if is_convolutional else "mlp(hidden={})"
    given = {one: net.format(value) if one in BASE_ROLES else value for one, value in values.items()}
    if PAPERS[name].takes_one_temperature and "temperatures" in given:
        given["temperatures"] = given["temperatures"].split(",")[-1]
    return given


def taken(name):
    """Return what a paper is tried with, without what it would ignore."""
    # The tests have temperatures of their own where none are given.
    own = {"temperatures": "auto"} | {one: value for one, value in TINY.items() if one not in refused(name)}
    return given_to(name, own)


@pytest.fixture
def planned(nowhere, monkeypatch):
    """Return the networks that a paper would train, as the digests of all that decides their weights."""

    def plan(name, **given):
        found = set()

        def units(*of):
            made = Executor.units(*of)
            found.update(unit.training for unit in made)
            return made

        monkeypatch.setattr(PlanningExecutor, "units", staticmethod(units))
        monkeypatch.setattr(Paper, "check", lambda *_: None)
        paper.main(nowhere.settings("paper", paper=name, dry_run="true", **given_to(name, {**TINY, **given})), digits())
        return found

    return plan


@pytest.mark.parametrize("name", OTHERS)
def test_what_is_refused_changes_nothing_and_all_else_changes_what_is_trained(name, planned):
    usual, entry = planned(name), PAPERS[name]
    for one, value in OTHER.items():
        if one not in entry.decided:
            assert (planned(name, **{one: value}) == usual) is (one in entry.unread), one


@pytest.mark.parametrize("name", [name for name in OTHERS if PAPERS[name].takes_one_temperature])
def test_several_temperatures_are_refused_where_one_is_read(name, nowhere):
    with pytest.raises(UsageError, match=f"^temperatures=1,4,9: paper={name} takes a single one"):
        nowhere.settings("paper", paper=name, temperatures="1,4,9")


def source_of(module):
    """Return the text of a paper's file, and of those of other papers that it imports."""
    text = Path(find_spec(module).origin).read_text("utf-8")
    return text + "".join(map(source_of, re.findall(r"^from (pipelines\.papers\.\w+) import", text, re.MULTILINE)))


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize(("what", "pattern"), [("margin", r"\.margin\b"), ("choice", r"\.(best|worst|single)\b")])
def test_what_decides_no_weights_is_read_where_the_entry_says_so(name, what, pattern):
    assert bool(re.search(pattern, source_of(PAPERS[name].module))) is (what in PAPERS[name].reads)


@pytest.mark.parametrize("name", OTHERS)
def test_what_a_paper_would_ignore_is_refused(name, nowhere):
    for one in refused(name):
        of_student = one in SETTINGS
        told = "is decided by" if one in PAPERS[name].decided else "has no effect on"
        value = "student=7" if of_student else "7"
        with pytest.raises(UsageError, match=rf"^{one}={value}: {told} paper={name}"):
            nowhere.settings("paper", paper=name, **{"temperatures": "auto", one: value})


def test_a_margin_that_is_given_counts(nowhere):
    assert nowhere.settings("paper", paper="hinton-2015", dataset="digits").margin == 0.002
    assert nowhere.settings("paper", paper="hinton-2015", dataset="digits", margin="0.01").margin == 0.01


@pytest.mark.parametrize("name", OTHERS)
def test_each_paper_can_be_planned(name, nowhere, capsys):
    nowhere.plan("paper", paper=name, **taken(name))
    assert " models, " in capsys.readouterr().out.splitlines()[-1]


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name != "hansen-salamon-1990")) for name in OTHERS]
)
def test_each_paper_answers_all_of_its_claims(name, store):
    parent = store.run("paper", paper=name, **taken(name))
    findings = json.loads(store.artifact(parent, "answer.json").read_text())["findings"]
    own = {statement.what: statement.shown for statement in PAPERS[name].statements().values()}
    told = {finding["what"]: finding["paper"] for finding in findings}
    assert own.items() <= told.items()
    assert {finding["answer"] for finding in findings} <= {"open", "other data"}, "one replicate decides nothing"
    report = store.artifact(parent, "report.md").read_text()
    assert all(words.split("[")[0].strip() in report.replace("\\", "") for words in own.values())
    assert parent.data.tags["kdops.paper"] == name


@pytest.mark.parametrize("name", [name for name in OTHERS if hasattr(PAPERS[name].load(), "NEEDED")])
def test_temperatures_that_claims_are_tested_at_must_be_there(name, nowhere):
    from kdops.study.open import load_data

    settings = nowhere.settings("paper", paper=name, **{**taken(name), "temperatures": "2"})
    with pytest.raises(UsageError, match=r"^temperatures=2: must have "):
        paper.check(settings, load_data(settings))
