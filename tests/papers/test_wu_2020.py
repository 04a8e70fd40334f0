"""The tests of Wu and others (2020)."""

from dataclasses import replace

import numpy as np
import pytest

from kdops.data import dataset
from kdops.errors import UsageError
from pipelines import paper
from pipelines.papers.wu_2020 import TESTED, WAYS, findings_of


@pytest.mark.parametrize("other", [way for way in WAYS if way not in (TESTED, "logits")])
def test_no_method_is_chosen_by_the_numbers_that_are_tested(other):
    random = np.random.default_rng(1)
    recall, auc = ({what: random.random(5) for what in ("source", "labels", *WAYS)} for _ in range(2))
    found = findings_of(recall, auc, 0.02)
    assert findings_of({**recall, other: np.ones(5)}, {**auc, other: np.ones(5)}, 0.02) == found
    assert findings_of({**recall, TESTED: np.ones(5)}, auc, 0.02) != found


def test_all_that_is_answered_is_a_difference_which_may_be_negative():
    measured = {what: np.full(3, 0.5) for what in ("source", "labels", *WAYS)}
    assert {one.unit for one in findings_of(measured, measured, 0.02)} == {"difference"}


def test_data_of_few_classes_are_refused(nowhere):
    settings = nowhere.settings("paper", paper="wu-2020", dataset="digits", temperatures="auto")
    data = dataset.load("digits")
    paper.check(settings, data)
    of_few = data.labels < 7
    few = replace(
        data,
        classes=data.classes[:7],
        **{name: getattr(data, name)[of_few] for name in ("images", "labels", "test", "tracks")},
    )
    with pytest.raises(UsageError, match="must have at least 8 classes"):
        paper.check(settings, few)
