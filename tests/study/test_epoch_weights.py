"""The weights after named epochs: artifacts of the model's run, which decide nothing."""

from dataclasses import replace

import pytest
from safetensors.torch import save_file

from kdops.config.kept_epochs import KeptEpochs
from kdops.config.settings import Settings
from kdops.errors import KdopsError
from kdops.models.classifier import digest_of
from kdops.packaging.epoch_weights import read_epoch
from kdops.study.knowledge import network_after
from kdops.study.open import open_study

TINY = {"seeds": "1", "epochs": "3", "teacher": "cnn(filters=2,layers=1)"}


def teacher(study, keep="none"):
    """Return a teacher of a study, which keeps some epochs."""
    own = study.with_settings(replace(study.settings, keep_epochs=KeptEpochs.read(keep)))
    return own.train("teacher").records[0]


def kept_files(store, model):
    return [one.path for one in store.client.list_artifacts(model.run_id, "epochs")]


def test_the_weights_after_some_epochs_are_kept_beside_those_of_the_last(store, capsys):
    with open_study("teacher", Settings.parse("teacher", **TINY)) as study:
        plain, model = teacher(study), teacher(study, "1,3")
        # What has the epochs is used again, also where none are asked for; one more that it lacks trains it again.
        assert [teacher(study, keep).uri for keep in ("1", "none")] == [model.uri, model.uri]
        more = teacher(study, "1-3")
        assert digest_of(network_after(study, model, 1).state_dict()) == digest_of(read_epoch(more, 1)) != model.weights
    assert plain.weights == model.weights == more.weights
    assert len({plain.uri, model.uri, more.uri}) == 3
    assert len({store.client.get_run(one.run_id).data.tags["kdops.fingerprint"] for one in (plain, model, more)}) == 1
    assert [one.kept_epochs for one in (plain, model, more)] == [(), (1, 3), (1, 2, 3)]
    assert kept_files(store, plain) == []
    assert kept_files(store, model) == ["epochs/epoch-001.safetensors", "epochs/epoch-003.safetensors"]
    assert digest_of(read_epoch(model, 3)) == model.weights
    capsys.readouterr()
    store.plan("teacher", **TINY, keep_epochs="2")
    assert "0 to train, 1 already there" in capsys.readouterr().out


def test_a_model_of_an_earlier_study_without_its_epochs_is_trained_again(store):
    fewest = {**TINY, "epochs": "1"}
    found = []
    for keep in ("none", "1", "1"):
        with open_study("teacher", Settings.parse("teacher", **fewest, keep_epochs=keep)) as study:
            found += study.train("teacher").records
    assert [one.reused for one in found] == [False, False, True]
    damaged(store, found[-1])


def damaged(store, model):
    """See that weights are refused that are not what was kept."""
    with pytest.raises(KdopsError, match=rf"{model.name} after epoch 2 were not kept; train it with keep_epochs=2"):
        read_epoch(model, 2)
    (path,) = store.folder.rglob("epoch-001.safetensors")
    weights = read_epoch(model, 1)
    save_file({name: values + 1 for name, values in weights.items()}, path, {"digest": digest_of(weights)})
    with pytest.raises(KdopsError, match="are damaged"):
        read_epoch(model, 1)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(KdopsError, match="cannot be read"):
        read_epoch(model, 1)
    path.unlink()
    with pytest.raises(KdopsError, match="are gone from the artifacts"):
        read_epoch(model, 1)
