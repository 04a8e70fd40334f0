"""Findings: what may be answered, and how many statements replicate."""

import pytest

from kdops.verdicts.findings import ANSWERS, UNITS, Finding, describe_findings
from kdops.verdicts.intervals import mean_interval


def finding(**given):
    usual = {"what": "it", "paper": "0.9", "measured": mean_interval([0.8, 0.9]), "unit": "accuracy", "answer": "yes"}
    return Finding(**{**usual, "sentence": "Said.", **given})


def test_an_answer_and_a_unit_are_of_those_there_are():
    for answer in ANSWERS:
        for unit in UNITS:
            assert (finding(answer=answer, unit=unit).answer, finding(unit=unit).unit) == (answer, unit)
    with pytest.raises(ValueError, match="answer must be one of yes, no, open, other data, not 'maybe'"):
        finding(answer="maybe")
    with pytest.raises(ValueError, match="unit must be one of accuracy, difference, share, part, not 'points'"):
        finding(unit="points")


def test_what_is_read_without_a_sentence_or_a_number_has_none():
    told = finding(measured=None).to_json()
    assert told["measured"] is None
    del told["sentence"], told["measured"]
    assert Finding.from_json(told) == finding(measured=None, sentence="")
    assert Finding.from_json(finding().to_json()) == finding()
    for name in ("what", "paper", "unit", "answer"):
        with pytest.raises(KeyError, match=name):
            Finding.from_json({key: value for key, value in finding().to_json().items() if key != name})


def test_statements_are_counted_by_their_answers():
    answers = ["yes"] * 4 + ["no"] * 3 + ["open"] * 2 + ["other data"]
    assert describe_findings([finding(answer=answer) for answer in answers]) == (
        "10 statements: 4 replicated, 3 not, 2 left open by the data, 1 with a number that belongs to other data than "
        "these."
    )
    assert describe_findings([]).startswith("0 statements: 0 replicated, 0 not, 0 left open")
