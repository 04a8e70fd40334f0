"""What is said about the data: read as it is meant, or refused in one line; and names that are safe."""

import inspect
import re
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdops.config.datasets import DATASETS, READING, DatasetKind, DatasetSpec, parse_dataset
from kdops.config.recipes import IMAGES, TABLE
from kdops.config.roles import BASE_ROLES
from kdops.config.settings import Settings
from kdops.data import dataset as datasets
from kdops.data.arrays import Arrays
from kdops.errors import UsageError
from kdops.registry.versions import registered_name
from kdops.utils.imports import load_place


def parse(dataset, **options):
    return parse_dataset({"dataset": dataset, **options})


@pytest.mark.parametrize(
    ("dataset", "kind", "place", "name"),
    [
        ("digits", "digits", "", "digits"),
        ("imagefolder:/home/me/pets", "imagefolder", "/home/me/pets", "pets"),
        ("imagefolder:/home/me/pets/", "imagefolder", "/home/me/pets/", "pets"),
        ("imagefolder:../My Pets (2024)", "imagefolder", "../My Pets (2024)", "My-Pets-2024"),
        ("imagefolder:/a/képek", "imagefolder", "/a/képek", "kepek"),
        ("imagefolder:/a/..hidden", "imagefolder", "/a/..hidden", "hidden"),
        ("imagefolder:/", "imagefolder", "/", "images"),
        ("imagefolder:/a/犬", "imagefolder", "/a/犬", "images"),
        ("imagefolder:/a/digits", "imagefolder", "/a/digits", "digits-imagefolder"),
        ("csv:/a/iris.csv", "csv", "/a/iris.csv", "iris"),
        ("csv:/a/.csv", "csv", "/a/.csv", "csv"),
        ("torchvision:CIFAR10", "torchvision", "CIFAR10", "cifar10"),
        ("torchvision:GTSRB", "torchvision", "GTSRB", "gtsrb-torchvision"),
        ("mine.sets:small", "function", "mine.sets:small", "mine.sets-small"),
    ],
)
def test_what_data_are_and_what_they_are_called(dataset, kind, place, name):
    origin = parse(dataset)
    assert (origin.kind, origin.place, origin.name) == (kind, place, name)
    assert str(origin) == dataset


def test_a_relative_folder_is_called_by_its_own_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    origin = parse("imagefolder:.")
    assert origin.name == re.sub(r"[^A-Za-z0-9_.]+", "-", tmp_path.name)[:40].strip("-._")
    assert origin.absolute().place == str(tmp_path)
    assert parse(str(origin.absolute())).name == origin.name
    assert parse("csv:~/a.csv").absolute().place == str(Path("~/a.csv").expanduser())
    assert parse("torchvision:MNIST").absolute() == parse("torchvision:MNIST")


@given(st.text(min_size=1, max_size=80))
def test_no_path_gives_a_name_that_escapes(path):
    try:
        origin = parse(f"imagefolder:{path}")
    except UsageError:
        return
    assert re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,53}", origin.name), origin.name
    assert ".." not in registered_name(origin.name, "teacher").split("-")
    assert registered_name(origin.name, "teacher") == f"kdops-{origin.name}-teacher"
    assert parse_dataset({"dataset": "imagefolder:x", "name": "x" * 40}).name == "x" * 40


@pytest.mark.parametrize(
    "dataset",
    ["", "mnist", "imagefolder", "imagefolder:", "imagefolder: ", "csv:", "csv:a\nb", "imagefolder:a\x1b[31m", "csv:\0",
     "torchvision:", "torchvision:../x", "torchvision:a.b", "os:system()", "a b:c", ":f", "m:", "m:f:g", "1:2",
     "a..b:c"],
)  # fmt: skip
def test_what_is_no_data_set_says_what_there_is(dataset):
    with pytest.raises(UsageError) as caught:
        parse(dataset)
    assert caught.value.parameter == "dataset"
    assert "\n" not in str(caught.value)


def test_an_unknown_name_lists_all_kinds():
    with pytest.raises(UsageError) as caught:
        parse("mnist")
    assert all(
        written in str(caught.value) for written in ("digits", "gtsrb", *(kind.text for kind in DATASETS.values()))
    )


@pytest.mark.parametrize("name", ["..", "a/b", "-a", "a b", "a" * 41, "é", "a\x1b", "digits", "gtsrb"])
def test_a_given_name_is_checked(name):
    with pytest.raises(UsageError, match=r"^name="):
        parse("imagefolder:x", name=name)


@pytest.mark.parametrize(("text", "size"), [("", None), ("32", (32, 32)), ("32x48", (32, 48)), ("1x4096", (1, 4096))])
def test_image_sizes(text, size):
    assert parse("imagefolder:x", image_size=text).image_size == size


@pytest.mark.parametrize("text", ["0", "32x", "x32", "32x0", "4097", "-3", "3.5", "1e2", "32X32", "٣"])
def test_bad_image_sizes(text):
    with pytest.raises(UsageError, match=r"^image_size=.*such as 32x48"):
        parse("imagefolder:x", image_size=text)


GIVEN = {"image_size": "8", "channels": "1", "skip_bad": "true", "upright": "true", "label": "a", "group": "b",
         "split": "c", "name": "n", "ignore": "d", "categorical": "e", "numeric": "f"}  # fmt: skip
EXAMPLES = {"digits": "digits", "imagefolder": "imagefolder:x", "csv": "csv:x", "torchvision": "torchvision:MNIST",
            "function": "m:f"}  # fmt: skip


@pytest.mark.parametrize("option", READING)
@pytest.mark.parametrize("kind", EXAMPLES)
def test_what_would_be_given_in_vain_is_refused(option, kind):
    given = {option: GIVEN[option]}
    if option in DATASETS[kind].options:
        assert parse(EXAMPLES[kind], **given) != parse(EXAMPLES[kind])
        return
    told = rf"^{option}={GIVEN[option]}: is for dataset=.* and dataset is {re.escape(EXAMPLES[kind])}$"
    with pytest.raises(UsageError, match=told):
        parse(EXAMPLES[kind], **given)


def test_settings_know_the_origin_and_carry_the_name():
    settings = Settings.parse("students", dataset="imagefolder:/home/me/pets", image_size="16x8", channels="1")
    assert settings.dataset == "pets"
    assert settings.origin == DatasetSpec("imagefolder", "/home/me/pets", "pets", (16, 8), 1)
    assert settings.as_dict()["origin"] == {
        "dataset": "imagefolder:/home/me/pets",
        "image_size": "16x8",
        "channels": 1,
    }
    assert Settings.parse("students").as_dict()["origin"] == {}
    with_more = Settings.parse("students", dataset="gtsrb", unlabeled="imagefolder:more").as_dict()
    assert (with_more["origin"], with_more["unlabeled"]) == ({}, "imagefolder:more")
    assert {role: settings.recipes[role] for role in BASE_ROLES} == IMAGES
    assert {role: Settings.parse(dataset="csv:x").recipes[role] for role in BASE_ROLES} == TABLE


@pytest.mark.parametrize("shape", [(3, 32, 32), (3, 64, 64), (1, 28, 28), (1, 96, 96)])
def test_the_usual_student_of_images_is_smaller_than_their_middle_net_and_that_than_their_teacher(shape):
    sizes = [IMAGES[role].architecture.parameters(shape, 10) for role in ("student", "middle", "teacher")]
    assert sizes == sorted(set(sizes))


@pytest.mark.parametrize("name", DATASETS)
def test_a_data_set_is_one_entry(name):
    kind = DATASETS[name]
    loader = load_place(kind.loader)
    assert list(inspect.signature(loader).parameters) == ["origin", "root", "progress"]
    assert tuple(kind.recipes) == BASE_ROLES
    assert set(kind.options) <= set(READING)


def test_an_entry_and_a_file_are_all_that_a_new_data_set_needs(monkeypatch, tmp_path):
    module = ModuleType("kdops.data.squares")

    def load(origin, root, progress=None):
        images = np.zeros((4, 1, 2, 2), dtype=np.uint8)
        arrays = (np.array([0, 1, 0, 1]), np.full(4, -1), np.array([0, 0, 1, 1], dtype=bool), ("a", "b"))
        return Arrays.of(images, *arrays), f"squares in {root}"

    module.load = load
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(DATASETS, "squares", DatasetKind("kdops.data.squares:load", IMAGES))
    settings = Settings.parse("students", dataset="squares", data_root=str(tmp_path))
    data = datasets.load(settings.origin, settings.data_root)
    assert (data.name, data.shape, data.notes) == ("squares", (1, 2, 2), f"squares in {tmp_path}")
    assert {role: settings.recipes[role] for role in BASE_ROLES} == IMAGES
