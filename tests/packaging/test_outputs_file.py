"""Stored outputs: matched with the images by digest or name, and refused where they are of other images."""

import hashlib
import pickle
import re
from dataclasses import replace

import numpy as np
import pytest
import torch

from kdops.config.sources import OutputsFile
from kdops.data import dataset as datasets
from kdops.errors import UsageError
from kdops.packaging.outputs_file import (
    agreement_with_labels,
    digests_of,
    is_chosen_on_test,
    load_outputs,
    write_outputs,
)

DIGITS = datasets.load("digits")
COUNT = len(DIGITS.labels)
ROWS = np.arange(COUNT)
NAMES = [f"{row}.png" for row in ROWS]
LOGITS = np.random.default_rng(0).normal(size=(COUNT, 10)).astype(np.float32)
SHUFFLED = np.random.default_rng(1).permutation(COUNT)


def save(path, **arrays):
    np.savez(path, **arrays)


def load(path, names=NAMES, needed=ROWS):
    return load_outputs(OutputsFile(str(path)), DIGITS, names, needed)


WAYS = {
    "CAPITALS.NPZ": lambda path: write_outputs(
        path, LOGITS[SHUFFLED], digests_of(DIGITS.images[SHUFFLED]), (), DIGITS.classes, SHUFFLED
    ),
    "own.npz": lambda path: write_outputs(
        path, LOGITS[SHUFFLED], digests_of(DIGITS.images[SHUFFLED]), (), DIGITS.classes, SHUFFLED
    ),
    "own.safetensors": lambda path: write_outputs(
        path, LOGITS[SHUFFLED], digests_of(DIGITS.images[SHUFFLED]), (), DIGITS.classes, SHUFFLED
    ),
    "hexadecimal.npz": lambda path: save(
        path,
        logits=LOGITS[SHUFFLED].astype(np.float64),
        digests=[hashlib.sha256(image.tobytes()).hexdigest() for image in DIGITS.images[SHUFFLED]],
    ),
    "names.npz": lambda path: save(path, logits=LOGITS[SHUFFLED], names=[NAMES[row] for row in SHUFFLED]),
    "probabilities.npz": lambda path: save(
        path,
        probabilities=torch.from_numpy(LOGITS[SHUFFLED]).softmax(1).numpy(),
        names=[NAMES[row] for row in SHUFFLED],
    ),
}


@pytest.mark.parametrize("name", WAYS)
def test_outputs_find_their_images_in_whatever_order_they_are(name, tmp_path):
    WAYS[name](tmp_path / name)
    found = load(tmp_path / name)
    given = found(torch.from_numpy(ROWS))
    torch.testing.assert_close(given.softmax(1), torch.from_numpy(LOGITS).softmax(1), rtol=1e-4, atol=1e-6)
    assert found.knows(ROWS).all()


@pytest.mark.parametrize("name", ["a.npz", "a.safetensors", "A.NPZ"])
@pytest.mark.parametrize("select_on", ["validation", "test"])
def test_a_file_says_that_its_model_was_chosen_on_test(name, select_on, tmp_path):
    path = tmp_path / name
    write_outputs(path, LOGITS, digests_of(DIGITS.images), NAMES, DIGITS.classes, ROWS, select_on)
    assert is_chosen_on_test(OutputsFile(str(path))) is (select_on == "test")
    np.testing.assert_array_equal(load(path).logits.numpy(), LOGITS)
    save(tmp_path / "of others.npz", logits=LOGITS, names=NAMES)
    assert not is_chosen_on_test(OutputsFile(str(tmp_path / "of others.npz")))


def test_images_without_outputs_are_known_to_have_none(tmp_path):
    save(tmp_path / "some.npz", logits=LOGITS[:100], names=NAMES[:100])
    found = load(tmp_path / "some.npz", needed=ROWS[:50])
    assert found.knows(ROWS[:100]).all()
    assert not found.knows(ROWS[100:]).any()
    right = np.eye(10, dtype=np.float32)[DIGITS.labels]
    save(tmp_path / "right.npz", logits=right[:100], names=NAMES[:100])
    counted = int((~DIGITS.test[:100]).sum())
    assert agreement_with_labels(load(tmp_path / "right.npz", needed=ROWS[:50]), DIGITS) == (1.0, counted)


REFUSED = {
    "classes": (
        {"logits": LOGITS, "names": NAMES, "classes": list("abcdefghij")},
        "is of the classes a, b, c, d",
    ),
    "width": ({"logits": LOGITS[:, :4], "names": NAMES}, "has outputs for 4 classes, and digits has 10"),
    "others": (
        {"logits": LOGITS, "names": [f"x{name}" for name in NAMES]},
        "has such as x0.png and the data such as 0.png",
    ),
    "lacking": ({"logits": LOGITS[1:], "names": NAMES[1:]}, "lacks 1 of the 1,797 images that students learn from"),
    "twice": ({"logits": LOGITS, "names": NAMES[:-1] + NAMES[:1]}, "names an image twice"),
    "count": ({"logits": LOGITS, "names": NAMES[1:]}, "has 1797 outputs and 1796 digests or names"),
    "nan": ({"logits": LOGITS * np.nan, "names": NAMES}, "has logits that are not finite as float32"),
    "large": ({"logits": np.full((COUNT, 10), 1e300), "names": NAMES}, "has logits that are not finite as float32"),
    "whole": ({"logits": LOGITS.astype(int), "names": NAMES}, "must have logits as floats"),
    "one name": ({"logits": LOGITS, "names": "a.png"}, "must have names as a list of text"),
    "one class": ({"logits": LOGITS, "names": NAMES, "classes": "0"}, "must have classes as a list of text"),
    "sums": ({"probabilities": LOGITS, "names": NAMES}, "probabilities that do not sum to 1"),
    "neither": ({"values": LOGITS, "names": NAMES}, "must have either logits or probabilities, and has values, names"),
    "digests": ({"logits": LOGITS, "digests": ["zz"] * COUNT}, "has digests that are no SHA-256"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_outputs_that_do_not_fit_are_refused_in_one_line(name, tmp_path):
    arrays, told = REFUSED[name]
    save(tmp_path / "outputs.npz", **arrays)
    with pytest.raises(UsageError, match=rf"^source=.*{re.escape(told)}") as caught:
        load(tmp_path / "outputs.npz")
    assert "\n" not in str(caught.value)


def test_rows_of_one_digest_are_never_given_the_outputs_of_each_other(tmp_path):
    images = DIGITS.images.copy()
    images[5] = images[3]
    data = replace(DIGITS, images=images)
    digests, path = digests_of(images), tmp_path / "twins.npz"
    # In order or not: nothing says whether equal images changed places.
    for order in (ROWS, ROWS[::-1]):
        save(path, logits=LOGITS[order], digests=digests[order])
        with pytest.raises(UsageError, match=r"has different outputs for the digest .*give rows too"):
            load_outputs(OutputsFile(str(path)), data, (), ROWS)
        save(path, logits=LOGITS[order], digests=digests[order], rows=order)
        np.testing.assert_array_equal(load_outputs(OutputsFile(str(path)), data, (), ROWS).logits.numpy(), LOGITS)
    moved = ROWS.copy()
    moved[[7, 8]] = 8, 7
    for rows, told in (
        (moved, "has the digest of another image for row 8 of the data, and 2 such rows"),
        (np.zeros(COUNT, int), "must have rows as places in the data, each once and from 0 to 1,796"),
        (ROWS + 1, "must have rows as places in the data"),
        (ROWS.astype(float), r"must have rows as whole numbers \[images\]"),
    ):
        save(path, logits=LOGITS, digests=digests, rows=rows)
        with pytest.raises(UsageError, match=told):
            load_outputs(OutputsFile(str(path)), data, (), ROWS)
    equal = LOGITS.copy()
    equal[5] = equal[3]
    save(path, logits=equal[::-1], digests=digests[::-1])
    np.testing.assert_array_equal(load_outputs(OutputsFile(str(path)), data, (), ROWS).logits.numpy(), equal)


def test_what_would_be_unpickled_or_is_no_archive_is_refused(tmp_path):
    np.savez(tmp_path / "objects.npz", logits=LOGITS, names=np.array([{"a": 1}] * COUNT, dtype=object))
    (tmp_path / "pickle.npz").write_bytes(pickle.dumps({"logits": 1}))
    (tmp_path / "noise.safetensors").write_bytes(b"noise" * 9)
    for name in ("objects.npz", "pickle.npz", "noise.safetensors"):
        with pytest.raises(UsageError, match="cannot be read"):
            load(tmp_path / name)
    save(tmp_path / "names.npz", logits=LOGITS, names=NAMES)
    with pytest.raises(UsageError, match="have no names; give digests"):
        load(tmp_path / "names.npz", names=[])
