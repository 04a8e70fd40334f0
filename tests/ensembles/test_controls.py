"""When the controls of an ensemble are trained, and what is recorded of an ensemble."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from kdops.config.settings import Settings
from kdops.ensembles.controls import _objection
from kdops.sweeps.model import Sweep
from tests.sweeps.test_fingerprint import TRANSFER, unit_of
from tests.test_selection import voting


def members_of(**changed):
    """Return the settings of an ensemble, its members and their teacher, as those settings train them."""
    settings = Settings.parse("ensemble", **changed)
    given = {name: str(value) for name, value in changed.items() if name in ("method", "alpha", "student", "teacher")}
    teacher = unit_of(source=None, temperature=0.0, task={**TRANSFER, "role": "teacher"}, **given).record
    members = [unit_of(temperature=t, source=replace(teacher, uri="models:/t/1"), **given).record for t in (1.0, 4.0)]
    return settings, members, teacher


def objection(settings, members, teachers, replicates=1):
    return _objection(settings, Sweep(tuple(members)), teachers, replicates)


def test_members_that_the_settings_train_have_controls():
    for changed in ({}, {"method": "dkd"}, {"alpha": "0.7"}, {"student": "mlp(hidden=8)"}):
        settings, members, teacher = members_of(**changed)
        assert objection(settings, members, {0: teacher}) == ""


TRAINED_OTHERWISE = {
    "architecture": "mlp(hidden=5,depth=1,dropout=0)",
    "epochs": "999",
    "batch_size": "17",
    "learning_rate": "0.017",
    "weight_decay": "0.5",
}


@pytest.mark.parametrize("name", TRAINED_OTHERWISE)
def test_models_that_the_settings_train_otherwise_have_none(name):
    settings, members, teacher = members_of()
    other = {name: TRAINED_OTHERWISE[name]}
    changed = replace(teacher, params={**teacher.params, **other})
    assert objection(settings, members, {0: changed}) == "the members' teachers are not what these settings train"
    changed = replace(members[1], params={**members[1].params, **other})
    reason = "the members are not what these settings train as students"
    assert objection(settings, [members[0], changed], {0: teacher}) == reason


@pytest.mark.parametrize(
    "other", [{"alpha": "0.3"}, {"t_squared": "false"}, {"order": "own"}, {"method": "dkd"}], ids=str
)
def test_members_that_learned_otherwise_have_none(other):
    settings, members, teacher = members_of()
    changed = replace(members[1], params={**members[1].params, **other})
    reason = "the members are not what these settings train as students"
    assert objection(settings, [members[0], changed], {0: teacher}) == reason
    # What only those learn that have a source decides nothing of a teacher.
    changed = replace(teacher, params={**teacher.params, **other})
    assert objection(settings, members, {0: changed}) == ""


def test_other_members_have_none():
    settings, members, teacher = members_of()
    one = [members[0], replace(members[1], temperature=1.0)]
    middle = [members[0], replace(members[1], role="middle")]
    assert objection(replace(settings, controls=False), members, {0: teacher}) == "the settings ask for none"
    for given, teachers, count, reason in (
        (members, {}, 1, "no common source"),
        (members, {0: teacher}, 2, "no common source"),
        (members, {1: teacher}, 1, "teachers of their own replicates"),
        (members, {0: replace(teacher, role="middle")}, 1, "teachers of their own replicates"),
        (middle, {0: teacher}, 1, "not what these settings train as students"),
        (one, {0: teacher}, 1, "the members have one temperature"),
    ):
        assert reason in objection(settings, given, teachers, count)


@pytest.mark.parametrize("by", ["validation", "test"])
def test_the_record_of_an_ensemble_is_made_of_its_members(by):
    evaluation, stored = voting(by), []
    evaluation.study.data.digest, evaluation.study.data.metadata = "data", {}
    evaluation.study.split = SimpleNamespace(
        **vars(evaluation.study.split), digest="split", mode="disjoint", hop=lambda index: [index]
    )
    evaluation.study.store = lambda outcome, write: stored.append(outcome) or outcome.record
    for own in evaluation.replicates.values():
        own[:] = [replace(member, weights=f"w{member.temperature}") for member in own]
        own[0] = replace(own[0], params={**own[0].params, "flops": "7"})
    (record, other) = evaluation.register(2).records
    members = evaluation.replicates[0][:2]
    assert (record.role, record.seed, other.seed, record.select_on) == ("ensemble", 0, 1, by)
    assert (record.source, record.chain) == (" ".join(one.uri for one in members), "teacher>student>ensemble")
    assert record.metrics["test_accuracy"] == pytest.approx(evaluation.of(2)[0])
    assert record.metrics["val_accuracy"] == pytest.approx(evaluation.curves("validation")[0, 1])
    assert {name for name in record.metrics if name.startswith("val_")} == {
        *("val_accuracy", "val_nll", "val_balanced_accuracy", "val_macro_f1")
    }
    assert record.params == {
        "dataset": "toy",
        "architecture": "vote(2 x mlp(hidden=8,depth=1,dropout=0))",
        "members": "2",
        "parameters": "20",
        "vote": "majority",
        "transfer": "disjoint",
        "split_seed": str(evaluation.study.settings.split_seed),
    }
    evaluation.replicates[1][0] = replace(evaluation.replicates[1][0], select_on="test")
    # So is an ensemble of a member that was chosen on test, and no other of its members.
    assert [one.select_on for one in evaluation.register(2).records] == [by, "test"]
    assert (stored[-1].fingerprint != stored[1].fingerprint) is (by == "validation")
    del stored[2:]
    outcome = stored[0]
    assert (outcome.sources, list(outcome.trainset.rows)) == (tuple(members), [0])
    assert outcome.fingerprint == outcome.training != stored[1].fingerprint
    # Another order of the members is another ensemble.
    evaluation.replicates[0].reverse()
    evaluation.register(3)
    evaluation.replicates[0].reverse()
    evaluation.register(3)
    assert len({one.fingerprint for one in stored[::2]}) == 3
