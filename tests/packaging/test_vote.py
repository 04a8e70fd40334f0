"""An ensemble's vote: its laws, its program, and the model that MLflow serves."""

import ast
import io
import json
import sys
import zipfile
from pathlib import Path

import mlflow
import numpy as np
import pytest
import torch
import yaml
from mlflow.exceptions import MlflowException
from safetensors.torch import load_file
from torch import nn

from kdops.config.architectures import parse_architecture
from kdops.models.classifier import build, digest_of
from kdops.packaging.ensemble import write_ensemble
from kdops.packaging.latency import latency
from kdops.packaging.vote import Vote, export_vote
from kdops.sweeps.model import Model
from kdops.utils.random import named_generator
from kdops.verdicts.votes import vote_scores

SHAPE, CLASSES = (1, 8, 8), 10
MIXED = (
    "mlp(hidden=4)",
    "cnn(filters=4,layers=2,dropout=0.5)",
    "tree(depth=2)",
    "mlp(hidden=4)",
    "mlp(hidden=3,depth=2,dropout=0.5)",
    "mlp(hidden=4)",
)
IDENTITY = {"model_id": "m-0123", "run_id": "a run", "location": "mlflow-artifacts:/models/m-0123/artifacts"}


def nets_of(*architectures, statistics=(torch.tensor([90.0]), torch.tensor([70.0]))):
    return [
        build(parse_architecture(text), SHAPE, CLASSES, *statistics, named_generator("init", place))
        for place, text in enumerate(architectures)
    ]


def load_rows(count, seed=0):
    random = np.random.default_rng(seed)
    return torch.from_numpy(random.integers(0, 256, (count, *SHAPE), dtype=np.uint8))


class Fixed(nn.Module):
    """Gives the same logits to every image."""

    def __init__(self, *logits):
        super().__init__()
        self.register_buffer("logits", torch.tensor(logits, dtype=torch.float32))

    def forward(self, images):
        return self.logits.expand(len(images), -1)


@pytest.fixture(scope="module")
def mixed():
    return nets_of(*MIXED)


@pytest.fixture(scope="module")
def written(mixed, tmp_path_factory):
    """A stored ensemble of networks of several kinds, written where a uv project is at work."""
    folder = tmp_path_factory.mktemp("ensemble")
    (folder / "uv.lock").write_text("version = 1\n")
    (folder / "pyproject.toml").write_text("[project]\nname = 'other'\nversion = '1'\n")
    members = [
        Model("s", 0, 1.0, "s", "labels", f"models:/m/{place}", "r", f"m-{place}", digest_of(net.state_dict()))
        for place, net in enumerate(mixed)
    ]
    metadata = {"class_names": [f"class {place}" for place in range(CLASSES)], "architecture": "5 members"}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        write_ensemble(folder / "model", mixed, SHAPE, metadata, members, **IDENTITY)
    return folder / "model"


@pytest.fixture(scope="module")
def served(written):
    """The ensemble as MLflow loads it, where neither pickle nor kdops is to be had."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
        for name in [name for name in sys.modules if name == "kdops" or name.startswith("kdops.")]:
            patch.setitem(sys.modules, name, None)
        return mlflow.pyfunc.load_model(str(written))


@pytest.mark.parametrize("count", [1, 2, 3, 8, 29])
def test_the_highest_score_is_the_majority_and_ties_go_to_the_mean_probability(count):
    random = np.random.default_rng(count)
    images, ties = load_rows(1), 0
    for _ in range(40):
        # Few classes and sharp members make many ties of votes.
        logits = random.normal(size=(count, 4)) * random.choice([0.3, 3.0], size=(count, 1))
        scores = Vote([Fixed(*row) for row in logits])(images)[0]
        probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        votes = np.bincount(logits.argmax(axis=1), minlength=4)
        leading = np.flatnonzero(votes == votes.max())
        ties += len(leading) > 1
        chosen = leading[probabilities.mean(axis=0)[leading].argmax()]
        assert scores.argmax() == chosen
        assert scores.dtype == torch.float32
        assert scores.sum().item() == pytest.approx(1, abs=1e-6)
        np.testing.assert_allclose(scores, (votes + probabilities.mean(axis=0)) / (count + 1), atol=1e-6)
    assert ties > 0 or count == 1


def test_no_probability_outweighs_a_vote():
    # One member more for class 0, and all who vote otherwise are certain of class 1.
    members = [Fixed(0.02, 0.01, 0.0)] * 4 + [Fixed(-50.0, 50.0, -50.0)] * 3
    assert Vote(members)(load_rows(1)).argmax() == 0
    # With as many on either side the certain ones win.
    assert Vote(members[1:])(load_rows(1)).argmax() == 1


def test_an_undecided_member_votes_for_the_lowest_class():
    for logits, votes in (((0, 3, 3, 3), 1), ((5, 5, 5, 5), 0), ((-1, 0, 2, 2), 2)):
        for count in (1, 7, 64):
            scores = Vote([Fixed(*logits)] * 3)(load_rows(count))
            assert (scores.argmax(dim=1) == votes).all()
            assert (scores[:, votes] > 0.75).all()


def test_the_vote_is_the_one_that_is_counted_on_stored_probabilities(mixed):
    vote, images = Vote(mixed), load_rows(300)
    with torch.no_grad():
        counted = vote_scores(vote.probabilities(images).numpy())
        np.testing.assert_allclose(vote(images), counted, atol=1e-6)
        np.testing.assert_array_equal(vote(images).argmax(dim=1), counted.argmax(axis=1))


def test_a_served_vote_breaks_ties_like_a_measured_one():
    """One vote each, and mean probabilities that differ by less than float32 can tell of the scores."""
    first = torch.linspace(0.1, 3.0, 200)
    for step in range(-4, 5):
        second = first * (1 + step * 1e-7)
        for mine, theirs in zip(first.tolist(), second.tolist(), strict=True):
            vote = Vote([Fixed(0.0, mine), Fixed(theirs, 0.0)])
            with torch.no_grad():
                scores, counted = vote(load_rows(1)), vote_scores(vote.probabilities(load_rows(1)).numpy())
            assert scores.argmax() == counted.argmax()


def test_members_give_what_they_give_alone_in_their_order(mixed):
    vote, images = Vote(mixed), load_rows(20)
    with torch.no_grad():
        alone = torch.stack([net.eval()(images).softmax(dim=1) for net in mixed])
        torch.testing.assert_close(vote.probabilities(images), alone)
    # Which also says that members are not all alike, so that an order can be seen.
    assert len({row.numpy().tobytes() for row in alone}) == len(mixed)


def test_dense_members_of_one_shape_are_one_part():
    assert len(Vote(nets_of(*["mlp(hidden=8)"] * 29)).parts) == 1
    assert len(Vote(nets_of(*MIXED)).parts) == 4
    # Not where they normalize their images differently, which one pass could not do.
    other = nets_of("mlp(hidden=4)", statistics=(torch.tensor([10.0]), torch.tensor([70.0])))
    both = [*nets_of("mlp(hidden=4)"), *other]
    vote, images = Vote(both), load_rows(5)
    with torch.no_grad():
        torch.testing.assert_close(vote.probabilities(images)[1], both[1](images).softmax(dim=1))


def test_a_vote_has_no_dropout_whatever_its_members_were_told():
    nets = [net.train() for net in nets_of(*MIXED)]
    vote, images = Vote(nets).train(), load_rows(30)
    with torch.no_grad():
        assert torch.equal(vote(images), vote(images))


def test_an_ensemble_has_members():
    with pytest.raises(ValueError, match="needs members"):
        Vote([])


def test_the_exported_program_takes_batches_of_any_size(mixed):
    vote = Vote(mixed)
    program = export_vote(vote, SHAPE).module()
    for count in (1, 2, 3, 64):
        images = load_rows(count)
        with torch.no_grad():
            scores, mean = program(images)
            assert torch.equal(scores, vote(images))
            torch.testing.assert_close(mean, vote.probabilities(images).mean(dim=0))


def test_exported_networks_can_vote(mixed):
    batch = torch.export.Dim.DYNAMIC
    shapes = ({0: batch},)
    exported = [torch.export.export(net.eval(), (load_rows(2),), dynamic_shapes=shapes).module() for net in mixed[:2]]
    vote, images = Vote([*exported, mixed[2]]), load_rows(5)
    with torch.no_grad():
        assert torch.equal(export_vote(vote, SHAPE).module()(images)[0], vote(images))
        torch.testing.assert_close(vote(images), Vote(mixed[:3])(images))


def test_latency_is_the_median_of_enough_calls_on_the_threads_it_says():
    class Counting(nn.Module):
        def forward(self, images):
            seen.append((torch.get_num_threads(), tuple(images.shape), images.dtype))
            return images.float().sum()

    before, seen = torch.get_num_threads(), []
    try:
        torch.set_num_threads(2)
        seconds = latency(Counting(), SHAPE, 5)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert 0 < seconds < 0.1
    assert set(seen) == {(1, (5, *SHAPE), torch.uint8)}
    assert len(seen) > 20


def test_the_served_model_gives_scores_and_mean_probabilities(served, mixed):
    vote = Vote(mixed)
    for count in (1, 2, 64, 600):
        images = load_rows(count)
        with torch.no_grad():
            wanted, mean = vote(images).numpy(), vote.probabilities(images).mean(dim=0).numpy()
        for given in (served.predict(images.numpy()), served.predict(images.numpy(), params={"vote": "majority"})):
            assert given.dtype == np.float32
            np.testing.assert_allclose(given, wanted, atol=1e-6)
        given = served.predict(images.numpy(), params={"vote": "probability"})
        assert given.dtype == np.float32
        np.testing.assert_allclose(given, mean, atol=1e-6)
        assert np.abs(given - wanted).max() > 0.01
        for scores, vote_by in ((wanted, "majority"), (mean, "probability")):
            table = served.predict(images.numpy(), params={"vote": vote_by, "output": "probabilities"})
            np.testing.assert_allclose(table[[f"class {place}" for place in range(CLASSES)]], scores, atol=1e-6)
            told = served.predict(images.numpy(), params={"vote": vote_by, "output": "classes"})
            assert list(told["class"]) == [f"class {place}" for place in scores.argmax(axis=1)]
            np.testing.assert_allclose(told["probability"], scores.max(axis=1), atol=1e-6)
    assert served.predict(np.zeros((0, *SHAPE), np.uint8)).shape == (0, CLASSES)


def test_the_served_model_refuses_what_it_does_not_know(served):
    images = load_rows(1).numpy()
    with pytest.raises(MlflowException, match="vote=best: must be one of majority, probability"):
        served.predict(images, params={"vote": "best"})
    with pytest.raises(MlflowException, match="shape"):
        served.predict(np.zeros((1, 1, 9, 8), np.uint8))


def test_the_stored_ensemble_describes_itself(written, served, mixed):
    described = yaml.safe_load((written / "MLmodel").read_text())
    assert described["metadata"]["class_names"][1] == "class 1"
    assert (described["model_id"], described["model_uuid"]) == ("m-0123", "0123")
    assert (described["run_id"], described["artifact_path"]) == (IDENTITY["run_id"], IDENTITY["location"])
    signature = served.metadata.signature
    assert (signature.inputs.inputs[0].shape, signature.inputs.inputs[0].type) == ((-1, *SHAPE), np.dtype("uint8"))
    assert (signature.outputs.inputs[0].shape, signature.outputs.inputs[0].type) == ((-1, CLASSES), np.float32)
    assert {param.name: param.default for param in signature.params} == {"vote": "majority", "output": "scores"}
    told = json.loads((written / "artifacts" / "members.json").read_text())
    assert told["classes"] == described["metadata"]["class_names"]
    weights = load_file(written / "artifacts" / "weights.safetensors")
    for place, member in enumerate(told["members"]):
        own = {name.split(".", 1)[1]: value for name, value in weights.items() if name.startswith(f"{place}.")}
        assert member["uri"] == f"models:/m/{place}"
        assert member["weights"] == digest_of(own) == digest_of(mixed[place].state_dict())


SERVED = ("served_model.py", "program.py", "pixels.py")
"""The code that travels with a model."""


def test_the_stored_ensemble_is_plain_and_tells_nothing_of_where_it_was_made(written):
    files = {str(path.relative_to(written)): path for path in written.rglob("*") if path.is_file()}
    # What Python compiled where another test loaded it.
    files = {name: path for name, path in files.items() if not name.startswith("__pycache__/")}
    assert files.keys() == {
        "MLmodel",
        "conda.yaml",
        "input_example.json",
        "python_env.yaml",
        "requirements.txt",
        "serving_input_example.json",
        "pixels.py",
        "program.py",
        "served_model.py",
        *(f"artifacts/{name}" for name in ("ensemble.pt2", "members.json", "weights.safetensors")),
    }
    for path in files.values():
        assert path.read_bytes()[:1] != b"\x80"
    for name in ("MLmodel", "artifacts/members.json", *SERVED):
        text = files[name].read_text()
        for place in (str(written.parent), str(Path(__file__).parents[2]), "kdops-", "/tmp"):
            assert place not in text, (name, place)
    with zipfile.ZipFile(files["artifacts/ensemble.pt2"]) as archive:
        for name in archive.namelist():
            content = archive.read(name)
            if name.endswith("sample_inputs/model.pt"):
                torch.load(io.BytesIO(content), weights_only=True)
            elif "/weights/weight_" not in name and "/constants/tensor_" not in name:
                assert content[:1] != b"\x80", name
                assert content[:2] != b"PK", name


def test_the_served_code_needs_little(written):
    nodes = [node for name in SERVED for node in ast.walk(ast.parse((written / name).read_text()))]
    names = [node.module for node in nodes if isinstance(node, ast.ImportFrom)]
    names += [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    libraries = {name.partition(".")[0].replace("PIL", "pillow") for name in names} - sys.stdlib_module_names
    needed = (written / "requirements.txt").read_text().split()
    assert libraries == {line.partition("==")[0] for line in needed} == {"mlflow", "numpy", "pandas", "pillow", "torch"}


def test_each_member_is_described(tmp_path, mixed):
    with pytest.raises(ValueError, match="6 networks have 0 descriptions"):
        write_ensemble(tmp_path / "model", mixed, SHAPE, {"class_names": ["a"]}, [], **IDENTITY)
    assert not (tmp_path / "model").exists()
