"""The numbers of an ensemble: an ensemble of one is its member, and no probability of zero makes a loss infinite."""

import math

import pytest
import torch

from kdops.ensembles.evaluation import measure_vote
from kdops.training.evaluation import measure

LABELS = torch.arange(200) % 5


def members(count, seed=0):
    return 3 * torch.randn(count, 200, 5, generator=torch.Generator().manual_seed(seed))


def test_an_ensemble_of_one_has_its_members_numbers():
    logits = members(1)
    assert measure_vote(logits, LABELS, "val") == pytest.approx(measure(logits[0], LABELS, "val"), abs=1e-12)


def test_loss_and_calibration_are_those_of_the_mean_probability():
    logits = members(4)
    mean = logits.double().softmax(dim=2).mean(dim=0)
    expected, told = measure(mean.log(), LABELS, "test"), measure_vote(logits, LABELS, "test")
    assert (told["test_nll"], told["test_ece"]) == pytest.approx(
        (expected["test_nll"], expected["test_ece"]), abs=1e-12
    )


def test_members_that_are_certain_of_another_class_leave_the_loss_finite():
    logits = torch.tensor([[[200.0, 0.0]], [[300.0, 0.0]]])
    told = measure_vote(logits, torch.tensor([1]), "test")
    assert told["test_nll"] == pytest.approx(200 + math.log(2), abs=1e-6)
    assert told["test_accuracy"] == 0
