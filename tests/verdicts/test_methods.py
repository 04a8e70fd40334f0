"""Methods against plain distillation: each word, Holm over all, and what is refused."""

from dataclasses import replace

import numpy as np
import pytest
from statsmodels.stats.multitest import multipletests

from kdops.verdicts.methods import MethodCost, describe_costs, methods_verdict
from kdops.verdicts.statistics import one_sided

PLAIN = np.array([0.80, 0.82, 0.79, 0.81, 0.805])
NOISE = np.array([0.001, -0.001, 0.0005, 0.0, -0.0005])


@pytest.mark.parametrize(
    ("gain", "word"), [(0.03, "better"), (0.003, "better"), (-0.05, "worse"), (0.0, "no gain")], ids=str
)
def test_each_word_is_that_of_the_interval(gain, word):
    claim = methods_verdict(PLAIN, {"dkd": PLAIN + gain + NOISE}, 0.02).claims[1]
    assert claim.word == word
    assert claim.sentence.startswith(f"{word.capitalize()}: dkd")
    assert "n = 5 replicates" in claim.sentence


@pytest.mark.parametrize("n", [1, 2])
def test_fewer_than_three_replicates_decide_nothing(n):
    verdict = methods_verdict(PLAIN[:n], {"dkd": PLAIN[:n] + 0.1}, 0.02)
    assert verdict.word == "inconclusive"
    assert "at least 3 replicates" in verdict.claims[1].sentence


def test_the_study_says_what_most_matters():
    better, equal, wild = PLAIN + 0.03 + NOISE, PLAIN + NOISE, PLAIN + np.array([0.1, -0.1, 0.05, -0.04, 0.0])
    assert methods_verdict(PLAIN, {"a": better, "b": wild}, 0.02).word == "some methods are better"
    assert methods_verdict(PLAIN, {"a": equal, "b": wild}, 0.02).word == "inconclusive"
    assert methods_verdict(PLAIN, {"a": equal, "b": PLAIN - 0.05 + NOISE}, 0.02).word == "no method is better"


def test_a_control_is_no_method():
    verdict = methods_verdict(PLAIN, {"dkd": PLAIN - 0.05 + NOISE}, 0.02, {"tempered": PLAIN + 0.05 + NOISE})
    assert verdict.word == "no method is better"
    assert [(claim.name, claim.word) for claim in verdict.claims[1:]] == [
        ("method_dkd", "worse"),
        ("method_tempered", "better"),
    ]


def test_what_deploys_more_than_the_student_does_not_set_the_word():
    """It is adjusted by itself, marked with its size, and compared with the control of its size."""
    sizes = {"logits": 610, "dkd": 610, "residual": 9000, "simkd": 700, "pair": 9100}
    costs = {name: MethodCost(1.0, size, 0, 0) for name, size in sizes.items()}
    methods, larger = {"dkd": PLAIN - 0.05 + NOISE}, {"residual": PLAIN + 0.05 + NOISE, "simkd": PLAIN + 20 * NOISE}
    controls = {"tempered": PLAIN + NOISE, "pair": PLAIN + 0.1 + 2 * NOISE}
    verdict = methods_verdict(PLAIN, methods, 0.02, controls, costs, larger, {"pair": ["residual"]})
    assert verdict.word == "no method is better"
    assert "of 1 method held against plain distillation of the same student" in verdict.sentence
    found = {claim.name: claim for claim in verdict.claims}
    assert found["method_residual"].word == "better"
    assert "residual with 9,000 parameters deployed (" in found["method_residual"].sentence
    assert "against logits with 610 (" in found["method_residual"].sentence
    assert "Better: pair with 9,100 parameters deployed" in found["method_pair"].sentence
    beside = found["beside_pair_residual"]
    assert beside.word == "worse"
    assert beside.result.difference.mean == pytest.approx(-0.05)
    assert "against pair with 9,100 parameters deployed (" in beside.sentence
    alone = methods_verdict(PLAIN, methods, 0.02).statistics
    assert alone.items() <= verdict.statistics.items(), "the methods of equal size are adjusted by themselves"
    # Without any of equal size there is nothing that the word could be about.
    assert methods_verdict(PLAIN, {}, 0.02, larger=larger).word == "inconclusive"


def test_methods_whose_texts_differ_have_statistics_of_their_own():
    methods = {"multilevel(factors=1/5)": PLAIN, "multilevel(factors=1.5)": PLAIN + 0.01}
    names = [claim.name for claim in methods_verdict(PLAIN, methods, 0.02).claims]
    assert len(set(names)) == 3


def test_many_methods_are_adjusted_together():
    """A gain that decides alone does not among twenty that are nothing."""
    gain = np.array([0.004, 0.009, 0.002, 0.006, 0.001])
    assert methods_verdict(PLAIN, {"a": PLAIN + gain}, 0.02).claims[1].word == "better"
    others = {f"m{number}": PLAIN + np.roll(NOISE, number) * 20 for number in range(20)}
    claim = methods_verdict(PLAIN, {"a": PLAIN + gain, **others}, 0.02).claims[1]
    assert claim.word != "better"
    assert claim.result.above


def test_chance_alone_makes_a_method_better_in_at_most_one_study_of_twenty():
    draw = np.random.default_rng(0)
    wrong, studies = 0, 60
    for _ in range(studies):
        noise = {f"m{number}": np.clip(PLAIN + draw.normal(0, 0.01, 5), 0, 1) for number in range(4)}
        wrong += methods_verdict(PLAIN, noise, 0.02).word == "some methods are better"
    assert wrong / studies < 0.05 + 2 * np.sqrt(0.05 * 0.95 / studies)


def test_statistics_are_finite_and_named_by_the_method():
    statistics = methods_verdict(PLAIN, {"dkd(beta=2)": PLAIN + 0.01 + NOISE}, 0.02).statistics
    assert statistics["method_dkd_beta_2_difference"] == pytest.approx(0.01)
    assert np.isfinite(list(statistics.values())).all()


def test_the_statistics_are_those_of_the_tests_adjusted_over_the_methods_of_a_family():
    gains = {"a": 0.006 + 8 * NOISE, "b": 0.001 + 8 * NOISE, "c": -0.006 + 8 * NOISE, "d": 0.03 + NOISE}
    methods = {name: PLAIN + gains[name] for name in "abc"}
    verdict = methods_verdict(PLAIN, methods, 0.015, {"d": PLAIN + gains["d"]})
    expected = {"methods_plain_accuracy": PLAIN.mean(), "methods_margin": 0.015}
    for family in ("abc", "d"):
        tests = {name: (one_sided(gains[name], 0.0), one_sided(gains[name], 0.015)) for name in family}
        p_values = {
            "p_above_holm": [positive.p_above for positive, _ in tests.values()],
            "p_below_holm": [positive.p_below for positive, _ in tests.values()],
            "p_little_holm": [little.p_below for _, little in tests.values()],
        }
        adjusted = {name: multipletests(values, method="holm")[1] for name, values in p_values.items()}
        for place, (name, (positive, _)) in enumerate(tests.items()):
            own = {key: getattr(positive, key) for key in ("p_above", "p_below", "replicates_needed")}
            own |= {key: values[place] for key, values in adjusted.items()}
            own |= {key: getattr(positive.difference, key) for key in ("low", "high")}
            own |= {"difference": positive.difference.mean, "replicates": 5, "accuracy": (PLAIN + gains[name]).mean()}
            expected |= {f"method_{name}_{key}": value for key, value in own.items()}
    assert verdict.statistics == pytest.approx(expected, rel=1e-6)
    assert verdict.claims[0].result == verdict.claims[1].result, "of the largest gain"
    words = [claim.word for claim in verdict.claims[1:4]]
    counts = {word: words.count(word) for word in ("better", "no gain", "worse", "inconclusive")}
    told = ", ".join(f"{count} {word}" for word, count in counts.items() if count)
    held = "of 3 methods held against plain distillation of the same student at equal budgets"
    assert verdict.sentence.endswith(f"{held}: {told}.")


@pytest.mark.parametrize(
    ("methods", "margin"), [({}, 0.02), ({"a": PLAIN[:4]}, 0.02), ({"a": PLAIN * 2}, 0.02), ({"a": PLAIN}, 0.0)]
)
def test_what_cannot_be_compared_is_refused(methods, margin):
    with pytest.raises(ValueError, match=r".+"):
        methods_verdict(PLAIN, methods, margin)


def test_costs_stand_beside_the_gain():
    costs = {"logits": MethodCost(2.0, 610, 0, 1e4), "simkd": MethodCost(3.0, 900, 55, 2e6)}
    statistics = methods_verdict([0.5, 0.6, 0.7], {"simkd": [0.6, 0.7, 0.8]}, 0.01, costs=costs).statistics
    found = {name: statistics[f"method_simkd_{name}"] for name in ("seconds", "parameters", "beside", "kept")}
    assert found == {"seconds": 3.0, "parameters": 900, "beside": 55, "kept": 2e6}
    times, sizes = describe_costs(costs)
    assert times.endswith("so many times as long with simkd 1.50.")
    assert "but for simkd +290; trained beside and dropped are simkd 55." in sizes
    assert sizes.endswith("of source and method: logits 0.01 MB; simkd 2 MB.")
    costs["simkd"] = replace(costs["simkd"], peak=3.2e7)
    assert describe_costs(costs)[1].endswith(
        "simkd 2 MB. At its peak a pass took, beyond what was in memory before: simkd 32 MB."
    )
