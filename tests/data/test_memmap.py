"""Images that stay in their file are those in memory: every network is the same, and memory does not fill."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.passes import train
from kdops.config.architectures import parse_architecture
from kdops.config.recipes import Recipe
from kdops.data.memmap import MappedImages, load_rows
from kdops.distillation.logits import LogitDistillation
from kdops.distillation.sources import Kept
from kdops.models.classifier import build, digest_of, pixel_statistics
from kdops.training.evaluation import compute_logits
from kdops.training.trainer import Group, PassInputs
from kdops.utils.random import named_generator
from tests.toys import quarters

ROOT = Path(__file__).resolve().parents[2]
MLP = Recipe(parse_architecture("mlp(hidden=6,depth=2)"), epochs=3, batch_size=16, learning_rate=1e-2)
CNN = Recipe(parse_architecture("cnn(filters=4,layers=2,dropout=0.2/0.3)"), epochs=2, batch_size=16, learning_rate=1e-2)
IMAGES, VALIDATION = quarters(70, 0, 6), quarters(30, 1, 6)
SOURCE = {seed: 3 * torch.randn(70, 4, generator=named_generator("source", seed)) for seed in (0, 1)}


@pytest.fixture
def mapped(tmp_path):
    """Put images into a file, among others and in another order; give them as they are read from there."""

    def put(images):
        rows = torch.randperm(len(images), generator=named_generator("places")).numpy() + 5
        everything = np.full((len(images) + 10, *images.shape[1:]), 7, dtype=np.uint8)
        everything[rows] = images.numpy()
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.npy"
        np.save(path, everything)
        return MappedImages(np.load(path, mmap_mode="r"), rows)

    return put


def test_they_are_the_same_images(mapped):
    images = IMAGES.pixels
    found = mapped(images)
    assert (found.shape, len(found), found.dtype) == (images.shape, len(images), images.dtype)
    chosen = torch.tensor([3, 0, 3, 69])
    assert torch.equal(found[chosen], images[chosen])
    assert torch.equal(found[10:40], images[10:40])
    assert torch.equal(torch.cat(list(found.split(16))), images)
    assert all(torch.equal(a, b) for a, b in zip(pixel_statistics(found), pixel_statistics(images), strict=True))


@pytest.mark.parametrize("recipe", [MLP, CNN], ids=str)
def test_what_is_trained_on_them_is_the_same_to_the_bit(mapped, recipe):
    groups = [Group(seed, (0.0, 4.0), Kept(SOURCE[seed])) for seed in (0, 1)]
    statistics = pixel_statistics(IMAGES.pixels)
    in_file = [replace(part, pixels=mapped(part.pixels)) for part in (IMAGES, VALIDATION)]
    one, other = (
        list(train(recipe, groups, PassInputs("student", *parts, 4, statistics), LogitDistillation()))
        for parts in ((IMAGES, VALIDATION), in_file)
    )
    assert [digest_of(a.state) for a in one] == [digest_of(b.state) for b in other]
    assert [a.val_accuracy for a in one] == [b.val_accuracy for b in other]
    nets = [
        build(recipe.architecture, (1, 6, 6), 4, *statistics, named_generator("init", seed)).eval() for seed in (0, 1)
    ]
    assert torch.equal(compute_logits(nets, in_file[0].pixels, block=16), compute_logits(nets, IMAGES.pixels, block=16))


def test_what_fits_is_copied_and_what_does_not_stays_in_its_file(tmp_path):
    images = quarters(50, 2, 6).pixels.numpy()
    np.save(tmp_path / "a.npy", images)
    file, rows = np.load(tmp_path / "a.npy", mmap_mode="r"), np.arange(40)
    size = 40 * 36
    assert isinstance(load_rows(file, rows, free=4 * size), torch.Tensor)
    assert isinstance(load_rows(file, rows, free=4 * size - 4), MappedImages)
    # What is in memory already needs no room.
    assert isinstance(load_rows(images, rows, free=0), torch.Tensor)


CODE = """
import resource, sys
from pathlib import Path
import numpy as np, psutil, torch
from kdops.distillation.logits import LogitDistillation
from kdops.data.memmap import load_rows
from kdops.models.classifier import pixel_statistics
from kdops.config.recipes import Recipe
from kdops.config.architectures import parse_architecture
from benchmarks.passes import train
from kdops.training.trainer import Group, Images, PassInputs

def anonymous():
    return int(Path("/proc/self/status").read_text().split("RssAnon:")[1].split()[0]) / 1000

file = np.lib.format.open_memmap("big.npy", mode="r")
before = anonymous()
pixels = load_rows(file, np.arange(len(file)), free=1)
images = Images(pixels, torch.zeros(len(file), dtype=torch.long))
few = Images(torch.from_numpy(np.array(file[:64])), torch.zeros(64, dtype=torch.long))
recipe = Recipe(parse_architecture("mlp(hidden=2)"), epochs=1, batch_size=256, learning_rate=1e-3)
inputs = PassInputs("student", images, few, 2, pixel_statistics(pixels))
list(train(recipe, [Group(0, (0.0,))], inputs, LogitDistillation()))
print(anonymous() - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
def test_memory_does_not_grow_with_the_images(tmp_path):
    # 400 MB that take no room on the disk; as floats they would be 1.6 GB.
    np.lib.format.open_memmap(tmp_path / "big.npy", mode="w+", dtype=np.uint8, shape=(130_000, 3, 32, 32))
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", CODE], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=800
    )
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 200, "MB"


@pytest.mark.parametrize("free", [0, 10**9])
def test_rows_behind_the_last_are_those_of_the_further_images(tmp_path, free):
    one, other = quarters(30, 3, 6).pixels.numpy(), quarters(20, 4, 6).pixels.numpy()
    np.save(tmp_path / "a.npy", other)
    rows = np.array([3, 29, 49, 30, 7])
    found = load_rows(one, rows, free, np.load(tmp_path / "a.npy", mmap_mode="r"))
    assert isinstance(found, MappedImages) is (free == 0)
    assert torch.equal(found[:], torch.from_numpy(np.concatenate([one, other])[rows]))
    assert torch.equal(found.to("cpu")[torch.tensor([2, 0])], torch.from_numpy(np.stack([other[19], one[3]])))
