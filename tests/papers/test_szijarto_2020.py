import json
import math
from dataclasses import replace

import numpy as np
import pytest

from kdops.papers import Statement
from kdops.papers.szijarto_2020 import (
    ensemble_findings,
    student_findings,
    symmetry_findings,
    teacher_findings,
    transitivity_findings,
)
from kdops.verdicts.ensemble import ensemble_verdict
from kdops.verdicts.findings import ANSWERS, UNITS, Finding
from kdops.verdicts.intervals import mean_interval
from kdops.verdicts.symmetry import symmetry_verdict
from kdops.verdicts.transitivity import transitivity_verdict
from kdops.verdicts.votes import Disagreement

MARGIN = 0.02
SOMETHING = Statement("what", "words", "source", "test")
PAPERS = {"margin": MARGIN, "same_data": True}
TEMPERATURES = np.arange(1, 30)
JITTER = np.array([-0.001, 0.0, 0.001])


def table(means, n=3):
    """[replicates, temperatures] with these means and a little spread."""
    return np.asarray(means, dtype=float) + np.resize(JITTER, n)[:, None]


def row(mean, n=3):
    """[replicates] with about this mean; the spread is of another order than a table's, so differences spread."""
    return mean + np.resize(JITTER[[1, 2, 0]], n)


def answers(findings):
    return [finding.answer for finding in findings]


def symmetric(student, teacher, means=(0.84,) * 10, n=3, **common):
    reversed_ = table(means, n)
    verdict = symmetry_verdict(
        reversed_, row(student, n), row(teacher, n), MARGIN, temperatures=range(1, len(means) + 1)
    )
    return symmetry_findings(verdict, reversed_, **PAPERS | common)


def voting(curve, single, n=3, size=5, **more):
    curves = table(curve, n)
    singles = curves[:, 0] if size == 1 else row(single, n)
    verdict = ensemble_verdict(curves[:, size - 1], singles, MARGIN, size=size, members=len(curve))
    return ensemble_findings(verdict, curves, singles, **PAPERS | more)


def transitive(via, direct, worst=None, middle=None, hard=0.8, distilled=0.8, n=3, **more):
    verdict = transitivity_verdict(
        table([via] * 4, n),
        row(direct, n)[:, None] * np.ones(4),
        MARGIN,
        via_worst=None if worst is None else table([worst] * 4, n),
        middle=None if middle is None else row(middle, n),
    )
    return transitivity_findings(verdict, row(hard, n), table([distilled] * 4, n), **PAPERS | more)


DEARER, EQUAL = ((5000, 0.004), (1000, 0.001)), ((1000, 0.001), (1000, 0.001))
"""(parameters, seconds) of the ensemble and of the single model."""


# The paper's own numbers


PAPER_STUDENTS = np.where(TEMPERATURES == 17, 0.7827, 0.6454)


@pytest.mark.parametrize("n", [1, 2, 3])
def test_the_papers_numbers_replicate_themselves(n):
    (teacher,) = teacher_findings(row(0.9473, n), **PAPERS)
    students = student_findings(row(0.16, n), table(PAPER_STUDENTS, n), TEMPERATURES, **PAPERS)
    reversed_ = symmetric(0.78, 0.95, n=n)[0]
    votes = voting([0.7712] * 29, 0.78, n=n)[0]
    assert answers([teacher, *students[:4], reversed_, votes]) == ["yes"] * 7


def test_the_papers_claims_replicate_themselves():
    assert answers(student_findings(row(0.16), table(PAPER_STUDENTS), TEMPERATURES, **PAPERS)[4:]) == ["yes", "yes"]
    assert answers(symmetric(0.78, 0.95)) == ["yes"] * 5
    curve = [0.79] * 10 + [0.78] * 8 + [0.7712] * 11
    alike = [Disagreement(29, 0.75, 0.1 + j, 0.9, 0.8 + j) for j in JITTER]
    seeds = [Disagreement(29, 0.77, 0.1 + j, 0.9, 0.8) for j in JITTER[::-1]]
    assert answers(voting(curve, 0.785, disagreements=alike, one_temperature=seeds, costs=DEARER)) == ["yes"] * 7
    assert answers(transitive(0.75, 0.75, worst=0.6, middle=0.75, best_temperatures=[6, 5, 6])) == ["yes"] * 5


def test_fewer_than_three_replicates_leave_claims_open_and_judge_numbers():
    for n in (1, 2):
        kinds = [Disagreement(29, 0.75, 0.1 + j, 0.9, 0.8) for j in JITTER[:n]]
        found = [
            *student_findings(row(0.16, n), table(PAPER_STUDENTS, n), TEMPERATURES, **PAPERS)[4:],
            *symmetric(0.78, 0.95, n=n)[1:],
            *voting([0.7712] * 29, 0.78, n=n, disagreements=kinds, one_temperature=kinds, costs=DEARER)[1:],
            *transitive(0.75, 0.75, worst=0.6, middle=0.75, n=n, best_temperatures=[6] * n),
        ]
        assert set(answers(found)) == {"open"}
        assert len(found) == 2 + 4 + 6 + 5


def test_on_other_data_only_the_numbers_are_out_of_reach():
    other = {"same_data": False}
    assert answers(teacher_findings(row(0.9473), margin=MARGIN, **other)) == ["other data"]
    students = student_findings(row(0.16), table(PAPER_STUDENTS), TEMPERATURES, margin=MARGIN, **other)
    assert answers(students) == ["other data"] * 4 + ["yes", "yes"]
    assert answers(symmetric(0.78, 0.95, **other)) == ["other data", "yes", "yes", "yes", "yes"]
    votes = answers(voting([0.7712] * 29, 0.78, **other))
    assert votes[0] == "other data"
    assert "other data" not in votes[1:]


# One by one


@pytest.mark.parametrize(
    ("accuracy", "answer"), [(0.9473, "yes"), (0.9673, "yes"), (0.9273, "yes"), (0.968, "no"), (0.9, "no")]
)
def test_a_number_replicates_within_the_margin(accuracy, answer):
    (finding,) = teacher_findings([accuracy], **PAPERS)
    assert finding.answer == answer
    assert f"{100 * accuracy:.2f} % (n = 1 replicate)" in finding.sentence
    assert "94.73 %" in finding.paper


@pytest.mark.parametrize(("accuracy", "answer"), [(0.02, "yes"), (0.18, "yes"), (0.19, "no"), (0.85, "no")])
def test_hard_labels_reach_a_number_at_most(accuracy, answer):
    findings = student_findings(row(accuracy), table(PAPER_STUDENTS), TEMPERATURES, **PAPERS)
    assert findings[0].answer == answer


def test_students_lowest_and_highest_are_those_of_each_replicate():
    soft = np.array([[0.5, 0.6, 0.9, 0.7], [0.8, 0.7, 0.6, 0.4]])
    _, lowest, highest, mean, *_ = student_findings([0.1, 0.1], soft, [5, 6, 7, 8], **PAPERS)
    assert lowest.measured.mean == pytest.approx(0.45)
    assert highest.measured.mean == pytest.approx(0.85)
    assert mean.measured == mean_interval(soft.mean(axis=1))
    assert "at T = 5, 8" in lowest.sentence
    assert "at T = 7, 5" in highest.sentence


@pytest.mark.parametrize(
    ("low", "high", "answer", "measured"),
    [
        (0.55, 0.78, "yes", "low"),
        (0.48, 0.82, "yes", "low"),  # each end at the margin
        (0.79, 0.95, "no", "high"),
        (0.79, 0.825, "no", "high"),
        (0.47, 0.7, "no", "low"),
        (0.3, 0.95, "no", "low"),
        (0.2, 0.3, "no", "low"),
    ],
)
def test_the_range_of_the_students_has_two_ends(low, high, answer, measured):
    findings = student_findings(row(0.16), table([low, high, (low + high) / 2]), [1, 2, 3], **PAPERS)
    found = findings[1]
    assert found.answer == answer
    assert found.measured.mean == pytest.approx({"low": low, "high": high}[measured])
    assert f"lowest student of a replicate reaches {100 * low:.2f} %" in found.sentence
    assert f"the highest reaches {100 * high:.2f} %" in found.sentence


@pytest.mark.parametrize(("hard", "answer"), [(0.3, "yes"), (0.64, "no"), (0.8, "no"), (0.65014 - MARGIN, "open")])
def test_the_lift_must_be_above_the_margin(hard, answer):
    findings = student_findings(row(hard), table([0.65014] * 29), TEMPERATURES, **PAPERS)
    assert findings[4].answer == answer
    assert f"{100 * (0.65014 - hard):+.2f} percentage points" in findings[4].sentence


def test_temperature_counts_above_four_only():
    falls_early = np.where(TEMPERATURES <= 4, 0.3, 0.7)
    falls_late = 0.7 - 0.005 * np.maximum(TEMPERATURES - 4, 0)
    for means, answer in ((falls_early, "yes"), (falls_late, "no")):
        finding = student_findings(row(0.1), table(means), TEMPERATURES, **PAPERS)[5]
        assert finding.answer == answer
        assert "from T = 5 to T = 29" in finding.sentence
    few = student_findings(row(0.1), table([0.7] * 3), [3, 5, 9], **PAPERS)[5]
    assert (few.answer, few.measured) == ("open", None)
    assert "there are 2 here" in few.sentence


@pytest.mark.parametrize(
    ("student", "teacher", "expected"),
    [
        (0.78, 0.95, ["yes", "yes", "yes", "yes"]),
        (0.78, 0.84, ["yes", "no", "yes", "no"]),
        (0.90, 0.95, ["no", "yes", "yes", "yes"]),
        (0.78, 0.86, ["yes", "open", "yes", "open"]),
    ],
)
def test_symmetry_speaks_of_its_parts(student, teacher, expected):
    found = symmetric(student, teacher)
    assert answers(found[1:]) == expected
    assert found[1].measured.mean == pytest.approx(0.84 - student)
    assert found[2].measured.mean == pytest.approx(0.84 - teacher)


def test_symmetry_and_temperature():
    assert symmetric(0.78, 0.95, np.linspace(0.8, 0.9, 10))[3].answer == "no"
    assert len(symmetric(0.78, 0.95, (0.84, 0.84))) == 4  # too few temperatures to speak of T


@pytest.mark.parametrize(
    ("curve", "single", "expected"),
    [
        ([0.8] * 29, 0.75, ["no", "no", "no"]),  # flat, above the single one by far
        ([0.8] * 10 + [0.7] * 19, 0.79, ["yes", "yes", "yes"]),
        ([0.8] * 29, 0.8, ["no", "no", "yes"]),  # the same: no fall, none of the margin's size below
        ([0.8] * 12, 0.78, ["no", "open", "open"]),
        ([0.8] * 5, 0.79, ["open", "open", "yes"]),
    ],
)
def test_votes(curve, single, expected):
    found = voting(curve, single)
    assert answers(found[1:4]) == expected
    for finding, count in ((found[1], 10), (found[2], 18)):
        assert (finding.measured is None) == (len(curve) <= count)


@pytest.mark.parametrize("members", [11, 19, 20, 29])
def test_votes_after_ten_and_eighteen_members_begin_with_the_next_one(members):
    """The fall is from N = 10 to the last; below the single model counts from N = 19, on average."""
    curve, single = np.random.default_rng(members).uniform(0.4, 0.9, members), 0.6
    _, fall, below, *_ = voting(curve, single)
    assert fall.measured.mean == pytest.approx(curve[-1] - curve[9])
    if members > 18:
        assert below.measured.mean == pytest.approx(curve[18:].mean() - single)
        assert f"otes of 19 to {members} members" in below.sentence


@pytest.mark.parametrize(
    ("shift", "answer"), [(2.8, "open"), (3.0, "yes"), (-2.8, "open"), (-3.0, "no"), (4.0, "yes"), (-4.0, "no")]
)
def test_same_mistakes_are_decided_by_a_90_percent_interval(shift, answer):
    """For three replicates it reaches 2.92 standard errors to each side; at 95 % that would be 4.30, at 50 % 0.82."""
    error = JITTER.std(ddof=1) / math.sqrt(3)
    kinds = [Disagreement(29, 0.75, 0.1, 0.9, 0.5 + shift * error + j) for j in JITTER]
    assert voting([0.8] * 29, 0.8, disagreements=kinds)[-1].answer == answer


@pytest.mark.parametrize(("share", "answer"), [(0.8, "yes"), (0.2, "no"), (0.5, "open"), (None, "open")])
def test_same_mistakes_are_more_than_half_of_the_shared_ones(share, answer):
    kinds = [Disagreement(29, 0.75, 0.1, 0.9, None if share is None else share + j) for j in JITTER]
    finding = voting([0.8] * 29, 0.8, disagreements=kinds)[-1]
    assert (finding.answer, finding.unit) == (answer, "share")
    assert (finding.measured is None) == (share is None)
    assert ('where more than half counts as "the same"' in finding.sentence) == (share is not None)


CHEAPER, SLOWER, LARGER = ((500, 0.0005), (1000, 0.001)), ((1000, 0.004), (1000, 0.001)), ((5000, 0.001), (1000, 0.001))


@pytest.mark.parametrize(
    ("gain", "costs", "answer"),
    [
        (0.0, DEARER, "yes"),
        (0.01, DEARER, "yes"),  # within the margin, so it counts as none
        (0.05, DEARER, "no"),
        (MARGIN, DEARER, "open"),
        (0.0, EQUAL, "open"),
        (0.0, CHEAPER, "open"),
        (0.0, SLOWER, "open"),  # seconds alone may be noise
        (0.0, LARGER, "open"),
        (0.05, EQUAL, "no"),
    ],
)
def test_a_gain_is_worth_its_cost_above_the_margin(gain, costs, answer):
    without, found = voting([0.75 + gain] * 12, 0.75), voting([0.75 + gain] * 12, 0.75, costs=costs)
    assert len(found) == len(without) + 1
    finding = found[4]
    assert finding.answer == answer
    (parameters, seconds), (one, second) = costs
    assert f"gains {100 * gain:+.2f} percentage points" in finding.sentence
    assert f"{parameters / one:.2f} times its parameters" in finding.sentence
    assert f"{seconds / second:.2f} times its seconds for one image" in finding.sentence
    assert finding.measured.mean == pytest.approx(gain)


def test_an_ensemble_of_one_gains_nothing_and_costs_nothing():
    found = voting([0.75] * 12, 0.75, size=1, costs=EQUAL)
    assert answers(found[3:5]) == ["yes", "open"]
    assert "by choice, not by test" in found[3].sentence


@pytest.mark.parametrize(
    ("temperatures", "answer"),
    [
        ([6, 6, 3], "yes"),
        ([6, 6, 6], "yes"),
        ([6, 7, 0], "no"),
        ([6, 6, 7, 7], "no"),  # half is not most
        ([5, 7, 6.5], "no"),
        ([6, 6], "open"),
        ([3], "open"),
    ],
)
def test_the_best_middle_is_where_it_is_in_most_replicates(temperatures, answer):
    n = len(temperatures)
    finding = transitive(0.8, 0.8, n=n, best_temperatures=temperatures)[1]
    assert (finding.answer, finding.measured) == (answer, None)
    assert "T = " + ", ".join(f"{t:g}" for t in temperatures) in finding.sentence
    assert f"in {temperatures.count(6)} of {n}" in finding.sentence
    assert ("0: hard labels" in finding.sentence) == (0 in temperatures)


@pytest.mark.parametrize(("by_temperature", "answer"), [(0.1, "yes"), (0.05, "yes"), (0.2, "no"), (0.12, "open")])
def test_behavior_is_disagreement_beyond_that_of_seeds(by_temperature, answer):
    ours = [Disagreement(29, 0.7, by_temperature + j, 0.9, 0.8) for j in JITTER]
    seeds = [Disagreement(29, 0.8, 0.1 - j, 0.9, 0.8) for j in JITTER]
    finding = voting([0.8] * 29, 0.8, disagreements=ours, one_temperature=seeds)[-1]
    assert finding.answer == answer
    assert finding.measured.mean == pytest.approx(by_temperature - 0.1)
    assert "differs by -10.00 points" in finding.sentence


@pytest.mark.parametrize(
    ("via", "worst", "expected"),
    [
        (0.8, 0.7, ["yes", "yes"]),
        (0.8, 0.8, ["yes", "open"]),  # no middle here is bad enough to put it to the test
        (0.8, 0.9, ["yes", "no"]),
        (0.7, 0.8, ["no", "no"]),
        (0.7, 0.6, ["no", "open"]),
        (0.78, 0.6, ["open", "open"]),
    ],
)
def test_transitivity_and_its_condition(via, worst, expected):
    assert answers(transitive(via, 0.8, worst=worst)[1:]) == expected


@pytest.mark.parametrize(("distilled", "answer"), [(0.8, "yes"), (0.6, "yes"), (0.9, "no"), (0.82, "open")])
def test_distillation_adds_nothing_where_it_gains_less_than_the_margin(distilled, answer):
    assert transitive(0.8, 0.8, distilled=distilled)[0].answer == answer


def test_claims_that_were_not_tested_are_left_out():
    assert len(transitive(0.8, 0.8)) == 2
    assert transitive(0.8, 0.8, middle=0.6)[2].answer == "no"


# The finding itself


@pytest.mark.parametrize("n", [1, 3])
def test_a_finding_survives_json(n):
    found = [
        *student_findings(row(0.1, n), table([0.7] * 3, n), [3, 5, 9], **PAPERS),
        *symmetric(0.78, 0.95, n=n),
        *voting([0.8] * 12, 0.8, n=n, costs=DEARER),
        *voting([0.8] * 12, 0.8, n=n, size=1, costs=EQUAL),
        *transitive(0.8, 0.8, n=n, best_temperatures=[6] * n),
    ]
    assert any(finding.measured is None for finding in found)
    for finding in found:
        text = json.dumps(finding.to_json(), allow_nan=False)
        assert repr(Finding.from_json(json.loads(text))) == repr(finding)  # nan is not equal to itself
        assert finding.answer in ANSWERS
        assert finding.unit in UNITS
        assert "nan" not in finding.sentence
        assert finding.sentence.endswith(".")
        assert finding.measured is None or finding.measured.level == 0.95
    unknown = found[0].to_json()["measured"]["low"]
    assert (unknown is None) == (n == 1)


def test_a_tested_claim_is_shown_at_95_percent():
    """Widened from the interval of its test, not computed from the data again."""
    verdict = symmetry_verdict(table([0.84] * 3), row(0.78), row(0.95), MARGIN, temperatures=(1, 2, 3))
    finding = SOMETHING.claim(verdict.claims[0].parts[0])
    expected = mean_interval((table([0.84] * 3) - row(0.78)[:, None]).mean(axis=1))
    assert (finding.measured.low, finding.measured.high) == pytest.approx((expected.low, expected.high))
    assert finding.answer == "open"


def test_helpers_ask_yes_first():
    always = SOMETHING.difference(row(0.0), "c", yes=lambda _: True, no=lambda _: True)
    assert always.answer == "yes"
    numbers = replace(SOMETHING, published=(0.2, 0.4)).number([0.3] * 3, "c.", margin=0.01, same_data=True)
    assert numbers.answer == "yes"


def test_refuses_what_is_no_finding():
    (finding,) = teacher_findings([0.9], **PAPERS)
    for change in ({"answer": "maybe"}, {"unit": "points"}):
        with pytest.raises(ValueError, match="must be one of"):
            replace(finding, **change)
    with pytest.raises(ValueError, match="disagreements must be one a replicate"):
        voting([0.8] * 3, 0.8, size=2, disagreements=[Disagreement(3, 0.8, 0.1, None, None)])
    for temperatures in ([6], [6, 6, math.nan], [6, 6, -1], [[6, 6, 6]]):
        with pytest.raises(ValueError, match="best_temperatures"):
            transitive(0.8, 0.8, best_temperatures=temperatures)
    for costs in (((0, 0.1), (1, 0.1)), ((5, 0.1), (1, 0)), ((5, math.nan), (1, 0.1)), ((math.inf, 1), (1, 0.1))):
        with pytest.raises(ValueError, match="costs"):
            voting([0.8] * 12, 0.8, costs=costs)
    with pytest.raises(ValueError, match="accuracies"):
        teacher_findings([math.nan], **PAPERS)
