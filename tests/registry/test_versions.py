"""The registry: names, tags, and which version is the champion."""

from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import ErrorCode

from kdops.data import dataset as datasets
from kdops.data.splits import make_split
from kdops.errors import KdopsError
from kdops.registry.lookup import uri_of
from kdops.registry.promotion import _compared
from kdops.registry.versions import Registry, delete_version, registered_name
from kdops.reporting.candidates import group_candidates, show_candidates
from kdops.sweeps import schema
from kdops.sweeps.model import Model
from kdops.sweeps.ranking import shipping_key
from kdops.sweeps.schema import CHAMPION

DIGITS = datasets.load("digits")
DISJOINT = make_split(DIGITS, "disjoint", 0)

VERSION_TAGS = {
    "temperature",
    "seed",
    "val_accuracy",
    "test_accuracy",
    "source",
    "chain",
    "split",
    "transfer",
    "data_digest",
    "architecture",
    "study",
}


def test_versions_of_a_study_have_the_tags_of_the_contract(done):
    for run in done.children():
        role, params, metrics = run.data.tags["kdops.role"], run.data.params, run.data.metrics
        name, number = run.data.tags["kdops.model"].removeprefix("models:/").split("/")
        assert name == f"kdops-digits-{role}"
        version = done.client.get_model_version(name, number)
        assert version.status == "READY"
        assert version.run_id == run.info.run_id
        assert version.source == f"models:/{run.outputs.model_outputs[0].model_id}"
        tags = version.tags
        assert tags.keys() >= VERSION_TAGS
        for key in ("val_accuracy", "val_nll", "test_accuracy"):
            assert float(tags[key]) == metrics[key]
        for key in ("temperature", "seed", "architecture", "transfer"):
            assert tags[key] == params[key]
        for key in ("source", "chain", "split", "study"):
            assert tags[key] == run.data.tags[f"kdops.{key}"]
        assert tags["data_digest"] == DIGITS.digest
    assert {model.name for model in done.client.search_registered_models()} == {
        f"kdops-digits-{role}" for role in ("teacher", "student", "middle")
    }


def test_the_best_of_each_role_is_champion(done):
    for role in ("teacher", "student", "middle"):
        runs = [run for run in done.children() if run.data.tags["kdops.role"] == role]
        best = min(
            runs,
            key=lambda run: (
                -run.data.metrics["val_accuracy"],
                run.data.metrics["val_nll"],
                int(run.data.tags["kdops.model"].rsplit("/", 1)[1]),
            ),
        )
        crowned = done.client.get_model_version_by_alias(f"kdops-digits-{role}", CHAMPION)
        assert crowned.run_id == best.info.run_id


@pytest.mark.parametrize(
    ("scores", "champion"),
    [
        ([(0.5, 1.0), (0.7, 3.0), (0.6, 0.1)], 2),
        ([(0.7, 1.0), (0.7, 0.5), (0.7, 0.8)], 2),
        ([(0.6, 1.0), (0.7, 0.5), (0.7, 0.5)], 2),
        # Compared as numbers, not as the text that tags are.
        ([(0.9, 10.0), (0.9, 9.0)], 2),
        ([(1.0, 1.0), (0.9999999999999999, 0.5)], 1),
        ([(1e-05, 1.0), (0.5, 1.0)], 2),
    ],
)
def test_champion_has_the_best_accuracy_then_loss_then_age(scores, champion, store):
    registry = _registry(store)
    for accuracy, loss in scores:
        _register(store, registry, accuracy, loss)
    assert registry.update_champion("student") == f"models:/kdops-digits-student/{champion}"
    assert _champion(store) == str(champion)


def test_where_classes_differ_much_in_size_the_registry_goes_by_balanced_accuracy(store, capsys):
    rare = np.where(np.arange(len(DIGITS.labels)) % 100, 0, 1)
    registry = _registry(store, replace(DIGITS, labels=rare))
    # The first answers nothing but the largest class.
    share = float((rare[DISJOINT.validation] == 0).mean())
    for accuracy, balanced in ((share, 0.5), (share - 0.02, 0.8), (share - 0.03, 0.7)):
        _register(store, registry, accuracy, 1.0, val_balanced_accuracy=balanced)
    assert registry.update_champion("student") == "models:/kdops-digits-student/2"
    versions = [store.client.get_model_version("kdops-digits-student", str(number)) for number in range(1, 4)]
    assert [float(version.tags["val_baseline"]) for version in versions] == [share] * 3
    models = sorted(map(schema.from_version, versions), key=shipping_key)
    assert [model.place[1] for model in models] == [2, 3, 1]
    show_candidates(group_candidates(models, {}))
    shown = capsys.readouterr().out
    assert f"always answering the largest is right on {share:.4f} of validation" in shown
    assert "balanced" in shown
    assert _compared(versions[1], versions[0], "production", 0.01) == share
    with pytest.raises(KdopsError, match=r"its validation balanced accuracy 0\.5000 is more than margin=0\.01 below"):
        _compared(versions[0], versions[1], "production", 0.01)


RARE = np.where(np.arange(len(DIGITS.labels)) % 100, 0, 1)
RARE_SHARE = float((RARE[DISJOINT.validation] == 0).mean())


@pytest.mark.parametrize(
    ("earlier", "balanced", "champion"),
    [
        # The runs know it: of those of before the best is another one than by accuracy.
        ([(RARE_SHARE, 0.5), (RARE_SHARE - 0.01, 0.9)], 0.6, 2),
        ([(RARE_SHARE, 0.5), (RARE_SHARE - 0.01, 0.55)], 0.6, 3),
        # No run knows it: one that is better than the largest class alone stays until one is as accurate.
        ([(RARE_SHARE + 0.005, None), (RARE_SHARE - 0.01, None)], 0.5, 1),
        ([(RARE_SHARE, None), (RARE_SHARE - 0.01, None)], 0.6, 3),
    ],
)
def test_versions_from_before_balanced_accuracy_was_a_tag_are_compared(earlier, balanced, champion, store):
    registry = _registry(store, replace(DIGITS, labels=RARE))
    for accuracy, known in earlier:
        run_id = store.client.get_model_version(*_place(_register(store, registry, accuracy, 1.0))).run_id
        store.client.set_tag(run_id, schema.WEIGHTS, "a digest")
        if known is not None:
            store.client.log_metric(run_id, "val_balanced_accuracy", known)
    # By accuracy, as earlier releases ranked, and with their note.
    assert registry.update_champion("student") == "models:/kdops-digits-student/1"
    for _ in range(2):
        _register(store, registry, RARE_SHARE - 0.03, 1.0, val_balanced_accuracy=balanced)
        assert registry.update_champion("student") == f"models:/kdops-digits-student/{champion}"
    tags = store.client.get_model_version("kdops-digits-student", "1").tags
    known = earlier[0][1]
    assert schema.finite(tags.get("val_balanced_accuracy")) == known
    assert schema.finite(tags.get("val_baseline")) == (None if known is None else RARE_SHARE)


def test_where_classes_are_alike_in_size_nothing_is_said_of_it(store, capsys):
    registry = _registry(store)
    for accuracy, balanced in ((0.8, 0.9), (0.9, 0.8)):
        _register(store, registry, accuracy, 1.0, val_balanced_accuracy=balanced)
    assert registry.update_champion("student") == "models:/kdops-digits-student/2"
    version = store.client.get_model_version("kdops-digits-student", "2")
    assert not {"val_balanced_accuracy", "val_baseline"} & version.tags.keys()
    show_candidates(group_candidates([schema.from_version(version)], {}))
    assert "balanced" not in capsys.readouterr().out


def test_a_version_whose_numbers_somebody_edited_is_passed_over(store):
    registry = _registry(store)
    for accuracy in (0.5, 0.9, 0.8):
        _register(store, registry, accuracy, 1.0)
    store.client.set_model_version_tag("kdops-digits-student", "2", "val_accuracy", "very good")
    store.client.set_model_version_tag("kdops-digits-student", "3", "val_nll", "nan")
    assert registry.update_champion("student") == "models:/kdops-digits-student/1"


def test_ten_versions_are_ordered_by_number(store):
    registry = _registry(store)
    for number in range(10):
        _register(store, registry, 0.5 if number == 0 else 0.6, 1.0)
    # As text "10" comes before "2".
    assert registry.update_champion("student") == "models:/kdops-digits-student/2"


def test_champion_is_computed_anew(store):
    registry = _registry(store)
    for accuracy in (0.5, 0.9, 0.7):
        _register(store, registry, accuracy, 1.0)
    # Somebody set it by hand; another study deleted the best.
    store.client.set_registered_model_alias("kdops-digits-student", CHAMPION, "1")
    assert registry.update_champion("student") == "models:/kdops-digits-student/2"
    store.client.delete_model_version("kdops-digits-student", "2")
    assert registry.update_champion("student") == "models:/kdops-digits-student/3"


@pytest.mark.parametrize("status", ["FINISHED", "FAILED", "KILLED", "RUNNING"])
def test_a_version_whose_run_is_deleted_or_not_finished_is_no_champion(status, store):
    registry = _registry(store)
    for accuracy in (0.5, 0.6):
        _register(store, registry, accuracy, 1.0)
    _register(store, registry, 0.9, 1.0, status)
    best = store.client.get_model_version("kdops-digits-student", "3")
    if status == "FINISHED":
        assert registry.update_champion("student") == "models:/kdops-digits-student/3"
        store.client.delete_run(best.run_id)
    assert registry.update_champion("student") == "models:/kdops-digits-student/2"
    for number in ("1", "2"):
        store.client.delete_run(store.client.get_model_version("kdops-digits-student", number).run_id)
    assert registry.update_champion("student") is None
    assert not store.client.get_registered_model("kdops-digits-student").aliases


def test_what_was_ranked_before_is_not_read_again(store, monkeypatch):
    registry = _registry(store)
    read = []
    real = registry.client.search_model_versions

    def searched(*given, **named):
        found = real(*given, **named)
        read.extend(int(version.version) for version in found)
        return found

    monkeypatch.setattr(registry.client, "search_model_versions", searched)
    for count, accuracy in enumerate((0.5, 0.9, 0.7, 0.95), start=1):
        _register(store, registry, accuracy, 1.0)
        read.clear()
        registry.update_champion("student")
        assert read == [count]
    assert _champion(store) == "4"


def test_a_better_version_whose_run_finishes_later_is_champion_then(store):
    registry = _registry(store)
    _register(store, registry, 0.5, 1.0)
    _register(store, registry, 0.9, 1.0, status="RUNNING")
    _register(store, registry, 0.7, 1.0)
    assert registry.update_champion("student") == "models:/kdops-digits-student/3"
    store.client.set_terminated(store.client.get_model_version("kdops-digits-student", "2").run_id, "FINISHED")
    assert registry.update_champion("student") == "models:/kdops-digits-student/2"


@pytest.mark.parametrize("note", ["", "[]", "{}", '{"best": 1}', '{"best": 9, "last": 9}', '{"best": "x", "last": 3}'])
def test_a_note_that_somebody_edited_is_passed_over(note, store):
    registry = _registry(store)
    for accuracy in (0.5, 0.9, 0.7):
        _register(store, registry, accuracy, 1.0)
    registry.update_champion("student")
    (tag,) = (tag for tag in store.client.get_registered_model("kdops-digits-student").tags if "champion" in tag)
    store.client.set_registered_model_tag("kdops-digits-student", tag, note)
    assert registry.update_champion("student") == "models:/kdops-digits-student/2"


@pytest.mark.parametrize("doomed", ["1", "2"])
@pytest.mark.parametrize("set_meanwhile", [False, True])
def test_there_is_a_champion_whatever_is_deleted_and_set_meanwhile(doomed, set_meanwhile, store):
    registry = _registry(store)
    for accuracy in (0.5, 0.9, 0.7):
        _register(store, registry, accuracy, 1.0)
    registry.update_champion("student")
    client = store.client
    real = client.delete_model_version

    def deleted(name, version):
        if set_meanwhile:
            store.client.set_registered_model_alias(name, CHAMPION, version)
        real(name, version)

    client.delete_model_version = deleted
    delete_version(client, client.get_model_version("kdops-digits-student", doomed))
    assert _champion(store) == ("2" if doomed == "1" else "3")


@pytest.mark.parametrize("code", ["RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"])
def test_while_versions_are_withdrawn_only_their_absence_is_passed_over(code, store):
    registry = _registry(store)
    _register(store, registry, 0.5, 1.0)
    version = store.client.get_model_version("kdops-digits-student", "1")

    def refused(name, number):
        raise MlflowException(f"no {name}/{number}", error_code=ErrorCode.Value(code))

    registry.client.delete_model_version = refused
    with nullcontext() if code == "RESOURCE_DOES_NOT_EXIST" else pytest.raises(MlflowException, match="student/1"):
        registry.delete_versions_of(version.run_id)


def test_what_was_no_champion_leaves_the_champion_alone(store):
    registry = _registry(store)
    for accuracy in (0.5, 0.9):
        _register(store, registry, accuracy, 1.0)
    # Deleting makes no champion where no study has made one.
    delete_version(store.client, store.client.get_model_version("kdops-digits-student", "1"))
    assert not store.client.get_registered_model("kdops-digits-student").aliases
    _register(store, registry, 0.7, 1.0)
    registry.update_champion("student")
    delete_version(store.client, store.client.get_model_version("kdops-digits-student", "3"))
    assert _champion(store) == "2"


def test_other_splits_transfers_and_data_do_not_compete(store):
    registry = _registry(store)
    _register(store, registry, 0.5, 1.0)
    others = [
        _registry(store, split=make_split(DIGITS, "disjoint", 1)),
        _registry(store, split=make_split(DIGITS, "shared", 0)),
        _registry(store, data=replace(DIGITS, digest="0" * 64)),
    ]
    for other in others:
        _register(store, other, 0.9, 0.1)
    assert registry.update_champion("student") == "models:/kdops-digits-student/1"
    for number, other in enumerate(others, start=2):
        assert other.update_champion("student") == f"models:/kdops-digits-student/{number}"
        assert _champion(store) == str(number)


def test_a_better_version_that_arrives_while_the_alias_is_set_is_not_passed_over(store, monkeypatch):
    registry = _registry(store)
    _register(store, registry, 0.5, 1.0)
    real, seen = registry.client.set_registered_model_alias, []

    def set_alias(name, alias, version):
        if not seen:
            # Another study registers a better one after this one has looked, and crowns it first.
            _register(store, registry, 0.9, 1.0)
            real(name, alias, "2")
        seen.append(version)
        real(name, alias, version)

    monkeypatch.setattr(registry.client, "set_registered_model_alias", set_alias)
    assert registry.update_champion("student") == "models:/kdops-digits-student/2"
    assert ([str(version) for version in seen], _champion(store)) == (["1", "2"], "2")


def test_where_there_is_no_version_there_is_no_champion(store):
    registry = _registry(store)
    assert registry.update_champion("student") is None
    _register(store, registry, 0.9, 1.0)
    assert _registry(store, split=make_split(DIGITS, "disjoint", 1)).update_champion("student") is None
    assert registry.update_champion("middle") is None


@pytest.mark.parametrize(
    ("dataset", "name"),
    [
        ("digits", "kdops-digits-student"),
        ("hub/mnist:v2", "kdops-hub-mnist-v2-student"),
        ("a b'; --", "kdops-a-b----student"),
        ("CIFAR_10.x", "kdops-CIFAR_10.x-student"),
    ],
)
def test_names_are_safe(dataset, name, store):
    assert registered_name(dataset, "student") == name
    registry = _registry(store, data=replace(DIGITS, name=dataset))
    uri = _register(store, registry, 0.5, 1.0)
    assert uri == f"models:/{registered_name(dataset, 'student')}/1"
    assert registry.update_champion("student") == uri
    assert [uri_of(version) for version in registry.of_role("student")] == [uri]


def test_more_versions_than_a_page(store, monkeypatch):
    monkeypatch.setattr("kdops.store.client.PAGE", 2)
    registry = _registry(store)
    uris = {_register(store, registry, 0.1 * number, 1.0) for number in range(5)}
    assert {uri_of(version) for version in registry.of_role("student")} == uris
    assert registry.update_champion("student") == "models:/kdops-digits-student/5"


def _registry(place, data=DIGITS, split=DISJOINT):
    return Registry(MlflowClient(tracking_uri=place.uri, registry_uri=place.uri), data, split)


def _register(place, registry, accuracy, loss, status="FINISHED", **more):
    """Register a student with these validation results; its model folder stays empty."""
    model = place.client.create_logged_model("0", name="student")
    place.client.finalize_logged_model(model.model_id, "READY")
    run_id = place.client.create_run("0").info.run_id
    place.client.set_terminated(run_id, status)
    record = Model(
        role="student",
        seed=0,
        temperature=1.0,
        chain="teacher>student",
        source="models:/kdops-digits-teacher/1",
        uri="",
        run_id=run_id,
        model_id=model.model_id,
        metrics={"val_accuracy": accuracy, "val_nll": loss, "test_accuracy": 0.5, **more},
        params={"architecture": "mlp(hidden=8,depth=1,dropout=0)"},
    )
    return registry.register(record, "students", "a fingerprint")


def _place(uri):
    return uri.removeprefix("models:/").split("/")


def _champion(place):
    return str(place.client.get_model_version_by_alias("kdops-digits-student", CHAMPION).version)
