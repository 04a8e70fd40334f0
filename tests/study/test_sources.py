"""What is distilled from: one model, an ensemble, several at once; and what is refused."""

import pickle
import sys
import zipfile
from pathlib import Path

import mlflow
import numpy as np
import pytest
import torch
import yaml
from torch import nn

from kdops.cli.app import main
from kdops.config.datasets import parse_dataset
from kdops.config.settings import Settings
from kdops.config.sources import NormalizedBy, parse_source
from kdops.data import dataset as datasets
from kdops.distillation.logits import LogitDistillation
from kdops.distillation.method import Outputs
from kdops.distillation.objective import Objective
from kdops.distillation.softening import soft_cross_entropy
from kdops.distillation.sources import FromProbabilities, Mixture, averaged
from kdops.errors import UsageError
from kdops.models.size import network_size
from kdops.packaging.external import Target, load_classifier, load_source
from kdops.study.sources import digest_of_source, options_of
from kdops.utils.random import named_generator

TEACHER, STUDENT = "models:/kdops-digits-teacher", "models:/kdops-digits-student"


def logits(*shape, seed=0):
    return 5 * torch.randn(*shape, generator=named_generator("logits", seed), dtype=torch.float64)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0, 29.0])
def test_a_mixture_softened_is_the_average_of_its_members_softened(temperature):
    each, shares = logits(3, 20, 7), torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    wanted = (shares.view(-1, 1, 1) * (each / temperature).softmax(-1)).sum(0)
    torch.testing.assert_close((averaged(each, shares, temperature) / temperature).softmax(-1), wanted)


def test_learning_from_a_mixture_is_learning_from_each_by_its_share():
    each, shares, own = logits(2, 20, 7), torch.tensor([0.7, 0.3], dtype=torch.float64), logits(20, 7, seed=1)
    together = soft_cross_entropy(averaged(each, shares, 3.0), own, 3.0)
    apart = sum(share * soft_cross_entropy(one, own, 3.0) for share, one in zip(shares, each, strict=True))
    torch.testing.assert_close(together, apart)


def test_one_source_alone_or_twice_is_that_source():
    one = logits(1, 20, 7)
    for each, shares in ((one, [1.0]), (one.expand(2, -1, -1), [0.4, 0.6])):
        given = averaged(each, torch.tensor(shares, dtype=torch.float64), 4.0)
        torch.testing.assert_close((given / 4).softmax(-1), (one[0] / 4).softmax(-1))


def test_probabilities_come_back_from_their_logarithms_and_zeros_stay_finite():
    shares = torch.tensor([[0.25, 0.75, 0.0]])
    given = FromProbabilities(nn.Identity())(shares)
    assert given.isfinite().all()
    torch.testing.assert_close(given.softmax(-1), shares)


def test_weights_become_shares_that_sum_to_one():
    assert parse_source("2*models:/a/1, 6*models:/b@c").parts == ((0.25, "models:/a/1"), (0.75, "models:/b@c"))
    assert parse_source("models:/a/1,models:/b/1").parts == ((0.5, "models:/a/1"), (0.5, "models:/b/1"))
    assert parse_source("runs:/0/model").parts == ((1.0, "runs:/0/model"),)


@pytest.mark.parametrize(
    "text",
    [
        "teacher",
        "models:/a/1,",
        "0*models:/a/1,1*models:/b/1",
        "-1*models:/a/1,2*models:/b/1",
        "nan*models:/a/1,1*models:/b/1",
        "0.5*models:/a/1,models:/b/1",
        "models:/a/1,models:/a/1",
    ],
)
def test_what_names_no_sources_is_refused(text):
    with pytest.raises(UsageError, match=r"^source="):
        Settings.parse("students", source=text)


def source_children(place, parent):
    return [run for run in place.children(parent) if run.data.tags["kdops.source"] != "labels"]


def test_several_sources_teach_one_student_and_each_is_named(fork):
    given = f"0.7*{TEACHER}/1,0.3*{TEACHER}/2"
    parent = fork.run("students", source=given, seeds="1")
    students = source_children(fork, parent)
    assert [run.data.params["temperature"] for run in students] in (["1", "4"], ["4", "1"])
    ids = {fork.client.get_model_version("kdops-digits-teacher", v).source.removeprefix("models:/") for v in "12"}
    for run in students:
        assert run.data.tags["kdops.source"] == f"{TEACHER}/1 {TEACHER}/2"
        inputs = fork.client.get_run(run.info.run_id).inputs.model_inputs
        assert {one.model_id for one in inputs} == ids
        assert run.data.tags["kdops.chain"] == "teacher>student"
    assert "0.7 of models:/kdops-digits-teacher/1" in parent.data.tags["mlflow.note.content"]
    before = len(fork.trained())
    fork.run("students", source=given, seeds="1")
    assert len(fork.trained()) == before, "the same again is reused"
    fork.run("students", source=f"0.3*{TEACHER}/1,0.7*{TEACHER}/2", seeds="1")
    assert len(fork.trained()) > before, "other shares are another source"


@pytest.mark.slow
def test_a_search_takes_several_sources_at_each_trials_own_temperature(fork):
    parent = fork.run(
        "search", source=f"{TEACHER}/1,{TEACHER}/2", trials="3", seeds="1", space="temperature=1,4,9", sampler="grid"
    )
    trials = [run for run in fork.children(parent) if "kdops.source" in run.data.tags]
    assert {run.data.tags["kdops.source"] for run in trials} >= {f"{TEACHER}/1 {TEACHER}/2"}


def test_an_ensemble_is_distilled_back_into_one_student(fork_of_whole):
    place = fork_of_whole
    uri = "models:/kdops-digits-ensemble@champion"
    parent = place.run("students", source=uri, seeds="2")
    version = place.client.get_model_version_by_alias("kdops-digits-ensemble", "champion").version
    students = source_children(place, parent)
    assert len(students) == 4
    assert {run.data.tags["kdops.source"] for run in students} == {f"models:/kdops-digits-ensemble/{version}"}
    assert {run.data.tags["kdops.chain"] for run in students} == {"teacher>student>ensemble>student"}
    assert all(run.data.metrics["source_agreement"] > 0.1 for run in students)


class Shares(nn.Module):
    """Gives probabilities, not logits."""

    def forward(self, images):
        return torch.softmax(images.float().flatten(1)[:, :10] / 16, dim=1)


class Foreign(mlflow.pyfunc.PythonModel):
    """Somebody's Python code."""

    def predict(self, context, model_input, params=None):
        raise AssertionError("code of others was run")


def registered(name, module):
    with mlflow.start_run():
        return mlflow.pytorch.log_model(
            module.eval(),
            name=name,
            registered_model_name=name,
            input_example=np.zeros((2, 1, 8, 8), np.uint8),
            signature=mlflow.models.ModelSignature(
                mlflow.types.Schema([mlflow.types.TensorSpec(np.dtype("uint8"), (-1, 1, 8, 8))]),
                mlflow.types.Schema([mlflow.types.TensorSpec(np.dtype("float32"), (-1, 10))]),
            ),
            pip_requirements=["torch"],
        ).model_uri


def test_probabilities_are_recognized_and_what_is_of_others_says_so(fork, capsys):
    registered("shares", Shares())
    target = Target(datasets.load("digits"), parse_dataset({"dataset": "digits"}), NormalizedBy(), trust=False)
    net = load_source("models:/shares/1", target, votes=False)
    images = torch.randint(0, 17, (4, 1, 8, 8), generator=named_generator("i")).to(torch.uint8)
    torch.testing.assert_close(net(images).softmax(1), Shares()(images))
    parent = fork.run("students", source="models:/shares/1", seeds="1")
    assert "It gives probabilities; their logarithms" in parent.data.tags["mlflow.note.content"]
    capsys.readouterr()
    for command in (
        ["predict", "shares/1", "a.png"],
        ["export", "shares/1", "--format", "pt2"],
        ["promote", "shares/1"],
    ):
        assert main(command) != 0
        (line,) = capsys.readouterr().err.strip().splitlines()
        assert "kdops" in line
        assert "no such" not in line
        assert "did not finish" not in line
    assert main(["lineage", "shares/1"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("shares/1  of others\n")
    assert "others registered it, not kdops" in shown
    assert "foreign>student" in shown


@pytest.mark.parametrize(
    ("source", "told"),
    [
        (f"{TEACHER}/99", "there is no such version"),
        (f"{TEACHER}/1,{TEACHER}@champion,{TEACHER}/2", "names a model twice"),
        ("models:/nobody/1", "there is no such version"),
        ("models:/code/1", "it is somebody's Python code, which only runs with trust=true"),
        (f"0*{TEACHER}/1,1*{TEACHER}/2", "the weight 0 must be a number above 0"),
    ],
)
def test_a_source_that_cannot_be_used_ends_with_2_and_leaves_nothing(fork, source, told, capsys):
    if "code" in source:
        with mlflow.start_run():
            mlflow.pyfunc.log_model(
                name="code", python_model=Foreign(), registered_model_name="code", pip_requirements=["mlflow"]
            )
    runs = len(fork.runs())
    assert main(["students", "--source", source]) == 2
    err = capsys.readouterr().err.strip().splitlines()[-1]
    assert err.startswith("kdops: source=")
    assert told in err
    assert len(fork.runs()) == runs


class OfFloats(nn.Module):
    """What people log: floats in, logits out, alone or by name."""

    def __init__(self, by_name):
        super().__init__()
        self.fc, self.by_name = nn.Linear(64, 10), by_name

    def forward(self, x):
        logits = self.fc(x.flatten(1))
        return {"logits": logits} if self.by_name else logits


@pytest.mark.parametrize("by_name", [True, False])
def test_a_program_of_floats_is_given_normalized_images(fork, by_name):
    with mlflow.start_run():
        net = OfFloats(by_name).eval()
        mlflow.pytorch.log_model(
            net,
            name="floats",
            registered_model_name="floats",
            input_example=np.zeros((2, 1, 8, 8), np.float32),
            signature=mlflow.models.ModelSignature(
                mlflow.types.Schema([mlflow.types.TensorSpec(np.dtype("float32"), (-1, 1, 8, 8))])
            ),
            pip_requirements=["torch"],
        )
    target = Target(datasets.load("digits"), parse_dataset({"dataset": "digits"}), NormalizedBy.parse("unit"), False)
    images = torch.randint(0, 17, (4, 1, 8, 8), generator=named_generator("i")).to(torch.uint8)
    found = load_source("models:/floats/1", target, votes=False)(images)
    torch.testing.assert_close(found, net.fc(images.float().flatten(1) / 255))
    study = fork.run("students", source="models:/floats/1", source_normalize="unit", seeds=1)
    assert [run.info.status for run in fork.children(study)] == ["FINISHED"] * len(fork.children(study))
    assert study.info.status == "FINISHED"


class Odd(nn.Module):
    """Code without weights that gives something of its own for one row alone."""

    def __init__(self, row, number):
        super().__init__()
        self.image, self.number = torch.from_numpy(np.array(datasets.load("digits").images[row])), number

    def forward(self, images):
        return (images == self.image).flatten(1).all(dim=1)[:, None] * self.number * torch.ones(len(images), 10)


def test_code_is_told_apart_by_what_it_gives_for_all_rows():
    data, rows = datasets.load("digits"), np.arange(400)
    assert digest_of_source(Odd(390, 1.0), data, rows) != digest_of_source(Odd(390, 2.0), data, rows)
    assert digest_of_source(Odd(390, 1.0), data, rows) == digest_of_source(Odd(390, 1.0), data, rows)


def test_code_that_changed_is_another_source_of_students_who_see_views(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    found = {}
    for changed in (False, True):
        text = "from torch import nn\n\ndef net(channels, height, width, classes):\n"
        text += f"    return nn.Sequential(nn.Flatten(), nn.Linear(channels * height * width, classes))  # {changed}\n"
        (tmp_path / "nets_of_views.py").write_text(text)
        sys.modules.pop("nets_of_views", None)
        network_size.cache_clear()
        for augment in ("none", "shift=1"):
            settings = Settings.parse(
                "students", source="t.pt", source_model="nets_of_views:net", augment=f"student={augment}"
            )
            found[augment, changed] = options_of(settings.named_source, settings, datasets.load("digits"))
    assert found["none", False] == found["none", True]
    assert found["shift=1", False] != found["shift=1", True]
    assert found["shift=1", False] != found["none", False]


def test_a_normalization_that_nothing_is_given_is_refused(fork, capsys):
    for source, told in (([], "and there is none"), (["--source", f"{TEACHER}/1"], "takes images or rows as they are")):
        assert main(["students", *source, "--source-normalize", "imagenet"]) == 2
        (line,) = capsys.readouterr().err.strip().splitlines()[-1:]
        assert line.startswith("kdops: source_normalize=imagenet")
        assert told in line


def test_students_learn_from_stored_outputs_of_the_images_that_they_see(fork, capsys):
    assert main(["outputs", "kdops-digits-teacher/1", "--output", "all.npz"]) == 0
    parent = fork.run("students", source="all.npz", seeds="1")
    learned = {run.data.tags["kdops.weights"] for run in source_children(fork, parent)}
    assert all(run.data.metrics["source_agreement"] > 0 for run in source_children(fork, parent))
    assert "outputs alone" in parent.data.tags["mlflow.note.content"]
    data = datasets.load("digits")
    with np.load("all.npz") as archive:
        arrays = dict(archive)
    for name in ("logits", "digests", "rows"):
        arrays[name] = arrays[name][~data.test]
    np.savez("some.npz", **arrays)
    some = source_children(fork, fork.run("students", source="some.npz", seeds="1"))
    assert {run.data.tags["kdops.weights"] for run in some} == learned, "test images teach nothing"
    assert all("source_agreement" not in run.data.metrics for run in some)
    (uri,) = {run.data.tags["kdops.source"] for run in some}
    assert uri.startswith("file:some.npz#")
    capsys.readouterr()
    assert main(["students", "--source", "some.npz", "--augment", "student=mixup"]) == 2
    told = "augment=mixup=0.2: outputs were stored for the images as they are; give augment=none for the student, or"
    assert told in capsys.readouterr().err.strip().splitlines()[-1]
    arrays["classes"] = arrays["classes"][::-1]
    np.savez("some.npz", **arrays)
    capsys.readouterr()
    assert main(["students", "--source", "some.npz"]) == 2
    assert "some.npz: is of the classes 9, 8, 7" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["all.npz", "all.safetensors"])
def test_what_learns_from_stored_outputs_of_a_model_chosen_on_test_says_so(fork, name):
    fork.client.set_model_version_tag("kdops-digits-teacher", "1", "select_on", "test")
    assert main(["outputs", "kdops-digits-teacher/1", "--output", name]) == 0
    (run,) = source_children(fork, fork.run("students", source=name, seeds="1", temperatures="3"))
    version = fork.client.get_model_version(*run.data.tags["kdops.model"].removeprefix("models:/").split("/"))
    assert (run.data.tags["kdops.select_on"], version.tags["select_on"]) == ("test", "test")


CODE = """
import mlflow, numpy as np, pandas as pd

class Brightness(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        given = np.asarray(model_input).reshape(len(model_input), -1)[:, 20:30] / 4.0
        return {answer}

mlflow.models.set_model(Brightness())
"""


def register_code(name, folder, answer):
    """Register a model that is nothing but code, without pickle."""
    path = folder / f"{name}.py"
    path.write_text(CODE.replace("{answer}", answer))
    with mlflow.start_run():
        mlflow.pyfunc.log_model(
            name=name, python_model=str(path), registered_model_name=name, pip_requirements=["mlflow"]
        )


def test_code_of_others_is_distilled_from_where_the_caller_trusts_it(fork, tmp_path):
    register_code("frame", tmp_path, "pd.DataFrame(given)")
    register_code("array", tmp_path, "given")
    first = fork.run("students", source="models:/frame/1", trust="true", seeds="1")
    assert max(run.data.metrics["source_agreement"] for run in source_children(fork, first)) > 0.3
    again = fork.run("students", source="models:/array/1", trust="true", seeds="1")
    assert source_children(fork, again) == [], "an array says what a data frame does, so the students are there"


def test_trusted_code_that_gives_no_number_a_class_is_refused(fork, tmp_path, capsys):
    register_code("short", tmp_path, "given[:, :3]")
    register_code("words", tmp_path, "['stop'] * len(given)")
    runs = len(fork.runs())
    for name, told in (("short", "not float32 [2, 3]"), ("words", "and fails: could not convert string to float")):
        assert main(["students", "--source", f"models:/{name}/1", "--trust", "true"]) == 2
        (line,) = capsys.readouterr().err.strip().splitlines()[-1:]
        assert told in line
    assert len(fork.runs()) == runs


EVIL = "import os, pathlib; pathlib.Path(os.environ['CANARY']).write_text('ran')"


class Payload:
    """Runs code where it is unpickled."""

    def __reduce__(self):
        return exec, (EVIL,)


def test_no_code_that_lies_in_a_model_or_beside_it_is_run(fork, tmp_path, monkeypatch, capsys):
    canary = tmp_path / "canary"
    monkeypatch.setenv("CANARY", str(canary))
    registered("beside", Shares())
    registered("within", Shares())
    beside, within = (
        Path(mlflow.artifacts.download_artifacts(f"models:/{name}/1", dst_path=str(tmp_path / name)))
        for name in ("beside", "within")
    )
    # A flavor that names a folder of code and, for the pickle that it claims to be, a module in there.
    (beside / "code").mkdir()
    (beside / "code" / "evil.py").write_text(EVIL)
    description = yaml.safe_load((beside / "MLmodel").read_text())
    description["flavors"]["pytorch"]["code"] = "code"
    (beside / "MLmodel").write_text(yaml.safe_dump(description))
    (beside / "data" / "model.pth").write_bytes(b"")
    (beside / "data" / "pickle_module_info.txt").write_text("evil")
    # An archive of a program with a pickle among its records.
    with zipfile.ZipFile(within / "data" / "model.pt2", "a") as archive:
        folder = archive.namelist()[0].split("/")[0]
        archive.writestr(f"{folder}/data/constants/evil", pickle.dumps(Payload()))
    with pytest.raises(UsageError, match="cannot be loaded as a PyTorch program"):
        load_classifier(str(within), datasets.load("digits"), "source")
    net = load_classifier(str(beside), datasets.load("digits"), "source")
    assert net(torch.zeros(2, 1, 8, 8, dtype=torch.uint8)).shape == (2, 10)
    assert not canary.exists()
    assert not any("beside" in place for place in sys.path)


def test_a_mixture_gives_the_averaged_probabilities_at_temperature_one():
    first, second = (nn.Sequential(nn.Flatten(), nn.Linear(4, 3)) for _ in range(2))
    mixture, images = Mixture([first, second], [0.25, 0.75]), torch.randn(5, 4, generator=named_generator("x"))
    wanted = 0.25 * first(images).softmax(1) + 0.75 * second(images).softmax(1)
    torch.testing.assert_close(mixture(images).softmax(1), wanted)
    given, labels = Outputs(mixture(images)[None]), torch.zeros(1, 5).long()
    loss = Objective(LogitDistillation(), torch.ones(1))(given, labels, given)
    assert loss.isfinite().all()
