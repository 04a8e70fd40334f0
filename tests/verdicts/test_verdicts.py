"""Laws that every verdict keeps."""

import math

import numpy as np
import pytest

from kdops.verdicts.chain import chain_verdict
from kdops.verdicts.distillation import TrainingCost, distillation_verdict
from kdops.verdicts.ensemble import ensemble_verdict
from kdops.verdicts.symmetry import symmetry_verdict
from kdops.verdicts.transitivity import transitivity_verdict

MARGIN = 0.02
TEMPERATURES = (1, 2, 5, 10)


def rows(n, mean, spread=0.004, seed=0, columns=None):
    rng = np.random.default_rng([seed, round(mean * 1000)])
    return mean + spread * rng.standard_normal(n if columns is None else (n, columns))


def transitive(n, select_on="validation", order=slice(None)):
    via, direct = rows(n, 0.8, columns=4), rows(n, 0.801, columns=4)
    more = {"middle": rows(n, 0.82)[order], "via_worst": rows(n, 0.7, columns=4)[order]}
    return transitivity_verdict(via[order], direct[order], MARGIN, select_on=select_on, **more)


def symmetric(n, select_on="validation", order=slice(None)):
    return symmetry_verdict(
        rows(n, 0.9, columns=4)[order],
        rows(n, 0.8)[order],
        rows(n, 0.901)[order],
        MARGIN,
        temperatures=TEMPERATURES,
        born_again=rows(n, 0.905, columns=4)[order],
        born_again_temperatures=TEMPERATURES,
        predictions=rows(n, 0.85)[order],
        select_on=select_on,
    )


def helpful(n, select_on="validation", order=slice(None)):
    return ensemble_verdict(
        rows(n, 0.83)[order],
        rows(n, 0.8)[order],
        MARGIN,
        size=5,
        members=20,
        all_members=rows(n, 0.82)[order],
        one_temperature=(rows(n, 0.86)[order], rows(n, 0.81)[order]),
        own_order=(rows(n, 0.84)[order], rows(n, 0.809)[order]),
        select_on=select_on,
    )


def chained(n, select_on="validation", order=slice(None)):
    return chain_verdict(
        [rows(n, mean, columns=4)[order] for mean in (0.799, 0.7, 0.802)],
        rows(n, 0.8, columns=4)[order],
        MARGIN,
        names=("middle 1", "middle 2", "middle 3"),
        via_distilled=rows(n, 0.803, columns=4)[order],
        select_on=select_on,
    )


def distilled(n, select_on="validation", order=slice(None)):
    soft, hard = rows(n, 0.83, columns=4)[order], rows(n, 0.8)[order]
    return distillation_verdict(soft, hard, TEMPERATURES, 2, MARGIN, TrainingCost(1.0, 1.0, 9.0), select_on=select_on)


GAIN = {
    *("difference", "low", "high", "p_helps", "p_helps_holm", "p_no_help", "p_no_help_holm", "replicates"),
    *("replicates_needed", "smallest_margin", "margin", "accuracy"),
}
EQUIVALENCE = {
    *("difference", "low", "high", "p_equivalent", "p_holm", "p_different", "p_different_holm"),
    *("replicates", "replicates_needed", "smallest_margin"),
}
ONE_SIDED = {"difference", "low", "high", "p_above", "p_below", "replicates", "replicates_needed"}
STATISTICS = {
    transitive: {
        "transitivity": {*EQUIVALENCE, "via_accuracy", "direct_accuracy", "margin"},
        "worst_middle": {*EQUIVALENCE, "change"},
        "middle": {*EQUIVALENCE, "accuracy"},
    },
    symmetric: {
        "symmetry": {
            *("p", "p_holm", "p_not", "p_not_holm", "replicates", "replicates_needed", "smallest_margin", "margin"),
            *("reversed_accuracy", "student_accuracy", "teacher_accuracy"),
        },
        "symmetry_student": ONE_SIDED,
        "symmetry_teacher": ONE_SIDED,
        "born_again": {*EQUIVALENCE, "accuracy"},
        "transfer_set": EQUIVALENCE,
        "temperature": EQUIVALENCE,
        "predictions": {*EQUIVALENCE, "accuracy"},
    },
    helpful: {
        "ensemble": {*GAIN, "size", "members", "single_accuracy"},
        "all_members": {*EQUIVALENCE, "accuracy"},
        "one_temperature": {*EQUIVALENCE, "gain"},
        "own_order": {*EQUIVALENCE, "gain"},
    },
    chained: {
        "chain": {*EQUIVALENCE, "via_accuracy", "direct_accuracy", "margin", "cut"},
        "station_1": {*EQUIVALENCE, "via_accuracy"},
        "station_2": {*EQUIVALENCE, "via_accuracy"},
        "distilled_chain": {*EQUIVALENCE, "via_accuracy"},
    },
    distilled: {
        "distillation": {
            *(*GAIN, "hard_accuracy", "temperature", "student_seconds", "hard_seconds", "source_seconds"),
        },
        "over_temperatures": {*EQUIVALENCE, "accuracy"},
        "temperature": EQUIVALENCE,
    },
}
"""The statistics of each claim, by the names that they are logged under."""

every = pytest.mark.parametrize("give", [transitive, symmetric, helpful, chained, distilled])


@every
@pytest.mark.parametrize("n", [1, 2, 3, 6])
def test_a_verdict_is_its_first_claim_and_its_statistics_can_be_logged(give, n):
    verdict = give(n)
    assert (verdict.word, verdict.sentence) == (verdict.claims[0].word, verdict.claims[0].sentence)
    assert len({claim.name for claim in verdict.claims}) == len(verdict.claims)
    for name, value in verdict.statistics.items():
        assert type(value) is float
        assert math.isfinite(value), name
    for claim in (*verdict.claims, *verdict.claims[0].parts):
        assert claim.result.n == n
        assert claim.sentence.startswith(claim.word[0].upper() + claim.word[1:])
        assert f"n = {n} replicate" in claim.sentence
        assert "nan" not in claim.sentence
    assert all(f"{claim.name}_replicates" in verdict.statistics for claim in verdict.claims)


@every
def test_the_statistics_are_those_of_the_claims_by_their_names(give):
    verdict = give(4)
    assert set(verdict.statistics) == {f"{name}_{key}" for name, keys in STATISTICS[give].items() for key in keys}
    claims = [claim for claim in (*verdict.claims, *verdict.claims[0].parts) if claim.name in STATISTICS[give]]
    assert {claim.name for claim in claims} == set(STATISTICS[give])
    for claim in claims:
        of_test = {name: getattr(claim.result.difference, name) for name in ("low", "high")}
        of_test |= {"difference": claim.result.difference.mean, "replicates": claim.result.n}
        names = ("p_above", "p_below", "p_equivalent", "p_different", "smallest_margin", "replicates_needed")
        of_test |= {name: getattr(claim.result, name) for name in names if hasattr(claim.result, name)}
        if claim.name in ("symmetry", "ensemble", "distillation"):  # rest on two tests
            of_test = {"replicates": claim.result.n}
        assert of_test == {name: verdict.statistics[f"{claim.name}_{name}"] for name in of_test}


@every
@pytest.mark.parametrize("n", [1, 2])
def test_fewer_than_three_replicates_decide_nothing(give, n):
    verdict = give(n)
    assert {claim.word for claim in (*verdict.claims, *verdict.claims[0].parts)} == {"inconclusive"}
    assert "at least 3 replicates" in verdict.sentence
    assert any(name.endswith("_low") for name in verdict.statistics) == (n > 1)
    assert any("_p_" in name for name in verdict.statistics) == (n > 1)


@every
def test_selection_on_test_is_named_and_changes_nothing_else(give):
    plain, mimic = give(4), give(4, select_on="test")
    assert "Selection used the test set" in mimic.sentence
    assert "test set" not in plain.sentence
    assert mimic.statistics == plain.statistics
    with pytest.raises(ValueError, match="select_on"):
        give(4, select_on="train")


@every
def test_the_order_of_the_replicates_does_not_matter(give):
    one, other = give(4), give(4, order=[2, 0, 3, 1])
    assert [claim.word for claim in one.claims] == [claim.word for claim in other.claims]
    assert one.statistics == pytest.approx(other.statistics)


@every
def test_further_claims_carry_raw_and_adjusted_p_values(give):
    verdict = give(4)
    for claim in verdict.claims[1:]:
        numbers = {key: verdict.statistics[f"{claim.name}_{key}"] for key in ("p_equivalent", "p_holm")}
        numbers |= {key: verdict.statistics[f"{claim.name}_{key}"] for key in ("p_different", "p_different_holm")}
        assert numbers["p_holm"] >= numbers["p_equivalent"]
        assert numbers["p_different_holm"] >= numbers["p_different"]
        assert (claim.word in ("equal", "does not matter")) == (numbers["p_holm"] < 0.05)
        assert (claim.word in ("different", "matters")) == (numbers["p_different_holm"] < 0.05)
