"""Images without labels in whole studies: distilled students learn from them, hard labels from the labeled alone."""

import json

import numpy as np
import pytest
from PIL import Image

from kdops.data import dataset as datasets
from kdops.errors import UsageError
from kdops.tracking.catalog import data_of, find_registered

DIGITS = datasets.load("digits")


def drawn(folder, names, noise=3, count=60):
    """Put digits with some noise into a folder by the names that they are given."""
    random = np.random.default_rng(noise)
    for row, name in zip(random.permutation(len(DIGITS.images))[:count], names, strict=True):
        pixels = DIGITS.images[row, 0].astype(int) + random.integers(-20, 20, (8, 8))
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path)
    return f"imagefolder:{folder}"


def run(place, **given):
    parent = place.run("students", seeds=1, temperatures="4", method="logits(alpha=0.5)", **given)
    students = {
        float(one.data.params["temperature"]): one.data
        for one in place.children(parent)
        if one.data.tags.get("kdops.role") == "student"
    }
    return parent, students


def test_labels_of_these_images_are_never_read_and_hard_labels_learn_without_them(fork, tmp_path, capsys):
    _, plain = run(fork)
    one = drawn(tmp_path / "one", [f"{number % 10}/{number}.png" for number in range(60)])
    parent, found = run(fork, unlabeled=one)
    answer = json.loads(fork.artifact(parent, "answer.json").read_text())
    assert "60 images of one" in capsys.readouterr().err
    (told,) = (text for text in answer["sentences"] if "unlabeled" in text)
    assert told == (
        "Distilled students learned from 647 labeled and 60 unlabeled images, those on hard labels from the 647 "
        "labeled ones alone: 12 steps an epoch against 11."
    )
    assert 0.0 not in found or found[0.0].tags["kdops.weights"] == plain[0.0].tags["kdops.weights"]
    student = found[4.0]
    cards = [one.description for one in fork.client.search_model_versions("name = 'kdops-digits-student'")]
    assert sum("Learned from 60 images without labels too" in card for card in cards) == 1
    for version in fork.client.search_model_versions("name = 'kdops-digits-student'"):
        uri = f"models:/{version.name}/{version.version}"
        assert data_of(fork.client, find_registered(fork.client, uri)) == {"dataset": "digits"}, (
            "probe and export ask it"
        )
    assert student.params["unlabeled"] == "60"
    assert student.tags["kdops.weights"] != plain[4.0].tags["kdops.weights"]

    random = np.random.default_rng(1)
    other = drawn(tmp_path / "other", [f"{random.integers(10)}/{name}.png" for name in random.permutation(60)])
    _, again = run(fork, unlabeled=other, fresh="true")
    for name in ("weights", "fingerprint", "training"):
        assert again[4.0].tags.get(f"kdops.{name}") == student.tags.get(f"kdops.{name}")


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"dataset": "csv:table.csv"}, "is for images, and the data are a table"),
        ({"alpha": "0"}, "with alpha=0 students learn labels alone"),
        ({"method": "dkd"}, "method=dkd needs the label of each image"),
        ({"method": "standardize(wsld)"}, "needs the label of each image"),
        ({"source": "outputs.npz"}, "stored outputs are of the data's own images"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_read(nowhere, given, told):
    with pytest.raises(UsageError, match=rf"^unlabeled=imagefolder:more: .*{told}"):
        nowhere.settings("students", unlabeled="imagefolder:more", **given)
