"""Symmetry: reversed nets, those of the student's bare decisions, and the control that is born again."""

import mlflow
import numpy as np
import pandas as pd
import pytest
import torch

from benchmarks.passes import train
from kdops.config.roles import ROLES
from kdops.data import dataset as datasets
from kdops.data.splits import make_split
from kdops.distillation.logits import LogitDistillation
from kdops.distillation.sources import Kept
from kdops.models.classifier import digest_of, pixel_statistics
from kdops.study.open import open_study
from kdops.training.trainer import Group, Images, PassInputs
from kdops.verdicts.answer import Answer

DIGITS = datasets.load("digits")
SPLIT = make_split(DIGITS, "disjoint", 0)
SMALL = {"seeds": 1, "temperatures": "1", "student_temperatures": "1,4", "born_again_temperatures": "1"}
SMALL["epochs"] = "teacher=2,student=3,middle=3,reversed=1,born-again=1"


@pytest.fixture
def study(fork):
    """An open study of one replicate, beside the models of a finished one."""
    with open_study("symmetry", fork.settings("symmetry", **SMALL)) as opened:
        yield opened
        opened.conclude("chain", Answer())


def pixels(rows):
    return torch.from_numpy(np.array(DIGITS.images[rows]))


def labels(rows):
    return torch.from_numpy(np.array(DIGITS.labels[rows]))


def inputs_of(images):
    """What a pass of reversed nets is given that are trained on some images."""
    statistics = pixel_statistics(pixels(np.union1d(SPLIT.teacher, np.concatenate(SPLIT.transfers))))
    validation = Images(pixels(SPLIT.validation), labels(SPLIT.validation))
    return PassInputs("reversed", images, validation, len(DIGITS.classes), statistics)


def direct(study):
    """Return the teacher and its students, which are there."""
    teachers = study.train("teacher")
    return teachers, study.distill(teachers, "student", [0.0, 1.0, 4.0])


def test_a_reversed_net_without_temperature_learns_what_the_student_decides(study, fork):
    teachers, students = direct(study)
    best = study.best(students.soft())
    back = study.distill(best, "reversed", [0.0, 1.0], predictions=True)
    hard, soft = sorted(back.records, key=lambda record: record.temperature)

    # By hand: the student as anyone loads it, its decisions as labels, one plain training of the teacher's net.
    student = mlflow.pytorch.load_model(best.records[0].uri)
    rows = SPLIT.hop(1)
    with torch.no_grad():
        decided = student(pixels(rows)).argmax(dim=1)
    assert not torch.equal(decided, labels(rows))
    (by_hand,) = train(
        study.settings.recipes["reversed"],
        [Group(0, (0.0,))],
        inputs_of(Images(pixels(rows), decided)),
        LogitDistillation(),
    )
    assert hard.weights == digest_of(by_hand.state)
    assert hard.metrics["val_accuracy"] == pytest.approx(by_hand.val_accuracy[-1])

    teacher = teachers.records[0]
    for record, targets, alpha in ((hard, "predictions", "0"), (soft, "softened outputs", "1")):
        run = fork.client.get_run(record.run_id)
        assert (run.data.params["targets"], run.data.params["alpha"]) == (targets, alpha)
        assert run.data.params["architecture"] == teacher.params["architecture"]
        assert run.data.tags["kdops.source"] == record.source == best.records[0].uri
        assert run.data.tags["kdops.chain"] == record.chain == "teacher>student>reversed"
        assert [one.model_id for one in run.inputs.model_inputs] == [best.records[0].model_id]
        assert 0 <= run.data.metrics["source_agreement"] <= 1
    assert fork.calls[-1].members == [(0, 0.0), (0, 1.0)]
    np.testing.assert_array_equal(fork.calls[-1].pixels, DIGITS.images[rows])


def test_hard_labels_and_hard_decisions_are_different_models(study):
    teachers, _ = direct(study)
    (labeled,) = study.distill(teachers, "reversed", [0.0]).records
    (decided,) = study.distill(teachers, "reversed", [0.0], predictions=True).records
    assert labeled.uri != decided.uri
    assert labeled.weights != decided.weights
    assert (labeled.source, labeled.chain, labeled.params["targets"]) == ("labels", "reversed", "labels")
    assert (decided.source, decided.chain) == (teachers.records[0].uri, "teacher>reversed")
    # At a temperature both ways ask for the same model.
    assert study.distill(teachers, "reversed", [1.0]) == study.distill(teachers, "reversed", [1.0], predictions=True)


def test_the_control_starts_as_the_reversed_nets_do(study, fork):
    teachers, _ = direct(study)
    (back,) = study.distill(teachers, "reversed", [1.0]).records
    (again,) = study.distill(teachers, "born-again", [1.0]).records
    assert ROLES["born-again"].streams == ROLES["reversed"].streams
    assert back.weights == again.weights
    assert back.metrics["test_accuracy"] == again.metrics["test_accuracy"]
    assert {back.uri.rpartition("/")[0], again.uri.rpartition("/")[0]} == {
        "models:/kdops-digits-reversed",
        "models:/kdops-digits-born-again",
    }
    runs = [fork.client.get_run(record.run_id).data.tags for record in (back, again)]
    assert [tags["kdops.chain"] for tags in runs] == ["teacher>reversed", "teacher>born-again"]
    assert len({tags["kdops.fingerprint"] for tags in runs}) == 2
    assert all(ROLES[role].like == "teacher" for role in ("reversed", "born-again"))


def test_copies_have_seeds_of_their_own_and_the_first_is_the_student_of_the_sweep(study):
    from kdops.sweeps.model import COPY_SEEDS

    teachers, students = direct(study)
    copies = study.distill(teachers, "reseeded", [4.0], copies=3)
    assert copies.seeds == (0, COPY_SEEDS, 2 * COPY_SEEDS)
    assert copies.copies_of(0) == copies.records
    assert {record.source for record in copies.records} == {teachers.records[0].uri}
    assert {record.chain for record in copies.records} == {"teacher>reseeded"}
    assert len({record.weights for record in copies.records}) == 3
    assert all(record.uri.startswith("models:/kdops-digits-reseeded/") for record in copies.records)
    (same,) = students.at([4.0]).records
    first, second = (study.network(record).state_dict() for record in copies.records[:2])
    for name, value in study.network(same).state_dict().items():
        # The streams are the same; other temperatures beside it move the last bits only.
        torch.testing.assert_close(first[name], value, rtol=2e-3, atol=2e-4)
        if name.endswith("weight"):
            assert not torch.allclose(second[name], value, rtol=0.1, atol=0.01)


def test_fewer_reversed_seeds_and_no_control(fork, capsys):
    """Both replicates have students; one is reversed."""
    told = {**SMALL, "seeds": 2, "reversed_seeds": 1, "born_again_temperatures": "none"}
    parent = fork.run("symmetry", **told)
    assert parent.data.tags["kdops.verdict"] == "inconclusive"
    assert parent.data.metrics["symmetry_replicates"] == 1
    assert [(run.data.tags["kdops.role"], run.data.params["seed"]) for run in fork.children(parent)] == [
        ("reversed", "0"),
        ("reversed", "0"),
    ]
    table = pd.read_csv(fork.artifact(parent, "results.csv"))
    assert sorted(table.loc[table["role"] == "student", "seed"]) == [0, 0, 0, 1, 1, 1]
    assert "born again" not in capsys.readouterr().out


def test_the_best_student_is_reversed_never_one_on_hard_labels(whole):
    parts = {run.data.tags["kdops.study"]: run for run in whole.children() if "kdops.role" not in run.data.tags}
    table = pd.read_csv(whole.artifact(parts["symmetry"], "results.csv"))
    students = table[(table["role"] == "student") & (table["temperature"].isin([1, 2, 4]))]
    for seed, own in students.groupby("seed"):
        best = own.sort_values(["val_accuracy", "val_nll"], ascending=[False, True]).iloc[0]
        sources = set(table.loc[(table["role"] == "reversed") & (table["seed"] == seed), "source"])
        assert sources == {best["model"]}
        teachers = set(table.loc[(table["role"] == "born-again") & (table["seed"] == seed), "source"])
        assert teachers == set(table.loc[(table["role"] == "teacher") & (table["seed"] == seed), "model"])


def test_only_what_learns_decisions_has_other_labels(fork):
    """With alpha below 1 the soft nets learn labels too: the true ones, whatever is trained beside them."""
    with open_study("symmetry", fork.settings("symmetry", **SMALL, alpha="0.5")) as study:
        _, students = direct(study)
        best = study.best(students.soft())
        back = study.distill(best, "reversed", [0.0, 1.0], predictions=True)
        study.conclude("chain", Answer())
    (soft,) = back.soft().records
    rows = SPLIT.hop(1)
    (by_hand,) = train(
        study.settings.recipes["reversed"],
        [Group(0, (1.0,), Kept(study.executor.networks.logits(best.records, rows)[0]))],
        inputs_of(Images(pixels(rows), labels(rows))),
        LogitDistillation(alpha=0.5),
    )
    assert soft.weights == digest_of(by_hand.state)


def test_the_control_sees_the_images_of_the_reversed_nets(store):
    """Also where each hop has images of its own: else the two would differ in more than their source."""
    store.run("symmetry", **SMALL, transfer="fresh")
    seen = {call.role: call.pixels for call in store.calls if "student" not in call.role}
    streams = [call for call in store.calls if call.role == "reversed"]
    assert len(streams) == 2
    assert seen.keys() == {"teacher", "reversed"}
    np.testing.assert_array_equal(streams[0].pixels, streams[1].pixels)
    np.testing.assert_array_equal(streams[0].pixels, DIGITS.images[make_split(DIGITS, "fresh", 0).hop(1)])
