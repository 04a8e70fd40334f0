import math

import numpy as np
import pytest
from statsmodels.stats.multitest import multipletests

from kdops.verdicts.ensemble import ensemble_verdict
from kdops.verdicts.intervals import bounds
from kdops.verdicts.statistics import one_sided
from kdops.verdicts.votes import McNemar

MARGIN = 0.02


def study(gain=0.03, spread=0.002, replicates=5, seed=0):
    rng = np.random.default_rng(seed)
    single = rng.uniform(0.75, 0.8, replicates)
    noise = rng.standard_normal(replicates)
    noise -= noise.mean()
    if replicates > 1:
        noise *= spread / noise.std(ddof=1)
    return single + gain + noise, single


def judge(data, **more):
    return ensemble_verdict(*data, MARGIN, **{"size": 5, "members": 20} | more)


@pytest.mark.parametrize(
    ("gain", "spread", "word", "sign", "said"),
    [
        (0.03, 0.002, "ensemble helps", "above zero", "the gain is above the margin"),
        (0.02, 0.004, "ensemble helps", "above zero", "not shown to be above the margin"),
        (0.01, 0.002, "ensemble does not help", "above zero", "the gain is above zero all the same"),
        (0.0, 0.002, "ensemble does not help", "inconclusive", "nor is it shown to be above zero"),
        (-0.03, 0.002, "ensemble does not help", "not above zero", "even worse than the best single one"),
        (0.01, 0.03, "inconclusive", "inconclusive", "it takes about"),
    ],
)
def test_the_interval_decides(gain, spread, word, sign, said):
    verdict = judge(study(gain, spread))
    assert (verdict.word, verdict.claims[0].parts[0].word) == (word, sign)
    assert said in verdict.sentence
    assert f"{100 * gain + 0.0:+.2f} percentage points" in verdict.sentence
    assert "the best 5 of 20 members" in verdict.sentence
    assert verdict.statistics["ensemble_difference"] == pytest.approx(gain)


def test_the_statistics_are_those_of_both_tests():
    ensemble, single = study(0.01, 0.01)
    verdict = judge((ensemble, single))
    little, positive = one_sided(ensemble - single, MARGIN), one_sided(ensemble - single, 0.0)
    numbers = verdict.statistics
    assert numbers["ensemble_p_no_help"] == pytest.approx(little.p_below)
    assert numbers["ensemble_p_helps"] == pytest.approx(positive.p_above)
    assert verdict.claims[0].parts[0].result.p_above == pytest.approx(positive.p_above)
    assert numbers["ensemble_replicates_needed"] == min(little.replicates_needed, positive.replicates_needed)
    assert (numbers["ensemble_size"], numbers["ensemble_members"]) == (5, 20)


def test_the_margin_named_does_pass():
    data = study(0.01, 0.03)
    sentence = judge(data).sentence
    named = float(sentence.split("any margin above ")[1].split(" points")[0]) / 100
    assert ensemble_verdict(*data, named + 1e-9, size=5, members=20).word == "ensemble does not help"
    assert ensemble_verdict(*data, named - 2e-4, size=5, members=20).word != "ensemble does not help"


STUDIES = 100_000
MONTE_CARLO = 4 * math.sqrt(0.05 * 0.95 / STUDIES)


def words(gains):
    _, low, high = bounds(gains, 0.9)
    return high < MARGIN, (high >= MARGIN) & (low > 0)


@pytest.mark.parametrize("n", [3, 10])
@pytest.mark.parametrize("deviation", [0.002, 0.01, 0.05])
def test_error_rates_at_the_boundaries(n, deviation):
    noise = np.random.default_rng(n).normal(0, deviation, (STUDIES, n))
    assert words(MARGIN + noise)[0].mean() <= 0.05 + MONTE_CARLO
    assert words(noise)[1].mean() <= 0.05 + MONTE_CARLO


@pytest.mark.parametrize("seed", range(8))
def test_what_is_simulated_is_what_the_verdict_says(seed):
    rng = np.random.default_rng(seed)
    single = np.full(4, 0.7)
    ensemble = single + rng.uniform(-0.01, 0.04) + rng.normal(0, 0.01, 4)
    no, yes = words((ensemble - single)[None])
    expected = "ensemble does not help" if no[0] else "ensemble helps" if yes[0] else "inconclusive"
    assert judge((ensemble, single)).word == expected


@pytest.mark.parametrize("select_on", ["validation", "test"])
@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_an_ensemble_of_one_is_its_member_by_choice(n, select_on):
    _, single = study(replicates=n)
    verdict = judge((single, single), size=1, select_on=select_on, mcnemar=[McNemar(1.0, 0, 0)] * n)
    (claim,) = verdict.claims
    (part,) = claim.parts
    decided = n >= 3
    assert verdict.word == ("ensemble does not help" if decided else "inconclusive")
    assert part.word == ("not above zero" if decided else "inconclusive")
    assert (part.result.difference.mean, part.result.n, part.result.threshold) == (0.0, n, 0.0)
    for sentence, word in ((verdict.sentence, verdict.word), (part.sentence, part.word)):
        assert sentence.startswith(word[0].upper() + word[1:])
        assert f"the choice on {select_on} was a single member (N = 1 of 20)" in sentence
        assert "voting brought no gain by the choice of N. This is by choice, not by test" in sentence
        assert f"n = {n} replicate" in sentence
        assert "interval" not in sentence
        assert "McNemar" not in sentence
    assert ("at least 3 replicates" in verdict.sentence) == (not decided)
    assert ("Selection used the test set" in verdict.sentence) == (select_on == "test")
    assert verdict.statistics == {
        "ensemble_difference": 0.0,
        "ensemble_replicates": n,
        "ensemble_margin": MARGIN,
        "ensemble_size": 1,
        "ensemble_members": 20,
        "ensemble_accuracy": pytest.approx(single.mean()),
        "ensemble_single_accuracy": pytest.approx(single.mean()),
    }


def test_an_ensemble_of_one_leaves_no_claim_but_that_of_all_members():
    """What is zero by construction neither appears nor weighs on what is tested."""
    together, single = study(0.005)
    verdict = judge(
        (single, single), size=1, all_members=together, one_temperature=(single, single), own_order=(single, single)
    )
    assert [claim.name for claim in verdict.claims] == ["ensemble", "all_members"]
    numbers = verdict.statistics
    assert not [name for name in numbers if name.startswith(("one_temperature", "own_order"))]
    assert numbers["all_members_p_holm"] == numbers["all_members_p_equivalent"]
    assert numbers["all_members_p_different_holm"] == numbers["all_members_p_different"]
    with pytest.raises(ValueError, match="one_temperature"):
        judge((single, single), size=1, one_temperature=(single, single[:1]))
    with pytest.raises(ValueError, match="is the best single member"):
        judge((together, single), size=1)


def test_controls_compare_gains():
    ensemble, single = study(0.005)
    theirs = (single + 0.07 + 0.001 * np.arange(5), single + 0.01)
    verdict = judge((ensemble, single), one_temperature=theirs, own_order=(ensemble, single), all_members=ensemble)
    claims = {claim.name: claim for claim in verdict.claims}
    assert list(claims) == ["ensemble", "all_members", "one_temperature", "own_order"]
    numbers = verdict.statistics
    assert numbers["one_temperature_gain"] == pytest.approx(0.062)
    assert numbers["one_temperature_difference"] == pytest.approx(0.062 - 0.005)
    assert numbers["own_order_difference"] == pytest.approx(0)
    assert numbers["all_members_difference"] == pytest.approx(0.005)
    assert (claims["one_temperature"].word, claims["own_order"].word) == ("different", "equal")
    raw = [numbers["ensemble_p_no_help"], *(numbers[f"{name}_p_equivalent"] for name in list(claims)[1:])]
    adjusted = [numbers["ensemble_p_no_help_holm"], *(numbers[f"{name}_p_holm"] for name in list(claims)[1:])]
    assert adjusted == pytest.approx(list(multipletests(raw, method="holm")[1]))


def test_mcnemar_is_told_and_decides_nothing():
    data = study(0.01)
    plain, told = judge(data), judge(data, mcnemar=[McNemar(0.001, 3, 30), McNemar(0.4, 5, 8)])
    assert "independent) the two differ in 1 of 2 replicates" in told.sentence
    assert (told.statistics["ensemble_mcnemar_lowest_p"], told.statistics["ensemble_mcnemar_highest_p"]) == (0.001, 0.4)
    assert told.word == plain.word
    assert told.statistics.items() >= plain.statistics.items()


def test_refuses_what_does_not_fit():
    ensemble, single = study()
    for args, more in [
        ((ensemble[:, None], single), {}),
        ((ensemble, single[:2]), {}),
        ((ensemble * 2, single), {}),
        ((ensemble, single), {"all_members": single[:2]}),
        ((ensemble, single), {"one_temperature": (single, single[:1])}),
        ((ensemble, single), {"size": 0}),
        ((ensemble, single), {"size": 21}),
    ]:
        with pytest.raises(ValueError, match=r"shape|replicates|accuracies|size"):
            judge(args, **more)
    for margin in (0.0, math.nan):
        with pytest.raises(ValueError, match="margin"):
            ensemble_verdict(ensemble, single, margin, size=1, members=1)
