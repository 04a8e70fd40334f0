"""Augmented students in whole studies: whichever way a source is asked, it is asked about the very views they see."""

import pytest

from kdops.errors import UsageError
from kdops.study.open import open_study


def trained(fork, entry="students", **given):
    settings = fork.settings(entry, **{"seeds": 1, "temperatures": "2", "order": "shared", **given})
    with open_study(entry, settings) as study:
        teachers = study.train("teacher")
        return teachers, study.distill(teachers, "student", [0.0, 2.0]).records


def test_kept_and_asked_outputs_of_one_view_train_the_same_students(fork):
    given = {"augment": "student=shift=1 mixup=0.4", "epochs": "teacher=1,student=1"}
    found = {views: trained(fork, **given, views=views)[1] for views in ("1", "live")}
    for one, other in zip(*found.values(), strict=True):
        for name in ("train_loss", "val_nll", *(["train_kl"] if one.temperature else [])):
            assert one.metrics[name] == pytest.approx(other.metrics[name], rel=1e-4)
        assert {**one.params, "views": "live"} == other.params


def test_what_does_not_go_together_is_refused_before_anything_is_trained(fork):
    for entry, given, told in (
        ("students", {"augment": "crop=2", "method": "fitnet", "student": "cnn(filters=2)"}, "compares features"),
        ("students", {"augment": "crop=2", "dataset": "csv:table.csv"}, "is for images, and the data are a table"),
        ("search", {"augment": "crop=2", "method": "hint"}, "compares features"),
        ("students", {"augment": "mixup=1", "method": "standardize(dkd)"}, "mixed images have two; leave mixup out"),
        ("search", {"space": "method=logits,nkd augment=none,crop=2,mixup=1"}, "method=nkd asks for the one label"),
    ):
        with pytest.raises(UsageError, match=rf"^augment=(crop=2|mixup=1): .*{told}"):
            fork.settings(entry, **given)
