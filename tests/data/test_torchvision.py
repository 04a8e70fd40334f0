"""torchvision's data sets, read from tiny files in its own formats; and what there is none of, in one line."""

import gzip
import hashlib
import pickle
import struct

import numpy as np
import pytest
import torchvision.datasets
from PIL import Image

from kdops.config.datasets import parse_dataset
from kdops.data import dataset as data
from kdops.data.splits import make_split
from kdops.errors import KdopsError, UsageError

RANDOM = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def nowhere(tmp_path, monkeypatch):
    """No network, and nothing of the caller's."""

    def unreachable(*_, **__):
        raise OSError("no route to host")

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("KDOPS_DATA_ROOT", raising=False)
    monkeypatch.setattr("socket.socket.connect", unreachable)
    monkeypatch.setattr("socket.getaddrinfo", unreachable)


def load(name, root, **options):
    return data.load(parse_dataset({"dataset": f"torchvision:{name}", **options}), str(root))


def refused(kind, name, root, **options):
    with pytest.raises(kind) as caught:
        load(name, root, **options)
    assert "\n" not in str(caught.value)
    assert f"dataset=torchvision:{name}" in str(caught.value)
    return str(caught.value)


def write_idx(path, array, compress=False):
    path.parent.mkdir(parents=True, exist_ok=True)
    header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
    (gzip.open if compress else open)(path, "wb").write(header + array.astype(np.uint8).tobytes())


def make_mnist(root, name="MNIST", prefix=("", ""), classes=10):
    """Write 60 training and 20 test images in MNIST's format."""
    images = RANDOM.integers(0, 256, (80, 28, 28), dtype=np.uint8)
    labels = np.arange(80) % classes
    for part, rows in (("train", slice(0, 60)), ("t10k", slice(60, 80))):
        called = (prefix[0] + {"train": "train", "t10k": "test"}[part]) if prefix[0] else part
        write_idx(root / f"{name}/raw/{called}-images-idx3-ubyte", images[rows])
        write_idx(root / f"{name}/raw/{called}-labels-idx1-ubyte", labels[rows])
    return images, labels


@pytest.mark.parametrize("name", ["MNIST", "FashionMNIST", "KMNIST"])
def test_the_format_of_mnist(tmp_path, name):
    images, labels = make_mnist(tmp_path, name)
    found = load(name, tmp_path)
    assert (found.name, found.shape) == (name.lower(), (1, 28, 28))
    np.testing.assert_array_equal(found.images[:, 0], images)
    np.testing.assert_array_equal(found.labels, labels)
    assert found.test.tolist() == [False] * 60 + [True] * 20
    assert found.classes == tuple(getattr(torchvision.datasets, name).classes)
    assert "20 of them are the test set that they come with" in found.notes
    make_split(found, "disjoint", 0)
    assert [path.name for path in tmp_path.iterdir()] == [name], "a whole copy is only read"


def test_emnist_is_its_balanced_split(tmp_path):
    images, labels = make_mnist(tmp_path, "EMNIST", ("emnist-balanced-", ""), classes=5)
    found = load("EMNIST", tmp_path)
    np.testing.assert_array_equal(found.images[:, 0], images)
    np.testing.assert_array_equal(found.labels, labels)
    assert found.classes == ("0", "1", "2", "3", "4")
    assert "EMNIST, split balanced" in found.notes


def make_cifar(root, monkeypatch, genuine=True):
    """Write CIFAR10's pickled batches, and give torchvision their checksums if they are to be genuine."""
    cls = torchvision.datasets.CIFAR10
    folder = root / cls.base_folder
    folder.mkdir(parents=True)
    sums, pixels = {}, RANDOM.integers(0, 256, (6, 20, 3 * 32 * 32), dtype=np.uint8)
    contents = {
        name: {"data": pixels[number], "labels": [image % 10 for image in range(20)]}
        for number, (name, _) in enumerate([*cls.train_list, *cls.test_list])
    } | {cls.meta["filename"]: {cls.meta["key"]: [f"kind {label}" for label in range(10)]}}
    for name, content in contents.items():
        (folder / name).write_bytes(pickle.dumps(content))
        sums[name] = hashlib.md5((folder / name).read_bytes()).hexdigest()
    if genuine:
        monkeypatch.setattr(cls, "train_list", [[name, sums[name]] for name, _ in cls.train_list])
        monkeypatch.setattr(cls, "test_list", [[name, sums[name]] for name, _ in cls.test_list])
        monkeypatch.setattr(cls, "meta", {**cls.meta, "md5": sums[cls.meta["filename"]]})
    return pixels.reshape(120, 3, 32, 32)


def test_cifar_is_what_torchvision_reads(tmp_path, monkeypatch):
    pixels = make_cifar(tmp_path, monkeypatch)
    found = load("CIFAR10", tmp_path)
    np.testing.assert_array_equal(found.images, pixels)
    assert found.images.flags.c_contiguous
    assert found.test.sum() == 20
    assert found.classes[3] == "kind 3"
    one = torchvision.datasets.CIFAR10(tmp_path, train=False)[7]
    np.testing.assert_array_equal(np.asarray(one[0]).transpose(2, 0, 1), found.images[107])
    assert one[1] == found.labels[107]


def test_a_pickle_of_another_checksum_is_not_opened(tmp_path, monkeypatch):
    make_cifar(tmp_path, monkeypatch, genuine=False)
    monkeypatch.setattr(pickle, "load", lambda *_, **__: pytest.fail("opened"))
    assert "no route to host" in refused(KdopsError, "CIFAR10", tmp_path)


def test_images_are_resized_and_made_gray_on_demand(tmp_path, monkeypatch):
    pixels = make_cifar(tmp_path, monkeypatch)
    found = load("CIFAR10", tmp_path, image_size="8x16", channels="1")
    assert found.shape == (1, 8, 16)
    expected = Image.fromarray(pixels[110].transpose(1, 2, 0)).convert("L").resize((16, 8), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(found.images[110, 0], expected)
    assert found.labels.tolist() == load("CIFAR10", tmp_path).labels.tolist()


def test_a_set_of_files_with_a_validation_part(tmp_path):
    """DTD: folders of JPEG files, and lists of train, val and test."""
    base = tmp_path / "dtd/dtd"
    for folder in ("images/banded", "images/dotted", "labels"):
        (base / folder).mkdir(parents=True)
    for part, numbers in (("train", range(0, 8)), ("val", range(8, 10)), ("test", range(10, 13))):
        lines = [f"{kind}/{number}.jpg" for kind in ("banded", "dotted") for number in numbers]
        (base / f"labels/{part}1.txt").write_text("\n".join(lines) + "\n")
        for line in lines:
            Image.fromarray(RANDOM.integers(0, 256, (10, 12 + len(part), 3), dtype=np.uint8)).save(
                base / "images" / line
            )
    assert "10x15 (4)" in refused(UsageError, "DTD", tmp_path)
    found = load("DTD", tmp_path, image_size="10")
    assert found.classes == ("banded", "dotted")
    assert (found.validation.sum(), found.test.sum()) == (4, 6)
    assert len(make_split(found, "shared", 0).validation) == 4


def test_what_is_missing_and_cannot_be_downloaded_says_how_to_bring_it(tmp_path):
    text = refused(KdopsError, "MNIST", tmp_path)
    assert "data_root=FOLDER" in text
    assert "dataset=torchvision:MNIST is not whole in" in text


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("mnist", "MNIST is near"),
        ("Cifar10", "CIFAR10 is near"),
        ("Nothing", "no such data set; among others it has MNIST"),
        ("VisionDataset", "is not a data set that torchvision downloads"),
        ("wrap_dataset_for_transforms_v2", "no such data set"),
        ("CocoCaptions", "is not a data set that torchvision downloads by itself (it needs annFile)"),
        ("FakeData", "is not a data set that torchvision downloads"),
    ],
)
def test_what_torchvision_does_not_have(tmp_path, name, words):
    assert words in refused(UsageError, name, tmp_path)


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (np.zeros(80), "at least 2 classes, and has '0 - zero' alone"),
        (np.repeat([0, 1], [60, 20]), "class '1 - one' has no image in the train part"),
    ],
)
def test_classes_that_cannot_be_learned(tmp_path, labels, words):
    make_mnist(tmp_path)
    for part, rows in (("train", slice(0, 60)), ("t10k", slice(60, 80))):
        write_idx(tmp_path / f"MNIST/raw/{part}-labels-idx1-ubyte", labels[rows])
    assert words in refused(UsageError, "MNIST", tmp_path)


def test_a_file_that_is_cut_off_ends_in_one_line(tmp_path):
    make_mnist(tmp_path)
    path = tmp_path / "MNIST/raw/t10k-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:99])
    refused(KdopsError, "MNIST", tmp_path)
