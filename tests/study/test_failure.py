"""What a study that failed says of itself."""

import math

import pytest

from kdops.config.parsing import line
from kdops.errors import UsageError
from kdops.study.failure import CurrentSweep, describe_failure, describe_models, failure_note
from kdops.sweeps.model import Model


def model(chain, temperature, seed, uri=""):
    role = chain.rpartition(">")[2]
    return Model(role, seed, temperature, chain, "", uri or f"models:/{role}/{seed}-{temperature}")


def test_models_are_named_exactly_and_briefly():
    teachers = [model("teacher", 0.0, seed) for seed in range(3)]
    full = [model("teacher>student", float(t), seed) for seed in range(3) for t in (0, *range(1, 30), 2.5)]
    assert describe_models(teachers) == "3 x teacher (seeds 0-2)"
    assert describe_models(full) == "93 x teacher>student (T = 0-2, 2.5, 3-29 of seeds 0-2)"
    assert describe_models(full[:31] + full[31:33]) == (
        "33 x teacher>student (T = 0-2, 2.5, 3-29 of seed 0; T = 0, 1 of seed 1)"
    )
    voters = [model("teacher>student>ensemble", math.nan, 0)]
    assert describe_models(teachers + voters) == "3 x teacher (seeds 0-2), 1 x teacher>student>ensemble (seed 0)"


def test_a_failure_says_has_lacks_and_no_verdict():
    assert describe_failure([], CurrentSweep()) == [
        "It has no models.",
        "No sweep was under way when it failed; what would have come after was not begun.",
        "There is no verdict: none is given from a part of the models.",
    ]
    twice = [model("teacher", 0.0, 0), model("teacher", 0.0, 0)]
    assert describe_failure(twice, CurrentSweep())[0].startswith("It has 1 x teacher (seed 0), which stay")


def test_a_reason_is_shown_as_it_is():
    assert failure_note("a <b> *c*", ["x>y"]) == "**failed**: a \\<b\\> \\*c\\*\n\nx\\>y"


@pytest.mark.slow
def test_a_whole_study_of_which_a_part_fails_gives_no_verdict(store, capsys):
    from kdops.errors import DivergenceError

    given = {"epochs": "teacher=1,student=3,middle=3", "temperatures": "1,4", "dataset": "digits"}
    given |= {"middle_temperatures": "1", "reversed_temperatures": "1", "born_again_temperatures": "none"}
    given |= {"middle": "mlp(hidden=128,depth=20)", "learning_rate": "middle=100", "controls": "false"}
    with pytest.raises(DivergenceError):
        store.run("paper", seeds=1, owner="Ada", notes="a trial", **given)
    whole = store.studies()[0]
    parts = {run.data.tags["kdops.study"]: run for run in store.children(whole) if "kdops.role" not in run.data.tags}
    assert (whole.info.status, parts["transitivity"].info.status) == ("FAILED", "FAILED")
    assert parts["students"].info.status == "FINISHED"
    err = " ".join(capsys.readouterr().err.split())
    for run in (whole, parts["transitivity"]):
        tags = run.data.tags
        assert "kdops.verdict" not in tags
        assert "results.csv" not in [file.path for file in store.client.list_artifacts(run.info.run_id)]
        assert tags["mlflow.note.content"].startswith("**failed**: middle T=")
        lacks = "It lacks 1 x middle (seed 0), 1 x teacher\\>middle (T = 1 of seed 0)"
        assert lacks in tags["mlflow.note.content"]
        assert (tags["kdops.owner"], tags["kdops.notes"]) == ("Ada", "a trial")
    notes = [run.data.tags["mlflow.note.content"] for run in (whole, parts["transitivity"])]
    assert ["student\\>reversed" in note for note in notes] == [True, False]
    # Once on the terminal, not once a part.
    assert err.count("There is no verdict: none is given from a part of the models.") == 1
    assert (
        "It lacks 1 x middle (seed 0), 1 x teacher>middle (T = 1 of seed 0); what would have come after was not begun."
        in err
    )


def test_owner_and_notes_are_told_and_change_nothing_that_is_trained(apart, capsys):
    before = apart.weights()
    again = apart.run("students", seeds=1, owner="Ada & Bob", notes="for *the* sign")
    assert apart.children(again) == []
    assert apart.weights() == before
    tags = again.data.tags
    assert (tags["kdops.owner"], tags["kdops.notes"]) == ("Ada & Bob", "for *the* sign")
    assert tags["mlflow.note.content"].endswith("Owner: Ada & Bob\n\nNotes: for \\*the\\* sign")
    (child,) = apart.children(apart.run("students", seeds=1, temperatures="9", owner="Eve"))
    assert child.data.tags["kdops.owner"] == "Eve"
    assert "kdops.notes" not in child.data.tags


@pytest.mark.parametrize("text", ["two\nlines", "a\x00b", "x" * 201])
def test_an_owner_is_one_line(text):
    with pytest.raises(UsageError, match="owner="):
        line("owner", text, 200)
