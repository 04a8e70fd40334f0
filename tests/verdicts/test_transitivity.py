import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.stats.multitest import multipletests

from kdops.verdicts.statistics import equivalence
from kdops.verdicts.transitivity import transitivity_verdict

MARGIN = 0.02
law = settings(max_examples=20, deadline=None)
PREFIXES = ("transitivity", "worst_middle", "middle")


def study(replicates=5, temperatures=4, difference=0.0, spread=0.002, seed=0):
    """Direct and via accuracies whose mean difference and standard deviation a replicate are as given."""
    rng = np.random.default_rng(seed)
    direct = rng.uniform(0.7, 0.8, (replicates, temperatures))
    noise = rng.standard_normal(replicates)
    if replicates > 1:
        noise = (noise - noise.mean()) / noise.std(ddof=1)
    else:
        noise[:] = 0
    within = rng.normal(0, 0.01, (replicates, temperatures))
    within -= within.mean(axis=1, keepdims=True)
    return direct + difference + spread * noise[:, None] + within, direct


@pytest.mark.parametrize(
    ("difference", "spread", "word"),
    [
        (0.0, 0.002, "transitive"),
        (0.01, 0.002, "transitive"),
        (-0.05, 0.002, "not transitive"),
        (0.05, 0.002, "not transitive"),
        (0.02, 0.002, "inconclusive"),
        (0.0, 0.05, "inconclusive"),
    ],
)
def test_the_interval_decides(difference, spread, word):
    verdict = transitivity_verdict(*study(difference=difference, spread=spread), MARGIN)
    assert verdict.word == word == verdict.claims[0].word
    assert verdict.sentence == verdict.claims[0].sentence
    assert verdict.sentence.startswith(word.capitalize())
    assert verdict.statistics["transitivity_difference"] == pytest.approx(difference)
    side = "those via the middle are " + ("better." if difference > 0 else "worse.")
    assert verdict.sentence.endswith(side) == (word == "not transitive")


def test_the_sentence_has_the_numbers():
    direct = np.full((3, 2), 0.8)
    via = direct + np.array([0.04, 0.05, 0.06])[:, None]
    verdict = transitivity_verdict(via, direct, MARGIN, middle_temperatures=[0, 1, 0])
    assert verdict.sentence == (
        "Not transitive: over 2 temperatures the students reach 85.00 % on average via the best middle against 80.00 % "
        "directly, a difference of +5.00 percentage points (90 % interval +3.31 to +6.69, n = 3 replicates), outside "
        "the margin of 2 percentage points: those via the middle are better. In 2 of 3 replicates the best middle is "
        "the one trained on hard labels: nothing of the teacher passes through it, so what is compared there is "
        "distilling from a net that learned from labels."
    )


@law
@given(st.integers(1, 6), st.integers(1, 5), st.integers(0, 1000), st.floats(-0.05, 0.05), st.floats(0, 0.02))
def test_the_primary_claim_is_equivalence_of_the_replicates_means(replicates, temperatures, seed, mean, spread):
    via, direct = study(replicates, temperatures, mean, spread, seed)
    verdict = transitivity_verdict(via, direct, MARGIN)
    expected = equivalence((via - direct).mean(axis=1), MARGIN)
    result = verdict.claims[0].result
    assert result.difference.mean == pytest.approx(expected.difference.mean, abs=1e-9)
    assert result.difference.low == pytest.approx(expected.difference.low, abs=1e-9, nan_ok=True)
    assert result.n == verdict.statistics["transitivity_replicates"] == replicates
    assert all(math.isfinite(value) for value in verdict.statistics.values())
    assert all(type(value) is float for value in verdict.statistics.values())
    decided = replicates >= 3 and (result.equivalent or result.different)
    assert (verdict.word == "inconclusive") == (not decided)
    assert ("transitivity_replicates_needed" in verdict.statistics) == (result.replicates_needed is not None)


def test_temperatures_are_not_replicates():
    """Copying a column changes nothing: only whole chains count."""
    via, direct = study(temperatures=1, difference=0.01, spread=0.01)
    one = transitivity_verdict(via, direct, MARGIN).claims[0].result
    many = transitivity_verdict(via.repeat(20, axis=1), direct.repeat(20, axis=1), MARGIN).claims[0].result
    assert many.difference.low == pytest.approx(one.difference.low)


@law
@given(st.integers(0, 1000), st.floats(-0.04, 0.04))
def test_swapping_via_and_direct_keeps_the_word(seed, difference):
    via, direct = study(difference=difference, spread=0.01, seed=seed)
    assert transitivity_verdict(via, direct, MARGIN).word == transitivity_verdict(direct, via, MARGIN).word


def test_one_replicate_is_inconclusive_and_says_what_is_missing():
    via, direct = study(replicates=1, difference=0.0123)
    verdict = transitivity_verdict(via, direct, MARGIN, middle=via.mean(axis=1), via_worst=via)
    assert [claim.word for claim in verdict.claims] == ["inconclusive"] * 3
    for words in (
        "+1.23 percentage points",
        "n = 1 replicate)",
        "at least 3 replicates",
        "margin is 2 percentage",
    ):
        assert words in verdict.sentence
    assert "nan" not in verdict.sentence
    assert not any("_p_" in name or "_low" in name or "_needed" in name for name in verdict.statistics)


@pytest.mark.parametrize("spread", [0.0, 0.0001, 0.02])
@pytest.mark.parametrize("difference", [0.0, 0.05])
def test_two_replicates_are_inconclusive_whatever_their_interval(spread, difference):
    verdict = transitivity_verdict(*study(replicates=2, difference=difference, spread=spread), MARGIN)
    assert verdict.word == "inconclusive"
    assert "at least 3 replicates" in verdict.sentence
    needed = verdict.statistics["transitivity_replicates_needed"]
    assert needed >= 3
    assert f"{needed:.0f} would put the interval {'outside' if difference else 'inside'}" in verdict.sentence
    assert "any margin above" in verdict.sentence


def test_two_replicates_on_the_margin_name_no_number():
    via, direct = np.full((2, 3), 0.90), np.full((2, 3), 0.88)  # 0.90 - 0.88 > 0.02 in binary
    verdict = transitivity_verdict(via, direct, MARGIN)
    assert "transitivity_replicates_needed" not in verdict.statistics
    assert "the difference seen is the margin itself" in verdict.sentence.lower()


def test_rounding_does_not_decide_on_the_margin():
    assert MARGIN < 0.90 - 0.88
    assert transitivity_verdict(np.full((3, 2), 0.90), np.full((3, 2), 0.88), MARGIN).word == "inconclusive"


def test_a_hopeless_spread_says_so():
    verdict = transitivity_verdict(*study(difference=0.019, spread=0.1), MARGIN)
    assert "more than 1000 replicates" in verdict.sentence
    assert "transitivity_replicates_needed" not in verdict.statistics


def test_the_margin_named_does_pass():
    via, direct = study(difference=0.015, spread=0.01)
    sentence = transitivity_verdict(via, direct, MARGIN).sentence
    named = float(sentence.split("any margin above ")[1].split(" points")[0]) / 100
    assert transitivity_verdict(via, direct, named + 1e-9).word == "transitive"
    assert transitivity_verdict(via, direct, named - 2e-4).word == "inconclusive"


def test_selection_on_test_is_named():
    data = study()
    plain = transitivity_verdict(*data, MARGIN)
    mimic = transitivity_verdict(*data, MARGIN, select_on="test")
    assert "Selection used the test set" in mimic.sentence
    assert "test set" not in plain.sentence
    assert mimic.statistics == plain.statistics


def test_claims_come_with_what_was_given():
    via, direct = study()
    names = [[c.name for c in transitivity_verdict(via, direct, MARGIN, **more).claims] for more in (
        {}, {"middle": via.mean(axis=1)}, {"via_worst": via}, {"middle": via.mean(axis=1), "via_worst": via}
    )]  # fmt: skip
    assert names == [
        ["transitivity"],
        ["transitivity", "middle"],
        ["transitivity", "worst_middle"],
        list(PREFIXES),
    ]


def test_statistics_hold_raw_and_adjusted_p_values():
    via, direct = study(difference=0.015, spread=0.006)
    worst = direct - 0.03 + (via - direct) / 2
    verdict = transitivity_verdict(via, direct, MARGIN, middle=direct.mean(axis=1), via_worst=worst)
    numbers = verdict.statistics
    for raw, adjusted in (("p_equivalent", "p_holm"), ("p_different", "p_different_holm")):
        expected = multipletests([numbers[f"{p}_{raw}"] for p in PREFIXES], method="holm")[1]
        assert [numbers[f"{p}_{adjusted}"] for p in PREFIXES] == pytest.approx(list(expected))
    assert numbers["worst_middle_change"] == pytest.approx((worst - via).mean())
    assert numbers["middle_difference"] == pytest.approx(via.mean() - direct.mean())
    assert numbers["transitivity_margin"] == MARGIN


def test_further_claims_do_not_touch_the_verdict():
    """The primary word rests on its own interval, however hard Holm's adjustment would be on it."""
    via, direct = study(difference=0.01, spread=0.0095)
    alone = transitivity_verdict(via, direct, MARGIN)
    family = transitivity_verdict(via, direct, MARGIN, middle=via.mean(axis=1) - 0.2, via_worst=via - 0.2)
    assert alone.word == family.word == "transitive"
    assert family.sentence == alone.sentence
    assert family.statistics["transitivity_p_equivalent"] == alone.statistics["transitivity_p_equivalent"] < 0.05
    assert family.statistics["transitivity_p_holm"] > 0.05


def test_holm_can_leave_a_further_claim_open():
    via, direct = study(difference=0.0, spread=0.05)
    worst, _ = study(difference=0.01, spread=0.0095)  # the same direct students
    alone = transitivity_verdict(worst, direct, MARGIN)
    family = transitivity_verdict(via, direct, MARGIN, via_worst=worst)
    assert alone.word == "transitive"
    claim = family.claims[1]
    assert claim.word == "inconclusive"
    assert "Holm's adjustment for 2 claims" in claim.sentence


@pytest.mark.parametrize(
    ("best", "worst", "word", "meaning"),
    [
        (0.0, 0.0, "equal", "even the worst middle is good enough"),
        (0.0, -0.1, "different", "only as long as the middle is good enough"),
        (0.0, 0.1, "different", "better students than direct"),
        (-0.1, -0.15, "different", "neither middle passes"),
        (-0.1, 0.0, "equal", "passes where the best one does not"),
        (-0.1, 0.1, "different", "neither middle passes"),
        (0.02, 0.0, "equal", "whether the middle must be good enough stays open"),
        (0.02, -0.1, "different", "the worst middle does not pass; whether the best one does stays open"),
    ],
)
def test_the_worst_middle_says_what_quality_changes(best, worst, word, meaning):
    via, direct = study(difference=best)
    claim = transitivity_verdict(via, direct, MARGIN, via_worst=direct + worst + (via - direct - best)).claims[1]
    assert claim.word == word
    assert meaning in claim.sentence
    assert f"{100 * (worst - best) + 0.0:+.2f} percentage points: " in claim.sentence


def test_refuses_what_does_not_fit():
    via, direct = study()
    broken = via.copy()
    broken[1, 1] = math.nan
    for args, more in [
        ((via[0], direct[0]), {}),
        ((via[:, :0], direct[:, :0]), {}),
        ((via[:0], direct[:0]), {}),
        ((via[:, :2], direct), {}),
        ((via[:2], direct), {}),
        ((broken, direct), {}),
        ((via, broken), {}),
        ((via, direct * math.inf), {}),
        ((via * 100, direct * 100), {}),
        ((via, direct), {"middle": via}),
        ((via, direct), {"middle": [0.5] * 4}),
        ((via, direct), {"middle": [math.nan] * 5}),
        ((via, direct), {"via_worst": via[:, :1]}),
        ((via, direct), {"via_worst": broken}),
        ((via, direct), {"select_on": "train"}),
    ]:
        with pytest.raises(ValueError, match=r"shape|replicates|accuracies|select_on"):
            transitivity_verdict(*args, MARGIN, **more)
    for margin in (0.0, -0.01, math.nan):
        with pytest.raises(ValueError, match="margin"):
            transitivity_verdict(via, direct, margin)


def test_a_best_middle_that_learned_from_labels_is_told():
    via, direct = np.full((3, 2), 0.9), np.full((3, 2), 0.9)
    told = transitivity_verdict(via, direct, 0.02, middle_temperatures=[0.0, 4.0, 0.0])
    assert "In 2 of 3 replicates the best middle is the one trained on hard labels" in told.sentence
    assert told.statistics["transitivity_hard_middles"] == 2
    silent = transitivity_verdict(via, direct, 0.02, middle_temperatures=[1.0, 4.0, 2.0])
    assert "hard labels" not in silent.sentence
    assert silent.word == told.word == "transitive"


def test_the_best_distilled_middle_is_a_claim_of_its_own():
    rng = np.random.default_rng(0)
    direct = 0.9 + 0.001 * rng.standard_normal((3, 4))
    via, via_distilled = direct + 0.05, direct + 0.001
    told = transitivity_verdict(via, direct, 0.02, via_distilled=via_distilled, middle_temperatures=[0.0] * 3)
    assert told.word == "not transitive"
    (claim,) = (claim for claim in told.claims if claim.name == "distilled_middle")
    assert claim.word == "equal"
    assert told.statistics["distilled_middle_difference"] == pytest.approx(0.001)
    assert told.statistics["distilled_middle_via_accuracy"] == pytest.approx(via_distilled.mean())
    assert told.statistics["distilled_middle_p_holm"] >= told.statistics["distilled_middle_p_equivalent"]
