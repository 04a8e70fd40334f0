"""What a search gained, in a word: by the interval over fresh seeds, and never by one lucky training."""

import numpy as np
import pytest

from kdops.verdicts.search import search_verdict
from kdops.verdicts.statistics import one_sided

PLAIN = np.array([0.80, 0.81, 0.82, 0.80, 0.81])


@pytest.mark.parametrize(
    ("gain", "word"),
    [
        ([0.05, 0.06, 0.05, 0.04, 0.05], "search helps"),
        ([0.001, 0.002, 0.001, 0.0, 0.001], "search does not help"),
        ([-0.05, -0.06, -0.05, -0.04, -0.05], "search does not help"),
        ([0.03, 0.035, 0.04, 0.035, 0.035], "search helps"),
        ([0.1, -0.1, 0.15, -0.12, 0.02], "inconclusive"),
    ],
)
def test_the_interval_decides(gain, word):
    verdict = search_verdict(PLAIN + gain, PLAIN, 0.02)
    assert verdict.word == verdict.claims[0].word == word
    assert f"{100 * np.mean(gain):+.2f} percentage points" in verdict.sentence
    assert "n = 5 seeds" in verdict.sentence
    assert verdict.statistics["search_difference"] == pytest.approx(np.mean(gain))
    assert all(np.isfinite(value) for value in verdict.statistics.values())
    positive, little = one_sided(gain, 0.0), one_sided(gain, 0.02)
    assert verdict.statistics == pytest.approx(
        {
            **{f"search_{name}": getattr(positive.difference, name) for name in ("low", "high")},
            **{f"search_{name}": getattr(positive, name) for name in ("p_above", "p_below", "replicates_needed")},
            "search_difference": positive.difference.mean,
            "search_replicates": 5,
            "search_found_accuracy": np.mean(PLAIN + gain),
            "search_plain_accuracy": PLAIN.mean(),
            "search_margin": 0.02,
            "search_p_little": little.p_below,
        },
        rel=1e-6,
    )


def test_a_gain_within_the_margin_is_named_where_it_is_there():
    sentence = search_verdict(PLAIN + 0.005 + np.linspace(0, 0.001, 5), PLAIN, 0.02).sentence
    assert "above zero all the same" in sentence
    assert "all the same" not in search_verdict(PLAIN - 0.005, PLAIN, 0.02).sentence


@pytest.mark.parametrize("seeds", [1, 2])
def test_few_seeds_decide_nothing(seeds):
    verdict = search_verdict(PLAIN[:seeds] + 0.1, PLAIN[:seeds], 0.02)
    assert verdict.word == "inconclusive"
    assert "at least 3 seeds" in verdict.sentence


def test_equal_models_gain_nothing():
    assert search_verdict(PLAIN, PLAIN, 0.02).word == "search does not help"


@pytest.mark.parametrize(
    ("found", "plain", "margin"), [([0.5, 1.2], [0.5, 0.5], 0.02), ([0.5], [0.5, 0.5], 0.02), ([0.5], [0.5], 0)]
)
def test_what_cannot_be_compared_is_refused(found, plain, margin):
    with pytest.raises(ValueError, match=r"found|plain|margin"):
        search_verdict(found, plain, margin)
