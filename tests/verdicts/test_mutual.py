"""Companies against independent nets: members and votes are two questions, each adjusted over the companies."""

import numpy as np
import pytest

from kdops.verdicts.mutual import mutual_verdict

ALONE = np.array([0.80, 0.82, 0.79, 0.81, 0.805])
NOISE = np.array([0.001, -0.001, 0.0005, 0.0, -0.0005])
VOTE = ALONE + 0.04


def test_members_and_votes_have_an_answer_each():
    verdict = mutual_verdict((ALONE, VOTE), {"mutual": (ALONE + 0.03 + NOISE, VOTE - 0.01 + NOISE)}, 0.02)
    assert {claim.name: claim.word for claim in verdict.claims} == {
        "members": "some companies gain",
        "vote": "no company gains",
        "members_mutual": "better",
        "vote_mutual": "worse",
    }
    assert verdict.word == "some companies gain"
    assert "against the vote of independent nets (84.50 %)" in verdict.claims[3].sentence
    assert verdict.statistics["members_mutual_difference"] == pytest.approx(0.03)
    assert verdict.statistics["vote_mutual_difference"] == pytest.approx(-0.01)
    assert verdict.statistics["independent_members_accuracy"] == pytest.approx(0.805)
    assert verdict.statistics["independent_vote_accuracy"] == pytest.approx(0.845)
    assert verdict.statistics["mutual_margin"] == 0.02
    assert "1 company method held against independent nets by members" in verdict.claims[0].sentence
    assert "1 company method held against independent nets by vote" in verdict.claims[1].sentence
    assert verdict.claims[2].sentence.startswith("Better: the members of mutual (83.50 %)")
    assert "against independent nets (80.50 %)" in verdict.claims[2].sentence
    assert verdict.claims[3].sentence.startswith("Worse: the vote of mutual (83.50 %)")


def test_several_companies_are_adjusted_together():
    gain = np.array([0.004, 0.009, 0.002, 0.006, 0.001])
    alone = mutual_verdict((ALONE, VOTE), {"a": (ALONE + gain, VOTE)}, 0.02)
    others = {f"c{number}": (ALONE + np.roll(NOISE, number) * 20, VOTE) for number in range(20)}
    many = mutual_verdict((ALONE, VOTE), {"a": (ALONE + gain, VOTE), **others}, 0.02)
    words = [next(claim.word for claim in one.claims if claim.name == "members_a") for one in (alone, many)]
    assert words == ["better", "no gain"] or words == ["better", "inconclusive"]


@pytest.mark.parametrize(
    ("companies", "margin"), [({}, 0.02), ({"a": (ALONE[:4], VOTE)}, 0.02), ({"a": (ALONE, VOTE * 2)}, 0.02)]
)
def test_what_cannot_be_compared_is_refused(companies, margin):
    with pytest.raises(ValueError, match=r"^there must be a company to compare$|shape|accuracies"):
        mutual_verdict((ALONE, VOTE), companies, margin)


@pytest.mark.parametrize(
    ("alone", "told"),
    [
        ((ALONE[None], VOTE), r"independent members must be \[replicates\]"),
        ((ALONE, 2 * VOTE), "independent vote must hold accuracies"),
    ],
)
def test_what_is_no_accuracy_of_independent_nets_is_named(alone, told):
    with pytest.raises(ValueError, match=told):
        mutual_verdict(alone, {"a": (ALONE, VOTE)}, 0.02)
