import math
import time
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.stats.contingency_tables import mcnemar as statsmodels_mcnemar

from kdops.verdicts.votes import (
    accuracy_curve,
    beta_binomial_vote_error,
    binomial_vote_error,
    choose_size,
    disagreement,
    mcnemar,
    vote_scores,
)

law = settings(max_examples=60, deadline=None)


def softmax(logits):
    e = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


@st.composite
def members(draw):
    """Probabilities of one to nine members: blurred ones, sharp ones, coarse ones that tie, float32 or float64."""
    shape = draw(st.integers(1, 9)), draw(st.integers(1, 20)), draw(st.integers(2, 6))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    sharp = draw(st.sampled_from([0.1, 1.0, 50.0]))
    logits = rng.integers(-2, 3, shape) if draw(st.booleans()) else rng.standard_normal(shape)
    return softmax(sharp * logits).astype(draw(st.sampled_from([np.float32, np.float64])))


@law
@given(members())
def test_scores_sum_to_one_and_name_the_majority(probabilities):
    count, images, classes = probabilities.shape
    scores = vote_scores(probabilities)
    assert scores.sum(axis=1) == pytest.approx(np.ones(images), abs=1e-5)
    assert (scores >= 0).all()
    mean = probabilities.astype(float).mean(axis=0)
    for i in range(images):
        votes = np.bincount(probabilities[:, i].argmax(axis=1), minlength=classes)
        assert scores[i] * (count + 1) == pytest.approx(votes + mean[i])
        winner = scores[i].argmax()
        assert votes[winner] == votes.max()
        tied = votes == votes.max()
        # Scores are float32: means that it cannot tell apart are a tie, which the lower class wins.
        assert mean[i, winner] >= mean[i, tied].max() - 1e-7 * (count + 1)


@law
@given(members())
def test_the_mean_probability_never_outweighs_a_vote(probabilities):
    """The gap that protects a vote is at least one member's share, far above rounding."""
    count, images, classes = probabilities.shape
    mean = probabilities.mean(axis=0)
    for i in range(images):
        votes = np.bincount(probabilities[:, i].argmax(axis=1), minlength=classes)
        for one in np.flatnonzero(votes):
            assert (mean[i] - mean[i, one]).max() <= 1 - votes[one] / count + 1e-6


@law
@given(members(), st.sampled_from(["majority", "probability"]))
def test_the_curve_is_the_accuracy_of_every_prefix(probabilities, vote):
    labels = np.random.default_rng(0).integers(0, probabilities.shape[2], probabilities.shape[1])
    combine = {"majority": vote_scores, "probability": lambda p: sum(np.asarray(p, dtype=float))}[vote]
    expected = [np.mean(combine(probabilities[:n]).argmax(axis=1) == labels) for n in range(1, len(probabilities) + 1)]
    curve = accuracy_curve(probabilities, labels, vote)
    assert curve.tolist() == expected  # to the bit: the same ties, broken alike
    assert curve[0] == np.mean(probabilities[0].argmax(axis=1) == labels)


def test_a_majority_is_not_the_mean():
    sure, unsure = [0.9, 0.1], [0.4, 0.6]
    probabilities = np.array([[sure], [unsure], [unsure]])
    assert vote_scores(probabilities).argmax() == 1
    assert np.mean(probabilities, axis=0).argmax() == 0
    assert vote_scores(probabilities[:2]).argmax() == 0  # one vote each: the mean decides
    assert vote_scores(np.full((4, 1, 3), 1 / 3)).argmax() == 0  # all tie: the lowest class


def test_a_hundred_members_on_a_full_test_set_are_quick():
    rng = np.random.default_rng(0)
    member = softmax(rng.standard_normal((12_630, 43), dtype=np.float32))
    probabilities = np.broadcast_to(member, (25, *member.shape))
    begin = time.process_time()
    curve = accuracy_curve(probabilities, rng.integers(0, 43, 12_630))
    assert 4 * (time.process_time() - begin) < 30
    assert np.ptp(curve) == 0  # a member repeated changes nothing


predictions = st.tuples(st.integers(2, 6), st.integers(1, 30), st.integers(2, 4), st.integers(0, 10_000))


@law
@given(predictions)
def test_disagreement_by_pairs(shape):
    """The definitions, spelled out pair by pair."""
    count, images, classes, seed = shape
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, images)
    chosen = np.where(rng.random((count, images)) < 0.6, labels, rng.integers(0, classes, (count, images)))
    right = chosen == labels
    apart, qs, alike, wrong = [], [], 0, 0
    for a, b in combinations(range(count), 2):
        n11, n00 = (right[a] & right[b]).sum(), (~right[a] & ~right[b]).sum()
        n10, n01 = (right[a] & ~right[b]).sum(), (~right[a] & right[b]).sum()
        apart.append((n10 + n01) / images)
        if n11 * n00 + n01 * n10:
            qs.append((n11 * n00 - n01 * n10) / (n11 * n00 + n01 * n10))
        wrong += n00
        alike += (~right[a] & ~right[b] & (chosen[a] == chosen[b])).sum()
    found = disagreement(chosen, labels)
    assert found.members == count
    assert found.accuracy == pytest.approx(right.mean())
    assert found.disagreement == pytest.approx(np.mean(apart))
    assert (found.q_statistic is None) == (not qs)
    assert found.q_statistic is None or found.q_statistic == pytest.approx(np.mean(qs))
    assert (found.wrong_alike is None) == (wrong == 0)
    assert found.wrong_alike is None or found.wrong_alike == pytest.approx(alike / wrong)


def test_disagreement_at_its_ends():
    labels = np.array([0, 0, 1, 1])
    twins = disagreement(np.tile([0, 1, 1, 0], (3, 1)), labels)
    assert (twins.disagreement, twins.q_statistic, twins.wrong_alike) == (0, 1, 1)
    opposite = disagreement(np.array([[0, 0, 0, 0], [1, 1, 1, 1]]), labels)
    assert (opposite.disagreement, opposite.q_statistic, opposite.wrong_alike) == (1, -1, None)
    perfect = disagreement(np.tile(labels, (2, 1)), labels)
    assert (perfect.disagreement, perfect.q_statistic, perfect.wrong_alike) == (0, None, None)
    apart = disagreement(np.array([[1, 0], [2, 0]]), np.array([0, 0]))
    assert apart.wrong_alike == 0


def test_independent_members_have_no_association():
    rng = np.random.default_rng(0)
    labels = np.zeros(50_000, dtype=int)
    chosen = (rng.random((8, 50_000)) < 0.3) * rng.integers(1, 5, (8, 50_000))
    found = disagreement(chosen, labels)
    assert found.q_statistic == pytest.approx(0, abs=0.02)
    assert found.disagreement == pytest.approx(2 * 0.3 * 0.7, abs=0.005)
    assert found.wrong_alike == pytest.approx(1 / 4, abs=0.005)


@law
@given(st.integers(1, 60), st.integers(0, 10_000))
def test_mcnemar_is_statsmodels_and_has_no_side(images, seed):
    single, ensemble = np.random.default_rng(seed).random((2, images)) < [[0.6], [0.8]]
    ours, turned = mcnemar(single, ensemble), mcnemar(ensemble, single)
    table = [[(single & ensemble).sum(), ours.only_single], [ours.only_ensemble, (~single & ~ensemble).sum()]]
    assert ours.p == pytest.approx(statsmodels_mcnemar(table, exact=True).pvalue)
    assert (turned.p, turned.only_single) == (pytest.approx(ours.p), ours.only_ensemble)
    assert ours.only_ensemble - ours.only_single == ensemble.sum() - single.sum()


def test_mcnemar_of_the_same_model():
    assert mcnemar([True, False], [True, False]).p == 1


def test_the_size_is_the_best_mean_and_the_smallest_of_those():
    assert choose_size([[0.5, 0.7, 0.7, 0.6]]) == 2
    assert choose_size([[0.5, 0.9, 0.7], [0.9, 0.2, 0.7]]) == 1  # 0.7, 0.55, 0.7
    assert choose_size([[0.1 + 0.2, 0.3]]) == choose_size([[0.3, 0.1 + 0.2]]) == 1  # rounding noise ties
    with pytest.raises(ValueError, match="validation_curves"):
        choose_size([0.5, 0.6])
    with pytest.raises(ValueError, match="validation_curves"):
        choose_size([[0.5, math.nan]])


def test_refuses_what_does_not_fit():
    good = np.full((2, 3, 2), 0.5)
    labels = np.array([0, 1, 1])
    for bad in (good[0], good[:0], good * 2, good * math.nan, good - [0.6, -0.6]):
        for function in (vote_scores, lambda p: accuracy_curve(p, labels)):
            with pytest.raises(ValueError, match=r"probabilities"):
                function(bad)
    for bad in (labels[:2], labels * 1.0, -labels):
        with pytest.raises(ValueError, match="labels"):
            accuracy_curve(good, bad)
        with pytest.raises(ValueError, match="labels"):
            disagreement(np.zeros((2, 3), dtype=int), bad)
    with pytest.raises(ValueError, match="vote"):
        accuracy_curve(good, labels, "mean")
    for bad in (np.zeros((1, 3), dtype=int), np.zeros(3, dtype=int), np.zeros((2, 3)), np.full((2, 3), -1)):
        with pytest.raises(ValueError, match="predictions"):
            disagreement(bad, labels)
    for single, ensemble in (([True], [True, False]), ([1, 0], [1, 1]), ([], []), ([[True]], [[True]])):
        with pytest.raises(ValueError, match="both must be"):
            mcnemar(single, ensemble)


def test_the_vote_of_independent_members_errs_as_often_as_in_a_simulation():
    random = np.random.default_rng(0)
    for accuracy, members in ((0.9, 1), (0.7, 5), (0.6, 4), (0.3, 9)):
        wrong = (random.random((200_000, members)) > accuracy).sum(axis=1)
        expected = (wrong > members / 2).mean() + 0.5 * (wrong == members / 2).mean()
        assert binomial_vote_error(accuracy, members) == pytest.approx(expected, abs=0.005)
    assert binomial_vote_error(0.9, 1) == pytest.approx(0.1)
    assert binomial_vote_error(1.0, 7) == 0.0


def test_where_images_differ_in_difficulty_the_vote_errs_as_often_as_in_a_simulation():
    random = np.random.default_rng(0)
    for a, b, members in ((0.4, 2.0, 9), (1.0, 1.0, 5), (3.0, 7.0, 4)):
        rates = random.beta(a, b, 300_000)
        wrong = random.random((members, len(rates))) < rates
        count = wrong.sum(axis=0)
        expected = (count > members / 2).mean() + 0.5 * (count == members / 2).mean()
        differ = (wrong[0] != wrong[1]).mean()
        assert beta_binomial_vote_error(1 - a / (a + b), differ, members) == pytest.approx(expected, abs=0.005)


def test_members_that_never_or_always_agree_vote_as_independent_ones_and_as_one():
    assert beta_binomial_vote_error(0.7, 2 * 0.7 * 0.3, 9) == pytest.approx(binomial_vote_error(0.7, 9))
    assert beta_binomial_vote_error(0.7, 0.0, 9) == pytest.approx(0.3)
    assert (beta_binomial_vote_error(1.0, 0.0, 9), beta_binomial_vote_error(0.0, 0.0, 9)) == (0.0, 1.0)
