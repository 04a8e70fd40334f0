"""The card of a registered model: true, short enough to be kept, and what it says to do works."""

import re
from dataclasses import replace

import mlflow
import numpy as np
import pytest

from kdops.data import dataset as datasets
from kdops.data.splits import make_split
from kdops.registry.card import card
from kdops.sweeps.model import Model
from kdops.verdicts.intervals import wilson_interval
from tests.shelves import NASTY

DIGITS = datasets.load("digits")
SPLIT = make_split(DIGITS, "disjoint", 0)
RECORD = Model(
    "student",
    3,
    4.0,
    "teacher>student",
    "models:/kdops-digits-teacher/7",
    "",
    model_id="m-0123",
    metrics={"val_accuracy": 0.9, "test_accuracy": 0.85},
    params={"architecture": "mlp(hidden=8,depth=1,dropout=0)", "parameters": "610", "flops": "1184"},
)


def test_every_version_has_a_card_that_tells_its_own_figures(look):
    versions = [v for role in ("teacher", "student", "middle") for v in _versions(look.client, f"kdops-digits-{role}")]
    assert versions
    for version in versions:
        text, tags = version.description, version.tags
        for part, rows in (("val", SPLIT.validation), ("test", SPLIT.test)):
            accuracy = float(tags[f"{part}_accuracy"])
            low, high = wilson_interval(accuracy, len(rows))
            assert f"| {accuracy:.4f} | {low:.4f} to {high:.4f} | {len(rows)} |" in text
        assert DIGITS.digest[:12] in text
        assert tags["architecture"] in text
        source = tags["source"].removeprefix("models:/")
        assert ("trained on labels" if source == "labels" else f"distilled from {source}") in text


def test_the_card_loads_the_very_version(look):
    version = _versions(look.client, "kdops-digits-student")[-1]
    (uri,) = set(re.findall(r"models:/m-[0-9a-f]+", version.description))
    images = np.array(DIGITS.images[SPLIT.test])
    told = mlflow.pyfunc.load_model(uri).predict(images, params={"output": "classes"})
    right = np.mean(told["class"].astype(int) == DIGITS.labels[SPLIT.test])
    assert right == pytest.approx(float(version.tags["test_accuracy"]))


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({}, "**Student distilled from kdops-digits-teacher/7 at T = 4, replicate 3**"),
        ({"role": "teacher", "source": "labels"}, "**Teacher trained on labels, replicate 3**"),
        ({"temperature": 0.0}, "**Student trained on the hard predictions of kdops-digits-teacher/7, replicate 3**"),
        (
            {"role": "ensemble", "temperature": float("nan"), "source": "models:/a/1 models:/b/2"},
            "**Ensemble of 2 members that vote: a/1, b/2**",
        ),
    ],
)
def test_it_begins_with_what_the_model_is(changed, said):
    assert card(replace(RECORD, **changed), DIGITS, SPLIT).splitlines()[0] == said


def test_the_longest_card_fits_and_hides_nothing_strange():
    data = replace(DIGITS, name=NASTY, classes=(NASTY * 50,) * 200, notes=NASTY * 100)
    members = " ".join(f"models:/{'n' * 80}/{number}" for number in range(100))
    record = replace(RECORD, role="ensemble", source=members, temperature=float("nan"))
    text = card(record, data, SPLIT)
    assert len(text) < 5000
    assert "<script>" not in text.replace("\\<", "")
    assert "and 88 more" in text
    assert text.endswith("models:/m-0123\n```")


def _versions(client, name):
    return client.search_model_versions(f"name = '{name}'", max_results=1000)
