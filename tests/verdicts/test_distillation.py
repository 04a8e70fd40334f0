"""Whether distillation helps: the words by their definition, at their boundaries, and what is refused."""

import math

import numpy as np
import pytest

from kdops.verdicts.distillation import WORDS, TrainingCost, distillation_verdict
from kdops.verdicts.intervals import bounds

MARGIN = 0.02
COST = TrainingCost(2.0, 1.5, 30.0)
HELPS, NO_HELP, HARMS, OPEN = WORDS


def judge(gains, *, temperatures=(4,), chosen=4, cost=COST, **more):
    gains = np.asarray(gains, dtype=float)
    hard = np.full(len(gains), 0.7)
    soft = np.stack([hard + gains if t == chosen else hard - 0.1 for t in temperatures], axis=1)
    return distillation_verdict(soft, hard, temperatures, chosen, MARGIN, cost, **more)


@pytest.mark.parametrize(
    ("gains", "word", "words"),
    [
        ([0.05, 0.06, 0.055], HELPS, "the gain is above the margin"),
        ([0.015, 0.03, 0.02], HELPS, "the gain is not shown to be above the margin"),
        ([0.004, 0.006, 0.005], NO_HELP, "it lies above zero all the same"),
        ([0.001, -0.002, 0.0005], NO_HELP, "nor is it shown to be above zero"),
        ([-0.004, -0.006, -0.005], NO_HELP, "it lies below zero"),
        ([-0.05, -0.06, -0.055], HARMS, "below zero"),
        ([-0.02, -0.025, -0.01], HARMS, "below zero"),
        ([-0.02, -0.02, -0.02], HARMS, "below zero"),
        ([0.05, -0.05, 0.0], OPEN, "By the interval seen it does not help with any margin above 8.43"),
        ([0.05, 0.06], OPEN, "A decision takes at least 3 replicates"),
    ],
)
def test_the_interval_of_the_paired_gain_decides(gains, word, words):
    verdict = judge(gains)
    assert verdict.word == word
    assert words in verdict.sentence
    assert f"{100 * np.mean(gains):+.2f} percentage points" in verdict.sentence
    assert "margin is 2 percentage points" in verdict.sentence or "margin of 2 percentage points" in verdict.sentence
    assert verdict.statistics["distillation_difference"] == pytest.approx(np.mean(gains))


def test_a_spread_that_all_students_share_does_not_matter_since_replicates_are_paired():
    hard = np.array([0.5, 0.7, 0.9])
    gains = np.array([0.05, 0.06, 0.055])
    assert distillation_verdict((hard + gains)[:, None], hard, [4], 4, MARGIN, COST).word == HELPS


def test_the_chosen_temperature_decides_and_the_others_are_claims_of_their_own():
    verdict = judge([0.05, 0.06, 0.055], temperatures=(1, 4, 9))
    assert verdict.word == HELPS
    assert "at T = 4, chosen on validation among 3," in verdict.sentence
    assert "chosen" not in judge([0.05, 0.06, 0.055]).sentence
    assert verdict.claims[-1].sentence.partition(":")[2].startswith(" the distilled students")
    assert [claim.name for claim in verdict.claims] == ["distillation", "over_temperatures", "temperature"]
    assert verdict.statistics["over_temperatures_difference"] == pytest.approx((0.055 - 0.2) / 3)
    assert [claim.name for claim in judge([0.0] * 3, temperatures=(1, 4)).claims] == [
        "distillation",
        "over_temperatures",
    ]
    assert "chosen on test" in judge([0.0] * 3, temperatures=(1, 4), select_on="test").sentence


def test_the_statistics_are_those_of_the_temperature_that_was_chosen():
    statistics = judge([0.05, 0.06, 0.055], temperatures=(1, 4, 9)).statistics
    told = {name: statistics[f"distillation_{name}"] for name in ("accuracy", "hard_accuracy", "temperature", "margin")}
    assert told == pytest.approx({"accuracy": 0.755, "hard_accuracy": 0.7, "temperature": 4, "margin": MARGIN})
    assert statistics["over_temperatures_accuracy"] == pytest.approx((0.755 + 0.6 + 0.6) / 3)
    verdict = judge([0.0, 0.001, 0.002], temperatures=(1, 4, 9), select_on="test")
    assert verdict.sentence.endswith("Selection used the test set, which flatters the temperature chosen.")
    further = verdict.claims[1].sentence
    assert "the distilled students on average over 3 temperatures" in further.lower()
    assert "against hard labels" in further


def test_harm_reaches_the_margin_and_less_of_it_counts_as_none():
    spread = np.array([-0.001, 0.0, 0.001])
    low = judge(spread - 0.01).claims[0].result.difference.low + 0.01
    assert judge(spread - MARGIN - low + 1e-4).word == NO_HELP
    assert judge(spread - MARGIN - low - 1e-4).word == HARMS


def test_the_cost_is_said_and_logged_and_what_is_unknown_is_neither():
    statistics = judge([0.0, 0.01, 0.02]).statistics
    assert {name: statistics[f"distillation_{name}_seconds"] for name in vars(COST)} == vars(COST)
    assert COST.sentence == (
        "Training takes 2 s a distilled student and 1.5 s one on hard labels; distillation also takes the 30 s of its "
        "source."
    )
    assert "the 220 s of its source" in TrainingCost(2.0, 1.5, 220.4).sentence
    there = TrainingCost(2.0, 1.5, math.nan)
    assert there.sentence.endswith("distillation also takes its source.")
    assert "distillation_source_seconds" not in judge([0.0, 0.01, 0.02], cost=there).statistics


STUDIES = 100_000


@pytest.mark.parametrize("n", [3, 10])
@pytest.mark.parametrize("deviation", [0.002, 0.01, 0.05])
def test_each_word_is_wrong_at_most_one_time_in_twenty(n, deviation):
    noise = np.random.default_rng(n).normal(0, deviation, (STUDIES, n))
    tolerance = 4 * math.sqrt(0.05 * 0.95 / STUDIES)
    for gain, wrong in ((MARGIN, NO_HELP), (0.0, HELPS), (0.0, HARMS)):
        said = words(gain + noise)
        assert (said == WORDS.index(wrong)).mean() <= 0.05 + tolerance


def words(gains):
    _, low, high = bounds(gains, 0.9)
    harms = (high < 0) & (low <= -MARGIN)
    return np.select([harms, high < MARGIN, low > 0], [WORDS.index(w) for w in (HARMS, NO_HELP, HELPS)], 3)


@pytest.mark.parametrize("seed", range(12))
def test_what_is_simulated_is_what_the_verdict_says(seed):
    rng = np.random.default_rng(seed)
    gains = rng.uniform(-0.04, 0.04) + rng.normal(0, 0.01, 4)
    assert judge(gains).word == WORDS[words(gains[None])[0]]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"chosen": 5}, "the chosen temperature must be one of"),
        ({"hard": [0.5, 0.5]}, "hard must have the shape"),
        ({"margin": 0.0}, "margin must be a finite number above 0"),
        ({"soft": [[1.5]] * 3}, "accuracies from 0 to 1"),
    ],
)
def test_what_is_no_comparison_is_refused(given, words):
    usual = {"soft": [[0.5]] * 3, "hard": [0.5] * 3, "chosen": 4, "margin": MARGIN} | given
    with pytest.raises(ValueError, match=words):
        distillation_verdict(usual["soft"], usual["hard"], [4], usual["chosen"], usual["margin"], COST)
