"""Each paper of the table runs on digits, and answers every one of its claims."""

import json

import pytest

from kdops.config.papers import DEFAULT, PAPERS
from kdops.errors import UsageError
from pipelines import paper

OTHERS = [name for name in PAPERS if name != DEFAULT]  # the default paper has tests of its own
TINY = {
    **{"dataset": "digits", "seeds": "1", "epochs": "1", "temperatures": "1,4,8"},
    **{"teacher": "mlp(hidden=4)", "student": "mlp(hidden=3)"},
}


def taken(name):
    """Return what a paper is tried with, without what it would ignore."""
    ignored = PAPERS[name].ignored
    # The tests have temperatures of their own where none are given.
    return {"temperatures": "auto"} | {one: value for one, value in TINY.items() if one not in ignored}


@pytest.mark.parametrize("name", OTHERS)
def test_what_a_paper_would_ignore_is_refused(name, nowhere):
    for one in PAPERS[name].ignored:
        with pytest.raises(UsageError, match=rf"^{one}=7: has no effect on paper={name}"):
            nowhere.settings("paper", paper=name, **{"temperatures": "auto", one: "7"})
    for one in PAPERS[name].student:
        with pytest.raises(UsageError, match=rf"^{one}=student=7: is decided by paper={name} for the student"):
            nowhere.settings("paper", paper=name, **{"temperatures": "auto", one: "student=7"})


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

    settings = nowhere.settings("paper", paper=name, **{**TINY, "temperatures": "2"})
    with pytest.raises(UsageError, match=r"^temperatures=2: must have "):
        paper.check(settings, load_data(settings))
