"""Measures against scikit-learn and against cases known by hand."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    confusion_matrix,
    f1_score,
    log_loss,
    roc_auc_score,
)

from kdops.config.architectures import parse_architecture
from kdops.models.classifier import build, digest_of
from kdops.training.evaluation import (
    agreement,
    balanced_accuracy,
    compute_logits,
    confusion,
    expected_calibration_error,
    macro_f1,
    measure,
)
from kdops.utils.random import named_generator

few = settings(max_examples=30, deadline=None)


@few
@given(st.integers(0, 10_000), st.integers(2, 6), st.integers(4, 60))
@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true", "ignore:A single label was found")
def test_measures_are_scikit_learns(seed, classes, count):
    stream = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(count, classes, generator=stream)
    # In half of the cases the last class does not occur.
    labels = torch.randint(0, classes - seed % 2, (count,), generator=stream)
    found, predicted = measure(logits, labels, "test"), logits.argmax(1)
    assert found["test_accuracy"] == pytest.approx(accuracy_score(labels, predicted))
    assert found["test_balanced_accuracy"] == pytest.approx(balanced_accuracy_score(labels, predicted))
    assert found["test_macro_f1"] == pytest.approx(f1_score(labels, predicted, average="macro"))
    assert {name for name in found if name.startswith("val_")} == set()
    both = measure(logits, labels, "val")
    assert {both[f"val_{name}"] == found[f"test_{name}"] for name in ("balanced_accuracy", "macro_f1")} == {True}
    # In steps of 0.2, so that scores are equal to each other.
    coarse = (5 * logits[:, :2]).round() / 5
    two = measure(coarse, labels % 2, "test")
    if len((labels % 2).unique()) == 2:
        assert two["test_auc"] == pytest.approx(roc_auc_score(labels % 2, coarse[:, 1] - coarse[:, 0]))
    assert ("test_auc" in found) == (classes == 2 and len(labels.unique()) == 2)
    probabilities = logits.double().softmax(1).numpy()
    assert found["test_nll"] == pytest.approx(log_loss(labels, probabilities, labels=range(classes)))
    assert found["test_ece"] == expected_calibration_error(logits, labels)


@few
@given(st.integers(0, 10_000), st.integers(1, 20))
def test_calibration_error_is_the_plain_loop_over_bins(seed, bins):
    stream = torch.Generator().manual_seed(seed)
    logits, labels = 3 * torch.randn(50, 4, generator=stream), torch.randint(0, 4, (50,), generator=stream)
    confidence = logits.double().softmax(1).amax(1).numpy()
    right = (logits.argmax(1) == labels).numpy()
    expected = 0.0
    for low in range(bins):
        inside = (confidence > low / bins) & (confidence <= (low + 1) / bins)
        if inside.any():
            expected += inside.sum() * abs(right[inside].mean() - confidence[inside].mean())
    assert expected_calibration_error(logits, labels, bins) == pytest.approx(expected / 50, abs=1e-12)


def confident(confidence, right, count):
    """Return images of which ``right`` are classified right, each with the same confidence, as (logits, labels)."""
    rest = (1 - confidence) / 3
    logits = torch.tensor([[confidence, rest, rest, rest]], dtype=torch.float64).log().repeat(count, 1)
    return logits, torch.tensor([0] * right + [1] * (count - right))


def joined(*parts):
    return torch.cat([logits for logits, _ in parts]), torch.cat([labels for _, labels in parts])


def test_a_calibrated_network_has_no_calibration_error():
    parts = [confident(tenths / 10, tenths, 10) for tenths in (3, 5, 7, 9)]
    assert expected_calibration_error(*joined(*parts)) == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize(
    ("parts", "error"),
    [
        ([confident(0.9, 5, 10)], 0.4),
        ([confident(0.5, 9, 10)], 0.4),
        # In bins of their own, a gap above does not cancel one below; in one bin it does.
        ([confident(0.95, 5, 10), confident(0.55, 10, 10)], 0.45),
        ([confident(0.95, 9, 10), confident(0.95, 10, 10)], 0.0),
        # Bins are closed above: full confidence falls into the last one, with what lies just below.
        ([confident(0.95, 10, 10), confident(1.0, 8, 10)], 0.075),
        ([confident(0.95, 5, 10), confident(0.55, 11, 20)], 0.15),
    ],
)
def test_calibration_errors_known_by_hand(parts, error):
    assert expected_calibration_error(*joined(*parts)) == pytest.approx(error, abs=1e-9)


def test_full_confidence_is_counted():
    logits = torch.tensor([[1e4, 0.0], [1e4, 0.0], [1e4, 0.0], [0.0, 1e4]])
    assert measure(logits, torch.tensor([0, 1, 1, 1]), "test") == {
        "test_accuracy": 0.5,
        "test_balanced_accuracy": pytest.approx((1 + 1 / 3) / 2),
        "test_macro_f1": pytest.approx(0.5),
        "test_auc": pytest.approx(2 / 3),
        "test_nll": 5000.0,
        "test_ece": 0.5,
    }


@few
@given(st.integers(0, 10_000), st.integers(2, 5), st.integers(1, 30))
def test_confusion_of_several_networks_is_that_of_each(seed, classes, count):
    stream = torch.Generator().manual_seed(seed)
    predicted = torch.randint(0, classes, (3, count), generator=stream)
    labels = torch.randint(0, classes, (count,), generator=stream)
    found = confusion(predicted, labels, classes)
    for own, given_ in zip(found, predicted, strict=True):
        assert own.tolist() == confusion_matrix(labels, given_, labels=range(classes)).tolist()
    assert balanced_accuracy(found).tolist() == [balanced_accuracy(own).item() for own in found]
    assert macro_f1(found).tolist() == [macro_f1(own).item() for own in found]


def test_agreement_is_the_share_of_equal_choices():
    p = torch.randn(40, 5, generator=named_generator("p"))
    assert agreement(p, p) == 1.0
    assert agreement(p, 0.1 * p + 3) == 1.0
    assert agreement(p, -p) == 0.0
    q = p.clone()
    q[:10] = -p[:10]
    assert agreement(p, q) == agreement(q, p) == 0.75


SHAPE = (2, 6, 5)
IMAGES = torch.randint(0, 256, (23, *SHAPE), generator=named_generator("images")).to(torch.uint8)


def make(text, number):
    mean, std = torch.tensor([100.0, 120.0]), torch.tensor([60.0, 50.0])
    net = build(parse_architecture(text), SHAPE, 4, mean, std, named_generator("init", number))
    for part in (p for p in net.modules() if hasattr(p, "stream")):
        part.stream = named_generator("dropout", number)
    return net


@pytest.mark.parametrize("text", ["mlp(hidden=5,depth=2,dropout=0.5)", "cnn(filters=3,layers=2,dropout=0.5)"])
def test_logits_are_each_networks_own_whatever_the_block(text):
    nets = [make(text, number) for number in range(3)]
    before = [digest_of(net.state_dict()) for net in nets]
    found = compute_logits(nets, IMAGES)
    assert found.shape == (3, 23, 4)
    assert not found.requires_grad
    for block in (1, 7, 23):
        torch.testing.assert_close(compute_logits(nets, IMAGES, block=block), found, rtol=1e-5, atol=1e-5)
    one_by_one = torch.cat([compute_logits([net], IMAGES) for net in nets])
    torch.testing.assert_close(one_by_one, found, rtol=1e-5, atol=1e-5)
    own = torch.stack([net.eval()(IMAGES) for net in nets])
    torch.testing.assert_close(found, own, rtol=1e-5, atol=1e-5)
    assert np.unique(found.numpy()).size > 0.9 * found.numel()
    assert [digest_of(net.state_dict()) for net in nets] == before
