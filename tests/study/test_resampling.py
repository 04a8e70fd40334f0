"""Members that leave out folds, and AdaBoost.M1 against its definition."""

import math
from collections import Counter

import numpy as np
import pytest
import torch

from kdops.data import image_selection
from kdops.data.image_selection import noisy_labels
from kdops.study.key_frames import key_frames
from kdops.study.open import open_study
from kdops.study.resampling import boosted, reweighted, without_folds
from kdops.sweeps.model import COPY_SEEDS

TINY = {
    "paper": "dietterich-2000",
    "dataset": "digits",
    "temperatures": "auto",
    "seeds": "2",
    "student": "mlp(hidden=4)",
}


def opened(place, **given):
    return open_study("paper", place.settings("paper", **{**TINY, "epochs": "2", **given}))


def test_each_copy_lacks_its_own_fold(store):
    with opened(store) as study:
        crossed = without_folds(study, 3, [0, 1, 2])
        everything = study.data.images[study.transfer_images(0).rows]
    assert [(one.seed // COPY_SEEDS, one.replicate) for one in crossed.records] == [
        (copy, seed) for copy in range(3) for seed in (0, 1)
    ]
    seen = [Counter(map(bytes, call.pixels)) for call in store.calls]
    lacking = [Counter(map(bytes, everything)) - one for one in seen]
    assert len(lacking) == 3
    assert sum(lacking, Counter()) == Counter(map(bytes, everything)), "each image is in one fold"
    assert max(map(Counter.total, lacking)) - min(map(Counter.total, lacking)) <= 1


def test_what_is_left_out_is_recorded_whatever_else_is_chosen_of_the_images(store):
    with opened(store, dry_run="true") as study:
        own = study.with_selection(leave_out=("3",))
        members = [without_folds(own, 3, [0]), boosted(own, 1).models]
        members.append(own.train("student", images=key_frames(own, 1, "random", seed=0)))
        members.append(own.train("student", images=own.transfer_images(0)))
        found = [one.params.get("leave_out") for sweep in members for one in sweep.records]
        assert (set(found), len(found)) == ({"3"}, 8)
        assert all("leave_out" not in one.params for one in own.train("teacher").records)


def test_other_rows_of_a_fold_are_another_training_whatever_code_dealt_them(store, monkeypatch):
    def parts():
        found, sweep = [], study.executor.sweep
        with monkeypatch.context() as patch:
            patch.setattr(study.executor, "sweep", lambda task, *rest: found.append(task.part) or sweep(task, *rest))
            without_folds(study, 3, [0])
            study.train("teacher")
        return found

    with opened(store, dry_run="true") as study:
        before = parts()
        assert parts() == before
        groups_of = image_selection.groups_of
        monkeypatch.setattr(
            image_selection, "groups_of", lambda *given: tuple(np.roll(one, 1) for one in groups_of(*given))
        )
        fold, teacher = parts()
    assert fold != before[0]
    assert teacher == before[1] == "teacher images"


def test_what_a_member_got_wrong_is_half_of_the_weight_of_the_next():
    weights, vote = reweighted(np.array([0.1, 0.2, 0.3, 0.4]), np.array([True, False, True, False]))
    np.testing.assert_allclose(weights, [0.125, 1 / 6, 0.375, 1 / 3])
    assert vote == pytest.approx(math.log(0.6 / 0.4))


@pytest.mark.parametrize(("wrong", "vote"), [((True, True, False), 0.0), ((False, False, False), math.log(1e10))])
def test_weights_are_equal_again_after_a_member_that_is_never_right_enough_or_never_wrong(wrong, vote):
    weights, told = reweighted(np.array([0.25, 0.25, 0.5]), np.array(wrong))
    np.testing.assert_allclose(weights, 1 / 3)
    assert told == pytest.approx(vote)


def test_boosted_members_see_what_those_before_them_got_wrong(store):
    with opened(store, seeds="1", epochs="8", student="mlp(hidden=20)") as study:
        own = study.with_selection(label_noise=0.1)
        found = boosted(own, 2)
        rows, split, network = study.transfer_images(0).rows, study.split, study.network
        labels = noisy_labels(study.data, 0.1, split.seed, np.concatenate([split.validation, split.test]))[rows]
        first, _ = found.models.copies_of(0)
        wrong = network(first)(torch.from_numpy(study.data.images[rows])).argmax(dim=1).numpy() != labels
        _, vote = reweighted(np.full(len(rows), 1 / len(rows)), wrong)
        chosen = np.stack([study.predictions(one) for one in found.models.copies_of(0)])
        score = [(found.weights[0][:, None] * (chosen == c)).sum(axis=0) for c in range(10)]
        right = (np.argmax(score, axis=0) == study.data.labels[split.test]).mean()
        assert found.votes(study)[0] == pytest.approx(right)
    assert found.weights[0, 0] == pytest.approx(vote)
    hard = set(map(bytes, study.data.images[rows[wrong]]))
    shares = [sum(bytes(one) in hard for one in call.pixels) / len(rows) for call in store.calls]
    assert shares[0] == pytest.approx(wrong.mean(), abs=0.03)
    assert shares[1] == pytest.approx(0.5, abs=0.05)
