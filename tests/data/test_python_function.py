"""Dataset from the caller's own code: what it returns arrives, and whatever is wrong with it is one line."""

import contextlib
import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kdops.data import dataset as data
from kdops.data.splits import make_split
from kdops.errors import UsageError

MODULE = """
import numpy as np

N = 40
random = np.random.default_rng(0)
labels = np.arange(N) % 2
images = random.integers(0, 100, (N, 1, 6, 6), dtype=np.uint8) + (labels * 120).astype(np.uint8)[:, None, None, None]
whole = {"images": images, "labels": labels}


def plain():
    return whole


class Pets:
    def __init__(self):
        self.images, self.labels = images[:, 0], np.array(["cat", "dog"])[labels]
        self.groups = [f"animal {i // 4 * 2 + i % 2}" if i else None for i in range(N)]
        self.test = np.arange(N) >= 32
        self.validation = (np.arange(N) >= 24) & ~self.test


constant = 3


def stop():
    raise SystemExit("no\\nmore")


def fails():
    return 1 / 0
"""


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """Return a folder with a module of its own, in which Python stands; what it imports is forgotten afterwards."""
    (tmp_path / "minedata.py").write_text(MODULE)
    (tmp_path / "broken.py").write_text("import nothing_of_this_name\n")
    (tmp_path / "wrong.py").write_text("def f(:\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("KDOPS_CODE_FOLDER", raising=False)
    monkeypatch.delenv("KDOPS_DATA_ROOT", raising=False)
    path = list(sys.path)
    yield tmp_path
    assert sys.path == path
    for name in ("minedata", "broken", "wrong"):
        sys.modules.pop(name, None)


def returned(monkeypatch, value):
    """Load what a function returns that gives ``value``."""
    monkeypatch.setattr(sys.modules[__name__], "given_now", lambda: value, raising=False)
    return data.load(f"{__name__}:given_now")


def refused(load, *arguments):
    with pytest.raises(UsageError) as caught:
        load(*arguments)
    assert caught.value.parameter == "dataset"
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_dict_of_images_and_labels(mine):
    found = data.load("minedata:plain")
    assert (found.name, found.shape, found.classes) == ("minedata-plain", (1, 6, 6), ("0", "1"))
    assert np.bincount(found.labels[found.test]).tolist() == [4, 4]
    assert "held out" in found.notes
    assert found.digest == data.load("minedata:plain").digest
    assert np.shares_memory(found.images, sys.modules["minedata"].images)
    make_split(found, "disjoint", 0)


def test_an_object_with_everything(mine):
    found = data.load("minedata:Pets")
    assert found.classes == ("cat", "dog")
    assert found.shape == (1, 6, 6)
    assert found.tracks[:6].tolist() == [-1, 0, 1, 0, 2, 3]
    split = make_split(found, "disjoint", 0)
    assert split.test.tolist() == list(range(32, 40))
    assert split.validation.tolist() == list(range(24, 32))
    assert "8 of them are the test set that they come with; 8 are the validation set" in found.notes


def test_the_callers_folder_counts_wherever_the_project_runs(mine, tmp_path_factory, monkeypatch):
    monkeypatch.chdir(tmp_path_factory.mktemp("project"))
    assert "there is no module minedata" in refused(data.load, "minedata:plain")
    monkeypatch.setenv("KDOPS_CODE_FOLDER", str(mine))
    assert len(data.load("minedata:plain").labels) == 40


def test_a_file_in_the_callers_folder_hides_no_library(mine):
    (mine / "numpy.py").write_text("raise SystemExit('hidden')")
    assert "has no function nothing" in refused(data.load, "numpy:nothing")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nothing_here:f", "there is no module nothing_here"),
        ("minedata.sub:f", "there is no module minedata.sub"),
        ("broken:f", "broken cannot be imported (ModuleNotFoundError: No module named 'nothing_of_this_name'"),
        ("wrong:f", "wrong cannot be imported (SyntaxError"),
        ("minedata:none", "has no function none"),
        ("minedata:constant", "no function under the name constant"),
        ("minedata:stop", "the function failed (SystemExit: no more)"),
        ("minedata:fails", "the function failed (ZeroDivisionError: division by zero)"),
        ("sys:exit", "the function failed (SystemExit)"),
        ("os:getcwd", "returned a str without images"),
    ],
)
def test_what_is_no_such_function(mine, name, words):
    assert words in refused(data.load, name)


IMAGES, LABELS = np.zeros((40, 1, 4, 4), np.uint8), np.arange(40) % 2


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"images": IMAGES / 255}, "images must be uint8, 0 to 255, and are float64 [40, 1, 4, 4]"),
        ({"images": np.zeros((40, 4, 4, 3), np.uint8)}, "channels last"),
        ({"images": IMAGES[:, 0, 0]}, "[N, C, H, W] or [N, H, W]"),
        ({"images": IMAGES[:0]}, "[N, C, H, W] or [N, H, W]"),
        ({"images": [[1], [2, 3]]}, "images cannot be read as an array"),
        ({"images": None}, "a dict without images"),
        ({"labels": LABELS[:39]}, "labels must have one value for each of the 40 images, and is [39]"),
        ({"labels": LABELS / 2}, "labels must be whole numbers or names, and are float64"),
        ({"labels": LABELS - 1}, "labels are -1 to 0"),
        ({"labels": LABELS * 0}, "at least 2 classes"),
        ({"labels": LABELS * 2}, "class '1' has 0 images"),
        ({"labels": [None, *LABELS[1:]]}, "labels must be whole numbers or names"),
        ({"classes": ["a"]}, "labels are 0 to 1, and there are 1 classes"),
        ({"classes": ["a", "a"]}, "each once"),
        ({"classes": "ab"}, "each once"),
        ({"classes": 3}, "each once"),
        ({"labels": ["a", "b"] * 20, "classes": ["a", "c"]}, "'b' is not among the classes"),
        ({"labels": ["a", "b\n"] * 20}, "cannot be printed"),
        ({"tracks": LABELS, "groups": LABELS}, "tracks and groups"),
        ({"tracks": LABELS / 2}, "tracks must be whole numbers or names"),
        ({"groups": LABELS}, "class '0' has 1 groups, and needs at least 3"),
        ({"test": LABELS}, "test must be true or false"),
        ({"test": LABELS < 0}, "the test set is empty"),
        ({"test": LABELS > 0}, "class '1' has no image in the train part"),
        ({"test": np.arange(40) > 20, "validation": np.arange(40) > 30}, "9 images are for test and validation both"),
        ({"validation": np.arange(40) == 3}, "class '0' has no image in the val part"),
        ({"test": np.arange(40) > 20, "tracks": np.arange(40) // 4}, "image 20 and image 21 are of one group"),
        ({"label": LABELS}, "returned 'label'; there are images, labels"),
    ],
)  # fmt: skip
def test_what_does_not_fit(change, words, monkeypatch):
    assert words in refused(returned, monkeypatch, {"images": IMAGES, "labels": LABELS, **change})


def test_tensors_and_memory_maps_are_taken_as_they_are(monkeypatch, tmp_path):
    import torch

    assert returned(monkeypatch, {"images": torch.from_numpy(IMAGES), "labels": torch.from_numpy(LABELS)}).shape
    np.save(tmp_path / "images.npy", IMAGES)
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
    assert np.shares_memory(returned(monkeypatch, {"images": mapped, "labels": LABELS}).images, mapped)


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=60, deadline=None)
@given(anything, st.dictionaries(st.sampled_from(["images", "labels", "test", "tracks", "classes"]), anything))
def test_nonsense_is_refused_and_nothing_else_happens(value, changes):
    with pytest.MonkeyPatch.context() as patch:
        refused(returned, patch, value)
        with contextlib.suppress(UsageError):
            returned(patch, {"images": IMAGES, "labels": LABELS, **changes})


def test_the_launcher_hands_the_callers_folder_and_path_on(mine, monkeypatch):
    code = (
        "import os, sys; from kdops.cli import launch\n"
        "launch.run_project = lambda point, parameters: print(parameters['dataset'], os.environ['KDOPS_CODE_FOLDER'],"
        " os.environ['PYTHONPATH'])\n"
        "from kdops.cli.app import main; sys.exit(main(['teacher', '--dataset', 'minedata:plain']))"
    )
    here = os.pathsep.join([*filter(None, [os.environ.get("PYTHONPATH")]), "src"])
    root = os.path.dirname(os.path.dirname(os.path.dirname(data.__file__)))
    environment = {**os.environ, "PYTHONPATH": f"{root}{os.pathsep}{here}"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    dataset, folder, path = done.stdout.split()
    assert (dataset, folder) == ("minedata:plain", str(mine))
    assert path.split(os.pathsep)[-1] == str(mine / "src")
