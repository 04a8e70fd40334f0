"""The stored models: they load without pickle, and give what was measured."""

import io
import stat
import zipfile
from pathlib import Path

import mlflow
import numpy as np
import pytest
import torch
import yaml

from kdops.config.architectures import parse_architecture
from kdops.data import dataset as datasets
from kdops.data.splits import make_split
from kdops.models.classifier import build, digest_of
from kdops.packaging.folder import Packager, read_weights
from kdops.utils.random import named_generator

DIGITS = datasets.load("digits")
TEST = make_split(DIGITS, "disjoint", 0).test


@pytest.fixture
def models(look):
    """Every model of the finished study, by its URI: its run."""
    return {run.data.tags["kdops.model"]: run for run in look.children()}


def test_every_model_loads_both_ways_and_gives_what_was_measured(models):
    images, labels = DIGITS.images[TEST], DIGITS.labels[TEST]
    predicted, logits_of = {}, {}
    for uri, run in models.items():
        torch_model, pyfunc = mlflow.pytorch.load_model(uri), mlflow.pyfunc.load_model(uri)
        for size in (1, 2, 7):
            batch = images[:size]
            with torch.no_grad():
                logits = torch_model(torch.from_numpy(batch))
            served = np.asarray(pyfunc.predict(batch))
            assert logits.dtype == torch.float32
            assert served.dtype == np.float32
            assert served.shape == (size, 10)
            np.testing.assert_array_equal(served, logits.numpy())
        with torch.no_grad():
            logits_of[uri] = torch_model(torch.from_numpy(images)).numpy()
        predicted[uri] = logits_of[uri].argmax(axis=1)
        assert (predicted[uri] == labels).mean() == pytest.approx(run.data.metrics["test_accuracy"], abs=1e-9), uri
    # The sources are what they were when the students learned from them.
    for uri, run in models.items():
        if "source_agreement" in run.data.metrics:
            same = (predicted[uri] == predicted[run.data.tags["kdops.source"]]).mean()
            assert run.data.metrics["source_agreement"] == pytest.approx(same, abs=1e-9)
    assert len({logits.tobytes() for logits in logits_of.values()}) == len(models)


def test_stored_weights_are_the_ones_that_were_trained(models):
    for run in models.values():
        folder = _folder(run)
        assert digest_of(read_weights(folder)) == run.data.tags["kdops.weights"]
        program = torch.export.load(folder / "data" / "model.pt2")
        assert digest_of(program.state_dict) == run.data.tags["kdops.weights"]


def test_every_model_describes_itself(models):
    for uri, run in models.items():
        described = yaml.safe_load((_folder(run) / "MLmodel").read_text())
        assert described["metadata"]["class_names"] == [str(digit) for digit in range(10)]
        assert described["metadata"]["architecture"] == run.data.params["architecture"]
        assert described["run_id"] == run.info.run_id
        assert described["model_id"] == run.outputs.model_outputs[0].model_id
        info = mlflow.models.get_model_info(uri)
        assert info.signature.inputs.inputs[0].shape == (-1, 1, 8, 8)
        assert info.signature.inputs.inputs[0].type == np.dtype("uint8")
        assert info.signature.outputs.inputs[0].type == np.dtype("float32")


def test_no_pickle_anywhere(look):
    files = [path for path in (look.folder / "mlruns").rglob("*") if path.is_file()]
    assert sum(path.suffix == ".pt2" for path in files) >= 22
    assert not [path for path in files if path.suffix in (".pkl", ".pickle", ".pth", ".pt")]
    for path in files:
        # A pickle says so in its first byte, whatever its name.
        assert path.read_bytes()[:1] != b"\x80", path
        if path.suffix == ".pt2":
            _assert_archive_is_plain(path)


def test_a_template_keeps_nothing_of_the_network_it_was_made_from(tmp_path):
    shape, statistics = (1, 8, 8), (torch.tensor([50.0]), torch.tensor([60.0]))
    architecture = parse_architecture("mlp(hidden=4,depth=1)")
    first, second = (build(architecture, shape, 3, *statistics, named_generator("init", n)) for n in range(2))
    packager = Packager(first, shape, {"class_names": ["a", "b", "c"]})
    names = {"model_id": "m-1", "run_id": "r", "location": "somewhere"}
    packager.write(tmp_path / "second", second.state_dict(), **names)
    packager.write(tmp_path / "first", first.state_dict(), **names)
    images = torch.from_numpy(DIGITS.images[:5])
    for name, net in (("first", first), ("second", second)):
        loaded = mlflow.pytorch.load_model(str(tmp_path / name))
        with torch.no_grad():
            assert torch.equal(loaded(images), net.eval()(images))
        assert digest_of(read_weights(tmp_path / name)) == digest_of(net.state_dict())


def test_every_file_has_the_mode_of_any_file(done, tmp_path):
    (tmp_path / "other").touch()
    files = [path for run in done.children() for path in _folder(run).rglob("*") if path.is_file()]
    assert any(path.name == "weights.safetensors" for path in files)
    modes = {stat.S_IMODE(path.stat().st_mode) for path in [*files, tmp_path / "other"]}
    assert len(modes) == 1


def _assert_archive_is_plain(path):
    """Weights and graph are bytes and JSON; the example input is torch's own, which needs no pickle to be trusted."""
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            content = archive.read(name)
            if name.endswith("sample_inputs/model.pt"):
                torch.load(io.BytesIO(content), weights_only=True)
            elif "/weights/weight_" not in name:
                assert content[:1] != b"\x80", name
                assert content[:2] != b"PK", name


def _folder(run):
    return Path(run.info.artifact_uri).parents[1] / "models" / run.outputs.model_outputs[0].model_id / "artifacts"
