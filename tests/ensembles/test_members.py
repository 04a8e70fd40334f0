"""Members of ensembles, drawn from real registries."""

import json
import os
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import mlflow
import numpy as np
import pytest
import torch
from mlflow import MlflowClient
from mlflow.entities import Param, RunTag
from mlflow.models import ModelSignature
from mlflow.types import Schema, TensorSpec
from torch import nn

from kdops.config.settings import Settings
from kdops.data import dataset as datasets
from kdops.data.splits import make_split
from kdops.ensembles.members import draw, draw_members, with_newest_split
from kdops.errors import KdopsError, UsageError
from kdops.packaging.external import PICKLE, load_classifier
from kdops.packaging.folder import read_weights
from kdops.registry.promotion import promote
from kdops.registry.registered import RegisteredModels
from kdops.registry.versions import Registry, delete_version
from kdops.sweeps.model import COPY_SEEDS, Model
from kdops.tracking.named_models import find_model
from tests.conftest import Place, copy_database

DIGITS = datasets.load("digits")
DISJOINT = make_split(DIGITS, "disjoint", 0)
SHARED = make_split(DIGITS, "shared", 0)
OTHER_SEED = make_split(DIGITS, "disjoint", 7)
STUDENT = "kdops-digits-student"

TRAINED = {
    "architecture": "mlp(hidden=8,depth=1,dropout=0)",
    "epochs": "40",
    "batch_size": "64",
    "learning_rate": "0.01",
    "weight_decay": "0.01",
    "alpha": "1",
    "t_squared": "true",
    "order": "shared",
}


def settings_for(**given):
    """Return the settings of a study that draws members; all temperatures are asked for where none is given."""
    return Settings.parse("ensemble", **{"temperatures": "1-40", **{name: str(value) for name, value in given.items()}})


def newest_split(client, **given):
    """Return the transfer setting and the seed of the newest split."""
    settings = with_newest_split(RegisteredModels(client), DIGITS, settings_for(**given))
    assert not settings.newest
    return settings.transfer, settings.split_seed


@dataclass
class Shelf:
    """A store that models are registered in without any training, as kdops registers them."""

    place: object

    def __post_init__(self):
        self.client = self.place.client
        # One stands for all: nothing is read from it.
        self.model_id = self.client.create_logged_model("0", name="model").model_id
        self.client.finalize_logged_model(self.model_id, "READY")

    def put(
        self,
        *,
        role="student",
        seed=0,
        temperature=1.0,
        accuracy=0.5,
        loss=1.0,
        test=0.5,
        chain="teacher>student",
        source="models:/kdops-digits-teacher/1",
        weights="",
        data=DIGITS,
        split=DISJOINT,
        status="FINISHED",
        select_on="validation",
        **params,
    ):
        """Register a model and give its URI."""
        params = {**TRAINED, "split_seed": str(split.seed), **params}
        run_id = self.client.create_run("0", tags={"kdops.role": role, "kdops.source": source}).info.run_id
        told = [RunTag("kdops.weights", weights or f"weights of {run_id}")]
        self.client.log_batch(run_id, params=[Param(*param) for param in params.items()], tags=told)
        record = Model(
            role=role,
            seed=seed,
            temperature=temperature,
            chain=chain,
            source=source,
            uri="",
            run_id=run_id,
            model_id=self.model_id,
            metrics={"val_accuracy": accuracy, "val_nll": loss, "test_accuracy": test},
            params=params,
            select_on=select_on,
        )
        uri = Registry(self.client, data, split).register(record, "students", "a fingerprint")
        self.client.set_tag(run_id, "kdops.model", uri)
        if status:
            self.client.set_terminated(run_id, status)
        return uri

    def teacher(self, weights, **given):
        return self.put(role="teacher", chain="teacher", source="labels", temperature=0, weights=weights, **given)

    def draw(self, data=DIGITS, split=DISJOINT, **how):
        return draw_members(RegisteredModels(self.client), data, split, settings_for(**how))

    def refusal(self, **how):
        with pytest.raises(UsageError) as caught:
            self.draw(**how)
        assert caught.value.exit_code == 2
        assert "\n" not in str(caught.value)
        return str(caught.value)


@pytest.fixture
def shelf(store):
    return Shelf(store)


def uris(drawn):
    return [[member.uri for member in replicate] for replicate in drawn.replicates]


def versions(drawn):
    return [[int(member.uri.rsplit("/", 1)[1]) for member in replicate] for replicate in drawn.replicates]


def test_a_study_gives_its_direct_students_replicate_by_replicate(look):
    drawn = Shelf.draw(look)
    runs = {run.data.tags["kdops.model"]: run for run in look.children()}
    direct = {
        uri: run
        for uri, run in runs.items()
        if run.data.tags["kdops.chain"] == "teacher>student" and run.data.params["temperature"] != "0"
    }
    assert {member.uri for member in drawn.members} == direct.keys()
    assert [{member.seed for member in replicate} for replicate in drawn.replicates] == [{0}, {1}]
    assert (drawn.name, drawn.size) == (STUDENT, 2)
    for member in drawn.members:
        run = direct[member.uri]
        assert (member.run_id, member.own, member.role) == (run.info.run_id, True, "student")
        assert member.model_id == run.outputs.model_outputs[0].model_id
        assert member.weights == run.data.tags["kdops.weights"]
        assert member.source == run.data.tags["kdops.source"]
        assert (member.chain, member.architecture) == ("teacher>student", run.data.params["architecture"])
        assert (member.seed, member.temperature) == (
            int(run.data.params["seed"]),
            float(run.data.params["temperature"]),
        )
        assert member.val_accuracy == member.metrics["val_accuracy"] == run.data.metrics["val_accuracy"]
        # With its record the weights are found, as those of any other model of a study.
        record = member
        assert (record.uri, record.params["epochs"], record.temperature) == (member.uri, "3", member.temperature)
        assert "net.1.weight" in read_weights(Path(mlflow.artifacts.download_artifacts(record.uri)))
    others = [uri for uri in runs if f"/{STUDENT}/" in uri and uri not in direct]
    assert others
    assert f": {len(others)} not distilled straight from a teacher." in drawn.left_out


def test_the_best_come_first_by_accuracy_then_loss_then_age(shelf):
    for temperature, (accuracy, loss) in enumerate([(0.5, 1.0), (0.9, 3.0), (0.9, 2.0), (0.9, 2.0), (1.0, 9.0)], 1):
        shelf.put(temperature=temperature, accuracy=accuracy, loss=loss)
    assert versions(shelf.draw()) == [[5, 3, 4, 2, 1]]
    assert versions(shelf.draw(top=2)) == [[5, 3]]


def test_accuracies_are_compared_as_numbers(shelf):
    for temperature, accuracy in enumerate([1e-05, 0.5, 1.0, 0.0999], 1):
        shelf.put(temperature=temperature, accuracy=accuracy)
    assert versions(shelf.draw()) == [[3, 2, 4, 1]]


def test_each_replicate_has_its_own_best(shelf):
    for seed in (3, 1):
        for temperature, accuracy in ((1, 0.5), (2, 0.6 + 0.1 * seed), (3, 0.55)):
            shelf.put(seed=seed, temperature=temperature, accuracy=accuracy)
    drawn = shelf.draw(top=2)
    assert [[(m.seed, m.temperature) for m in own] for own in drawn.replicates] == [[(1, 2), (1, 3)], [(3, 2), (3, 3)]]


def test_the_best_on_test_where_that_is_asked_for(shelf):
    for temperature, (accuracy, test) in enumerate([(0.9, 0.1), (0.8, 0.3), (0.7, 0.2)], 1):
        shelf.put(temperature=temperature, accuracy=accuracy, test=test)
    assert versions(shelf.draw()) == [[1, 2, 3]]
    assert versions(shelf.draw(select_on="test", top=2)) == [[2, 3]]


def test_more_members_than_there_are(shelf):
    for seed, count in ((0, 4), (1, 3)):
        for temperature in range(1, count + 1):
            shelf.put(seed=seed, temperature=temperature)
    assert shelf.draw(top=3).size == 3
    assert shelf.refusal(top=4) == "top=4: there are 3 members in replicate 1; give at most 3"
    assert "a whole number from 2 to" in shelf.refusal(top=1)


def test_other_data_splits_and_transfers_are_not_drawn(shelf):
    for temperature in (1, 2):
        shelf.put(temperature=temperature)
        shelf.put(temperature=temperature, split=SHARED)
        shelf.put(temperature=temperature, split=OTHER_SEED)
        shelf.put(temperature=temperature, data=replace(DIGITS, digest="0" * 64))
    drawn = shelf.draw()
    assert versions(drawn) == [[1, 5]]
    assert drawn.left_out == f"6 of 8 versions of {STUDENT} are left out: 6 of other data, transfer or split."
    assert versions(shelf.draw(split=SHARED)) == [[2, 6]]


def test_what_there_is_instead_is_told(shelf):
    assert shelf.refusal() == (
        f"model={STUDENT}: the registry has none yet; run `kdops students --dataset digits --transfer disjoint` first"
    )
    for temperature in (1, 2, 3):
        shelf.put(temperature=temperature, split=SHARED)
    assert shelf.refusal() == (
        f"transfer=disjoint: {STUDENT} has 3 versions with transfer=shared; give transfer=shared"
    )
    assert shelf.refusal(split=make_split(DIGITS, "shared", 7)) == (
        f"split_seed=7: {STUDENT} has 3 versions with split_seed=0; give split_seed=0"
    )
    assert shelf.refusal(split=OTHER_SEED) == (
        f"transfer=disjoint: {STUDENT} has 3 versions with transfer=shared and split_seed=0; "
        "give transfer=shared and split_seed=0"
    )
    told = shelf.refusal(data=replace(DIGITS, digest="0" * 64))
    assert told.startswith(f"dataset=digits: all 3 versions of {STUDENT} are of other data; run `kdops students")


def test_students_of_other_chains_do_not_vote(shelf):
    shelf.put(chain="student", source="labels", temperature=0)
    shelf.put(chain="teacher>middle>student", temperature=4)
    assert "none of its 2 versions can vote here (student T=0, teacher>middle>student T=4)" in shelf.refusal()
    for temperature in (0.5, 1, 2):
        shelf.put(temperature=temperature)
    drawn = shelf.draw()
    assert versions(drawn) == [[4, 5]]
    assert "3 not distilled straight from a teacher" in drawn.left_out


def test_other_temperatures_are_left_out_where_some_are_asked_for(shelf):
    for temperature in (1, 2, 3, 4):
        shelf.put(temperature=temperature)
    assert versions(shelf.draw(temperatures="1,4,9")) == [[1, 4]]
    assert "2 of other temperatures" in shelf.draw(temperatures="1,4").left_out
    assert "no replicate has 2 members" in shelf.refusal(temperatures="9")


def test_other_roles_vote_too(shelf):
    reversed_ = {"role": "reversed", "chain": "teacher>student>reversed", "source": "models:/kdops-digits-student/1"}
    for temperature in (1, 2):
        shelf.put(**reversed_, temperature=temperature)
    # The control that learned hard predictions is the newest, and no member.
    shelf.put(**reversed_, temperature=0, alpha="0")
    assert uris(shelf.draw(role="reversed")) == [["models:/kdops-digits-reversed/1", "models:/kdops-digits-reversed/2"]]
    assert uris(shelf.draw(model="kdops-digits-reversed")) == uris(shelf.draw(role="reversed"))
    assert "run `kdops transitivity --dataset digits" in shelf.refusal(role="middle")


def test_ensembles_do_not_vote(shelf):
    for seed in (0, 1):
        shelf.put(role="ensemble", chain="teacher>student>ensemble", temperature=float("nan"), seed=seed)
    shelf.put()
    assert "ensembles themselves" in shelf.refusal(model="kdops-digits-ensemble")
    told = shelf.refusal(model=f"models:/{STUDENT}/1,models:/kdops-digits-ensemble/1")
    assert told == "model=models:/kdops-digits-ensemble/1: is an ensemble itself; name its members"


@pytest.mark.parametrize(
    "change", ["architecture", "epochs", "batch_size", "learning_rate", "weight_decay", "alpha", "t_squared", "order"]
)
def test_trainings_that_differ_are_not_mixed_and_the_newest_counts(shelf, change):
    for temperature in (1, 2):
        shelf.put(temperature=temperature, accuracy=0.9)
        shelf.put(temperature=temperature, accuracy=0.4, **{change: "new"})
    drawn = shelf.draw()
    assert versions(drawn) == [[2, 4]]
    assert f"2 trained with {change}={TRAINED[change]}." in drawn.left_out


def test_students_of_teachers_that_were_trained_differently_are_not_mixed(shelf):
    old, new = shelf.teacher("old", epochs="2"), shelf.teacher("new", epochs="30")
    # What only shapes distillation says nothing about a teacher.
    same = shelf.teacher("same", epochs="30", t_squared="false", seed=1)
    for temperature in (1, 2):
        shelf.put(temperature=temperature, source=old, seed=1)
        shelf.put(temperature=temperature, source=new)
        shelf.put(temperature=temperature, source=same, seed=1)
    drawn = shelf.draw()
    assert versions(drawn) == [[2, 5], [3, 6]]
    assert "2 trained with source epochs=2" in drawn.left_out


def test_a_replicate_has_one_teacher(shelf):
    # The second is the first trained again, bit for bit; the third is another one.
    first, again, other = (shelf.teacher(weights) for weights in ("a", "a", "b"))
    shelf.put(temperature=1, source=other)
    shelf.put(temperature=2, source=other)
    shelf.put(temperature=2, source=first)
    shelf.put(temperature=3, source=again)
    drawn = shelf.draw()
    assert versions(drawn) == [[3, 4]]
    assert "2 of an older source" in drawn.left_out


def test_the_same_training_twice_counts_once_the_newest(shelf):
    for _ in range(2):
        for temperature in (1, 2):
            shelf.put(temperature=temperature, accuracy=0.5 + 0.1 * temperature)
    drawn = shelf.draw()
    assert versions(drawn) == [[4, 3]]
    assert drawn.left_out == f"2 of 4 versions of {STUDENT} are left out: 2 trained again since."


def test_what_did_not_finish_is_no_member(shelf):
    for temperature, status in ((1, "FINISHED"), (2, "FAILED"), (3, ""), (4, "FINISHED"), (5, "FINISHED")):
        shelf.put(temperature=temperature, status=status)
    gone = shelf.client.get_model_version(STUDENT, "5").run_id
    shelf.client.delete_run(gone)
    drawn = shelf.draw()
    assert versions(drawn) == [[1, 4]]
    assert "3 without a finished run" in drawn.left_out
    assert "did not finish or was deleted" in shelf.refusal(model=f"models:/{STUDENT}/1,models:/{STUDENT}/2")


def test_one_model_is_no_ensemble(shelf):
    shelf.put(seed=0)
    told = shelf.refusal()
    assert "no replicate has 2 members" in told
    assert "run `kdops students --dataset digits --transfer disjoint` first" in told
    for temperature in (1, 2):
        shelf.put(seed=5, temperature=temperature)
    drawn = shelf.draw()
    assert versions(drawn) == [[2, 3]]
    assert "1 alone in replicate 0" in drawn.left_out


def test_nothing_is_left_out_where_all_are_drawn(shelf):
    shelf.put(temperature=1)
    shelf.put(temperature=2)
    assert shelf.draw().left_out == ""


def test_small_pages_hide_nothing(shelf, monkeypatch):
    wanted = [int(shelf.put(temperature=t, accuracy=1 - t / 10).rsplit("/", 1)[1]) for t in range(1, 8)]
    monkeypatch.setattr("kdops.store.client.PAGE", 2)
    assert versions(shelf.draw()) == [wanted]
    assert newest_split(shelf.client) == ("disjoint", 0)


def test_more_versions_than_one_page(shelf):
    """The search of a real store gives at most so many at a time; tags are all that these versions have."""
    client = shelf.client
    client.create_registered_model("bare")
    for number in range(203):
        client.create_model_version("bare", "file:///nowhere", tags={"val_accuracy": str(number)})
    (members,) = shelf.draw(model="bare").replicates
    assert [member.val_accuracy for member in members] == list(map(float, reversed(range(203))))


def test_the_newest_split_is_that_of_the_newest_fitting_version(shelf):
    def newest(**how):
        return newest_split(shelf.client, **how)

    assert newest() == ("disjoint", 0)
    shelf.put(split=SHARED)
    assert newest() == ("shared", 0)
    shelf.put()
    assert newest() == ("disjoint", 0)
    shelf.put(split=OTHER_SEED)
    shelf.put(split=SHARED, chain="teacher>middle>student")
    shelf.put(split=SHARED, data=replace(DIGITS, digest="0" * 64))
    assert newest() == newest(split_seed=7) == ("disjoint", 7)
    assert newest(split_seed=0) == ("disjoint", 0)
    assert newest(transfer="shared") == ("shared", 0)
    assert newest(split_seed=8) == ("disjoint", 8)
    assert newest(role="middle") == ("disjoint", 0)
    shelf.put(split=SHARED, select_on="test")
    assert newest() == ("disjoint", 7), "what was chosen on test is not drawn"


def test_what_is_named_says_which_split_it_is(shelf):
    listed = [shelf.put(split=SHARED, temperature=temperature) for temperature in (1, 2)]
    shelf.put(role="middle", chain="teacher>middle", split=make_split(DIGITS, "shared", 7))
    shelf.put()
    assert newest_split(shelf.client, model=",".join(listed)) == ("shared", 0)
    assert newest_split(shelf.client, model="kdops-digits-middle") == ("shared", 7)
    assert newest_split(shelf.client, model="nobody") == ("disjoint", 0)
    settings, drawn = drawn_for(model=",".join(listed))
    assert (settings.transfer, settings.split_seed, uris(drawn)) == ("shared", 0, [listed])
    # What is asked for in so many words is not overruled.
    with pytest.raises(UsageError, match="has transfer shared, not disjoint"):
        drawn_for(model=",".join(listed), transfer="disjoint")


def drawn_for(**given):
    """Draw as a study does; give the settings that come back, and the members."""
    return draw(Settings.parse("ensemble", **{name: str(value) for name, value in given.items()}), DIGITS)


def test_the_replicates_are_all_there_are_or_those_asked_for(shelf):
    for seed in (0, 1, 2, 5):
        for temperature in (1, 2):
            shelf.put(seed=seed, temperature=temperature)

    def seeds(**given):
        settings, drawn = drawn_for(**given)
        assert (settings.seed, settings.seeds) == (min(drawn.seeds), len(drawn.replicates))
        return drawn.seeds

    assert seeds() == (0, 1, 2, 5)
    assert seeds(seeds=2) == (0, 1)
    assert seeds(seeds=2, seed=1) == (1, 2)
    assert seeds(seeds=3, seed=1) == seeds(seeds=4, seed=1, top=2)[:2] == (1, 2)
    assert seeds(seed=2) == (2, 5)
    assert seeds(seeds=6) == (0, 1, 2, 5)
    assert drawn_for(seeds=1)[1].left_out == drawn_for(seeds=3)[1].left_out == ""
    few = drawn_for(seeds=1, temperatures="1-4", seed=5)[1]
    assert few.left_out == ""
    of_first_six = "2 of 8 versions of kdops-digits-student are left out: 2 of other replicates."
    assert drawn_for(seeds=6, seed=1)[1].left_out.startswith(of_first_six)
    # What the two numbers of the settings cannot say is said.
    assert drawn_for()[1].left_out == "They are of replicates 0, 1, 2, 5."
    assert "They are of replicates 1 to 2." in drawn_for(seeds=3, seed=1)[1].left_out
    with pytest.raises(UsageError) as caught:
        drawn_for(seeds=2, seed=3)
    assert str(caught.value) == f"seed=3: {STUDENT} has models of replicates 0, 1, 2, 5, none of replicates 3 to 4"
    with pytest.raises(UsageError, match="none of replicates from 6 on"):
        drawn_for(seed=6)


def test_a_listed_version_of_a_replicate_that_is_not_asked_for_is_named(shelf):
    listed = [shelf.put(seed=seed) for seed in (0, 4)]
    settings, drawn = drawn_for(model=",".join(listed))
    assert (drawn.seeds, settings.seed, settings.seeds) == ((0,), 0, 1)
    with pytest.raises(UsageError, match=rf"^model={listed[1]}: is of replicate 4, not of replicates 0 to 1; "):
        drawn_for(model=",".join(listed), seeds=2)


def test_the_settings_that_come_back_are_those_of_the_members(shelf):
    teacher = shelf.teacher("w", architecture="cnn(filters=4,layers=1,dropout=0)", epochs="3", learning_rate="0.5")
    told = {"architecture": "mlp(hidden=5,depth=1,dropout=0)", "epochs": "7", "batch_size": "32"}
    told |= {"learning_rate": "0.123457", "weight_decay": "0.2", "alpha": "0.5", "t_squared": "false", "order": "own"}
    for temperature in (1, 2):
        shelf.put(seed=3, temperature=temperature, source=teacher, **told)
    given = {"epochs": "teacher=1,student=1,middle=9,reordered=2", "learning_rate": "student=0.1234567", "alpha": "1"}
    settings, drawn = drawn_for(**given)
    assert (settings.method.soft_weight, settings.method.t_squared, settings.order) == (0.5, False, "own")
    assert (settings.seed, settings.seeds, settings.split_seed, settings.transfer) == (3, 1, 0, "disjoint")
    student, teachers = settings.recipes["student"], settings.recipes["teacher"]
    assert {name: str(getattr(student, name)) for name in ("architecture", "epochs", "batch_size", "weight_decay")} == {
        name: told[name] for name in ("architecture", "epochs", "batch_size", "weight_decay")
    }
    # A run has six digits of it; the caller, who means the same, has them all.
    assert student.learning_rate == 0.1234567
    assert (str(teachers.architecture), teachers.epochs, teachers.learning_rate) == (
        "cnn(filters=4,layers=1,dropout=0)",
        3,
        0.5,
    )
    assert settings.recipes["reseeded"] == student
    assert settings.recipes["reordered"] == student.replace(epochs=2)
    assert settings.recipes["middle"].epochs == 9
    assert drawn.left_out == ""
    json.dumps(settings.as_dict())


def test_models_of_different_methods_are_not_mixed_and_those_of_no_method_learned_logits(shelf):
    for temperature, method in ((1, {}), (2, {}), (3, {"method": "logits"})):
        shelf.put(temperature=temperature, **method)
    settings, drawn = drawn_for()
    assert (versions(drawn), str(settings.method)) == ([[1, 2, 3]], "logits")
    for temperature in (1, 2):
        shelf.put(temperature=temperature, method="dkd(beta=2)")
    settings, drawn = drawn_for()
    assert (versions(drawn), str(settings.method)) == ([[4, 5]], "dkd(beta=2)")
    assert "method=logits" in drawn.left_out


def test_settings_of_members_that_differ_stay_and_it_is_said(shelf):
    listed = [shelf.put(temperature=epochs, epochs=str(epochs), batch_size="16") for epochs in (7, 9)]
    settings, drawn = drawn_for(model=",".join(listed), epochs="5")
    assert (settings.recipes["student"].epochs, settings.recipes["student"].batch_size) == (5, 16)
    assert drawn.left_out == "The members were trained with more than one student epochs."


def test_a_setting_of_members_that_cannot_be_read_is_left_out_with_one_line(shelf, caplog):
    for temperature in (1, 2):
        shelf.put(temperature=temperature, epochs="x", batch_size="16", alpha="much")
    settings, drawn = drawn_for(epochs="5")
    assert versions(drawn) == [[1, 2]]
    assert (settings.recipes["student"].epochs, settings.recipes["student"].batch_size) == (5, 16)
    told = [record.getMessage() for record in caplog.records]
    assert told == [
        f"{what} of the members or their sources cannot be read and is left out" for what in ("epochs=x", "alpha=much")
    ]


def test_copies_are_of_the_replicate_that_they_are_copies_of(shelf):
    copies = {"role": "reseeded", "chain": "teacher>reseeded", "temperature": 4}
    for replicate in (5, 6):
        for number in range(3):
            shelf.put(**copies, seed=replicate + COPY_SEEDS * number)
    settings, drawn = drawn_for(role="reseeded")
    assert versions(drawn) == [[1, 2, 3], [4, 5, 6]]
    assert (drawn.seeds, drawn.left_out) == ((5, 6), "")
    assert (settings.seed, settings.seeds) == (5, 2)
    # A copy that was trained again is the same training.
    shelf.put(**copies, seed=5 + COPY_SEEDS)
    assert versions(shelf.draw(role="reseeded", seed=5, seeds=1)) == [[1, 3, 7]]
    # Students of such seeds are of replicates of their own.
    for temperature in (1, 2):
        shelf.put(seed=COPY_SEEDS, temperature=temperature)
        shelf.put(seed=0, temperature=temperature)
    assert drawn_for()[1].seeds == (0, COPY_SEEDS)


def test_listed_versions_are_one_ensemble_whatever_their_seed(shelf):
    listed = [shelf.put(seed=seed, temperature=1, accuracy=0.5 + 0.1 * seed, epochs=str(seed)) for seed in range(3)]
    shelf.client.set_registered_model_alias(STUDENT, "first", "1")
    drawn = shelf.draw(model=f"{listed[1]}, {listed[2]},models:/{STUDENT}@first")
    assert uris(drawn) == [[listed[2], listed[1], listed[0]]]
    assert (drawn.name, drawn.left_out) == ("", "")
    assert uris(shelf.draw(model=",".join(listed), top=2)) == [[listed[2], listed[1]]]
    again = shelf.draw(model=f"{listed[0]},{listed[1]},models:/{STUDENT}@first")
    assert uris(again) == [[listed[1], listed[0]]]
    assert again.left_out == "1 of 3 names are left out: they name a version that is named before."
    assert "at least 2 members" in shelf.refusal(model=f"{listed[0]},models:/{STUDENT}@first")


def test_listed_versions_that_do_not_fit_are_named(shelf):
    one, shared, seven = shelf.put(), shelf.put(split=SHARED), shelf.put(split=OTHER_SEED)
    other = shelf.put(data=replace(DIGITS, digest="0" * 64))
    assert shelf.refusal(model=f"{one},{shared}") == (f"model={one},{shared}: differ in transfer: disjoint and shared")
    assert f"model={one},{seven}: differ in split: " in shelf.refusal(model=f"{one},{seven}")
    assert f"model={one},{other}: differ in data_digest: " in shelf.refusal(model=f"{one},{other}")
    second = shelf.put(split=SHARED)
    assert shelf.refusal(model=f"{shared},{second}") == (
        f"model={shared}: has transfer shared, not disjoint; give transfer=shared"
    )


@pytest.mark.parametrize(
    ("model", "told"),
    [
        ("nobody", "there is no such registered model; there are kdops-digits-student"),
        ("models:/nobody/1", "there is no such version; there are kdops-digits-student"),
        (f"models:/{STUDENT}/9", f"there is no such version; {STUDENT} has versions 1 to 2"),
        (f"models:/{STUDENT}@best", f"there is no such alias; {STUDENT} has versions 1 to 2"),
        (f"models:/{STUDENT}", "must be models:/name/version or models:/name@alias"),
        (f"models:/{STUDENT}/latest", "must be models:/name/version or models:/name@alias"),
        ("models:/m-0123456789abcdef", "must be models:/name/version or models:/name@alias"),
        (f"models:/{STUDENT}/1,", "(empty)"),
        (f"{STUDENT}' OR name != '", "no quotes"),
        ('a"b', "no quotes"),
        ("a\\", "no quotes"),
        ("a\nb", "no quotes"),
        ("models:/x' OR name LIKE '%/1", "no quotes"),
        ("%", "there is no such registered model"),
    ],
)
def test_what_names_no_model_is_told(shelf, model, told):
    shelf.put(temperature=1)
    shelf.put(temperature=2)
    found = shelf.refusal(model=model)
    assert found.startswith("model=")
    assert told in found


class Linear(nn.Module):
    """A plain classifier of others."""

    def __init__(self, classes=10, scale=1.0):
        super().__init__()
        self.layer, self.scale = nn.Linear(64, classes), scale

    def forward(self, images):
        return self.layer(images.flatten(1).float() * self.scale)


class Chosen(Linear):
    """Gives classes instead of logits."""

    def forward(self, images):
        return super().forward(images).argmax(dim=1)


def register_foreign(name, net, *, dtype="uint8", shape=(1, 8, 8), tags=None, **how):
    """Register a network as anybody would, and give its URI."""
    signature = ModelSignature(Schema([TensorSpec(np.dtype(dtype), (-1, *shape))]))
    example = np.zeros((2, *shape), dtype)
    folder = f"saved-{name}-{len(list(mlflow.MlflowClient().search_registered_models()))}"
    given = {"signature": signature, "input_example": example, "pip_requirements": ["torch"], **how}
    mlflow.pytorch.save_model(net.eval(), folder, **given)
    client = mlflow.MlflowClient()
    if not client.search_registered_models(f"name = '{name}'"):
        client.create_registered_model(name)
    version = client.create_model_version(name, source=folder, tags=tags or {})
    return f"models:/{name}/{version.version}"


@pytest.fixture(scope="module")
def foreign(empty_database, tmp_path_factory):
    """A store of models that kdops did not register."""
    place = Place(tmp_path_factory.mktemp("foreign"))
    copy_database(empty_database, place.database)
    with pytest.MonkeyPatch.context() as patch:
        place.enter(patch)
        patch.setenv(PICKLE, "true")
        nets = [Linear(), Linear(scale=0.1)]
        good = [register_foreign("good", net) for net in nets]
        named = register_foreign("named", nets[0], metadata={"class_names": [str(digit) for digit in range(10)]})
        bad = {
            "other-names": register_foreign("others", nets[0], metadata={"class_names": list("abcdefghij")}),
            "fewer-classes": register_foreign("fewer", Linear(classes=9)),
            "classes-not-logits": register_foreign("chosen", Chosen()),
            "other-shape": register_foreign("rows", Linear(), shape=(64, 1, 1), dtype="float32"),
            "pickle": register_foreign("pickle", nets[0], serialization_format="pickle"),
        }
        client = place.client
        client.create_registered_model("prompt-like")
        version = client.create_model_version("prompt-like", source="nowhere")
        bad["nothing"] = f"models:/prompt-like/{version.version}"
        yield SimpleNamespace(place=place, nets=nets, good=good, named=named, bad=bad)


def test_a_model_of_others_is_loaded_and_gives_what_it_gave(foreign):
    images = torch.from_numpy(np.array(DIGITS.images[:7]))
    for uri, net in zip((*foreign.good, foreign.named), (*foreign.nets, foreign.nets[0]), strict=True):
        loaded = load_classifier(uri, DIGITS)
        with torch.no_grad():
            torch.testing.assert_close(loaded(images), net(images))


@pytest.mark.parametrize(
    ("which", "told"),
    [
        ("other-names", "has other classes than digits: a, b, c, d, e, ..."),
        ("fewer-classes", "must give float [2, 10] of digits images, uint8 [2, 1, 8, 8], not float32 [2, 9]"),
        ("classes-not-logits", "not int64 [2]"),
        ("other-shape", "float32"),
        (
            "pickle",
            "its PyTorch flavor has no exported program; it is a pickle",
        ),
        ("nothing", "cannot be loaded as a PyTorch program (pt2)"),
    ],
)
def test_a_model_of_others_that_is_no_classifier_of_the_data_is_refused(foreign, which, told):
    before = os.environ[PICKLE]
    with pytest.raises(UsageError) as caught:
        load_classifier(foreign.bad[which], DIGITS)
    assert str(caught.value).startswith(f"model={foreign.bad[which]}: ")
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)
    # Pickles are refused although the caller's environment allows them, which stays as it was.
    assert os.environ[PICKLE] == before == "true"


def test_models_of_others_are_members_where_they_are_named(foreign):
    by_name = Shelf.draw(foreign.place, model="good")
    assert uris(by_name) == [foreign.good[::-1]]
    listed = Shelf.draw(foreign.place, model=",".join(foreign.good))
    assert uris(listed) == [foreign.good]
    for member in listed.members:
        assert (member.own, member.weights, dict(member.metrics)) == (False, "", {})
    with pytest.raises(UsageError, match="has no tag val_accuracy to rank it by"):
        Shelf.draw(foreign.place, model="good", top=2)


def test_models_of_others_stand_back_behind_those_of_kdops(shelf):
    for temperature in (1, 2):
        shelf.put(temperature=temperature)
    shelf.client.create_model_version(STUDENT, "file:///nowhere", tags={"val_accuracy": "1.0"})
    drawn = shelf.draw()
    assert versions(drawn) == [[1, 2]]
    assert "1 not registered by kdops" in drawn.left_out
    mixed = shelf.draw(model=f"models:/{STUDENT}/1,models:/{STUDENT}/3")
    assert [(member.val_accuracy, member.own) for member in mixed.members] == [(1.0, False), (0.5, True)]


def test_a_stored_run_names_no_code_that_is_imported(shelf):
    """What this command line does not name stays a text: the members vote by their programs, without controls."""
    for temperature in (1, 2):
        shelf.put(temperature=temperature, architecture="evil:net")
    settings, drawn = drawn_for()
    assert [member.params["architecture"] for member in drawn.members] == ["evil:net"] * 2
    assert str(settings.recipes["student"].architecture) != "evil:net"
    assert not settings.external_networks()
    named, _ = drawn_for(student="evil:net")
    assert str(named.recipes["student"].architecture) == "evil:net"


def test_what_was_chosen_on_test_is_taken_where_it_is_named_and_nowhere_else(shelf):
    """It says so in its tags and on its card, and is no champion."""
    plain = [shelf.put(temperature=temperature) for temperature in (1, 2)]
    listed = [shelf.put(temperature=temperature, accuracy=0.9, select_on="test") for temperature in (3, 4)]
    drawn = shelf.draw()
    assert uris(drawn) == [plain]
    assert "2 chosen on test" in drawn.left_out
    assert uris(shelf.draw(model=",".join(listed))) == [listed]
    shelf.client.set_registered_model_alias(STUDENT, "ours", "3")
    assert "chosen on the test images; name it so" in shelf.refusal(model=f"models:/{STUDENT}@ours,{plain[0]}")
    with pytest.raises(UsageError, match="chosen on the test images; name it so"):
        find_model(f"models:/{STUDENT}@ours")
    assert find_model(listed[0]).select_on == "test"
    registry = Registry(shelf.client, DIGITS, DISJOINT)
    assert registry.update_champion("student") in plain
    version = shelf.client.get_model_version(STUDENT, "3")
    assert version.tags["select_on"] == "test"
    assert "| test (chosen on these) |" in version.description
    assert "Chosen on the test images" in version.description
    with pytest.raises(KdopsError, match="was chosen on the test images"):
        promote(shelf.client, listed[0], "ours", 0.01)
    for uri in plain:
        delete_version(shelf.client, shelf.client.get_model_version(STUDENT, uri.rsplit("/", 1)[1]))
    assert registry.update_champion("student") is None
    assert "name them by version to take them anyhow" in shelf.refusal()


def test_of_other_replicates_neither_runs_are_read_nor_more_versions_than_the_newest(shelf, monkeypatch):
    monkeypatch.setattr("kdops.registry.lookup.NEWEST", 2)
    asked = [shelf.put(seed=0, temperature=t) for t in (1, 2)]
    labels = shelf.put(seed=0, temperature=0, chain="student", source="labels")
    others = [shelf.put(seed=seed, temperature=t) for seed in (1, 10, 100_000) for t in (1, 2)]
    runs, names = [], []
    for search, seen in (("search_runs", runs), ("search_model_versions", names)):
        monkeypatch.setattr(MlflowClient, search, noting(getattr(MlflowClient, search), seen))
    models = RegisteredModels(shelf.client)
    settings = with_newest_split(models, DIGITS, settings_for(seed=0, seeds=1))
    drawn = draw_members(models, DIGITS, DISJOINT, settings)
    assert {member.uri for member in drawn.members} == set(asked)
    told = f"1 of 3 versions of {STUDENT} of replicate 0 are left out: 1 not distilled straight from a teacher."
    assert drawn.left_out == told
    read = {run.data.tags["kdops.model"] for run in runs}
    assert read == {*asked, others[-1]}, "the newest of all has the seed of the split"
    assert {f"models:/{one.name}/{one.version}" for one in names} == {*asked, labels, *others[-2:]}


@pytest.mark.parametrize("role", ["student", "reseeded"])
def test_few_replicates_have_the_members_that_they_have_among_all(shelf, monkeypatch, role):
    """Whether their versions are asked for by seed or all are read."""
    for seed in (0, 5, 6, 15, COPY_SEEDS, COPY_SEEDS + 5, 2 * COPY_SEEDS + 6, 2 * COPY_SEEDS + 5):
        for temperature in (1, 2):
            shelf.put(role=role, chain=f"teacher>{role}", seed=seed, temperature=temperature)

    def members(**given):
        try:
            return versions(shelf.draw(role=role, **given))
        except UsageError as error:
            return str(error)

    asked = ({"seed": 5, "seeds": 1}, {"seed": 4, "seeds": 3}, {"seed": COPY_SEEDS, "seeds": 2})
    few = [members(**given) for given in asked]
    monkeypatch.setattr("kdops.ensembles.members.FEW_REPLICATES", 0)
    assert few == [members(**given) for given in asked]


def noting(search, seen):
    def called(*given, **named):
        found = search(*given, **named)
        seen.extend(found)
        return found

    return called
