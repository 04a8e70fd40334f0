import math

import numpy as np
import pytest
from statsmodels.stats.multitest import multipletests

from kdops.verdicts.intervals import bounds
from kdops.verdicts.statistics import equivalence, one_sided
from kdops.verdicts.symmetry import symmetry_verdict

MARGIN = 0.02
TEMPERATURES = (1, 2, 3, 4)


def study(over_student=0.08, over_teacher=-0.005, spread=0.002, replicates=5, seed=0):
    """Reversed, student and teacher accuracies with the differences given; the spread is exact in both."""
    rng = np.random.default_rng(seed)
    reversed_ = 0.85 + rng.normal(0, 0.01, (replicates, len(TEMPERATURES)))
    noise = rng.standard_normal((2, replicates))
    noise -= noise.mean(axis=1, keepdims=True)
    if replicates > 1:
        noise *= spread / noise.std(axis=1, ddof=1, keepdims=True)
    mean = reversed_.mean(axis=1)
    return reversed_, mean - over_student + noise[0], mean - over_teacher + noise[1]


def judge(data, **more):
    return symmetry_verdict(*data, MARGIN, temperatures=TEMPERATURES, **more)


@pytest.mark.parametrize(
    ("over_student", "over_teacher", "spread", "word", "meaning"),
    [
        (0.08, -0.005, 0.002, "symmetric", "They beat the student and come near the teacher."),
        (0.08, 0.05, 0.002, "symmetric", "They beat the student and come near the teacher."),
        (0.08, -0.05, 0.002, "not symmetric", "They beat the student but lie below the teacher"),
        (-0.03, -0.005, 0.002, "not symmetric", "They do not beat the student but come near"),
        (-0.03, -0.05, 0.002, "not symmetric", "They do not beat the student and lie below"),
        (
            -0.03,
            -0.02,
            0.005,
            "not symmetric",
            "They do not beat the student; whether they come near the teacher is open.",
        ),
        (0.001, -0.05, 0.005, "not symmetric", "Whether they beat the student is open; they lie below the teacher"),
        (0.08, -0.02, 0.005, "inconclusive", "They beat the student; whether they come near the teacher is open."),
        (0.001, 0.0, 0.005, "inconclusive", "Whether they beat the student is open; they come near the teacher."),
        (0.001, -0.02, 0.005, "inconclusive", "Whether they beat the student and come near the teacher is open."),
    ],
)
def test_both_must_hold_and_either_refutes(over_student, over_teacher, spread, word, meaning):
    verdict = judge(study(over_student, over_teacher, spread))
    assert verdict.word == word
    assert meaning in verdict.sentence
    for difference in (over_student, over_teacher):
        assert f"{100 * difference + 0.0:+.2f} percentage points" in verdict.sentence
    assert verdict.statistics["symmetry_student_difference"] == pytest.approx(over_student)
    assert verdict.statistics["symmetry_teacher_difference"] == pytest.approx(over_teacher)
    student, teacher = verdict.claims[0].parts
    weaker = max(student, teacher, key=lambda part: part.result.p_above)
    refuting = student if student.word == "not better" else teacher
    assert verdict.claims[0].result == (refuting if word == "not symmetric" else weaker).result


def test_the_parts_are_the_two_tests():
    reversed_, student, teacher = study(over_teacher=-0.018, spread=0.004)
    verdict = judge((reversed_, student, teacher))
    better, near = verdict.claims[0].parts
    mean = reversed_.mean(axis=1)
    assert better.result.p_above == pytest.approx(one_sided(mean - student, 0.0).p_above)
    assert near.result.p_above == pytest.approx(one_sided(mean - teacher, -MARGIN).p_above)
    assert (better.word, near.word) == ("better", "inconclusive")
    assert verdict.claims[0].result == near.result  # what holds it open
    assert verdict.statistics["symmetry_p"] == near.result.p_above
    assert verdict.statistics["symmetry_replicates_needed"] == near.result.replicates_needed


@pytest.mark.parametrize(
    ("over_student", "over_teacher"), [(-0.03, -0.005), (0.08, -0.05), (-0.004, -0.024), (0.1, 0.1)]
)
def test_the_p_of_not_symmetric_is_that_of_two_tests(over_student, over_teacher):
    """Either test alone refutes, so the smaller p-value counts twice (Bonferroni), and is never above 1."""
    verdict = judge(study(over_student, over_teacher, spread=0.01))
    smallest = min(part.result.p_below for part in verdict.claims[0].parts)
    assert verdict.statistics["symmetry_p_not"] == min(1.0, 2 * smallest)


@pytest.mark.parametrize(
    ("over_student", "over_teacher", "which"), [(0.01, -0.005, max), (-0.01, -0.04, min), (0.005, -0.03, None)]
)
def test_the_replicates_that_decide(over_student, over_teacher, which):
    """To hold, both must; to fail, one is enough, and one that heads for holding cannot help."""
    verdict = judge(study(over_student, over_teacher, spread=0.02, replicates=2))
    student, teacher = (part.result.replicates_needed for part in verdict.claims[0].parts)
    assert student != teacher
    expected = which(student, teacher) if which else teacher
    assert verdict.statistics["symmetry_replicates_needed"] == expected
    assert f"it takes about {expected} replicates" in verdict.sentence


def test_no_gain_at_all_is_not_symmetric():
    """An upper bound of exactly zero: the reversed nets are the student, without any spread."""
    same = np.full((3, 4), 0.8)
    assert judge((same, same[:, 0], same[:, 0])).word == "not symmetric"
    assert judge((same, same[:, 0] - 0.1, same[:, 0] + MARGIN)).word == "inconclusive"  # on the margin itself


@pytest.mark.parametrize("seed", range(8))
def test_what_is_simulated_is_what_the_verdict_says(seed):
    rng = np.random.default_rng(seed)
    student = np.full(4, 0.7)
    reversed_ = 0.7 + rng.normal(0.004, 0.004, (4, len(TEMPERATURES)))
    teacher = reversed_.mean(axis=1) + rng.normal(MARGIN, 0.006, 4)
    word = judge((reversed_, student, teacher)).word
    above, below = words((reversed_.mean(axis=1) - student)[None], (reversed_.mean(axis=1) - teacher)[None])
    assert word == ("symmetric" if above[0] else "not symmetric" if below[0] else "inconclusive")


def words(over_student, over_teacher):
    """Return where many studies are symmetric and where they are not: [studies, replicates] -> [studies] twice."""
    _, student_low, student_high = bounds(over_student, 0.9)
    _, teacher_low, teacher_high = bounds(over_teacher, 0.9)
    return (student_low > 0) & (teacher_low > -MARGIN), (student_high <= 0) | (teacher_high < -MARGIN)


STUDIES = 100_000
MONTE_CARLO = 4 * math.sqrt(0.05 * 0.95 / STUDIES)


@pytest.mark.parametrize("n", [3, 10])
@pytest.mark.parametrize("correlation", [0.0, 0.9])
@pytest.mark.parametrize(("over_student", "over_teacher"), [(0.0, -MARGIN), (0.0, 0.1), (0.1, -MARGIN)])
def test_false_symmetric_at_the_boundary(n, correlation, over_student, over_teacher):
    rng = np.random.default_rng([n, int(10 * correlation)])
    shared, one, other = rng.normal(0, 0.01, (3, STUDIES, n))
    mix = math.sqrt(1 - correlation**2)
    over_student = over_student + correlation * shared + mix * one
    over_teacher = over_teacher + correlation * shared + mix * other
    symmetric, refuted = words(over_student, over_teacher)
    assert symmetric.mean() <= 0.05 + MONTE_CARLO
    assert refuted.mean() <= 0.1 + MONTE_CARLO


@pytest.mark.parametrize("n", [3, 10])
def test_false_not_symmetric_where_one_test_is_at_its_boundary(n):
    rng = np.random.default_rng(n)
    over_student, over_teacher = rng.normal(0.1, 0.01, (STUDIES, n)), rng.normal(-MARGIN, 0.01, (STUDIES, n))
    assert words(over_student, over_teacher)[1].mean() <= 0.05 + MONTE_CARLO


def test_losses_add_up():
    """Reversed minus teacher is what the student's knowledge loses and what the transfer set loses."""
    reversed_, student, teacher = study(over_teacher=-0.06)
    control = reversed_ + 0.02 + np.random.default_rng(1).normal(0, 0.002, reversed_.shape)
    verdict = judge((reversed_, student, teacher), born_again=control, born_again_temperatures=TEMPERATURES)
    numbers = verdict.statistics
    parts = numbers["born_again_difference"] + numbers["transfer_set_difference"]
    assert parts == pytest.approx(numbers["symmetry_teacher_difference"])
    assert [claim.name for claim in verdict.claims] == ["symmetry", "born_again", "transfer_set", "temperature"]


def test_the_control_counts_at_common_temperatures_only():
    reversed_, student, teacher = study()
    control = np.stack([np.zeros(5), reversed_[:, 2] - 0.01, reversed_[:, 0] + 0.03], axis=1)
    verdict = judge((reversed_, student, teacher), born_again=control, born_again_temperatures=[9, 3, 1])
    assert verdict.statistics["born_again_difference"] == pytest.approx(-0.01)
    assert verdict.statistics["born_again_accuracy"] == pytest.approx(control[:, 1:].mean())
    nothing = judge((reversed_, student, teacher), born_again=control, born_again_temperatures=[7, 8, 9])
    assert [claim.name for claim in nothing.claims] == ["symmetry", "temperature"]
    assert nothing.statistics == judge((reversed_, student, teacher)).statistics


def test_claims_come_with_what_was_given():
    reversed_, student, teacher = study()
    two = symmetry_verdict(reversed_[:, :2], student, teacher, MARGIN, temperatures=(1, 2))
    assert [claim.name for claim in two.claims] == ["symmetry"]
    verdict = judge((reversed_, student, teacher), predictions=reversed_.mean(axis=1) - 0.1)
    assert [(claim.name, claim.word) for claim in verdict.claims] == [
        ("symmetry", "symmetric"),
        ("temperature", "does not matter"),
        ("predictions", "different"),
    ]
    assert verdict.statistics["predictions_difference"] == pytest.approx(0.1)


def test_secondary_claims_are_adjusted_together_with_the_primary():
    reversed_, student, teacher = study(over_teacher=-0.017, spread=0.004)
    rng = np.random.default_rng(3)
    predictions = reversed_.mean(axis=1) + rng.normal(0, 0.01, 5)
    numbers = judge((reversed_, student, teacher), predictions=predictions).statistics
    raw = [numbers["symmetry_p"], numbers["temperature_p_equivalent"], numbers["predictions_p_equivalent"]]
    adjusted = [numbers["symmetry_p_holm"], numbers["temperature_p_holm"], numbers["predictions_p_holm"]]
    assert adjusted == pytest.approx(list(multipletests(raw, method="holm")[1]))
    expected = equivalence(reversed_.mean(axis=1) - predictions, MARGIN)
    assert numbers["predictions_p_equivalent"] == pytest.approx(expected.p_equivalent)


def test_temperatures_are_not_replicates():
    reversed_, student, teacher = study(spread=0.01)
    many = np.repeat(reversed_, 5, axis=1)
    wide = symmetry_verdict(many, student, teacher, MARGIN, temperatures=range(1, 21)).statistics
    assert wide["symmetry_teacher_low"] == pytest.approx(
        judge((reversed_, student, teacher)).statistics["symmetry_teacher_low"]
    )


def test_the_margin_named_does_pass():
    data = study(over_teacher=-0.018, spread=0.01)
    sentence = judge(data).sentence
    named = float(sentence.split("any margin above ")[1].split(" points")[0]) / 100
    assert symmetry_verdict(*data, named + 1e-9, temperatures=TEMPERATURES).word == "symmetric"
    assert symmetry_verdict(*data, named - 2e-4, temperatures=TEMPERATURES).word == "inconclusive"


def test_refuses_what_does_not_fit():
    reversed_, student, teacher = study()
    for args, more in [
        ((reversed_[0], student, teacher), {}),
        ((reversed_[:2], student, teacher), {}),
        ((reversed_, student[:1], teacher), {}),
        ((reversed_, student, teacher * math.nan), {}),
        ((reversed_, student, teacher), {"predictions": reversed_}),
        ((reversed_, student, teacher), {"born_again": reversed_}),
        ((reversed_, student, teacher), {"born_again": reversed_, "born_again_temperatures": [1, 1, 2, 3]}),
    ]:
        with pytest.raises(ValueError, match=r"shape|replicates|accuracies|temperatures"):
            judge(args, **more)
    with pytest.raises(ValueError, match="temperatures"):
        symmetry_verdict(reversed_, student, teacher, MARGIN, temperatures=(1, 2))
    with pytest.raises(ValueError, match="margin"):
        symmetry_verdict(reversed_, student, teacher, 0.0, temperatures=TEMPERATURES)


def test_the_replicates_needed_decide_with_the_chance_that_is_promised():
    """Each test decides with 80 %, so both hold with at least 60 %; independent ones with about 64 %."""
    gain, loss, deviation = 0.01, -0.01, 0.015
    spread = np.array([-1, 1]) * deviation / math.sqrt(2)
    verdict = judge((np.full((2, 4), 0.8), 0.8 - gain - spread, 0.8 - loss - spread))
    needed = int(verdict.statistics["symmetry_replicates_needed"])
    rng = np.random.default_rng(0)
    over_student, over_teacher = (rng.normal(mean, deviation, (20_000, needed)) for mean in (gain, loss))
    symmetric, _ = words(over_student, over_teacher)
    assert 0.6 <= symmetric.mean() <= 0.75
