"""From the store to a file and an answer: ``candidates``, ``export``, ``predict``."""

import csv
import io
import json
import math

import mlflow
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import kdops.packaging.export
import kdops.packaging.loading
import kdops.reporting.candidates
from kdops.cli import ship as shipping
from kdops.cli.app import main
from kdops.data import dataset as datasets
from kdops.data.splits import make_split
from kdops.packaging.export import FORMATS
from kdops.packaging.inputs import images_to_compare
from kdops.packaging.loading import Loaded, load_stored
from kdops.reporting.candidates import _front
from kdops.tracking.catalog import data_of, find_registered
from tests.data.image_folders import fill
from tests.shelves import read_catalog

DIGITS = datasets.load("digits")
SPLIT = make_split(DIGITS, "disjoint", 0)
STUDENT, ENSEMBLE = "kdops-digits-student@champion", "kdops-digits-ensemble@champion"


@pytest.fixture
def shipped(whole, monkeypatch, tmp_path):
    """The store of the whole paper, looked at from an empty folder."""
    place = whole.enter(monkeypatch)
    monkeypatch.chdir(tmp_path)
    return place


def said(capsys, *arguments, code=0):
    """Run a command; give the lines of stdout and of stderr."""
    capsys.readouterr()
    assert main(list(arguments)) == code
    told = capsys.readouterr()
    return told.out.splitlines(), told.err.splitlines()


# candidates


def test_candidates_tell_of_every_model_what_the_store_says(shipped, capsys):
    out, err = said(capsys, "candidates", "--csv")
    rows = {row["model"]: row for row in csv.DictReader(io.StringIO("\n".join(out)))}
    stored = {model.uri: model for model in read_catalog(shipped.client).registered()}
    assert rows.keys() == stored.keys()
    assert err == []
    latencies = {}
    for uri, row in rows.items():
        model = stored[uri]
        assert float(row["val_accuracy"]) == model.val_accuracy
        assert float(row["test_low"]) < model.test_accuracy < float(row["test_high"])
        assert int(row["parameters"]) == model.parameters
        assert float(row["latency_seconds"]) > 0
        latencies.setdefault(row["architecture"], set()).add((row["latency_seconds"], row["size_bytes"]))
    assert all(len(measured) == 1 for measured in latencies.values())
    values = [[float(row[n]) for n in ("val_accuracy", "latency_seconds", "parameters")] for row in rows.values()]
    for row, (accuracy, seconds, size) in zip(rows.values(), values, strict=True):
        beaten = any(
            a >= accuracy and s <= seconds and p <= size and (a, s, p) != (accuracy, seconds, size)
            for a, s, p in values
        )
        assert row["front"] == str(not beaten).lower()
    out, _ = said(capsys, "candidates", "--role", "student")
    assert sum("kdops-digits-student/" in line for line in out) == sum(m.role == "student" for m in stored.values())
    assert any(line.startswith("+ ") for line in out)


@pytest.mark.parametrize("shown", [0, 2, 1000])
def test_of_many_candidates_the_best_the_front_and_the_champions_are_shown(shipped, capsys, monkeypatch, shown):
    every = sorted(read_catalog(shipped.client).registered(), key=lambda model: -model.val_accuracy)
    monkeypatch.setattr(kdops.reporting.candidates, "SHOWN", shown)
    out, _ = said(capsys, "candidates")
    names = [line[2:].split()[0] for line in out if line[2:].startswith("kdops-digits-")]
    assert len(set(names)) == len(names)
    assert {model.name for model in every if model.champion} <= set(names)
    groups = {(model.transfer, model.split): [] for model in every}
    for model in every:
        groups[model.transfer, model.split].append(model.name)
    assert {name for group in groups.values() for name in group[:shown]} <= set(names)
    told = [int(line.split()[0]) for line in out if line.endswith(" more; all of them: kdops candidates --csv")]
    assert sum(told) == len(every) - len(names)
    assert bool(told) == (shown < 1000)


def test_each_architecture_is_loaded_once(shipped, capsys, monkeypatch):
    loads, real = [], kdops.packaging.loading.load_stored
    monkeypatch.setattr(
        kdops.packaging.loading, "load_stored", lambda client, uri: loads.append(uri) or real(client, uri)
    )
    said(capsys, "candidates")
    models = read_catalog(shipped.client).registered()
    assert len(loads) == len({model.architecture for model in models}) < len(models)


def test_images_of_another_size_are_measured_by_themselves(store, capsys, tmp_path):
    folder = str(fill(tmp_path / "pets"))
    for side in ("4", "24"):
        given = {"dataset": f"imagefolder:{folder}", "image_size": side, "seeds": "1", "epochs": "1"}
        store.run("teacher", **given, teacher="mlp(hidden=8)")
    out, _ = said(capsys, "candidates", "--csv")
    small, large = sorted(csv.DictReader(io.StringIO("\n".join(out))), key=lambda row: int(row["parameters"]))
    assert small["architecture"] == large["architecture"]
    assert int(large["size_bytes"]) - int(small["size_bytes"]) >= 4 * 8 * 3 * (24**2 - 4**2)


def test_the_figure_is_drawn(shipped, capsys, tmp_path):
    said(capsys, "candidates", "--figure", "front.png")
    with Image.open(tmp_path / "front.png") as drawn:
        assert drawn.width > 500


points = st.lists(st.tuples(*[st.integers(0, 4).map(float)] * 3), max_size=12)


@settings(deadline=None)
@given(points)
def test_the_front_is_what_none_beats(points):
    front = _front(points)
    for point, on in zip(points, front, strict=True):
        beaten = any(q != point and all(a <= b for a, b in zip(q, point, strict=True)) for q in points)
        assert on is not beaten
    assert any(front) or not points
    assert _front([*points, (math.nan, 0.0, 0.0)]) == [*front, False]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["candidates", "--dataset", "gtsrb"], ["dataset=gtsrb", "there are digits"]),
        (["candidates", "--role", "boss"], ["role=boss", "student"]),
        (["candidates", "--figure", "a.pdf"], ["figure=a.pdf", "must end with .png"]),
        (["candidates", "--figure", "no/such/a.png"], ["figure=no/such/a.png", "there is no folder"]),
        (["export", STUDENT, "--format", "tflite"], ["format=tflite", "onnx, pt2"]),
        (["export", STUDENT, "--format", "torchscript"], ["format=torchscript", "onnx, pt2"]),
        (["export", STUDENT, "--format", "pt2", "--int8", "true"], ["int8=true", "onnx"]),
        (["export", STUDENT, "--format", "pt2", "--int8", "yes"], ["int8=yes", "true or false"]),
        (["export", STUDENT, "--format", "pt2", "--output", "."], ["output=.", "folder"]),
        (["export", "student", "--format", "pt2"], ["model=student", "models:/NAME/VERSION"]),
        (["export", "kdops-digits-student/999", "--format", "pt2"], ["no such version"]),
        (["export", STUDENT], ["--format"]),
        (["predict", STUDENT], ["FILES"]),
        (["predict", "kdops-digits-student@best", "a.png"], ["there is no such alias"]),
        (["predict", STUDENT, "a.png", "--skip-bad", "1"], ["skip_bad=1"]),
        (["predict", STUDENT, "a.png"], ["a.png: there is no such file"]),
    ],
)
def test_a_mistake_is_one_line(shipped, capsys, arguments, words, tmp_path):
    out, err = said(capsys, *arguments, code=2)
    assert (out, len(err)) == ([], 1)
    assert all(word in err[0] for word in words), err
    assert list(tmp_path.iterdir()) == []


# export


def test_the_formats_of_the_command_are_those_there_are():
    assert tuple(FORMATS) == shipping.FORMATS


@pytest.mark.parametrize("model", [STUDENT, ENSEMBLE, "kdops-digits-teacher/1"])
def test_an_export_gives_what_the_served_model_gives(shipped, capsys, tmp_path, model):
    out, err = said(capsys, "export", model, "--format", "pt2")
    assert err == []
    (path,) = tmp_path.iterdir()
    assert path.suffix == ".pt2"
    assert out[0].startswith(f"{path.name}: kdops-digits-")
    assert f"{path.stat().st_size:,} bytes" in out[0]
    assert "256 images of digits: the same class on 100.0 %" in out[1]
    files = {"class_names.json": ""}
    exported = torch.export.load(path, extra_files=files).module()
    assert json.loads(files["class_names.json"]) == [str(digit) for digit in range(10)]
    served = mlflow.pyfunc.load_model(f"models:/{model}")
    for count in (1, 7):
        images = np.array(DIGITS.images[SPLIT.test[:count]])
        with torch.no_grad():
            given = exported(torch.from_numpy(images))
        given = given if isinstance(given, torch.Tensor) else given[0]
        np.testing.assert_allclose(given.numpy(), served.predict(images), rtol=1e-4, atol=1e-5)


def test_an_export_is_compared_on_the_images_that_the_model_was_trained_on(shipped, tmp_path):
    assert data_of(shipped.client, find_registered(shipped.client, STUDENT)) == {"dataset": "digits"}
    for part in ("train", "test"):
        for label in ("cat", "dog"):
            (tmp_path / "pets" / part / label).mkdir(parents=True)
            for number in range(4):
                pixels = np.full((9, 12, 3), 20 + 50 * number, np.uint8)
                Image.fromarray(pixels).save(tmp_path / "pets" / part / label / f"{number}.png")
    origin = {"dataset": f"imagefolder:{tmp_path / 'pets'}", "image_size": "8x8", "skip_bad": "true"}
    module = torch.nn.Identity()
    for shape, told in (((3, 8, 8), "images of pets"), ((3, 4, 4), "random images (pets is of another form now)")):
        images, what = images_to_compare("pets", origin, Loaded(module, False, ("cat", "dog"), shape, 0), "")
        assert (what, images.shape[1:]) == (told, shape)
    assert len(images_to_compare("pets", origin, Loaded(module, False, ("cat", "dog"), (3, 8, 8), 0), "")[0]) == 8
    for kind, told in (
        ("os:getcwd", "code of yours"),
        ("imagefolder:gone", "is not here"),
        ("torchvision:A", "not read"),
    ):
        _, what = images_to_compare("x", {"dataset": kind}, Loaded(module, False, ("a", "b"), (3, 8, 8), 0), "")
        assert what.startswith("random images (x ")
        assert told in what


def test_onnx_gives_the_same_or_says_what_to_install(shipped, capsys, tmp_path):
    try:
        import onnxruntime
        import onnxscript  # noqa: F401
    except ImportError:
        _, (line,) = said(capsys, "export", STUDENT, "--format", "onnx", code=2)
        assert "; install with: uv sync --extra onnx, or pip install onnx" in line
        assert list(tmp_path.iterdir()) == []
        return
    images = np.array(DIGITS.images[SPLIT.test[:9]])
    for model, output in ((STUDENT, "logits"), (ENSEMBLE, "scores")):
        said(capsys, "export", model, "--format", "onnx", "--output", "a.onnx")
        session = onnxruntime.InferenceSession(tmp_path / "a.onnx")
        served = mlflow.pyfunc.load_model(f"models:/{model}").predict(images)
        for count in (1, 9):
            (given,) = session.run([output], {"images": images[:count]})
            np.testing.assert_allclose(given, served[:count], rtol=1e-4, atol=1e-5)
        assert json.loads(session.get_modelmeta().custom_metadata_map["class_names"])[3] == "3"
    whole = (tmp_path / "a.onnx").stat().st_size
    said(capsys, "export", ENSEMBLE, "--format", "onnx", "--output", "a.onnx", "--int8", "true")
    assert (tmp_path / "a.onnx").stat().st_size < whole


def test_an_export_that_gives_something_else_is_not_kept(shipped, capsys, tmp_path, monkeypatch):
    (tmp_path / "model.pt2").write_text("what was there before")
    other = load_stored(shipped.client, "models:/kdops-digits-student/1")
    write, read = FORMATS["pt2"]
    monkeypatch.setitem(FORMATS, "pt2", (lambda loaded, path: write(other, path), read))
    out, (line,) = said(capsys, "export", "kdops-digits-student/2", "--format", "pt2", "--output", "model.pt2", code=1)
    assert out == []
    assert "as pt2 the model gives something else" in line
    assert [path.name for path in tmp_path.iterdir()] == ["model.pt2"]
    assert (tmp_path / "model.pt2").read_text() == "what was there before"


def test_an_export_that_gives_no_number_is_not_kept(shipped, capsys, tmp_path, monkeypatch):
    write, _ = FORMATS["pt2"]
    monkeypatch.setitem(FORMATS, "pt2", (write, lambda path: ("nobody", lambda i: [np.full((len(i), 10), np.nan)])))
    _, (line,) = said(capsys, "export", STUDENT, "--format", "pt2", code=1)
    assert "something else" in line
    assert list(tmp_path.iterdir()) == []


# predict


def pictures(folder, count):
    names = []
    for row in SPLIT.test[:count]:
        name = f"{row}.png"
        Image.fromarray(np.array(DIGITS.images[row][0])).save(folder / name)
        names.append(name)
    return names


@pytest.mark.parametrize("model", [STUDENT, ENSEMBLE])
def test_files_are_classified_as_the_served_model_does(shipped, capsys, tmp_path, model):
    names = pictures(tmp_path, 12)
    served = mlflow.pyfunc.load_model(f"models:/{model}")
    wanted = served.predict(np.array(DIGITS.images[SPLIT.test[:12]]), params={"output": "classes"})
    out, err = said(capsys, "predict", model, *names)
    assert err == []
    told = [line.split("  ") for line in out]
    assert [row[:2] for row in told] == [[n, c] for n, c in zip(names, wanted["class"], strict=True)]
    np.testing.assert_allclose([float(row[2]) for row in told], wanted["probability"], atol=6e-5)
    out, _ = said(capsys, "predict", model, *names, "--csv")
    rows = list(csv.DictReader(io.StringIO("\n".join(out))))
    assert [row["file"] for row in rows] == names
    assert [row["class"] for row in rows] == list(wanted["class"])
    sums = [sum(float(row[str(digit)]) for digit in range(10)) for row in rows]
    assert sums == pytest.approx([1.0] * 12, abs=1e-5)


def test_a_folder_stands_for_the_files_in_it(shipped, capsys, tmp_path):
    (tmp_path / "new" / "more").mkdir(parents=True)
    (tmp_path / "new" / "notes.txt").write_text("left alone")
    names = [f"new/{name}" for name in pictures(tmp_path / "new", 2)]
    names += [f"new/more/{name}" for name in pictures(tmp_path / "new" / "more", 1)]
    out, err = said(capsys, "predict", STUDENT, "new")
    assert ([line.split("  ")[0] for line in out], err) == (sorted(names), [])
    (tmp_path / "empty").mkdir()
    assert "empty: is no file" in said(capsys, "predict", STUDENT, "empty", code=2)[1][0]


def test_other_sizes_are_converted_and_it_says_so_once(shipped, capsys, tmp_path):
    names = pictures(tmp_path, 3)
    for name in names:
        with Image.open(tmp_path / name) as image:
            image.resize((64, 64), Image.Resampling.NEAREST).convert("RGBA").save(tmp_path / f"large-{name}")
    out, err = said(capsys, "predict", STUDENT, *(f"large-{name}" for name in names))
    assert len(out) == 3
    assert err == [f"converted to gray 8 x 8, what the model takes (large-{names[0]} is RGBA 64 x 64)"]


def test_bad_files_are_a_line_each_and_can_be_left_out(shipped, capsys, tmp_path):
    (name,) = pictures(tmp_path, 1)
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "evil\x1b[2J\n.png").write_text("no image")
    bad = ["text.png", "nowhere.png", "evil\x1b[2J\n.png"]
    out, err = said(capsys, "predict", STUDENT, *bad, name, code=2)
    assert out == []
    assert [line.split(": ")[1] for line in err] == ["text.png", "nowhere.png", "evil\\x1b[2J .png"]
    out, err = said(capsys, "predict", STUDENT, *bad, name, "--skip-bad", "true")
    assert (len(out), len(err)) == (1, 3)
    out, err = said(capsys, "predict", STUDENT, *bad, "--skip-bad", "true", code=2)
    assert (out, len(err)) == ([], 3)
