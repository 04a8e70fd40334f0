"""The verdict on a chain: that of transitivity for one station, and adjusted over all of them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kdops.verdicts.chain import chain_verdict
from kdops.verdicts.statistics import holm
from kdops.verdicts.transitivity import transitivity_verdict

MARGIN = 0.02
law = settings(max_examples=20, deadline=None)


def accuracies(mean, replicates=4, spread=0.003, seed=0):
    rng = np.random.default_rng([seed, round(1000 * mean)])
    return np.clip(mean + spread * rng.standard_normal((replicates, 3)), 0, 1)


@law
@given(st.integers(1, 6), st.floats(0.6, 0.95), st.floats(0.6, 0.95), st.sampled_from(["validation", "test"]))
def test_one_station_is_the_claim_of_transitivity(replicates, via, direct, select_on):
    via, direct = accuracies(via, replicates), accuracies(direct, replicates, seed=1)
    one = chain_verdict([via], direct, MARGIN, names=["middle"], select_on=select_on)
    other = transitivity_verdict(via, direct, MARGIN, select_on=select_on)
    assert one.word == other.word
    # As text, since of one replicate the bounds are no numbers.
    assert repr(one.claims[0].result) == repr(other.claims[0].result)
    shared = {name.removeprefix("transitivity_"): value for name, value in other.statistics.items()}
    found = {name.removeprefix("chain_"): value for name, value in one.statistics.items()}
    assert found.pop("cut") == 0
    assert found == shared


def test_the_chains_word_is_that_of_its_end_and_each_station_has_a_claim():
    direct = accuracies(0.9)
    ways = [accuracies(0.7), accuracies(0.8), accuracies(0.9, seed=1)]
    verdict = chain_verdict(ways, direct, MARGIN, names=["a", "b", "c"], via_distilled=accuracies(0.6))
    assert verdict.word == "transitive"
    assert "via a to c against" in verdict.sentence
    assert [(claim.name, claim.word) for claim in verdict.claims] == [
        ("chain", "transitive"),
        ("station_1", "different"),
        ("station_2", "different"),
        ("distilled_chain", "different"),
    ]
    assert "via a against direct ones" in verdict.claims[1].sentence
    assert "via a to b against direct ones" in verdict.claims[2].sentence
    for name, way in zip(("station_1", "station_2", "chain"), ways, strict=True):
        assert verdict.statistics[f"{name}_via_accuracy"] == pytest.approx(way.mean())
        assert verdict.statistics[f"{name}_difference"] == pytest.approx((way - direct).mean())
    # A chain whose end is lost is lost, whatever its beginning gives.
    turned = chain_verdict(ways[::-1], direct, MARGIN, names=["a", "b", "c"])
    assert (turned.word, turned.claims[1].word) == ("not transitive", "equal")
    assert "those via the stations are worse" in turned.sentence


def test_holm_is_over_all_claims():
    ways = [accuracies(mean, spread=0.02) for mean in (0.89, 0.9, 0.91)]
    verdict = chain_verdict(ways, accuracies(0.9, seed=1), MARGIN, names=["a", "b", "c"])
    for raw, adjusted in (("p_equivalent", "p_holm"), ("p_different", "p_different_holm")):
        told = [[verdict.statistics[f"{claim.name}_{kind}"] for claim in verdict.claims] for kind in (raw, adjusted)]
        np.testing.assert_allclose(holm(told[0]), told[1])


@pytest.mark.parametrize(
    ("on_labels", "said"),
    [
        ([(), ()], None),
        (
            [(0, 2), (0,)],
            "In 2 of 4 replicates the best net of a station is the one trained on hard labels, at a (2), b (1)",
        ),
        (
            [(), (0, 1, 2, 3)],
            "In 4 of 4 replicates the best net of a station is the one trained on hard labels, at b (4)",
        ),
    ],
)
def test_a_chain_that_is_cut_says_so(on_labels, said):
    ways = [accuracies(0.9), accuracies(0.91)]
    verdict = chain_verdict(ways, accuracies(0.9), MARGIN, names=["a", "b"], on_labels=on_labels)
    assert verdict.statistics["chain_cut"] == len({seed for seeds in on_labels for seed in seeds})
    assert ("hard labels" in verdict.sentence) == (said is not None)
    assert said is None or said in verdict.sentence


@pytest.mark.parametrize(
    ("ways", "names", "more", "said"),
    [
        ([], [], {}, "at least one station"),
        ([accuracies(0.9)], ["a", "b"], {}, "each with a name"),
        ([accuracies(0.9, 3)], ["a"], {}, "must have the shape"),
        ([accuracies(0.9) + 1], ["a"], {}, "from 0 to 1"),
        ([accuracies(0.9)], ["a"], {"via_distilled": accuracies(0.9, 2)}, "must have the shape"),
        ([accuracies(0.9)], ["a"], {"select_on": "train"}, "select_on"),
    ],
)
def test_what_does_not_fit_is_refused(ways, names, more, said):
    with pytest.raises(ValueError, match=said):
        chain_verdict(ways, accuracies(0.9), MARGIN, names=names, **more)
