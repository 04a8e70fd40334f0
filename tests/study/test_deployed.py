"""Methods that deploy more than the student: all of it is measured, counted, stored, and read back everywhere."""

from pathlib import Path

import mlflow
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from kdops.cli.app import main
from kdops.config.architectures import parse_architecture
from kdops.config.composed import alone
from kdops.config.methods import METHODS, parse_method
from kdops.data import dataset as datasets
from kdops.data.splits import make_split
from kdops.models.classifier import build, pixel_statistics
from kdops.models.head import head_of
from kdops.packaging.loading import load_stored
from kdops.training.evaluation import measure
from kdops.utils.random import named_generator
from tests.conftest import Place, copy_database

TEACHER, STUDENT = "cnn(filters=5,layers=2,dropout=0/0)", "cnn(filters=3,layers=2,dropout=0.1/0.1)"
SMALL = {"teacher": TEACHER, "student": STUDENT, "seeds": "1", "epochs": "teacher=2,student=2"}
ASSISTANT = "assistant=cnn(filters=2,layers=2,dropout=0)"
GIVEN = {"simkd": "simkd", "residual": f"residual({ASSISTANT})", "pair": f"pair({ASSISTANT})"}
DIGITS = datasets.load("digits")
SPLIT = make_split(DIGITS, "disjoint", 0)
TEST = torch.from_numpy(np.array(DIGITS.images[SPLIT.test]))
LABELS = torch.from_numpy(np.array(DIGITS.labels[SPLIT.test]))
every_method = pytest.mark.parametrize("name", GIVEN)


@pytest.fixture(scope="module")
def deployed(empty_database, tmp_path_factory):
    """A store with a model of each method."""
    place = Place(tmp_path_factory.mktemp("deployed"))
    copy_database(empty_database, place.database)
    with pytest.MonkeyPatch.context() as patch:
        place.enter(patch)
        for name, method in GIVEN.items():
            # Two of one kind, so that they can vote.
            place.run("students", method=method, temperatures="2,4" if name == "simkd" else "2", **SMALL)
        yield place


def models(place, name, temperature="2"):
    """The runs of the students of a method."""
    students = [run for run in place.children() if run.data.tags["kdops.role"] == "student"]
    params = [(run, run.data.params) for run in students]
    return [run for run, own in params if own.get("method", "").startswith(name) and own["temperature"] == temperature]


def uri_of(run):
    return run.data.tags["kdops.model"]


def weights_at(run):
    return load_file(Path(mlflow.artifacts.download_artifacts(uri_of(run))) / "weights.safetensors")


def logits_of(place, run):
    with torch.no_grad():
        return load_stored(place.client, uri_of(run)).module(TEST)


def test_every_method_that_deploys_more_is_looked_at_here():
    assert set(GIVEN) == {name for name, spec in METHODS.items() if spec.deploys is not alone}


@every_method
def test_what_a_run_states_is_what_is_stored_and_served(deployed, name):
    (run,) = models(deployed, name)
    params, metrics = run.data.params, run.data.metrics
    counted = sum(values.numel() for key, values in weights_at(run).items() if key not in ("mean", "std"))
    assert counted == int(params["parameters"]) > parse_architecture(STUDENT).parameters(DIGITS.shape, 10)
    assert params["student_architecture"] == STUDENT
    whole = parse_method(GIVEN[name]).deployed(*map(parse_architecture, (STUDENT, TEACHER)))
    version = deployed.client.get_model_version(*uri_of(run).removeprefix("models:/").split("/"))
    assert params["architecture"] == version.tags["architecture"] == str(whole)
    logits = logits_of(deployed, run)
    on_test = measure(logits, LABELS, "test")
    assert metrics["test_accuracy"] == on_test["test_accuracy"]
    assert metrics["test_nll"] == pytest.approx(on_test["test_nll"], rel=1e-5)
    # The last epoch's validation is that of the network that is stored.
    curve = deployed.client.get_metric_history(run.info.run_id, "val_accuracy")
    assert curve[-1].value == metrics["val_accuracy"]
    served = mlflow.pyfunc.load_model(uri_of(run)).predict(TEST[:5].numpy(), params={"output": "logits"})
    np.testing.assert_allclose(np.asarray(served), logits[:5].numpy(), rtol=1e-4, atol=1e-5)


def test_what_a_method_costs_beside_is_counted(deployed):
    # Two stages with r from 3 channels to 5 and its bias, the first of them with q from 2 channels.
    beside = {"simkd": 0, "residual": 2 * (3 * 5 + 5) + 2 * 5 + 5, "pair": 0}
    # Logits of ten classes, the last map of 5 x 2 x 2, and maps of 5 x 4 x 4 and 5 x 2 x 2.
    values = {"simkd": 10 + 20, "residual": 10 + 80 + 20, "pair": 10}
    for name in GIVEN:
        (run,) = models(deployed, name)
        assert run.data.metrics["method_parameters"] == beside[name]
        assert run.data.metrics["method_bytes"] == 4 * (beside[name] + values[name] * len(SPLIT.transfers[0]))


def test_hard_labels_train_the_student_alone(deployed):
    students = [run for run in deployed.children() if run.data.tags["kdops.role"] == "student"]
    (hard,) = [run.data.params for run in students if run.data.params["temperature"] == "0"]
    assert hard["architecture"] == STUDENT
    assert "student_architecture" not in hard


def test_the_last_layer_is_the_sources_to_the_bit(deployed):
    (run,) = models(deployed, "simkd")
    (source,) = [one for one in deployed.children() if uri_of(one) == run.data.tags["kdops.source"]]
    theirs, own = (head_of(load_stored(deployed.client, uri_of(one)).module).state_dict() for one in (source, run))
    assert theirs.keys() == own.keys()
    assert all(torch.equal(theirs[key], own[key]) for key in theirs)


@every_method
def test_the_student_in_it_starts_as_it_would_alone(name):
    whole = parse_method(GIVEN[name]).deployed(*map(parse_architecture, (STUDENT, TEACHER)))
    nets = [
        build(one, DIGITS.shape, 10, *pixel_statistics(TEST), named_generator("init", "student", 0, "2"))
        for one in (parse_architecture(STUDENT), whole)
    ]
    first, second = ([values for values in net.net.parameters() if values.dim() == 4][:2] for net in nets)
    assert all(torch.equal(one, other) for one, other in zip(first, second, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "method"), [("simkd", "simkd(factor=1)"), ("residual", "fitnet(at=stage1)"), ("pair", "hint")]
)
def test_it_is_distilled_from_by_any_method(deployed, name, method):
    (run,) = models(deployed, name)
    parent = deployed.run("students", **SMALL, method=method, temperatures="3", source=uri_of(run))
    (again,) = models(deployed, method.partition("(")[0], "3")
    assert again.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert again.data.tags["kdops.source"] == uri_of(run)
    assert again.data.tags["kdops.chain"] == "teacher>student>student"


@pytest.mark.slow
def test_they_vote_and_the_controls_are_of_the_same_student(deployed):
    members = {uri_of(run): run for t in ("2", "4") for run in models(deployed, "simkd", t)}
    parent = deployed.run("ensemble", **SMALL, model=",".join(members))
    children = deployed.children(parent)
    (voted,) = [run for run in children if run.data.params.get("architecture", "").startswith("vote")]
    voters = [members[uri] for uri in voted.data.tags["kdops.source"].split()]
    with torch.no_grad():
        means = load_stored(deployed.client, uri_of(voted)).module(TEST)[1]
    logits = torch.stack([logits_of(deployed, run) for run in voters])
    torch.testing.assert_close(means, logits.softmax(-1).mean(0))
    assert int(voted.data.params["parameters"]) == sum(int(run.data.params["parameters"]) for run in voters)
    trained = [run.data.params for run in children if run.data.params.get("method") == "simkd"]
    assert len(trained) > 2, "controls beside the members"
    assert {params["student_architecture"] for params in trained} == {STUDENT}


@every_method
def test_it_is_exported_promoted_and_asked(deployed, name, capsys, tmp_path):
    (run,) = models(deployed, name)
    assert main(["export", uri_of(run), "--format", "pt2", "--output", str(tmp_path / "model.pt2")]) == 0
    assert main(["promote", uri_of(run), "--margin", "1"]) == 0
    Image.fromarray(DIGITS.images[0][0]).save(tmp_path / "one.png")
    capsys.readouterr()
    assert main(["predict", uri_of(run), str(tmp_path / "one.png")]) == 0
    with torch.no_grad():
        logits = load_stored(deployed.client, uri_of(run)).module(torch.from_numpy(DIGITS.images[:1]))
    assert capsys.readouterr().out.split()[-2] == DIGITS.classes[int(logits.argmax())]


@pytest.mark.slow
@every_method
def test_it_is_exported_as_onnx(deployed, name, tmp_path):
    pytest.importorskip("onnxscript")
    (run,) = models(deployed, name)
    assert main(["export", uri_of(run), "--format", "onnx", "--output", str(tmp_path / "model.onnx")]) == 0
