"""Checkpoints: a training that was cut off and goes on gives, bit for bit, what one that never was gives."""

import json
import logging
import os
import resource
import subprocess
import sys
import time

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from benchmarks.passes import train
from kdops.config.architectures import parse_architecture
from kdops.config.recipes import Recipe
from kdops.distillation.logits import LogitDistillation
from kdops.distillation.sources import Kept
from kdops.models.classifier import digest_of, pixel_statistics
from kdops.training import checkpoint as module
from kdops.training.checkpoint import Checkpoint, Checkpoints
from kdops.training.trainer import Group, Images, PassInputs
from kdops.utils.random import named_generator

CLASSES, EPOCHS = 4, 4

CODE = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, channels, classes):
        super().__init__()
        self.conv = nn.Conv2d(channels, 5, 3, padding=1)
        self.norm = nn.BatchNorm2d(5)
        self.unused = nn.Linear(2, 2)
        self.out = nn.Linear(5 * 36, classes)
        self.register_buffer("seen", torch.zeros(1), persistent=False)

    def forward(self, x):
        if self.training:
            self.seen += 1
        x = nn.functional.dropout(self.norm(self.conv(x)).relu(), 0.2, self.training)
        return self.out(x.flatten(1)) + self.seen / 100


def net(channels, height, width, classes):
    return Net(channels, classes)
"""
NETS = ["mlp(hidden=6,depth=2,dropout=0.2)", "cnn(filters=4,layers=2,dropout=0.2/0.3)", "tree(depth=3)", "mine:net"]


def some_images(count, seed):
    stream = named_generator("images", seed)
    pixels = torch.randint(0, 256, (count, 3, 6, 6), generator=stream, dtype=torch.uint8)
    return Images(pixels, torch.randint(0, CLASSES, (count,), generator=stream))


IMAGES, VALIDATION = some_images(70, 0), some_images(30, 1)
STATISTICS = pixel_statistics(IMAGES.pixels)
GROUPS = [Group(seed, (0.0, 2.0), Kept(torch.randn(70, CLASSES, generator=named_generator(seed)))) for seed in (0, 1)]
PASSED = len(GROUPS) * 2 * len(IMAGES.labels)
"""Images in one epoch, counted over members."""

BATCHES = 5
"""In one epoch of a pass."""


class CutError(Exception):
    """Stands for whatever ends a process."""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder for checkpoints of every epoch, and code of the caller's own."""
    monkeypatch.setattr(module, "FIRST_SECONDS", 0.0)
    monkeypatch.setattr(module, "SHARE", float("inf"))
    (tmp_path / "mine.py").write_text(CODE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "mine", raising=False)
    return tmp_path / "checkpoints"


def run(architecture, folder=None, cut=None, seen=None, keep=()):
    """Train four members; ``cut`` ends it after so many images, and ``seen`` gets every number of images passed."""
    recipe = Recipe(parse_architecture(architecture), epochs=EPOCHS, batch_size=16, learning_rate=1e-2)
    checkpoints = Checkpoints(folder) if folder else None

    def progress(done, total):
        if seen is not None:
            seen.append(done)
        if cut is not None and done >= cut:
            raise CutError

    return list(
        train(
            recipe,
            GROUPS,
            PassInputs("student", IMAGES, VALIDATION, CLASSES, STATISTICS, keep_epochs=keep),
            LogitDistillation(),
            progress=progress,
            checkpoint_of=lambda number: checkpoints and checkpoints.of(f"{NETS.index(architecture)}-{number}"),
        )
    )


def passes_of(architecture):
    """Nets of a replicate that are stacked are one pass, others are a pass each."""
    return 2 if parse_architecture(architecture).stacks else 4


def told(trained):
    return [(one.seed, one.temperature, digest_of(one.state), one.train_loss, one.val_accuracy) for one in trained]


@pytest.mark.parametrize("architecture", NETS)
@pytest.mark.parametrize("cut", [0.3, 0.5, 0.99])
def test_a_training_that_was_cut_off_gives_what_one_that_never_was_gives(architecture, cut, folder):
    whole, again, all_ = told(run(architecture)), [], EPOCHS * PASSED
    with pytest.raises(CutError):
        run(architecture, folder, cut * all_)
    assert told(run(architecture, folder, seen=again)) == whole
    assert again[-1] == all_
    # At most one epoch of a pass was lost.
    passes = passes_of(architecture)
    epochs_left = passes * EPOCHS * (1 - cut) + 1
    assert len(again) <= passes + BATCHES * epochs_left


@pytest.mark.parametrize("architecture", NETS)
def test_a_training_may_be_cut_off_again_and_again(architecture, folder):
    whole = told(run(architecture))
    for part in range(1, 12):
        with pytest.raises(CutError):
            run(architecture, folder, part * EPOCHS * PASSED / 12)
    assert told(run(architecture, folder)) == whole


@pytest.mark.parametrize("architecture", NETS)
def test_what_was_kept_of_earlier_epochs_is_there_after_a_cut_and_changes_nothing(architecture, folder):
    plain, kept = told(run(architecture)), (0, 1, 3, EPOCHS)
    whole = run(architecture, keep=kept)
    assert told(whole) == plain
    with pytest.raises(CutError):
        run(architecture, folder, 0.7 * EPOCHS * PASSED, keep=kept)
    for one, again in zip(whole, run(architecture, folder, keep=kept), strict=True):
        assert tuple(one.kept) == tuple(again.kept) == kept
        digests = [digest_of(state) for state in one.kept.values()]
        assert digests == [digest_of(state) for state in again.kept.values()]
        assert digests[-1] == digest_of(one.state)
        assert len({*digests}) == len(kept)


@pytest.mark.parametrize("architecture", NETS)
def test_what_is_done_is_not_trained_again(architecture, folder):
    first = run(architecture, folder)
    seen = []
    second = run(architecture, folder, seen=seen)
    assert told(second) == told(first)
    # Each pass reports what it finds done, and trains no batch.
    assert len(seen) == passes_of(architecture)
    assert [one.seconds for one in second] == [one.seconds for one in first]


def test_the_seconds_of_all_parts_are_added_up(folder):
    with pytest.raises(CutError):
        run(NETS[0], folder, 0.5 * EPOCHS * PASSED)
    (path,) = folder.iterdir()
    tensors = load_file(path)
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    plain = json.loads(metadata["plain"])
    text = json.dumps({**plain, "seconds": plain["seconds"] + 1000})
    save_file(tensors, path, {**metadata, "plain": text, "digest": module._digest(tensors, text)})
    # The members of the first pass; the second one begins after the cut.
    assert [1000 < one.seconds < 1010 for one in run(NETS[0], folder)] == [True, True, False, False]


@pytest.mark.parametrize("harm", ["cut short", "one byte", "empty", "of another training", "another network"])
def test_a_checkpoint_that_cannot_be_used_is_left_out_with_one_line(harm, folder, caplog):
    whole = told(run(NETS[0]))
    with pytest.raises(CutError):
        run(NETS[0], folder, 0.5 * EPOCHS * PASSED)
    (path,) = folder.iterdir()
    content = path.read_bytes()
    if harm == "of another training":
        with pytest.raises(CutError):
            run(NETS[1], folder, 0.5 * EPOCHS * PASSED)
        next(other for other in folder.iterdir() if other != path).replace(path)
    elif harm == "another network":
        tensors, plain = Checkpoint(path, path.stem).load({})
        Checkpoint(path, path.stem).save({**tensors, "net.0": torch.zeros(3)}, plain)
    else:
        changed = bytearray(content)
        changed[-100] ^= 1
        path.write_bytes({"cut short": content[:-50], "one byte": bytes(changed), "empty": b""}[harm])
    with caplog.at_level(logging.WARNING):
        assert told(run(NETS[0], folder)) == whole
    assert len(caplog.records) == 1
    assert "begins anew" in caplog.text


FULL = """
import sys, torch, resource
from kdops.training import checkpoint
from pathlib import Path
checkpoint.FIRST_SECONDS = 0
kept = checkpoint.Checkpoints(Path(sys.argv[1])).of("x")
kept.save({"a": torch.zeros(10)}, {"epoch": 1})
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
kept.save({"a": torch.zeros(100_000)}, {"epoch": 2})
kept.save({"a": torch.zeros(100_000)}, {"epoch": 3})
"""


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_FSIZE"), reason="no limit of file sizes here")
def test_a_disk_without_room_costs_the_checkpoint_but_not_the_training(tmp_path):
    done = subprocess.run([sys.executable, "-c", FULL, tmp_path], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    (line,) = done.stderr.splitlines()
    assert "goes on without a checkpoint" in line
    # What was there before is whole, and nothing is left half written.
    assert [path.name for path in tmp_path.iterdir()] == ["x.safetensors"]
    assert Checkpoints(tmp_path).of("x").load({})[1] == {"epoch": 1}


def test_a_fresh_study_goes_on_with_nothing(tmp_path):
    Checkpoints(tmp_path).of("x").save({"a": torch.zeros(1)}, {})
    assert Checkpoints(tmp_path).of("x").load({}) is not None
    assert Checkpoints(tmp_path, resume=False).of("x").load({}) is None


def test_what_is_old_is_removed(tmp_path):
    for name, days in {"old.safetensors": 15, "new.safetensors": 13, "half.tmp": 15, "notes.txt": 99}.items():
        (tmp_path / name).touch()
        then = time.time() - 86400 * days
        os.utime(tmp_path / name, (then, then))
    Checkpoints(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new.safetensors", "notes.txt"]


def test_saving_takes_a_small_share_of_the_time(tmp_path, monkeypatch):
    clock = [1000.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: clock[0])
    kept = Checkpoints(tmp_path).of("x")
    clock[0] += 59
    assert not kept.is_due()
    clock[0] += 2
    assert kept.is_due()

    def slow(*_):
        clock[0] += 3.0

    monkeypatch.setattr(module, "_write", slow)
    kept.save({}, {})
    clock[0] += 149
    assert not kept.is_due()
    clock[0] += 2
    assert kept.is_due()
