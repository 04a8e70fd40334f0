"""What is written of an answer is read back as it was, whatever the answer."""

import json
import math

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from kdops.verdicts.answer import Answer, Row, read_answer
from kdops.verdicts.claims import ClaimAnswer
from kdops.verdicts.ensemble import ensemble_verdict
from kdops.verdicts.findings import ANSWERS, UNITS, Finding
from kdops.verdicts.intervals import Interval, mean_interval
from kdops.verdicts.search import search_verdict
from kdops.verdicts.symmetry import symmetry_verdict
from kdops.verdicts.transitivity import transitivity_verdict

NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
TEXTS = st.text()


def intervals(levels):
    known = st.builds(Interval, NUMBERS, NUMBERS, NUMBERS, st.integers(2, 99), levels)
    return known | st.builds(Interval, NUMBERS, st.just(math.nan), st.just(math.nan), st.just(1), levels)


ANSWERS_OF_STUDIES = st.builds(
    Answer,
    rows=st.lists(st.builds(Row, TEXTS, st.integers(0), intervals(st.just(0.95)), NUMBERS | st.just(math.nan))).map(
        tuple
    ),
    word=TEXTS,
    sentences=st.lists(TEXTS).map(tuple),
    claims=st.lists(st.builds(ClaimAnswer, TEXTS, TEXTS, TEXTS)).map(tuple),
    statistics=st.dictionaries(TEXTS, NUMBERS),
    findings=st.lists(
        st.builds(
            Finding,
            TEXTS,
            TEXTS,
            st.none() | intervals(st.sampled_from([0.9, 0.95])),
            st.sampled_from(UNITS),
            st.sampled_from(ANSWERS),
            TEXTS,
        ),
        max_size=4,
    ).map(tuple),
    title=TEXTS,
)


def read_back(answer):
    return read_answer(json.dumps(answer.to_json(), allow_nan=False))


def test_a_row_is_written_with_its_balanced_accuracy_where_it_has_one_and_never_with_a_level():
    told = Row("it", 3, Interval(0.5, 0.4, 0.6, 3, 0.95), 0.25).to_json()
    assert told == {"what": "it", "models": 3, "mean": 0.5, "low": 0.4, "high": 0.6, "n": 3, "balanced": 0.25}
    assert "balanced" not in Row("it", 3, Interval(0.5, 0.4, 0.6, 3, 0.95)).to_json()


def test_what_an_answer_lacks_is_named_and_what_it_may_lack_is_empty():
    assert read_answer('{"word": null}') == Answer()
    for text in (
        "{}",
        "[]",
        "3",
        '{"word": "", "rows": 3}',
        '{"word": "", "rows": [{}]}',
        '{"word": "", "claims": [3]}',
    ):
        with pytest.raises(ValueError, match=r"^lacks or misplaces "):
            read_answer(text)
    with pytest.raises(ValueError, match="Expecting"):
        read_answer("no json")


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(ANSWERS_OF_STUDIES)
@example(Answer(rows=(Row("bounds whose sum is not finite", 2, Interval(0.0, -1.5e308, -1e308, 2, 0.95)),)))
def test_an_answer_is_read_back_as_it_was_written(answer):
    assert repr(read_back(answer)) == repr(answer)  # nan is not equal to itself


def test_the_answer_of_every_verdict_is_read_back():
    for n in (1, 2, 3, 5):
        some, other = (np.random.default_rng(seed).uniform(0.7, 0.9, (n, 3)) for seed in (1, 2))
        one, two = some[:, 0], other[:, 0]
        for verdict in (
            ensemble_verdict(one, two, 0.02, size=2, members=3, all_members=some[:, 1]),
            search_verdict(one, two, 0.02),
            symmetry_verdict(some, one, two, 0.02, temperatures=(1, 2, 3)),
            transitivity_verdict(some, other, 0.02, middle=two, via_worst=other),
        ):
            answer = Answer.of([Row("x", n, mean_interval(one))], verdict, remarks=["More."], measured={"other": 1.0})
            assert repr(read_back(answer)) == repr(answer)
            assert answer.word == verdict.word
            assert answer.sentences == (*(claim.sentence for claim in verdict.claims), "More.")
            assert answer.statistics == verdict.statistics | {"other": 1.0}
